"""Records as files: what a baseline keeps, what it refuses, and what a run reproduces of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gate_helpers import pairs, record, tracks

from benchmarks.gate import reproduction, results
from benchmarks.gate.record import (
    BaselineFormatError,
    CellRecord,
    Record,
    RecordError,
    baseline_text,
    checked_count,
    checked_groups,
    checked_metadata,
    finite_row,
    read_baseline,
    rounded,
    write_baseline,
)
from benchmarks.gate.reproduction import reproduction_lines
from benchmarks.gate.results import _close, _figure, _probes, _scored_cell

SCORES = pairs([1.0, 2.0, math.nan, math.inf])
DISTANCE = CellRecord(
    0.5, replicates=(0.25, 0.75, 0.5), replicates_of="jackknife", clips=("clip02", "clip00", "clip01"), n=3
)
TABLE1 = Record("tiny", "", 0, {"mtt/ap": {"title": "AP", "digits": 1, "data": "d"}}, {"mel": {}},
                {"mtt/ap": {"mel": CellRecord(40.0, seeds=(39.0, 41.0), n=9)}})  # fmt: skip
FULL = record(
    {"si_sdr": {"codec": SCORES, "gone": CellRecord(None, reason="no weights")}, "fad:vggish": {"codec": DISTANCE}},
    groups=tracks([2]), others={"table1": TABLE1}, seed=7,
)  # fmt: skip


def test_a_baseline_comes_back_as_it_was_pinned(tmp_path: Path) -> None:
    pinned = FULL.pinned(None, {"si_sdr": 0.25})
    assert list(pinned.cells["si_sdr"]) == ["codec"]
    assert "gone" not in pinned.systems
    assert (FULL.n_clips, record({}).n_clips) == (3, 0)
    write_baseline(tmp_path / "b.json", pinned)
    found = read_baseline(tmp_path / "b.json")
    assert found.cells == pinned.cells
    assert (found.tolerances, found.seed, found.groups, found.others["table1"].cells) == (
        {"si_sdr": 0.25}, 7, tracks([2]), TABLE1.cells
    )  # fmt: skip
    written = json.loads(baseline_text(pinned))
    assert written["format"] == 2
    assert written["clips"] == ["clip00", "clip01", "clip03", "clip02"]  # those of the longest list come first
    assert written["cells"]["fad:vggish"]["codec"]["n"] == 3
    assert "n" not in written["cells"]["si_sdr"]["codec"]
    with pytest.raises(RecordError, match="'dac' was not measured; measured: codec, mel"):
        FULL.pinned(["dac"], {})
    part = FULL.pinned(["mel"], {})
    assert (part.cells, part.metrics, part.systems, list(part.others)) == ({}, {}, {}, ["table1"])
    assert FULL.pinned(["codec"], {}).others == {}


def test_numbers_keep_seven_digits() -> None:
    assert rounded(1.23456789) == 1.234568
    assert rounded(-0.00012345678) == -0.0001234568
    assert rounded(math.inf) == math.inf


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r.update(format=0), "format 0, this version reads 2"),
        (lambda r: r.update(format=3), "format 3, this version reads 2"),
        (lambda r: r.update(format="2"), "format '2'"),
        (lambda r: r["cells"].update(mel={}), "belong to no metric"),
        (lambda r: r["cells"]["si_sdr"].update(other=r["cells"]["si_sdr"]["codec"]), "belong to no metric or system"),
        (lambda r: r["groups"].update(clip00=""), "group must be a name"),
        (lambda r: r["groups"].update(clip00=3), "group must be a name"),
        (lambda r: r["metrics"][0].update(digits=13), "digits=13"),
        (lambda r: r["metrics"][0].update(digits=-1), "digits=-1"),
        (lambda r: r["cells"]["si_sdr"]["codec"].update(value=None), "without a value"),
        (lambda r: r["cells"]["si_sdr"]["codec"].update(scores=[None] * 4), "without a score"),
        (lambda r: r["cells"]["fad:vggish"]["codec"].update(n=-1), "number of items is negative"),
        (lambda r: r["cells"]["fad:vggish"]["codec"]["replicates"].append("inf"), "not finite"),
        (lambda r: r.update(suite=3), "suite must be a name"),
    ],
)
def test_a_damaged_baseline_is_named(tmp_path: Path, edit: Callable[[dict[str, Any]], Any], message: str) -> None:
    content = json.loads(baseline_text(FULL.pinned(None, {})))
    edit(content)
    path = tmp_path / "b.json"
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=message) as raised:
        read_baseline(path)
    assert raised.type is RecordError  # not one to be pinned anew


def test_a_baseline_has_a_line_for_each_cell(tmp_path: Path) -> None:
    """Numbers of clips that a cell lacks are null; a cell with the order of all clips names none."""
    metrics = {"si_sdr": {"title": "SI-SDR", "digits": 2}, "fad:vggish": {"title": "FAD", "digits": 3}}
    distance = CellRecord(0.5, replicates=(0.25, 0.75), replicates_of="jackknife", clips=("clip01", "clip00"))
    cells = {"si_sdr": {"codec": pairs([1.0, 2.0, 3.0]), "x": pairs([math.nan, 5.0])}, "fad:vggish": {"x": distance}}
    pinned = record(cells, metrics=metrics, about={}, others={"table1": replace(TABLE1, systems={"mel": {"a": {}}})})
    assert baseline_text(pinned).splitlines() == [
        "{",
        ' "about": {},',
        ' "cells": {',
        '  "fad:vggish": {',
        '   "x": {"clips": [1, 0], "replicates": [0.25, 0.75], "replicates_of": "jackknife", "value": 0.5}',
        "  },",
        '  "si_sdr": {',
        '   "codec": {"scores": [1.0, 2.0, 3.0], "value": 2.0},',
        '   "x": {"scores": [null, 5.0, null], "value": 5.0}',
        "  }",
        " },",
        ' "clips": ["clip00", "clip01", "clip02"],',
        ' "clips_sha256": "abc",',
        ' "format": 2,',
        ' "groups": {},',
        ' "metrics": [{"digits": 2, "name": "si_sdr", "title": "SI-SDR"},'
        ' {"digits": 3, "name": "fad:vggish", "title": "FAD"}],',
        ' "seed": 0,',
        ' "suite": "tiny",',
        ' "systems": [{"name": "codec"}, {"name": "x"}],',
        ' "tolerances": {},',
        ' "table1": {',
        '  "about": {},',
        '  "cells": {',
        '   "mtt/ap": {',
        '    "mel": {"n": 9, "seeds": [39.0, 41.0], "value": 40.0}',
        "   }",
        "  },",
        '  "clips": [],',
        '  "clips_sha256": "",',
        '  "groups": {},',
        '  "metrics": [{"data": "d", "digits": 1, "name": "mtt/ap", "title": "AP"}],',
        '  "seed": 0,',
        '  "systems": [{"a": {}, "name": "mel"}]',
        " }",
        "}",
    ]
    write_baseline(tmp_path / "b.json", pinned)
    assert read_baseline(tmp_path / "b.json").cells == cells


def test_an_older_format_keeps_its_tolerances(tmp_path: Path) -> None:
    content = json.loads(baseline_text(FULL.pinned(None, {"si_sdr": 0.25})))
    (tmp_path / "b.json").write_text(json.dumps({**content, "format": 1}))
    with pytest.raises(BaselineFormatError) as raised:
        read_baseline(tmp_path / "b.json")
    assert raised.value.tolerances == {"si_sdr": 0.25}


def test_what_files_may_hold() -> None:
    assert [checked_metadata({"title": "T", "digits": n})["digits"] for n in (0, 12)] == [0, 12]
    assert [checked_count(n) for n in (0, 5, 2**63 - 1)] == [0, 5, 2**63 - 1]
    for n in (-1, 2**63):
        with pytest.raises(ValueError, match="more digits than any count"):
            checked_count(n)
    assert finite_row([1, 2.5]) == (1.0, 2.5)
    for row in ([None], [math.inf], [math.nan]):
        with pytest.raises(ValueError, match="not finite"):
            finite_row(row)
    assert checked_groups({"a": "t"}) == {"a": "t"}


# ---------------------------------------------------------------- results


def test_replicates_belong_to_the_value_and_the_groups() -> None:
    cell = {"value": 0.5, "reason": None, "details": {"failed_clips": {"z": "odd"}}}
    found = {
        "value": 0.5 * (1 + 1e-10),
        "replicates": [0.25, 0.75],
        "replicates_of": "jackknife",
        "groups": [["a", "b"], ["c"]],
    }
    read = _scored_cell(cell, {"a": 1.23456789, "b": None}, found, {"a": "t", "b": "t"})
    assert (read.value, read.replicates, read.clips) == (0.5, (0.25, 0.75), ("a", "b", "c"))
    assert (read.scores, read.failures, read.reason) == ({"a": 1.234568}, {"z": "odd"}, "")
    for other in (
        {**found, "value": 0.5 * (1 + 1e-8)},
        {**found, "value": None},
        {**found, "groups": [["a"], ["b", "c"]]},
    ):
        assert _scored_cell(cell, {}, other, {"a": "t", "b": "t"}).replicates == ()
    assert _scored_cell({**cell, "value": None, "reason": "no weights"}, {}, found, {}).reason == "no weights"
    assert [_close(a, b) for a, b in ((1.0, 1.0), (None, 1.0), (1e-13, 0.0), (1e-11, 0.0), (1.0, 1.1))] == [
        True, False, True, False, False
    ]  # fmt: skip


def test_tables_of_one_folder_are_of_one_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"table2": record({}), "figure2": record({}, seed=9)}
    monkeypatch.setattr(results, "_read", lambda folder, stem, name: found[name])
    with pytest.raises(FileNotFoundError, match="no results in"):
        results.read_results(tmp_path)
    for name in ("table2", "figure2"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert list(results.read_results(tmp_path).others) == ["figure2"]
    found["figure2"] = replace(found["figure2"], suite="other")
    with pytest.raises(RecordError, match=r"table2\.json of 'tiny', figure2\.json of 'other'"):
        results.read_results(tmp_path)
    (tmp_path / "table2.json").unlink()
    alone = results.read_results(tmp_path)
    assert (alone.suite, alone.seed, alone.clips_sha256, alone.cells) == ("other", 0, "", {})


def provenance(**more: Any) -> dict[str, Any]:
    return {"m2l": "1", "libraries": {}, "clips_sha256": "c", "suite": {"seed": 5}, **more}


def test_probes_and_points() -> None:
    column = {"key": "mtt/ap", "title": "AP", "digits": 1, "higher_is_better": True}
    rows = [
        {"name": name, "metadata": {"n_steps": None}, "cells": {"mtt/ap": {
            "value": 40.0, "reason": reason, "n": 9, "details": {"per_seed": [39.0, 41.0]},
        }}} for name, reason in (("mel", None), ("chance", "odd"))
    ]  # fmt: skip
    table = {"suite": "tiny", "columns": [column, {**column, "key": "seconds"}], "rows": rows}
    found = _probes({**table, "provenance": provenance(tasks={"mtt": {"data_sha256": "d"}})})
    mel, chance = (found.cells["mtt/ap"][name] for name in ("mel", "chance"))
    assert (mel.value, mel.seeds, mel.n, mel.reason) == (40.0, (39.0, 41.0), 9, "")
    assert (chance.n, chance.reason) == (0, "odd")
    assert (found.seed, found.metrics) == (0, {"mtt/ap": {"title": "AP", "digits": 1, "data": "d"}})
    point = {"n_steps": 2, "value": 3.0, "reason": None, "n": 4}
    fad = {"key": "fad:vggish", "title": "FAD", "digits": 3, "higher_is_better": False}
    figure = {
        "suite": "tiny",
        "columns": [fad],
        "curves": {"codec": {"fad:vggish": [point, {**point, "n_steps": 3, "value": None, "reason": "no"}]}},
    }
    drawn = _figure({**figure, "provenance": provenance()})
    assert drawn.cells == {
        "fad:vggish": {"codec@2": CellRecord(3.0, n=4), "codec@3": CellRecord(None, reason="no", n=4)}
    }
    assert (drawn.seed, drawn.clips_sha256) == (5, "c")


def test_a_run_reproduces_what_lies_within_the_tolerances(monkeypatch: pytest.MonkeyPatch) -> None:
    base = [1.0, 2.0, 3.0]
    cells = {"si_sdr": {f"s{i:02d}": pairs(base) for i in range(44)}}
    moved = {
        "si_sdr": {
            **cells["si_sdr"],
            **{f"s{i:02d}": pairs([x + (0.5 if i else -0.5) for x in base]) for i in range(41)},
        }
    }
    records = {"pinned": record(cells), "now": record(moved)}
    values = {
        "pinned": {("s00", "si_sdr"): 2.0, ("s00", "kbps"): 64.0, ("s01", "kbps"): 64.0, ("s02", "kbps"): 0.0},
        "now": {("s00", "kbps"): 64.06, ("s01", "kbps"): 64.07, ("s02", "kbps"): 1e-10},
    }
    monkeypatch.setattr(reproduction, "read_results", lambda place: records[place.name])
    monkeypatch.setattr(reproduction, "read_values", lambda path: values[path.parent.name])
    lines = reproduction_lines(Path("pinned"), Path("now"), ["table2"])
    assert lines[0] == "reproduces pinned: 5 of 47 cells within tolerance"
    assert lines[1].startswith("  s00: SI-SDR changed by -0.500")
    assert lines[2].startswith("  s01: SI-SDR is better by +0.500")
    assert lines[41] == "  and 2 more: m2l-bench gate --strict lists them"
    assert len(lines) == 42
    records["now"] = replace(record(cells), about={"m2l": "0.1.0", "libraries": {"numpy": "3"}})
    values["now"] = {("s00", "kbps"): 64.0, ("s01", "kbps"): 65.0}
    assert reproduction_lines(Path("pinned"), Path("now"), ["table2"]) == [
        "reproduces pinned: 45 of 47 cells within tolerance",
        "  table2 s01: kbps from 64 to 65", "  table2 s02: kbps from 0 to nothing", "  numpy 2 -> 3",
    ]  # fmt: skip
    records["now"] = record({"si_sdr": {**cells["si_sdr"], **{f"s{i:02d}": pairs([9.0] * 3) for i in range(40)}}})
    values["now"] = values["pinned"]
    assert len(reproduction_lines(Path("pinned"), Path("now"), ["table2"])) == 41
