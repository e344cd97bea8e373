"""How a user's code is tried, and what keys hold of it: clips, parts of clips, refusals, arrays, files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.datasets import Clip
from benchmarks.evaluation import own_plan
from benchmarks.evaluation.keys import STAGE_VERSIONS, stage_spec
from benchmarks.evaluation.own_plan import code_of_distance, trial_clips
from benchmarks.evaluation.trial import Trial, _try, constructed, state_digest, watching
from benchmarks.harness.units import Unit, Watch
from benchmarks.metrics.base import CorpusMetric
from benchmarks.store.reads import content_digest
from benchmarks.store.store import Store
from benchmarks.suite import Data
from benchmarks.user_code import UserCodeError

RATE = 16_000
NOISE = 0.1 * np.random.default_rng(0).standard_normal((1, RATE)).astype(np.float32)


def test_keys_of_stages() -> None:
    for stage, number in STAGE_VERSIONS.items():
        assert stage_spec(stage)["version"] == number >= 1
    plain, aggregate = stage_spec("score"), stage_spec("aggregate")
    assert plain["code"][0] == aggregate["code"][0]
    assert plain["code"][1] != aggregate["code"][1]  # the statistics, too
    assert plain["libraries"] == aggregate["libraries"]
    assert plain["libraries"]["numpy"] == np.__version__
    ours = CorpusMetric(name="d", title="D", distance="fad")
    theirs = CorpusMetric(name="d", title="D", distance=f"{__name__}:distance")
    first_party = CorpusMetric(name="d", title="D", distance="benchmarks.statistics.corpus:distance")
    assert code_of_distance(ours) == code_of_distance(first_party) != code_of_distance(theirs)


def test_clips_to_try_are_the_first_that_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_plan, "notes", lambda *given: given)

    def clip(name: str, audio: np.ndarray | Exception) -> Clip:
        def load() -> tuple[np.ndarray, int]:
            if isinstance(audio, Exception):
                raise audio
            return audio, RATE

        return Clip(name, "set", name, {}, "", load)

    stereo = np.concatenate([NOISE, NOISE / 2])
    torn, silent = clip("torn", ValueError("torn")), clip("silent", 0 * NOISE)
    good = [clip(f"g{i}", stereo) for i in range(5)]
    limits = Data("x", channels="stereo")

    def names(clips: list[Clip], count: int) -> list[str]:
        return [name for name, _, _ in trial_clips(clips, limits, count)]

    assert names([torn, silent, *good], 2) == ["g0", "g1"]
    assert names([torn] * 7 + good, 2) == ["g0"]  # four are looked at for each that is wanted
    assert names([torn] * 8 + good, 2) == ["of generated notes"]
    assert [name for name, _, _ in trial_clips([silent])] == ["silent"]  # without limits
    assert trial_clips(good, limits, 1)[0][1] == pytest.approx(0.75 * NOISE)
    assert trial_clips(good, limits, 1, stereo=True)[0][1].shape == (2, RATE)
    assert trial_clips([]) == [("of generated notes", (1, 3.0, 44_100), 44_100)]


def test_a_trial_takes_three_seconds_first_and_then_the_whole_clip() -> None:
    seen: list[int] = []

    def use(least: int, error: type[Exception] = ValueError) -> Any:
        def run(made: Any, audio: np.ndarray, rate: int) -> None:
            seen.append(audio.shape[1])
            if audio.shape[1] < least:
                raise error("too short")

        return run

    clips = [("a", np.zeros((1, 50)), 10), ("b", np.zeros((1, 20)), 10)]
    for least, lengths, failed, refused in ((30, [30], False, False), (31, [30, 50], False, False),
                                            (51, [30, 50, 20], True, True)):  # fmt: skip
        seen.clear()
        error, all_refused = _try("mine", None, use(least), clips)
        assert (seen, error is not None, all_refused) == (lengths, failed, refused)
    error, all_refused = _try("mine", None, use(99, KeyError), clips)
    assert "clip a: KeyError" in str(error)  # the first one's
    assert not all_refused
    seen.clear()
    error, all_refused = _try("mine", None, use(99, MemoryError), clips)
    assert (seen, error is not None and error.missing, all_refused) == ([30], True, False)
    assert _try("mine", None, use(1), []) == (None, False)
    with pytest.raises(UserCodeError, match=r"sys\.exit\(3\)"):
        constructed(lambda: exec("raise SystemExit(3)"))
    assert constructed(lambda: 5) == 5


def test_a_digest_of_what_an_object_holds() -> None:
    def held(depth: int, value: float) -> Any:
        found: Any = np.array([value])
        for _ in range(depth):
            found = [found]
        return found

    def digest(made: Any, arrays: bool = True) -> str:
        return state_digest(made, arrays=arrays)

    assert digest(held(5, 1.0)) == digest(held(5, 1.0)) != digest(held(5, 2.0))
    assert digest(held(6, 1.0)) == digest(held(6, 2.0))  # deeper than it looks
    assert digest({"a": held(0, 1.0)}) != digest({"b": held(0, 1.0)})
    assert digest(held(1, 1.0), arrays=False) == digest(held(1, 2.0), arrays=False)
    assert digest(SimpleNamespace(x=held(0, 1.0))) != digest(SimpleNamespace(x=held(0, 2.0)))
    assert digest(np.zeros(2)) != digest(np.zeros((2, 1)))
    assert digest(np.zeros(2)) != digest(np.zeros(2, np.float32))
    assert digest([1.0, "a"]) == digest([2.0, "b"])  # no arrays of numbers


def test_a_file_that_changes_during_a_run_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_text("one")
    watch = Watch("f", {str(file): content_digest(str(file)), str(tmp_path): "a folder"})
    store = Store(tmp_path / "store")
    with watching(Unit("test", "x", "m:f", {}, watch=watch), store):
        pass
    assert Trial(None, {}, Watch("f", {str(file): content_digest(str(file))})).holds()
    with (
        pytest.raises(RuntimeError, match=r"weights\.bin changed during the run"),
        watching(Unit("test", "x", "m:f", {}, watch=watch), store),
    ):
        file.write_text("two")
    assert not Trial(None, {}, watch).holds()
    file.unlink()
    with watching(Unit("test", "x", "m:f", {}, watch=watch), store):
        pass  # it was removed, which no later unit reads
    other = tmp_path / "more.bin"
    other.write_text("three")
    with watching(Unit("test", "x", "m:f", {}, watch=watch), store):
        other.read_text()
    assert [record["paths"] for record in store.records("reads/f").values()] == [[str(other)]]
