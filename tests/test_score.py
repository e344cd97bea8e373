"""`m2l-bench score` and `benchmarks.score`: pairing, what is left out, groups, and what a second call measures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile as sf
from harness_helpers import RATE

import benchmarks
from benchmarks.cli.main import main
from benchmarks.compare.score import default_metrics, score_folders
from benchmarks.errors import UsageError
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions
from benchmarks.metrics.registry import CORPUS_METRICS
from benchmarks.metrics.si_sdr import si_sdr
from benchmarks.store.store import Store


def write(path: Path, seed: int, noise: float = 0.0, rate: int = RATE, seconds: float = 1.2, channels: int = 2) -> None:
    """A noisy clip; with `noise` the same clip with some more."""
    rng = np.random.default_rng(seed)
    audio = 0.1 * rng.standard_normal((round(seconds * RATE), channels))
    audio += noise * rng.standard_normal(audio.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, audio, rate, subtype="PCM_24")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Originals as WAV and outputs as FLAC, two in each of two folders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    for index in range(4):
        name = f"album{index // 2}/song{index}"
        write(tmp_path / "ref" / f"{name}.wav", index)
        write(tmp_path / "deg" / f"{name}.flac", index, 0.01)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> tuple[dict, str]:
    command = ["score", "ref", "deg", "--executor", "serial", "--json", *arguments]
    assert main(command) == status
    captured = capsys.readouterr()
    return json.loads(captured.out) if captured.out else {}, captured.err


def test_pairs_by_path_with_intervals_over_folders(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = run(capsys, "--metrics", "si_sdr,snr,mel", "--per-file", "scores.csv", "--quiet")
    assert found["clips"] == "4 clips of 2 folders"
    cell = found["metrics"]["snr"]
    assert cell["n"] == 4
    assert cell["value"] == pytest.approx(20.0, abs=0.2)
    assert cell["low"] < cell["value"] < cell["high"]
    scores = pandas.read_csv("scores.csv")
    assert list(scores.columns) == ["clip", "metric", "value", "reason"]
    assert len(scores) == 12
    one = scores.set_index(["metric", "clip"])["value"]["si_sdr", "album1/song3.wav"]
    pair = [sf.read(place / side / f"album1/song3.{kind}")[0].T for side, kind in (("deg", "flac"), ("ref", "wav"))]
    assert one == pytest.approx(si_sdr(*pair), abs=1e-4)


def test_the_call_from_python_gives_the_same(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = run(capsys, "--metrics", "lsd", "--quiet")
    frame = benchmarks.score("ref", "deg", ["lsd"], workers=1)
    assert frame.groupby("metric")["value"].mean()["lsd"] == pytest.approx(found["metrics"]["lsd"]["value"])
    assert frame.attrs["unpaired"] == {"reference": [], "degraded": []}


def test_files_without_a_partner_are_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "deg/album0/song1.flac").unlink()
    write(place / "deg/other.flac", 9)
    found, said = run(capsys, "--metrics", "snr", "--per-file", "scores.json", "--quiet", status=3)
    assert found["unpaired"] == {"reference": ["album0/song1.wav"], "degraded": ["other.flac"]}
    assert found["metrics"]["snr"]["n"] == 3
    assert "without a partner in reference: 1: album0/song1.wav" in said
    rows = json.loads((place / "scores.json").read_text())
    lost = next(row for row in rows if row["clip"] == "album0/song1.wav")
    assert lost == {"clip": "album0/song1.wav", "metric": "snr", "value": None, "reason": "no file for the clip"}


def test_one_more_file_is_one_more_measurement(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "--metrics", "snr,lsd")
    write(place / "ref/album2/new.wav", 7)
    write(place / "deg/album2/new.wav", 7, 0.02)
    found, said = run(capsys, "--metrics", "snr,lsd")
    assert found["metrics"]["lsd"]["n"] == 5
    # one file of each side, one score and the mean of each metric
    assert said.count("[6/6]") == 1
    _, said = run(capsys, "--metrics", "snr,lsd")
    assert "score" not in said
    # the store keeps scores and no audio
    assert sum(path.stat().st_size for path in (place / "cache").rglob("*") if path.is_file()) < 100_000


def test_other_rates_channels_and_lengths(place: Path) -> None:
    write(place / "deg/album0/song0.flac", 0, 0.01, channels=1)
    audio, _ = sf.read(place / "deg/album0/song1.flac")
    sf.write(place / "deg/album0/song1.flac", np.repeat(audio, 2, axis=0), 2 * RATE)
    write(place / "deg/album1/song2.flac", 2, seconds=2.0)
    frame = benchmarks.score("ref", "deg", ["si_sdr:side", "stereo_coherence", "mel"], workers=1)
    cells = frame.set_index(["clip", "metric"])
    assert cells["value"]["album0/song0.wav", "si_sdr:side"] == -100.0  # mono was repeated: no side
    assert np.isfinite(cells["value"]["album0/song1.wav", "mel"])  # resampled
    assert cells["reason"]["album1/song2.wav", "mel"] == "longer than the clip by more than 0.1 s"


def test_two_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(place / "deg/album0/song0.flac", place / "x.flac")
    frame = benchmarks.score(place / "ref/album0/song0.wav", place / "x.flac", ["snr"], workers=1)
    assert frame["value"].tolist() == pytest.approx([20.0], abs=0.2)
    assert frame["clip"].tolist() == ["song0.wav"]


LEVELS = """
import numpy as np
class Levels:
    sample_rate = 8000
    def embed(self, audio):
        frames = audio[: len(audio) // 800 * 800].reshape(-1, 800)
        return np.stack([np.abs(frames).mean(axis=1), frames.std(axis=1)], axis=1)
"""


@pytest.mark.parametrize("rate", [8000, 96000])
def test_distances_of_corpora_leave_out_what_has_no_embedding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    """Of six pairs one has a NaN and one a single sample; silence is a sound like any other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    module = f"levels_at_{rate}.py"  # a process keeps a module's name
    (tmp_path / module).write_text(LEVELS)
    rng = np.random.default_rng(0)
    for side in ("ref", "deg"):
        (tmp_path / side).mkdir()
        for index in range(6):
            audio = 0.1 * np.linspace(0.1, 1.0, rate)[:, None] * rng.standard_normal((rate, 2))
            audio = 0 * audio if (side, index) == ("deg", 2) else audio[:1] if index == 1 else audio
            if (side, index) == ("deg", 0):
                audio[5] = np.nan
            sf.write(tmp_path / side / f"{index}.wav", audio, rate, subtype="FLOAT")
    names = [f"{kind}:{module}:Levels" for kind in CORPUS_METRICS]
    options, store = RunOptions(quiet=True), Store(tmp_path / "store")
    found = score_folders(Path("ref"), Path("deg"), names, options, store, SerialExecutor())
    assert len(found.cells) == len(CORPUS_METRICS)
    for cell in found.cells.values():
        assert cell.value is not None
        assert np.isfinite(cell.value)
        assert cell.n == 4
        assert "non-finite" in cell.details["failed_clips"]["0.wav"]
        assert "too short" in cell.details["failed_clips"]["1.wav"]


def test_sets_need_no_pairs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "embed.py").write_text(LEVELS)
    (place / "deg/album1/song3.flac").unlink()
    write(place / "deg/elsewhere.flac", 5, 0.1)
    found, _ = run(capsys, "--unpaired", "--metrics", "fad:embed.py:Levels,kad:embed.py:Levels", "--quiet")
    assert found["metrics"]["fad:embed:Levels"]["value"] > 0.0
    same = benchmarks.score("ref", "ref", ["fad:embed.py:Levels"], unpaired=True, workers=1)
    assert same["value"].tolist() == [0.0]
    assert main(["score", "ref", "deg", "--unpaired", "--metrics", "snr", "--quiet"]) == 2
    assert "snr: needs pairs; without them there are fad, fad_inf, kad" in capsys.readouterr().err


def test_what_cannot_be_scored_is_refused(place: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder: nowhere"):
        benchmarks.score("ref", "nowhere")
    with pytest.raises(UsageError, match="give two folders or two files"):
        benchmarks.score("ref", place / "deg/album0/song0.flac")
    (place / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no audio file in"):
        benchmarks.score("ref", "empty", ["snr"], workers=1)
    assert main(["score", "ref", "deg", "--per-file", "scores.txt"]) == 2


def test_the_default_metrics_need_no_weights() -> None:
    names = default_metrics()
    assert {"si_sdr", "mel", "mr_stft", "lsd", "chroma", "stereo_phase"} <= set(names)
    assert "visqol" not in names
    assert not any(name.startswith(("fad", "kad")) for name in names)
