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
    """Run a sub-command; returns the exit code (0 fine, 1 failed units, 2 usage, 3 nothing measurable)."""
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
    exported.add_argument("--features", metavar="DIR", help="also write features, laid out as mir_ref's")
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
        help="registered name, NAME@OUTPUT, module:Class, npy:FOLDER, hear:MODULE, autoencoder:NAME, "
        "music2latent:PATH, or chance; may be repeated",
    )
    add("--protocol", default="mir_ref-1", help="mir_ref-1 (default) or strict-1")
    add("--deform", action="append", default=[], metavar="SPEC", help="e.g. noise:15, mp3:64, pitch:1")
    add("--shuffle-labels", action="store_true", help="permute training labels: scores must fall to chance")


def _add_how(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seeds", type=int, default=5, metavar="N", help="number of seeds (5)")
    add("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (1000)")
    add("--executor", default="loky", help="serial, loky, dask or ray (loky)")
    add("--workers", type=int, metavar="N", help="local workers")
    add("--device", default="cpu", help="where neural networks run (cpu)")
    add("--store", metavar="DIR", help="where results of work units are kept (default: in the cache folder)")
    add("--overwrite", default="missing", help="missing, always or cache-only (missing)")
    add("--quiet", action="store_true", help="no progress on stderr")
    add("-v", "--verbose", action="store_true", help="show tracebacks of your own code's errors")


def _request(options: argparse.Namespace) -> Any:
    from benchmarks.cli import UsageError
    from probes.deformations import parse_deformation
    from probes.protocol import get_protocol, seeds_from
    from probes.runner import Request

    try:
        deformations = tuple(str(parse_deformation(text)) for text in options.deform)
        seeds = tuple(seeds_from(0, options.seeds))
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


def _evaluate(request: Any, options: argparse.Namespace) -> Any:
    from benchmarks.cache import Store
    from benchmarks.cli import UsageError
    from benchmarks.cli_tables import print_details
    from benchmarks.executors import make_executor
    from benchmarks.pipeline import RunOptions
    from probes.runner import run

    try:
        how = RunOptions(
            overwrite=options.overwrite, device=options.device, quiet=options.quiet, refuse_broken=True
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
    measured = any(cell.reason is None for cell in found.cells if cell.representation != "chance")
    return OK if measured or all(cell.representation == "chance" for cell in found.cells) else MISSING


def _run(options: argparse.Namespace) -> int:
    return _show(_evaluate(_request(options), options), options)


def _show(found: Any, options: argparse.Namespace) -> int:
    from probes.results import cell_records, lines_of, write_results

    if options.output:
        for path in write_results(found, Path(options.output)):
            print(f"written: {path}", file=sys.stderr)
    if options.json:
        print(json.dumps(cell_records(found), indent=2, sort_keys=True))
    else:
        print("\n".join(lines_of(found)))
    return _status(found)


def _table(options: argparse.Namespace) -> int:
    from probes.table1 import table_of

    found = _evaluate(_request(options), options)
    print(table_of(found, "probe", "command line").render(options.format))
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
    from probes.mirref import read_experiments, requests_of

    experiments = read_experiments(options.config)
    planned = requests_of(experiments, n_seeds=options.seeds, resamples=options.resamples)
    if options.show:
        print(json.dumps([item.describe() for item in planned], indent=2))
        return OK
    status = OK
    for item in planned:
        for warning in item.warnings:
            print(f"note: {warning}", file=sys.stderr)
        status = max(status, _show(_evaluate(item.request, options), options))
    return status


def _export(options: argparse.Namespace) -> int:
    from probes.mirref import export_experiments, export_features

    request = _request(options)
    print(export_experiments(request), end="")
    if options.features:
        found = _evaluate(request, options)
        for path in export_features(found, Path(options.features), options.store, options.device):
            print(f"written: {path}", file=sys.stderr)
        return _status(found)
    return OK
