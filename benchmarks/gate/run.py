"""The two things that the gate does with files: judge a folder of results, and pin it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gate.judge import GateReport, compare
from benchmarks.gate.policy import ALPHA, PolicyError
from benchmarks.gate.record import BaselineFormatError, Record, RecordError, read_baseline, write_baseline
from benchmarks.gate.render import difference_lines, to_markdown
from benchmarks.gate.results import read_results
from benchmarks.metrics.base import Metric
from benchmarks.tables.places import Place


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A suite's results and baseline, and how they are judged.

    Attributes:
        place: folders of the results.
        baseline: the file of pinned numbers.
        tolerances, metrics: as for `compare`.
        measure_command, pin_command: command lines that error messages name.
    """

    place: Place
    baseline: Path
    tolerances: Mapping[str, float]
    metrics: Mapping[str, Metric]
    measure_command: str
    pin_command: str

    def judge(self, *, alpha: float = ALPHA, strict: bool = False, only: Collection[str] | None = None) -> GateReport:
        """Compare the newest results with the baseline; without results all that is pinned is missing.

        Raises:
            FileNotFoundError: there is no baseline.
            OSError: a file cannot be read.
            RecordError: a file is damaged or of another format, or the two do not belong together.
        """
        path = self.baseline
        if not path.is_file():
            raise FileNotFoundError(f"no baseline {path}; pin the results with: {self.pin_command}")
        try:
            pinned = read_baseline(path)
        except BaselineFormatError as error:
            raise RecordError(f"{error}; pin the results anew with: {self.pin_command}") from None
        if self.place.in_checkout:
            print(f"gate: {self.place.newest} against {path}", file=sys.stderr)
        try:
            current = read_results(self.place.newest)
        except FileNotFoundError as error:
            print(f"gate: {error}; measure them with: {self.measure_command}", file=sys.stderr)
            current = Record(pinned.suite, "", 0, {}, {}, {})
        return self._compared(pinned, current, self.tolerances, alpha=alpha, strict=strict, only=only)

    def pin(self, systems: Sequence[str] | None = None) -> str | None:
        """Pin the results of the reference folder; tolerances of the old baseline are kept.

        Args:
            systems: only these; None for all.

        Returns:
            What that changes, as Markdown; None if nothing was measured, and so nothing is written.

        Raises:
            FileNotFoundError: there are no results.
            OSError: a file cannot be read or written.
            RecordError: a file is damaged, or a system was not measured.
        """
        folder, path = self.place.reference, self.baseline
        # 1. What there is: the results, and the baseline that they replace.
        try:
            current = read_results(folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; measure them with: {self.measure_command}") from None
        if self.place.in_checkout and self.place.newest != folder:
            print(
                f"pinned are the tables of {folder}; to take over those of {self.place.measured} first: "
                f"{self.measure_command} --refresh",
                file=sys.stderr,
            )
        old, tolerances = None, dict(self.tolerances)
        try:
            old = read_baseline(path) if path.is_file() else None
            tolerances = {**(old.tolerances if old else {}), **tolerances}
        except BaselineFormatError as error:
            tolerances = {**error.tolerances, **tolerances}
        # 2. The new one.
        new = current.pinned(systems, tolerances)
        values = [
            (table, metric, system, record.cells[metric][system].value)
            for table, record in new.tables.items()
            for metric, system in record.measured
        ]
        if not values:
            return None
        # 3. The differences in words, before the old one is overwritten.
        before = self._compared(old, current, tolerances) if old is not None else None
        text = "\n".join([f"### Baseline of suite {new.suite}", "", *difference_lines(before, values)]) + "\n"
        if before is not None:
            text += f"\nThe new numbers against the old baseline:\n\n{to_markdown(before)}"
        write_baseline(path, new)
        print(f"written: {path}", file=sys.stderr)
        return text

    def _compared(self, pinned: Record, current: Record, tolerances: Mapping[str, float], **how: object) -> GateReport:
        try:
            return compare(pinned, current, tolerances=tolerances, metrics=self.metrics, **how)  # type: ignore[arg-type]
        except (PolicyError, ValueError) as error:
            raise RecordError(f"{self.baseline}: {error}") from None
