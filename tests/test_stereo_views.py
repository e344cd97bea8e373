"""Suites that keep stereo: metrics that see it are given the channels, the others what they were given before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from harness_helpers import RATE, tiny_suite, use_loudness
from test_stereo_metrics import SEES

from benchmarks.autoencoders.controls import Identity
from benchmarks.evaluation.cells import Cell
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions
from benchmarks.metrics.base import PairMetric
from benchmarks.metrics.registry import METRICS, declared_metric
from benchmarks.store.store import Store
from benchmarks.suite import load_suite
from benchmarks.tables.paper import build_table2

Cells = dict[str, dict[str, Cell]]

FOLDING = ["si_sdr", "fad:vggish"]
SEEING = ["mel", "si_sdr:side", "si_sdr:joint"]


class Changes(Identity):
    """A system that changes the stereo image a little, and the mono fold always in the same way."""

    def image(self, audio: np.ndarray) -> np.ndarray:
        return audio

    def reconstruct(self, audio: np.ndarray, sample_rate: int, **_: object) -> np.ndarray:
        coded = np.float32(0.8) * audio + np.float32(0.1) * np.roll(audio, 1, axis=1)
        return self.image(coded) if len(coded) == 2 else coded


class Swaps(Changes):
    def image(self, audio: np.ndarray) -> np.ndarray:
        return audio[::-1].copy()


class Folds(Changes):
    def image(self, audio: np.ndarray) -> np.ndarray:
        return np.repeat(audio.mean(axis=0, keepdims=True), 2, axis=0)


class Turns(Changes):
    def image(self, audio: np.ndarray) -> np.ndarray:
        return audio * np.float32([[1], [-1]])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stereo clips and a mono one."""
    folder = tmp_path_factory.mktemp("clips")
    for index, channels in enumerate((2, 2, 1)):
        rng = np.random.default_rng(index)
        noise = np.cumsum(rng.standard_normal((round(1.2 * RATE), channels)), axis=0)
        noise -= noise.mean(axis=0)
        sf.write(folder / f"clip{index}.wav", 0.3 * noise / np.abs(noise).max(), RATE, subtype="FLOAT")
    return folder


def measured(clips: Path, store: Path, channels: str, systems: list[type], metrics: list[str]) -> Cells:
    """Cells by system and metric."""
    section = {"systems": [f"test_stereo_views:{kind.__name__}" for kind in systems], "metrics": metrics}
    suite = tiny_suite(clips, data={"channels": channels}, table2=section)
    with pytest.MonkeyPatch.context() as patch:
        use_loudness(patch)
        table, _ = build_table2(suite, Store(store), SerialExecutor(), RunOptions(quiet=True))
    return {row.name.rpartition(":")[2]: dict(row.cells) for row in table.rows}


@pytest.fixture(scope="module")
def found(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """Table 2 of a suite that keeps stereo."""
    store = tmp_path_factory.mktemp("store")
    return measured(clips, store, "stereo", [Changes, Swaps, Folds, Turns], FOLDING + SEEING)


@pytest.mark.parametrize(("channels", "metrics"), [("mono", FOLDING), ("native", SEEING)])
def test_metrics_that_see_stereo_get_it_and_the_others_the_same_as_before(
    found: Cells, clips: Path, tmp_path: Path, channels: str, metrics: list[str]
) -> None:
    alone = measured(clips, tmp_path, channels, [Swaps], metrics)["Swaps"]
    for name in metrics:
        assert alone[name].value is not None
        assert found["Swaps"][name] == alone[name], name


def test_swap_fold_and_polarity_change_numbers_of_table_2(found: Cells) -> None:
    plain = {name: cell.value for name, cell in found["Changes"].items()}
    for system, changed in (("Swaps", "s"), ("Folds", "m"), ("Turns", "p")):
        values = {name: cell.value for name, cell in found[system].items()}
        for name in SEEING:
            differs = values[name] != pytest.approx(plain[name], abs=1e-5)
            assert differs == (changed in SEES[name]), (system, name)
        assert [values[name] for name in FOLDING] == [plain[name] for name in FOLDING]  # it saw mono folds


def test_mono_clips_are_left_out_of_the_side_with_their_reason(found: Cells) -> None:
    mel, side = found["Changes"]["mel"], found["Changes"]["si_sdr:side"]
    assert (mel.n, side.n) == (3, 2)
    assert side.failures == {"1 channel, a stereo clip needed": 1}
    assert "lost" not in side.details  # it is the clip's doing, not the system's


def test_every_metric_that_does_not_fold_has_its_test_of_stereo() -> None:
    metrics = {name: declared_metric(name) for name in METRICS.names()}
    seeing = {name for name, metric in metrics.items() if isinstance(metric, PairMetric) and not metric.folds}
    assert seeing <= set(SEES)


@pytest.mark.parametrize("name", ["synthetic", "open", "paper"])
def test_the_suites_keep_stereo_and_begin_with_the_papers_columns(name: str) -> None:
    suite = load_suite(name)
    assert suite.data.channels == "stereo"
    assert suite.table2 is not None
    names = [metric.name for metric in suite.table2.metrics]
    assert names[:2] == ["si_sdr", "visqol"]
    assert all(metric.startswith("fad:") for metric in names[2:4])
    assert {"mel", "si_sdr:side"} <= set(names)
