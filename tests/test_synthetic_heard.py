"""What is heard in synthetic music is what its labels say: key, tempo, level, pitch, dynamics."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from scipy.signal import stft

from benchmarks.datasets import Clip, create_dataset
from benchmarks.datasets.synthetic.harmony import ALL_KEYS
from benchmarks.datasets.synthetic.notes import DYNAMICS, RANGES
from benchmarks.datasets.synthetic.oscillators import midi_to_hz

RATE = 44100


def power_spectrum(x: np.ndarray, n: int = 1 << 17) -> tuple[np.ndarray, np.ndarray]:
    return np.fft.rfftfreq(n, 1 / RATE), np.abs(np.fft.rfft(x * np.hanning(len(x)), n)) ** 2


def cents_off(x: np.ndarray, midi: int) -> float:
    """Distance from the claimed pitch: the best fit of a comb of eight harmonics within ±1.2 semitones."""
    n = 1 << 17
    magnitude = np.sqrt(power_spectrum(x, n)[1])
    steps = np.linspace(-120, 120, 121)
    f0 = midi_to_hz(midi) * 2 ** (steps / 1200)
    bins = np.minimum(np.round(np.outer(f0, np.arange(1, 9)) * n / RATE).astype(int), n // 2)
    return float(steps[np.argmax(magnitude[bins].sum(axis=1))])


# Temperley's key profiles (1999).
PROFILES = {
    "major": np.array([5, 2, 3.5, 2, 4.5, 4, 2, 4.5, 2, 3.5, 1.5, 4]),
    "minor": np.array([5, 2, 3.5, 4.5, 2, 4, 2, 4.5, 3.5, 2, 1.5, 4]),
}


def heard_key(audio: np.ndarray) -> str:
    frequencies, _, bins = stft(audio.mean(axis=0), RATE, nperseg=16384)
    magnitude = np.sqrt(np.abs(bins)).sum(axis=1)
    keep = (frequencies > 60) & (frequencies < 1500)
    classes = np.round(12 * np.log2(frequencies[keep] / 440) + 69).astype(int) % 12
    chroma = np.array([magnitude[keep][classes == c].mean() for c in range(12)])
    return max(ALL_KEYS, key=lambda k: float(np.corrcoef(chroma, np.roll(PROFILES[k.mode], k.tonic))[0, 1])).name


def test_a_plain_key_finder_finds_the_key_in_most_tracks() -> None:
    clips = create_dataset("synthetic-keys").clips("test")[::2]
    hits = [heard_key(clip.load()[0]) == clip.labels["key"] for clip in clips]
    assert len(hits) == 12
    assert np.mean(hits) >= 0.5  # chance is 1/24


def test_the_beat_is_regular_at_the_labeled_tempo() -> None:
    clips = [c for c in create_dataset("synthetic").clips() if "drums" in c.labels["tags"]][:6]
    assert len(clips) == 6
    for clip in clips:
        audio, _ = clip.load()
        _, _, bins = stft(audio.mean(axis=0), RATE, nperseg=1024, noverlap=768)
        onsets = np.maximum(np.diff(np.log1p(1000 * np.abs(bins)), axis=1), 0).sum(axis=0)
        onsets -= onsets.mean()
        self_similarity = np.correlate(onsets, onsets, "full")[len(onsets) - 1 :]
        beat = 60 / clip.labels["tempo"] * RATE / 256
        first, last = int(0.8 * beat), int(1.2 * beat)
        found = first + np.argmax(self_similarity[first:last])
        assert found == pytest.approx(beat, rel=0.03), clip.id


def test_clips_are_stereo_music_at_sane_levels() -> None:
    levels = []
    for clip in create_dataset("synthetic", size=10).clips():
        audio, rate = clip.load()
        assert audio.shape == (2, 441000)
        assert rate == 44100
        assert np.abs(audio).max() < 0.98
        assert np.abs(audio[0] - audio[1]).max() > 0.01
        level = 10 * np.log10(np.mean(audio.astype(np.float64) ** 2))
        assert level == pytest.approx(clip.labels["level_dbfs"], abs=2.0)
        levels.append(level)
        seconds = 10 * np.log10((audio.astype(np.float64) ** 2).mean(axis=0).reshape(10, -1).mean(axis=1) + 1e-12)
        assert seconds.min() > level - 25  # no second of silence
        assert abs(float(audio.mean())) < 1e-3
        np.testing.assert_array_equal(audio * 32768, np.round(audio * 32768))
    assert max(levels) - min(levels) > 6


def test_notes_have_the_pitch_they_are_labeled_with() -> None:
    clips = create_dataset("synthetic-notes").clips()
    for clip in clips[::13]:
        audio, _ = clip.load()
        assert audio.shape == (1, round(1.5 * RATE))
        assert abs(cents_off(audio[0, int(0.3 * RATE) : int(0.95 * RATE)], clip.labels["midi"])) < 35, clip.id


def test_louder_notes_are_louder_and_brighter() -> None:
    by_pitch: dict[str, dict[str, Clip]] = defaultdict(dict)
    for clip in create_dataset("synthetic-notes", dynamics_per_pitch=3).clips():
        by_pitch[clip.labels["group"]][clip.labels["dynamic"]] = clip
    brighter = 0
    for instrument in RANGES:
        takes = by_pitch[f"{instrument} {sum(RANGES[instrument][:2]) // 2}"]
        levels, centers = [], []
        for dynamic in DYNAMICS:
            audio = takes[dynamic].load()[0][0].astype(np.float64)
            frequencies, power = power_spectrum(audio)
            levels.append(np.sqrt(np.mean(audio**2)))
            centers.append((frequencies * power).sum() / power.sum())
        assert levels[0] < levels[1] < levels[2], instrument
        brighter += centers[2] > centers[0]
    assert brighter >= 12


@pytest.mark.slow
def test_every_note_has_its_pitch() -> None:
    off = {
        clip.id: cents_off(clip.load()[0][0, int(0.3 * RATE) : int(0.95 * RATE)], clip.labels["midi"])
        for clip in create_dataset("synthetic-notes").clips()
    }
    worst = max(off, key=lambda id: abs(off[id]))
    assert abs(off[worst]) < 35, (worst, off[worst])
