"""`m2l-bench score`: two folders or two files, no suite."""

from __future__ import annotations

import json as jsons
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from benchmarks.cli.options import MACHINE, Device, Json, Machine, Names, finish, split_names
from benchmarks.errors import UsageError, check_folder
from m2l.io.atomic import write_atomic

if TYPE_CHECKING:
    from benchmarks.compare.score import Scored

_MOST_NAMED = 5


def score(
    reference: Path,
    degraded: Path,
    /,
    *,
    metrics: Names = None,
    unpaired: bool = False,
    per_file: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    device: Device = "cpu",
    machine: Machine = MACHINE,
    json: Json = False,
) -> int:
    """Score audio files against their originals.

    Files belong together by their path below the folders; the suffix may differ. Those without a partner are named.
    Files of one sub-folder are a group for the intervals. What has been measured before is not measured again.

      m2l-bench score originals/ decoded/
      m2l-bench score song.wav song.opus --metrics si_sdr,visqol
      m2l-bench score originals/ generated/ --unpaired --metrics fad:vggish

    Args:
        reference: folder of originals, or one file
        degraded: folder of outputs, or one file
        metrics: columns (default: all of pairs that need no weights; see m2l-bench list metrics)
        unpaired: compare the folders as sets, with fad, fad_inf or kad
        per_file: also write the scores of files, as CSV, or as JSON if the name ends in .json
    """
    if per_file is not None:
        check_folder("--per-file", per_file.parent)
        if per_file.suffix.lower() not in (".csv", ".json"):
            raise UsageError(f"--per-file {per_file}: expected a name that ends in .csv or .json")
    run, executor, store = machine.open(device=device)
    from benchmarks.compare.score import score_folders, summary

    with executor:
        found = score_folders(reference, degraded, split_names(metrics), run, store, executor, unpaired=unpaired)
    for side, names in found.alone.items():
        if names:
            more = ", …" if len(names) > _MOST_NAMED else ""
            print(f"without a partner in {side}: {len(names)}: {', '.join(names[:_MOST_NAMED])}{more}", file=sys.stderr)
    if per_file is not None:
        _write(per_file, found)
    print(jsons.dumps(summary(found), indent=2, ensure_ascii=False) if json else _table(found))
    return finish(found.report, verbose=machine.verbose, measured=found.measured)


def _write(path: Path, found: Scored) -> None:
    """The scores of files."""
    if path.suffix.lower() == ".json":
        text = jsons.dumps(found.rows(), indent=1, ensure_ascii=False)
    else:
        text = found.frame().to_csv(index=False, lineterminator="\n")
    write_atomic(path, text.encode())


def _table(found: Scored) -> str:
    """The means with their intervals in Markdown, the reasons below."""
    from benchmarks.tables.text import number_text

    lines = [f"| metric | mean | {found.level:.0%} interval | median | n |", "|---|--:|:-:|--:|--:|"]
    for metric in found.metrics:
        cell = found.cells[metric.name]
        mean, low, high, median = (
            number_text(value, metric.digits) for value in (cell.value, cell.low, cell.high, cell.median)
        )
        unit = f" ({metric.unit})" if metric.unit else ""
        arrow = "↑" if metric.higher_is_better else "↓"
        interval = f"{low} … {high}" if cell.low is not None and cell.low == cell.low else number_text(None, 0)
        lines.append(f"| {metric.title}{unit} {arrow} | {mean} | {interval} | {median} | {cell.n} |")
    lines += ["", found.description]
    for metric in found.metrics:
        if reason := found.cells[metric.name].reason:
            lines.append(f"{metric.title}: {reason}")
    return "\n".join(lines)
