"""Draws that could not be read: counted, named once, and the end of a run when they are too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from m2l.training.log import RunLog

#: A run stops when more than this share of its draws could not be read, and judges from so many draws on.
LARGEST_SHARE, JUDGED_FROM = 0.25, 100
#: Files that are named on stderr as they turn up; further ones are in the log alone.
NAMED = 10


class Unreadable:
    """The tally over all processes of a run.

    Args:
        counts: path -> draws of it that could not be read so far; changed in place.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        #: (path, what was wrong) of files that are not named yet.
        self.news: list[tuple[str, str]] = []

    def add(self, found: Iterable[tuple[str, str]], crops: int) -> str | None:
        """Count (path, what was wrong) of each draw; what to stop for, if it is too much for so many crops in all."""
        before = self.counts.copy()
        for path, reason in found:
            if path not in self.counts:
                self.news.append((path, reason))
            self.counts[path] += 1
        count = self.counts.total()
        draws = crops + count
        if count == before.total() or draws < JUDGED_FROM or count <= LARGEST_SHARE * draws:
            return None
        verdict = f"{self}, more than {LARGEST_SHARE:.0%} of {draws}"
        # The step is not taken: when the run goes on it makes the same draws.
        self.counts.clear()
        self.counts.update(before)
        return verdict

    def __str__(self) -> str:
        """Such as "3 draws could not be read (a.wav 2, b.wav 1)", the worst files first."""
        names = [f"{path} {count}" for path, count in self.counts.most_common(3)]
        if len(self.counts) > 3:
            names.append(f"{len(self.counts) - 3} other files")
        return f"{self.counts.total()} draws could not be read ({', '.join(names)})"

    def tell(self, log: RunLog, step: int, say: Callable[[str], None]) -> None:
        """Name the new files, in the log and by `say`."""
        known = len(self.counts) - len(self.news)
        for number, (path, reason) in enumerate(self.news, known + 1):
            log.write({"step": step, "unreadable": path, "reason": reason})
            if number <= NAMED:
                say(f"{reason}; another place is drawn")
            elif number == NAMED + 1:
                say("more files cannot be read; log.jsonl names them")
        self.news.clear()
