"""From task to cell: evaluation, bad data, deformations, result files."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.datasets import Clip
from benchmarks.harness.executors import make_executor
from benchmarks.harness.run import RunOptions
from benchmarks.store.store import Store
from probes.protocol import get_protocol
from probes.representations.base import RepresentationSpec
from probes.request import Request
from probes.results import write_results
from probes.runner import ProbeRun, is_contaminated, run
from probes.tasks.base import TaskData, TaskInfo
from probes.tasks.labeled import labeled_task

RATE = 8000
PITCHES = ("A", "C", "E")
HZ = {"A": 220.0, "C": 261.6, "E": 329.6}


@dataclass(frozen=True)
class Tone:
    """A tone in noise; picklable, as clips must be."""

    hz: float
    seed: int

    def __call__(self) -> tuple[np.ndarray, int]:
        rng = np.random.default_rng(self.seed)
        t = np.arange(RATE // 2) / RATE
        audio = 0.3 * np.sin(2 * np.pi * self.hz * t + rng.uniform(0, 6)) + 0.02 * rng.standard_normal(len(t))
        return audio[None].astype(np.float32), RATE


@dataclass(frozen=True)
class Broken:
    """A clip that cannot be read."""

    def __call__(self) -> tuple[np.ndarray, int]:
        raise ValueError("file is damaged")


def tone_clips(n: int = 90, broken: tuple[int, ...] = ()) -> list[Clip]:
    clips = []
    for i in range(n):
        pitch = PITCHES[i % 3]
        split = "test" if i % 5 == 0 else "valid" if i % 5 == 1 else "train"
        clips.append(
            Clip(
                f"tone-{i:03d}",
                "tones",
                f"digest-{i}-{i in broken}",
                {"pitch": pitch, "fold": i % 5, "group": f"g{i}"},
                "generated: tone",
                Broken() if i in broken else Tone(HZ[pitch] * 2 ** (i % 2), i),
                split,
                0.5,
            )
        )
    return clips


INFO = TaskInfo("tones", "1", "Tones", "multiclass", PITCHES, "tones", "CC0", "", "", batch_size=8)


class ToneTask:
    """The task the runner is tested with; `broken` clips raise when read."""

    def __init__(self, n: int = 90, broken: tuple[int, ...] = ()) -> None:
        self.info, self.n, self.broken = INFO, n, tuple(broken)

    def load(self) -> TaskData:
        return labeled_task(INFO, tone_clips(self.n, self.broken), lambda clip: clip.labels["pitch"], folds="labels")


class Ragged:
    """A representation whose dimension depends on the clip."""

    calls = 0

    def extract(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        Ragged.calls += 1
        return np.zeros(3 + Ragged.calls % 2)


class NotFinite:
    """A representation that gives NaN for some clips."""

    def extract(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        loud = float(np.abs(audio).max())
        return np.array([np.nan if loud > 0.36 else loud, 1.0])


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make this file importable as the user's module."""
    module = types.ModuleType("users_module")
    module.__dict__.update(ToneTask=ToneTask, Ragged=Ragged, NotFinite=NotFinite)
    monkeypatch.setitem(sys.modules, "users_module", module)
    return


def evaluate_tones(tmp_path: Path, *representations: str, **changes: Any) -> ProbeRun:
    options = {"task_options": {"users_module:ToneTask": changes.pop("task", {})}}
    request = Request(
        tasks=("users_module:ToneTask",),
        representations=representations,
        protocol=changes.pop("protocol", get_protocol("mir_ref-1")),
        seeds=changes.pop("seeds", (0, 1)),
        **options,
        **changes,
    )
    return run(request, Store(tmp_path / "store"), make_executor("serial"), RunOptions(quiet=True))


def test_pitch_is_learned_from_chroma_and_not_by_chance(tmp_path: Path) -> None:
    found = evaluate_tones(tmp_path, "chroma", "mel", "chance")
    task = "users_module:ToneTask"
    chroma, best = found.cell("chroma", task), found.cell("chance", task)
    assert chroma is not None
    assert best is not None
    assert chroma.scores["f1_micro"].mean == 1.0
    assert chroma.n_test == 18
    assert best.scores["f1_micro"].mean == pytest.approx(1 / 3, abs=0.1)
    assert chroma.scores["f1_micro"].low <= chroma.scores["f1_micro"].mean <= chroma.scores["f1_micro"].high
    assert found.report.computed > 0
    again = evaluate_tones(tmp_path, "chroma", "mel", "chance")
    assert again.report.computed == 0
    repeated = again.cell("chroma", task)
    assert repeated is not None
    assert repeated.scores == chroma.scores


def test_strict_protocol_tests_every_item_and_has_three_probes(tmp_path: Path) -> None:
    protocol = get_protocol("strict-1")
    found = evaluate_tones(tmp_path, "chroma", protocol=protocol, seeds=(0,))
    assert {cell.probe for cell in found.cells} == {"mlp", "linear", "knn"}
    for cell in found.cells:
        assert cell.n_test == 90
        assert cell.scores["f1_macro"].mean > 0.9
    mlp = next(cell for cell in found.cells if cell.probe == "mlp")
    assert len(mlp.details["learning_rates"]) == 5
    assert set(mlp.details["learning_rates"]) <= set(protocol.learning_rates)


def test_damaged_clips_are_left_out_and_reported(tmp_path: Path) -> None:
    found = evaluate_tones(tmp_path, "chroma", task={"broken": (5, 10, 7)})
    (cell,) = found.cells
    assert cell.n_test == 16
    assert sum(cell.failures.values()) == 3
    assert any("file is damaged" in reason for reason in cell.failures)
    assert cell.left_out == {"tone-005", "tone-007", "tone-010"}


def test_features_that_are_not_finite_or_ragged_become_reasons(tmp_path: Path) -> None:
    found = evaluate_tones(tmp_path, "users_module:Ragged", "users_module:NotFinite")
    ragged, partly = found.cells
    assert ragged.reason is not None
    assert "[3, 4] features in different clips" in ragged.reason
    assert any("not finite" in reason for reason in partly.failures) or "not finite" in str(partly.reason)


def test_missing_weights_and_data_are_cells_with_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("M2L_DATA", str(tmp_path / "data"))
    request = Request(("users_module:ToneTask", "tinysol-pitch"), ("clmr", "chroma"), get_protocol("mir_ref-1"))
    request = replace(request, seeds=(0,))
    found = run(request, Store(tmp_path / "store"), make_executor("serial"), RunOptions(quiet=True))
    reasons = {(cell.representation, cell.task): cell.reason for cell in found.cells}
    assert "m2l-bench fetch clmr" in str(reasons["clmr", "users_module:ToneTask"])
    assert "Zenodo" in str(reasons["chroma", "tinysol-pitch"])
    assert reasons["chroma", "users_module:ToneTask"] is None


def test_shards_share_the_features_and_leave_the_probes(tmp_path: Path) -> None:
    request = Request(("users_module:ToneTask",), ("chroma",), get_protocol("mir_ref-1"), seeds=(0,))
    store, executor = Store(tmp_path / "store"), make_executor("serial")
    counts = []
    for index in range(2):
        found = run(request, store, executor, RunOptions(quiet=True, shard=(index, 2)))
        assert found.cells[0].reason == "not computed yet"
        counts.append(found.report.computed)
    assert sum(counts) == 8, "four loads and four feature units, each on one shard"
    last = run(request, store, executor, RunOptions(quiet=True))
    assert last.report.computed == 1
    assert last.cells[0].scores["f1_micro"].mean == 1.0


def test_deformed_tests_use_the_cleanly_trained_probe(tmp_path: Path) -> None:
    found = evaluate_tones(tmp_path, "chroma", deformations=("gain:-6", "noise:-30"))
    by_name = {cell.deformation: cell for cell in found.cells}
    assert by_name[None].scores["f1_micro"].mean == 1.0
    assert by_name["gain:-6"].scores["f1_micro"].mean == 1.0, "chroma is normalized"
    assert by_name["noise:-30"].scores["f1_micro"].mean < 0.9


def test_result_files_allow_scoring_again(tmp_path: Path) -> None:
    found = evaluate_tones(tmp_path, "chroma")
    paths = write_results(found, tmp_path / "out")
    record = json.loads(next(path for path in paths if path.suffix == ".json").read_text())
    saved = np.load(next(path for path in paths if path.suffix == ".npz"), allow_pickle=False)
    assert record["protocol"]["name"] == "mir_ref-1"
    assert record["data"]["splits"]
    assert len(record["scores"]["f1_micro"]["per_seed"]) == 2
    assert saved["predictions"].shape == (2, 18, 3)
    assert len(saved["ids"]) == 18
    hits = saved["predictions"].argmax(axis=2) == saved["targets"]
    np.testing.assert_allclose(hits.mean(axis=1), record["scores"]["f1_micro"]["per_seed"])


def test_contamination_follows_recordings() -> None:
    info = replace(INFO, dataset="beatport_key")
    assert is_contaminated(RepresentationSpec("x", None, training_datasets=("giantsteps-mtg-key",)), info)
    assert not is_contaminated(RepresentationSpec("x", None, training_datasets=("msd",)), info)
    assert not is_contaminated(None, info)
