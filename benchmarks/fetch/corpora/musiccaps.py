"""Fetching MusicCaps: the list, then clip by clip, with a manifest of what became of each."""

from __future__ import annotations

import random
import re
import shlex
import shutil
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.datasets.audio_files import AUDIO_SUFFIXES
from benchmarks.datasets.locations import root_with
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
    status_counts,
    write_manifest,
)
from benchmarks.datasets.records import HIDDEN
from benchmarks.fetch.corpora.adopt import adopt_items, walk
from benchmarks.fetch.corpora.clips import BusyError, Runner, ToolError, adopt_clip, get_clip, inspect, run, yt_dlp
from benchmarks.fetch.download import Progress, offline, sleep
from benchmarks.fetch.expected import Expected
from benchmarks.fetch.options import Options
from benchmarks.fetch.transfer import NOT_STARTED, Item, Task, human, in_parallel, missing_items, outcome, say, transfer
from benchmarks.harness.progress import duration
from m2l.io.atomic import InUseError, exclusive
from m2l.io.digest import file_sha256

NAME = "musiccaps"
TITLE = "MusicCaps: 5,521 clips of 10 s, cut out of their videos by yt-dlp (size: kept at most)"
LICENSE = "captions CC BY-SA 4.0; audio: its uploaders'"
KEPT_BYTES = 5521 * 1_920_044  # 10 s of stereo at 48 kHz, 16 bit
_SECONDS_EACH = 6.0  # download, decoding and cut of one video: a guess
VIDEOS_AN_HOUR = 300  # what YouTube lets a guest have, by yt-dlp's wiki
_ATTEMPTS, _PATIENCE = 3, 5
_BUSY_SECONDS = 60.0  # the first wait when the site refuses; the next are twice as long each
_SAVE_EVERY = 25
#: Of this many clips in a row at least so many must be lost before the tool is blamed. A tenth to a fifth of the
#: clips are gone for good: chance does not lose 19 of 20.
_WINDOW, _LOST = 20, 19
_REFUSED = (
    "the site refuses for now ({}); run again later, with fewer --jobs, or give yt-dlp an account: "
    "--yt-dlp='--cookies-from-browser firefox'"
)
LIST_URLS = (
    "https://huggingface.co/datasets/google/MusicCaps/resolve/0a51889b340037bb75a9a0858af2e4ece21f7f89/musiccaps-public.csv",
)


@dataclass(frozen=True)
class Tools:
    """What clips are fetched with.

    Attributes:
        runner: Runs commands.
        program: The beginning of the yt-dlp command; None looks for it.
        pause: Waits between attempts; None sleeps, but not beyond the end of the fetch.
        complete: Whether the list has to be the published one.
    """

    runner: Runner = run
    program: Sequence[str] | None = None
    pause: Callable[[float], object] | None = None
    complete: bool = True


def folder_of(data: Path | None) -> Path:
    """Folder of MusicCaps: below the given root, else where its manifest is, else in the cache."""
    return root_with(f"{NAME}/{MANIFEST}", data) / NAME


def is_complete(options: Options) -> bool:
    """Whether nothing is left to fetch: `options.limit` clips are here, or every clip's fate is known.

    Raises:
        OSError, ValueError: No list, or list or manifest are damaged.
    """
    folder = folder_of(options.data)
    segments, statuses = read_list(folder / LIST, complete=False), read_manifest(folder)
    enough = bool(options.limit) and status_counts(statuses)["ok"] >= options.limit
    return enough or not any(_to_do(statuses.get(segment.ytid), options.again) for segment in segments)


def fetch_musiccaps(options: Options, tools: Tools | None = None) -> dict[str, Any]:
    """Fetch what is missing of MusicCaps.

    Returns:
        name, dest, summary, failed, fetched and present (clips), statuses (counts), digest (of the manifest).
    """
    folder = folder_of(options.data)
    time_needed = duration(max(CLIPS * _SECONDS_EACH / options.jobs, CLIPS * 3600 / VIDEOS_AN_HOUR))
    say(f"{NAME}: {CLIPS:,} clips of 10 s, cut out of their videos by yt-dlp. License: captions CC BY-SA 4.0,")
    say("  audio: its uploaders', for you to judge. Whole audio tracks are transferred (about 5 MB each),")
    say(f"  {human(KEPT_BYTES)} kept at most; about {time_needed}: {options.jobs} at a time, and a guest of YouTube")
    say(f"  gets some {VIDEOS_AN_HOUR} videos an hour. Into {folder}")
    if options.dry_run:
        return _outcome(folder, {}, "would fetch what is missing")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive(folder):  # the manifest has one writer
            return _fetch_into(folder, options, tools or Tools())
    except InUseError as error:
        return _outcome(folder, {}, "not fetched", [str(error)])


def _fetch_into(folder: Path, options: Options, tools: Tools) -> dict[str, Any]:
    # The list. Only its segments have to be the published ones: a corrected caption does not matter.
    def check(path: Path) -> None:
        read_list(path, complete=tools.complete)

    item = Item(LIST, LIST_URLS, Expected(check=check))
    if options.source is not None:
        adopt_items(missing_items([item], [folder]), options.source, folder)
    if failed := transfer(NAME, missing_items([item], [folder]), folder, None, 1):
        return _outcome(folder, {}, "not fetched", failed)
    try:
        segments = read_list(folder / LIST, complete=tools.complete)
        statuses = _known(folder, segments)
    except ValueError as error:
        return _outcome(folder, {}, "not fetched", [str(error)])
    # What an existing copy has.
    if options.source is not None:
        _adopt(options.source, segments, statuses, folder)
    if options.overwrite:
        statuses.clear()
    # The clips.
    kept = status_counts(statuses)["ok"]
    todo = [s for s in segments if _to_do(statuses.get(s.ytid), options.again)]
    if options.only:
        todo = [s for s in todo if any(part in s.ytid for part in options.only)]
    # With a limit, in batches of as many as are still missing: the first ones of the list that can be had.
    problem = None
    while todo and problem is None:
        wanted = options.limit - status_counts(statuses)["ok"] if options.limit else len(todo)
        if wanted <= 0:
            break
        batch, todo = todo[:wanted], todo[wanted:]
        problem = _get_all(batch, statuses, folder, options, tools)
    write_manifest(folder, statuses)
    # What became of them.
    counts = status_counts(statuses)
    lost = [f"{counts[name]} {name}" for name in STATUSES if name != "ok" and counts[name]]
    summary = f"{counts['ok']:,} of {len(segments):,} clips" + (f" ({', '.join(lost)})" if lost else "")
    failed = [problem] if problem else []
    enough = bool(options.limit) and counts["ok"] >= options.limit
    if counts["failed"] and not enough:
        failed.append(f"{counts['failed']} clips failed and may succeed when it is run again")
    summary += f"; manifest {manifest_digest(statuses)[:16]}"
    return _outcome(folder, statuses, summary, failed, fetched=counts["ok"] - kept, present=kept)


def _to_do(status: ClipStatus | None, again: bool) -> bool:
    return status is None or status.status not in FINAL or (again and status.status != "ok")


def _known(folder: Path, segments: Sequence[Segment]) -> dict[str, ClipStatus]:
    """The manifest, corrected by the files that exist.

    A clip whose file is gone is fetched again; one that a killed run finished but did not note is inspected.
    """
    wanted = {segment.ytid for segment in segments}
    statuses = {ytid: s for ytid, s in read_manifest(folder).items() if ytid in wanted}
    for ytid, status in list(statuses.items()):
        if status.status == "ok" and not (folder / status.path).is_file():
            del statuses[ytid]
    for path in walk(folder / "audio"):
        if path.stem in wanted and path.suffix in AUDIO_SUFFIXES and path.stem not in statuses:
            found = inspect(path, path.stem, path.relative_to(folder).as_posix())
            if found.status == "ok":
                statuses[path.stem] = found
    for left in (folder / HIDDEN).glob("clip-*"):
        shutil.rmtree(left, ignore_errors=True)
    return statuses


def _adopt(source: Path, segments: Sequence[Segment], statuses: dict[str, ClipStatus], folder: Path) -> None:
    """Take clips from an existing copy: files with the id in their name, as most tools write them."""
    wanted = {s.ytid: s for s in segments if s.ytid not in statuses or statuses[s.ytid].status != "ok"}
    taken = refused = 0
    for path in walk(source):
        ytid = _id_in(path.stem, wanted) if path.suffix.lower() in AUDIO_SUFFIXES else None
        if ytid is None:
            continue
        found = adopt_clip(path, wanted[ytid], folder)
        if found.status == "ok":
            statuses[ytid] = found
            del wanted[ytid]
            taken += 1
        else:
            refused += 1
            say(f"  {path}: not adopted ({found.detail})")
    say(f"  {taken} clips adopted from {source}" + (f", {refused} refused" if refused else ""))


def _id_in(stem: str, wanted: Mapping[str, Segment]) -> str | None:
    """The id in a file's name: `ID`, `[ID]-[30-40]`, `ID_30`, `ID_30000_40000`, `Y…ID`."""
    for start in range(len(stem) - 10):
        ytid, before, after = stem[start : start + 11], stem[:start], stem[start + 11 :]
        times = r"\]?([-_ (\[]+[\d.]+[-_ )\]]*)*\]?"
        if ytid in wanted and before in ("", "[", "Y", "y") and re.fullmatch(times, after):
            return ytid
    return None


def _get_all(
    todo: Sequence[Segment], statuses: dict[str, ClipStatus], folder: Path, options: Options, tools: Tools
) -> str | None:
    """Fetch clips in parallel, saving the manifest now and then; returns why it stopped early, if it did."""
    if variable := offline():
        return f"downloads are switched off ({variable} is set)"
    extra = shlex.split(options.yt_dlp)
    try:
        program = list(tools.program) if tools.program is not None else yt_dlp(extra)
    except ToolError as error:
        return str(error)
    lock = threading.Lock()
    busy = 0
    last: deque[ClipStatus] = deque(maxlen=_WINDOW)

    # A clip is tried again after errors that may pass; a site that keeps refusing ends the fetch.
    def attempts(segment: Segment, progress: Progress) -> ClipStatus:
        nonlocal busy
        for attempt in range(_ATTEMPTS):
            wait = 2.0**attempt * (1 + random.random())
            try:
                found = get_clip(segment, folder, program, runner=tools.runner, extra=extra)
                busy = 0
                if found.status != "failed":
                    return found
            except BusyError as error:
                with lock:
                    busy += 1
                if busy >= _PATIENCE:
                    raise ToolError(_REFUSED.format(error)) from error
                found, wait = ClipStatus(segment.ytid, "failed", detail=str(error)), _BUSY_SECONDS * 2**attempt
            if attempt + 1 < _ATTEMPTS:
                tools.pause(wait) if tools.pause else sleep(wait, lambda: progress(0, None))
        return found

    # Its status goes into the manifest; so many losses in a row that the tool must be broken end the fetch.
    def task(segment: Segment) -> Task:
        def run(progress: Progress) -> None:
            try:
                found = attempts(segment, progress)
            except OSError as error:
                raise error if isinstance(error, ToolError) else ToolError(str(error)) from error
            with lock:
                statuses[found.ytid] = found
                last.append(found)
                problem = None if options.again else _broken(last)
                if problem:  # none of these verdicts is to be trusted: they are asked for again
                    statuses.update({s.ytid: replace(s, status="failed") for s in last if s.status != "ok"})
                if problem or len(statuses) % _SAVE_EVERY == 0:
                    write_manifest(folder, statuses)
            if problem:
                raise ToolError(problem)
            progress(1, None)

        return run

    try:
        failed = in_parallel(NAME, {s.ytid: task(s) for s in todo}, len(todo), options.jobs, unit="clip")
    finally:
        with lock:
            write_manifest(folder, statuses)
    problems = [message for message in failed if not message.endswith(NOT_STARTED)]
    return problems[0].partition(": ")[2] if problems else None


def _broken(last: Collection[ClipStatus]) -> str | None:
    """Why the tool must be at fault, and not the videos, if nearly all of the last clips were lost."""
    lost = [status for status in last if status.status != "ok"]
    if len(last) < _WINDOW or len(lost) < _LOST:
        return None
    text, count = Counter(status.detail for status in lost).most_common(1)[0]
    return (
        f"{len(lost)} of the last {len(last)} clips were lost, {count} of them with {text!r}: yt-dlp looks broken or "
        "out of date. Update it (pip install -U 'yt-dlp[default]') and run again; these clips are tried again"
    )


def _outcome(
    folder: Path, statuses: Mapping[str, ClipStatus], summary: str, failed: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    counts = status_counts(statuses)
    found = {name: counts[name] for name in STATUSES if counts[name]}
    digest = manifest_digest(statuses)
    return outcome(NAME, folder, summary, failed, statuses=found, digest=digest, **more)


def verify_musiccaps(options: Options, *, complete: bool = True) -> dict[str, Any]:
    """Read all clips again: length, rate, sha256 as in the manifest."""
    folder = folder_of(options.data)
    try:
        segments = read_list(folder / LIST, complete=complete)
        statuses = read_manifest(folder)
    except (OSError, ValueError) as error:
        return _outcome(folder, {}, "not present", [str(error)], checked=0)
    fetched = [status for status in statuses.values() if status.status == "ok"]

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
        checks = pool.map(problem, fetched)
        failed = [p for p in tqdm(checks, total=len(fetched), desc=f"verify {NAME}", unit="clip") if p]
    listed = {segment.ytid for segment in segments}
    failed += [f"{ytid}: in the manifest, not in the list" for ytid in sorted(set(statuses) - listed)]
    verdict = f"{len(failed)} problems" if failed else "no problems"
    summary = (
        f"{len(fetched):,} of {len(segments):,} clips checked, {verdict}; list {file_sha256(folder / LIST)[:16]}, "
        f"manifest {manifest_digest(statuses)[:16]}"
    )
    return _outcome(folder, statuses, summary, failed, checked=len(fetched))
