"""`m2l-bench compare` and `curve`: your autoencoder beside a suite's baselines, a training run at its checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from benchmarks.cli.options import (
    WORK,
    DryRun,
    Json,
    JsonFormat,
    Names,
    Output,
    SuiteName,
    Work,
    finish,
    split_names,
    toml_setting,
)
from benchmarks.errors import OK, UsageError, check_folder
from benchmarks.registry import load_target
from benchmarks.suite import load_suite

if TYPE_CHECKING:
    from benchmarks.tables.table import TableResult


def compare(
    *names: str,
    external: Annotated[list[str] | None, Parameter(metavar="NAME=DIR")] = None,
    command: Annotated[list[str] | None, Parameter(metavar="NAME=TEMPLATE")] = None,
    suite: SuiteName = "synthetic",
    against: Names = None,
    metrics: Names = None,
    only: Annotated[Literal["1", "2"], Parameter(metavar="N")] = "2",
    option: Annotated[list[str] | None, Parameter(metavar="NAME.KEY=VALUE")] = None,
    work: Work = WORK,
    dry_run: DryRun = False,
    output: Output = None,
    format: Literal["md", "csv", "json"] = "md",
    json: JsonFormat = False,
) -> int:
    """Measure what the store lacks, and print new systems beside a suite's baselines.

    A NAME is a registered system (`m2l-bench list autoencoders`), music2latent:DIR for a checkpoint, module:Class or
    FILE.py:Class for a class of your own; LABEL=NAME gives the row another title.

      m2l-bench compare codec.py:Codec
      m2l-bench compare --external mine=reconstructions/ --suite open
      m2l-bench compare --command "mine=/opt/env/bin/python codec.py {input} {output}" --option mine.timeout=60

    Args:
        names: systems to compare
        external: a system whose reconstructions are files in a folder; may be repeated
        command: a system that is a program, run once per clip; may be repeated
        against: baselines (default: Table 2 of the suite)
        metrics: columns (default: Table 2 of the suite)
        only: 2 compares reconstructions (Table 2), 1 probes features and latents (Table 1)
        option: an option of a system, VALUE as in TOML; may be repeated
        output: also write compare.json, .csv and .md to this folder
        format: format of what is printed
    """
    systems = [*names]
    systems += [_labeled("--external", text, "external") for text in external or ()]
    systems += [_labeled("--command", text, "external-command") for text in command or ()]
    if not systems:
        raise UsageError("nothing to compare: give a NAME, --external NAME=DIR or --command NAME=TEMPLATE")
    if output is not None:
        check_folder("-o", output)
    run, executor, store = work.open(dry_run=dry_run)
    if only == "1":
        if metrics or option:
            raise UsageError("--only 1: the tasks decide the metrics; --metrics and --option belong to Table 2")
        table1 = load_target("probes.evaluation:compare_table1")
        with executor:
            made, probed = table1(load_suite(suite), store, executor, run, systems, split_names(against))
        return _show_table1(made, probed, work, output, "json" if json else format)
    from benchmarks.compare.systems import compare as measure
    from benchmarks.evaluation.plan import Planner
    from benchmarks.status.dry_run import describe, weighed

    planner = Planner(load_suite(suite), run)
    with executor:
        found = measure(
            planner,
            store,
            executor,
            systems,
            baselines=split_names(against),
            metrics=split_names(metrics),
            system_options=_options(option or []),
        )
    for line in found.warnings:
        print(f"warning: {line}", file=sys.stderr)
    if run.dry_run:
        print(describe(weighed(found.report, planner.suite, run, store), getattr(executor, "workers", 1)))
        return OK
    if output is not None:
        print("written:", *(str(path) for path in found.write(output)), file=sys.stderr)
    print(found.render("json" if json else format))
    return finish(found.report, verbose=work.verbose, measured=found.measured)


def _show_table1(table: TableResult, probed: Any, work: Work, output: Path | None, format: str) -> int:
    """Print Table 1 with new rows, or what would run."""
    for line in probed.warnings:
        print(f"warning: {line}", file=sys.stderr)
    if probed.report.planned:
        print(f"{len(probed.report.pending)} units would run")
        return OK
    if output is not None:
        print("written:", *(str(path) for path in table.write(output, "compare")), file=sys.stderr)
    print(table.render(format))
    return finish(probed.report, verbose=work.verbose, measured=table.measured)


def curve(
    run: Path,
    /,
    *,
    suite: SuiteName = "synthetic",
    metrics: Names = None,
    against: Names = None,
    work: Work = WORK,
    dry_run: DryRun = False,
    output: Output = None,
    json: Json = False,
) -> int:
    """Measure the initial weights and all kept checkpoints of a training run on a suite.

    `m2l train --milestone N` keeps every N-th step. Each checkpoint is compared with the last on the same clips.

    Args:
        run: folder of the training run
        metrics: columns (default: Table 2 of the suite)
        against: other systems in the table (default: mel-griffinlim; '' for none)
        output: also write curve.json and curve.md to this folder
    """
    if output is not None:
        check_folder("-o", output)
    options, executor, store = work.open(dry_run=dry_run)
    from benchmarks.compare.curve import CONTROLS, RunError, curve_json, measure_curve, write_curve
    from benchmarks.evaluation.plan import Planner
    from benchmarks.status.dry_run import describe, weighed

    controls = CONTROLS if against is None else split_names(against) or []
    try:
        planner = Planner(load_suite(suite), options)
        with executor:
            found = measure_curve(planner, store, executor, run, metrics=split_names(metrics), controls=controls)
    except RunError as error:
        raise FileNotFoundError(str(error)) from None
    if options.dry_run:
        print(describe(weighed(found.report, planner.suite, options, store), getattr(executor, "workers", 1)))
        return OK
    if output is not None:
        print(f"written: {write_curve(found, run, output)}", file=sys.stderr)
    print((curve_json(found, run) if json else found.to_markdown()).rstrip("\n"))
    return finish(found.report, verbose=work.verbose, measured=found.measured)


def _labeled(flag: str, text: str, kind: str) -> str:
    """`NAME=ARGUMENT` of a flag as the name of a system.

    Raises:
        UsageError: not of that form.
    """
    label, equals, argument = text.partition("=")
    if not (label and equals and argument) or not all(c.isalnum() or c in "_.+@- " for c in label):
        raise UsageError(f"{flag} {text!r} is not of the form NAME=...")
    return f"{label}={kind}:{argument}"


def _options(items: list[str]) -> dict[str, dict[str, Any]]:
    """`NAME.KEY=VALUE` options by name.

    Raises:
        UsageError: not of that form.
    """
    found: dict[str, dict[str, Any]] = {}
    for item in items:
        left, value = toml_setting("--option", item, "NAME.KEY=VALUE")
        name, dot, key = left.rpartition(".")
        if not (name and dot and key.isidentifier()):
            raise UsageError(f"--option {item!r} is not of the form NAME.KEY=VALUE")
        found.setdefault(name, {})[key] = value
    return found
