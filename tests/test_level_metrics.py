"""SNR and loudness error: other tools' figures, the recommendation's coefficients, and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from metric_pairs import pair

from benchmarks.metrics.clip_score import clip_score
from benchmarks.metrics.loudness import k_weighting, loudness, loudness_error
from benchmarks.metrics.snr import SNR, signal_to_noise


def test_snr_is_torchmetrics_number() -> None:
    # torchmetrics.functional.audio.signal_noise_ratio(preds.reshape(1, -1), target.reshape(1, -1))
    assert signal_to_noise(*pair(), 44100)[0] == pytest.approx(13.787528038024902, abs=1e-5)


def test_snr_sees_gain_and_gives_silence_0_db() -> None:
    _, target = pair()
    assert signal_to_noise(0.9 * target, target, 44100)[0] == pytest.approx(20.0, abs=1e-4)
    assert clip_score(SNR, 0 * target, target, 44100) == (0.0, None)
    assert clip_score(SNR, target, target, 44100) == (100.0, "exact, counted as 100 dB")


# pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(audio.T.astype(float)) of preds and target
@pytest.mark.parametrize(
    ("rate", "preds", "target"),
    [
        (8000, -21.601337697876136, -21.39672039695449),
        (44100, -20.762292575199833, -21.9457320376445),
        (48000, -20.758179677573825, -21.94042812165471),
        (96000, -20.801323694743946, -21.95831459435693),
    ],
)
def test_loudness_is_pyloudnorms_number(rate: int, preds: float, target: float) -> None:
    audio = pair(rate)
    assert [loudness(x, rate) for x in audio] == pytest.approx([preds, target], abs=1e-6)
    assert loudness_error(*audio, rate)[0] == pytest.approx(abs(preds - target), abs=1e-6)


def test_the_weighting_has_the_recommendations_coefficients() -> None:
    """ITU-R BS.1770-4, tables 1 and 2, for 48 kHz."""
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585]
    high_pass = [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]
    np.testing.assert_allclose(k_weighting(48000), [shelf, high_pass], atol=1e-9)


@pytest.mark.parametrize(("channels", "wanted"), [(1, -3.01), (2, 0.0)])
def test_a_sine_at_full_scale_reads_what_the_recommendation_says(channels: int, wanted: float) -> None:
    sine = np.sin(2 * np.pi * 997 * np.arange(96000) / 48000)
    assert loudness(np.tile(sine, (channels, 1)), 48000) == pytest.approx(wanted, abs=0.01)


def test_silence_between_is_gated() -> None:
    sine = np.sin(2 * np.pi * 997 * np.arange(10 * 48000) / 48000)[None]
    sine[:, 4 * 48000 :] *= 1e-3  # 60 dB softer: below the relative gate
    assert loudness(sine, 48000) == pytest.approx(-3.01, abs=0.3)


def test_what_is_not_measured_has_a_reason() -> None:
    _, target = pair()
    value, reason = loudness_error(1e-5 * target, target, 44100)
    assert value == pytest.approx(loudness(target, 44100) + 70)
    assert reason == "output below -70 LUFS, counted as -70 LUFS"
    value, reason = loudness_error(target, 1e-4 * target, 44100)
    assert math.isnan(value)
    assert reason == "target is below -70 LUFS"
    short = loudness_error(*(x[:, :13230] for x in pair()), 44100)
    slow = loudness_error(*pair(), 2000)
    assert math.isnan(short[0] + slow[0])
    assert short[1] == "0.300 s, at least 0.4 s needed for loudness"
    assert slow[1] == "sample rate 2000 Hz, at least 4000 Hz needed for loudness"
