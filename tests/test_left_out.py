"""What is left out is counted with its reason, and no mark or best goes to a row measured on fewer clips."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from harness_helpers import RATE, tiny_suite, tiny_toml, write_clips

from benchmarks.cli.main import main
from benchmarks.evaluation.cells import Cell, Column, Row
from benchmarks.evaluation.left_out import partial_rows
from benchmarks.evaluation.measure import measure
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions
from benchmarks.metrics import si_sdr
from benchmarks.metrics.si_sdr import clip_si_sdr
from benchmarks.report.aggregates import table_from
from benchmarks.report.charts import compression_charts
from benchmarks.report.marks import Comparisons, marks
from benchmarks.report.tables import table_view
from benchmarks.statistics.multiple import compare_scores
from benchmarks.store.store import Store
from benchmarks.suite import parse_columns
from benchmarks.tables.paper import build_table2
from benchmarks.tables.table import TableResult

OWN = """
import numpy as np

class Picky:
    spec = {"sample_rate": None, "channels": "mono", "compression_ratio": 2.0}

    def encode(self, audio):
        if HARD(audio):
            raise ValueError("too | hard")
        return audio

    def decode(self, latents):
        return np.round(latents * 2048) / 2048

class Mute(Picky):
    def encode(self, audio):
        return audio * 0 if HARD(audio) else audio
""".replace("HARD(audio)", "np.abs(np.diff(audio)).max() > {limit}")


def hardness(folder: Path) -> list[float]:
    return sorted(float(np.abs(np.diff(sf.read(path, dtype="float32")[0])).max()) for path in folder.glob("*.wav"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Twelve clips, of which a codec of one's own manages the two easiest; its name."""
    write_clips(tmp_path / "clips", 12)
    limit = np.mean(hardness(tmp_path / "clips")[1:3])
    sf.write(tmp_path / "clips" / "silent.wav", np.zeros(2 * RATE), RATE)
    tiny_toml(tmp_path, tmp_path / "clips")
    name = f"picky_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN.replace("{limit}", repr(float(limit))))
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return name


def run(command: str, *arguments: str) -> int:
    return main([command, *arguments, "--suite", "tiny.toml", "--executor", "serial", "--quiet"])


def test_compare_never_calls_a_part_of_the_clips_the_best(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    new = [f"picky={place}.py:Picky", f"mute={place}.py:Mute", "--against", "opus-16k,mp3-64k"]
    assert run("compare", *new, "-o", "out") == 3
    out, err = capsys.readouterr()
    assert "left out of picky: 10 clips: too | hard" in err
    assert "left out of every row: 1 clip: silent" in err
    assert "Left out of every cell: 1 x silent" in out
    assert "(n = 2) [1]" in next(line for line in out.splitlines() if line.startswith("| **picky**"))
    assert "[1] 10 left out: too | hard" in out
    assert "picky, SI-SDR: measured on 2 of 12 clips, so neither marked nor compared" in out
    own, _, rest = out.partition("### picky minus each baseline")[2].partition("### mute minus")
    assert not set("▲▼≈") & set(own.partition("|  ")[2])
    assert "SI-SDR: picky was measured on 2 of 12 clips" in own
    assert "| mp3-64k  | ▼ -" in rest  # silence on ten clips is worse, not easier
    best = next(line for line in out.splitlines() if line.startswith("Best SI-SDR: "))
    assert "not called the best: rows measured on fewer clips" in out
    assert "picky" not in best
    assert best.startswith("Best SI-SDR: mp3-64k, ")

    found = json.loads(Path("out/compare.json").read_text())
    cells = {row["name"]: row["cells"]["si_sdr"] for row in found["rows"]}
    assert cells["picky"]["value"] > cells["mp3-64k"]["value"]  # what would have won
    assert cells["picky"]["details"]["lost"] == {"too | hard": 10}
    assert found["partial"] == [{"row": "picky", "column": "si_sdr", "measured": "2 of 12 clips"}]
    assert cells["mute"]["details"]["counted"] == {"silent output, counted as -100 dB": 10}
    verdicts = {(r["a"], r["b"]): r["verdict"] for r in found["comparisons"]}
    assert verdicts["picky", "mp3-64k"] == "not compared"
    assert verdicts["mute", "mp3-64k"] == "worse"
    with open("out/compare.csv") as file:
        row = next(row for row in csv.DictReader(file) if row["row"] == "picky" and not row["against"])
    assert "measured on 2 of 12 clips" in row["reason"]
    assert row["best"] == ""
    # As a baseline it is no measure of others either.
    assert run("compare", "mp3-64k", "--against", f"picky={place}.py:Picky,opus-16k", "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert {r["b"]: r["verdict"] for r in found["comparisons"]} == {"picky": "not compared", "opus-16k": "better"}


def test_alone_it_still_says_what_it_lacks(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", f"picky={place}.py:Picky", "--against", "") == 3
    out, err = capsys.readouterr()
    assert "left out of picky: 10 clips: too | hard" in err
    assert "(n = 2) [1]" in out
    assert "measured on 2 of 12 clips" in out
    assert "Left out of every cell: 10" not in out  # not the clips' fault
    assert "Left out of every cell: 1 x silent" in out


def test_tables_are_written_and_the_exit_code_is_3(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("tiny.toml").read_text().replace('"noise-20db"', f'"picky={place}.py:Picky"')
    Path("tiny.toml").write_text(text)
    assert run("tables", "--results", "r") == 3
    out, err = capsys.readouterr()
    assert "left out of picky: 10 clips: too | hard" in err
    file = Path("r/tiny/table2.md").read_text().splitlines()
    assert {line for line in file if not line.startswith("|")} <= set(out.splitlines())
    record = json.loads(Path("r/tiny/table2.json").read_text())
    reasons = {(r["a"], r["b"]): r.get("reason") for r in record["comparisons"]}
    assert reasons["identity", "picky"] == "measured on different clips"
    assert reasons["identity", "opus-16k"] is None
    assert run("tables", "--results", "r") == 3  # from the store, too
    assert "left out of picky" in capsys.readouterr().err
    assert run("run") == 3
    assert "left out of picky: 10 clips" in capsys.readouterr().err
    parts = [run("run", "--shard", f"{i}/2", "--store", "other") for i in range(2)]
    assert sorted(parts) in ([0, 3], [3, 3])
    assert "left out of picky" in capsys.readouterr().err


def test_a_run_from_which_nothing_is_missing_says_nothing(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("clips/silent.wav").unlink()
    assert run("compare", "mp3-64k", "--against", "opus-16k") == 0
    out, err = capsys.readouterr()
    assert "left out" not in out + err
    assert "n = " not in out


SI_SDR, COST = Column("si_sdr", "SI-SDR", True), Column("compression_ratio", "ratio")


def cell(value: float | None, n: int, **details: Any) -> Cell:
    return Cell(value=value, n=n, low=value, high=value, details=details)


def test_the_report_marks_only_rows_on_all_clips() -> None:
    rows = [
        Row("full", {"si_sdr": cell(10.0, 20), "compression_ratio": Cell(value=4.0, n=1)}),
        Row("like", {"si_sdr": cell(9.9, 20), "compression_ratio": Cell(value=2.0, n=1)}),
        Row(
            "part",
            {"si_sdr": cell(30.0, 8, given=20, lost={"ValueError": 12}), "compression_ratio": Cell(value=3.0, n=1)},
        ),
        Row("none", {"si_sdr": Cell(reason="no weights"), "compression_ratio": Cell(reason="-")}),
    ]
    pairs = [("full", "like", False), ("full", "part", True), ("like", "part", True)]
    compared = [
        {"metric": "si_sdr", "a": a, "b": b, "n": 8, "difference": -1.0, "low": -2.0, "high": 0.5, "significant": s}
        for a, b, s in pairs
    ]
    table = TableResult("table2", "T", "s", [SI_SDR, COST], rows, comparisons=compared)
    comparisons = Comparisons(table)
    assert marks(table) == {("full", "si_sdr"): "best", ("like", "si_sdr"): "tied"}
    assert comparisons.get("si_sdr", "full", "part") is None
    view = table_view(table)
    shown = {row.name: row.cells[0] for row in view.rows}
    assert (shown["part"].n, shown["full"].n) == ("n = 8", "")
    assert view.columns[0].n == "20 clips"
    assert "part, SI-SDR: measured on 8 of 20 clips, so neither marked nor compared" in view.notes
    (chart,) = compression_charts(table)
    assert chart.left_out == ["part: measured on 8 of 20 clips", "none: not measured"]
    # The same table, read back from its file.
    assert table_from(json.loads(table.to_json())).partial() == table.partial()


def test_rows_that_lack_other_clips_are_all_partial() -> None:
    """Two rows of 19 clips each, not the same ones: neither was measured on all 20."""
    a, b = cell(1.0, 19, given=20, lost={"x": 1}), cell(2.0, 19, given=20, lost={"y": 1})
    assert set(partial_rows({"a": a, "b": b})) == {"a", "b"}
    # Clips that a metric has no value for in any row are missing from none of them.
    short = cell(1.0, 15, given=18)
    assert partial_rows({"a": short, "b": short}) == {}
    table = TableResult("t", "T", "s", [SI_SDR], [Row("a", {"si_sdr": short})])
    assert "1.00 [1.00, 1.00] (n = 15)" in table.to_markdown()


def test_figures_count_what_they_leave_out(place: str, tmp_path: Path) -> None:
    from benchmarks.tables.figure2 import build as build_figure

    figure = {"systems": [f"{place}.py:Picky"], "steps": [1], "metrics": ["si_sdr"]}
    found, report = build_figure(
        tiny_suite(tmp_path / "clips", figure2=figure), Store(tmp_path / "s"), SerialExecutor(), RunOptions(quiet=True)
    )
    assert report.lost == {f"{place}:Picky": {"too | hard": 10}}
    assert "(n = 2)" in found.to_markdown()
    assert "SI-SDR: 10 left out: too | hard" in found.to_markdown()


def test_one_clip_far_from_the_others_leaves_an_interval() -> None:
    """A third of all resamples of 42 clips lack a given one and see next to no spread without it."""
    rng = np.random.default_rng(0)
    other = {f"clip{i:02d}": float(value) for i, value in enumerate(rng.normal(20, 5, 42))}
    own = {clip: value - 10 + 0.2 * rng.standard_normal() for clip, value in other.items()}
    own["clip07"] = 100.0  # exact
    (found,) = compare_scores(own, {"b": other}, resamples=2000, seed=0, level=0.95)
    assert found.significant
    assert -16 < found.low < found.high < 0


def test_embeddings_of_channels_that_cancel_are_of_the_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As mono the clip would be silence on both sides, at no distance from anything."""
    from benchmarks.evaluation.jobs import EmbedJob
    from benchmarks.evaluation.stages import embed
    from benchmarks.harness.units import Unit
    from benchmarks.store.store import Result

    class Level:
        sample_rate = RATE

        def embed(self, samples: np.ndarray) -> np.ndarray:
            return np.full((3, 2), np.abs(samples).max(), dtype=np.float32)

        def embed_batch(self, batch: list[np.ndarray]) -> list[np.ndarray]:
            return [self.embed(samples) for samples in batch]

    monkeypatch.setattr("benchmarks.evaluation.stages.create_embedder", lambda name, **options: Level())
    one = np.linspace(-0.5, 0.5, RATE, dtype=np.float32)
    source = Result(
        {"sample_rates": {"a": RATE, "b": RATE}, "failures": {}},
        {"a": np.stack([one, -one]), "b": np.stack([one, one])},
    )
    output = Result({"failures": {}}, {clip: 0.5 * audio for clip, audio in source.arrays.items()})
    store = Store(tmp_path)
    units = [Unit("load", name, "x:y", {"name": name}) for name in ("source", "output")]
    for unit, result in zip(units, (source, output), strict=True):
        store.put(unit.key, result)
    for inputs, level in ((units[:1], 0.5), (units, 0.25)):
        found = embed(
            Unit(
                "embed", "level", "x:y", {"n": len(inputs)}, inputs=tuple(inputs), payload=EmbedJob(f"level{level}", {})
            ),
            store,
        )
        assert {clip: x.shape for clip, x in found.arrays.items()} == {"a": (6, 2), "b": (3, 2)}
        assert all((x == level).all() for x in found.arrays.values())


def test_a_metric_without_a_value_is_nobodys_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of a metric on one output counts against that row; a clip too short for it does not."""
    write_clips(tmp_path / "clips", 4)

    def moody(preds: np.ndarray, target: np.ndarray, rate: int) -> Any:
        if target[0, 0] == first:
            return float("nan"), "target is too short"
        if target[0, 0] == second and not np.array_equal(preds, target):
            raise ValueError("no value for this output")
        return clip_si_sdr(preds, target, rate)

    starts = [float(sf.read(path, dtype="float32")[0][0]) for path in sorted((tmp_path / "clips").glob("*.wav"))]
    first, second = starts[0], starts[1]
    monkeypatch.setattr(si_sdr, "SI_SDR", replace(si_sdr.SI_SDR, function=moody))
    table, report = build_table2(
        tiny_suite(tmp_path / "clips"), Store(tmp_path / "s"), SerialExecutor(), RunOptions(quiet=True)
    )
    assert report.lost == {name: {"no value for this output": 1} for name in ("noise-20db", "opus-16k")}
    assert set(table.partial()) == {("noise-20db", "si_sdr"), ("opus-16k", "si_sdr")}
    assert "Left out of every cell: 1 x target is too short" in table.to_markdown()


def test_csv_of_a_table_counts_too(place: str, tmp_path: Path) -> None:
    suite = tiny_suite(tmp_path / "clips", table2={"systems": ["identity", f"{place}.py:Picky"]})
    planner = Planner(suite, RunOptions(quiet=True))
    measured = measure(
        planner, Store(tmp_path / "s"), SerialExecutor(), [(f"{place}.py:Picky", None)], parse_columns(["si_sdr"])
    )
    row = Row("mine", {"si_sdr": next(iter(measured.cells.values()))})
    (line,) = csv.DictReader(io.StringIO(TableResult("t", "T", "s", [SI_SDR], [row]).to_csv()))
    assert (line["n"], line["failures"]) == ("2", "1 x silent; 10 x too | hard")


def test_reasons_of_single_clips_are_summed_up() -> None:
    many = {f"sample {i} is odd": 1 for i in range(200)} | {"too long": 7}
    cell = Cell(1.0, 3, failures=many, details={"lost": many})
    text = TableResult("t", "T", "s", [SI_SDR], [Row("a", {"si_sdr": cell})]).to_markdown()
    assert "7 left out: too long" in text
    assert "194 left out: 194 other reasons" in text
    assert text.count("left out") == 8
