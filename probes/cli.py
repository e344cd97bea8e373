"""`m2l-bench probe run | table | list | import-mir-ref | export-mir-ref` (= `python -m probes …`)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OK, FAILED, USAGE, MISSING = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command; returns the exit code (0 fine, 1 failed units, 2 usage, 3 a cell that has no score)."""
    options = _parser().parse_args(argv)
    return int(options.call(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="m2l-bench probe", description="Probing of representations.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="evaluate representations on tasks")
    _add_what(run)
    _add_how(run)
    run.add_argument("--output", metavar="DIR", help="write one result file and the predictions per cell")
    run.add_argument("--json", action="store_true", help="JSON on stdout")
    run.set_defaults(call=_run)
    table = commands.add_parser("table", help="evaluate and print as Table 1")
    _add_what(table)
    _add_how(table)
    table.add_argument("--format", default="md", choices=("md", "csv", "json", "latex"))
    table.set_defaults(call=_table)
    listing = commands.add_parser("list", help="tasks, representations, protocols")
    listing.add_argument("kind", nargs="?", choices=("tasks", "representations", "protocols"))
    listing.add_argument("--check", action="store_true", help="say which data and weights are there")
    listing.add_argument("--json", action="store_true", help="JSON on stdout")
    listing.set_defaults(call=_list)
    imported = commands.add_parser("import-mir-ref", help="run a mir_ref experiment file (YAML)")
    imported.add_argument("config", metavar="CONFIG", help="mir_ref's experiment file")
    imported.add_argument("--print", dest="show", action="store_true", help="only show what it means here")
    imported.add_argument("--output", metavar="DIR", help="as for run")
    imported.add_argument("--json", action="store_true", help="JSON on stdout")
    _add_how(imported)
    imported.set_defaults(call=_import)
    exported = commands.add_parser("export-mir-ref", help="write the request as a mir_ref experiment file")
    _add_what(exported)
    exported.add_argument(
        "--features",
        metavar="DIR",
        help="mir_ref's folder of data sets: also write features where mir_ref reads them",
    )
    _add_how(exported)
    exported.set_defaults(call=_export)
    return parser


def _add_what(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", action="append", required=True, metavar="NAME", help="may be repeated")
    add(
        "--representation",
        action="append",
        required=True,
        metavar="NAME",
        help="registered name, NAME@OUTPUT, module:Class (extract returns (n_frames, dim)), "
        "npy:FOLDER, hear:MODULE, autoencoder:NAME, "
        "music2latent:PATH, or chance; may be repeated",
    )
    add("--protocol", default="mir_ref-1", help="mir_ref-1 (default) or strict-1")
    add("--deform", action="append", default=[], metavar="SPEC", help="e.g. noise:15, mp3:64, pitch:1")
    add("--shuffle-labels", action="store_true", help="permute training labels: scores must fall to chance")


def _add_how(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seeds", type=int, default=5, metavar="N", help="number of seeds (5)")
    add("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (1000)")
    add(
        "--limit",
        type=int,
        default=0,
        metavar="N",
        help="only the first N clips of train, validation and test each, and at least one of every class",
    )
    add("--executor", default="loky", help="serial, loky, dask or ray (loky)")
    add("--workers", type=int, metavar="N", help="local workers")
    add("--device", default="cpu", help="where neural networks run (cpu)")
    add("--store", metavar="DIR", help="where results of work units are kept (default: in the cache folder)")
    add("--overwrite", default="missing", help="missing, always or cache-only (missing)")
    add("--quiet", action="store_true", help="no progress on stderr")
    add("-v", "--verbose", action="store_true", help="show tracebacks of your own code's errors")


def _request(options: argparse.Namespace) -> Any:
    from benchmarks.errors import UsageError
    from probes.deformations import parse_deformation
    from probes.protocol import get_protocol, seeds_from
    from probes.request import Request

    try:
        deformations = tuple(str(parse_deformation(text)) for text in options.deform)
        seeds = tuple(seeds_from(0, options.seeds))
        _check_options(options)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return Request(
        tasks=tuple(dict.fromkeys(options.task)),
        representations=tuple(dict.fromkeys(options.representation)),
        protocol=get_protocol(options.protocol),
        seeds=seeds,
        resamples=options.resamples,
        deformations=deformations,
        shuffle_labels=options.shuffle_labels,
    )


def _check_options(options: argparse.Namespace) -> None:
    """Refuse, before anything is computed, what could not be done or written after it.

    Raises:
        UsageError: naming the option.
    """
    from benchmarks.errors import UsageError

    if options.resamples < 0:
        raise UsageError(f"--resamples must be at least 0, got {options.resamples}")
    for name in ("output", "features", "store"):
        folder = getattr(options, name, None)
        if folder and Path(folder).exists() and not Path(folder).is_dir():
            raise UsageError(f"--{name} {folder}: it is not a folder")
    if options.device != "cpu":
        import torch

        try:
            torch.empty(0, device=options.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(f"--device {options.device} cannot be used: {reason}") from None


def _evaluate(request: Any, options: argparse.Namespace) -> Any:
    from benchmarks.cli.tables import print_details
    from benchmarks.errors import UsageError
    from benchmarks.harness.executors import make_executor
    from benchmarks.harness.run import RunOptions
    from benchmarks.store.store import Store
    from probes.runner import run

    try:
        how = RunOptions(
            overwrite=options.overwrite,
            limit=options.limit,
            device=options.device,
            quiet=options.quiet,
            refuse_broken=True,
        )
        executor = make_executor(options.executor, workers=options.workers)
    except ValueError as error:
        raise UsageError(str(error)) from None
    found = run(request, Store(options.store), executor, how)
    if options.verbose:
        print_details(found.report)
    return found


def _status(found: Any) -> int:
    if found.report.failed:
        for done in found.report.failed.values():
            print(f"failed: {done.stage} {done.name}: {done.error}", file=sys.stderr)
        return MISSING if all(done.own for done in found.report.failed.values()) else FAILED
    missing = [cell for cell in found.cells if cell.reason is not None]
    return MISSING if missing else OK


def _run(options: argparse.Namespace) -> int:
    return _show([_evaluate(_request(options), options)], options)


def _show(runs: Sequence[Any], options: argparse.Namespace) -> int:
    """Write and print one or more runs; several have a folder each."""
    from probes.results import cell_records, lines_of, write_results

    for number, found in enumerate(runs, 1):
        if options.output:
            folder = Path(options.output) / (f"{number:02d}" if len(runs) > 1 else "")
            for path in write_results(found, folder):
                print(f"written: {path}", file=sys.stderr)
    if options.json:
        print(
            json.dumps([record for found in runs for record in cell_records(found)], indent=2, sort_keys=True)
        )
    else:
        print("\n".join(line for found in runs for line in lines_of(found)))
    for found in runs:
        _warn(found)
    # 1 (failed units) goes before 3 (no score)
    return min((status for found in runs if (status := _status(found))), default=OK)


def _warn(found: Any) -> None:
    for line in found.warnings:
        print(f"warning: {line}", file=sys.stderr)


def _table(options: argparse.Namespace) -> int:
    from probes.table1 import table_of

    found = _evaluate(_request(options), options)
    print(table_of(found, "probe", "command line").render(options.format))
    _warn(found)
    return _status(found)


def _list(options: argparse.Namespace) -> int:
    from probes.listing import listing

    kinds = [options.kind] if options.kind else ["tasks", "representations", "protocols"]
    found = {kind: listing(kind, check=options.check) for kind in kinds}
    if options.json:
        print(json.dumps(found, indent=2, sort_keys=True))
        return OK
    for kind, entries in found.items():
        if len(found) > 1:
            print(f"{kind}:")
        for name, text in entries.items():
            indent = "  " if len(found) > 1 else ""
            print(f"{indent}{name:24}{text}".rstrip())
    return OK


def _import(options: argparse.Namespace) -> int:
    from benchmarks.errors import UsageError
    from probes.mirref import read_experiments, requests_of

    if options.seeds < 1:
        raise UsageError(f"at least one seed is needed, got {options.seeds}")
    _check_options(options)
    experiments = read_experiments(options.config)
    planned = requests_of(experiments, n_seeds=options.seeds, resamples=options.resamples)
    if options.show:
        print(json.dumps([item.describe() for item in planned], indent=2))
        return OK
    runs = []
    for item in planned:
        for warning in item.warnings:
            print(f"note: {warning}", file=sys.stderr)
        runs.append(_evaluate(item.request, options))
    return _show(runs, options)


def _export(options: argparse.Namespace) -> int:
    from probes.mirref import export_experiments
    from probes.mirref_features import export_features

    request = _request(options)
    # The experiment file is the result; with features it names the folder that they are in.
    print(export_experiments(request, options.features or "data"), end="")
    if not options.features:
        return OK
    found = _evaluate(request, options)
    left_out = 0
    for path, why in export_features(found, Path(options.features), options.store, options.device):
        print(f"written: {path}" if why is None else f"left out: {path}: {why}", file=sys.stderr)
        left_out += why is not None
    return _status(found) or (FAILED if left_out else OK)
