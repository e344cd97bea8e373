"""What goes where: inputs found, outputs named, and the record of what is done already."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2l.audio import FORMATS
from m2l.cli import MissingError, UsageError
from m2l.latents import SUFFIX

#: Suffixes that count as audio when a folder is searched; a file named outright is tried whatever its suffix.
AUDIO_SUFFIXES = frozenset({*FORMATS, ".aifc", ".snd", ".mp2", ".wave"})

#: In the output folder: a line of JSON per finished output.
RECORD_NAME = ".m2l-done.jsonl"


@dataclass(frozen=True)
class Job:
    """One input and its output. `relative` is the output's name in the record; None outside folder runs."""

    source: Path
    target: Path
    relative: str | None


def plan_jobs(args: argparse.Namespace) -> tuple[list[Job], Path | None]:
    """The jobs of a command, and the output folder if it is a folder run.

    One input file and an OUT with a file's suffix is a single job. Otherwise OUT is a folder; the trees of
    input folders are kept in it.

    Raises:
        UsageError: for an OUT of unknown kind, outputs that would replace inputs, or that share a name.
        MissingError: for an input that does not exist, or a folder with nothing to do.
    """
    output = Path(args.output)
    inputs = [Path(text) for text in args.inputs]
    for path in inputs:
        if not path.exists():
            raise MissingError(f"no such file or folder: {path}")
    one_file = len(inputs) == 1 and not inputs[0].is_dir()
    named = not output.is_dir() and not args.output.endswith("/")
    if one_file and named and _is_target_file(output, args.command):
        _refuse_same(inputs[0], output)
        return [Job(inputs[0], output, None)], None
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file; several inputs need a folder")
    sources = list(_sources(inputs, output, args.command))
    if not sources:
        wanted = f"latents files (*{SUFFIX})" if args.command == "decode" else "audio files"
        raise MissingError(f"no {wanted} in {', '.join(map(str, inputs))}")
    jobs = [Job(source, output / name, name) for source, name in _named(sources, _suffix(args))]
    for job in jobs:
        _refuse_same(job.source, job.target)
    return jobs, output


def _is_target_file(output: Path, command: str) -> bool:
    known = (SUFFIX,) if command == "encode" else tuple(FORMATS)
    if output.suffix.lower() in known:
        return True
    # `-o out` and `-o v1.0` are folders; `-o out.wave` is a mistake.
    if re.fullmatch(r"\.[A-Za-z]\w{1,11}", output.suffix):
        raise UsageError(
            f"{output}: unknown suffix {output.suffix!r}; expected {' '.join(known)}, or a folder"
        )
    return False


def _suffix(args: argparse.Namespace) -> str:
    return SUFFIX if args.command == "encode" else f".{args.format}"


def _refuse_same(source: Path, target: Path) -> None:
    if os.path.realpath(source) == os.path.realpath(target):
        raise UsageError(f"{target} would replace its own input; choose another OUT")


def _sources(inputs: list[Path], output: Path, command: str) -> Iterator[tuple[Path, Path]]:
    """(file, its path within the output without the new suffix) for every input."""
    several_folders = sum(path.is_dir() for path in inputs) > 1
    suffixes = frozenset({SUFFIX}) if command == "decode" else AUDIO_SUFFIXES
    for path in inputs:
        if not path.is_dir():
            yield path, Path(path.name)
            continue
        if command == "reconstruct" and os.path.realpath(path) == os.path.realpath(output):
            raise UsageError(f"{path} is input and output; reconstructions would mix with originals")
        inside = Path(path.resolve().name) if several_folders else Path()
        for file in _walk(path, suffixes, output):
            yield file, inside / file.relative_to(path)


def _walk(folder: Path, suffixes: frozenset[str], output: Path) -> Iterator[Path]:
    own = os.path.realpath(output)
    for root, folders, files in os.walk(folder):
        # Hidden folders are no music; OUT inside IN must not be read back on the next run.
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(root, name)) != own
        )
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:
                yield Path(root, name)


def _named(sources: list[tuple[Path, Path]], suffix: str) -> list[tuple[Path, str]]:
    """Output names: the stem and the new suffix; the full name where two inputs share a stem."""
    short = Counter(str(inner.with_suffix("")).casefold() for _, inner in sources)
    named = [
        (
            source,
            str(inner.with_suffix("")) if short[str(inner.with_suffix("")).casefold()] == 1 else str(inner),
        )
        for source, inner in sources
    ]
    counts = Counter(name.casefold() for _, name in named)
    for source, name in named:
        if counts[name.casefold()] > 1:
            raise UsageError(f"two inputs would be written to {name + suffix!r}, one of them {source}")
    return [(source, name + suffix) for source, name in named]


class Record:
    """Which outputs of a folder are done, and from what: a file of JSON lines, two for each output.

    The first, without a size, says that an output is ours to write; the second that it is complete. It counts as
    done if it is there, has the recorded size, and was made from the same source by the same weights and
    settings. A line cut short by a kill is ignored: that output is made again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / RECORD_NAME
        self._lines: dict[str, dict[str, Any]] = {}
        with suppress(FileNotFoundError):
            for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, KeyError, TypeError):
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
        """Whether an earlier run wrote this output, or was about to, from whatever source."""
        return name in self._lines

    def begin(self, name: str) -> None:
        """Note an output that is about to be written. Raises `OSError` if the record cannot be."""
        self._add({"output": name})

    def finish(self, name: str, key: str) -> None:
        """Note an output that is complete. Raises `OSError` if the record cannot be written."""
        self._add({"output": name, "key": key, "size": (self._folder / name).stat().st_size})

    def _add(self, entry: dict[str, Any]) -> None:
        self._lines[entry["output"]] = entry
        # A leading newline ends a line that a kill may have cut.
        with open(self._path, "a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(entry))


def job_key(source: Path, settings: dict[str, Any]) -> str:
    """Digest of what an output depends on: the source (name, size, time of change), weights and settings."""
    status = source.stat()
    parts = [os.fsencode(source.name).hex(), status.st_size, status.st_mtime_ns, sorted(settings.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
