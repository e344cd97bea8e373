"""Cells of tables by hand: what they were given, their intervals, reasons, and rows on fewer clips."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.datasets import Clip
from benchmarks.evaluation.cells import NOT_COMPUTED, Cell, Column, tidy
from benchmarks.evaluation.clips import SuiteClips, seconds_of
from benchmarks.evaluation.left_out import (
    all_exact,
    count_clips,
    count_reasons,
    counted,
    items_of,
    listed,
    lost,
    partial_rows,
    say_left_out,
)
from benchmarks.evaluation.measure import _members, _Reader, to_cell
from benchmarks.evaluation.plan import PlannedCell
from benchmarks.evaluation.systems import SystemRow
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions, RunReport
from benchmarks.harness.units import Done, Unit
from benchmarks.metrics.base import CorpusMetric, PairMetric
from benchmarks.store.store import Result, Store
from benchmarks.suite import parse_suite

GROUPS = {"a": "t", "b": "t", "e": "u"}
METRIC = PairMetric(
    name="m", title="M", worst=0.0, best=5.0, function=lambda preds, target, rate: float(preds.mean() * 10)
)


def test_a_cell_counts_what_it_was_given() -> None:
    meta: dict[str, Any] = {
        "value": 3.0, "median": 2.0, "n": 4, "n_groups": 4, "low": 2.5, "high": 3.5, "values": {},
        "failures": {"x": "silent", "y": "odd", "z": "odd"}, "unusable": {"x": "silent"}, "lost": {"z": "odd"},
        "notes": {"a": "exact, counted as 5"},
    }  # fmt: skip
    cell = to_cell(Result(meta), METRIC)
    assert (cell.value, cell.median, cell.n, cell.low, cell.high) == (3.0, 2.0, 4, 2.5, 3.5)
    assert cell.failures == {"odd": 2, "silent": 1}
    assert cell.details == {
        "given": 6, "lost": {"odd": 1}, "counted": {"exact, counted as 5": 1},
        "failed_clips": {"x": "silent", "y": "odd", "z": "odd"},
    }  # fmt: skip
    whole = to_cell(Result({**meta, "failures": {"x": "silent"}, "lost": {}, "notes": {}}), METRIC)
    assert whole.details == {"failed_clips": {"x": "silent"}}
    grouped = to_cell(Result({**meta, "n_groups": 2}), METRIC)
    assert grouped.details["n_groups"] == 2
    nothing = {name: meta[name] for name in ("failures", "unusable")}
    assert to_cell(Result(nothing), METRIC).reason == "no clip could be measured"
    assert to_cell(Result({}), METRIC).reason == "no clips"
    assert to_cell(Result({**nothing, "reason": "few"}), METRIC).reason == "few"


@pytest.mark.parametrize(
    ("windows", "dim", "covariances", "few"), [(5, 5, True, True), (6, 5, True, False), (5, 5, False, False)]
)
def test_a_distance_of_few_windows_says_so(windows: int, dim: int, covariances: bool, few: bool) -> None:
    metric = CorpusMetric(name="fad", title="FAD", distance="fad", covariances=covariances, higher_is_better=False)
    meta = {"value": 3.0, "n": 4, "n_groups": 4, "n_windows": windows, "dim": dim, "low": -1.0, "high": 9.0}
    cell = to_cell(Result(meta), metric)
    assert cell.details.get("few_windows", False) == few
    assert (cell.details["n_windows"], cell.details["dim"]) == (windows, dim)
    assert (cell.low, cell.high) == (-1.0, 9.0)  # only means end where scores do
    no_interval = to_cell(Result({"value": 3.0, "n": 4, "n_groups": 1, "high": 2.0}), metric)
    assert (no_interval.low, no_interval.high) == (None, None)


def test_a_value_beyond_the_limits_keeps_its_interval_around_it() -> None:
    meta: dict[str, Any] = {"n": 4, "n_groups": 4, "values": {}}
    beyond = to_cell(Result({**meta, "value": 7.0, "low": 6.0, "high": 8.0}), METRIC)
    assert (beyond.low, beyond.high) == (6.0, 7.0)
    below = to_cell(Result({**meta, "value": -2.0, "low": -3.0, "high": 1.0}), METRIC)
    assert (below.low, below.high) == (-2.0, 1.0)


def test_members_of_groups_and_reasons_of_cells(tmp_path: Path) -> None:
    assert _members(["a", "c", "b", "e", "d"], GROUPS) == [["a", "b"], ["c"], ["e"], ["d"]]
    store, unit = Store(tmp_path), Unit("score", "x", "m:f", {})
    report = RunReport()
    reader = _Reader(store, SerialExecutor(), RunOptions(quiet=True), report)
    assert reader.read(unit) is None
    assert reader.failures(unit) == {}
    assert reader.reason_cell(PlannedCell(unit)) == Cell(reason=NOT_COMPUTED)
    assert reader.pends(PlannedCell(unit))
    assert reader.reason_cell(PlannedCell(None)).reason == "no clips"
    assert reader.reason_cell(PlannedCell(unit, "weights not found")).reason == "weights not found"
    assert not reader.pends(PlannedCell(unit, "weights not found"))
    assert not reader.pends(PlannedCell(None))
    report.failed[unit.key] = Done(unit.key, "score", "x", 0.0, error="boom")
    assert reader.reason_cell(PlannedCell(unit)).reason == "failed in score x: boom"
    assert not reader.pends(PlannedCell(unit))
    store.put(unit.key, Result({"failures": {"a": "b"}}))
    assert reader.failures(unit) == {"a": "b"}
    found = reader.read(unit)
    assert found is not None
    assert found.meta == {"failures": {"a": "b"}}


def test_headings_and_reasons_without_places(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Column("k", "T", True, unit="dB").heading == "T (dB) ↑"
    assert Column("k", "T", False).heading == "T ↓"
    assert Column("k", "T").heading == "T"
    assert Column("k", "T").digits == 2
    assert Cell().n == 0
    monkeypatch.setenv("M2L_CACHE", "/some/cache")
    monkeypatch.setenv("M2L_DATA", "/the/data/")
    monkeypatch.setenv("HOME", "/")
    assert tidy("no /some/cache/w and /the/data/x and /y") == "no <cache>/w and $M2L_DATA/x and /y"
    monkeypatch.setenv("HOME", "/h")
    assert tidy("/h/x") == "~/x"


def test_a_row_is_named_by_its_steps_where_they_are_not_its_own() -> None:
    spec = SimpleNamespace(n_steps=1)
    labels = [SystemRow("codec", spec, n_steps=steps).label for steps in (None, 1, 4)]  # type: ignore[arg-type]
    assert labels == ["codec", "codec", "codec@4"]
    assert SystemRow("codec", None, n_steps=4).label == "codec@4"


# ---------------------------------------------------------------- what is left out


def test_rows_on_fewer_clips_and_their_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    cells = {
        "all": Cell(1.0, n=8), "some": Cell(1.0, n=6, details={"lost": {"odd": 2}}), "few": Cell(1.0, n=7),
        "none": Cell(None, n=0, details={"lost": {"odd": 9}}),
    }  # fmt: skip
    assert partial_rows(cells) == {"some": "6 of 8 clips", "few": "7 of 8 clips"}
    assert partial_rows({}) == {}
    assert partial_rows({"a": Cell(1.0, n=2, details={"lost": {"odd": 3}})}) == {"a": "2 of 5 clips"}
    assert items_of([Cell(1.0, n=5), Cell(1.0, n=3, details={"given": 7})]) == 7
    assert items_of([]) == 0
    assert lost(cells["some"]) == {"odd": 2}
    assert [count_clips(n) for n in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]
    assert all_exact(Cell(5.0, n=1, details={"counted": {"exact": 1}}))
    exact = Cell(5.0, n=2, details={"counted": {"exact, counted as 5": 2, "silent": 1}})
    assert counted(exact) == {"exact, counted as 5": 2, "silent": 1}
    assert [all_exact(cell) for cell in (exact, Cell(5.0, n=3, details=exact.details), Cell(None))] == [
        True,
        False,
        False,
    ]
    assert count_reasons({"a": "unreadable: torn (x1)", "b": "unreadable: torn (x2)", "c": "a"}) == {
        "a": 1, "unreadable: torn": 2
    }  # fmt: skip
    eight = {f"r{i}": i for i in range(8)}
    assert listed(eight) == sorted(eight.items())
    nine = {f"r{i}": i + 1 for i in range(9)}
    assert listed(nine) == [*((f"r{i}", i + 1) for i in range(8, 1, -1)), ("2 other reasons", 3)]
    ties = {f"r{i}": 1 for i in range(9, 0, -1)}
    assert listed(ties)[:2] == [("r1", 1), ("r2", 1)]
    report = RunReport(unusable={"silent": 1}, lost={"codec": {"odd": 2}})
    assert say_left_out(report)
    assert capsys.readouterr().err == "left out of every row: 1 clip: silent\nleft out of codec: 2 clips: odd\n"
    assert not say_left_out(RunReport())
    assert capsys.readouterr().err == ""


def suite_clips(clips: list[Clip], at_most: int = 0, n_clips: int = 0, **options: Any) -> SuiteClips:
    suite = parse_suite(
        {"name": "x", "data": {"dataset": "folder", "limit": at_most, "options": {"path": "/music/jazz"}}}
    )
    found = SuiteClips(suite, RunOptions(**options), n_clips)
    found.__dict__["_dataset"] = SimpleNamespace(clips=lambda split: clips, group_name="track")
    return found


def test_which_clips_a_suite_has_and_how_it_says_so() -> None:
    clips = [
        Clip(f"c{i}", "set", f"{i}", {}, "", lambda: None, seconds=30.0 if i else None, group="t" if i < 3 else "")  # type: ignore[arg-type, return-value]
        for i in range(6)
    ]
    assert suite_clips(clips).clip_ids == ("c0", "c1", "c2", "c3", "c4", "c5")
    assert suite_clips(clips, at_most=4).clip_ids == ("c0", "c1", "c2", "c3")
    assert suite_clips(clips, at_most=4, limit=2).clip_ids == ("c0", "c1")
    assert suite_clips(clips, n_clips=3).clip_ids == ("c0", "c3", "c4")
    assert suite_clips(clips).groups == {"c0": "t", "c1": "t", "c2": "t"}
    assert suite_clips(clips).seconds == seconds_of(clips) == 160.0
    assert suite_clips(clips).data_name == "jazz"
    assert suite_clips(clips).description == "6 clips of 4 tracks"
    assert suite_clips(clips, seconds=5.0).description == "6 clips of 4 tracks, the first 5 s of each"
    assert suite_clips(clips, n_clips=3).description == "3 clips, the first of each of 3 tracks"
    assert suite_clips(clips, n_clips=5).description == "5 clips of 4 tracks, spread over all tracks"
    assert suite_clips(clips).coverage is None
    assert suite_clips(clips).manifest_digest != suite_clips(clips[:5]).manifest_digest


def test_clips_of_a_split_are_matched_among_all() -> None:
    asked = []
    one, two = (Clip(name, "set", name, {}, "", lambda: None) for name in "ab")  # type: ignore[arg-type, return-value]

    def clips(split: str | None) -> list[Clip]:
        asked.append(split)
        return [one, two] if split == "all" else [two]

    suite = parse_suite({"name": "x", "data": {"dataset": "folder", "split": "test", "options": {"path": "/music"}}})
    found = SuiteClips(suite, RunOptions())
    found.__dict__["_dataset"] = SimpleNamespace(clips=clips, coverage=lambda: "half of it")
    assert (found.clip_ids, found.all_clip_ids, asked) == (("b",), ("b", "a"), ["test", "all"])
    assert (found.coverage, found.n_clips) == ("half of it", 0)
    found.__dict__["_dataset"].coverage = lambda: ""
    assert found.coverage is None
    found.stand_in = SimpleNamespace()  # type: ignore[assignment]
    found.__dict__["_dataset"].coverage = lambda: "half of it"
    assert found.coverage is None
    assert found.group_name == "group"
