"""Options that several commands share, what they open, and how a run of units ends."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from benchmarks.errors import FAILED, MISSING, OK, UsageError, check_folder
from m2l.cli.plain import Whole

if TYPE_CHECKING:
    from benchmarks.harness.base import Executor
    from benchmarks.harness.run import RunOptions, RunReport
    from benchmarks.store.store import Store

SuiteName = Annotated[str, Parameter(help="suite: a shipped name or a TOML file", metavar="NAME|FILE")]
Results = Annotated[
    str | None, Parameter(help="folder of result files (results; in m2l's own checkout results/local)", metavar="DIR")
]
Json = Annotated[bool, Parameter(help="print JSON")]
Quiet = Annotated[bool, Parameter(help="no progress on stderr")]
StorePlace = Annotated[
    str | None,
    Parameter(name="--store", help="store of measured units: a folder or s3://… (default: in the cache)",
              metavar="DIR|URL"),
]  # fmt: skip
Limit = Annotated[
    Whole, Parameter(help="use only the first N clips (Table 1: of each part of a split, and one of every class)")
]
Seconds = Annotated[float, Parameter(help="use only the first S seconds of each clip (0: all)", metavar="S")]
Device = Annotated[str, Parameter(help="device of neural systems and embedders: cpu, cuda, cuda:1, mps")]
#: A repeatable option whose values may hold several names, separated by commas.
Names = Annotated[list[str] | None, Parameter(metavar="NAMES")]
Output = Annotated[Path | None, Parameter(name=("--output", "-o"), metavar="DIR")]
DryRun = Annotated[bool, Parameter(help="show what would run and how long it takes, and stop")]
Format = Annotated[Literal["md", "csv", "json", "latex"], Parameter(help="format of what is printed")]
JsonFormat = Annotated[bool, Parameter(name="--json", help="same as --format json")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where units run and where their results are kept.

    Attributes:
        executor: execution back end (loky: local processes)
        workers: worker processes (default: the CPUs this process may use)
        address: a running dask scheduler or ray cluster
    """

    executor: Literal["serial", "loky", "dask", "ray"] = "loky"
    workers: Whole | None = None
    address: Annotated[str | None, Parameter(metavar="URL")] = None
    store: StorePlace = None
    quiet: Quiet = False
    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"), help="show tracebacks of errors in your own code")] = (
        False
    )

    def open(self, **how: Any) -> tuple[RunOptions, Executor, Store]:
        """What runs, who runs it, and the store; `how` are further fields of `RunOptions`.

        Raises:
            UsageError: a value that makes no sense.
        """
        from benchmarks.harness.executors import make_executor
        from benchmarks.harness.run import RunOptions

        try:
            run = RunOptions(quiet=self.quiet, **how)
            executor = make_executor(self.executor, workers=self.workers, address=self.address)
        except ValueError as error:
            raise UsageError(str(error)) from None
        return run, executor, open_store(self.store)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Work(Machine):
    """Where units run, and which of them.

    Attributes:
        overwrite: what to do with results that exist: compute what is missing, compute everything again, never
            change a result file, or compute nothing
    """

    limit: Limit = 0
    seconds: Seconds = 0.0
    device: Device = "cpu"
    overwrite: Literal["missing", "always", "never", "cache-only"] = "missing"

    def open(self, **how: Any) -> tuple[RunOptions, Executor, Store]:
        """As `Machine.open`."""
        return super().open(limit=self.limit, seconds=self.seconds, device=self.device, overwrite=self.overwrite, **how)


MACHINE, WORK = Machine(), Work()


def open_store(given: str | None) -> Store:
    """The store of `--store`, or the one in the cache.

    Raises:
        UsageError: a path that leads through a file, or a URL that nothing opens.
    """
    from benchmarks.store.store import Store

    if given and "://" not in given:
        check_folder("--store", Path(given).expanduser())
    try:
        return Store(given)
    except ValueError as error:
        raise UsageError(f"--store {given}: {error}") from None


def finish(report: RunReport, *, verbose: bool = False, measured: bool = True) -> int:
    """Print which clips were left out and which units failed; returns the exit code.

    Args:
        report: what the run did.
        verbose: also print the tracebacks of failed units.
        measured: whether the run found any value that it was to find.
    """
    from benchmarks.evaluation.left_out import say_left_out

    lost = say_left_out(report)
    if not report.failed:
        return MISSING if lost or not measured else OK
    causes = sorted({f"{done.stage} {done.name}: {done.error}" for done in report.failed.values()})
    print(f"{len(report.failed)} units failed:", *causes, sep="\n  ", file=sys.stderr)
    if verbose:
        for text in dict.fromkeys(done.details for done in report.failed.values() if done.details):
            print(text.rstrip(), file=sys.stderr)
    return MISSING if all(done.own for done in report.failed.values()) else FAILED


def split_names(given: Sequence[str] | None) -> list[str] | None:
    """Names from a repeatable, comma-separated option; None when it was not given."""
    if given is None:
        return None
    return [name.strip() for item in given for name in item.split(",") if name.strip()]


def toml_setting(option: str, text: str, form: str = "NAME=VALUE") -> tuple[str, Any]:
    """`NAME=VALUE` as a name and a value as in TOML; a value that is not TOML is a string without quotes.

    Raises:
        UsageError: not of that form.
    """
    import tomllib

    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"{option} {text!r} is not of the form {form}")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def command_line(command: str, **given: object) -> str:
    """A command of `m2l-bench` with the options that have a value, to be typed as it is printed."""
    words = ["m2l-bench", *command.split()]
    for name, value in given.items():
        if value:
            words += [f"--{name}", *([] if value is True else [str(value)])]
    return shlex.join(words)


def options_text(**given: object) -> str:
    """The options of `command_line` alone."""
    return command_line("", **given).removeprefix("m2l-bench").strip()
