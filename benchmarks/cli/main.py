"""`m2l-bench`: the benchmark's command line.

Sub-commands import what they need when they run: `--help` and `list` load no model and no torch.
Results go to stdout, progress to stderr. Exit codes: 0 fine, 1 failed units (with --strict also failed
clips), 2 wrong usage, 3 data, weights or packages missing or a file that cannot be read or written,
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from benchmarks.errors import (
    INTERRUPTED,
    MISSING,
    OK,
    USAGE,
    UsageError,
    describe_os_error,
    discard_output,
)
from benchmarks.registry import UnknownNameError, load_target
from benchmarks.user_code import reporting
from m2l.processes import interrupt_on_sigterm

if TYPE_CHECKING:
    pass

#: Sub-command -> "module:function" taking the rest of the command line.
FORWARDED = {
    "fetch": ("benchmarks.cli.fetch:main", "download weights and data sets, with checksums"),
    "speed": ("benchmarks.cli.speed:main", "race an implementation against its rival, in one run"),
    "probe": ("probes.cli:main", "Table 1 on its own: tasks and representations"),
    "doctor": (
        "benchmarks.status.doctor:main",
        "what is installed, which weights and data are there, what is missing",
    ),
    "tables": ("benchmarks.cli.tables:tables_main", "measure what is missing and write tables and figures"),
    "report": ("benchmarks.cli.report:main", "the results as a folder of HTML to look at and listen to"),
    "compare": ("benchmarks.cli.compare:main", "your autoencoder beside a suite's baselines"),
    "ablation": ("benchmarks.cli.ablation:main", "train the rows of Table 3 from scratch and fill the table"),
    "curve": ("benchmarks.cli.curve:main", "quality of a training run at each checkpoint it kept"),
    "export-clips": (
        "benchmarks.compare.export:main",
        "a suite's clips as WAV files, for systems that run elsewhere",
    ),
    "new-autoencoder": (
        "benchmarks.autoencoders.own.template:main",
        "write the template of an autoencoder and its test",
    ),
    "status": ("benchmarks.status.shards:main", "progress of a suite over all jobs that share a store"),
    "run": ("benchmarks.cli.tables:run_main", "measure only (for shards of a cluster), write no tables"),
    "gate": ("benchmarks.cli.gate:gate_main", "compare results with the pinned baseline, or pin them"),
    "history": (
        "benchmarks.cli.history:history_main",
        "show and draw how results changed from commit to commit",
    ),
}

_KINDS = ("autoencoders", "metrics", "embedders", "datasets", "suites", "tables", "executors")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # a terminal that lacks an arrow or a letter of a name is no error
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    parser = _parser()
    if arguments and arguments[0] in FORWARDED:
        return _guard(lambda: reporting(load_target(FORWARDED[arguments[0]][0]), arguments[1:]))
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return USAGE
    return _guard(lambda: _list(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="m2l-bench", description="Benchmark of music autoencoders.")
    from m2l import __version__

    parser.add_argument("--version", action="version", version=f"m2l-bench {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, text) in FORWARDED.items():
        commands.add_parser(name, help=text, add_help=False)
    listing = commands.add_parser("list", help="names that can be used in suites and on the command line")
    listing.add_argument("kind", nargs="?", choices=_KINDS, help="one kind (default: all)")
    listing.add_argument("--json", action="store_true", help="JSON on stdout")
    return parser


def _list(options: argparse.Namespace) -> int:
    kinds = [options.kind] if options.kind else list(_KINDS)
    found = {kind: names_of(kind) for kind in kinds}
    if options.json:
        print(json.dumps(found, indent=2, sort_keys=True))
        return OK
    for kind, names in found.items():
        if len(found) > 1:
            print(f"{kind}:")
        for name in names:
            print(f"  {name}" if len(found) > 1 else name)
    return OK


def names_of(kind: str) -> list[str]:
    """All names of a kind; imports no model."""
    if kind == "autoencoders":
        from benchmarks.autoencoders import list_autoencoders

        return list_autoencoders()
    if kind == "metrics":
        from benchmarks.metrics.registry import list_metrics

        return list_metrics()
    if kind == "embedders":
        from benchmarks.embedders import list_embedders

        return list_embedders()
    if kind == "datasets":
        from benchmarks.datasets import list_datasets

        return list_datasets()
    if kind == "suites":
        from benchmarks.suite import list_suites

        return list_suites()
    if kind == "tables":
        from benchmarks.tables.build import TABLES

        return TABLES.names()
    from benchmarks.harness.executors import EXECUTORS

    return list(EXECUTORS)


def _guard(call: Callable[[], int]) -> int:
    """Run a command; errors a user can act on become one line and an exit code, others stay tracebacks."""
    from benchmarks.suite import SuiteError

    try:
        with interrupt_on_sigterm():
            status = int(call())
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, run again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return OK
    except (UnknownNameError, SuiteError, UsageError) as error:
        return _complain(error, USAGE)
    except ModuleNotFoundError as error:
        return _complain(_missing_module(error), MISSING)
    except ImportError as error:
        return _complain(error, MISSING)
    except RuntimeError as error:
        if "home directory" not in str(error):  # what pathlib says of "~" where there is none
            raise
        return _complain("this user has no home folder: set HOME, or M2L_CACHE and whole paths", MISSING)
    except OSError as error:
        discard_output()  # if it is stdout that is full, Python's own last flush would complain again
        return _complain(describe_os_error(error), MISSING)


def _complain(error: object, status: int) -> int:
    with suppress(OSError):
        print(f"m2l-bench: {error}", file=sys.stderr)
    return status


def _missing_module(error: ModuleNotFoundError) -> str:
    first = (error.name or "").split(".")[0]
    if first in ("benchmarks", "probes", "m2l"):
        return f"this installation has no {error.name}"
    return str(error)
