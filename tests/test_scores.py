"""`scores.csv`: every clip with its score or the reason why it has none, and `benchmarks.load_scores`."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

import benchmarks
from benchmarks.evaluation.cells import Cell, Column, Row
from benchmarks.registry import UnknownNameError
from benchmarks.tables.scores import write_scores
from benchmarks.tables.table import TableResult

ROOT = Path(__file__).resolve().parent.parent
SUITE = """
name = "tiny"
[data]
dataset = "synthetic"
[table2]
systems = ["identity"]
metrics = ["si_sdr"]
"""


def table(name: str, scores: dict[str, dict[str, float]], failed: dict[str, str] | None = None) -> TableResult:
    rows = [Row(system, {"si_sdr": Cell(value=1.0, n=2, details={"failed_clips": failed or {}})}) for system in scores]
    return TableResult(name, name, "tiny", [Column("si_sdr", "SI-SDR", True)], rows, scores={"si_sdr": scores})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of results with two tables, and the suite's file."""
    (tmp_path / "tiny.toml").write_text(SUITE)
    failed = {"c": "IsADirectoryError:\rno audio"}
    table("table2", {"z": {"b": 0.1 + 0.2, "a": math.inf}, "mine, too": {"a": -1.5}}, failed).write(tmp_path / "tiny")
    table("table3", {"z": {"a": 4.0}}).write(tmp_path / "tiny")
    return tmp_path


def test_a_clip_has_a_score_or_a_reason(results: Path) -> None:
    path = write_scores(results / "tiny")
    assert path == results / "tiny" / "scores.csv"
    assert path.read_text() == (
        "table,clip,group,system,metric,value,reason\n"
        'table2,a,a,"mine, too",si_sdr,-1.5,\n'
        "table2,a,a,z,si_sdr,inf,\n"
        "table2,b,b,z,si_sdr,0.30000000000000004,\n"
        'table2,c,c,"mine, too",si_sdr,,IsADirectoryError: no audio\n'
        "table2,c,c,z,si_sdr,,IsADirectoryError: no audio\n"
        "table3,a,a,z,si_sdr,4.0,\n"
    )
    found = benchmarks.load_scores(str(results / "tiny.toml"), results)
    assert len(found) == 6
    assert found["value"].dtype == float
    assert found["value"].tolist()[1:3] == [math.inf, 0.30000000000000004]
    assert found["value"].isna().tolist() == [False, False, False, True, True, False]
    assert found["reason"].tolist()[0] == ""


def test_an_unchanged_file_is_left_alone_and_no_table_is_no_file(results: Path, tmp_path: Path) -> None:
    path = write_scores(results / "tiny")
    assert path is not None
    before = path.stat().st_mtime_ns
    write_scores(results / "tiny")
    assert path.stat().st_mtime_ns == before
    (tmp_path / "empty").mkdir()
    assert write_scores(tmp_path / "empty") is None


def test_mistakes_are_named(results: Path) -> None:
    suite = str(results / "tiny.toml")
    with pytest.raises(UnknownNameError, match="did you mean 'open'"):
        benchmarks.load_scores("opne")
    with pytest.raises(FileNotFoundError, match=r"scores\.csv; measure them with: m2l-bench tables --suite"):
        benchmarks.load_scores(suite, results)
    (results / "tiny" / "scores.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"scores\.csv: columns a, b; expected table, clip"):
        benchmarks.load_scores(suite, results)
    (results / "tiny" / "scores.csv").write_text("table,clip,system,metric,value,reason\nt,c,s,m,loud,\n")
    with pytest.raises(ValueError, match=r"scores\.csv: not a file of scores"):
        benchmarks.load_scores(suite, results)
    (results / "tiny" / "table2.json").write_text('{"scores": 3}')
    with pytest.raises(ValueError, match=r"table2\.json: not a table of this version"):
        write_scores(results / "tiny")


@pytest.mark.parametrize("suite", ["open", "synthetic"])
def test_committed_scores_fit_the_committed_tables(suite: str, tmp_path: Path) -> None:
    committed = ROOT / "results" / suite
    for name in ("table2.json", "table3.json"):
        shutil.copy(committed / name, tmp_path)
    path = write_scores(tmp_path)
    assert path is not None
    assert path.read_bytes() == (committed / "scores.csv").read_bytes()
    record = json.loads((committed / "table2.json").read_text())
    found = benchmarks.load_scores(suite, ROOT / "results")
    mine = found[(found["table"] == "table2") & (found["system"] == "opus-16k") & (found["metric"] == "si_sdr")]
    assert dict(zip(mine["clip"], mine["value"], strict=True)) == record["scores"]["si_sdr"]["opus-16k"]
