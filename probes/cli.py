"""`m2l-bench probe run | table | list | import-mir-ref | export-mir-ref`; `python -m probes` is the same."""

from __future__ import annotations

import json as jsons
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from benchmarks.cli.options import WORK, Format, Json, Output, Work, finish
from benchmarks.errors import FAILED, OK, UsageError, check_folder
from m2l.cli.plain import Whole, new_app

if TYPE_CHECKING:
    from probes.request import Request
    from probes.runner import ProbeRun

app = new_app("probe", "Evaluate representations on the tasks of Table 1.")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class What:
    """What is evaluated.

    Attributes:
        task: task to evaluate on, or folder:PATH of audio with a table labels.csv; may be repeated
        representation: registered name, NAME@OUTPUT, module:Class (extract returns (n_frames, dim)), npy:FOLDER,
            hear:MODULE, autoencoder:NAME, music2latent:PATH, or chance; may be repeated
        protocol: mir_ref-1 or strict-1
        seeds: number of seeds
        deform: also test on deformed clips: noise:15, mp3:64, pitch:1, …; may be repeated
        shuffle_labels: permute training labels: scores must fall to chance
    """

    task: Annotated[list[str], Parameter(metavar="NAME")]
    representation: Annotated[list[str], Parameter(metavar="NAME")]
    protocol: Annotated[str, Parameter(metavar="NAME")] = "mir_ref-1"
    seeds: Whole = 5
    deform: Annotated[tuple[str, ...], Parameter(metavar="SPEC")] = ()
    shuffle_labels: bool = False

    def request(self) -> Request:
        """The request for `probes.runner`.

        Raises:
            UsageError: a value that makes no sense.
        """
        from probes.deformations import parse_deformation
        from probes.protocol import get_protocol, seeds_from
        from probes.request import Request

        try:
            deformations = tuple(str(parse_deformation(text)) for text in self.deform)
            seeds = tuple(seeds_from(0, self.seeds))
        except ValueError as error:
            raise UsageError(str(error)) from None
        return Request(
            tasks=tuple(dict.fromkeys(self.task)),
            representations=tuple(dict.fromkeys(self.representation)),
            protocol=get_protocol(self.protocol),
            seeds=seeds,
            deformations=deformations,
            shuffle_labels=self.shuffle_labels,
        )


@app.command
def run(*, what: What, work: Work = WORK, output: Output = None, json: Json = False) -> int:
    """Evaluate representations on tasks.

    Args:
        output: write one result file and the predictions per cell to this folder
    """
    if output is not None:
        check_folder("--output", output)
    return _show([_evaluate(what.request(), work)], work, output, json)


@app.command
def table(*, what: What, work: Work = WORK, format: Format = "md") -> int:
    """Evaluate representations on tasks and print Table 1."""
    from probes.table1 import table_of

    found = _evaluate(what.request(), work)
    print(table_of(found, "probe", "command line").render(format))
    return _status(found, work)


@app.command(name="list")
def list_names(
    kind: Literal["tasks", "representations", "protocols"] | None = None, /, *, check: bool = False, json: Json = False
) -> int:
    """List tasks, representations and protocols.

    Args:
        kind: one kind of names (default: all)
        check: say which data and weights are available
    """
    from probes.listing import listing

    kinds = [kind] if kind else ["tasks", "representations", "protocols"]
    found = {name: listing(name, check=check) for name in kinds}
    if json:
        print(jsons.dumps(found, indent=2, sort_keys=True))
        return OK
    for name, entries in found.items():
        if len(found) > 1:
            print(f"{name}:")
        for entry, text in entries.items():
            indent = "  " if len(found) > 1 else ""
            print(f"{indent}{entry:24}{text}".rstrip())
    return OK


@app.command(name="import-mir-ref")
def import_mir_ref(
    config: str,
    /,
    *,
    seeds: Whole = 5,
    work: Work = WORK,
    show: Annotated[bool, Parameter(name="--print")] = False,
    output: Output = None,
    json: Json = False,
) -> int:
    """Run an experiment file (YAML) of mir_ref.

    Args:
        config: mir_ref's experiment file
        seeds: number of seeds
        show: only show what it means here
        output: write one result file and the predictions per cell to this folder
    """
    from probes.mirref import read_experiments, requests_of

    if seeds < 1:
        raise UsageError(f"at least one seed is needed, got {seeds}")
    if output is not None:
        check_folder("--output", output)
    planned = requests_of(read_experiments(config), n_seeds=seeds)
    if show:
        print(jsons.dumps([item.describe() for item in planned], indent=2))
        return OK
    runs = []
    for item in planned:
        for warning in item.warnings:
            print(f"note: {warning}", file=sys.stderr)
        runs.append(_evaluate(item.request, work))
    return _show(runs, work, output, json)


@app.command(name="export-mir-ref")
def export_mir_ref(
    *, what: What, work: Work = WORK, features: Annotated[Path | None, Parameter(metavar="DIR")] = None
) -> int:
    """Print a request as an experiment file of mir_ref.

    Args:
        features: mir_ref's folder of data sets: also write features where mir_ref reads them
    """
    from probes.mirref import export_experiments
    from probes.mirref_features import export_features

    if features is not None:
        check_folder("--features", features)
    request = what.request()
    # The experiment file is the result; with features it names the folder that they are in.
    print(export_experiments(request, str(features or "data")), end="")
    if features is None:
        return OK
    found = _evaluate(request, work)
    left_out = 0
    for path, why in export_features(found, features, work.store, work.device):
        print(f"written: {path}" if why is None else f"left out: {path}: {why}", file=sys.stderr)
        left_out += why is not None
    return _status(found, work) or (FAILED if left_out else OK)


def _evaluate(request: Request, work: Work) -> ProbeRun:
    from probes.runner import run as evaluate

    if work.device != "cpu":
        import torch

        try:
            torch.empty(0, device=work.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(f"--device {work.device} cannot be used: {reason}") from None
    how, executor, store = work.open(refuse_broken=True)
    return evaluate(request, store, executor, how)


def _show(runs: Sequence[ProbeRun], work: Work, output: Path | None, json: bool) -> int:
    """Write and print one or more runs; several have a folder each."""
    from probes.results import cell_records, lines_of, write_results

    for number, found in enumerate(runs, 1):
        if output is not None:
            folder = output / (f"{number:02d}" if len(runs) > 1 else "")
            for path in write_results(found, folder):
                print(f"written: {path}", file=sys.stderr)
    if json:
        records: list[Any] = [record for found in runs for record in cell_records(found)]
        print(jsons.dumps(records, indent=2, sort_keys=True))
    else:
        print("\n".join(line for found in runs for line in lines_of(found)))
    # 1 (failed units) goes before 3 (no score)
    return min((status for found in runs if (status := _status(found, work))), default=OK)


def _status(found: ProbeRun, work: Work) -> int:
    for line in found.warnings:
        print(f"warning: {line}", file=sys.stderr)
    measured = all(cell.reason is None for cell in found.cells)
    return finish(found.report, verbose=work.verbose, measured=measured)
