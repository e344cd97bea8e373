"""Probes at the edges: axes in the wrong order, values beyond float32, files that are not clear, parts of a task."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_probe_run import INFO, PITCHES, RATE, ToneTask, tone_clips
from test_probe_stage import problem

from benchmarks.cli.main import main
from benchmarks.datasets import Clip
from benchmarks.harness.executors import make_executor
from benchmarks.harness.run import RunOptions
from benchmarks.store.store import Store
from probes.axes import axis_problem
from probes.mlp.estimators import KNNProbe, MLPProbe
from probes.protocol import get_protocol
from probes.representations import create_representation
from probes.request import Request
from probes.results import file_name, write_results
from probes.runner import ProbeRun, run
from probes.stage import evaluate
from probes.table1 import table_of
from probes.tasks.base import TaskData
from probes.tasks.labeled import labeled_task
from probes.tasks.limited import limited

TASK = "edge_module:ToneTask"


class Spectrum:
    """Power in bands, one column per frame of 500 samples; the order of the axes is the subclass'."""

    def frames(self, audio: np.ndarray) -> np.ndarray:
        cut = audio[0, : audio.shape[1] // 500 * 500].reshape(-1, 500)
        return np.log(np.abs(np.fft.rfft(cut * np.hanning(500), axis=1))[:, :40] + 1e-3).astype(np.float32)


class Right(Spectrum):
    def extract(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        return self.frames(audio)


class Flipped(Spectrum):
    def extract(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        return self.frames(audio).T


class Waveform:
    def extract(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        return audio[0]


class Named(Spectrum):
    """Two outputs, the second one flipped."""

    def extract(self, audio: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        return {"features": self.frames(audio), "latents": self.frames(audio).T}


class Codec(Spectrum):
    """An autoencoder whose `features` are (frames, dim), where (dim, frames) is asked for."""

    from benchmarks.autoencoders import AutoencoderSpec

    spec = AutoencoderSpec("codec", RATE, "mono")

    def encode(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        return audio

    def decode(self, latents: np.ndarray) -> np.ndarray:
        return latents

    def features(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        return self.frames(audio)


class Constant:
    """Nothing to learn from, of the right shape."""

    def extract(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        return np.ones((2, 3))


class Huge:
    """Finite in float64 only."""

    def extract(self, audio: np.ndarray, sample_rate: int) -> dict[str, np.ndarray]:
        return {"features": np.full((2, 3), 1e300)}


class Short:
    """Fails on any clip of the check, as a model with a limit may."""

    def extract(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        if audio.shape[1] > RATE // 2:
            raise ValueError("too long")
        return np.ones((1, 4))


def edge_module() -> types.ModuleType:
    """The above as the user's module."""
    module = types.ModuleType("edge_module")
    own = (ToneTask, Right, Flipped, Waveform, Named, Codec, Constant, Huge, Short)
    module.__dict__.update({item.__name__: item for item in own})
    return module


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "edge_module", edge_module())
    return


def probed(tmp_path: Path, *representations: str, limit: int = 0, **changes: Any) -> ProbeRun:
    request = Request(
        tasks=(TASK,),
        representations=representations,
        protocol=get_protocol("mir_ref-1").replace(max_epochs=25),
        seeds=(0, 1),
        **changes,
    )
    options = RunOptions(quiet=True, limit=limit)
    return run(request, Store(tmp_path / "store"), make_executor("serial"), options)


# ---- the order of axes -----------------------------------------------------------------------------


def test_flipped_axes_are_refused_with_both_shapes(tmp_path: Path) -> None:
    names = ["Right", "Flipped", "Waveform"]
    right, flipped, waveform = probed(tmp_path, *(f"edge_module:{name}" for name in names)).cells
    assert right.scores["f1_micro"].mean > 0.9
    assert flipped.reason == (
        "edge_module:Flipped: the output has shape (40, 8) for 0.5 s of audio and (40, 16) for 1 s: its dimension "
        "follows the length; extract must return (n_frames, dim), so transpose it"
    )
    assert "shape (1, 4000) for 0.5 s of audio and (1, 8000) for 1 s" in str(waveform.reason)
    codec = create_representation("autoencoder:edge_module:Codec")
    found = axis_problem(codec, {}, tone_clips(), Store(tmp_path / "store"))
    assert "has shape (8, 40) for 0.5 s of audio and (16, 40) for 1 s" in str(found)
    assert "features must return (dim, frames), so transpose it" in str(found)


def test_every_output_is_tried(tmp_path: Path) -> None:
    (cell,) = probed(tmp_path, "edge_module:Named").cells
    assert "output 'latents' has shape (40, 8)" in str(cell.reason)


def test_what_cannot_be_tried_is_measured(tmp_path: Path) -> None:
    (cell,) = probed(tmp_path, "edge_module:Short").cells
    assert cell.reason is None


def test_a_probe_that_learns_nothing_says_so(tmp_path: Path) -> None:
    found = probed(tmp_path, "edge_module:Right", "edge_module:Constant")
    right, constant = found.cells
    assert not right.never_improved
    assert constant.never_improved
    assert [line.split(" on ")[0] for line in found.warnings] == ["edge_module:Constant"]
    table = table_of(found, "s", "s").to_markdown()
    assert f"{found.warnings[0]}" in table


# ---- beyond float32 --------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2.0**100, 2.0**-110])
def test_standardized_probes_do_not_depend_on_the_scale(scale: float) -> None:
    x, first = problem()
    wide = (x * np.float32(scale)).astype(np.float32)
    wide[:, 3] = x[:, 3]  # columns of very different sizes
    protocol = get_protocol("strict-1").replace(max_epochs=4)
    plain = evaluate(x, [first], protocol, (0,))["p"]
    scaled = evaluate(wide, [first], protocol, (0,), variants={"same": wide})["p"]
    for probe in ("mlp", "linear", "knn"):
        expected = plain[probe].predictions  # type: ignore[union-attr]
        for key in (probe, f"{probe}/same"):
            np.testing.assert_array_equal(scaled[key].predictions, expected)  # type: ignore[union-attr]
    labels = first.targets
    for made in (MLPProbe(standardize=True, max_epochs=2), KNNProbe()):
        np.testing.assert_array_equal(made.fit(x, labels).predict_proba(x), made.fit(wide, labels).predict_proba(wide))


def test_overflow_is_a_reason_and_not_a_score() -> None:
    x, first = problem()
    huge = np.tile(np.sign(x), 20) * np.float32(3e38)
    cell = evaluate(huge, [first], get_protocol("mir_ref-1").replace(max_epochs=3), (0, 1))["p"]["mlp"]
    assert isinstance(cell, str)
    assert "not finite with 2 of 2 seeds (the largest feature is" in cell
    # a deformed clip far outside of what training saw
    strict = get_protocol("strict-1").replace(max_epochs=3)
    tiny = x * np.float32(1e-20)
    found = evaluate(tiny, [first], strict, (0,), variants={"loud": x * np.float32(1e30)})["p"]
    for probe in ("mlp", "linear", "knn"):
        assert not isinstance(found[probe], str)
        assert "predictions are not finite" in str(found[f"{probe}/loud"])


def test_values_beyond_float32_are_counted(tmp_path: Path) -> None:
    (cell,) = probed(tmp_path, "edge_module:Huge").cells
    assert "beyond float32" in str(cell.reason)


def test_reasons_of_cells_reach_table_and_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["--task", TASK, "--store", str(tmp_path / "s"), "--executor", "serial", "--quiet", "--seeds", "1"]
    for command in ("run", "table"):
        names = ["--representation", "edge_module:Right", "--representation", "edge_module:Flipped"]
        assert main(["probe", command, *how, *names]) == 3
        assert "so transpose it" in capsys.readouterr().out


# ---- whose file is it ------------------------------------------------------------------------------


def features_of(folder: Path, names: dict[str, int]) -> None:
    for name, label in names.items():
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.eye(3)[label] + 0.01)


def test_feature_files_are_found_or_refused_by_name(tmp_path: Path) -> None:
    labels = {clip.id: PITCHES.index(clip.labels["pitch"]) for clip in tone_clips()}
    features_of(tmp_path / "flat", labels)
    features_of(tmp_path / "deep", {f"x/{name}": label for name, label in labels.items()})
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "x").symlink_to(tmp_path / "flat")
    features_of(tmp_path / "two" / "clean", labels)
    features_of(tmp_path / "two" / "noise", dict.fromkeys(labels, 0))
    features_of(tmp_path / "own", labels)
    features_of(tmp_path / "own" / "old", dict.fromkeys(labels, 0))
    names = ("flat", "deep", "linked", "own", "two")
    *fine, refused = probed(tmp_path, *(f"npy:{tmp_path / name}" for name in names)).cells
    for cell in fine:  # the clip's own id before the same name in some folder
        assert cell.scores["f1_micro"].mean == 1.0, cell.representation
    assert "2 files for clip 'tone-000'" in str(refused.reason)
    assert "clean/tone-000.npy, noise/tone-000.npy" in str(refused.reason)


def test_a_folder_of_other_features_is_missing_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features_of(tmp_path, {"stranger": 0})
    how = ["--task", TASK, "--store", str(tmp_path / "s"), "--executor", "serial", "--quiet"]
    assert main(["probe", "run", *how, "--representation", f"npy:{tmp_path}"]) == 3
    assert "no file for any of 90 clips, such as tone-000.npy" in capsys.readouterr().out


def test_one_feature_file_is_not_two_clips(tmp_path: Path) -> None:
    from probes.representations.user import FeatureFolder

    features_of(tmp_path, {"note": 0, "b/x": 1, "a/x": 2})

    def clip(clip_id: str, source: str) -> Clip:
        return Clip(clip_id, "d", "0", {}, source, lambda: (np.zeros((1, 9)), 8000))

    folder = FeatureFolder(str(tmp_path))
    assert "may belong to clips '1' and '2'" in str(folder.check([clip("1", "p/note.wav"), clip("2", "q/note.wav")]))
    assert folder.check([clip("1", "set/a/x.wav"), clip("2", "set/b/x.mp3")]) is None
    assert folder.path(clip("1", "set/a/x.wav")) == tmp_path / "a/x.npy"


def test_damaged_feature_files_are_counted(tmp_path: Path) -> None:
    clips = tone_clips()
    features_of(tmp_path, {clip.id: PITCHES.index(clip.labels["pitch"]) for clip in clips})
    whole = (tmp_path / "tone-004.npy").read_bytes()
    (tmp_path / "tone-000.npy").write_bytes(whole[:-3])
    (tmp_path / "tone-001.npy").write_bytes(whole.replace(b"(3,)", b"(9999999999999,)"))
    (tmp_path / "tone-002.npy").write_bytes(b"")
    (tmp_path / "tone-003.npy").write_bytes(b"PK\x03\x04")
    with open(tmp_path / "tone-005.npy", "wb") as file:
        np.savez(file, a=np.ones(3))
    np.save(tmp_path / "tone-006.npy", np.array([1j, 2, 3]))
    np.save(tmp_path / "tone-007.npy", np.array([1e300, 2, 3]))
    (cell,) = probed(tmp_path, f"npy:{tmp_path}").cells
    assert cell.left_out == {f"tone-00{i}" for i in (0, 1, 2, 3, 5, 6, 7)}
    assert cell.scores["f1_micro"].mean == 1.0


def test_results_of_different_names_have_different_files(tmp_path: Path) -> None:
    names = ["npy:n/v1", "npy:n-v1", "npy:n_v1", "npy:東京", "npy:大阪", "m:A", "m:a", "npy-n:v1", "mel", "mfcc"]
    assert len({file_name(name).lower() for name in names if name != "m:a"}) == len(names) - 1
    assert file_name("mel") == "mel"
    assert file_name("npy:mine") == "npy-mine"
    for name in ("n/v1", "n-v1"):
        features_of(tmp_path / name, {clip.id: 0 for clip in tone_clips()})
    found = probed(tmp_path, f"npy:{tmp_path}/n/v1", f"npy:{tmp_path}/n-v1")
    paths = write_results(found, tmp_path / "out")
    assert len({str(path).lower() for path in paths}) == len(paths) == 4
    kept = {json.loads(path.read_text())["representation"]["name"] for path in paths if path.suffix == ".json"}
    assert kept == set(found.request.representations)


# ---- a part of a task ------------------------------------------------------------------------------


def tones() -> TaskData:
    return labeled_task(INFO, tone_clips(), lambda clip: clip.labels["pitch"], folds="labels")


def test_a_limit_takes_the_first_clips_of_every_class() -> None:
    whole = tones()
    part = limited(whole, "mir_ref", 6)
    (split,) = part.splits("mir_ref")
    (full,) = whole.splits("mir_ref")
    for name in ("train", "validation", "test"):
        ids, all_ids = getattr(split, name), getattr(full, name)
        counts = np.bincount(part.targets[part.rows(ids)])
        assert (counts == 2).all(), "as many of each class"
        assert list(ids) == [clip_id for clip_id in all_ids if clip_id in ids], "in their order"
        assert ids[0] == all_ids[0]
    assert (part.digest, split.digest) != (whole.digest, full.digest)
    assert len(limited(whole, "mir_ref", 1).splits("mir_ref")[0].test) == len(PITCHES)
    assert limited(whole, "mir_ref", 1000) is whole
    assert len(limited(whole, "strict", 3).splits("strict")) == 5


def test_a_limit_keeps_every_tag() -> None:
    rng = np.random.default_rng(0)
    clips = tone_clips(60)
    tags = {clip.id: [tag for tag in PITCHES if rng.uniform() < 0.2] for clip in clips}
    info = replace(INFO, kind="multilabel")
    whole = labeled_task(info, clips, lambda clip: tags[clip.id])
    part = limited(whole, "mir_ref", 4)
    for name in ("train", "validation", "test"):
        kept, full = (data.targets[data.rows(getattr(data.splits("mir_ref")[0], name))] for data in (part, whole))
        assert 4 <= len(kept) <= 6
        np.testing.assert_array_equal(kept.max(axis=0), full.max(axis=0))
        np.testing.assert_array_equal(kept.min(axis=0), full.min(axis=0))


def test_limited_results_are_never_taken_for_whole_ones(tmp_path: Path) -> None:
    whole, part = probed(tmp_path, "edge_module:Right"), probed(tmp_path, "edge_module:Right", limit=3)
    assert (whole.cells[0].n_test, part.cells[0].n_test) == (18, 3)
    assert probed(tmp_path, "edge_module:Right").cells[0].n_test == 18
    table = table_of(part, "s", "Some suite")
    assert "limit 3" in table.title
    assert "not comparable" in table.to_markdown()
    assert table.provenance["limit"] == 3
    assert not table.published
    assert "limit" not in table_of(whole, "s", "Some suite").provenance
    assert probed(tmp_path, "edge_module:Right", limit=1000).limit == 0, "nothing was left out"


# ---- mistakes on the command line ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("run --representation chroma@nosuch", "no output 'nosuch'"),
        ("run --representation autoencoder:identity", "has no method 'features'"),
        ("run --representation npy:HERE --deform noise:15", "cannot be deformed"),
        ("run --representation npy:", "npy:"),
        ("run --representation hear:", "hear:"),
        ("run --representation mel --task :", "':'"),
        ("run --representation mel --limit -1", "-1"),
        ("run --representation mel --device nosuch", "nosuch"),
        ("run --representation mel --output HERE/file", "not a folder"),
        ("run --representation mel --store HERE/file", "not a folder"),
        ("table --representation mel@@x", "no output"),
        ("export-mir-ref --representation chroma", "no task for 'synthetic-pitch'"),
        ("import-mir-ref HERE/file --seeds 0", "seed"),
    ],
)
def test_mistakes_are_one_line(arguments: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("experiments: []")
    np.save(tmp_path / "x.npy", np.ones(3))
    command, *rest = arguments.replace("HERE", str(tmp_path)).split()
    task = [] if "mir_ref" in command or command == "import-mir-ref" else ["--task", "synthetic-pitch"]
    store = [] if "--store" in rest else ["--store", str(tmp_path / "store")]
    assert main(["probe", command, *task, *rest, *store, "--executor", "serial", "--quiet"]) == 2
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") == 1
