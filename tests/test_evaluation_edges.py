"""What a user's code, a folder's files, a dry run and a damaged entry lead to: reasons, units tried again, needs."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from benchmarks.autoencoders.controls import Identity
from benchmarks.datasets import Clip, DataNotFoundError
from benchmarks.datasets.base import PublishedSize
from benchmarks.evaluation import clips as clips_module
from benchmarks.evaluation import plan as plan_module
from benchmarks.evaluation import stages
from benchmarks.evaluation.clips import SuiteClips
from benchmarks.evaluation.jobs import EmbedJob, ReadFilesJob, ReconstructJob
from benchmarks.evaluation.measure import _note_needs, _Reader, measure, plan_rows, to_cell
from benchmarks.evaluation.own_plan import code_of_system, runs_user_code
from benchmarks.evaluation.plan import Planner
from benchmarks.evaluation.systems import SystemRow, accepts_device
from benchmarks.evaluation.trial import Trial
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions, RunReport
from benchmarks.harness.units import Unit, Watch
from benchmarks.metrics.base import PairMetric
from benchmarks.metrics.registry import parse_metric
from benchmarks.registry import UnknownNameError
from benchmarks.store.own_code import import_own
from benchmarks.store.store import Result, Store
from benchmarks.suite import SuiteError, parse_suite
from benchmarks.user_code import UserCodeError
from m2l.io.digest import known_sha256

RATE = 16_000
NOISE = 0.1 * np.random.default_rng(0).standard_normal((1, RATE)).astype(np.float32)
OWN = Watch("a folder", {})
SNR = parse_metric("snr")


#: A user's file. A class among these tests would have all that they import behind it.
MINE = """
from benchmarks.autoencoders.controls import Identity

class Halves(Identity):
    made = 0
    def __init__(self, device="cpu"):
        super().__init__()
        Halves.made += 1
    def reconstruct(self, audio, sample_rate, **options):
        return audio / 2

class Refuses(Identity):
    def reconstruct(self, audio, sample_rate, **options):
        raise ValueError("never")

def no_metric(preds, target, sample_rate):
    raise ValueError("no number")
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """The path of a user's file; a module's name is used once per process."""
    path = tmp_path / f"{tmp_path.name}.py"
    path.write_text(MINE)
    return str(path)


class Halves(Identity):
    def reconstruct(self, audio: np.ndarray, sample_rate: int, **_: object) -> np.ndarray:
        return audio / 2


class Refuses(Identity):
    def reconstruct(self, audio: np.ndarray, sample_rate: int, **_: object) -> np.ndarray:
        raise ValueError("never")


def no_number(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> float:
    raise ValueError("no number")


def stored(store: Store, name: str, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Unit:
    unit = Unit("test", name, "m:f", {"name": name})
    store.put(unit.key, Result(meta, arrays))
    return unit


def unit_of(payload: Any, *inputs: Unit, watch: Watch | None = OWN) -> Unit:
    return Unit("test", "under test", "m:f", {}, inputs, payload, watch=watch)


def planner(options: RunOptions | None = None, seconds: float = 1.0, **data: Any) -> Planner:
    section = {"dataset": "folder", "unit_clips": 2, "options": {"path": "/x"}, **data}
    found = Planner(parse_suite({"name": "x", "data": section}), options or RunOptions(quiet=True))
    clips = [Clip(f"c{i}", "set", f"{i}", {}, "", lambda: (NOISE, RATE), seconds=seconds) for i in range(3)]
    found.__dict__["_dataset"] = SimpleNamespace(clips=lambda split: clips)
    return found


@pytest.fixture(autouse=True)
def no_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no clip is left to try, notes are: generating them takes longer than these tests."""
    monkeypatch.setattr("benchmarks.evaluation.own_plan.notes", lambda *_: NOISE)


# ---------------------------------------------------------------- a user's code


def singular(*_: object, **__: object) -> Any:
    return np.linalg.inv(np.zeros((2, 2)))  # a complaint of NumPy, a line of ours


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as found:
        return found


def test_an_error_of_a_clip_is_told_with_the_line_of_a_user_s_code() -> None:
    ours, theirs = unit_of(None, watch=None), unit_of(None)
    with pytest.raises(np.linalg.LinAlgError) as complaint:
        singular()
    assert stages.reason_of(complaint.value, ours, "c") == "Singular matrix"
    place = stages.reason_of(complaint.value, theirs, "c")
    assert "test_evaluation_edges.py:" in place
    assert place.endswith("in singular: LinAlgError: Singular matrix")
    for unit in (ours, theirs):
        assert stages.reason_of(raised(ValueError("too short\nby far")), unit, "c") == "too short"
        assert stages.reason_of(ValueError("of ours"), unit, "c") == "of ours"
    assert stages.reason_of(KeyError("k"), theirs, "c") == "KeyError: 'k'"
    for error in (KeyError("k"), MemoryError(), OSError("disk")):
        with pytest.raises(type(error)):
            stages.reason_of(error, ours, "c")
    for error in (MemoryError(), OSError("disk")):
        with pytest.raises(UserCodeError, match="clip c: "):
            stages.reason_of(error, theirs, "c")


@pytest.mark.parametrize("watch", [None, OWN])
def test_what_failed_in_a_user_s_code_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: Watch | None
) -> None:
    """By each stage; and what did not fail, or failed before, is not."""
    store = Store(tmp_path)
    for name, value in (("create_autoencoder", Refuses), ("create_embedder", None)):
        monkeypatch.setattr(stages, name, lambda name, value=value, **options: value())
    monkeypatch.setattr("benchmarks.harness.units._resident", (None, None))
    source = stored(store, "s", {"sample_rates": {"a": RATE, "b": RATE}, "failures": {}}, {"a": NOISE, "b": NOISE})
    output = stored(store, "o", {"failures": {"b": "odd"}}, {"a": NOISE})

    def again(result: Result) -> bool:
        return bool(result.meta.get("again", False))

    found = stages.reconstruct(unit_of(ReconstructJob("x", {}, None, 0), source, watch=watch), store)
    assert (found.meta["failures"], again(found)) == ({"a": "never", "b": "never"}, watch is not None)
    monkeypatch.setattr(stages, "create_autoencoder", lambda name, **options: Halves())
    fine = stages.reconstruct(unit_of(ReconstructJob("y", {}, None, 0), source, watch=watch), store)
    assert (fine.meta["failures"], again(fine)) == ({}, False)

    def metric(function: Any) -> PairMetric:
        return PairMetric(name="m", title="M", function=function)

    refused = stages.score(unit_of(metric(no_number), source, output, watch=watch), store)
    assert (refused.meta["lost"], again(refused)) == ({"b": "odd", "a": "no number"}, watch is not None)
    whole = stages.score(unit_of(metric(lambda p, t, r: 1.0), source, output, watch=watch), store)
    assert (whole.meta["lost"], again(whole)) == ({"b": "odd"}, False)
    broken = unit_of(metric(lambda p, t, r: {}["k"]), source, output, watch=watch)
    if watch is None:
        with pytest.raises(KeyError):  # a mistake of ours is no reason
            stages.score(broken, store)
    else:
        assert stages.score(broken, store).meta["lost"]["a"].endswith("KeyError: 'k'")

    class Windows:
        sample_rate = RATE // 2

        def __init__(self, refused: int) -> None:
            self.refused = refused

        def embed(self, audio: np.ndarray) -> np.ndarray:
            return audio[: len(audio) // 1000 * 1000].reshape(-1, 1000)

        def embed_batch(self, signals: list[np.ndarray]) -> list[np.ndarray]:
            return [self.embed(signal)[len(signal) * self.refused :] for signal in signals]

    for refused_windows, expected in ((0, False), (1, watch is not None)):
        monkeypatch.setattr("benchmarks.harness.units._resident", (None, None))
        monkeypatch.setattr(stages, "create_embedder", lambda name, n=refused_windows, **options: Windows(n))
        monkeypatch.setattr(stages, "embedder_label", lambda name: name)
        vectors = stages.embed(unit_of(EmbedJob("w", {}), source, output, watch=watch), store)
        assert again(vectors) == expected
        assert vectors.meta["failures"].get("a") == ("too short for a window of w" if refused_windows else None)
        if not refused_windows:  # 16,000 samples at half the rate
            assert vectors.arrays["a"].shape == (8, 1000)
            assert vectors.arrays["a"].std() == pytest.approx(NOISE.std() / math.sqrt(2), rel=0.03)


def test_files_are_read_as_they_were_planned(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), tmp_path / "mine"
    folder.mkdir()
    sf.write(folder / "a.wav", NOISE[0] / 2, RATE, subtype="FLOAT")
    source = stored(store, "s", {"sample_rates": {"a": RATE, "b": RATE}, "failures": {}}, {"a": NOISE, "b": NOISE})

    def read(digest: str) -> Result:
        job = ReadFilesJob(str(folder), 0.1, False, {"a": ("a.wav", digest)}, {"b": "no file for the clip"})
        return stages.read_files(unit_of(job, source, watch=None), store)

    found = read(known_sha256(folder / "a.wav"))
    assert found.arrays["a"] == pytest.approx(NOISE / 2)
    assert found.meta == {
        "failures": {"b": "no file for the clip"}, "bitrates": {}, "metadata": {"n_parameters": None}
    }  # fmt: skip
    digest = known_sha256(folder / "a.wav")
    with pytest.raises(RuntimeError, match="the file of clip 'a' changed during the run"):
        read("another")
    (folder / "a.wav").rename(folder / "b.wav")
    with pytest.raises(RuntimeError, match="the file of clip 'a' changed during the run"):
        read(digest)


def test_a_user_s_class_is_tried_once_and_again_when_its_files_changed(
    monkeypatch: pytest.MonkeyPatch, mine: str
) -> None:
    name = f"{mine}:Halves"
    plan = planner()
    rows = [plan.system(name), plan.system(f"mine={name}")]
    made = import_own(name)
    assert (made.made, [row.label for row in rows][1]) == (1, "mine")
    assert list(plan.options.trials) == [repr((name, [("device", "cpu")]))]
    assert all(unit.watch is not None and not unit.local for row in rows for unit in row.units)
    assert rows[0].units[0].key == rows[1].units[0].key
    assert rows[0].units[0].payload.options == {"device": "cpu"}
    monkeypatch.setattr(Trial, "holds", lambda self: False)
    plan.system(name)
    assert made.made == 2


def test_who_runs_a_user_s_code_and_takes_a_device(mine: str) -> None:
    name = f"{mine}:Halves"
    kinds = {name: True, f"mine={name}": True, f"{mine}:Refuses": False, "music2latent:x.pt": True,
             "external:/x": False, "identity": False, "benchmarks.autoencoders.controls:Identity": False}  # fmt: skip
    assert {kind: accepts_device(kind) for kind in kinds} == kinds
    with pytest.raises(UnknownNameError, match="'external'"):
        accepts_device("external")
    assert [runs_user_code(kind) for kind in (name, "identity", "external-command:x", "external:/x", "object:1")] == [
        True, False, True, False, True
    ]  # fmt: skip
    assert code_of_system(name, {}) != code_of_system(f"{mine}:Refuses", {})


@pytest.mark.parametrize("refuse", [False, True])
def test_a_class_that_fails_on_every_clip_stops_a_run_that_refuses_such(mine: str, refuse: bool) -> None:
    """A system and a metric of a user's; without the wish each is an error of its row or cell."""
    name, metric = f"{mine}:Refuses", parse_metric(f"{mine}:no_metric")
    assert isinstance(metric, PairMetric)
    plan = planner(RunOptions(quiet=True, refuse_broken=refuse))
    row = plan.system(name)
    assert "never" in str(row.error)
    if refuse:
        with pytest.raises(UserCodeError, match="never"):
            plan_rows(plan, [(name, None)], {})
        with pytest.raises(UserCodeError, match="no number"):
            plan.pair_cell(row, metric)
    else:
        assert [found.error is None for found in plan_rows(plan, [(name, None)], {})] == [False]
        assert plan.pair_cell(row, metric).inputs[0].watch is not None
    assert [found.label for found in plan_rows(plan, [("identity", None)], {})] == ["identity"]
    assert plan.pair_cell(plan.system("identity"), SNR).inputs[0].watch is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("error", "refuse"), [(None, True), (UserCodeError("broken"), False)])
def test_an_embedder_is_tried_once(monkeypatch: pytest.MonkeyPatch, error: UserCodeError | None, refuse: bool) -> None:
    asked: list[str] = []
    tried = Trial({"spec": 1}, {"files": []}, OWN, error)
    monkeypatch.setattr(plan_module, "try_embedder", lambda name, *_: asked.append(name) or tried)
    plan = planner(RunOptions(refuse_broken=refuse))
    units = plan.embeddings("vggish")
    assert (asked, len(units), units[0].watch) == (["vggish"], 2, OWN)
    assert units[0].spec["embedder"] == {"spec": 1, "read": {"files": []}}
    assert (units[0].payload, units[0].amount) == (EmbedJob("vggish", {"device": "cpu"}), 2.0)
    monkeypatch.setattr(plan_module, "try_embedder", lambda name, *_: Trial({}, {}, OWN, UserCodeError("broken")))
    with pytest.raises(UserCodeError, match="broken"):
        planner(RunOptions(refuse_broken=True)).embeddings("vggish")


# ---------------------------------------------------------------- data that is missing, dry runs


def missing(dry: bool, **data: Any) -> SuiteClips:
    suite = parse_suite({"name": "x", "data": {"dataset": "folder", "options": {"path": "/x"}, **data}})
    found = Planner(suite, RunOptions(dry_run=dry))

    def clips(split: str | None) -> list[Clip]:
        raise DataNotFoundError("no such folder")

    found.__dict__["_dataset"] = SimpleNamespace(clips=clips)
    return found


def test_a_dry_run_plans_missing_data_by_its_published_size(monkeypatch: pytest.MonkeyPatch) -> None:
    size = PublishedSize("big", 3, 1800.0, "its paper", "get big")
    monkeypatch.setattr(clips_module, "published_size", lambda name: size)
    with pytest.raises(DataNotFoundError):
        _ = missing(dry=False).clips
    found = missing(dry=True, split="test", unit_clips=2)
    assert isinstance(found, Planner)
    assert (found.clip_ids, found.seconds, found.stand_in) == (("big-0", "big-1", "big-2"), 5400.0, size)
    assert found.all_clip_ids == found.clip_ids
    assert (str(found.missing), found.coverage) == ("no such folder", None)
    assert [unit.stands_in for unit in found.load_units] == [True, True]
    report = RunReport()
    _note_needs(report, found, [], [])
    assert report.needs["data", "x"].text == (
        "no such folder. Planned with its published size (its paper). To get it: get big"
    )
    monkeypatch.setattr(clips_module, "published_size", lambda name: None)
    with pytest.raises(DataNotFoundError):
        _ = missing(dry=True).clips
    refuses = missing(dry=True)

    def refuse(split: str | None) -> list[Clip]:
        raise ValueError(f"no split {split!r}")

    refuses.__dict__["_dataset"] = SimpleNamespace(clips=refuse)
    with pytest.raises(SuiteError, match=r"\[data\]: no split None"):
        _ = refuses.clips


def test_only_a_split_asks_for_the_clips_of_all() -> None:
    plan, asked = planner(), []
    listed = plan.clips
    plan.__dict__.pop("all_clip_ids", None)
    plan.__dict__["_dataset"] = SimpleNamespace(clips=lambda split: asked.append(split) or listed)
    assert plan.all_clip_ids == ("c0", "c1", "c2")
    assert asked == []
    assert not any(unit.stands_in for unit in plan.load_units)


def test_what_a_run_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    report = RunReport()
    rows = [SystemRow("codec", None, reason="no weights"), SystemRow("other", None)]
    monkeypatch.setattr(PairMetric, "unavailable", lambda self: "no package" if self.name == "si_sdr" else None)
    _note_needs(report, planner(seconds=60.0), rows, [SNR, parse_metric("si_sdr")])
    assert [(need.kind, need.name, need.present, need.text) for need in report.needs.values()] == [
        ("data", "x", True, "3 clips, 0.1 h"),  # 0.05 hours
        ("system", "codec", False, "no weights"), ("system", "other", True, ""),
        ("metric", "snr", True, ""), ("metric", "si_sdr", False, "no package"),
    ]  # fmt: skip
    report = RunReport()
    nearly = planner(seconds=59.99)
    monkeypatch.setattr(Planner, "coverage", property(lambda self: "half of it"))
    _note_needs(report, nearly, [], [])
    assert report.needs["data", "x"].text == "3 clips, 0.0 h; half of it"


def test_a_dry_run_counts_rows_that_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = plan_module.create_autoencoder

    def gone(name: str, **options: Any) -> Any:
        if name == "opus-16k":
            raise FileNotFoundError("no such program")
        return create(name, **options)

    monkeypatch.setattr(plan_module, "create_autoencoder", gone)
    wanted = [("identity", None), ("opus-16k", None)]
    dry = measure(planner(RunOptions(dry_run=True)), Store(tmp_path), SerialExecutor(), wanted, [SNR])
    # A cell and the metadata of each row, and a comparison; the row that stands in is planned and not pending.
    assert [unit.name for unit in dry.report.planned] == ["snr", "snr", "metadata", "metadata", "compare snr"]
    assert sorted(unit.stage for unit in dry.report.pending) == [
        "aggregate", "aggregate", "load", "load", "reconstruct", "reconstruct", "score", "score"
    ]  # fmt: skip
    assert dry.cells["opus-16k", "snr"].reason == "no such program"
    assert dry.cells["identity", "snr"].reason == "not computed yet"
    assert dry.report.blocked == {("opus-16k", "snr"): "no such program"}
    wet = measure(
        planner(RunOptions(quiet=True, overwrite="cache-only")), Store(tmp_path), SerialExecutor(), wanted, [SNR]
    )
    assert wet.report.needs == {}
    assert sum(unit.stage == "aggregate" for unit in wet.report.pending) == 2  # one row: nothing to compare
    with pytest.raises(UnknownNameError):
        planner().system("no-such-system")


def test_without_data_every_cell_says_why(tmp_path: Path) -> None:
    found = measure(missing(dry=False), Store(tmp_path), SerialExecutor(), [("codec", 4)], [SNR])  # type: ignore[arg-type]
    assert found.cells["codec@4", "snr"].reason == "no such folder"
    assert (found.n_clips, found.manifest, found.description, found.comparisons) == (0, "", "0 clips", [])
    assert found.report.blocked == {("codec@4", "snr"): "no such folder"}
    assert not found.report.needs["data", "x"].present


def test_a_damaged_entry_is_computed_again_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, plan = Store(tmp_path), planner()
    unit = plan.load_units[0]
    measure(plan, store, SerialExecutor(), [("identity", None)], [SNR], compare=False, metadata_too=False)
    path = store.path(unit.key)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    report = RunReport()
    reader = _Reader(store, SerialExecutor(), RunOptions(overwrite="cache-only"), report)
    found = reader.read(unit)
    assert found is not None
    assert np.array_equal(found.arrays["c0"], NOISE)
    assert (report.computed, report.failed, path.read_bytes()) == (1, {}, content)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(1.0, None, None), (None, 2.0, None), (math.nan, 2.0, None), (1.0, 2.0, (1.0, 2.0))]
)
def test_an_interval_has_two_ends(low: float | None, high: float | None, expected: Any) -> None:
    meta = {"value": 1.5, "n": 3, "n_groups": 3, "low": low, "high": high, "values": {}}
    cell = to_cell(Result(meta), SNR)
    assert (cell.low, cell.high) == (expected or (None, None))
    assert to_cell(Result({}), SNR).details == {}
