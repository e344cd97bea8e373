"""Metrics written out once more, frame by frame in float64, where floors, edges and gates decide; edges by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.embedders.mel_filters import mel_filters_slaney
from benchmarks.metrics.chroma import chroma_filters, chroma_similarity, window_length
from benchmarks.metrics.clip_score import clip_score
from benchmarks.metrics.defined import all_silent, undefined
from benchmarks.metrics.f0_accuracy import raw_pitch_accuracy
from benchmarks.metrics.loudness import loudness, loudness_error
from benchmarks.metrics.lsd import high_distance, log_spectral_distance
from benchmarks.metrics.mel import mel_distance
from benchmarks.metrics.mr_stft import AURALOSS, auraloss_distance, dac_distance
from benchmarks.metrics.si_sdr import (
    SI_SDR,
    joint_si_sdr,
    mean_si_sdr,
    mid_si_sdr,
    si_sdr,
    si_sdr_detailed,
    side_si_sdr,
)
from benchmarks.metrics.snr import signal_to_noise
from benchmarks.metrics.spectra import hann, spectra
from benchmarks.metrics.stereo import _window_length, band_edges, coherence_error, phase_error

RATE = 44100


def stft(audio: np.ndarray, n_fft: int, hop: int, length: int | None = None) -> np.ndarray:
    """(channels, frames, bins) magnitudes in float64, one frame at a time."""
    length = length or n_fft
    window = np.zeros(n_fft)
    left = (n_fft - length) // 2
    window[left : left + length] = [0.5 - 0.5 * math.cos(2 * math.pi * i / length) for i in range(length)]
    padded = np.pad(audio.astype(np.float64), [(0, 0), (n_fft // 2, n_fft // 2)], mode="reflect")
    starts = range(0, audio.shape[1] + 1, hop)
    return np.abs(np.array([[np.fft.rfft(c[s : s + n_fft] * window) for s in starts] for c in padded]))


@pytest.fixture(scope="module")
def quiet_half() -> tuple[np.ndarray, np.ndarray]:
    """Two channels of which the second half lies near and below every floor, and an output that differs."""
    rng = np.random.default_rng(0)
    level = np.where(np.arange(5000) < 2500, 0.3, 3e-7)
    target = level * rng.standard_normal((2, 5000))
    preds = 0.8 * target + 0.3 * level * rng.standard_normal((2, 5000))
    return preds.astype(np.float32), target.astype(np.float32)


def test_a_window_is_periodic_and_centered_among_zeros() -> None:
    assert hann(4).tolist() == [0.0, 0.5, 1.0, 0.5]
    assert hann(2, 5).tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert hann(4, 2).tolist() == hann(4).tolist()
    assert sum(block.shape[1] for block in spectra(np.zeros((1, 700)), hann(64), 16)) == 1 + 700 // 16


def test_mel_distance_with_its_floor(quiet_half: tuple[np.ndarray, np.ndarray]) -> None:
    total = 0.0
    for n_fft, n_mels in {32: 5, 64: 10, 128: 20, 256: 40, 512: 80, 1024: 160, 2048: 320}.items():
        bank = mel_filters_slaney(sample_rate=RATE, n_fft=n_fft, n_mels=n_mels, low=0.0, high=RATE / 2)
        p, t = (np.log10(np.maximum(stft(x, n_fft, n_fft // 4) @ bank, 1e-5)) for x in quiet_half)
        assert (t == -5.0).any()
        total += np.abs(p - t).mean()
    assert mel_distance(*quiet_half, RATE)[0] == pytest.approx(total, rel=1e-4)


def test_stft_distances_with_their_floors(quiet_half: tuple[np.ndarray, np.ndarray]) -> None:
    # MultiResolutionSTFTLoss(fft_sizes=[1024, 2048, 512], hop_sizes=[120, 240, 50], win_lengths=[600, 1200, 240])
    assert [list(sizes) for sizes in zip(*AURALOSS, strict=True)] == [
        [1024, 2048, 512],
        [120, 240, 50],
        [600, 1200, 240],
    ]
    short = tuple(x[:1, :1025] for x in quiet_half)  # so few numbers that one more or less shows
    for pair, precision in ((quiet_half, 1e-4), (short, 1e-5)):
        multi = []
        for n_fft, hop, length in ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)):
            p, t = (np.maximum(stft(x, n_fft, hop, length), 1e-4) for x in pair)
            assert (t == 1e-4).any() == (pair is quiet_half)
            multi.append(np.linalg.norm(t - p) / np.linalg.norm(t) + np.abs(np.log(p) - np.log(t)).mean())
        assert auraloss_distance(*pair, RATE)[0] == pytest.approx(np.mean(multi), rel=precision)
        dac = 0.0
        for n_fft in (2048, 512):
            p, t = (stft(x, n_fft, n_fft // 4) for x in pair)
            logarithms = np.abs(2 * np.log10(np.maximum(p, 1e-5)) - 2 * np.log10(np.maximum(t, 1e-5)))
            dac += logarithms.mean() + np.abs(p - t).mean()
        assert dac_distance(*pair, RATE)[0] == pytest.approx(dac, rel=precision)


def test_log_spectral_distance_with_its_floor(quiet_half: tuple[np.ndarray, np.ndarray]) -> None:
    p, t = (20 * np.log10(np.maximum(stft(x, 2048, 512), 512e-5)) for x in quiet_half)
    assert (t == t.min()).sum() > 10
    assert log_spectral_distance(*quiet_half, RATE)[0] == pytest.approx(
        np.sqrt(np.square(p - t).mean(axis=2)).mean(), rel=1e-4
    )
    first = math.ceil(8000 * 2048 / RATE)
    high = np.sqrt(np.square(p - t)[..., first:].mean(axis=2)).mean()
    assert high_distance(*quiet_half, RATE)[0] == pytest.approx(high, rel=1e-4)
    assert not math.isnan(high_distance(*quiet_half, 16001)[0])
    assert math.isnan(high_distance(*quiet_half, 16000)[0])


@pytest.mark.parametrize(
    ("function", "shortest"),
    [
        (mel_distance, 1025), (auraloss_distance, 1025), (dac_distance, 1025), (log_spectral_distance, 1025),
        (coherence_error, 1025), (phase_error, 1025), (chroma_similarity, 2049),
    ],
)  # fmt: skip
def test_the_shortest_audio_that_is_measured(function: Callable[..., Any], shortest: int) -> None:
    audio = np.random.default_rng(0).uniform(0.1, 0.5, (2, shortest)).astype(np.float32)
    value, reason = function(0.5 * audio, audio, RATE)
    assert math.isfinite(value)
    assert reason is None
    value, reason = function(audio[:, 1:], audio[:, 1:], RATE)
    assert math.isnan(value)
    assert reason == f"{shortest - 1} samples, at least {shortest} needed"


def test_what_has_no_number() -> None:
    audio = np.tile(np.array([0.5, -0.5], dtype=np.float32), (2, 5))
    broken = np.where(np.arange(10) == 3, np.inf, audio).astype(np.float32)
    assert undefined(audio, audio, samples=10, stereo=True) is None
    assert undefined(broken, audio) == "preds has samples that are not finite"
    assert undefined(audio, broken) == "target has samples that are not finite"
    assert undefined(audio, 0 * audio) == "target is silent"
    assert undefined(audio[:, :0], audio[:, :0]) == "0 samples, at least 1 needed"
    assert undefined(0 * audio, audio) is None
    assert undefined(audio[:1], audio[:1], stereo=True) == "1 channel, a stereo clip needed"
    three = np.concatenate([audio, audio[:1]])
    assert undefined(three, three, stereo=True) == "3 channels, a stereo clip needed"
    for preds, target in ((audio[:1], audio), (audio[0], audio[0])):
        with pytest.raises(ValueError, match="must be"):
            undefined(preds, target)
    assert [all_silent(x) for x in (audio, 0 * audio, audio * [[1.0], [0.0]])] == [False, True, False]


# ---------------------------------------------------------------- loudness


def plain_loudness(blocks: np.ndarray) -> float:
    heard = blocks[-0.691 + 10 * np.log10(blocks) > -70]
    relative = -0.691 + 10 * math.log10(heard.mean()) - 10
    return float(-0.691 + 10 * np.log10(heard[-0.691 + 10 * np.log10(heard) > relative].mean()))


def test_loudness_is_gated_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the weighting a constant signal's blocks are its squares: 400 ms every 100 ms, both gates in play."""
    monkeypatch.setattr("benchmarks.metrics.loudness.k_weighting", lambda rate: np.array([[1.0, 0, 0, 1, 0, 0]]))
    rate = 4000
    levels = np.repeat([0.5, 0.1, 0.2, 0.001, 0.3, 1e-4, 1e-4], [2000, 1000, 1500, 1700, 900, 1800, 1900])
    audio = np.stack([levels, 0.5 * levels])
    starts = range(0, audio.shape[1] - 1600 + 1, 400)
    blocks = np.array([np.square(audio[:, s : s + 1600]).sum() / 1600 for s in starts])
    assert loudness(audio, rate) == pytest.approx(plain_loudness(blocks), abs=1e-9)
    just = np.sqrt(10 ** ((-70 + 0.691) / 10))
    assert loudness(np.full((1, 1600), just * 1.001), rate) == pytest.approx(-70, abs=0.01)
    assert loudness(np.full((1, 1600), just * 0.999), rate) == -math.inf


def test_the_edges_of_loudness() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 2000))
    assert math.isfinite(loudness(noise[:, :1600], 4000))
    with pytest.raises(ValueError, match=r"0\.400 s, at least 0\.4 s"):
        loudness(noise[:, :1599], 4000)
    with pytest.raises(ValueError, match="3999 Hz"):
        loudness(noise, 3999)
    assert loudness_error(2 * noise, noise, 4000) == (pytest.approx(20 * math.log10(2)), None)
    assert loudness_error(noise / 2, noise, 4000) == (pytest.approx(20 * math.log10(2)), None)


# ---------------------------------------------------------------- SI-SDR and SNR


def test_si_sdr_by_hand() -> None:
    """Target (3, -3, 1, -1) and an error orthogonal to it: 20 to 4."""
    target = np.array([3.0, -3.0, 1.0, -1.0])
    error = np.array([0.0, 0.0, 1.0, 1.0])
    assert si_sdr(target + error, target, zero_mean=False) == pytest.approx(10 * math.log10(20 / 2))
    assert si_sdr(2 * target + error, target, zero_mean=False) == pytest.approx(10 * math.log10(80 / 2))
    # With the mean removed the error is (-.5, -.5, .5, .5).
    assert si_sdr(target + error, target) == pytest.approx(10 * math.log10(20 / 1))
    assert si_sdr(error, target, zero_mean=False) == -math.inf
    assert si_sdr([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == math.inf
    assert si_sdr_detailed([2.0, 2.0], [1.0, 2.0]).reason == "preds is silent"
    assert si_sdr_detailed([1.0, 2.0], [2.0, 2.0]).reason == "target is silent"
    assert math.isfinite(si_sdr([2.0, 2.5], [2.0, 1.0], zero_mean=False))
    both = si_sdr_detailed(np.array([[1.0, 2.0], [3.0, 3.0]]), np.zeros((2, 2)), channels="per_channel")
    assert both.reason == "channel 0: target is silent; channel 1: target is silent"
    pair = np.array([[1.0, -1.0, 2.0], [0.5, 0.5, -1.0]])
    assert si_sdr(pair + 0.1 * pair[::-1], pair, channels="joint") == pytest.approx(
        si_sdr((pair + 0.1 * pair[::-1]).ravel(), pair.ravel())
    )
    mono = si_sdr_detailed([np.nan, 1.0, np.inf], [1.0, 2.0, 3.0])
    assert mono.reason == "preds has 2 non-finite samples, the first at 0"


def test_far_origins_and_close_estimates_lose_no_digits() -> None:
    rng = np.random.default_rng(0)
    target, error = rng.standard_normal((2, 400))
    for offset in (0.0, 3.0, 1e5):
        for size in (1e-5, 0.9e-3, 1.1e-3, 1.0):
            preds = target + size * error
            t, p = target - target.mean(), preds - preds.mean()
            scaled = t * (t @ p) / (t @ t)
            wanted = 10 * math.log10((scaled @ scaled) / np.square(p - scaled).sum())
            found = si_sdr(preds + offset, target + offset)
            assert found == pytest.approx(wanted, abs=1e-3 if offset > 10 else 1e-7)


def test_channels_of_a_stereo_clip() -> None:
    rng = np.random.default_rng(1)
    target = rng.standard_normal((2, 3000)).astype(np.float32) * np.float32(0.1)
    preds = target + np.float32(0.02) * rng.standard_normal((2, 3000)).astype(np.float32)
    left, right = (si_sdr(preds[i], target[i]) for i in range(2))
    assert mean_si_sdr(preds, target, RATE)[0] == pytest.approx((left + right) / 2)
    assert joint_si_sdr(preds, target, RATE)[0] == pytest.approx(si_sdr(preds.ravel(), target.ravel()))
    assert mid_si_sdr(preds, target, RATE)[0] == pytest.approx(
        si_sdr(preds[0] + preds[1], target[0] + target[1]), abs=1e-4
    )
    assert side_si_sdr(preds, target, RATE)[0] == pytest.approx(
        si_sdr(preds[0] - preds[1], target[0] - target[1]), abs=1e-4
    )
    one_gone = preds * np.array([[1.0], [0.0]], dtype=np.float32)
    assert mean_si_sdr(one_gone, target, RATE) == (
        pytest.approx((left - 100) / 2), "channel 1: silent output, counted as -100 dB"
    )  # fmt: skip
    assert mean_si_sdr(target, target, RATE) == (100.0, "")
    folded = np.stack([target.mean(axis=0)] * 2)
    assert side_si_sdr(folded, target, RATE)[0] == -100.0
    assert side_si_sdr(preds, folded, RATE)[1] == "target has nothing in its side"
    assert mid_si_sdr(preds, target * np.array([[1.0], [0.0]]) @ np.eye(3000), RATE)[1] in (None, "")
    for function in (joint_si_sdr, mean_si_sdr):
        assert function(target[:, :1], target[:, :1], RATE)[1] == "1 samples, at least 2 needed"
        assert function(target[:, :2], target[:, :2], RATE)[1] != "2 samples, at least 2 needed"
    assert mid_si_sdr(target[:, :2], target[:, :2], RATE) == (100.0, "")
    assert mid_si_sdr(target[:, :1], target[:, :1], RATE)[1] == "1 samples, at least 2 needed"
    assert mid_si_sdr(target[:1], target[:1], RATE)[1] == "1 channel, a stereo clip needed"
    assert clip_score(SI_SDR, np.float32(0) * target, target, RATE) == (-100.0, "silent output, counted as -100 dB")


def test_snr_by_hand() -> None:
    target = np.array([[3.0, 4.0], [0.0, 5.0]])
    assert signal_to_noise(target + np.diag([1.0, 2.0]), target, RATE) == (pytest.approx(10 * math.log10(50 / 5)), None)
    assert signal_to_noise(target, target, RATE) == (math.inf, None)


# ---------------------------------------------------------------- stereo and pitch


def test_bands_are_two_erb_wide() -> None:
    """ERB number 21.4 log10(1 + 0.00437 f), Glasberg and Moore 1990."""
    edges = band_edges(RATE, 2048) * RATE / 2048
    numbers = 21.4 * np.log10(1 + 0.00437 * edges)
    assert edges[0] == 0.0
    assert band_edges(RATE, 2048)[-1] == 1025
    assert np.diff(numbers[8:-1]) == pytest.approx(2.0, abs=0.15)
    windows = {8000: 512, 22050: 1024, 44100: 2048, 48000: 2048, 96000: 4096, 1000: 128}
    assert {rate: _window_length(rate) for rate in windows} == windows
    windows = {8000: 1024, 22050: 2048, 44100: 4096, 96000: 8192, 1000: 256}
    assert {rate: window_length(rate) for rate in windows} == windows


def plain_cues(audio: np.ndarray, bands: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cross-spectrum and both powers, (blocks, bands), of windows of 2048 samples: four frames a block."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    padded = np.pad(audio.astype(np.float64), [(0, 0), (1024, 1024)], mode="reflect")
    left, right = (
        np.array([np.fft.rfft(c[s : s + 2048] * window) for s in range(0, audio.shape[1] + 1, 1024)]) for c in padded
    )

    def summed(x: np.ndarray) -> np.ndarray:
        return np.array([[x[i : i + 4, a:b].sum() for a, b in bands] for i in range(0, len(x), 4)])

    return summed(left * right.conj()), summed(np.abs(left) ** 2).real, summed(np.abs(right) ** 2).real


def test_stereo_cues_block_by_block_and_band_by_band() -> None:
    rng = np.random.default_rng(3)
    common, own, other = rng.standard_normal((3, 12_000)) * np.linspace(0.02, 0.2, 12_000)
    target = np.stack([common + 0.3 * own, common + np.roll(common, 3)]).astype(np.float32)
    preds = np.stack([0.7 * common + own, common + 0.6 * other]).astype(np.float32)
    edges = band_edges(RATE, 2048)
    bands = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    (cross_t, *powers_t), (cross_p, *powers_p) = (plain_cues(x, bands) for x in (target, preds))
    weights = np.sqrt(powers_t[0] * powers_t[1])
    errors = np.abs(np.abs(cross_p) / np.sqrt(powers_p[0] * powers_p[1]) - np.abs(cross_t) / weights)
    wanted = np.mean((errors * weights).sum(axis=0) / weights.sum(axis=0))
    assert coherence_error(preds, target, RATE)[0] == pytest.approx(wanted, rel=1e-4)
    low = [i for i, (_, top) in enumerate(bands) if top * RATE / 2048 <= 1500]
    turns = np.abs(np.angle(cross_p * cross_t.conj()))[:, low]
    wanted = np.mean((turns * np.abs(cross_t)[:, low]).sum(axis=0) / np.abs(cross_t)[:, low].sum(axis=0))
    assert phase_error(preds, target, RATE)[0] == pytest.approx(wanted, rel=1e-4)


def test_polarity_and_empty_channels() -> None:
    rng = np.random.default_rng(2)
    common, own = rng.standard_normal((2, 40000)) * 0.1
    alike = np.stack([common, common]).astype(np.float32)
    assert coherence_error(np.stack([common, own]).astype(np.float32), alike, RATE)[0] > 0.8
    assert coherence_error(-alike * [[1], [-1]], alike, RATE)[0] == pytest.approx(0.0, abs=1e-6)
    assert phase_error(alike * [[1], [-1]], alike, RATE)[0] == pytest.approx(math.pi)
    empty = alike * np.array([[1.0], [0.0]], dtype=np.float32)
    assert phase_error(empty, alike, RATE)[0] == pytest.approx(math.pi)
    for function in (phase_error, coherence_error):
        assert function(alike, empty, RATE)[1] == "target has one channel only, the other is empty"
        assert function(alike[:1], alike[:1], RATE)[1] == "1 channel, a stereo clip needed"
    barely = alike * np.array([[1.0], [2e-3]], dtype=np.float32)
    assert phase_error(alike, barely, RATE)[0] == pytest.approx(0.0, abs=1e-6)
    hardly = alike * np.array([[1.0], [0.5e-3]], dtype=np.float32)
    assert math.isnan(phase_error(alike, hardly, RATE)[0])


def test_a_pitch_class_falls_into_its_row() -> None:
    filters = chroma_filters(RATE, 4096)
    assert filters.shape == (12, 2049)
    for midi in (57, 60, 64, 69, 72, 81):
        hertz = 440 * 2 ** ((midi - 69) / 12)
        assert filters[:, round(hertz * 4096 / RATE)].argmax() == midi % 12


@pytest.mark.parametrize(("rate", "n_fft"), [(44100, 512), (8000, 256)])
def test_chroma_filters_bin_by_bin(rate: int, n_fft: int) -> None:
    """librosa.filters.chroma: bin 0 lies an octave and a half below bin 1, the last one is a semitone wide."""
    filters = chroma_filters(rate, n_fft)
    classes = [12 * math.log2(rate * k / n_fft / 27.5) for k in range(1, n_fft)]  # semitones above A0
    classes = [classes[0] - 18, *classes]
    for k in (0, 1, 2, 7, 40, n_fft // 2):
        width = max(1.0, classes[k + 1] - classes[k])
        column = []
        for name in range(12):  # from A
            apart = (classes[k] - name + 6) % 12 - 6
            column.append(math.exp(-0.5 * (2 * apart / width) ** 2))
        length = math.sqrt(sum(x * x for x in column))
        weight = math.exp(-0.5 * ((classes[k] / 12 - 5) / 2) ** 2) / length
        assert filters[:, k] == pytest.approx([weight * column[(name - 9) % 12] for name in range(12)])


class Track:
    """A pitch track as CREPE's."""

    def __init__(self, hertz: list[float], confidence: list[float]) -> None:
        self.hertz, self.confidence = np.array(hertz), np.array(confidence)


def test_pitch_accuracy_by_hand() -> None:
    """Six frames are sure; of these the output keeps three within 50 cents (1.029 in frequency), an octave is wrong."""
    original = Track([200.0] * 8, [0.9, 0.5, 0.5, 0.6, 0.8, 1.0, 0.49, 0.1])
    output = Track([200.0, 205.5, 194.5, 206.5, 400.0, 100.0, 200.0, 200.0], [0.0] * 8)
    assert raw_pitch_accuracy(output, original) == (pytest.approx(3 / 6), None)
    five = Track([200.0] * 8, [0.5] * 5 + [0.4] * 3)
    assert raw_pitch_accuracy(five, five) == (1.0, None)
    four = Track([200.0] * 8, [0.5] * 4 + [0.4] * 4)
    value, reason = raw_pitch_accuracy(four, four)
    assert math.isnan(value)
    assert reason == "no pitch that CREPE is sure of (4 frames)"
