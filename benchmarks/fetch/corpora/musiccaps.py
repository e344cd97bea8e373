"""Fetching MusicCaps: the list, then clip by clip, with a manifest that says what became of each."""

from __future__ import annotations

import random
import re
import shutil
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.datasets.audio_files import AUDIO_SUFFIXES
from benchmarks.datasets.base import file_sha256
from benchmarks.datasets.locations import data_roots, fetched_root
from benchmarks.datasets.musiccaps import (
    CLIPS,
    FINAL,
    LIST,
    MANIFEST,
    STATUSES,
    ClipStatus,
    Segment,
    manifest_digest,
    read_list,
    read_manifest,
    write_manifest,
)
from benchmarks.fetch.corpora.adopt import walk
from benchmarks.fetch.corpora.clips import (
    BusyError,
    Runner,
    ToolError,
    adopt_clip,
    get_clip,
    inspect,
    run,
    yt_dlp,
)
from benchmarks.fetch.corpora.fetcher import Options, adopt_items, duration
from benchmarks.fetch.download import Expected, offline
from benchmarks.fetch.sources import Item
from benchmarks.fetch.transfer import human, missing_items, say, transfer
from m2l.io.atomic import InUseError, exclusive

NAME = "musiccaps"
KEPT_BYTES = 5521 * 1_920_044  # 10 s of stereo at 48 kHz, 16 bit
_SECONDS_EACH = 6.0  # download, decode and cut of one video; a guess, said as one
_ATTEMPTS, _PATIENCE = 3, 5
_SAVE_EVERY = 25
#: Of this many clips in a row at least so many must be lost before the tool is blamed. A tenth to a fifth of the
#: clips are gone for good: chance does not lose 19 of 20.
_WINDOW, _LOST = 20, 19
LIST_URLS = ("https://huggingface.co/datasets/google/MusicCaps/resolve/main/musiccaps-public.csv",)


@dataclass(frozen=True)
class ClipOptions:
    """How clips are fetched.

    Attributes:
        runner: Runs commands.
        program: The beginning of the yt-dlp command; None looks for it.
        extra: Further options of yt-dlp, as `--cookies-from-browser firefox`.
        again: Whether to try again what is gone, private, blocked or of wrong length.
        pause: Waits between attempts.
        complete: Whether the list has to be the published one.
    """

    runner: Runner = run
    program: Sequence[str] | None = None
    extra: Sequence[str] = ()
    again: bool = False
    pause: Callable[[float], None] = time.sleep
    complete: bool = True


def list_item(complete: bool = True) -> Item:
    """The published list, held to its segments (a corrected caption does not matter)."""

    def check(path: Path) -> None:
        read_list(path, complete=complete)

    return Item(LIST, LIST_URLS, Expected(check=check))


def root_for(dest: Path | None) -> Path:
    """Root of the data: the one given, else the one that has it, else the cache."""
    if dest is not None:
        return dest
    there = [root for root in data_roots() if (root / NAME / MANIFEST).is_file()]
    return there[0] if there else fetched_root()


def fetch_musiccaps(options: Options, how: ClipOptions | None = None) -> dict[str, Any]:
    """Fetch what is missing of MusicCaps.

    Returns:
        name, dest, summary, failed, fetched and present (clips), statuses (counts), digest (of the manifest).
    """
    how = how or ClipOptions()
    folder = root_for(options.dest) / NAME
    time_needed = duration(CLIPS * _SECONDS_EACH / options.jobs)
    say(
        f"{NAME}: {CLIPS:,} clips of 10 s, cut out of their videos by yt-dlp. License: captions CC BY-SA 4.0,"
    )
    say(
        "  audio: its uploaders', for you to judge. The whole audio tracks are transferred (about 5 MB each),"
    )
    say(f"  {human(KEPT_BYTES)} kept at most; about {time_needed} at {_SECONDS_EACH:.0f} s a clip and")
    say(f"  {options.jobs} at a time. Into {folder}")
    if options.dry_run:
        return _result(folder, {}, "would fetch what is missing", [])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive(folder):  # the manifest has one writer
            return _fetch_into(folder, options, how)
    except InUseError as error:
        say(f"  failed: {error}")
        return _result(folder, {}, "not fetched", [str(error)])


def _fetch_into(folder: Path, options: Options, how: ClipOptions) -> dict[str, Any]:
    item = list_item(how.complete)
    if options.source is not None:
        adopt_items(missing_items([item], [folder]), options.source, folder)
    if missing := missing_items([item], [folder]):
        if variable := offline():
            return _result(folder, {}, "not fetched", [f"downloads are switched off ({variable} is set)"])
        if failed := transfer(NAME, missing, folder, None, 1):
            return _result(folder, {}, "not fetched", failed)
    try:
        segments = read_list(folder / LIST, complete=how.complete)
        statuses = _known(folder, segments)
    except ValueError as error:
        return _result(folder, {}, "not fetched", [str(error)])
    if options.source is not None:
        _adopt(options.source, segments, statuses, folder)
    if options.force:
        statuses.clear()
    kept = Counter(s.status for s in statuses.values())["ok"]
    todo = [s for s in segments if _to_do(statuses.get(s.ytid), how.again)]
    if options.only:
        todo = [s for s in todo if any(part in s.ytid for part in options.only)]
    problem = _get_all(todo, statuses, folder, options.jobs, how) if todo else None
    write_manifest(folder, statuses)
    counts = Counter(s.status for s in statuses.values())
    summary = f"{counts['ok']:,} of {len(segments):,} clips"
    lost = [f"{counts[name]} {name}" for name in STATUSES if name != "ok" and counts[name]]
    summary += f" ({', '.join(lost)})" if lost else ""
    failed = [problem] if problem else []
    if counts["failed"]:
        failed.append(f"{counts['failed']} clips failed and may succeed when it is run again")
    for message in failed:
        say(f"  failed: {message}")
    result = _result(folder, statuses, f"{summary}; manifest {manifest_digest(statuses)[:16]}", failed)
    return result | {"fetched": counts["ok"] - kept, "present": kept}


def _to_do(status: ClipStatus | None, again: bool) -> bool:
    return status is None or status.status not in FINAL or (again and status.status != "ok")


def _known(folder: Path, segments: Sequence[Segment]) -> dict[str, ClipStatus]:
    """What the manifest says, corrected by what is there.

    A clip that has lost its file is to be fetched again; one that a killed run had finished but not yet
    noted is looked at.
    """
    wanted = {segment.ytid for segment in segments}
    statuses = {ytid: s for ytid, s in read_manifest(folder).items() if ytid in wanted}
    for ytid, status in list(statuses.items()):
        if status.status == "ok" and not (folder / status.path).is_file():
            del statuses[ytid]
    for path in walk(folder / "audio") if (folder / "audio").is_dir() else ():
        if path.stem in wanted and path.suffix in AUDIO_SUFFIXES and path.stem not in statuses:
            found = inspect(path, path.stem, path.relative_to(folder).as_posix())
            if found.status == "ok":
                statuses[path.stem] = found
    for left in (folder / ".m2l").glob("clip-*"):
        shutil.rmtree(left, ignore_errors=True)
    return statuses


def _adopt(source: Path, segments: Sequence[Segment], statuses: dict[str, ClipStatus], folder: Path) -> None:
    """Take clips from an existing copy: files whose name has the id in it, as most tools write them."""
    wanted = {s.ytid: s for s in segments if statuses.get(s.ytid, ClipStatus("", "gone")).status != "ok"}
    taken = refused = 0
    for path in walk(source):
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        ytid = _id_in(path.stem, wanted)
        if ytid is None or statuses.get(ytid, ClipStatus("", "gone")).status == "ok":
            continue
        found = adopt_clip(path, wanted[ytid], folder)
        if found.status == "ok":
            statuses[ytid] = found
            taken += 1
        else:
            refused += 1
            say(f"  {path}: not adopted ({found.detail})")
    say(f"  {taken} clips adopted from {source}" + (f", {refused} refused" if refused else ""))


def _id_in(stem: str, wanted: Mapping[str, Segment]) -> str | None:
    """The id in a file's name: `ID`, `[ID]-[30-40]`, `ID_30`, `ID_30000_40000`, `Y…ID`."""
    if stem in wanted:
        return stem
    for start in range(len(stem) - 10):
        ytid = stem[start : start + 11]
        if ytid in wanted:
            before, after = stem[:start], stem[start + 11 :]
            if before in ("", "[", "Y", "y") and re.fullmatch(r"\]?([-_ (\[]+[\d.]+[-_ )\]]*)*\]?", after):
                return ytid
    return None


def _get_all(
    todo: Sequence[Segment], statuses: dict[str, ClipStatus], folder: Path, jobs: int, how: ClipOptions
) -> str | None:
    """Fetch clips in parallel, saving the manifest now and then; returns why it stopped early, if it did."""
    if variable := offline():
        return f"downloads are switched off ({variable} is set)"
    try:
        program = list(how.program) if how.program is not None else yt_dlp()
    except ToolError as error:
        return str(error)
    stop, lock = threading.Event(), threading.Lock()
    problem: str | None = None
    busy = 0
    last: deque[ClipStatus] = deque(maxlen=_WINDOW)

    def one(segment: Segment) -> ClipStatus | None:
        nonlocal busy
        for attempt in range(_ATTEMPTS):
            if stop.is_set():
                return None
            try:
                found = get_clip(segment, folder, program, runner=how.runner, extra=how.extra)
            except BusyError as error:
                with lock:
                    busy += 1
                    if busy >= _PATIENCE:
                        raise
                found = ClipStatus(segment.ytid, "failed", detail=str(error))
                how.pause(min(60.0 * 2**attempt, 600.0))
                continue
            with lock:
                busy = 0
            if found.status != "failed":
                return found
            if attempt + 1 < _ATTEMPTS:
                how.pause(2.0**attempt * (1 + random.random()))
        return found

    with (
        tqdm(total=len(todo), desc=NAME, unit="clip", file=sys.stderr) as bar,
        ThreadPoolExecutor(jobs) as pool,
    ):
        futures = {pool.submit(one, segment): segment for segment in todo}
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                reason = future.exception()
                if isinstance(reason, BusyError | ToolError | OSError):
                    stop.set()
                    problem = problem or _why(reason)
                elif reason is not None:
                    raise reason
                elif (found := future.result()) is not None:
                    statuses[found.ytid] = found
                    last.append(found)
                    if problem is None and not how.again and (problem := _broken(last)):
                        stop.set()
                        # None of these verdicts is to be trusted: they are asked for again.
                        statuses.update(
                            {s.ytid: replace(s, status="failed") for s in last if s.status != "ok"}
                        )
                bar.update()
                if number % _SAVE_EVERY == 0:
                    write_manifest(folder, statuses)
        except BaseException:
            stop.set()
            for future in futures:
                future.cancel()
            write_manifest(folder, statuses)
            raise
    return problem


def _broken(last: Collection[ClipStatus]) -> str | None:
    """Why the tool, and not the videos, must be at fault, if nearly all of the last clips were lost."""
    lost = [status for status in last if status.status != "ok"]
    if len(last) < _WINDOW or len(lost) < _LOST:
        return None
    text, count = Counter(status.detail for status in lost).most_common(1)[0]
    return (
        f"{len(lost)} of the last {len(last)} clips were lost, {count} of them with {text!r}: yt-dlp looks broken or "
        "out of date. Update it (pip install -U 'yt-dlp[default]'), and run again; these clips are tried again"
    )


def _why(error: Exception) -> str:
    if isinstance(error, BusyError):
        return (
            f"the site refuses for now ({error}); run again later, with fewer --jobs, or give yt-dlp an "
            "account: --yt-dlp='--cookies-from-browser firefox'"
        )
    return str(error)


def _result(
    folder: Path, statuses: Mapping[str, ClipStatus], summary: str, failed: Sequence[str]
) -> dict[str, Any]:
    counts = Counter(status.status for status in statuses.values())
    return {
        "name": NAME,
        "dest": str(folder),
        "summary": summary,
        "failed": list(failed),
        "fetched": 0,
        "present": 0,
        "statuses": {name: counts[name] for name in STATUSES if counts[name]},
        "digest": manifest_digest(statuses),
    }


def verify_musiccaps(options: Options, *, complete: bool = True) -> dict[str, Any]:
    """Read all clips again: length, rate, sha256 as in the manifest."""
    folder = root_for(options.dest) / NAME
    try:
        segments = read_list(folder / LIST, complete=complete)
        statuses = read_manifest(folder)
    except (OSError, ValueError) as error:
        return _result(folder, {}, "not there", [str(error)]) | {"checked": 0}
    there = [status for status in statuses.values() if status.status == "ok"]

    def problem(status: ClipStatus) -> str | None:
        path = folder / status.path
        if not path.is_file():
            return f"{status.path}: missing"
        found = inspect(path, status.ytid, status.path)
        if found.status != "ok":
            return f"{status.path}: {found.detail}"
        if found.sha256 != status.sha256:
            return f"{status.path}: sha256 is {found.sha256}, recorded is {status.sha256}"
        return None if replace(found, detail=status.detail) == status else f"{status.path}: not as recorded"

    with ThreadPoolExecutor(options.jobs) as pool:
        checks = pool.map(problem, there)
        failed = [p for p in tqdm(checks, total=len(there), desc=f"verify {NAME}", unit="clip") if p]
    listed = {segment.ytid for segment in segments}
    failed += [f"{ytid}: in the manifest, not in the list" for ytid in sorted(set(statuses) - listed)]
    for message in failed[:20]:
        say(f"  {message}")
    wrong = f"{len(failed)} problems" if failed else "all as it should be"
    summary = (
        f"{len(there):,} of {len(segments):,} clips checked, {wrong}; list {file_sha256(folder / LIST)[:16]}"
    )
    return _result(folder, statuses, f"{summary}, manifest {manifest_digest(statuses)[:16]}", failed) | {
        "checked": len(there)
    }
