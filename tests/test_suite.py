"""Suites: what ships is valid, and an error names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.metrics.registry import CorpusMetric, list_metrics, parse_metric
from benchmarks.registry import UnknownNameError
from benchmarks.suite import SuiteError, list_suites, load_suite, parse_suite

GOOD = {"name": "x", "data": {"dataset": "synthetic"}, "table2": {"systems": ["identity"], "metrics": ["si_sdr"]}}


def test_shipped_suites_are_valid_and_name_only_known_things() -> None:
    from benchmarks.autoencoders import AUTOENCODERS

    assert list_suites() == ["open", "paper", "synthetic"]
    for name in list_suites():
        suite = load_suite(name)
        assert suite.name == name
        assert {"table2", "table3", "figure2"} <= set(suite.tables)
        for section in (suite.table2, suite.table3, suite.figure2):
            assert section is not None
            assert all(parse_metric(metric.name) == metric for metric in section.metrics)
        assert suite.table2 is not None
        assert suite.figure2 is not None
        for system in [*suite.table2.systems, *suite.figure2.systems]:
            assert system in AUTOENCODERS
        assert suite.figure2.steps == [1, 2, 3, 4, 5]


def test_a_file_of_your_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[data]\ndataset = "synthetic"\n[table2]\nsystems = ["identity"]\nmetrics = ["si_sdr"]\n')
    suite = load_suite(path)
    assert suite.name == "mine"
    assert suite.tables == ["table2"]
    assert suite.data.channels == "mono"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {}}, "data.dataset is missing"),
        ({"data": {"dataset": "x", "chanels": "mono"}}, "unknown key data.chanels; did you mean 'channels'"),
        (
            {"data": {"dataset": "x", "channels": "left"}},
            "data.channels must be one of mono, native, stereo, got 'left'",
        ),
        ({"data": {"dataset": 3}}, "data.dataset must be str, got 3"),
        ({"data": {"dataset": "x", "unit_clips": 0}}, "data.unit_clips must be at least 1, got 0"),
        ({"data": {"dataset": "x", "limit": True}}, "data.limit must be int, got True"),
        ({"data": "synthetic"}, r"\[data\] must be a table"),
        ({"table2": {"systems": [], "metrics": ["si_sdr"]}}, "table2.systems is empty"),
        ({"table2": {"systems": ["a", "a"], "metrics": ["si_sdr"]}}, "'a' more than once"),
        ({"table2": {"systems": [1], "metrics": ["si_sdr"]}}, "the element 1"),
        ({"table2": {"systems": ["a"]}}, "table2.metrics is missing"),
        ({"figure2": {"systems": ["a"], "metrics": ["si_sdr"], "steps": [0]}}, "figure2.steps must be at least 1"),
        ({"statistics": {"resamples": 3}}, "statistics.resamples must be at least 100, got 3"),
        ({"statistics": {"resamples": 99}}, "statistics.resamples must be at least 100, got 99"),
        ({"seeed": 1}, "unknown key seeed; did you mean 'seed'"),
        ({"seed": "0"}, "seed must be int"),
        ({"name": "../x"}, "cannot be a folder name"),
    ],
)
def test_errors_name_the_key(change: dict, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        parse_suite({**GOOD, **change})


def test_the_least_that_is_taken() -> None:
    least = {"data": {"dataset": "x", "unit_clips": 1, "limit": 0}, "statistics": {"resamples": 100}}
    found = parse_suite({**GOOD, **least, "figure2": {"systems": ["a"], "metrics": ["si_sdr"], "steps": [1]}})
    assert (found.data.unit_clips, found.statistics.resamples) == (1, 100)
    assert found.figure2 is not None
    assert found.figure2.steps == [1]


def test_what_holds_where_a_suite_says_nothing() -> None:
    """Figure 2 has one to five steps, as the paper's; intervals cover 95 %; a clip has a second and 16 kHz."""
    found = parse_suite({**GOOD, "data": {"dataset": "x"}, "figure2": {"systems": ["a"], "metrics": ["si_sdr"]}})
    assert found.figure2 is not None
    assert (found.figure2.steps, found.figure2.clips) == ([1, 2, 3, 4, 5], 0)
    assert (found.statistics.level, found.statistics.resamples) == (0.95, 10_000)
    assert (found.data.min_seconds, found.data.min_sample_rate, found.data.silence_rms) == (1.0, 16_000, 1e-5)
    assert (found.data.channels, found.data.limit, found.data.unit_clips, found.seed) == ("mono", 0, 16, 0)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[data\n")
    with pytest.raises(SuiteError, match=r"mine\.toml: not valid TOML"):
        load_suite(path)
    path.write_text("[data]\n")
    with pytest.raises(SuiteError, match=r"mine\.toml: key data\.dataset is missing"):
        load_suite(path)
    with pytest.raises(SuiteError, match=r"'/no/such\.toml' does not exist"):
        load_suite("/no/such.toml")
    with pytest.raises(UnknownNameError, match="did you mean 'synthetic'"):
        load_suite("sinthetic")


def test_metric_names() -> None:
    metric = parse_metric("fad:vggish")
    assert isinstance(metric, CorpusMetric)
    assert metric.title == "FAD"
    clap = parse_metric("fad:clap-630k-audioset-best@file")
    assert isinstance(clap, CorpusMetric)
    assert clap.title == "FAD_clap"
    assert "630k-audioset-best" in clap.note
    assert "si_sdr" in list_metrics()
    with pytest.raises(UnknownNameError, match="si_sdr"):
        parse_metric("si_sdrr")
    with pytest.raises(UnknownNameError, match="vggish"):
        parse_metric("fad:vgish")
