"""Units of a plan: what each is given, on which clips, and what changes its key."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.datasets import Clip
from benchmarks.evaluation.jobs import Resampling
from benchmarks.evaluation.measure import plan_rows
from benchmarks.evaluation.plan import Planner
from benchmarks.evaluation.systems import accepts_device
from benchmarks.harness.run import RunOptions
from benchmarks.harness.units import STAND_IN, Unit
from benchmarks.metrics.base import CorpusMetric
from benchmarks.metrics.registry import parse_metric
from benchmarks.suite import SuiteError, parse_suite

CLIPS = [
    Clip(
        f"c{i}",
        "set",
        f"digest{i}",
        {},
        "",
        lambda: (np.zeros((1, 9)), 9),
        seconds=10.0 + i,
        group="t" if i < 2 else "",
    )
    for i in range(5)
]
SI_SDR, SNR = parse_metric("si_sdr"), parse_metric("snr")


def planner(options: RunOptions | None = None, **data: Any) -> Planner:
    section = {"dataset": "folder", "unit_clips": 2, "options": {"path": "/x"}, **data}
    suite = parse_suite({"name": "x", "seed": 3, "data": section, "statistics": {"resamples": 300, "level": 0.9}})
    found = Planner(suite, options or RunOptions())
    found.__dict__["_dataset"] = SimpleNamespace(clips=lambda split: CLIPS)
    return found


def clips_of(unit: Unit) -> list[str]:
    return [clip.id for clip in unit.payload.clips]


def test_clips_are_cut_into_units() -> None:
    plan = planner()
    assert [clips_of(unit) for unit in plan.load_units] == [["c0", "c1"], ["c2", "c3"], ["c4"]]
    assert [unit.amount for unit in plan.load_units] == [21.0, 25.0, 14.0]
    assert plan.stereo_units == ()
    assert {unit.payload.limits.channels for unit in plan.load_units} == {"mono"}
    both = planner(channels="stereo")
    assert [clips_of(unit) for unit in both.stereo_units] == [clips_of(unit) for unit in both.load_units]
    assert {unit.payload.limits.channels for unit in both.stereo_units} == {"native"}
    assert [unit.group for unit in both.stereo_units] == [unit.group for unit in both.load_units]
    assert [(both.sees_stereo(m), plan.sees_stereo(m)) for m in (SI_SDR, SNR)] == [(False, False), (True, False)]
    assert {unit.key for unit in plan.load_units}.isdisjoint(unit.key for unit in planner(min_seconds=2.0).load_units)


def test_a_cell_is_the_mean_over_all_units_of_its_system() -> None:
    plan = planner(channels="stereo")
    row = plan.system("identity")
    assert (row.label, row.reason, row.n_steps) == ("identity", None, None)
    for units, loads, name in (
        (row.units, plan.load_units, "identity"),
        (row.stereo, plan.stereo_units, "identity (stereo)"),
    ):
        assert [unit.inputs for unit in units] == [(load,) for load in loads]
        assert [(unit.amount, unit.group, unit.name) for unit in units] == [
            (load.amount, load.group, name) for load in loads
        ]
        assert {unit.payload.seed for unit in units} == {3}
    for metric, loads, units in ((SI_SDR, plan.load_units, row.units), (SNR, plan.stereo_units, row.stereo)):
        cell = plan.cell(row, metric)
        assert cell.reason is None
        assert cell.unit is not None
        assert [score.inputs for score in cell.unit.inputs] == list(zip(loads, units, strict=True))
        assert [(score.stage, score.amount) for score in cell.unit.inputs] == [("score", load.amount) for load in loads]
        job = cell.unit.payload
        assert (job.resampling, job.clip_ids) == (Resampling(3, 300, 0.9), ("c0", "c1", "c2", "c3", "c4"))
        assert job.groups == {"c0": "t", "c1": "t"}
        assert cell.unit.amount == 60.0
    told = plan.metadata(row)
    assert (told.inputs, told.amount) == (row.units, 60.0)


def test_a_distance_embeds_originals_and_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planner(channels="stereo")
    monkeypatch.setattr("benchmarks.evaluation.plan.try_embedder", lambda *arguments: None)
    monkeypatch.setattr("benchmarks.evaluation.plan.embedder_identity", lambda name: {"name": name})
    monkeypatch.setattr(CorpusMetric, "unavailable", lambda self: None)
    metric, row = parse_metric("fad:vggish"), plan.system("identity")
    cell = plan.cell(row, metric)
    assert cell.unit is not None
    originals, outputs = cell.unit.inputs[:3], cell.unit.inputs[3:]
    assert [unit.inputs for unit in originals] == [(load,) for load in plan.load_units]
    assert [unit.inputs for unit in outputs] == list(zip(plan.load_units, row.units, strict=True))
    assert [unit.amount for unit in cell.unit.inputs] == [21.0, 25.0, 14.0] * 2
    assert (cell.unit.payload.distance, cell.unit.payload.resampling) == ("fad", Resampling(3, 300, 0.9))
    compared = metric.comparison_unit(plan, ["a", "b"], [cell.unit, cell.unit])
    assert (compared.payload.rows, compared.inputs) == (("a", "b"), (cell.unit, cell.unit))
    assert compared.target.endswith(":compare_corpus_units")
    assert SI_SDR.comparison_unit(plan, ["a", "b"], [cell.unit] * 2).target.endswith(":compare_score_units")


def test_what_decides_a_number_is_in_its_key() -> None:
    base = planner()
    key = base.cell(base.system("identity"), SI_SDR).unit.key  # type: ignore[union-attr]
    again = planner()
    assert again.cell(again.system("identity"), SI_SDR).unit.key == key  # type: ignore[union-attr]
    other = planner(unit_clips=3)
    assert other.cell(other.system("identity"), SI_SDR).unit.key != key  # type: ignore[union-attr]
    assert base.cell(base.system("identity"), SNR).unit.key != key  # type: ignore[union-attr]
    assert base.system("opus-16k").units[0].key != base.system("opus-96k").units[0].key


def test_steps_and_names_of_rows() -> None:
    plan = planner()
    with pytest.raises(SuiteError, match="options of system 'identity'"):
        plan.system("identity", colour=3)
    assert not accepts_device("identity")
    assert accepts_device("music2latent-mini")
    rows = plan_rows(plan, [("identity", None), ("music2latent-mini", 4)], {})
    assert [row.label for row in rows] == ["identity", "music2latent-mini@4"]
    assert [row.n_steps for row in rows] == [None, 4]
    assert rows[1].units[0].payload.n_steps == 4
    assert plan.system("music2latent-mini").n_steps == plan.system("music2latent-mini", 1).n_steps == 1
    assert plan.system("music2latent-mini", 4).units[0].key != plan.system("music2latent-mini").units[0].key


def test_a_dry_run_counts_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CorpusMetric, "unavailable", lambda self: "no weights")
    metric = parse_metric("fad:vggish")
    plan = planner()
    row = plan.system("identity")
    assert (plan.cell(row, metric).unit, plan.cell(row, metric).reason) == (None, "no weights")
    dry = planner(RunOptions(dry_run=True))
    cell = dry.cell(dry.system("identity"), metric)
    assert cell.reason == "no weights"
    assert cell.unit is not None
    assert cell.unit.stands_in
    assert [(unit.stage, unit.name, unit.amount) for unit in cell.unit.inputs] == [
        ("embed", "vggish", amount) for amount in (21.0, 25.0, 14.0) * 2
    ]
    monkeypatch.setattr(type(SI_SDR), "unavailable", lambda self: "no package")
    scores = dry.cell(dry.system("identity"), SI_SDR).unit
    assert scores is not None
    assert [(unit.stage, unit.spec) for unit in scores.inputs] == [("score", {STAND_IN: "si_sdr"})] * 3
    assert scores.amount == 60.0

    def gone(name: str, **options: Any) -> Any:
        raise FileNotFoundError("no such weights")

    monkeypatch.setattr("benchmarks.evaluation.plan.create_autoencoder", gone)
    missing, planned = plan.system("identity", 1), dry.system("identity", 1)
    assert (missing.reason, missing.units) == ("no such weights", ())
    assert plan.cell(missing, SNR).reason == "no such weights"
    assert (planned.reason, planned.n_steps, len(planned.units)) == ("no such weights", None, 3)
    assert dry.system("identity", 4).n_steps == 4
    assert planned.units[1].spec == {STAND_IN: "identity"}
    with pytest.raises(FileNotFoundError, match="identity: no such weights"):
        plan_rows(plan, [("identity", None)], {}, needed=["identity"])
    two = [("identity", None), ("opus-16k", None)]
    with pytest.raises(FileNotFoundError, match="identity: no such weights"):
        plan_rows(plan, two, {}, needed=["identity", "opus-16k"])
    assert plan_rows(plan, [("identity", None)], {})[0].reason == "no such weights"
    assert (
        plan_rows(plan, [("identity", None), ("opus-16k", None)], {}, needed=["identity", "mel"])[1].label == "opus-16k"
    )
