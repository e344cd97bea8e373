"""Chroma similarity: librosa's chroma, transposition, and what does not count."""

from __future__ import annotations

import numpy as np
import pytest
from metric_pairs import pair

from benchmarks.metrics.chroma import chroma_similarity

RATE = 44100


def tone(midi: float, overtones: int = 3) -> np.ndarray:
    time = np.arange(RATE) / RATE
    hz = 440 * 2 ** ((midi - 69) / 12)
    return sum(np.sin(2 * np.pi * hz * k * time) / k for k in range(1, overtones + 1)).astype(np.float32)[None] / 4


# librosa.feature.chroma_stft(y=audio.mean(0), sr=rate, n_fft=n, hop_length=n // 4, tuning=0, norm=None,
# pad_mode="reflect") with n = 4096 and 1024; the mean cosine of frames within 60 dB of target's loudest
@pytest.mark.parametrize(("rate", "wanted"), [(44100, 0.99951607), (8000, 0.9731585)])
def test_it_is_the_cosine_of_librosas_chroma(rate: int, wanted: float) -> None:
    assert chroma_similarity(*pair(rate), rate)[0] == pytest.approx(wanted, abs=1e-6)


def test_notes_count_and_loudness_polarity_and_octaves_hardly_do() -> None:
    a = tone(69)
    assert chroma_similarity(-0.1 * a, a, RATE)[0] == pytest.approx(1.0, abs=1e-6)
    assert chroma_similarity(tone(81), a, RATE)[0] > 0.95
    assert chroma_similarity(tone(75), a, RATE)[0] < 0.2
    # of two notes one after the other, one is wrong
    melody, other = np.hstack([a, tone(62)]), np.hstack([a, tone(68)])
    assert 0.4 < chroma_similarity(other, melody, RATE)[0] < 0.7


def test_frames_in_which_the_output_falls_silent_have_none_of_the_pitches() -> None:
    a = np.hstack([tone(69), tone(69)])
    half = a * (np.arange(2 * RATE) < RATE)
    assert chroma_similarity(half, a, RATE)[0] == pytest.approx(0.5, abs=0.05)
    assert chroma_similarity(a, half, RATE)[0] == pytest.approx(1.0, abs=0.05)  # what was silent asks for no pitch


@pytest.mark.parametrize(("level", "counts"), [(-55, True), (-65, False)])
def test_frames_sixty_decibels_below_the_loudest_do_not_count(level: float, counts: bool) -> None:
    soft = np.float32(10 ** (level / 20))
    target, preds = (np.hstack([tone(69), soft * tone(midi)]) for midi in (62, 68))
    assert (chroma_similarity(preds, target, RATE)[0] < 0.7) == counts
    assert counts or chroma_similarity(preds, target, RATE)[0] > 0.9
