"""What the gate and the history write, word for word."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.gate.history import Entry, _git, draw, entry_of, select
from benchmarks.gate.history import to_markdown as history_table
from benchmarks.gate.judge import GateReport, Verdict
from benchmarks.gate.record import RecordError
from benchmarks.gate.render import difference_lines, junit_of_error, message, to_json, to_junit, to_markdown

CLIPS = (("c1", -2.5), ("c2", -1.0), ("c3", -0.5), ("c4", -0.25), ("c5", 0.5))
WORSE = Verdict(
    "si_sdr", "codec", "SI-SDR", 2, True, "worse", 10.0, 9.25, n=5, n_groups=5, change=-0.75, low=-1.0, high=-0.5,
    tolerance=0.1, detectable=0.3, sample_change=0.5, power=0.999, p=0.000123, clips=CLIPS,
)  # fmt: skip
BETTER = replace(
    WORSE, system="other", verdict="better", current=11.0, change=1.0, low=0.5, high=1.5, p=1.0, power=0.25, clips=()
)
SAME = replace(
    WORSE, metric="fad:vggish", title="FAD", digits=3, higher_is_better=False, verdict="same", baseline=0.5,
    current=0.75, n_groups=2, change=0.25, low=-1.0, high=1.5, p=0.3, reason="beyond the tolerance, but within chance",
)  # fmt: skip
GONE = Verdict("visqol", "codec", "ViSQOL", 2, True, "missing", 4.125, reason="no such metric")


def test_a_sentence_for_each_verdict() -> None:
    said = "codec: SI-SDR changed by -0.750 [-1.000, -0.500], from 10.00 to 9.25, on 5 clips"
    assert message(WORSE) == f"{said}; most on c1 (-2.50), c2 (-1.00), c3 (-0.50)"
    assert message(replace(WORSE, collapsed=("c1",), reason="2 are gone", clips=CLIPS[4:])) == (
        f"{said}; 1 clip collapsed; besides, 2 are gone"
    )
    assert "; 2 clips collapsed; most on" in message(replace(WORSE, collapsed=("c1", "c2")))
    assert message(GONE) == "codec: ViSQOL (pinned 4.12): no such metric"
    assert message(BETTER).endswith("from 10.00 to 11.00, on 5 clips")
    assert "on 5 clips of 2 groups" in message(SAME)
    assert "on 5 clips of 1 group" in message(replace(SAME, n_groups=1)).replace("groups", "?")
    pulled = replace(SAME, verdict="worse", clips=(("t1", 0.5), ("t2", 0.1), ("t3", -0.1)), reason="")
    assert message(pulled).endswith("; pulled most by t1, t2")
    assert "(clips clamped to at least -40)" in message(replace(WORSE, floor=-40.0, current=-40.5))
    assert "clamped" not in message(replace(WORSE, floor=-40.0, current=-40.0))
    still = replace(WORSE, clips=(("c1", -2.5), ("c2", 0.0)))
    assert message(still).endswith("on 5 clips; most on c1 (-2.50)")
    plain = Verdict("m", "s", "M", 1, True, "same", 1.0)
    assert (plain.n, plain.n_groups, plain.table, plain.floor) == (0, 0, "table2", -math.inf)


def test_the_table_and_what_stands_around_it() -> None:
    report = GateReport("tiny", (WORSE, GONE, BETTER, SAME), (("mel", "codec"),), ("numpy 2 -> 3", "m2l"), alpha=0.004)
    lines = to_markdown(report).splitlines()
    assert lines[0] == "### Gate of suite tiny: red (1 worse, 1 missing, 1 better, 1 same)"
    assert lines[2].startswith("- **worse** codec: SI-SDR changed by -0.750")
    assert [line.split(" ")[1] for line in lines[2:5]] == ["**worse**", "**missing**", "**better**"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    rows = [row for row in rows if row[0] not in ("system", "------")]
    lost = "-0.750 [-1.000, -0.500]"
    assert rows == [
        ["codec", "SI-SDR ↑", "10.00", "9.25", lost, "0.100", "0.300", "0.00012", "5", "**worse**"],
        ["codec", "ViSQOL ↑", "4.12", "–", "–", "–", "–", "–", "0", "**missing**"],
        ["other", "SI-SDR ↑", "10.00", "11.00", "+1.000 [+0.500, +1.500]", "0.100", "0.300", "1", "5", "**better**"],
        ["codec", "FAD ↓", "0.500", "0.750", "+0.2500 [-1.0000, +1.5000]", "0.1000", "0.3000", "0.3", "5 (2)", "same"],
    ]  # fmt: skip
    text = "\n".join(lines)
    assert "<details><summary>1 cells are the same</summary>" in text
    assert "Beyond the tolerance, but within chance: codec FAD  " in text
    assert "Differs from the baseline's run: numpy 2 -> 3; m2l  " in text
    assert "Measured and not pinned: codec mel  " in text
    assert "Holm over all cells) below 0.004; or a clip collapsed." in text
    assert "caught with probability 0.95, given" in text
    assert lines[-2:] == [
        "SI-SDR: a change of 0.500 in 5 clips is caught with probability 0.25 at least (other)  ",
        "FAD: a change of 0.5000 in 5 clips of 2 groups is caught with probability 1.00",
    ]
    strict = to_markdown(replace(report, strict=True))
    assert "Worse: beyond the tolerance, whatever p is (strict); or a clip collapsed." in strict
    head, blank, rule, *_ = to_markdown(GateReport("tiny", ())).splitlines()
    assert (head, blank, rule[:6]) == ("### Gate of suite tiny: green (nothing pinned)", "", "Worse:")
    head, blank, bullet, again, table, *_ = to_markdown(GateReport("tiny", (BETTER,))).splitlines()
    assert (head, blank, again) == ("### Gate of suite tiny: green (1 better)", "", "")
    assert (bullet[:12], table[:8]) == ("- **better**", "| system")
    # Different sizes of one metric are told in tolerances, and what is not of Table 2 or unknown is not told.
    two = (WORSE, replace(WORSE, sample_change=0.75), replace(WORSE, table="table3"), replace(WORSE, power=math.nan))
    told = [line for line in to_markdown(GateReport("tiny", two)).splitlines() if "is caught with" in line]
    assert told == ["SI-SDR: a change of 5 tolerances in 5 clips is caught with probability 1.00"]
    for power, text in ((0.995, "probability 1.00"), (0.9949, "probability 0.99 at least (codec)")):
        assert text in to_markdown(GateReport("tiny", (replace(WORSE, power=power),)))


def test_programs_read_every_cell_and_clip() -> None:
    many = replace(WORSE, clips=tuple((f"c{i}", -1.0 - i / 8) for i in range(25)))
    report = GateReport("tiny", (many, GONE, replace(SAME, table="table3", system="a\x01b\ud800c\udfff\ufffed\te")))
    suite = ElementTree.fromstring(to_junit(report).split("\n", 1)[1])[0]
    assert (suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("errors")) == (
        "gate.tiny",
        "3",
        "1",
        "1",
    )
    worse, gone, same = suite
    assert (worse.get("classname"), worse.get("name")) == ("gate.tiny.codec", "si_sdr")
    assert str(worse[0].text).splitlines() == [f"c{i}: {-1.0 - i / 8:+.6g}" for i in range(20)]
    assert (gone[0].tag, gone[0].get("type"), same[0].tag) == ("error", "missing", "system-out")
    assert same.get("classname") == "gate.tiny.table3.abcd\te"
    found = json.loads(to_json(replace(report, verdicts=(many,)), 1))
    assert (found["status"], found["counts"]["worse"], len(found["verdicts"][0]["clips"])) == (1, 1, 25)
    assert found["verdicts"][0]["message"] == message(many)
    assert "floor" not in found["verdicts"][0]
    [broken] = ElementTree.fromstring(junit_of_error("tiny", "no \x02 file").split("\n", 1)[1])
    assert (broken.get("tests"), broken.get("failures"), broken.get("errors")) == ("1", "0", "1")
    assert broken[0][0].get("message") == "no  file"


def test_what_a_new_baseline_changes() -> None:
    pinned = [
        ("table2", "si_sdr", "codec", 9.25), ("table2", "si_sdr", "other", 10.0), ("table2", "mel", "codec", 1.0),
        ("table1", "mtt/auc_roc", "codec", 80.0), ("table1", "mtt/ap", "codec", 40.0),
        ("table2", "fad:vggish", "codec", 0.5),
    ]  # fmt: skip
    assert difference_lines(None, pinned) == ["First baseline: 6 cells pinned."]
    assert difference_lines(GateReport("tiny", (WORSE, BETTER, GONE, SAME)), pinned) == [
        "- codec SI-SDR: 10.00 -> 9.25 (worse)", "- no longer pinned: codec ViSQOL (4.12): no such metric",
        "- newly pinned: codec mel", "- newly pinned: 2 cells of Table 1", "2 of 6 pinned values are unchanged.",
    ]  # fmt: skip


def entry(index: int, value: float, **changes: object) -> Entry:
    cells = {"si_sdr": {"codec": {"value": value, "low": value - 1, "high": value + 1, "n": 4}}}
    shown = {"si_sdr": {"title": "SI-SDR", "digits": 2}}
    made = Entry(f"{index:040x}", f"2024-01-{index + 1:02d}T00:00:00", "tiny", False, "0.1", "abc", cells, shown)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_last_commits_as_columns() -> None:
    entries = [entry(i, float(i)) for i in range(8)]
    entries[5] = replace(entries[5], clips_sha256="other")
    text = history_table(entries, select(entries, None, None)).splitlines()
    assert text[0] == "### History of suite tiny: 8 commits"
    assert [cell.strip() for cell in text[2].strip("|").split("|")] == [
        "system", "metric", *(f"2024-01-{i + 1:02d} {'0' * 8}" for i in range(2, 8))
    ]  # fmt: skip
    assert [cell.strip() for cell in text[4].strip("|").split("|")] == [
        "codec",
        "SI-SDR",
        *(f"{i}.00" for i in range(2, 8)),
    ]
    assert text[-1] == "The clips changed, so earlier values do not compare: 00000000, 00000000"
    assert "do not compare" not in history_table(entries[6:], select(entries, None, None))
    last = [*entries[:3], replace(entries[3], uncommitted=True)]
    assert "not committed" in history_table(last, select(entries, None, None))
    renamed = [*entries[:2], replace(entries[2], suite="new")]
    assert history_table(renamed, select(entries, None, None)).startswith("### History of suite new: 3 commits\n\n|")
    assert "not committed" not in history_table(entries, select(entries, None, None))


def test_a_series_is_of_a_metric_and_a_system_that_some_entry_has() -> None:
    two = entry(0, 1.0)
    shown = {"si_sdr": two.metrics["si_sdr"], "snr": {"title": "SNR", "digits": 1}}
    cells = {"si_sdr": {"codec": {}, "other": {}}, "snr": {"codec": {}}}
    entries = [entry(0, 1.0), replace(two, metrics=shown, cells=cells)]
    every = [("si_sdr", "codec"), ("si_sdr", "other"), ("snr", "codec")]
    assert select(entries, None, None) == select(entries, [], []) == every
    assert select(entries, ["snr"], None) == [("snr", "codec")]
    assert select(entries, None, ["other"]) == [("si_sdr", "other")]
    assert select(entries, ["si_sdr", "snr"], ["codec"]) == [("si_sdr", "codec"), ("snr", "codec")]
    with pytest.raises(RecordError, match="no metric 'codec' in the history; known: si_sdr, snr"):
        select(entries, ["codec"], None)
    with pytest.raises(RecordError, match="no system 'snr' in the history; known: codec, other"):
        select(entries, None, ["snr"])
    with pytest.raises(RecordError, match="known: none"):
        select([], None, ["codec"])


def test_git_s_own_words(tmp_path: Path) -> None:
    _git(tmp_path, "init", "-q")
    with pytest.raises(RecordError, match="git log: fatal: ambiguous argument 'nothing'"):  # three lines
        _git(tmp_path, "log", "nothing")
    for name in "ab":
        (tmp_path / name).write_text(name)
    with pytest.raises(RecordError, match="git diff: exit code 1"):
        _git(tmp_path, "diff", "--quiet", "--no-index", "a", "b")


def test_a_row_may_lack_a_cell_or_its_value() -> None:
    column = {"key": "si_sdr", "title": "SI-SDR", "digits": 2, "higher_is_better": True}
    full = {"value": 1.0, "low": None, "high": 2.0, "n": 3, "median": 1.0}
    rows = [{"name": "a", "cells": {"si_sdr": full}}, {"name": "b", "cells": {}}]
    rows += [{"name": "c", "cells": {"si_sdr": {**full, "value": None}}}]
    table = {"suite": "tiny", "columns": [column], "rows": rows, "provenance": {"m2l": "1", "clips_sha256": "d"}}
    found = entry_of(table, "abc", "2024")
    assert found.cells == {"si_sdr": {"a": {"value": 1.0, "low": None, "high": 2.0, "n": 3}}}
    assert (found.suite, found.m2l, found.clips_sha256) == ("tiny", "1", "d")


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list:
    """The axes that `draw` draws on."""
    seen = []
    from benchmarks.gate import history

    plain = history.svg_text

    def keep(figure: object) -> str:
        seen.extend(figure.axes)  # type: ignore[attr-defined]
        return plain(figure)

    monkeypatch.setattr(history, "svg_text", keep)
    return seen


def test_a_line_breaks_where_the_clips_changed(axes: list) -> None:
    entries = [entry(i, float(i), clips_sha256="abc" if i < 3 else "new") for i in range(6)]
    del entries[4].cells["si_sdr"]["codec"]  # type: ignore[attr-defined]
    draw(entries, [("si_sdr", "codec")])
    [axis] = axes
    assert axis.get_yscale() == "linear"
    first, second, dashed, *_ = axis.lines
    assert (first.get_xdata().tolist(), first.get_ydata().tolist()) == ([0, 1, 2], [0.0, 1.0, 2.0])
    assert (second.get_xdata().tolist(), second.get_ydata().tolist()) == ([3, 5], [3.0, 5.0])
    assert list(dashed.get_xdata()) == [2.5, 2.5]
    band = axis.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (-1.0, 3.0)
    assert axis.get_xlim() == (-0.5, 5.5)
    assert axis.get_title().startswith("SI-SDR")
    assert len(axis.lines) == 4  # two parts, one break, one of the legend


def test_clips_that_changed_at_once_break_the_line_at_once(axes: list) -> None:
    draw([entry(i, float(i), clips_sha256=f"set {min(i, 2)}") for i in range(4)], [("si_sdr", "codec")])
    parts = [line.get_xdata() for line in axes[0].lines]
    assert [list(part) for part in parts] == [[0], [1], [2, 3], [0.5, 0.5], [1.5, 1.5], []]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.01, 0.301], "symlog"), ([0.01, 0.299], "linear"), ([0.0625, 1.875], "linear"),  # 30 times
        ([1e-4, 0.3], "linear"), ([1e-3, 0.3], "linear"), ([-0.5, -0.01], "symlog"),
    ],
)  # fmt: skip
def test_a_distance_of_many_sizes_is_drawn_on_a_logarithm(axes: list, values: list[float], scale: str) -> None:
    shown = {"fad:vggish": {"title": "FAD", "digits": 3}}
    entries = [
        entry(
            i, 0.0, metrics=shown, cells={"fad:vggish": {"codec": {"value": value, "low": None, "high": None, "n": 4}}}
        )
        for i, value in enumerate(values)
    ]
    draw(entries, [("fad:vggish", "codec")])
    assert axes[0].get_yscale() == scale
    assert not axes[0].collections
