"""FAD and FAD_clap by the tools they are named after, beside ours: `make parity`, then run this with `-m slow`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from synthetic_weights import notes
from world.published_weights import write_weights

from benchmarks.embedders import create_embedder
from benchmarks.embedders.backends import Worker
from benchmarks.embedders.clap import WINDOW
from benchmarks.embedders.parity import parity_missing
from benchmarks.metrics.frechet import frechet_distance
from benchmarks.weights.table import WEIGHTS

pytestmark = pytest.mark.slow

#: Seconds of the six clips: whole windows and parts, shorter than CLAP's window and as long.
SECONDS = (10.0, 9.3, 7.0, 4.3, 3.0, 10.0)
RELATIVE = 1e-4


@dataclass
class Case:
    """One model on both sides.

    Attributes:
        worker: the tool.
        name: our embedder.
        weights: random weights in published form.
        folders: six original clips and six outputs, as files at the model's rate.
        clips: the same as arrays, by folder.
    """

    worker: Worker
    name: str
    weights: Path
    folders: list[Path]
    clips: list[list[np.ndarray]]

    def ours(self, folder: int) -> list[np.ndarray]:
        """Our embeddings of a folder's clips."""
        return create_embedder(self.name, self.weights, "cpu").embed_batch(self.clips[folder])


@pytest.fixture(scope="module", params=["vggish", "clap-630k-audioset-best"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    if reason := parity_missing():
        pytest.skip(reason)
    place = tmp_path_factory.mktemp("parity")
    write_weights(place / "weights", [request.param])
    weights = place / "weights" / request.param / WEIGHTS[request.param].files[0].path
    rate = 16000 if request.param == "vggish" else 48000
    folders, clips = [place / "originals", place / "outputs"], [[], []]  # type: ignore[var-annotated]
    for folder in folders:
        folder.mkdir()
    for index, seconds in enumerate(SECONDS):
        clip = notes(rate, seconds, seed=index)
        coded = 0.7 * clip + 0.3 * np.roll(clip, 3) + 0.01 * np.random.default_rng(index).standard_normal(len(clip))
        for audio, folder, kept in zip((clip, coded.astype(np.float32)), folders, clips, strict=True):
            sf.write(folder / f"{index}.wav", audio, rate, subtype="FLOAT")
            kept.append(audio)
    worker = Worker(request.param.removeprefix("clap-"), weights, "cpu")
    name = request.param if request.param == "vggish" else f"{request.param}@file"
    yield Case(worker, name, weights, folders, clips)
    worker.close()


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference beside the largest value."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def test_embeddings_of_files_by_the_tool_are_ours(case: Case) -> None:
    for folder in range(2):
        theirs = case.worker.embed([case.folders[folder] / f"{i}.wav" for i in range(len(SECONDS))])
        for index, (found, wanted) in enumerate(zip(case.ours(folder), theirs, strict=True)):
            assert found.shape == wanted.shape
            assert relative(found, wanted) < RELATIVE, (index, relative(found, wanted))


def test_the_back_end_of_a_table_gives_the_same(case: Case) -> None:
    tool = "[frechet-audio-distance]" if case.name == "vggish" else "[laion-clap]"
    embedder = create_embedder(case.name + tool, case.weights, "cpu")
    embedder._worker = case.worker  # type: ignore[attr-defined]  # loading it takes half a minute
    for found, wanted in zip(case.ours(1), embedder.embed_batch(case.clips[1]), strict=True):
        assert relative(found, wanted) < RELATIVE


def test_fad_of_two_folders_by_the_tool_is_ours(case: Case) -> None:
    theirs = case.worker.score(*case.folders)
    ours = frechet_distance(*(np.concatenate(case.ours(folder)) for folder in range(2)))
    assert ours == pytest.approx(theirs, rel=RELATIVE)


def test_of_long_clips_clap_by_the_tool_takes_other_ten_seconds_each_time(case: Case) -> None:
    """The one difference by design: there a random part, here the middle, so that a number can be had again."""
    if case.name == "vggish":
        pytest.skip("VGGish takes the whole clip")
    clip = notes(48000, 14.0)
    path = case.folders[0].parent / "long.npy"
    np.save(path, clip)
    first, second = case.worker.embed([path, path])
    assert relative(first, second) > RELATIVE
    start = (len(clip) - WINDOW) // 2
    np.save(path, clip[start : start + WINDOW])
    ours = create_embedder(case.name, case.weights, "cpu").embed(clip)
    assert relative(ours, case.worker.embed([path])[0]) < RELATIVE
