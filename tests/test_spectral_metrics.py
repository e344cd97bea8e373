"""Mel distance, STFT distances and log-spectral distance: the tools' own figures, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from metric_pairs import pair

from benchmarks.embedders.mel_filters import mel_filters_slaney
from benchmarks.metrics.lsd import high_distance, log_spectral_distance
from benchmarks.metrics.mel import SCALES, mel_distance
from benchmarks.metrics.mr_stft import auraloss_distance, dac_distance
from benchmarks.metrics.spectra import hann, spectra


def noise(rate: int = 44100, scale: float = 0.1) -> np.ndarray:
    return (scale * np.random.default_rng(0).standard_normal((1, rate))).astype(np.float32)


# audiotools.metrics.spectral: x, y = AudioSignal(preds[None], rate), AudioSignal(target[None], rate)
# MelSpectrogramLoss(n_mels=[5, 10, 20, 40, 80, 160, 320], window_lengths=[32, 64, 128, 256, 512, 1024, 2048],
#                    mel_fmin=[0] * 7, mel_fmax=[None] * 7, pow=1.0, clamp_eps=1e-5, mag_weight=0.0)(x, y)
@pytest.mark.parametrize(("rate", "wanted"), [(44100, 0.5027412176132202), (8000, 0.5502846240997314)])
def test_mel_is_audiotools_number(rate: int, wanted: float) -> None:
    assert mel_distance(*pair(rate), rate)[0] == pytest.approx(wanted, abs=1e-6)


# MultiScaleSTFTLoss()(x, y)
@pytest.mark.parametrize(("rate", "wanted"), [(44100, 0.6883590221405029), (8000, 0.7166372537612915)])
def test_stft_distance_is_audiotools_number(rate: int, wanted: float) -> None:
    assert dac_distance(*pair(rate), rate)[0] == pytest.approx(wanted, abs=1e-6)


def test_multi_resolution_stft_is_auraloss_number() -> None:
    # auraloss.freq.MultiResolutionSTFTLoss()(preds[None], target[None])
    assert auraloss_distance(*pair(), 44100)[0] == pytest.approx(0.45944809913635254, abs=2e-6)


def test_lsd_is_that_of_another_stft() -> None:
    # librosa.stft(n_fft=2048, hop_length=512, pad_mode="reflect") in float64, magnitudes at least 512e-5, in dB;
    # bins from 372 (8010 Hz) for the second
    assert log_spectral_distance(*pair(), 44100)[0] == pytest.approx(4.058655853643732, abs=1e-5)
    assert high_distance(*pair(), 44100)[0] == pytest.approx(4.454756972661774, abs=1e-5)


@pytest.mark.parametrize("gain_db", [-6.0, 3.0])
def test_a_gain_is_the_distance(gain_db: float) -> None:
    target = noise()
    preds = np.float32(10 ** (gain_db / 20)) * target
    assert log_spectral_distance(preds, target, 44100)[0] == pytest.approx(abs(gain_db), abs=1e-3)
    assert high_distance(preds, target, 44100)[0] == pytest.approx(abs(gain_db), abs=1e-3)
    # log10 of magnitudes, summed over the scales; a band narrower than a bin may be empty
    banks = [mel_filters_slaney(sample_rate=44100, n_fft=n, n_mels=m, low=0, high=22050) for n, m in SCALES.items()]
    scales = sum((bank.sum(axis=0) > 0).mean() for bank in banks)
    assert mel_distance(preds, target, 44100)[0] == pytest.approx(scales * abs(gain_db) / 20, rel=0.02)
    convergence, logarithm = abs(10 ** (gain_db / 20) - 1), abs(gain_db) * np.log(10) / 20
    assert auraloss_distance(preds, target, 44100)[0] == pytest.approx(convergence + logarithm, abs=1e-4)


def test_what_lies_below_the_floor_does_not_count() -> None:
    target = noise(scale=1e-6)
    target[:, ::4410] = 0.1  # clicks, so that it is not silent
    assert log_spectral_distance(target + noise(scale=1e-7), target, 44100)[0] < 0.5


def test_only_the_band_counts() -> None:
    time = np.arange(44100) / 44100
    target = noise()
    low, high = (target + np.float32(0.3) * np.sin(2 * np.pi * f * time).astype(np.float32) for f in (500, 12000))
    assert high_distance(low, target, 44100)[0] < 0.1
    assert high_distance(high, target, 44100)[0] > 1.0
    value, reason = high_distance(*pair(8000), 8000)
    assert np.isnan(value)
    assert reason == "sample rate 8000 Hz, nothing above 8000 Hz"


@pytest.mark.parametrize("samples", [1025, 5000, 44100])
def test_blocks_are_frames_of_the_whole(samples: int) -> None:
    audio = noise(samples)
    found = np.concatenate(list(spectra(audio, hann(600, 1024), 120)), axis=1)
    padded = np.pad(audio[0].astype(np.float64), 512, mode="reflect")
    window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(600) / 600), 212)
    wanted = [np.fft.rfft(padded[at : at + 1024] * window) for at in range(0, samples + 1, 120)]
    np.testing.assert_allclose(found[0], wanted, atol=1e-4)
