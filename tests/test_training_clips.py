"""Generated clips to train on: they are rendered once, are no test clips, and steady tones are steady."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.cli.main import main
from benchmarks.datasets import create_dataset
from benchmarks.fetch import command
from benchmarks.fetch.render_clips import FIRST_SEED, render_synthetic, render_tones
from benchmarks.suite import load_suite


def test_training_clips_are_no_test_clips(tmp_path: Path) -> None:
    folder = render_synthetic(2, 1.0, tmp_path, quiet=True)
    files = sorted(folder.iterdir())
    assert len(files) == 2
    trained = {path.stem for path in files}
    for name in ("synthetic", "open"):
        suite = load_suite(name)
        if suite.data.dataset == "synthetic":
            tested = create_dataset("synthetic", **suite.data.options).clips()
            assert trained.isdisjoint(clip.id for clip in tested)
            assert max(clip.labels["seed"] for clip in tested) < FIRST_SEED
    audio, rate = soundfile.read(files[0], always_2d=True)
    assert (rate, len(audio)) == (44100, 44100)
    assert np.abs(audio).max() > 0.01
    before = {path: path.stat().st_mtime_ns for path in files}
    files[1].unlink()
    render_synthetic(2, 1.0, tmp_path, quiet=True)
    assert files[0].stat().st_mtime_ns == before[files[0]], "what is there is kept"
    assert files[1].is_file()


def test_tones_are_lines_of_a_spectrum_at_one_level() -> None:
    clips = create_dataset("tones", size=6, seconds=2.0).clips()
    for clip in clips:
        audio, rate = clip.load()
        assert audio.shape == (1, 88200)
        assert rate == 44100
        power = np.abs(np.fft.rfft(audio[0] * np.hanning(audio.shape[1]))) ** 2
        # Three pitches of eight harmonics, each a few bins wide, at most.
        assert np.sort(power)[::-1][:200].sum() > 0.99 * power.sum(), clip.id
        halves = [np.sqrt(np.mean(half**2)) for half in np.split(audio[0], 2)]
        assert halves[0] == pytest.approx(halves[1], rel=0.1), clip.id
    levels = [20 * np.log10(np.abs(clip.load()[0]).max()) for clip in clips]
    assert max(levels) - min(levels) > 10


def test_fetch_renders_them_and_keeps_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "render_synthetic", lambda root: render_synthetic(1, 1.0, root, quiet=True))
    monkeypatch.setattr(command, "render_tones", lambda root: render_tones(1, root, quiet=True))
    assert main(["fetch", "training-clips", "--data", str(tmp_path), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    files = sorted(path for path in tmp_path.rglob("*.flac"))
    assert [path.name for path in files] == [f"synthetic-{FIRST_SEED}.flac", "tones-000000.flac"]
    assert all(str(path.parent) in found["summary"] for path in files)


@pytest.mark.parametrize("options", [{"size": 0}, {"seconds": 0.0}, {"seed": -1}])
def test_tones_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="tones: size"):
        create_dataset("tones", **options)
