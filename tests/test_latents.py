"""Statistics of latents against closed forms, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from harness_helpers import write_clips

import benchmarks
from benchmarks.autoencoders.lyra import Codes
from benchmarks.autoencoders.neural import Latents
from benchmarks.cli.main import main
from benchmarks.errors import UsageError
from benchmarks.latents.measure import as_array, latent_statistics
from benchmarks.latents.statistics import code_statistics, effective_rank, relative_error, spread

RNG = np.random.default_rng(0)


def test_normal_latents_have_deviation_1_no_divergence_full_rank_and_no_smoothness() -> None:
    found = spread([RNG.standard_normal((6, 40_000))])
    wanted = {"deviation": 1.0, "kl": 0.0, "effective_rank": 6.0, "smoothness": 0.0}
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, abs=0.02)
    moved = spread([3.0 + 2.0 * RNG.standard_normal((1, 40_000))])
    assert moved["kl"] == pytest.approx(0.5 * (4 + 9 - 1 - math.log(4)), abs=0.1)


def test_smoothness_is_the_correlation_of_successive_frames_and_clips_do_not_touch() -> None:
    z = np.zeros((2, 40_000))
    noise = RNG.standard_normal(z.shape)
    for t in range(1, z.shape[1]):
        z[:, t] = 0.8 * z[:, t - 1] + 0.6 * noise[:, t]
    assert spread([z])["smoothness"] == pytest.approx(0.8, abs=0.02)
    ones = np.ones((3, 50))
    assert spread([ones, -ones])["smoothness"] == 1.0
    assert spread([ones])["kl"] == math.inf


def test_effective_rank_counts_what_is_in_equal_use() -> None:
    assert effective_rank(np.diag([2.0, 2.0, 2.0, 0.0])) == pytest.approx(3.0)
    assert effective_rank(np.diag([1.0, 0.0])) == pytest.approx(1.0)
    assert effective_rank(np.zeros((2, 2))) == 0.0
    shares = np.array([0.75, 0.25])
    assert effective_rank(np.diag(shares)) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))


def test_codes_in_equal_use_have_the_entropy_of_their_number() -> None:
    codes = np.stack([np.arange(800) % 8, np.zeros(800, int)])
    found = code_statistics([codes[:, :400], codes[:, 400:]])
    assert found == {"codebooks": 2.0, "used": 4.5, "entropy": 1.5, "perplexity": pytest.approx(2**1.5)}


def test_errors_are_relative_to_what_is_expected() -> None:
    a = RNG.standard_normal((2, 9))
    assert relative_error([(a, a), (1.5 * a, a)]) == pytest.approx(math.sqrt(0.25 / 2))
    assert math.isnan(relative_error([]))


class Frames:
    """Latents that are the samples themselves, 100 to a frame: linear, and they move with the audio."""

    spec = SimpleNamespace(name="frames", sample_rate=8000, latent_rate=80.0)
    power = 1.0

    def encode(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        assert sample_rate == 8000
        frames = audio[:, : audio.shape[1] // 100 * 100].reshape(1, -1, 100).transpose(0, 2, 1)
        return np.sign(frames) * np.abs(frames) ** self.power


def test_a_linear_encoder_has_no_error_and_another_has_its_own(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", 3)
    found = latent_statistics(Frames(), tmp_path / "clips")
    assert (found["kind"], found["dim"], found["clips"]) == ("continuous", 100, 3)
    for key in ("gain_error", "mix_error", "shift_error"):
        assert found[key] == pytest.approx(0.0, abs=1e-5)
    square = Frames()
    square.power = 2.0  # half the amplitude gives a quarter where a half is expected
    found = latent_statistics(square, tmp_path / "clips", limit=2)
    assert found["gain_error"] == pytest.approx(0.5, abs=1e-5)
    assert found["shift_error"] == pytest.approx(0.0, abs=1e-5)
    assert found["mix_error"] > 0.1
    assert benchmarks.latent_statistics is latent_statistics


def test_every_form_of_latents_is_read() -> None:
    z, codes = np.zeros((1, 4, 7), np.float32), np.zeros((1, 3, 7), np.int64)
    assert as_array(Latents(({"z": z},), 1, 1.0), "x").shape == (4, 7)
    assert as_array(Latents(({"codes": codes, "scale": z},), 1, 1.0, 9.0), "x").dtype == np.int64
    assert as_array(Codes(codes, 8.0), "x").shape == (7, 3)  # (channels, frames, codebooks)
    assert as_array(np.zeros((5, 1, 3, 7), int), "x").shape == (3, 35)  # chunks
    with pytest.raises(UsageError, match="opus: encode gives bytes, no latents"):
        as_array(b"123", "opus")


def test_the_command_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clips(tmp_path / "clips", 2)
    command = ["latents", "music2latent-mini", "--data", str(tmp_path / "clips"), "--limit", "1", "--quiet"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dim"] == 64
    assert found["mix_error"] is None  # one clip mixes with none
    assert 1 <= found["effective_rank"] <= 64
    assert main(["latents", "opus-16k", "--data", str(tmp_path / "clips"), "--quiet"]) == 2
    assert "no latents" in capsys.readouterr().err
