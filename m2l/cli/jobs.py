"""What goes where: inputs found, outputs named."""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from m2l.audio import FORMATS
from m2l.cli.errors import MissingError, UsageError, message_of
from m2l.cli.pipes import check_input
from m2l.io.folders import OTHER_AUDIO, find_files
from m2l.io.latents import SUFFIX

#: Suffixes that count as audio when a folder is searched; a file named outright is tried whatever its suffix.
AUDIO_SUFFIXES = frozenset({*FORMATS, ".aifc", ".snd", ".mp2", ".wave"})


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

    def reasons(self) -> str:
        """What was left out in words, such as "2 not a readable format (.m4a), 1 broken link"."""
        return ", ".join(f"{len(paths)} {reason}" for reason, paths in sorted(self.left_out.items()))


def plan_jobs(args: argparse.Namespace) -> Plan:
    """What a command has to do.

    One input file and an OUT with a file's suffix is a single job. Otherwise OUT is a folder; the trees of
    input folders are kept in it.

    Raises:
        UsageError: for an OUT of unknown kind or that cannot be, outputs that would replace inputs, or that share
            a name.
        MissingError: for an input that does not exist, or a folder with nothing to do.
    """
    output = Path(args.output)
    inputs = [check_input(text) for text in args.inputs]
    one_file = len(inputs) == 1 and not inputs[0].is_dir()
    named = not os.path.isdir(output) and not args.output.endswith("/")
    if one_file and named and _is_target_file(output, args.command):
        _refuse_same(inputs[0], output)
        _check_target(output)
        return Plan([Job(inputs[0], output, None)])
    if os.path.lexists(output) and not os.path.isdir(output):
        wanted = (
            f"a file's name ends in {' '.join(_suffixes(args.command))}" if one_file else "a folder is needed"
        )
        raise UsageError(f"{output} exists and is no folder; {wanted}")
    sources, left_out = _sources(inputs, output, args.command)
    plan = Plan(
        [Job(source, output / name, name) for source, name in _named(sources, _suffix(args))],
        output,
        left_out,
    )
    if not sources:
        wanted = f"latents files (*{SUFFIX})" if args.command == "decode" else "audio files"
        found = f"; left out: {plan.reasons()}" if left_out else ""
        raise MissingError(f"no {wanted} in {', '.join(map(str, inputs))}{found}")
    for job in plan.jobs:
        _refuse_same(job.source, job.target)
    return plan


def _is_target_file(output: Path, command: str) -> bool:
    known = _suffixes(command)
    if output.suffix.lower() in known:
        return True
    # `-o out` and `-o v1.0` are folders; `-o out.wave` is a mistake.
    if re.fullmatch(r"\.[A-Za-z]\w{1,11}", output.suffix):
        raise UsageError(
            f"{output}: unknown suffix {output.suffix!r}; expected {' '.join(known)}, or a folder"
        )
    return False


def _suffixes(command: str) -> tuple[str, ...]:
    return (SUFFIX,) if command == "encode" else tuple(FORMATS)


def _check_target(target: Path) -> None:
    """Say what is wrong with a target before the work, not after it."""
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


def _suffix(args: argparse.Namespace) -> str:
    return SUFFIX if args.command == "encode" else f".{args.format}"


def _refuse_same(source: Path, target: Path) -> None:
    if os.path.realpath(source) == os.path.realpath(target):
        raise UsageError(f"{target} would replace its own input; choose another OUT")


def _sources(
    inputs: list[Path], output: Path, command: str
) -> tuple[list[tuple[Path, Path]], dict[str, list[Path]]]:
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
        sources += [
            (file, inside / file.relative_to(path)) for file in found.files if not is_output(file.parent)
        ]
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
