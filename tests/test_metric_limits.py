"""The limits and tolerances that docs/concepts/metrics.md lists are those that tables and the gate apply."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.metrics.base import Metric, PairMetric
from benchmarks.metrics.registry import METRICS, parse_metric

PAGE = Path(__file__).resolve().parents[1] / "docs" / "concepts" / "metrics.md"
FIELDS = ("digits", "worst", "best", "tolerance", "relative_tolerance", "elsewhere_tolerance", "floor", "collapse")


def documented() -> dict[str, dict[str, float | None]]:
    lines = PAGE.read_text().split("## Limits and tolerances")[1].split("\n## ")[0].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return {
        name.strip().strip("`"): {field: number(cell) for field, cell in zip(FIELDS, cells, strict=True)}
        for names, *cells in table
        for name in names.split(",")
    }


def number(cell: str) -> float | None:
    if not cell:
        return None
    return math.pi if cell == "π" else float(cell.removesuffix("%")) / (100 if cell.endswith("%") else 1)


def declared(name: str) -> Metric:
    kind, _, argument = name.partition(":")
    return parse_metric(f"{kind}:{ {'EMBEDDER': 'vggish', 'CHECKPOINT': 'mini'}.get(argument, argument) }".rstrip(":"))


def test_every_metric_is_listed() -> None:
    assert {name.removesuffix(":EMBEDDER").removesuffix(":CHECKPOINT") for name in documented()} == set(METRICS.names())


@pytest.mark.parametrize("name", documented())
def test_limits_are_those_documented(name: str) -> None:
    metric = declared(name)
    shares = ("tolerance", "relative_tolerance", "elsewhere_tolerance")
    wanted = {field: value or 0.0 if field in shares else value for field, value in documented()[name].items()}
    assert {field: getattr(metric, field) for field in FIELDS} == wanted
    assert metric.version == "1"
    if metric.worst is not None and metric.best is not None:
        assert metric.higher_is_better == (metric.best > metric.worst)
    elif metric.best is not None:
        assert metric.higher_is_better == (metric.best > 0.0)


def test_which_metrics_take_the_mono_fold_and_which_stand_alone() -> None:
    pair_metrics = [declared(name) for name in documented() if "EMBEDDER" not in name]
    folds = {metric.name for metric in pair_metrics if isinstance(metric, PairMetric) and metric.folds}
    assert folds == {
        "si_sdr", "chroma", "visqol", "visqol:speech", "pesq", "stoi", "f0_accuracy", "note_f1", "cdpam",
        "latent_mse:mini",
    }  # fmt: skip
    exact = {metric.name for metric in pair_metrics if isinstance(metric, PairMetric) and metric.exact}
    assert exact == {"snr", *(name for name in documented() if name.startswith("si_sdr"))}
    bare = PairMetric(name="m", title="M", function=lambda preds, target, rate: 0.0)
    assert (bare.exact, bare.folds, bare.alone) == (False, False, True)
    alone = {metric.name for metric in pair_metrics if isinstance(metric, PairMetric) and metric.alone}
    assert {"si_sdr", "mel", "chroma"} <= alone
    assert alone.isdisjoint({"pesq", "stoi", "f0_accuracy", "note_f1", "cdpam", "visqol", "latent_mse:mini"})


def test_distances_are_titled_by_the_embedders_family() -> None:
    names = ("vggish", "musicnn-msd@3s", "clap-630k-audioset-best@file")
    assert [parse_metric(f"fad:{name}").title for name in names] == ["FAD", "FAD_musicnn", "FAD_clap"]
    assert parse_metric("fad:vggish").weight == "vggish"
