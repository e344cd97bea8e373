"""`m2l-bench compare`: your autoencoder beside the baselines of a suite."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cli.options import open_store
from benchmarks.cli.tables import failed_status, print_details
from benchmarks.errors import MISSING, OK, UsageError, check_folder
from benchmarks.evaluation.left_out import say_left_out
from benchmarks.harness.executors import EXECUTORS, make_executor
from benchmarks.harness.run import OVERWRITE, RunOptions, describe_pending
from benchmarks.suite import load_suite

_EPILOG = """\
NAME is a registered system (m2l-bench list autoencoders), music2latent:DIR for a checkpoint, module:Class or
FILE.py:Class for a class of your own; LABEL=NAME gives the row another title.

  m2l-bench compare codec.py:Codec
  m2l-bench compare --external mine=reconstructions/ --suite open
  m2l-bench compare --command "mine=/opt/env/bin/python codec.py {input} {output}" --option mine.timeout=60
"""


def main(argv: Sequence[str]) -> int:
    """Run the command; exit code 0, 1 failed units, 2 or 3 when a user's code is broken or absent.

    3 also when a new system has no value, or failed on some clips.
    """
    options = _parser().parse_args(argv)
    names = [*options.names, *options.autoencoder]
    names += [_labeled("--external", text, "external") for text in options.external]
    names += [_labeled("--command", text, "external-command") for text in options.command]
    if not names:
        raise UsageError("nothing to compare: give a NAME, --external NAME=DIR or --command NAME=TEMPLATE")
    if options.output is not None:
        check_folder("-o", options.output)
    try:
        run = RunOptions(
            overwrite=options.overwrite,
            limit=options.limit,
            dry_run=options.dry_run,
            device=options.device,
            quiet=options.quiet,
        )
        executor = make_executor(options.executor, workers=options.workers, address=options.address)
    except ValueError as error:
        raise UsageError(str(error)) from None
    from benchmarks.compare.systems import compare
    from benchmarks.evaluation.plan import Planner

    suite = load_suite(options.suite)
    store = open_store(options.store)
    with executor:
        found = compare(
            Planner(suite, run),
            store,
            executor,
            names,
            baselines=_list(options.against),
            metrics=_list(options.metrics),
            system_options=_options(options.option),
        )
    for line in found.warnings:
        print(f"warning: {line}", file=sys.stderr)
    if options.dry_run:
        print("\n".join(describe_pending(found.report, store, getattr(executor, "workers", 1))))
        return OK
    if options.output is not None:
        print("written:", *(str(path) for path in found.write(options.output)), file=sys.stderr)
    print(found.render(options.format))
    lost = say_left_out(found.report)
    if found.report.failed:
        causes = sorted({f"{d.stage} {d.name}: {d.error}" for d in found.report.failed.values()})
        print(f"{len(found.report.failed)} units failed:", *causes, sep="\n  ", file=sys.stderr)
        if options.verbose:
            print_details(found.report)
        return failed_status(found.report)
    return MISSING if lost or not found.measured else OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2l-bench compare",
        description="Measure what is missing, and print new systems beside a suite's baselines.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="systems to compare, see below")
    add("--autoencoder", action="append", default=[], metavar="NAME", help="the same as NAME")
    add("--external", action="append", default=[], metavar="NAME=DIR", help="a folder of reconstructed files")
    add("--command", action="append", default=[], metavar="NAME=TEMPLATE", help="a program run once per clip")
    add(
        "--suite", default="synthetic", metavar="NAME|FILE", help="a shipped suite or a TOML file (synthetic)"
    )
    add("--against", action="append", metavar="NAMES", help="baselines (default: Table 2 of the suite)")
    add("--metrics", action="append", metavar="NAMES", help="columns (default: Table 2 of the suite)")
    add(
        "--option",
        action="append",
        default=[],
        metavar="NAME.KEY=VALUE",
        help="an option of a system, VALUE as in TOML",
    )
    add("--limit", type=int, default=0, metavar="N", help="use only the first N clips")
    add("--executor", default="loky", choices=EXECUTORS, help="who computes (loky: local processes)")
    add("--workers", type=int, metavar="N", help="local workers (default: the CPUs this process may use)")
    add("--address", metavar="URL", help="a running dask scheduler or ray cluster")
    add("--overwrite", default="missing", choices=OVERWRITE, help="what to compute again (missing)")
    add("--device", default="cpu", help="device of neural systems and embedders (cpu)")
    add("--store", metavar="DIR", help="where results of work units are kept (default: in the cache folder)")
    add("--dry-run", action="store_true", help="say what would run and how long, and stop")
    add("--quiet", action="store_true", help="no progress on stderr")
    add("-v", "--verbose", action="store_true", help="show tracebacks of your own code's errors")
    add("-o", "--output", type=Path, metavar="DIR", help="also write compare.json, .csv and .md there")
    add("--format", default="md", choices=("md", "csv", "json"), help="what is printed (md)")
    add("--json", dest="format", action="store_const", const="json", help="same as --format json")
    return parser


def _labeled(flag: str, text: str, kind: str) -> str:
    """`NAME=ARGUMENT` of a flag as the name of a system.

    Raises:
        UsageError: not of that form.
    """
    label, equals, argument = text.partition("=")
    if not (label and equals and argument) or not all(c.isalnum() or c in "_.+@- " for c in label):
        raise UsageError(f"{flag} {text!r} is not of the form NAME=...")
    return f"{label}={kind}:{argument}"


def _list(items: Sequence[str] | None) -> list[str] | None:
    """Names from a repeatable, comma-separated option; None when it was not given."""
    if items is None:
        return None
    return [name.strip() for item in items for name in item.split(",") if name.strip()]


def _options(items: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`NAME.KEY=VALUE` options by name.

    Raises:
        UsageError: not of that form, or not a TOML value.
    """
    from benchmarks.suite import tomllib

    found: dict[str, dict[str, Any]] = {}
    for item in items:
        left, equals, value = item.partition("=")
        name, dot, key = left.rpartition(".")
        if not (name and dot and key.isidentifier() and equals):
            raise UsageError(f"--option {item!r} is not of the form NAME.KEY=VALUE")
        try:
            found.setdefault(name, {})[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found.setdefault(name, {})[key] = value  # a string without quotes
    return found
