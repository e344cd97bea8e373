"""How a user's code is tried, and what keys hold of it: clips, parts of clips, refusals, arrays, files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.datasets import Clip
from benchmarks.evaluation import keys, own_plan, trial
from benchmarks.evaluation.keys import STAGE_VERSIONS, stage_spec
from benchmarks.evaluation.own_plan import code_of_distance, trial_clips, try_embedder, try_metric, try_system
from benchmarks.evaluation.trial import Trial, _noted, _try, constructed, state_digest, try_user_code, watching
from benchmarks.harness.units import Unit, Watch
from benchmarks.metrics.base import CorpusMetric, PairMetric
from benchmarks.metrics.registry import parse_metric
from benchmarks.store.fingerprint import code_digest
from benchmarks.store.reads import Reads, content_digest
from benchmarks.store.store import Store
from benchmarks.suite import Data
from benchmarks.user_code import UserCodeError
from m2l.audio import resample

RATE = 16_000
NOISE = 0.1 * np.random.default_rng(0).standard_normal((1, RATE)).astype(np.float32)


def test_keys_of_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    for stage, number in STAGE_VERSIONS.items():
        assert stage_spec(stage)["version"] == number >= 1
    plain, aggregate = stage_spec("score"), stage_spec("aggregate")
    assert plain["code"][0] == aggregate["code"][0]
    assert plain["code"][1] == code_digest("m2l.audio")
    assert aggregate["code"][1] == code_digest("m2l.audio", "benchmarks.statistics.multiple")
    monkeypatch.setattr(keys, "embedder_spec", lambda name: {"name": name, "target": "benchmarks.embedders.vggish:X"})
    code = code_digest("benchmarks.embedders.vggish")
    assert keys.embedder_identity.__wrapped__("v") == {
        "name": "v", "target": "benchmarks.embedders.vggish:X", "code": code
    }  # fmt: skip
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
    assert "mine" not in str(_try("mine", None, use(99), clips)[0])  # a line of the user's is named
    assert str(_try("mine", None, complex, clips)[0]).startswith("mine, clip a: TypeError")
    with pytest.raises(UserCodeError, match=r"sys\.exit\(3\)"):
        constructed(lambda: exec("raise SystemExit(3)"))
    assert constructed(lambda: 5) == 5
    with pytest.raises(UserCodeError, match="KeyError"):
        constructed(lambda: {}["k"])
    with pytest.raises(ValueError, match="invalid literal"):
        constructed(partial(int, "x"))  # no line of a user's


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
    assert digest(SimpleNamespace(_x=held(0, 1.0))) != digest(SimpleNamespace(_x=held(0, 2.0)))
    for lone in ("numel", "detach"):
        one, two = (SimpleNamespace(**{lone: 3, "x": held(0, x)}) for x in (1.0, 2.0))
        assert digest(one) != digest(two)
    for scalar in (torch.tensor(1.0), torch.tensor([1.0, 2.0]), torch.tensor(1.0, dtype=torch.bfloat16)):
        assert digest(scalar) == digest(scalar.clone()) != digest(2 * scalar)
    for many in (list, lambda items: dict(enumerate(items))):
        for place, seen in ((9_999, True), (10_000, False)):
            one, two = (many([0] * place + [held(0, x)]) for x in (1.0, 2.0))
            assert (digest(one) != digest(two)) == seen


class Network:
    """What looks like a torch module, with a parameter, a buffer and more arrays."""

    def __init__(self, parameter: float, buffer: float = 0.0, public: float = 0.0, private: float = 0.0) -> None:
        self.parameter, self.buffer = np.array([parameter]), np.array([buffer])
        self.public, self._private = np.array([public]), np.array([private])

    def named_parameters(self) -> list[tuple[str, np.ndarray]]:
        return [("p", self.parameter)]

    def named_buffers(self) -> list[tuple[str, np.ndarray]]:
        return [("b", self.buffer)]


def test_a_network_is_its_parameters_and_on_request_its_buffers() -> None:
    for arrays in (False, True):
        base = state_digest(Network(1.0), arrays=arrays)
        assert state_digest(Network(2.0), arrays=arrays) != base
        assert (state_digest(Network(1.0, buffer=1.0), arrays=arrays) != base) == arrays
        assert (state_digest(Network(1.0, public=1.0), arrays=arrays) != base) == arrays
        assert state_digest(Network(1.0, private=1.0), arrays=arrays) == base


def test_a_trial_says_what_its_results_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads()

    @contextmanager
    def recording() -> Iterator[Reads]:
        yield reads

    monkeypatch.setattr(trial, "recording", recording)
    monkeypatch.setattr("gc.collect", lambda: 0)  # takes a tenth of a second where torch is loaded
    clips = [("a", NOISE, RATE)]

    class Made:
        spec = "its spec"

        def __init__(self) -> None:
            self.network = Network(1.0)
            self.memory = np.zeros(3)

    def use(made: Made, audio: np.ndarray, rate: int) -> None:
        made.network.parameter[0] += 1.0
        made.memory[0] += 1.0

    def tried(**changes: Any) -> Trial:
        given: dict[str, Any] = {"code": lambda: "code", "store": None, "declared": lambda made: False, **changes}
        return try_user_code("name", "shown", None, Made, given.pop("use", use), lambda: clips, **given)

    before, after = Made(), Made()
    use(after, NOISE, RATE)
    found = tried()
    assert (found.spec, found.error, found.remark, found.watch.keep) == ("its spec", None, None, True)
    # All arrays as they were made, and the parameters as they are after use: a memory of its own is no weight.
    assert found.identity["state"] == [state_digest(before, arrays=True), state_digest(after, arrays=False)]
    assert (found.identity["files"], found.identity["code"], found.watch.files) == ([], [], {})

    def refuses(made: Made, audio: np.ndarray, rate: int) -> None:
        if audio.shape[1] == RATE:
            raise ValueError("too short")
        if audio.shape[1] == 2 * RATE:
            raise KeyError("k")

    longer = {n: [("b", np.tile(NOISE, n), RATE)] for n in (1, 2, 3)}
    assert tried(use=refuses, further=lambda: longer[3]).error is None
    for n in (1, 2):
        assert "clip a: ValueError: too short" in str(tried(use=refuses, further=lambda n=n: longer[n]).error)
    assert "too short" in str(tried(use=refuses).error)
    for declared in (False, True):
        unseen = tried(unseen="it cannot be seen", declared=lambda made, declared=declared: declared)
        assert (unseen.remark, unseen.watch.keep) == (None if declared else "it cannot be seen", declared)
    reads.opaque.add("sox")
    for declared in (False, True):
        opaque = tried(declared=lambda made, declared=declared: declared)
        assert (opaque.watch.opaque, opaque.watch.keep) == (("sox",), declared)
        assert (opaque.remark or "shown: it starts sox, and").startswith("shown: it starts sox, and")
        assert (opaque.remark is None) == declared


def test_files_that_count_beside_a_module_s_own(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert _noted("f", None) == _noted("f", store) == []
    store.put_record("reads/f/1.json", {"paths": ["/b", "/a"]})
    store.put_record("reads/f/2.json", {"paths": ["/a"]})
    assert _noted("f", store) == ["/a", "/b"]
    name = tmp_path.name.replace("-", "_") + "_counted"
    (tmp_path / f"{name}.py").write_text(f"import {name}_part\n")
    (tmp_path / f"{name}_part.py").write_text("")
    data = tmp_path / "weights.bin"
    data.write_text("weights")
    reads = Reads()
    reads.started -= 60
    reads.files |= {str(tmp_path / f"{name}.py"): True, str(data): True}
    reads.code |= {str(tmp_path / f"{name}_part.py"), str(tmp_path / "other.py")}
    (tmp_path / "other.py").write_text("x = 1\n")
    reads.started = data.stat().st_mtime + 60
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        watch, identity = trial._dependencies("shown", name, reads, "code", ["state"], None)
        unnamed, _ = trial._dependencies("shown", None, reads, "code", ["state"], None)
    assert list(watch.files) == [str(data)]
    assert [item[0] for item in identity["code"]] == ["other.py"]
    assert identity["state"] == ["state"]
    assert len(identity["files"]) == 1
    assert sorted(unnamed.files) == sorted([str(data), str(tmp_path / f"{name}.py")])


# ---------------------------------------------------------------- systems, metrics, embedders


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `try_user_code` is given: positions, then keywords."""
    calls: list[Any] = []

    def keep(*positions: Any, **keywords: Any) -> Trial:
        calls.append((positions, keywords))
        return Trial({"a": 1}, {}, Watch("f", {}))

    monkeypatch.setattr(own_plan, "try_user_code", keep)
    return calls


def test_a_system_says_what_it_depends_on_by_its_version_or_weights(given: list[Any]) -> None:
    try_system("mine=some_module:Codec", {}, 0, tuple, None)
    try_system("external-command:run {in} {out}", {}, 0, tuple, None)
    (own, program) = given
    assert own[0][:3] == ("some_module:Codec", "some_module:Codec", "some_module")
    assert (program[0][0], program[0][2]) == ("external-command:run {in} {out}", None)

    def spec(version: str, weights: str | None) -> Any:
        return SimpleNamespace(spec=SimpleNamespace(version=version, weights_digest=weights))

    stated = [spec("1", None), spec("2", None), spec("1", "d"), spec("2", "d")]
    assert [own[1]["declared"](made) for made in stated] == [False, True, True, True]
    assert [program[1]["declared"](made) for made in stated] == [False, True, False, True]
    plain = [{}, {"version": 1}, {"weights": "w"}, {"version": 1, "weights": "w"}]
    assert [own[1]["declared"](SimpleNamespace(spec=spec)) for spec in plain] == [False, True, True, True]
    inner = SimpleNamespace(spec=SimpleNamespace(version="1"), system=SimpleNamespace(spec={"version": 2}))
    assert own[1]["declared"](inner)


def test_a_metric_is_tried_on_a_clip_a_little_quieter_and_a_sample_later(given: list[Any]) -> None:
    metric = parse_metric(f"mine={__name__}:loudest")
    assert isinstance(metric, PairMetric)
    found = try_metric(metric, tuple, None)
    positions, keywords = given[0]
    assert (positions[1], positions[2]) == ("mine", __name__)
    assert [keywords["declared"](SimpleNamespace(version=version)) for version in ("1", "2")] == [False, True]
    assert found.spec["code"][1] == "loudest"
    seen: list[Any] = []
    spy = PairMetric(name="m", title="M", function=lambda p, t, r: seen.append((p, t, r)) or 0.0)
    audio = np.array([[0.5, 0.25, 1.0], [-1.0, 0.5, 0.25]], np.float32)
    positions[4](spy, audio, RATE)
    [(preds, target, rate)] = seen
    assert preds == pytest.approx(np.float32(0.9) * np.array([[1.0, 0.5, 0.25], [0.25, -1.0, 0.5]]))
    assert (target.tolist(), rate) == (audio.tolist(), RATE)


def loudest(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> float:
    return float(np.abs(preds).max())


def test_an_embedder_of_a_user_s_is_given_mono_at_its_rate(given: list[Any]) -> None:
    assert try_embedder("vggish", "cpu", tuple, None) is None
    assert try_embedder(f"{__name__}:Embedder", "cpu", tuple, None) is not None
    positions, keywords = given[0]
    assert positions[2] == __name__
    assert [keywords["declared"](SimpleNamespace(spec=spec)) for spec in ({}, {"version": 1})] == [False, True]
    seen: list[np.ndarray] = []
    made = SimpleNamespace(sample_rate=RATE // 2, embed=seen.append)
    positions[4](made, np.concatenate([NOISE, 3 * NOISE]), RATE)
    assert np.array_equal(seen[0], resample(2 * NOISE, RATE, RATE // 2, exact=False)[0])


class Embedder:
    sample_rate = RATE


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
    later = tmp_path / "also.bin"
    later.write_text("one")
    file.write_text("one")
    watch = Watch("f", {str(path): content_digest(str(path)) for path in (file, later)})
    with (
        pytest.raises(RuntimeError, match=r"^weights\.bin changed"),
        watching(Unit("test", "x", "m:f", {}, watch=watch), store),
    ):
        [path.write_text("two") for path in (file, later)]
    watch = Watch("f", {str(file): content_digest(str(file)), str(tmp_path): "a folder"})
    file.unlink()
    with watching(Unit("test", "x", "m:f", {}, watch=watch), store):
        pass  # it was removed, which no later unit reads
    other = tmp_path / "more.bin"
    other.write_text("three")
    with watching(Unit("test", "x", "m:f", {}, watch=watch), store):
        other.read_text()
    assert [record["paths"] for record in store.records("reads/f").values()] == [[str(other)]]
