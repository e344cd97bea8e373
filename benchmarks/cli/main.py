"""`m2l-bench`: the benchmark's command line.

A command's module is imported when the command runs: `--help` and `list` load no model and no torch.
Results go to stdout, progress to stderr. Exit codes: 0 fine, 1 failed units (with --strict also failed
clips), 2 wrong usage, 3 data, weights or packages missing or a file that cannot be read or written,
130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from json import dumps
from typing import Literal

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from benchmarks.cli.options import Json
from benchmarks.errors import INTERRUPTED, MISSING, OK, USAGE, UsageError, describe_os_error, discard_output
from benchmarks.registry import UnknownNameError, load_target
from benchmarks.user_code import reporting
from m2l.cli.plain import new_app, print_help, styled, usage_message
from m2l.processes import interrupt_on_sigterm

Kind = Literal["autoencoders", "forms", "metrics", "embedders", "datasets", "suites", "tables", "executors"]

#: Command -> "module:function" or "module:app", and its line in the list of commands.
COMMANDS = {
    "paper": ("benchmarks.cli.paper:paper", "fetch, measure and report the paper's Tables 1-3 and Figure 2"),
    "tables": ("benchmarks.cli.tables:tables", "measure what is missing, write tables and figures"),
    "run": ("benchmarks.cli.tables:run", "measure what is missing, or one shard of it; write no tables"),
    "score": ("benchmarks.cli.score:score", "score two folders of files, or two files"),
    "compare": ("benchmarks.cli.compare:compare", "measure your autoencoder beside a suite's baselines"),
    "curve": ("benchmarks.cli.compare:curve", "measure every kept checkpoint of a training run"),
    "ablation": ("benchmarks.cli.ablation:ablation", "train the rows of Table 3 from scratch and measure them"),
    "latents": ("benchmarks.cli.latents:latents", "statistics of an autoencoder's latents"),
    "probe": ("probes.cli:app", "evaluate representations on the tasks of Table 1"),
    "report": ("benchmarks.cli.report:report", "turn results into a folder of HTML with audio"),
    "gate": ("benchmarks.cli.gate:gate", "compare results with the pinned baseline, or pin them"),
    "history": ("benchmarks.cli.gate:history", "show and draw how results changed from commit to commit"),
    "status": ("benchmarks.cli.status:status", "show the progress of all jobs that share a store"),
    "store": ("benchmarks.cli.store:app", "remove stored results that no suite names"),
    "doctor": ("benchmarks.cli.status:doctor", "check packages, weights, data sets and the cells of a suite"),
    "fetch": ("benchmarks.cli.fetch:fetch", "download weights and data sets, verified by checksum"),
    "speed": ("benchmarks.cli.speed:app", "race an implementation against its rival"),
    "export-clips": ("benchmarks.cli.own:export_clips", "write a suite's clips as WAV files"),
    "new-autoencoder": ("benchmarks.cli.own:new_autoencoder", "write a template of an autoencoder and its test"),
    "new-metric": ("benchmarks.cli.own:new_metric", "write a template of a metric and its test"),
    "list": ("benchmarks.cli.main:list_names", "list the names that suites and options accept"),
    "completion": ("benchmarks.cli.main:completion", "print a shell completion script"),
}  # fmt: skip

#: What `list` lists -> "module:function" that returns the names.
KINDS = {
    "autoencoders": "benchmarks.autoencoders:list_autoencoders",
    "forms": "benchmarks.autoencoders:list_forms",
    "metrics": "benchmarks.metrics.registry:list_metrics",
    "embedders": "benchmarks.embedders:list_embedders",
    "datasets": "benchmarks.datasets:list_datasets",
    "suites": "benchmarks.suite:list_suites",
    "tables": "benchmarks.tables:TABLES.names",
    "executors": "benchmarks.harness:EXECUTORS",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks an arrow or a letter is no error
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    return _guard(lambda: _run(arguments))


def list_names(kind: Kind | None = None, /, *, json: Json = False) -> int:
    """List the names that suites and options accept.

    Args:
        kind: one kind of names (default: all)
    """
    found = {name: _names(KINDS[name]) for name in ([kind] if kind else KINDS)}
    if json:
        print(dumps(found, indent=2, sort_keys=True))
        return OK
    for name, names in found.items():
        if len(found) > 1:
            print(f"{name}:")
        for entry in names:
            print(f"  {entry}" if len(found) > 1 else entry)
    return OK


def _names(target: str) -> list[str]:
    found = load_target(target)
    return list(found() if callable(found) else found)


def completion(shell: Literal["bash", "zsh", "fish"] = "bash", /) -> int:
    """Print a shell completion script.

      eval "$(m2l-bench completion bash)"

    Args:
        shell: shell that will read the script
    """
    print(make_app(summaries=False).generate_completion(shell=shell))
    return OK


def make_app(*, summaries: bool) -> App:
    """The whole command line; with `summaries` commands have their line in the list in place of their own help."""
    from m2l import __version__

    app = new_app("m2l-bench", "Benchmark of music autoencoders.", version=f"m2l-bench {__version__}")
    for number, (name, (target, summary)) in enumerate(COMMANDS.items()):
        app.command(target, name=name, help=summary if summaries else None, sort_key=number)
    return app


def _run(arguments: list[str]) -> int:
    app = make_app(summaries=not arguments or arguments[0].startswith("-"))
    if not arguments:
        print_help(app)
        return USAGE
    try:
        command, bound, _ = app.parse_args(arguments)
    except CycloptsError as error:
        raise UsageError(usage_message(error)) from None
    verbose = not {"-v", "--verbose"}.isdisjoint(arguments)
    status = reporting(lambda: command(*bound.args, **bound.kwargs), verbose)
    if status is None and {"-h", "--help", "--version"}.isdisjoint(arguments):
        return USAGE  # a group without the name of a command: its help was printed
    return OK if status is None else status


def _guard(call: Callable[[], int]) -> int:
    """Run a command; errors a user can act on become one line and an exit code, others stay tracebacks."""
    try:
        with interrupt_on_sigterm():
            status = int(call())
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        print("interrupted; finished work is kept, run the command again to resume", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return OK
    except (UnknownNameError, UsageError) as error:
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
        print(f"{styled('m2l-bench:', 'red', sys.stderr)} {error}", file=sys.stderr)
    return status


def _missing_module(error: ModuleNotFoundError) -> str:
    first = (error.name or "").split(".")[0]
    if first in ("benchmarks", "probes", "m2l"):
        return f"this installation has no {error.name}"
    return str(error)
