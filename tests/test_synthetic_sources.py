"""Sources of synthetic sound: tones, strings, drums, rooms, and the keys and chords that they play."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.datasets import create_dataset
from benchmarks.datasets.synthetic.clips import PieceLoader
from benchmarks.datasets.synthetic.composition import compose
from benchmarks.datasets.synthetic.draw import Draw
from benchmarks.datasets.synthetic.drums import Kit, drum_sound
from benchmarks.datasets.synthetic.harmony import ALL_KEYS, PROGRESSIONS, SCALES, parse_key, voicing
from benchmarks.datasets.synthetic.instruments import INSTRUMENTS, TAG_OF_INSTRUMENT
from benchmarks.datasets.synthetic.mixing import Room, pan, reverberate, room_response
from benchmarks.datasets.synthetic.oscillators import harmonic_tone, plucked_string, resonant_noise, struck_modes
from benchmarks.datasets.synthetic.styles import STYLES, draw_artist

RATE = 44100


def power_spectrum(x: np.ndarray, n: int = 1 << 17) -> tuple[np.ndarray, np.ndarray]:
    return np.fft.rfftfreq(n, 1 / RATE), np.abs(np.fft.rfft(x * np.hanning(len(x)), n)) ** 2


# --- sound sources -------------------------------------------------------------------------------------


def test_harmonic_tones_equal_a_sum_of_sinusoids() -> None:
    n, f0 = 8000, 311.1
    spectra = np.array([[1.0, 0.5, 0.25], [0.2, 0.6, 0.1]])
    phases = np.array([0.3, 1.0, 2.0])
    out = harmonic_tone(spectra, np.array([0.0, n / RATE]), np.full(n, f0), phases, RATE)
    t = np.arange(1, n + 1) / RATE
    fade = np.arange(n) / n
    expected = sum(
        ((1 - fade) * spectra[0, h] + fade * spectra[1, h]) * np.cos(2 * np.pi * f0 * (h + 1) * t + phases[h])
        for h in range(3)
    )
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_partials_above_nyquist_are_left_out() -> None:
    n = RATE
    out = harmonic_tone(np.ones((1, 60)), np.array([0.0]), np.full(n, 3000.0), np.zeros(60), RATE)
    frequencies, power = power_spectrum(out)
    harmonic = np.abs(frequencies / 3000.0 - np.round(frequencies / 3000.0)) < 0.01
    assert power[~harmonic].sum() < 1e-4 * power.sum()


@pytest.mark.parametrize("frequency", [55.0, 196.3, 440.0, 987.8])
@pytest.mark.parametrize("damping", [0.15, 0.5])
def test_plucked_strings_are_in_tune_and_decay(frequency: float, damping: float) -> None:
    excitation = Draw("pluck").noise(int(RATE / frequency) + 2)
    out = plucked_string(frequency, excitation - excitation.mean(), 0.4, damping, RATE, RATE)
    frequencies, power = power_spectrum(out[: RATE // 2], 1 << 18)
    near = np.abs(frequencies / frequency - 1) < 0.03
    peak = frequencies[near][np.argmax(power[near])]
    assert abs(1200 * np.log2(peak / frequency)) < 6
    quarters = (out.reshape(4, -1) ** 2).sum(axis=1)
    assert (np.diff(quarters) < 0).all()


def test_a_plucked_string_decays_at_the_rate_asked_for() -> None:
    n = RATE
    excitation = np.sin(2 * np.pi * np.arange(300) / 220.5)  # the fundamental alone
    out = plucked_string(200.0, excitation, 0.3, 0.5, n, RATE)
    level = np.sqrt((out[: n // 4410 * 4410].reshape(-1, 4410) ** 2).mean(axis=1))
    tau = -0.1 / np.log(level[6] / level[3]) * 3
    assert tau == pytest.approx(0.3, rel=0.05)
    with pytest.raises(ValueError, match="100 samples, one period has 220"):
        plucked_string(200.0, excitation[:100], 0.3, 0.5, n, RATE)


def test_struck_modes_equal_decaying_sinusoids() -> None:
    n, f, a, tau = 5000, np.array([500.0, 1234.5]), np.array([1.0, 0.4]), np.array([0.05, 0.02])
    t = np.arange(n)[:, None] / RATE
    expected = (a * np.exp(-t / tau) * np.sin(2 * np.pi * f * t)).sum(axis=1)
    np.testing.assert_allclose(struck_modes(f, a, tau, n, RATE), expected, atol=2e-4)
    assert not struck_modes(np.array([21000.0]), np.ones(1), np.ones(1), 100, RATE).any()


def test_resonant_noise_has_unit_variance_at_its_pitch() -> None:
    out = resonant_noise(Draw("r").noise(10 * RATE), 1000.0, 30.0, RATE)[RATE:]
    assert out.var() == pytest.approx(1.0, rel=0.15)
    frequencies, power = power_spectrum(out, 1 << 19)
    assert power[np.abs(frequencies - 1000) < 50].sum() > 0.7 * power.sum()


@pytest.mark.parametrize("name", sorted(INSTRUMENTS))
def test_instruments_start_sound_and_stop(name: str) -> None:
    out = INSTRUMENTS[name].note(57, 0.6, 0.8, Draw(name), RATE)
    assert np.isfinite(out).all()
    assert 0.1 < np.abs(out).max() < 1.6
    assert np.abs(out[-4:]).max() < 0.01  # no click at the end
    assert 0.5 < len(out) / RATE < 5.0
    quiet = INSTRUMENTS[name].note(57, 0.6, 0.3, Draw(name), RATE)
    assert (quiet**2).sum() < 0.6 * (out**2).sum()
    assert name in TAG_OF_INSTRUMENT


@pytest.mark.parametrize("name", ["kick", "snare", "clap", "rim", "hat", "open hat", "crash", "ride", "tom", "shaker"])
def test_drums_are_short_and_where_they_belong_in_the_spectrum(name: str) -> None:
    out = drum_sound(name, Kit(), Draw(name), RATE)
    assert np.abs(out).max() == pytest.approx(1.0)
    frequencies, power = power_spectrum(out)
    center = (frequencies * power).sum() / power.sum()
    low = {"kick": (30, 250), "tom": (70, 400)}
    high = {"hat": (6000, 16000), "open hat": (6000, 16000), "ride": (4000, 16000), "crash": (3000, 16000)}
    first, last = {**low, **high}.get(name, (150, 11000))
    assert first < center < last


def test_unknown_drums_are_refused() -> None:
    with pytest.raises(ValueError, match="cowbell"):
        drum_sound("cowbell", Kit(), Draw(0), RATE)


# --- harmony and composition ---------------------------------------------------------------------------


def test_keys_are_named_as_in_the_beatport_label_set() -> None:
    names = [key.name for key in ALL_KEYS]
    assert len(set(names)) == 24
    assert {"A# minor", "C major", "F# major"} <= set(names)
    assert all(parse_key(key.name) == key for key in ALL_KEYS)
    with pytest.raises(ValueError, match="Bb minor"):
        parse_key("Bb minor")
    assert parse_key("A minor").pitch(0) == 69
    assert parse_key("A minor").chord(4) == (4, 8, 11)  # E major: the leading note
    assert parse_key("C major").chord(1, seventh=True) == (2, 5, 9, 0)


@given(st.sampled_from(ALL_KEYS), st.integers(0, 6), st.booleans(), st.integers(50, 72))
@settings(deadline=None, max_examples=60)
def test_voicings_keep_the_chord_and_stay_near(key: object, degree: int, seventh: bool, center: int) -> None:
    chord = key.chord(degree, seventh)  # type: ignore[attr-defined]
    voices = voicing(chord, center)
    assert {p % 12 for p in voices} == set(chord)
    assert list(voices) == sorted(set(voices))
    assert abs(np.mean(voices) - center) <= 9


@given(st.sampled_from(sorted(STYLES)), st.integers(0, 500), st.sampled_from(ALL_KEYS), st.sampled_from([2.0, 8.0]))
@settings(deadline=None, max_examples=40)
def test_pieces_stay_in_their_key_their_range_and_their_time(style: str, seed: int, key: object, length: float) -> None:
    artist = draw_artist(STYLES[style], f"{style}-{seed}", Draw("a", seed))
    piece = compose(artist, key, length, Draw("p", seed))  # type: ignore[arg-type]
    scale = {(key.tonic + s) % 12 for s in SCALES[key.mode]}  # type: ignore[attr-defined]
    chords = [key.chord(d, artist.style.sevenths) for p in PROGRESSIONS[key.mode] for d in p]  # type: ignore[attr-defined]
    allowed = scale.union(*map(set, chords))
    assert {n.midi % 12 for n in piece.notes} <= allowed
    assert {n.role for n in piece.notes} <= set(piece.instruments)
    assert all(0 <= n.start < length and n.seconds > 0 and 0 < n.velocity <= 1 for n in piece.notes)
    assert all(28 <= n.midi <= 91 for n in piece.notes)
    assert all(0 <= h.start < length for h in piece.hits)
    assert artist.style.tempo[0] - 0.1 <= piece.tempo <= artist.style.tempo[1] + 0.1
    lowest = min((n for n in piece.notes), key=lambda n: n.start)
    assert lowest.start < 1.0  # music from the start


def test_most_notes_of_a_key_belong_to_its_tonic_triad() -> None:
    for clip in create_dataset("synthetic-keys", size=72).clips()[:24]:
        assert isinstance(clip.loader, PieceLoader)
        piece = clip.loader.piece()
        weight: Counter[int] = Counter()
        for note in piece.notes:
            weight[note.midi % 12] += note.seconds  # type: ignore[assignment]
        triad = sum(weight[p] for p in piece.key.chord(0))
        assert triad > 0.38 * sum(weight.values())  # three of twelve would have 0.25 by chance


# --- rooms -----------------------------------------------------------------------------------------------


def test_a_room_decays_by_sixty_decibels_in_its_t60() -> None:
    response = room_response(Room(1.0, 0.01, 1.0), Draw("room"), RATE)
    energy = np.cumsum((response**2)[:, ::-1], axis=1)[:, ::-1]
    decay = 10 * np.log10(energy / energy[:, :1])
    early, late = int(0.1 * RATE), int(0.6 * RATE)
    slope = (decay[:, late] - decay[:, early]) / 0.5
    np.testing.assert_allclose(slope, -60.0, atol=12.0)
    np.testing.assert_allclose((response**2).sum(axis=1), 1.0)
    assert abs(np.corrcoef(response)[0, 1]) < 0.1


def test_reverberation_is_linear_and_causal() -> None:
    room = Room(0.3, 0.02, 1.0)
    impulse = np.zeros((2, 20000))
    impulse[:, 100] = 1.0
    wet = reverberate(impulse, room, Draw("r"), RATE)
    response = room_response(room, Draw("r"), RATE)
    np.testing.assert_allclose(wet[:, 100 : 100 + response.shape[1]], response[:, : 20000 - 100], atol=1e-12)
    assert np.abs(wet[:, :100]).max() < 1e-12


@pytest.mark.parametrize("position", [-0.6, 0.0, 0.6])
def test_panning_keeps_power_and_favors_its_side(position: float) -> None:
    mono = Draw("pan").noise(20000)
    left, right = (pan(mono, position, RATE) ** 2).sum(axis=1)
    assert left + right == pytest.approx((mono**2).sum(), rel=0.01)
    assert np.sign(round(right / left - 1, 6)) == np.sign(position)
