"""Handcrafted features: chroma, MFCC and mel, on tones, on silence and on clips of a few samples."""

from __future__ import annotations

import numpy as np
import pytest

from probes.representations.handcrafted import Handcrafted, chroma_filters, mel_filters

RATE = 22050


def tone(hz: float) -> np.ndarray:
    """A second of it."""
    return (0.2 * np.sin(2 * np.pi * hz * np.arange(RATE) / RATE))[None].astype(np.float32)


def test_chroma_hears_pitch_class() -> None:
    for number in range(12):
        for octave in (3, 5):
            hz = 440.0 * 2 ** ((number + 12 * (octave + 1) - 69) / 12)
            chroma = Handcrafted().extract(tone(hz), RATE)["chroma"].mean(axis=0)
            assert chroma.argmax() == number
            assert chroma.sum() == pytest.approx(1.0, abs=1e-4)


def test_mel_filters_equal_the_slaney_scale() -> None:
    """Unit area (to the bin's width), and centers that are linear below 1 kHz."""
    filters = mel_filters(RATE, 16384, 128)
    width = RATE / 16384
    np.testing.assert_allclose(filters.sum(axis=1) * width, 1.0, atol=0.02)
    centers = filters.argmax(axis=1) * width
    low = centers[centers < 900]
    assert np.ptp(np.diff(low)) <= 2.1 * width
    high = centers[centers > 1500]
    ratios = high[1:] / high[:-1]
    assert np.ptp(ratios) < 0.01


def test_chroma_filters_share_all_power_in_range() -> None:
    filters = chroma_filters(RATE, 8192)
    frequencies = np.fft.rfftfreq(8192, 1 / RATE)
    inside = (frequencies >= 55) & (frequencies <= 5000)
    np.testing.assert_allclose(filters.sum(axis=0), inside.astype(float), atol=1e-9)


def test_handcrafted_on_silence_and_short_clips() -> None:
    for audio in (np.zeros((1, 5000), np.float32), np.zeros((2, 10), np.float32)):
        for values in Handcrafted().extract(audio, RATE).values():
            assert values.shape[0] >= 1
            assert np.isfinite(values).all()
    assert Handcrafted().extract(np.zeros((1, 10), np.float32), RATE)["chroma"][0].tolist() == pytest.approx(
        [1 / 12] * 12
    )


def test_gain_moves_the_first_mfcc_only() -> None:
    """The others are differences of log energies."""
    audio = 0.1 * np.random.default_rng(0).standard_normal((1, RATE)).astype(np.float32)
    quiet, loud = (Handcrafted().extract(g * audio, RATE)["mfcc"].mean(axis=0) for g in (0.1, 1.0))
    assert loud[0] - quiet[0] > 1
    np.testing.assert_allclose(loud[1:], quiet[1:], atol=1e-3)
