"""What units and cells hold, by hand: who is left out and why, n, means, intervals, paired clips, rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.datasets import Clip
from benchmarks.evaluation import stages
from benchmarks.evaluation.jobs import AggregateJob, CompareJob, EmbedJob, Limits, LoadJob, ReconstructJob, Resampling
from benchmarks.harness.units import Unit
from benchmarks.metrics.base import PairMetric
from benchmarks.statistics.corpus import corpus_distance
from benchmarks.statistics.means import paired_difference, summarize
from benchmarks.store.store import Result, Store
from benchmarks.suite import Data

LIMITS = Limits("mono", 1.0, 100, 0.1)
HOW = Resampling(seed=3, resamples=200, level=0.9)


def stored(store: Store, name: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> Unit:
    """A unit whose result the store holds."""
    unit = Unit("test", name, "m:f", {"name": name})
    store.put(unit.key, Result(dict(meta), dict(arrays or {})))
    return unit


def unit_of(payload: Any, *inputs: Unit) -> Unit:
    return Unit("test", "under test", "m:f", {}, inputs, payload)


def tone(level: float, samples: int = 100, channels: int = 1) -> np.ndarray:
    return np.tile(np.array([level, -level], dtype=np.float32), (channels, samples // 2))


# ---------------------------------------------------------------- load and reconstruct


@pytest.mark.parametrize(
    ("audio", "rate", "channels", "reason"),
    [
        (tone(0.1001), 100, "mono", None),
        (tone(0.0999), 100, "mono", "silent"),
        (tone(0.5, 98), 100, "mono", "shorter than 1 s"),
        (tone(0.5), 99, "mono", "sample rate 99 Hz (at least 100 Hz)"),
        (tone(0.5, channels=3), 100, "mono", "3 channels (mono and stereo are measured)"),
        (tone(0.5, channels=2), 100, "native", None),
        (np.where(np.arange(100) == 7, np.nan, tone(0.5)), 100, "mono", "samples that are not finite"),
        (tone(0.5, channels=2) * [[1], [-1]], 100, "mono", "channels that cancel as mono"),
        (tone(0.5, channels=2) * [[1], [-1]], 100, "native", None),
        (tone(0.05, channels=2) * [[1], [-1]], 100, "mono", "silent"),
        (tone(0.15, channels=2) * [[1], [0]], 100, "mono", "silent"),
        (tone(0.15, channels=2) * [[1], [0]], 100, "native", None),
    ],
)
def test_which_clips_are_measured(audio: np.ndarray, rate: int, channels: str, reason: str | None) -> None:
    found = stages.unusable(audio.astype(np.float32), rate, Limits(channels, 1.0, 100, 0.1))
    assert (found or "").startswith(reason or "")
    assert (found is None) == (reason is None)


def test_a_clip_at_the_limit_of_silence_is_measured() -> None:
    limits = Limits("mono", 1.0, 100, 0.5)
    assert stages.unusable(tone(0.5), 100, limits) is None
    assert stages.unusable(tone(0.5, channels=2) * np.array([[1], [-1]], np.float32), 100, limits) == "silent"


def clip(name: str, audio: np.ndarray | Exception, **changes: Any) -> Clip:
    def load() -> tuple[np.ndarray, int]:
        if isinstance(audio, Exception):
            raise audio
        return audio, 100

    return Clip(name, "set", f"digest {name}", {}, f"source of {name}", load, **changes)


def test_clips_are_loaded_or_left_out_with_their_reason(tmp_path: Path) -> None:
    stereo = np.concatenate([tone(0.5), tone(0.3)])
    clips = (
        clip("good", stereo), clip("short", tone(0.5, 10)),
        clip("torn", ValueError("clip 'torn' of 'set': source of torn: " + "x" * 300 + "\nmore")),
        clip("late", tone(0.4)),
    )  # fmt: skip
    found = stages.load(unit_of(LoadJob(clips, LIMITS)), Store(tmp_path))
    assert list(found.arrays) == ["good", "late"]
    assert found.arrays["good"] == pytest.approx(tone(0.4))
    assert found.meta["sample_rates"] == {"good": 100, "late": 100}
    reason = found.meta["failures"]["torn"]
    assert reason.startswith("unreadable: clip 'torn'") or reason.startswith("unreadable: the file")
    assert len(reason) == 200
    assert reason.endswith("x...")
    native = stages.load(unit_of(LoadJob(clips[:1], Limits("native", 1.0, 100, 0.1))), Store(tmp_path))
    assert native.arrays["good"].shape == (2, 100)
    assert Limits.of(Data("x", channels="stereo"), stereo=True).channels == "native"
    assert Limits.of(Data("x", channels="stereo")).channels == "mono"
    assert Limits.of(Data("x", channels="native", min_seconds=2.0)) == Limits("native", 2.0, 16000, 1e-5)


class Half:
    """A system that halves what it is given, and fails on loud clips."""

    def __init__(self, **_: object) -> None:
        self.spec = SimpleNamespace(bitrate=None, n_parameters=12)

    def reconstruct(self, audio: np.ndarray, rate: int, *, seed: int, n_steps: int | None) -> np.ndarray:
        if audio.max() > 0.8:
            raise ValueError("too loud\nsecond line")
        return audio / 2


class Coded(Half):
    def __init__(self, **_: object) -> None:
        self.spec = SimpleNamespace(bitrate=8.0, n_parameters=12)

    def encode(self, audio: np.ndarray, rate: int) -> Any:
        return SimpleNamespace(audio=audio, bitrate=100.0 * float(audio.max()))

    def decode(self, encoded: Any, *, length: int, sample_rate: int, seed: int, n_steps: int | None) -> np.ndarray:
        return encoded.audio[:, :length]


def test_a_reconstruction_keeps_what_the_system_managed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    arrays = {"a": tone(0.5), "b": tone(0.9), "c": tone(0.25)}
    source = stored(store, "clips", {"sample_rates": dict.fromkeys("abc", 100), "failures": {"d": "silent"}}, arrays)
    for made, outputs, bitrates in (
        (Half, {"a": tone(0.25), "c": tone(0.125)}, {}),
        (Coded, arrays, {"a": 50.0, "b": pytest.approx(90.0), "c": 25.0}),
    ):
        monkeypatch.setattr(stages, "create_autoencoder", lambda name, made=made, **options: made())
        monkeypatch.setattr("benchmarks.harness.units._resident", (None, None))
        found = stages.reconstruct(unit_of(ReconstructJob(made.__name__, {}, None, 0), source), store)
        assert found.arrays.keys() == outputs.keys()
        assert all(np.array_equal(found.arrays[name], outputs[name]) for name in outputs)
        assert found.meta["failures"] == ({"b": "too loud"} if made is Half else {})
        assert (found.meta["bitrates"], found.meta["metadata"]) == (bitrates, {"n_parameters": 12})
        assert "again" not in found.meta
    for wrong, message in ((np.zeros((1, 99)), r"shape \(1, 99\)"), (np.full((1, 100), np.nan), "not finite")):
        system = SimpleNamespace(spec=SimpleNamespace(bitrate=None), reconstruct=lambda *a, wrong=wrong, **k: wrong)
        with pytest.raises(ValueError, match=message):
            stages.reconstruct_one(system, tone(0.5), 100, 0, None)


def test_what_running_a_system_tells(tmp_path: Path) -> None:
    store = Store(tmp_path)
    parts = [
        stored(store, "1", {"bitrates": {"a": 9.0, "b": 1.0}, "metadata": {"n_parameters": None}}),
        stored(store, "2", {"bitrates": {"c": 4.0}, "metadata": {"n_parameters": 5}}),
    ]
    found = stages.aggregate_metadata(unit_of(None, *parts), store).meta
    assert found == {"n_parameters": 5, "bitrate": 4.0, "bitrate_range": [1.0, 9.0]}
    silent = stored(store, "3", {"bitrates": {}, "metadata": {"n_parameters": None}})
    assert stages.aggregate_metadata(unit_of(None, silent), store).meta == {"n_parameters": None}


# ---------------------------------------------------------------- scores, embeddings, aggregates


def test_scores_of_clips_with_what_was_lost(tmp_path: Path) -> None:
    store = Store(tmp_path)
    level = {"low": 0.01, "top": 0.9, "mute": 0.0, "odd": 0.3}
    originals = {name: tone(0.5) + np.float32(0.1) for name in level}
    outputs = {name: tone(0.0) + np.float32(value) * (np.arange(100) % 2) for name, value in level.items()}
    rates = dict.fromkeys(level, 100)
    source = stored(store, "s", {"sample_rates": rates, "failures": {"gone": "silent"}}, originals)
    output = stored(store, "o", {"failures": {"bad": "refused"}}, outputs)

    def function(preds: np.ndarray, target: np.ndarray, rate: int) -> Any:
        if 0.14 < preds.mean() < 0.16:
            raise ValueError("odd one\nmore")
        return (math.nan, "no value") if preds.mean() < 0.006 else float(10 * preds.mean())

    metric = PairMetric(name="m", title="M", worst=0.0, best=4.0, function=function)
    found = stages.score(unit_of(metric, source, output), store).meta
    assert found["values"] == {"top": 4.0, "mute": 0.0}
    assert found["notes"] == {"mute": "silent output, counted as 0"}
    assert found["failures"] == {"gone": "silent", "bad": "refused", "low": "no value", "odd": "odd one"}
    assert found["lost"] == {"bad": "refused", "odd": "odd one"}
    assert found["unusable"] == {"gone": "silent"}
    assert "again" not in found


class Windows:
    """An embedder whose windows are blocks of ten samples: level and sign."""

    sample_rate = 100

    def embed(self, audio: np.ndarray) -> np.ndarray:
        if audio.max() > 0.8:
            raise ValueError("too loud\nmore")
        blocks = audio[: len(audio) // 10 * 10].reshape(-1, 10)
        return np.stack([np.abs(blocks).mean(axis=1), blocks[:, 0]], axis=1) / (0.0 if audio.max() == 0.125 else 1.0)

    def embed_batch(self, signals: list[np.ndarray]) -> list[np.ndarray]:
        return [self.embed(signal) for signal in signals]


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("loud", [False, True])
def test_embeddings_of_folds_or_of_channels_that_cancel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loud: bool
) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr(stages, "create_embedder", lambda name, **options: Windows())
    monkeypatch.setattr(stages, "embedder_label", lambda name: name)
    monkeypatch.setattr("benchmarks.harness.units._resident", (None, None))
    arrays = {
        "mono": tone(0.5), "pair": np.concatenate([tone(0.5), tone(0.25)]),
        "against": tone(0.5, channels=2) * [[1], [-1]], "short": tone(0.5, 8), "endless": tone(0.125),
    }  # fmt: skip
    # Of the second clip the other channel alone, turned, is too loud.
    half = np.where(np.arange(100) == 7, np.float32(-0.9), tone(0.5))
    arrays |= {"loud": tone(0.9), "half": np.concatenate([half, -half])} if loud else {}
    source = stored(store, f"s{loud}", {"sample_rates": dict.fromkeys(arrays, 100), "failures": {"gone": "x"}}, arrays)
    found = stages.embed(unit_of(EmbedJob("windows", {}), source), store)
    assert list(found.arrays) == ["mono", "pair", "against"]
    assert found.arrays["mono"].tolist() == [[0.5, 0.5]] * 10
    assert found.arrays["pair"].tolist() == [[0.375, 0.375]] * 10
    assert found.arrays["against"].tolist() == [[0.5, 0.5]] * 10 + [[0.5, -0.5]] * 10
    failures = {"gone": "x", "short": "too short for a window of windows", "endless": "embeddings that are not finite"}
    assert found.meta["failures"] == failures | ({"loud": "too loud", "half": "too loud"} if loud else {})
    assert found.meta["unusable"] == {"gone": "x"}
    assert "again" not in found.meta
    halves = stored(store, f"h{loud}", {"failures": {"mono": "y"}}, {"pair": arrays["pair"] / 2})
    other = stages.embed(unit_of(EmbedJob("windows", {}), source, halves), store)
    assert list(other.arrays) == ["pair"]
    assert other.arrays["pair"].tolist() == [[0.1875, 0.1875]] * 10
    assert other.meta["failures"] == {"gone": "x", "mono": "y"}


def test_an_embedder_is_given_what_the_resampler_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 samples at 48 kHz are 367.5 at 44.1 kHz, of which soxr makes 367: no zero is appended to them."""
    seen: list[int] = []

    class Lengths(Windows):
        sample_rate = 44_100

        def embed(self, audio: np.ndarray) -> np.ndarray:
            seen.append(len(audio))
            return np.ones((1, 2))

    monkeypatch.setattr(stages, "create_embedder", lambda name, **options: Lengths())
    monkeypatch.setattr("benchmarks.harness.units._resident", (None, None))
    store = Store(tmp_path)
    source = stored(store, "s", {"sample_rates": {"a": 48_000}, "failures": {}}, {"a": tone(0.5, 400)})
    stages.embed(unit_of(EmbedJob("lengths", {}), source), store)
    assert seen == [367]


SCORES = {"a": 4.0, "b": 1.0, "c": 2.5, "d": 3.0, "e": 0.5}
GROUPS = {"a": "t", "b": "t", "e": "u"}


def scored(store: Store, name: str, values: Mapping[str, float], **meta: Any) -> Unit:
    return stored(
        store, name, {"values": dict(values), "failures": {}, "unusable": {}, "lost": {}, "notes": {}, **meta}
    )


def test_the_mean_of_a_cell_is_of_its_clips_in_their_order(tmp_path: Path) -> None:
    store = Store(tmp_path)
    parts = [
        scored(store, "1", {"d": 3.0, "a": 4.0, "e": 0.5}, failures={"x": "silent"}, unusable={"x": "silent"}),
        scored(store, "2", {"c": 2.5, "b": 1.0}, failures={"y": "odd"}, lost={"y": "odd"}, notes={"b": "exact"}),
    ]
    job = AggregateJob(HOW, ("a", "b", "c", "d", "e", "x", "y"), GROUPS)
    found = stages.aggregate_pairs(unit_of(job, *parts), store).meta
    expected = summarize(list(SCORES.values()), ["t", "t", "c", "d", "u"], n_resamples=200, confidence=0.9, seed=3)
    assert list(found["values"]) == list("abcde")
    assert (found["value"], found["median"], found["n"], found["n_groups"]) == (2.2, 2.5, 5, 4)
    assert (found["low"], found["high"]) == (expected.low, expected.high)
    assert (found["failures"], found["unusable"]) == ({"x": "silent", "y": "odd"}, {"x": "silent"})
    assert (found["lost"], found["notes"]) == ({"y": "odd"}, {"b": "exact"})
    assert job.groups_of(["c", "b"]) == ["c", "t"]
    nothing = stages.aggregate_pairs(unit_of(job, scored(store, "3", {})), store).meta
    assert nothing["values"] == {}
    assert "value" not in nothing


def test_a_distance_is_of_the_clips_that_both_sides_have(tmp_path: Path) -> None:
    store, rng = Store(tmp_path), np.random.default_rng(0)
    original = {name: rng.standard_normal((4, 2)) for name in "abcde"}
    output = {name: x + 0.5 * rng.standard_normal((4, 2)) for name, x in original.items() if name != "c"}
    inputs = [
        stored(store, "o1", {"failures": {"x": "silent"}, "unusable": {"x": "silent"}}, {n: original[n] for n in "ab"}),
        stored(store, "o2", {"failures": {}, "unusable": {}}, {n: original[n] for n in "cd"}),
        stored(store, "r1", {"failures": {"x": "silent"}, "unusable": {"x": "silent"}}, {n: output[n] for n in "be"}),
        stored(store, "r2", {"failures": {"c": "odd"}, "unusable": {}}, {n: output[n] for n in "da"}),
    ]
    job = AggregateJob(HOW, ("d", "b", "a", "e", "c"), GROUPS, "fad")
    found = stages.aggregate_corpus(unit_of(job, *inputs), store).meta
    clips = ["d", "b", "a"]
    expected = corpus_distance(
        "fad", [original[n] for n in clips], [output[n] for n in clips], groups=["d", "t", "t"], seed=3, level=0.9
    )
    assert found["clips"] == clips
    assert {name: found[name] for name in expected} == expected
    assert (found["failures"], found["lost"]) == ({"x": "silent", "c": "odd"}, {"c": "odd"})
    few = stages.aggregate_corpus(unit_of(AggregateJob(HOW, ("a",), {}, "fad"), inputs[0], inputs[3]), store).meta
    assert few["reason"] == "1 clips: a distance of corpora needs at least 2"
    assert "value" not in few


def test_comparisons_are_paired_and_adjusted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    rows = {
        "p": SCORES,
        "q": {k: v - 1.0 - 0.1 * v for k, v in SCORES.items()},
        "r": {k: v + 0.3 * v for k, v in SCORES.items()},
    }
    inputs = [scored(store, name, values) for name, values in rows.items()]
    found = stages.compare_score_units(unit_of(CompareJob(tuple(rows), HOW, GROUPS), *inputs), store).meta
    records = found["comparisons"]
    assert [(r["a"], r["b"]) for r in records] == [("p", "q"), ("p", "r"), ("q", "r")]
    for record in records:
        alone = paired_difference(rows[record["a"]], rows[record["b"]], GROUPS, n_resamples=200, confidence=0.9, seed=3)
        assert (record["n"], record["n_groups"]) == (5, 4)
        assert [record[name] for name in ("difference", "low", "high", "p")] == pytest.approx(
            [alone.mean, alone.low, alone.high, alone.p]
        )
        assert record["p_adjusted"] >= record["p"]
        assert record["significant"] == (record["p_adjusted"] <= 0.1)
    cells = [
        stored(store, name, {
            "value": value, "replicates": [value, value + 0.1, value - 0.2], "replicates_of": "jackknife",
            "freedom": 2.0, "n": 3, "n_groups": 3, "clips": ["a", "b", "c"],
        }) for name, value in (("x", 3.0), ("y", 1.0))
    ]  # fmt: skip
    [record] = stages.compare_corpus_units(unit_of(CompareJob(("x", "y"), HOW, {}), *cells), store).meta["comparisons"]
    assert (record["a"], record["b"], record["difference"], record["p_adjusted"]) == ("x", "y", 2.0, record["p"])


def test_messages_are_cut_and_lose_the_clips_names() -> None:
    assert stages._cut("x" * 200) == "x" * 200
    assert stages._cut("x" * 201) == "x" * 197 + "..."
    assert stages._short(ValueError("one\ntwo")) == "one"
    assert stages._short(ValueError("  ")) == "ValueError"
    torn = clip("torn", tone(0.5))
    assert stages._without_clip("clip 'torn' of 'set': source of torn is bad", torn) == "the file is bad"
