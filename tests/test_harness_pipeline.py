"""Only what is missing runs; damage, failures and bad clips end in rows, not in crashes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from harness_helpers import RATE, tiny_suite, use_loudness, write_clips

from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.progress import Progress, duration
from benchmarks.harness.run import RunOptions, RunReport, run_units, waves_of
from benchmarks.harness.units import Done, Unit
from benchmarks.status.dry_run import describe, weighed
from benchmarks.store.store import Store
from benchmarks.suite import Suite
from benchmarks.tables.paper import build_table2
from benchmarks.tables.table import TableResult

QUIET = RunOptions(quiet=True)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder)
    return folder


def build(suite: Suite, store: Store, **options: object) -> tuple[TableResult, RunReport]:
    return build_table2(suite, store, SerialExecutor(), RunOptions(quiet=True, **options))  # type: ignore[arg-type]


def test_second_run_computes_nothing_and_gives_the_same_bytes(clips: Path, tmp_path: Path) -> None:
    suite, store = tiny_suite(clips), Store(tmp_path)
    first, report = build(suite, store)
    assert report.computed == 3 + 3 * 3 + 3 * 3 + 3 + 3 + 1  # load, reconstruct, score, cells, metadata, compare
    assert not report.failed
    second, again = build(suite, store)
    assert again.computed == 0
    assert again.cached == report.computed
    assert second.to_json() == first.to_json()
    cell = first.rows[1].cells["si_sdr"]
    assert cell.value == pytest.approx(20, abs=0.3)
    assert cell.n == 6
    assert cell.low is not None
    assert cell.low <= cell.value <= (cell.high or 0)
    scores = first.scores["si_sdr"]["noise-20db"]
    assert len(scores) == 6
    assert np.mean(list(scores.values())) == pytest.approx(cell.value)
    assert first.rows[2].cells["bitrate"].value == pytest.approx(16, rel=0.5)


def test_a_new_system_reuses_everything_else(clips: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    build(tiny_suite(clips), store)
    more = tiny_suite(clips, table2={"systems": ["identity", "noise-20db", "opus-16k", "mp3-64k"]})
    _, report = build(more, store)
    assert report.computed == 3 + 3 + 1 + 1 + 1  # its reconstructions, scores, cell, metadata; the comparison


def test_scores_stand_without_their_audio(clips: Path, tmp_path: Path) -> None:
    """Audio can be removed from a store; what rests on it does not run again."""
    suite, store = tiny_suite(clips), Store(tmp_path)
    first, _ = build(suite, store)
    for key in list(store.keys()):
        if store.get(key).arrays:
            store.delete(key)
    second, report = build(suite, store)
    assert report.computed == 0
    assert second.to_json() == first.to_json()


def test_any_lost_or_damaged_entry_is_computed_again(clips: Path, tmp_path: Path) -> None:
    suite, store = tiny_suite(clips), Store(tmp_path)
    expected = build(suite, store)[0].to_json()
    rng = np.random.default_rng(0)
    for _ in range(5):
        for key in list(store.keys()):
            action = rng.integers(4)
            path = store.path(key)
            if action == 0:
                path.unlink()
            elif action == 1:
                data = bytearray(path.read_bytes())
                data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
                path.write_bytes(data)
            elif action == 2:
                path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])
        assert build(suite, store)[0].to_json() == expected


def test_cache_only_computes_nothing_and_says_so(clips: Path, tmp_path: Path) -> None:
    table, report = build(tiny_suite(clips), Store(tmp_path), overwrite="cache-only")
    assert report.computed == 0
    assert report.pending
    assert list(Store(tmp_path).keys()) == []
    assert {row.cells["si_sdr"].reason for row in table.rows} == {"not computed yet"}


def test_always_computes_again(clips: Path, tmp_path: Path) -> None:
    suite, store = tiny_suite(clips), Store(tmp_path)
    _, first = build(suite, store)
    _, second = build(suite, store, overwrite="always")
    assert second.computed == first.computed


def test_dry_run_lists_the_work_and_its_cost(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.status.dry_run.SHIPPED", tmp_path / "no-rates.json")
    suite, store, dry = tiny_suite(clips), Store(tmp_path), RunOptions(dry_run=True)
    _, report = build(suite, store, dry_run=True)
    text = describe(weighed(report, suite, dry, store), 2)
    assert text.startswith("0 units are in the store, 28 would run, of 28")
    assert "opus-16k" in text[text.index("Without a measured rate") :]
    build(suite, store)
    grown = tiny_suite(clips, seed=1)  # another seed: other noise, other scores; known rates
    _, report = build(grown, store, dry_run=True)
    text = describe(weighed(report, grown, dry, store), 2)
    (row,) = (line for line in text.splitlines() if line.startswith("| reconstruct"))
    assert row.split("|")[6].strip().startswith("< 0.01"), "hours of CPU"


def test_limit_takes_the_first_clips(clips: Path, tmp_path: Path) -> None:
    table, _ = build(tiny_suite(clips), Store(tmp_path), limit=3)
    assert {row.cells["si_sdr"].n for row in table.rows} == {3}
    assert table.provenance["n_clips"] == 3


def test_changing_a_clip_changes_only_its_unit(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    suite, store = tiny_suite(tmp_path / "clips"), Store(tmp_path / "store")
    before = build(suite, store)[0]
    sf.write(tmp_path / "clips" / "clip0.wav", np.random.default_rng(9).uniform(-0.5, 0.5, 2 * RATE), RATE)
    after, report = build(suite, store)
    assert report.computed == 1 + 3 + 3 + 3 + 3 + 1
    assert after.rows[2].cells["si_sdr"].value != before.rows[2].cells["si_sdr"].value


def test_bad_clips_become_reported_rows(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    write_clips(folder, count=3)
    noise = 0.1 * np.random.default_rng(0).standard_normal((2 * RATE, 8))
    sf.write(folder / "eight.wav", noise, RATE)
    sf.write(folder / "low.wav", noise[:, 0], 8000)
    sf.write(folder / "short.wav", noise[:800, 0], RATE)
    sf.write(folder / "silent.wav", np.zeros(2 * RATE), RATE)
    (folder / "corrupt.flac").write_bytes(b"fLaC" + bytes(range(200)))
    (folder / "empty.ogg").write_bytes(b"")
    table, report = build(tiny_suite(folder), Store(tmp_path / "store"))
    assert not report.failed
    for row in table.rows:
        cell = row.cells["si_sdr"]
        assert cell.n == 3
        reasons = " | ".join(cell.failures)
        for words in ("8 channels", "8000 Hz", "shorter than 1 s", "silent", "unreadable"):
            assert words in reasons
        assert sum(cell.failures.values()) == 6
        assert set(cell.details["failed_clips"]) == {
            "eight.wav", "low.wav", "short.wav", "silent.wav", "corrupt.flac", "empty.ogg"
        }  # fmt: skip
        assert str(tmp_path) not in reasons
    text = table.to_markdown()
    assert "Left out of every cell: 1 x silent" in text


def test_a_system_that_fails_on_a_clip_loses_only_that_clip(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    write_clips(folder, count=3)
    stereo = 0.1 * np.random.default_rng(0).standard_normal((2 * RATE, 2))
    sf.write(folder / "stereo.wav", stereo, RATE)
    systems = ["identity", "harness_systems:MonoOnly"]
    suite = tiny_suite(folder, data={"channels": "native"}, table2={"systems": systems})
    table, _ = build(suite, Store(tmp_path / "store"))
    good, picky = (row.cells["si_sdr"] for row in table.rows)
    assert (good.n, picky.n) == (4, 3)
    assert dict(picky.failures) == {"2 channels: mono only": 1}
    # A mean over the clips that a system managed is not compared with one over all.
    assert table.comparisons[0] | {"metric": ""} == {
        "metric": "", "a": "identity", "b": systems[1], "n": 3, "n_groups": 3, "reason": "measured on different clips"
    }  # fmt: skip
    assert "1 left out: 2 channels: mono only" in table.to_markdown()


@pytest.mark.parametrize(
    ("system", "reason"),
    [("WrongLength", "output has shape"), ("NotFinite", "not finite"), ("Raises", "cannot do this")],
)
def test_a_broken_system_is_a_row_of_reasons(clips: Path, tmp_path: Path, system: str, reason: str) -> None:
    suite = tiny_suite(clips, table2={"systems": ["identity", f"harness_systems:{system}"]})
    table, _ = build(suite, Store(tmp_path))
    cell = table.rows[1].cells["si_sdr"]
    assert cell.value is None
    assert cell.reason == "no clip could be measured"
    assert reason in next(iter(cell.failures))
    assert sum(cell.failures.values()) == 6
    assert table.rows[0].cells["si_sdr"].n == 6


def test_a_crash_fails_its_units_and_what_needs_them_and_is_tried_again(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = tiny_suite(clips, table2={"systems": ["identity", "harness_systems:Crashes"]})
    store = Store(tmp_path)
    monkeypatch.setenv("HARNESS_CRASH", "1")
    table, report = build(suite, store)
    assert "MemoryError: no memory left" in (table.rows[1].cells["si_sdr"].reason or "")
    assert table.rows[0].cells["si_sdr"].n == 6
    assert {done.stage for done in report.failed.values()} == {"reconstruct", "score", "aggregate"}
    monkeypatch.delenv("HARNESS_CRASH")
    table, report = build(suite, store)
    assert table.rows[1].cells["si_sdr"].n == 6
    assert not report.failed


def test_missing_weights_are_the_reason_of_a_row(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    suite = tiny_suite(clips, table2={"systems": ["identity", "music2latent"], "metrics": ["si_sdr", "fad:vggish"]})
    table, report = build(suite, Store(tmp_path / "store"))
    assert not report.failed
    assert "m2l-bench fetch music2latent" in (table.rows[1].cells["si_sdr"].reason or "")
    assert "m2l-bench fetch vggish" in (table.rows[0].cells["fad:vggish"].reason or "")
    assert str(tmp_path) not in table.to_json()  # no folder of this machine in a result
    assert "<cache>" in table.to_json()


def test_corpus_distances_rank_and_lose_only_the_clip_an_embedder_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_loudness(monkeypatch)
    folder = tmp_path / "clips"
    write_clips(folder, count=8)
    tone = 0.1 * np.random.default_rng(0).standard_normal(RATE * 3 // 4)
    sf.write(folder / "short.wav", tone, RATE)
    suite = tiny_suite(folder, data={"min_seconds": 0.5}, table2={"metrics": ["fad:vggish", "kad:vggish"]})
    table, report = build(suite, Store(tmp_path / "store"))
    assert not report.failed
    fad = {row.name: row.cells["fad:vggish"] for row in table.rows}
    assert fad["identity"].value == 0
    assert 0 < (fad["noise-20db"].value or 0) < (fad["opus-16k"].value or 0)
    for cell in fad.values():
        assert cell.n == 8
        assert dict(cell.failures) == {"under a second": 1}
        assert cell.details["n_windows"] == 8 * 12
    compared = {(r["metric"], r["a"], r["b"]): r for r in table.comparisons}
    assert compared["fad:vggish", "identity", "opus-16k"]["high"] < 0
    assert len(compared) == 6


def test_missing_data_is_the_reason_of_every_cell(tmp_path: Path) -> None:
    table, report = build(tiny_suite(tmp_path / "nowhere"), Store(tmp_path / "store"))
    assert all("no such folder" in (row.cells["si_sdr"].reason or "") for row in table.rows)
    assert report.computed == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"options": {"pathh": "x"}}}, r"\[data\]: .*pathh"),
        ({"data": {"split": "tset"}}, r"\[data\]: .*'tset'"),
        ({"data": {"dataset": "foldre"}}, "unknown data set 'foldre'; did you mean 'folder'"),
        ({"table2": {"systems": ["opus-95"]}}, "unknown autoencoder 'opus-95'"),
        ({"table2": {"metrics": ["si_sdrr"]}}, "unknown metric 'si_sdrr'"),
        ({"table2": {"system_options": {"identity": {"speed": 2}}}}, "options of system 'identity'"),
    ],
)
def test_a_wrong_name_or_option_stops_before_anything_runs(
    clips: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(tiny_suite(clips, **changes), Store(tmp_path))
    assert list(Store(tmp_path).keys()) == []


def test_layers_put_inputs_first() -> None:
    a = Unit("a", "a", "m:f", {})
    b = Unit("b", "b", "m:f", {}, inputs=(a,))
    c = Unit("c", "c", "m:f", {}, inputs=(a, b))
    assert [[unit.name for unit in layer] for layer in waves_of([c, a])] == [["a"], ["b"], ["c"]]


def test_a_unit_that_returns_nonsense_is_a_failed_unit(tmp_path: Path) -> None:
    unit = Unit("x", "x", "harness_systems:returns_nothing", {})
    report = run_units([unit], Store(tmp_path), SerialExecutor(), QUIET)
    assert "expected a Result" in (report.failed[unit.key].error or "")


@pytest.mark.parametrize("options", [{"overwrite": "sometimes"}, {"limit": -1}, {"shard": (3, 3)}])
def test_wrong_options_name_the_value(options: dict) -> None:
    with pytest.raises(ValueError, match=r"sometimes|-1|3/3"):
        RunOptions(**options)


def test_progress_estimates_from_what_is_done(tmp_path: Path) -> None:
    ticks: Iterator[float] = iter([0.0, 30.0, 60.0, 90.0])
    units = [Unit("s", str(i), "m:f", {"i": i}, amount=10.0) for i in range(3)]
    stream = io.StringIO()
    progress = Progress(units, Store(tmp_path), SerialExecutor(), stream=stream, clock=lambda: next(ticks))
    for unit in units:
        progress.step(Done(unit.key, unit.stage, unit.name, unit.amount))
    assert stream.getvalue().splitlines() == [
        "[1/3] s 0  about 1 min 0 s left",
        "[2/3] s 1  about 30 s left",
        "[3/3] s 2  done in 1 min 30 s",
    ]
    assert duration(9000) == "2.5 h"


def test_failed_clips_survive_json(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    write_clips(folder, count=2)
    sf.write(folder / "silent.wav", np.zeros(2 * RATE), RATE)
    table, _ = build(tiny_suite(folder), Store(tmp_path / "store"))
    record = json.loads(table.to_json())
    cell = record["rows"][0]["cells"]["si_sdr"]
    assert cell["failures"] == {"silent": 1}
    assert cell["details"]["failed_clips"] == {"silent.wav": "silent"}
