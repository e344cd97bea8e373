"""The files of a command: which inputs make which outputs, pipes as inputs, and the record of finished outputs."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import select
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from m2l.cli.common import MissingError, UsageError, message_of
from m2l.io.atomic import partial_file
from m2l.io.folders import OTHER_AUDIO, find_files
from m2l.io.latents import SUFFIX
from m2l.io.sound import FORMATS

#: Suffixes that count as audio when a folder is searched; a file named outright is tried whatever its suffix.
AUDIO_SUFFIXES = frozenset({*FORMATS, ".aifc", ".snd", ".mp2", ".wave"})
#: Seconds that a named pipe may have no writer.
PATIENCE = 10.0
#: In the output folder: a line of JSON per finished output.
RECORD_NAME = ".m2l-done.jsonl"

_KINDS = ((stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device or terminal"), (stat.S_ISBLK, "a disk"))

# --- inputs and outputs -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One input and its output. `relative` is the output's name in the record; None outside folder runs."""

    source: Path
    target: Path
    relative: str | None


@dataclass(frozen=True)
class Plan:
    """The jobs of a command, the output folder if it is a folder run, and what was left out: reason -> paths."""

    jobs: list[Job]
    folder: Path | None = None
    left_out: Mapping[str, Sequence[Path]] = field(default_factory=dict)

    @property
    def n_left_out(self) -> int:
        """How many files and folders were left out."""
        return sum(len(paths) for paths in self.left_out.values())

    def examples(self, limit: int = 3) -> str:
        """The first few paths that were left out."""
        paths = [str(path) for several in self.left_out.values() for path in several]
        return ", ".join(paths[:limit]) + (" …" if len(paths) > limit else "")

    def reasons(self) -> str:
        """What was left out in words, such as "2 not a readable format (.m4a), 1 broken link"."""
        return ", ".join(f"{len(paths)} {reason}" for reason, paths in sorted(self.left_out.items()))


def plan_jobs(command: str, inputs: Sequence[str], out: str, suffix: str) -> Plan:
    """The jobs of a command.

    One input file and an OUT with a file's suffix is a single job. Otherwise OUT is a folder; the trees of
    input folders are kept in it.

    Args:
        command: encode, decode or reconstruct.
        inputs: files, folders and pipes.
        out: OUT, as it was given.
        suffix: of outputs in a folder.

    Raises:
        UsageError: for an OUT of unknown kind or that cannot be, outputs that would replace inputs, or that share
            a name.
        MissingError: for an input that does not exist, or a folder with nothing to do.
    """
    output = Path(out)
    paths = [check_input(text) for text in inputs]
    one_file = len(paths) == 1 and not paths[0].is_dir()
    named = not os.path.isdir(output) and not out.endswith("/")
    if one_file and named and _is_target_file(output, command):
        _refuse_same(paths[0], output)
        _check_target(output)
        return Plan([Job(paths[0], output, None)])
    if os.path.lexists(output) and not os.path.isdir(output):
        wanted = f"a file's name ends in {' '.join(_suffixes(command))}" if one_file else "a folder is needed"
        raise UsageError(f"{output} exists and is not a folder; {wanted}")
    sources, left_out = _sources(paths, output, command)
    plan = Plan([Job(source, output / name, name) for source, name in _named(sources, suffix)], output, left_out)
    if not sources:
        wanted = f"latents files (*{SUFFIX})" if command == "decode" else "audio files"
        found = f"; left out: {plan.reasons()}" if left_out else ""
        raise MissingError(f"no {wanted} in {', '.join(map(str, paths))}{found}")
    for job in plan.jobs:
        _refuse_same(job.source, job.target)
    return plan


def _is_target_file(output: Path, command: str) -> bool:
    known = _suffixes(command)
    if output.suffix.lower() in known:
        return True
    # `-o out` and `-o v1.0` are folders; `-o out.wave` is a mistake.
    if re.fullmatch(r"\.[A-Za-z]\w{1,11}", output.suffix):
        raise UsageError(f"{output}: unknown suffix {output.suffix!r}; expected {' '.join(known)}, or a folder")
    return False


def _suffixes(command: str) -> tuple[str, ...]:
    return (SUFFIX,) if command == "encode" else tuple(FORMATS)


def _check_target(target: Path) -> None:
    """Raise `UsageError` for a target that cannot be written, before the work rather than after it."""
    try:
        os.lstat(target)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {message_of(error)}") from error
    if os.path.exists(target) and not os.path.isfile(target):
        raise UsageError(f"cannot write {target}: it is a pipe or device, which a file would replace")
    parent = Path(os.path.realpath(target)).parent
    if not parent.is_dir():
        raise UsageError(f"cannot write {target}: no folder {parent}; make it first")
    if not os.access(parent, os.W_OK):
        raise UsageError(f"cannot write {target}: Permission denied in {parent}")


def _refuse_same(source: Path, target: Path) -> None:
    if os.path.realpath(source) == os.path.realpath(target):
        raise UsageError(f"{target} would replace its own input; choose another OUT")


def _sources(inputs: list[Path], output: Path, command: str) -> tuple[list[tuple[Path, Path]], dict[str, list[Path]]]:
    """(file, its path within the output without the new suffix) for every input, and what was left out."""
    several_folders = sum(path.is_dir() for path in inputs) > 1
    sources: list[tuple[Path, Path]] = []
    left_out: dict[str, list[Path]] = {}
    for path in inputs:
        if not path.is_dir():
            sources.append((path, Path(path.name)))
            continue
        if command == "reconstruct" and os.path.realpath(path) == os.path.realpath(output):
            raise UsageError(f"{path} is input and output; reconstructions would mix with originals")
        try:
            found = find_files(path, {SUFFIX} if command == "decode" else AUDIO_SUFFIXES)
        except OSError as error:
            raise MissingError(message_of(error)) from error
        inside = Path(path.resolve().name) if several_folders else Path()
        is_output = _inside_of(output, path)
        sources += [(file, inside / file.relative_to(path)) for file in found.files if not is_output(file.parent)]
        for reason, paths in found.left_out.items():
            # Audio is not what decoding looks for.
            kept = [one for one in paths if not is_output(one.parent) and not (
                command == "decode" and one.suffix.lower() in OTHER_AUDIO)]  # fmt: skip
            if kept:
                left_out.setdefault(reason, []).extend(kept)
    return sources, left_out


def _inside_of(output: Path, root: Path) -> Callable[[Path], bool]:
    """Whether a folder below `root` lies in OUT: what is written there must not be read back on the next run."""
    own = os.path.realpath(output)

    @cache
    def inside(folder: Path) -> bool:
        return folder != root and (os.path.realpath(folder) == own or inside(folder.parent))

    return inside


def _named(sources: list[tuple[Path, Path]], suffix: str) -> list[tuple[Path, str]]:
    """Output names: the stem and the new suffix; the full name where two inputs share a stem."""
    stems = [str(inner.with_suffix("")) for _, inner in sources]
    short = Counter(stem.casefold() for stem in stems)
    named = [
        (source, stem if short[stem.casefold()] == 1 else str(inner))
        for (source, inner), stem in zip(sources, stems, strict=True)
    ]
    counts = Counter(name.casefold() for _, name in named)
    for source, name in named:
        if counts[name.casefold()] > 1:
            raise UsageError(f"two inputs would be written to {name + suffix!r}, one of them {source}")
    return [(source, name + suffix) for source, name in named]


# --- pipes and other inputs that are not regular files ------------------------------------------------------------


def check_input(text: str) -> Path:
    """The path of an input that is a file, a folder or a pipe.

    Raises:
        MissingError: if it does not exist, cannot be reached, or is a device or socket.
    """
    try:
        mode = os.stat(text).st_mode
    except FileNotFoundError:
        raise MissingError(f"no such file or folder: {text}") from None
    except (OSError, ValueError) as error:
        raise MissingError(message_of(error)) from error
    for is_kind, name in _KINDS:
        if is_kind(mode):
            raise MissingError(f"{text} is {name}; give a file, a folder or a pipe")
    return Path(text)


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to a pipe, such as `/dev/stdin` after `|`, or a shell's `<(command)`."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


@contextmanager
def as_file(source: Path, folder: Path) -> Iterator[Path]:
    """`source` itself, or for a pipe a file with its whole content, in `folder` until the block ends.

    Audio is inspected from both ends and decoded in any order, which a pipe does not allow.

    Raises:
        OSError: the disk is full, or no program writes to the pipe.
    """
    if not is_pipe(source):
        yield source
        return
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", os.fspath(folder))
    with partial_file(folder) as path:
        _drain(source, path)
        yield path


def _drain(source: Path, target: Path) -> None:
    # Without O_NONBLOCK, opening a pipe without a writer would block forever.
    pipe = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with open(target, "wb") as file:
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            deadline = time.monotonic() + PATIENCE
            while True:
                ready = poll.poll(100)
                try:
                    block = os.read(pipe, 2**20)
                except BlockingIOError:  # the writer has not written yet
                    continue
                if block:
                    file.write(block)
                elif ready or file.tell():
                    return
                elif time.monotonic() > deadline:
                    raise OSError(errno.EPIPE, f"no program writes to this pipe (waited {PATIENCE:g} s)")
    finally:
        os.close(pipe)


# --- the record of finished outputs -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A source in the record.

    `path` is its name as given, `real` the file behind all links (empty for a pipe). `digest` reads its content; it is
    called only where names do not settle whether two sources are the same.
    """

    path: str
    real: str
    digest: Callable[[], str]


class Record:
    """The outputs of a folder, in a file with two JSON lines for each.

    The first line, without a size, claims an output; the second says that it is complete. An output is done if it
    exists, has the recorded size, and was made from the same source by the same weights and settings. A line cut
    short by a kill is ignored, and that output is made again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / RECORD_NAME
        self._lines: dict[str, dict[str, Any]] = {}
        with suppress(FileNotFoundError):
            for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, KeyError, TypeError, RecursionError):
                    entry = json.loads(line)
                    self._lines[entry["output"]] = entry

    def is_done(self, name: str, key: str) -> bool:
        """Whether the output exists as recorded under this key."""
        entry = self._lines.get(name, {})
        try:
            return bool(entry.get("key") == key and entry.get("size") == (self._folder / name).stat().st_size)
        except OSError:
            return False

    def is_ours(self, name: str) -> bool:
        """Whether an earlier run wrote this output, or was about to."""
        return name in self._lines

    def other_source(self, name: str, source: Source) -> str | None:
        """The path of the file that the output was made from, if that is not `source`; None if it is.

        A source is the same if it is the same file behind all links, if it has the same content (a folder was moved
        or copied), or if it has the path of one that no longer exists. A file edited in place is the same source.
        """
        entry = self._lines.get(name, {})
        path, real, content = (str(entry.get(field) or "") for field in ("source", "real", "content"))
        if not path or (real and real == source.real):
            return None
        if source.real and path == source.path and not os.path.lexists(real):
            return None
        return None if content and content == source.digest() else path

    def is_from(self, name: str, source: Source) -> bool:
        """Whether the record names this path as the output's source."""
        entry = self._lines.get(name, {})
        return (entry.get("source"), entry.get("real")) == (source.path, source.real)

    def begin(self, name: str, source: Source) -> None:
        """Note an output that is about to be written. Raises `OSError` if the record cannot be."""
        self._add({"output": name, "source": source.path, "real": source.real})

    def finish(self, name: str, source: Source, key: str) -> None:
        """Note an output that is complete. Raises `OSError` if source or record cannot be read or written."""
        size = (self._folder / name).stat().st_size
        place = {"output": name, "source": source.path, "real": source.real}
        self._add({**place, "content": source.digest(), "key": key, "size": size})

    def _add(self, entry: dict[str, Any]) -> None:
        self._lines[entry["output"]] = entry
        # A leading newline ends a line that a kill may have cut.
        with open(self._path, "a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(entry))


def record_above(target: Path) -> tuple[Record | None, str]:
    """The record of the folder run that made `target`, if there is one, and the target's name in it."""
    path = Path(os.path.abspath(target))
    for folder in path.parents:
        if (folder / RECORD_NAME).is_file():
            record, name = Record(folder), str(path.relative_to(folder))
            return (record, name) if record.is_ours(name) else (None, name)
    return None, ""


def job_key(source: Path, settings: dict[str, Any], content: str | None = None) -> str:
    """Digest of what an output depends on: the source (name, size, time of change), weights and settings.

    A source without a size and a time of its own, a pipe, is known by its `content` instead.
    """
    if content is None:
        status = source.stat()
        facts: list[Any] = [status.st_size, status.st_mtime_ns]
    else:
        facts = [content]
    parts = [os.fsencode(source.name).hex(), *facts, sorted(settings.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
