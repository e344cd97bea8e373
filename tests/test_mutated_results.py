"""Results and baselines that were damaged on the way: a named error or an honest verdict, never a traceback."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cli.main import main
from benchmarks.report.aggregates import AggregateError, read_aggregates
from benchmarks.report.listening import Listening
from benchmarks.report.site import render

GOLDEN = Path(__file__).resolve().parent / "golden" / "results" / "synthetic"

#: What a value is replaced with.
ODD: list[Any] = [
    None, True, False, 0, -1, 3, 10**400, 2**63, 1e308, -1e308, 1e-320, 0.5, float("nan"), float("inf"), "", "x",
    "inf", "-inf", "\ud800", "\x00", "a" * 2000, "../../etc/passwd", "fad:vggish", [], {}, [[]], [None], {"": None},
    {"value": None}, ["a", "a"],
]  # fmt: skip


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value below, longer lists by a few of their items."""
    found = [path] if path else []
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))[:6]
    for key, item in items:
        found += nodes(item, (*path, key))
    return found


def mutated(text: str, rng: random.Random) -> bytes:
    """One fault in a JSON text: in its bytes, or in its structure."""
    data = text.encode()
    kind = rng.randrange(8)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    if kind == 1:
        position = rng.randrange(len(data))
        return data[:position] + bytes([rng.randrange(256)]) + data[position + 1 :]
    if kind == 2:
        start, length = rng.randrange(len(data)), rng.randrange(1, 200)
        return data[:start] + data[start + length :]
    record = copy.deepcopy(json.loads(text))
    for _ in range(rng.choice([1, 1, 1, 3])):
        *parents, last = rng.choice(nodes(record))
        holder = record
        for key in parents:
            holder = holder[key]
        if kind == 3 and isinstance(holder, dict):
            holder.pop(last)
        elif kind == 4 and isinstance(holder, dict):
            holder[rng.choice(["", "name", "value", "kind", "x"])] = holder.pop(last)
        else:
            holder[last] = copy.deepcopy(rng.choice(ODD))
    return json.dumps(record).encode()


def campaign(tmp_path: Path, names: list[str], count: int, check: Callable[[Path], None]) -> None:
    """Damage one file at a time, and look."""
    folder = tmp_path / "synthetic"
    shutil.copytree(GOLDEN, folder)
    texts = {name: (GOLDEN / name).read_text() for name in names}
    for seed in range(count):
        rng = random.Random(seed)
        name = names[seed % len(names)]
        damaged = mutated(texts[name], rng)
        (folder / name).write_bytes(damaged)
        try:
            check(folder)
        except BaseException as error:
            raise AssertionError(f"seed {seed}, {name}: {type(error).__name__}: {error}") from error
        (folder / name).write_text(texts[name])


@pytest.fixture
def judge(capsys: pytest.CaptureFixture[str]) -> Callable[[Path], None]:
    """The gate on a results folder: an exit code it documents, and a 2 that names a file."""

    def check(folder: Path) -> None:
        junit = folder.parent / "gate.xml"
        status = main(["gate", "--results", str(folder.parent), "--junit", str(junit)])
        _, err = capsys.readouterr()
        assert status in (0, 1, 2, 3)
        assert "Traceback" not in err
        assert "internal error" not in err
        assert junit.is_file()
        if status == 1:
            assert "gate: worse: " in err
        if status == 2:
            assert ".json" in err
            assert str(folder) in err
        junit.unlink()

    return check


def show(folder: Path) -> None:
    """The report of a results folder: pages, or an error that names the file."""
    try:
        found = read_aggregates(folder)
        render(found, Listening(reason="not asked for"), [])
    except AggregateError as error:
        assert str(folder) in str(error)  # noqa: PT017 (there need not be an error)


RESULTS = ["table2.json", "table1.json", "table3.json", "figure2.json", "table2.replicates.json"]


@pytest.mark.parametrize("count", [12, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_results_are_judged_or_named(tmp_path: Path, judge: Callable[[Path], None], count: int) -> None:
    campaign(tmp_path, RESULTS, count, judge)


@pytest.mark.parametrize("count", [12, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_baselines_are_judged_or_named(tmp_path: Path, judge: Callable[[Path], None], count: int) -> None:
    campaign(tmp_path, ["baseline.json"], count, judge)


@pytest.mark.parametrize("count", [12, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_results_are_shown_or_named(tmp_path: Path, count: int) -> None:
    campaign(tmp_path, RESULTS[:4], count, show)


@pytest.mark.parametrize("text", ["NaN", '{"format": NaN}', "[" * 100_000, "9" * 10_000, '"\\ud800"', "\x00", "null"])
def test_what_is_no_object_is_named(tmp_path: Path, judge: Callable[[Path], None], text: str) -> None:
    for name in ("baseline.json", "table2.json", "table2.replicates.json"):
        folder = tmp_path / name / "synthetic"
        shutil.copytree(GOLDEN, folder)
        (folder / name).write_text(text)
        judge(folder)
        show(folder)
