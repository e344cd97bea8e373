"""The figure of quality against bit rate: what is measured, drawn, printed and shown in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness_helpers import tiny_suite, write_clips

from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions
from benchmarks.report.aggregates import read_aggregates
from benchmarks.report.charts import rate_charts
from benchmarks.store.store import Store
from benchmarks.suite import SuiteError, load_suite, parse_suite
from benchmarks.tables.rate import NO_RATE, RateFigure, build, family_of
from benchmarks.tables.values import values_of

SECTION = {"systems": ["opus-48k", "identity", "opus-16k", "mp3-64k"], "metrics": ["si_sdr"], "clips": 2}


@pytest.fixture(scope="module")
def figure(tmp_path_factory: pytest.TempPathFactory) -> tuple[RateFigure, Path]:
    place = tmp_path_factory.mktemp("rate")
    write_clips(place / "clips")
    store = Store(place / "store")
    made, _ = build(tiny_suite(place / "clips", rate=SECTION), store, SerialExecutor(), RunOptions(quiet=True))
    assert [path.name for path in made.write(place / "tiny", store)] == ["rate.json", "rate.svg"]
    return made, place / "tiny"


def test_a_family_is_one_curve_at_its_measured_rates(figure: tuple[RateFigure, Path]) -> None:
    curves = figure[0].curves
    assert list(curves) == ["opus", "identity", "mp3"]
    low, high = curves["opus"]["si_sdr"]
    assert (low["system"], high["system"]) == ("opus-16k", "opus-48k")
    assert 16 < low["kbits"] < 30  # clips this short pay dearly for the container
    assert 48 < high["kbits"] < 60
    assert low["kbits_range"][0] <= low["kbits"] <= low["kbits_range"][1]
    assert high["value"] > low["value"]
    (control,) = curves["identity"]["si_sdr"]
    assert (control["kbits"], control["reason"]) == (None, NO_RATE)


def test_its_files_hold_the_same_numbers(figure: tuple[RateFigure, Path]) -> None:
    made, folder = figure
    record = json.loads((folder / "rate.json").read_text())
    assert "steps" not in record
    assert values_of(record)["opus-16k", "si_sdr"] == made.curves["opus"]["si_sdr"][0]["value"]
    assert (folder / "rate.svg").read_text().startswith("<?xml")
    lines = made.to_markdown().splitlines()
    assert next(line for line in lines if "opus-16k" in line).split("|")[2].strip() != "16.0"
    assert f"– identity: {NO_RATE}" in made.to_markdown()


def test_the_report_shows_a_point_with_its_interval_under_the_pointer(figure: tuple[RateFigure, Path]) -> None:
    found = read_aggregates(figure[1])
    (chart,) = rate_charts(found.rate)
    assert "rate.json" in found.files
    assert [row[0] for row in chart.rows] == ["mp3-64k", "opus-16k", "opus-48k"]
    assert chart.svg.count("<g><title>") == 3
    assert "<title>opus-16k: SI-SDR" in chart.svg
    assert "kbit/s, 2 clips</title>" in chart.svg
    assert f"identity: {NO_RATE}" in chart.left_out
    assert rate_charts(None) == []


@pytest.mark.parametrize(
    ("label", "family"),
    [
        ("opus-24k", "opus"),
        ("lyra-3.2k", "lyra"),
        ("dac-44khz-3q", "dac-44khz"),
        ("dac-44khz", "dac-44khz"),
        ("mimi-8q", "mimi"),
        ("same-s", "same-s"),
        ("mousai-v2", "mousai-v2"),
        ("-3k", "-3k"),
    ],
)
def test_a_name_without_its_rate_is_the_family(label: str, family: str) -> None:
    assert family_of(label) == family


def suite_record(**more: object) -> dict[str, object]:
    table2 = {"systems": ["opus-16k", "identity"], "metrics": ["si_sdr"]}
    return {"name": "x", "data": {"dataset": "synthetic"}, "table2": table2} | more


def test_a_suite_asks_for_it_by_name_or_by_section() -> None:
    plain = parse_suite(suite_record())
    assert (plain.rate, plain.tables) == (None, ["table2"])
    short = parse_suite(suite_record(figure="rate"))
    assert short.tables == ["table2", "rate"]
    assert short.rate is not None
    assert short.rate.systems == ["opus-16k", "identity"]
    own = parse_suite(suite_record(figure="rate", rate={"systems": ["opus-24k"], "clips": 3}))
    assert own.rate is not None
    assert (own.rate.systems, own.rate.clips) == (["opus-24k"], 3)
    assert [metric.name for metric in own.rate.metrics] == ["si_sdr"]
    shipped = load_suite("open").rate
    assert shipped is not None
    assert {"opus", "mp3", "lyra"} <= {family_of(name) for name in shipped.systems}
    with pytest.raises(SuiteError, match="figure must be one of rate, got 'speed'"):
        parse_suite(suite_record(figure="speed"))
    with pytest.raises(SuiteError, match="which is missing"):
        parse_suite({"name": "x", "data": {"dataset": "synthetic"}, "figure": "rate"})
