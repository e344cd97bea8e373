"""A block of cells from clips in memory to values, scores and comparisons, and the same from the store."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.datasets import Clip
from benchmarks.evaluation.measure import measure
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions
from benchmarks.metrics.registry import parse_metric
from benchmarks.statistics.means import paired_difference
from benchmarks.store.store import Store
from benchmarks.suite import parse_suite

RATE = 16_000
AUDIO = {f"c{i}": 0.1 * np.random.default_rng(i).standard_normal((1, RATE)).astype(np.float32) for i in range(3)}
WANTED = [("identity", None), ("noise-0db", None)]
METRICS = [parse_metric("snr"), parse_metric("si_sdr")]


def planner(overwrite: str = "missing") -> Planner:
    section = {"dataset": "folder", "unit_clips": 2, "options": {"path": "/x"}}
    found = Planner(parse_suite({"name": "x", "data": section}), RunOptions(quiet=True, overwrite=overwrite))
    clips = [Clip(name, "set", name, {}, "", lambda audio=audio: (audio, RATE)) for name, audio in AUDIO.items()]  # type: ignore[misc]
    clips.append(Clip("quiet", "set", "quiet", {}, "", lambda: (np.zeros((1, RATE), np.float32), RATE)))
    found.__dict__["_dataset"] = SimpleNamespace(clips=lambda split: clips)
    return found


def test_cells_scores_and_comparisons(tmp_path: Path) -> None:
    store = Store(tmp_path)
    empty = measure(planner("cache-only"), store, SerialExecutor(), WANTED, METRICS)
    assert {cell.reason for cell in empty.cells.values()} == {"not computed yet"}
    assert (empty.scores, empty.comparisons, empty.metadata, empty.report.blocked) == ({}, [], {}, {})
    plan = planner()
    found = measure(plan, store, SerialExecutor(), WANTED, METRICS)
    assert plan.store is store
    assert (found.n_clips, found.description) == (4, "4 clips")
    assert list(found.cells) == [(row, m) for row in ("identity", "noise-0db") for m in ("snr", "si_sdr")]
    for metric in ("snr", "si_sdr"):
        exact, noisy = (found.cells[row, metric] for row in ("identity", "noise-0db"))
        assert (exact.value, exact.n, exact.reason) == (100.0, 3, None)
        assert exact.details["counted"] == {"exact, counted as 100 dB": 3}
        scores = found.scores[metric]["noise-0db"]
        assert list(scores) == list(AUDIO)
        assert noisy.value == pytest.approx(np.mean(list(scores.values())))
        assert noisy.failures == {"silent": 1}
        [record] = [record for record in found.comparisons if record["metric"] == metric]
        alone = paired_difference(found.scores[metric]["identity"], scores, n_resamples=10_000)
        assert (record["a"], record["b"], record["n"]) == ("identity", "noise-0db", 3)
        assert record["difference"] == pytest.approx(alone.mean)
        assert (record["low"], record["high"]) == pytest.approx((alone.low, alone.high))
    assert found.metadata["identity"] == {"n_parameters": None}
    assert found.report.unusable == {"silent": 1}
    assert (found.report.blocked, found.report.lost) == ({}, {})
    again = measure(planner("cache-only"), store, SerialExecutor(), WANTED, METRICS)
    assert (again.cells, again.scores, again.comparisons) == (found.cells, found.scores, found.comparisons)
    alone = measure(planner("cache-only"), store, SerialExecutor(), WANTED[:1], METRICS, metadata_too=False)
    assert (alone.comparisons, alone.metadata) == ([], {})
    assert measure(planner("cache-only"), store, SerialExecutor(), WANTED, METRICS, compare=False).comparisons == []


def test_a_damaged_entry_is_computed_again_when_a_cell_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = measure(planner(), store, SerialExecutor(), WANTED[:1], METRICS[:1], compare=False, metadata_too=False)
    plan = planner()
    unit = plan.cell(plan.system("identity"), METRICS[0]).unit
    assert unit is not None
    path = store.path(unit.key)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    again = measure(planner(), store, SerialExecutor(), WANTED[:1], METRICS[:1], compare=False, metadata_too=False)
    assert again.cells == first.cells
    assert path.read_bytes() == content
