"""The limits and tolerances that docs/concepts/metrics.md lists are those that tables and the gate apply."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.metrics.base import CorpusMetric, Metric, PairMetric
from benchmarks.metrics.registry import METRICS, _own_metric, declared_metric, list_metrics, parse_metric
from benchmarks.user_code import UserCodeError

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


def test_what_a_metric_is_unless_it_says_otherwise() -> None:
    bare = Metric(name="m", title="M")
    assert [bare.allowed_change(value, elsewhere=where) for value in (1.0, 1e9) for where in (False, True)] == [0.0] * 4
    assert (bare.tolerance, bare.relative_tolerance, bare.elsewhere_tolerance) == (0.0, 0.0, 0.0)
    assert (bare.higher_is_better, bare.digits, bare.limits) == (True, 2, (-math.inf, math.inf))
    assert not CorpusMetric(name="d", title="D", distance="d").covariances
    covariances = {name for name in METRICS.names() if getattr(declared_metric(name), "covariances", False)}
    assert covariances == {"fad", "fad_debiased", "fad_inf"}


def test_a_metric_of_a_package_says_which_one_is_missing() -> None:
    bare = PairMetric(name="m", title="M", function=lambda preds, target, rate: 0.0)
    assert bare.unavailable() is None
    assert replace(bare, packages=("numpy", "json")).unavailable() is None
    missing = replace(bare, packages=("numpy", "no_such_package"), install="pip install it")
    assert missing.unavailable() == "package 'no_such_package' is not installed. To get it: pip install it"
    assert missing.identity() == {"weights": None, "packages": {"numpy": np.__version__, "no_such_package": ""}}
    assert bare.identity() == {"weights": None}


def test_names_of_columns() -> None:
    columns = {
        "si_sdr:side": "si_sdr:side",
        "fad:vggish": "fad",
        "kad_paired:a:b": "kad_paired",
        "gone": None,
        "": None,
    }
    found = {name: declared_metric(name) for name in columns}
    assert {name: metric and metric.name for name, metric in found.items()} == columns
    names = list_metrics()
    assert {"fad:vggish", "latent_mse:mini", "latent_mse:music2latent", "si_sdr", "si_sdr:side"} <= set(names)
    assert not {"fad", "latent_mse"} & set(names)


def own(label: str | None = None, value: object = None, **fields: object) -> Metric:
    def distance(preds: np.ndarray, target: np.ndarray, rate: int) -> float:
        """One line.

        And more.
        """
        return 0.0

    for name, field in fields.items():
        setattr(distance, name, field)
    return _own_metric(value or distance, "dir/mine.py:distance", label, "dir/mine.py:distance")


def test_a_function_is_a_metric_of_what_it_declares() -> None:
    plain = own()
    assert (plain.name, plain.title, plain.digits, plain.version) == ("mine:distance", "distance", 3, "1")
    assert plain.note == "One line. (no direction declared: higher counts as better)"
    assert (plain.tolerance, plain.relative_tolerance, plain.elsewhere_tolerance) == (0.001, 0.0, 0.02)
    told = own(higher_is_better=False, digits=0, tolerance=0, note="Said", version=2, title="T", best=0)
    assert (told.higher_is_better, told.digits, told.note, told.version, told.title) == (False, 0, "Said", "2", "T")
    assert (told.tolerance, told.elsewhere_tolerance, told.best) == (0, 0.0, 0)
    assert own(digits=12).tolerance == pytest.approx(1e-12)
    assert (own("label").name, own("label", title="T").title) == ("label", "label")
    for given in (lambda p, t, r: 0.0, type("Made", (), {"__call__": lambda self, p, t, r: 0.0})):
        assert own(value=given).note.startswith("mine:distance (no direction")
    metric = PairMetric(name="x", title="X", function=lambda p, t, r: 0.0)
    assert [(own(label, metric).name, own(label, metric).title) for label in (None, "l")] == [
        ("mine:distance", "X"), ("l", "l")
    ]  # fmt: skip
    assert own(value=metric).own == "dir/mine.py:distance"
    with pytest.raises(UserCodeError, match="a distance of corpora is used as an entry point"):
        own(value=CorpusMetric(name="d", title="D", distance="d"))
    assert own(value=CorpusMetric(name="d", title="D", distance="d", embedder="e")).name == "mine:distance"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("digits", -1), ("digits", 13), ("digits", True), ("digits", 2.0), ("tolerance", -0.1), ("tolerance", math.inf),
        ("tolerance", math.nan), ("elsewhere_tolerance", -1), ("relative_tolerance", True), ("higher_is_better", 1),
        ("title", 3), ("best", "1"),
    ],
)  # fmt: skip
def test_a_declaration_is_of_its_kind_and_range(field: str, value: object) -> None:
    with pytest.raises(UserCodeError, match=f"mine:distance: {field} is {value!r}"):
        own(**{field: value})
