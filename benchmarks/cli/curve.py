"""`m2l-bench curve`: how good a training run was at each checkpoint it kept."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cli.options import open_store
from benchmarks.errors import FAILED, MISSING, OK, UsageError, check_folder
from benchmarks.evaluation.left_out import say_left_out
from benchmarks.harness.executors import EXECUTORS, make_executor
from benchmarks.harness.run import RunOptions, describe_pending
from benchmarks.suite import load_suite
from benchmarks.tables.places import stem_for
from m2l.io.atomic import write_atomic


def main(argv: Sequence[str]) -> int:
    """Measure what is missing and print the curve; exit code 0, 1 failed units, 3 nothing measured or clips lost."""
    options = _parser().parse_args(argv)
    if options.output is not None:
        check_folder("-o", options.output)
    try:
        run = RunOptions(
            limit=options.limit, dry_run=options.dry_run, device=options.device, quiet=options.quiet
        )
        executor = make_executor(options.executor, workers=options.workers)
    except ValueError as error:
        raise UsageError(str(error)) from None
    from benchmarks.compare.curve import CONTROLS, RunError, curve_json, measure_curve
    from benchmarks.evaluation.plan import Planner

    suite = load_suite(options.suite)
    store = open_store(options.store)
    controls = CONTROLS if options.against is None else _names(options.against)
    metrics = None if options.metrics is None else _names(options.metrics)
    try:
        with executor:
            planner = Planner(suite, run)
            found = measure_curve(planner, store, executor, options.run, metrics=metrics, controls=controls)
    except RunError as error:
        raise FileNotFoundError(str(error)) from None
    if options.dry_run:
        print("\n".join(describe_pending(found.report, store, getattr(executor, "workers", 1))))
        return OK
    text = curve_json(found, options.run) if options.json else found.to_markdown()
    if options.output is not None:
        stem = stem_for(options.output, "curve", failed=bool(found.report.failed))
        for suffix, content in (("json", curve_json(found, options.run)), ("md", found.to_markdown())):
            write_atomic(options.output / f"{stem}.{suffix}", content)
        print(f"written: {options.output}/{stem}.json and {stem}.md", file=sys.stderr)
    print(text, end="" if text.endswith("\n") else "\n")
    lost = say_left_out(found.report)
    if found.report.failed:
        causes = sorted({f"{done.stage} {done.name}: {done.error}" for done in found.report.failed.values()})
        print(f"{len(found.report.failed)} units failed:", *causes, sep="\n  ", file=sys.stderr)
        return FAILED
    return MISSING if lost or not found.measured else OK


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2l-bench curve",
        description="Measure the initial weights and all kept checkpoints of a training run (m2l train "
        "--milestone N keeps every N-th step) on a suite, and compare each with the last on the same clips.",
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of the run")
    add("--suite", default="synthetic", metavar="NAME|FILE", help="what they are measured on (synthetic)")
    add("--metrics", metavar="NAMES", help="columns (default: Table 2 of the suite)")
    add("--against", metavar="NAMES", help="other systems beside them (default: mel-griffinlim); '' for none")
    add("--limit", type=int, default=0, metavar="N", help="use only the first N clips")
    add("--executor", default="loky", choices=EXECUTORS, help="who computes (loky: local processes)")
    add("--workers", type=int, metavar="N", help="local workers (default: the CPUs this process may use)")
    add("--device", default="cpu", help="device of the models (cpu)")
    add("--store", metavar="DIR", help="where results of work units are kept (default: in the cache folder)")
    add("--dry-run", action="store_true", help="say what would run and how long, and stop")
    add("--quiet", action="store_true", help="no progress on stderr")
    add("-o", "--output", type=Path, metavar="DIR", help="also write curve.json and curve.md there")
    add("--json", action="store_true", help="JSON on stdout")
    return parser
