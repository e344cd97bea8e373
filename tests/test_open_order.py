"""Every metric puts the original above Opus at 96 kbit/s, and that above Opus at 16, on the open test split (M2L_DATA).

M2L_DATA=DIR pytest tests/test_open_order.py -m shared

Over six minutes of a core go to `f0_accuracy`; M2L_TEST_STORE=FOLDER keeps what a run that was stopped has measured.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import pytest

from benchmarks.evaluation.measure import Measured, measure
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions
from benchmarks.metrics.registry import CORPUS_METRICS, list_metrics, parse_metric
from benchmarks.store.store import Store
from benchmarks.suite import load_suite

pytestmark = [pytest.mark.slow, pytest.mark.shared, pytest.mark.timeout(7200)]

BEST_FIRST = ["identity", "opus-96k", "opus-16k"]
#: One clip of each track.
TRACKS = 18
#: Made for speech at 16 kHz, where both rates of Opus keep most of what they hear; and CDPAM, a minute of CPU a clip.
LEFT_OUT = ("pesq", "stoi", "visqol:speech", "cdpam")
#: Unbiased distances, which 18 clips cannot tell from 0 for a codec that is nearly transparent.
CLOSE = ("fad_debiased", "kad_paired")
NAMES = [
    name
    for name in list_metrics()
    if name not in LEFT_OUT and (name.partition(":")[0] not in CORPUS_METRICS or name.endswith(":musicnn-msd@3s"))
]


def usable(name: str) -> Any:
    """The metric; None where something it needs is not here."""
    metric = parse_metric(name)
    return metric if metric.unavailable() is None else None


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    if not os.environ.get("M2L_DATA"):
        pytest.skip("M2L_DATA is not set")
    metrics = [metric for name in NAMES if (metric := usable(name)) is not None]
    planner = Planner(load_suite("open"), RunOptions(quiet=True), n_clips=TRACKS)
    wanted = [(name, None) for name in BEST_FIRST]
    store = Store(os.environ.get("M2L_TEST_STORE") or tmp_path_factory.mktemp("store"))
    return measure(planner, store, SerialExecutor(), wanted, metrics, metadata_too=False)


@pytest.mark.parametrize("name", NAMES)
def test_better_is_better_by_track(measured: Measured, name: str) -> None:
    metric = usable(name)
    if metric is None:
        pytest.skip(f"{name}: {parse_metric(name).unavailable()}")
    sign = 1.0 if metric.higher_is_better else -1.0
    records = {(r["a"], r["b"]): r for r in measured.comparisons if r["metric"] == name}
    for better, worse in pairwise(BEST_FIRST):
        first, second = (measured.cells[system, name] for system in (better, worse))
        assert first.value is not None
        assert second.value is not None
        assert sign * (first.value - second.value) > 0, (name, first.value, second.value)
        if name.startswith("fad_inf:"):
            continue  # it has no replicates, so nothing tells its values apart
        record = records[better, worse]
        assert first.n == second.n == record["n"] == record["n_groups"], (name, record)
        close = better == "identity" and name.partition(":")[0] in CLOSE
        assert record["significant"] or close, (name, record)
