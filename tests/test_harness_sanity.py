"""The benchmark ranks what it must rank: known distortions of real and synthetic music, by paired interval."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.harness.executors import make_executor
from benchmarks.harness.run import RunOptions
from benchmarks.store.store import Store
from benchmarks.suite import parse_suite
from benchmarks.tables.paper import build_table2
from benchmarks.tables.table import TableResult

SYSTEMS = ["identity", "opus-96k", "opus-16k", "noise-20db"]


def measure(tmp_path: Path, data: dict, metrics: list[str], executor_name: str) -> TableResult:
    suite = parse_suite(
        {
            "name": "sanity",
            "data": {"unit_clips": 3, **data},
            "table2": {"systems": SYSTEMS, "metrics": metrics},
            "statistics": {"resamples": 2000},
        }
    )
    with make_executor(executor_name) as executor:
        table, report = build_table2(suite, Store(tmp_path), executor, RunOptions(quiet=True))
    assert not report.failed
    return table


def assert_order(table: TableResult, metric: str, higher_is_better: bool) -> None:
    """identity beats Opus at 96k beats Opus at 16k, each by its paired interval."""
    found = {(r["a"], r["b"]): r for r in table.comparisons if r["metric"] == metric}
    for better, worse in [("identity", "opus-96k"), ("opus-96k", "opus-16k"), ("identity", "opus-16k")]:
        record = found[better, worse]
        assert record["significant"], record
        assert (record["difference"] > 0) == higher_is_better, record


def assert_noise(table: TableResult) -> None:
    row = next(row for row in table.rows if row.name == "noise-20db")
    assert row.cells["si_sdr"].value == pytest.approx(20, abs=0.1)


def test_si_sdr_ranks_codecs_on_synthetic_music(tmp_path: Path) -> None:
    data = {"dataset": "synthetic", "options": {"size": 5, "seconds": 1.5}}
    table = measure(tmp_path, data, ["si_sdr"], "serial")
    assert_order(table, "si_sdr", higher_is_better=True)
    assert_noise(table)


@pytest.mark.slow
@pytest.mark.shared
def test_every_metric_ranks_codecs_on_open_music(tmp_path: Path) -> None:
    if not os.environ.get("M2L_DATA"):
        pytest.skip("M2L_DATA does not name a folder with the open recordings")
    from benchmarks.embedders import embedder_status

    embedders = ["musicnn-msd", "vggish", "clap-630k-audioset-best@file"]
    present = [name for name in embedders if embedder_status(name).available]
    assert "musicnn-msd" in present
    metrics = ["si_sdr", "visqol", *(f"fad:{name}" for name in present), "kad:musicnn-msd"]
    table = measure(tmp_path, {"dataset": "open", "split": "test"}, metrics, "loky")
    for metric in metrics:
        assert_order(table, metric, higher_is_better=metric in ("si_sdr", "visqol"))
    assert_noise(table)
