"""A task of one's own: a folder with a CSV table, of classes, tags or values."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.datasets.base import DataNotFoundError
from benchmarks.harness.executors import make_executor
from benchmarks.harness.run import RunOptions
from benchmarks.store.store import Store
from benchmarks.suite import parse_suite
from probes.intervals import Evidence, score_interval
from probes.metrics import regression_scores
from probes.protocol import get_protocol
from probes.request import Request
from probes.runner import run
from probes.scoring import Problem, chance
from probes.stage import evaluate
from probes.table1 import build
from probes.tasks import create_task
from probes.tasks.base import TaskDataError
from probes.tasks.folder import FolderTask

RATE = 8000


def folder_of_tones(folder: Path, rows: list[dict[str, Any]], audio: bool = True) -> Path:
    """`labels.csv` of the rows, and for each a file with a tone of its `hz`."""
    columns = list(dict.fromkeys(name for row in rows for name in row if name != "hz"))
    for row in rows if audio else ():
        rng = np.random.default_rng(len(row["file"]) + int(row["hz"]))
        tone = 0.3 * np.sin(2 * np.pi * row["hz"] * np.arange(RATE // 4) / RATE + rng.uniform(0, 6))
        soundfile.write(folder / row["file"], tone + 0.01 * rng.standard_normal(len(tone)), RATE)
    with open(folder / "labels.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def tones(n: int = 30) -> list[dict[str, Any]]:
    """Rows with a class, tags and a value, in groups of two; every fifth is a test file."""
    parts = ("test", "valid", "train", "train", "train")
    return [
        {
            "file": f"{i:02d}.wav",
            "hz": 220.0 * 2 ** ((i % 3) / 3),
            "label": "ABC"[i % 3],
            "tags": ";".join(["low", "lower"] if i % 3 == 0 else ["high"]),
            "value": f"{100 + 10 * (i % 3)}",
            "group": f"g{i // 10}",
            "split": parts[i // 2 % 5],
        }
        for i in range(n)
    ]


def test_table_says_what_is_told_of_a_file(tmp_path: Path) -> None:
    rows = tones()
    for column, kind, labels in (
        ("label", "multiclass", ("A", "B", "C")),
        ("tags", "multilabel", ("high", "low", "lower")),
        ("value", "regression", ("value",)),
    ):
        others = {"label", "tags", "value"} - {column}
        folder = tmp_path / column
        folder.mkdir()
        folder_of_tones(folder, [{k: v for k, v in row.items() if k not in others} for row in rows])
        task = create_task(f"folder:{folder}")
        assert (task.info.kind, task.info.labels, task.info.name) == (kind, labels, f"folder:{folder}")
        data = task.load()
        (split,) = data.splits("mir_ref")
        assert [len(part) for part in (split.train, split.validation, split.test)] == [18, 6, 6]
        assert data.clusters.describe(split.test) == "6 files of 3 groups"
        assert list(data.schemes) == ["mir_ref"], "this split divides groups"
        assert create_task(f"folder:{folder / 'labels.csv'}").load().digest != "", "the table names the folder too"


def test_without_splits_there_are_folds_that_keep_groups_whole(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k not in ("split", "tags", "value")} for row in tones()]
    for number, row in enumerate(rows):
        row["group"] = f"g{number // 2}"
    data = FolderTask(folder_of_tones(tmp_path, rows), folds=3).load()
    folds = data.splits("strict")
    assert len(folds) == 3
    assert sorted(i for fold in folds for i in fold.test) == sorted(row["file"] for row in rows)
    group = {row["file"]: row["group"] for row in rows}
    for fold in folds:
        assert not {group[i] for i in fold.test} & {group[i] for i in (*fold.train, *fold.validation)}
    assert data.splits("mir_ref") == folds[:1]


def test_digest_of_values_sees_decimals(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k not in ("label", "tags")} for row in tones()]
    first = FolderTask(folder_of_tones(tmp_path, rows)).load().digest
    rows[0]["value"] = "100.5"
    assert FolderTask(folder_of_tones(tmp_path, rows)).load().digest != first


@pytest.mark.parametrize(
    ("change", "options", "match"),
    [
        ({"split": "dev"}, {}, "00.wav: split 'dev'; known: train"),
        ({"value": "much"}, {"label": "value"}, "00.wav: value is 'much', not a number"),
        ({"value": "inf"}, {"label": "value"}, "value is 'inf'"),
        ({}, {"label": "key"}, "no column 'key'; there are file, label"),
        ({}, {"kind": "ranking"}, "kind 'ranking'; known: multiclass"),
        ({}, {"label": "empty"}, "no row with empty"),
    ],
)
def test_mistakes_in_the_table_are_named(
    change: dict[str, str], options: dict[str, str], match: str, tmp_path: Path
) -> None:
    rows = [{**row, "empty": ""} for row in tones()]
    rows[0] |= change
    with pytest.raises(TaskDataError, match=match):
        FolderTask(folder_of_tones(tmp_path, rows), **options).load()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder_of_tones(tmp_path, tones(), audio=False)
    for path, match in ((tmp_path, "30 of 30 audio files"), (tmp_path / "none", "no table"), ("", "folder:PATH")):
        task = FolderTask(path)
        assert task.info.kind == "multiclass"
        with pytest.raises(DataNotFoundError, match=match):
            task.load()


def test_values_are_predicted_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.cli.main import main

    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    rows = [{k: v for k, v in row.items() if k not in ("label", "tags")} for row in tones()]
    for row in rows:
        row["value"] = str(1e4 + 200 * np.log2(row["hz"]))
    task = f"folder:{folder_of_tones(tmp_path, rows)}"
    what = ["--task", task, "--representation", "chroma", "--representation", "chance", "--seeds", "2"]
    assert main(["probe", "run", *what, "--executor", "serial", "--quiet", "--json"]) == 0
    chroma, constant = json.loads(capsys.readouterr().out)
    assert chroma["scores"]["r2"]["mean"] > 0.9
    assert constant["scores"]["r2"]["mean"] <= 0
    assert constant["scores"]["pearson"]["mean"] == 0


# ---- regression on arrays --------------------------------------------------------------------------


def line(n: int = 300) -> tuple[np.ndarray, Problem]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 5)).astype(np.float32)
    y = x @ rng.normal(size=(5, 2)) * (1000.0, 0.01) + (5000.0, 3.0)
    rows = np.arange(n)
    return x, Problem("p", "regression", ("a", "b"), y, ((rows[:200], rows[200:250], rows[250:]),), 32)


def test_regression_scores_equal_scipy_and_scikit_learn() -> None:
    from scipy.stats import pearsonr
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(0)
    y, guess, weights = rng.normal(size=(50, 3)), rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    found = regression_scores(y, guess, weights)
    assert found["r2"] == pytest.approx(r2_score(y, guess, sample_weight=weights))
    repeated = np.repeat(np.arange(50), weights)
    expected = [pearsonr(a, b)[0] for a, b in zip(y[repeated].T, guess[repeated].T, strict=True)]
    assert found["pearson"] == pytest.approx(np.mean(expected))
    assert regression_scores(y, np.zeros_like(y))["pearson"] == 0
    assert np.isnan(regression_scores(np.ones((4, 1)), np.ones((4, 1)))["r2"])


@pytest.mark.parametrize("protocol", ["mir_ref-1", "strict-1"])
def test_probes_regress_on_values_of_any_scale(protocol: str) -> None:
    x, problem = line()
    found = evaluate(x, [problem], get_protocol(protocol), (0,))["p"]
    assert set(found) == {"mlp"} | ({"linear", "knn"} if protocol == "strict-1" else set())
    for name, one in found.items():
        assert not isinstance(one, str)
        assert one.per_seed["r2"][0] > (0.95 if name == "mlp" else 0.2)
        assert one.predictions[0, :, 0].mean() == pytest.approx(5000, rel=0.1)
    shuffled = evaluate(x, [problem], get_protocol("mir_ref-1"), (0,), shuffle_labels=True)["p"]["mlp"]
    assert not isinstance(shuffled, str)
    assert shuffled.per_seed["r2"][0] < 0.2
    assert chance(problem).per_seed["r2"][0] == pytest.approx(0, abs=0.1)


def test_tasks_of_several_kinds_train_together() -> None:
    x, values = line()
    classes = Problem("c", "multiclass", ("x", "y", "z"), (x[:, 0] > 0).astype(int) + (x[:, 1] > 0), values.splits, 32)
    protocol = get_protocol("mir_ref-1").replace(max_epochs=4)
    together = evaluate(x, [values, classes], protocol, (0, 1))
    for one in (values, classes):
        alone = evaluate(x, [one], protocol, (0, 1))[one.name]["mlp"]
        shared = together[one.name]["mlp"]
        assert not isinstance(alone, str)
        assert not isinstance(shared, str)
        np.testing.assert_allclose(shared.predictions, alone.predictions, rtol=1e-4, atol=1e-4)


def test_interval_of_a_regression_holds_its_score() -> None:
    rng = np.random.default_rng(0)
    for metric, value in (("r2", 0.97), ("r2", -0.4), ("pearson", 0.98), ("pearson", -0.2)):
        low, high = score_interval(metric, value, value + 0.004 * rng.normal(size=20), Evidence(100, 20))
        assert -1 < low < value < high < 1
    assert score_interval("r2", 1.0, np.ones(9), Evidence(100, 9)) == (1.0, 1.0)


def test_limit_takes_the_first_files(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k not in ("label", "tags", "group")} for row in tones()]
    name = f"folder:{folder_of_tones(tmp_path, rows)}"
    request = Request((name,), ("chance",), get_protocol("mir_ref-1"), seeds=(0,))
    options = RunOptions(quiet=True, limit=4)
    found = run(request, Store(tmp_path / "store"), make_executor("serial"), options)
    assert found.cells[0].n_test == 4
    assert found.limit == 4


def test_suite_names_a_folder_by_its_options(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k not in ("tags", "value")} for row in tones()]
    section = {
        "tasks": ["folder"],
        "representations": ["chroma", "chance"],
        "seeds": 2,
        "task_options": {"folder": {"path": str(folder_of_tones(tmp_path, rows)), "license": "CC0"}},
    }
    suite = parse_suite({"name": "own", "data": {"dataset": "synthetic"}, "table1": section})
    table, report = build(suite, Store(tmp_path / "store"), make_executor("serial"), RunOptions(quiet=True))
    assert not report.failed
    assert table.rows[0].cells["folder/f1_micro"].value == 100.0
    assert table.rows[0].cells["folder/f1_micro"].low < 100.0
    assert any("18/6/6 train/validation/test, tested on 6 files of 3 groups; CC0" in line for line in table.notes)
