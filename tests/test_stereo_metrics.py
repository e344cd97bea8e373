"""Metrics that see stereo: values in closed form, and what swaps, folds and a wrong polarity do to each."""

from __future__ import annotations

import math

import numpy as np
import pytest
from metric_pairs import pair

from benchmarks.metrics.base import PairMetric
from benchmarks.metrics.clip_score import clip_score
from benchmarks.metrics.registry import parse_metric
from benchmarks.metrics.stereo import band_edges, coherence_error, phase_error

RATE = 44100


def value_of(name: str, preds: np.ndarray, target: np.ndarray) -> float:
    metric = parse_metric(name)
    assert isinstance(metric, PairMetric)
    return clip_score(metric, preds, target, RATE)[0]


def noise(seed: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(4 * RATE)).astype(np.float32)


def mixed(coherence: float) -> np.ndarray:
    """Stereo noise of a coherence: equal channels and different ones, mixed."""
    common, left, right = noise(0), noise(1), noise(2)
    return np.stack([math.sqrt(coherence) * common + math.sqrt(1 - coherence) * own for own in (left, right)])


# torchmetrics.functional.audio.scale_invariant_signal_distortion_ratio(..., zero_mean=True) in float64, of
# (left + right) / 2, (left - right) / 2, reshape(1, -1), and the mean over the channels
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mid", 24.032051114752363),
        ("side", 15.849878433601141),
        ("joint", 15.435673983993652),
        ("per_channel", 15.782342156054037),
    ],
)
def test_si_sdr_of_channels_is_torchmetrics_number(name: str, wanted: float) -> None:
    assert value_of(f"si_sdr:{name}", *pair()) == pytest.approx(wanted, abs=1e-6)


def test_coherence_of_mixed_noise_is_known() -> None:
    """Channels that share a part c of their power have coherence c; estimates from few cells are a little higher."""
    error, reason = coherence_error(mixed(0.9), mixed(0.4), RATE)
    assert reason is None
    assert error == pytest.approx(0.5, abs=0.1)
    assert coherence_error(mixed(1.0), mixed(0.4), RATE)[0] == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize("shift", [0.5, -1.0, 3.0])
def test_a_phase_between_the_channels_is_the_error(shift: float) -> None:
    """One channel turned by `shift` at all frequencies (an ideal all-pass) turns the cross-spectrum by it."""
    left = noise(0)
    turned = np.fft.irfft(np.fft.rfft(left) * np.exp(1j * shift), n=len(left)).astype(np.float32)
    error, _ = phase_error(np.stack([left, turned]), np.stack([left, left]), RATE)
    assert error == pytest.approx(abs(shift), rel=0.05)  # the constant part cannot be turned


def test_bands_cover_all_bins_once() -> None:
    edges = band_edges(RATE, 2048)
    assert edges[0] == 0
    assert edges[-1] == 1025
    assert np.all(np.diff(edges) >= 1)
    hz = edges[1:-1] * RATE / 2048
    widths = np.diff(21.4 * np.log10(1 + 0.00437 * hz))
    np.testing.assert_allclose(widths[4:], 2.0, atol=0.3)  # rounded to bins


#: metric -> what changes it: [s]wapped channels, [m]ono fold, [p]olarity of one channel. The others do not, to the
#: last bits: the module of each metric says why.
SEES = {
    "si_sdr": "p",
    "chroma": "p",
    "si_sdr:joint": "smp",
    "si_sdr:per_channel": "sm",
    "si_sdr:mid": "p",
    "si_sdr:side": "mp",
    "snr": "smp",
    "mel": "sm",
    "mr_stft": "sm",
    "mr_stft:dac": "sm",
    "lsd": "sm",
    "lsd:8k-": "sm",
    "stereo_coherence": "m",
    "stereo_phase": "smp",
    "loudness_error": "m",
}


@pytest.mark.parametrize("name", SEES)
def test_swap_fold_and_polarity(name: str) -> None:
    preds, target = pair()
    target[1] *= 0.5
    # One side alone would leave its coherence and its loudness alike on both sides.
    preds[1] = 0.4 * preds[1] + 0.2 * preds[0]
    before = value_of(name, preds, target)
    changed = {
        "s": preds[::-1].copy(),
        "m": np.repeat(preds.mean(axis=0, keepdims=True), 2, axis=0),
        "p": preds * np.float32([[1], [-1]]),
    }
    for what, other in changed.items():
        difference = abs(value_of(name, other, target) - before)
        if what in SEES[name]:
            assert difference > 0.005, what
        else:
            assert difference < 1e-5, what


def test_polarity_of_one_channel_is_a_phase_of_pi() -> None:
    _, target = pair()
    flipped = target * np.float32([[1], [-1]])
    assert value_of("stereo_phase", flipped, target) == pytest.approx(math.pi)
    assert value_of("stereo_coherence", flipped, target) == pytest.approx(0.0, abs=1e-6)
    # equal channels with one turned over cancel as mono, and are no silent output for what does not fold
    both = np.repeat(target[:1], 2, axis=0)
    assert value_of("stereo_coherence", both * np.float32([[1], [-1]]), both) == pytest.approx(0.0, abs=1e-6)


def test_a_mono_system_gets_a_number_for_the_side_it_lost() -> None:
    preds, target = pair()
    mono = np.repeat(preds.mean(axis=0, keepdims=True), 2, axis=0)
    metric = parse_metric("si_sdr:side")
    assert isinstance(metric, PairMetric)
    assert clip_score(metric, mono, target, RATE)[0] == -100.0
    assert metric.function(mono, target, RATE) == (-100.0, "silent output, counted as -100 dB")
    half = target * np.float32([[1], [0]])
    value, reason = parse_metric("si_sdr:per_channel").function(half, target, RATE)  # type: ignore[attr-defined]
    assert value == 0.0  # the mean of 100 and -100
    assert reason == "channel 1: silent output, counted as -100 dB"


def test_where_the_original_has_no_image_there_is_a_reason() -> None:
    preds, target = pair()
    dual = np.repeat(target[:1], 2, axis=0)
    left = target * np.float32([[1], [0]])
    for name, original, said in (
        ("si_sdr:side", dual, "target has nothing in its side"),
        ("si_sdr:mid", dual * np.float32([[1], [-1]]), "target has nothing in its mid"),
        ("stereo_coherence", left, "target has one channel only, the other is empty"),
        ("stereo_phase", left, "target has one channel only, the other is empty"),
    ):
        metric = parse_metric(name)
        assert isinstance(metric, PairMetric)
        value, reason = metric.function(preds, original, RATE)
        assert math.isnan(value)
        assert reason == said
    # equal channels are an image, too: an output that widens them is off
    assert value_of("stereo_coherence", target, dual) > 0.01
    assert value_of("stereo_phase", left, target) == pytest.approx(math.pi)
