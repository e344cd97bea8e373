"""Columns of the tables, and what stands beside and below their measured cells: costs, metadata, notes, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import m2l
from benchmarks.evaluation.cells import Cell, Column, tidy
from benchmarks.evaluation.measure import Measured
from benchmarks.evaluation.systems import SystemRow
from benchmarks.metrics.base import Metric
from benchmarks.store.fingerprint import library_versions
from benchmarks.store.processor import processor
from benchmarks.suite import Suite

COST_COLUMNS = (
    Column("n_parameters", "params", None, 2, unit="M"),
    Column("latent_rate", "latent rate", None, 2, unit="Hz"),
    Column("latent_dim", "latent dim", None, 0),
    Column("compression_ratio", "compression ratio", None, 1),
    Column("bitrate", "bit rate", None, 1, unit="kbit/s", note="measured from the bytes, median of clips"),
)


def metric_columns(metrics: Sequence[Metric], cells: Mapping[tuple[str, str], Cell]) -> list[Column]:
    """Columns of metrics; where two would have one title, the embedder's name tells them apart.

    Args:
        metrics: in order.
        cells: (row, metric) -> cell; a distance's note says how many windows it rests on.
    """
    columns = [
        Column(m.name, m.title, m.higher_is_better, m.digits, note=f"{m.note}{_windows(m.name, cells)}")
        for m in metrics
    ]
    titles = [column.title for column in columns]
    return [
        replace(column, title=f"{column.title} [{column.key.partition(':')[2]}]")
        if titles.count(column.title) > 1
        else column
        for column in columns
    ]


def _windows(metric: str, cells: Mapping[tuple[str, str], Cell]) -> str:
    """ "; 126 windows, 200 dimensions" of a distance of corpora; of a row with the most windows."""
    details = [cell.details for (_, name), cell in cells.items() if name == metric and "dim" in cell.details]
    if not details:
        return ""
    most = max(details, key=lambda found: int(found["n_windows"]))
    return f"; {most['n_windows']} windows, {most['dim']} dimensions"


#: Columns of published figures, by table: keys of reference.json.
PUBLISHED_COLUMNS = {
    "table2": (
        Column("si_sdr", "SI-SDR", True, 2),
        Column("visqol", "ViSQOL", True, 2),
        Column("fad_clap", "FAD_clap", False, 4),
        Column("fad", "FAD", False, 3),
        Column("compression_ratio", "compression ratio", None, 0),
        # In conventions of their own, so under keys that no measured column has.
        Column("stft_distance", "STFT distance", False, 3),
        Column("mel_distance", "mel distance", False, 3),
        Column("ccpc", "CCPC", True, 3),
    ),
    "table3": (Column("fad_clap", "FAD_clap", False, 4), Column("fad", "FAD", False, 3)),
}


def cost_cells(row: SystemRow, metadata: Mapping[str, Any]) -> dict[str, Cell]:
    """What a system costs; "-" where the notion does not apply."""
    spec = row.spec
    empty = Cell(reason="-")
    if spec is None:
        return {column.key: empty for column in COST_COLUMNS}
    parameters = spec.n_parameters if spec.n_parameters is not None else metadata.get("n_parameters")
    values = {
        "n_parameters": parameters / 1e6 if parameters else None,
        "latent_rate": spec.latent_rate,
        "latent_dim": spec.latent_dim,
        "compression_ratio": spec.compression_ratio,
        "bitrate": metadata["bitrate"] / 1e3 if "bitrate" in metadata else None,
    }
    return {key: empty if value is None else Cell(value=float(value), n=1) for key, value in values.items()}


def row_metadata(row: SystemRow, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What the JSON records about a system."""
    if row.spec is None:
        return {"available": False, "reason": tidy(row.reason or "")}
    spec = row.spec
    return {
        "available": True,
        "source": spec.source,
        "license": spec.license,
        "weights_sha256": spec.weights_digest,
        "sample_rate": spec.sample_rate,
        "channels": spec.channels,
        "n_steps": row.n_steps,
        "options": spec.options,
        "training_datasets": list(spec.training_datasets),
        "bitrate_range": metadata.get("bitrate_range"),
    }


def units_of(measured: Measured) -> str:
    """What intervals resample, as in "tracks"."""
    return f"{measured.group_name}s" if measured.groups else "clips"


def notes(suite: Suite, measured: Measured) -> list[str]:
    """Lines below a measured table."""
    units = units_of(measured)
    line = (
        "Mean over clips, or distance between all clips and all outputs (FAD, KAD), with its "
        f"{suite.statistics.level * 100:g} % interval: bootstrap-t over {units} for means, jackknife over {units} for "
        f"distances (seed {suite.seed}); systems are compared on the same clips (`comparisons` in the JSON)."
    )
    if measured.groups:
        line += f" Clips of one {measured.group_name} do not count as independent."
    return [line, *([measured.coverage] if measured.coverage else [])]


def provenance(suite: Suite, measured: Measured) -> dict[str, Any]:
    """What the numbers rest on; nothing that changes from run to run."""
    covered = {"coverage": measured.coverage} if measured.coverage else {}
    return covered | {
        "suite": suite.to_dict(),
        "m2l": m2l.__version__,
        "n_clips": measured.n_clips,
        "clips": measured.description,
        "clips_sha256": measured.manifest,
        "libraries": library_versions(),
        "processor": processor(),
    }
