"""Table 1 from a suite: columns, chance row, reasons, published figures, command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.harness.executors import make_executor
from benchmarks.harness.run import RunOptions
from benchmarks.store.store import Store
from benchmarks.suite import SuiteError, load_suite, parse_suite
from benchmarks.tables import TABLES
from benchmarks.tables.table import TableResult
from probes.table1 import build, request_from

ROOT = Path(__file__).resolve().parent.parent

SMALL: dict[str, Any] = {
    "name": "small",
    "published": True,
    "data": {"dataset": "synthetic"},
    "table1": {
        "tasks": ["synthetic-tags", "synthetic-pitch", "synthetic-instrument"],
        "representations": ["mel", "chroma", "chance", "clmr"],
        "seeds": 2,
        "task_options": {
            "synthetic-tags": {"size": 100, "seconds": 0.5, "sample_rate": 16000},
            "synthetic-pitch": {"every": 5, "seconds": 0.3, "sample_rate": 16000},
            "synthetic-instrument": {"every": 5, "seconds": 0.3, "sample_rate": 16000},
        },
    },
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> TableResult:
    folder = tmp_path_factory.mktemp("table1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("M2L_CACHE", str(folder / "cache"))
        made, report = build(
            parse_suite(SMALL), Store(folder / "store"), make_executor("serial"), RunOptions(quiet=True)
        )
    assert not report.failed
    assert report.computed > 0
    return made


def test_columns_are_the_tasks_metrics(table: TableResult) -> None:
    assert [column.key for column in table.columns] == [
        "synthetic-tags/roc_auc",
        "synthetic-tags/average_precision",
        "synthetic-pitch/f1_micro",
        "synthetic-pitch/f1_macro",
        "synthetic-instrument/f1_micro",
        "synthetic-instrument/f1_macro",
    ]


def test_cells_carry_seeds_interval_and_number_of_items(table: TableResult) -> None:
    row = next(row for row in table.rows if row.name == "chroma")
    cell = row.cells["synthetic-pitch/f1_micro"]
    assert cell.value == pytest.approx(float(np.mean(cell.details["per_seed"])))
    assert len(cell.details["per_seed"]) == 2
    assert cell.low is not None
    assert cell.high is not None
    assert 0 <= cell.low <= cell.high <= 100
    assert cell.n > 15
    assert cell.value > 60, "chroma hears pitch classes"
    chance = next(row for row in table.rows if row.name == "chance")
    assert chance.cells["synthetic-tags/roc_auc"].value == 50.0


def test_missing_weights_are_a_reason(table: TableResult) -> None:
    row = next(row for row in table.rows if row.name == "clmr")
    for cell in row.cells.values():
        assert cell.value is None
        assert "m2l-bench fetch clmr" in str(cell.reason)


def test_comparisons_are_paired(table: TableResult) -> None:
    record = next(
        r for r in table.comparisons if (r["task"], r["a"], r["b"]) == ("synthetic-pitch", "chroma", "chance")
    )
    assert record["significant"]
    assert record["low"] <= record["difference"] <= record["high"]
    assert record["p"] <= record["p_adjusted"] <= 0.05
    assert record["n_groups"] < record["n"]


def test_notes_count_groups_pairs_and_name_the_best(table: TableResult) -> None:
    text = "\n".join(table.notes)
    assert "Synthetic tags: 60/20/20 train/validation/test, tested on 20 clips;" in text
    assert re.search(r"Synthetic pitch class: [\d/]+ \S+ tested on \d+ notes of 1\d instruments;", text)
    assert re.search(r"\d of 9 pairs of rows differ \(Holm over each column, 5 %\)", text)
    assert re.search(r"Best Synthetic pitch class micro F1: chroma mean, [\d.]+", text)
    assert "in place of 1,083, with which mir_ref would leave nothing of their test parts" in text


def test_no_value_is_outside_its_interval(table: TableResult) -> None:
    cells = [cell for row in table.rows for cell in row.cells.values() if cell.value is not None]
    assert len(cells) == 18
    for cell in cells:
        assert cell.low <= cell.value <= cell.high
        assert 1 < cell.details["n_groups"] <= cell.n


def test_published_figures_stand_apart(table: TableResult) -> None:
    text = table.to_markdown()
    ours, published = text.split("Published figures")
    assert "| Music2Latent" in published
    assert "65.5" in published
    assert "65.5" not in ours
    record = json.loads(table.to_json())
    theirs = next(row for row in record["published"] if row["name"] == "Music2Latent")
    assert theirs["values"]["magnatagatune/auc_roc"] == 88.6
    assert record["provenance"]["tasks"]["synthetic-tags"]["splits_sha256"]


def test_registry_reaches_the_builder() -> None:
    assert TABLES.load("table1") is build


@pytest.mark.parametrize("name", ["synthetic", "open", "paper"])
def test_shipped_suites_are_valid_requests(name: str) -> None:
    from probes.representations import REPRESENTATIONS, split_name
    from probes.tasks import TASKS

    suite = load_suite(name)
    assert suite.table1 is not None
    request = request_from(suite.table1)
    for task in request.tasks:
        assert task in TASKS
    for representation in request.representations:
        assert representation == "chance" or split_name(representation)[0] in REPRESENTATIONS
    assert len(request.seeds) >= 5


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"task": ["x"]}, "unknown key table1.task"),
        ({"tasks": []}, "table1.tasks must be a list"),
        ({"seeds": 0}, "table1.seeds"),
        ({"protocol": "mir_ref"}, "did you mean 'mir_ref-1'"),
    ],
)
def test_wrong_sections_are_named(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        request_from({**SMALL["table1"], **change})
    with pytest.raises(SuiteError, match=r"no \[table1\]"):
        build(
            parse_suite({k: v for k, v in SMALL.items() if k != "table1"}),
            Store("unused"),
            make_executor("serial"),
            RunOptions(),
        )


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.cli.main import main

    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    what = ["--task", "synthetic-pitch", "--representation", "chance", "--executor", "serial", "--quiet"]
    assert main(["probe", "run", *what, "--seeds", "1", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["scores"]["f1_micro"]["mean"] < 0.4
    for arguments, code, text in (
        (["run", "--task", "synthetic-pich", *what[2:]], 2, "did you mean 'synthetic-pitch'"),
        (["run", *what, "--deform", "reverb:1"], 2, "unknown deformation"),
        (["import-mir-ref", str(tmp_path / "none.yml")], 3, "none.yml"),
    ):
        assert main(["probe", *arguments]) == code
        assert text in capsys.readouterr().err


def test_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "probes", "list", "tasks"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "magnatagatune" in done.stdout


def test_speed_contest_runs(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.cli.main import main

    assert main(["speed", "probe", "--items", "300", "--dim", "300", "--epochs", "4", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["ours"] for row in rows} == {"ours fp32", "ours bf16"}
    for row in rows:
        assert abs(row["auc"] - row["rival_auc"]) < 0.1, "both sides train the same network"


@pytest.mark.slow
def test_default_synthetic_floors(tmp_path: Path) -> None:
    """The shipped suite at its full size: chroma hears pitch and keys, mel tags, MFCC instruments."""
    section = {**(load_suite("synthetic").table1 or {}), "representations": ["mel", "mfcc", "chroma", "chance"]}
    suite = parse_suite({"name": "s", "data": {"dataset": "synthetic"}, "table1": section})
    made, report = build(suite, Store(tmp_path), make_executor("serial"), RunOptions(quiet=True))
    assert not report.failed
    rows = {row.name: {key: cell.value or 0.0 for key, cell in row.cells.items()} for row in made.rows}
    assert rows["chroma"]["synthetic-pitch/f1_micro"] > 80
    assert rows["mel"]["synthetic-tags/roc_auc"] > 75
    assert rows["mfcc"]["synthetic-instrument/f1_micro"] > rows["chance"]["synthetic-instrument/f1_micro"] + 15
    assert rows["chroma"]["synthetic-keys/weighted_micro"] > rows["chance"]["synthetic-keys/weighted_micro"] + 20
