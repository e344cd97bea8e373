"""Synthetic music is what its labels say, and the same everywhere and every time."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import stft

from benchmarks.datasets import Clip, create_dataset
from benchmarks.datasets.synthetic import VERSION
from benchmarks.datasets.synthetic.clips import TAGS, PieceLoader
from benchmarks.datasets.synthetic.composition import compose
from benchmarks.datasets.synthetic.draw import Draw
from benchmarks.datasets.synthetic.drums import Kit, drum_sound
from benchmarks.datasets.synthetic.harmony import ALL_KEYS, PROGRESSIONS, SCALES, parse_key, voicing
from benchmarks.datasets.synthetic.instruments import INSTRUMENTS, ORCHESTRA, TAG_OF_INSTRUMENT
from benchmarks.datasets.synthetic.mixing import Room, pan, reverberate, room_response
from benchmarks.datasets.synthetic.notes import DYNAMICS, RANGES
from benchmarks.datasets.synthetic.oscillators import (
    harmonic_tone,
    midi_to_hz,
    plucked_string,
    resonant_noise,
    struck_modes,
)
from benchmarks.datasets.synthetic.styles import STYLES, draw_artist

RATE = 44100
GOLDEN = Path(__file__).parent / "golden" / "synthetic.npz"


def sha(clip: Clip) -> str:
    return hashlib.sha256(clip.load()[0].tobytes()).hexdigest()


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


# --- the same everywhere and every time ---------------------------------------------------------------


def test_samples_are_the_golden_ones() -> None:
    sys.path.insert(0, str(GOLDEN.parent))
    try:
        from make_synthetic import extracts
    finally:
        sys.path.remove(str(GOLDEN.parent))
    found = extracts()
    with np.load(GOLDEN) as golden:
        assert set(golden.files) == set(found)
        for name in golden.files:
            if name.endswith("/rms"):
                np.testing.assert_allclose(found[name], golden[name], rtol=1e-4, atol=1e-6, err_msg=name)
            else:  # another machine's sine may differ in its last bit, hence one step of 16 bits
                difference = np.abs(found[name].astype(int) - golden[name].astype(int))
                assert difference.max() <= 1, f"{name} changed: raise synthesis.VERSION and renew the golden file"


def test_samples_are_the_same_in_another_process_whatever_its_random_state() -> None:
    code = (
        "import numpy as np, hashlib, random; np.random.seed(123); random.seed(5)\n"
        "from benchmarks.datasets import create_dataset\n"
        "for name in ('synthetic', 'synthetic-notes'):\n"
        "    clip = create_dataset(name).clips()[5]\n"
        "    print(hashlib.sha256(clip.load()[0].tobytes()).hexdigest(), np.random.get_state()[2])"
    )
    env = {"PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "2", "PATH": "/usr/bin:/bin"}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in out.splitlines()]
    np.random.seed(9)  # noqa: NPY002 - the global state is what must not matter
    assert [line[0] for line in lines] == [
        sha(create_dataset(name).clips()[5]) for name in ("synthetic", "synthetic-notes")
    ]
    assert {line[1] for line in lines} == {"624"}  # nothing was drawn from the global generator


def test_order_of_rendering_does_not_matter() -> None:
    clips = create_dataset("synthetic", size=4, seconds=1.0).clips()
    forward = [sha(c) for c in clips]
    assert [sha(c) for c in reversed(clips)] == forward[::-1]
    assert len(set(forward)) == 4


def test_digests_change_with_everything_that_changes_the_samples() -> None:
    options = [{}, {"seconds": 9.0}, {"seed": 1}, {"sample_rate": 48000}]
    digests = [c.digest for o in options for c in create_dataset("synthetic", size=1, **o).clips()]
    digests += [create_dataset("synthetic-tags").clips()[0].digest, create_dataset("synthetic-notes").clips()[0].digest]
    assert len(set(digests)) == len(digests)
    assert (
        create_dataset("synthetic", size=2).clips()[1].digest == create_dataset("synthetic", size=9).clips()[1].digest
    )


def test_a_new_version_gives_new_random_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.datasets.synthetic import draw

    before = Draw("x", 1).unit()
    monkeypatch.setattr(draw, "VERSION", VERSION + 1)
    assert draw.Draw("x", 1).unit() != before


@given(st.lists(st.one_of(st.integers(0, 2**40), st.text(max_size=8)), min_size=1, max_size=3), st.integers(1, 50))
@settings(deadline=None, max_examples=50)
def test_draws_stay_in_range_and_repeat(key: list[int | str], count: int) -> None:
    one, two = Draw(*key), Draw(*key)
    assert one.integer(count) == two.integer(count) in range(count)
    assert sorted(one.shuffled(range(count))) == list(range(count))
    two.shuffled(range(count))
    assert 2.0 <= one.uniform(2.0, 3.0) == two.uniform(2.0, 3.0) < 3.0
    assert one.choice("abc", [0.0, 1.0, 0.0]) == "b"


def test_noise_is_white_and_of_unit_variance() -> None:
    noise = Draw("white").noise(200_000)
    assert abs(noise.mean()) < 0.01
    assert noise.var() == pytest.approx(1.0, abs=0.01)
    assert abs(np.mean(noise[1:] * noise[:-1])) < 0.01


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


# --- what is heard is what is labeled -----------------------------------------------------------------

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
    clips = create_dataset("synthetic-keys").clips("test")
    hits = [heard_key(clip.load()[0]) == clip.labels["key"] for clip in clips]
    assert len(hits) == 24
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


# --- the four sets -----------------------------------------------------------------------------------------


def test_tagged_clips_are_split_by_artist_and_every_tag_is_in_every_split() -> None:
    dataset = create_dataset("synthetic-tags")
    splits = {name: dataset.clips(name) for name in ("train", "valid", "test")}
    assert {name: len(clips) for name, clips in splits.items()} == {"train": 180, "valid": 60, "test": 60}
    artists = [{c.labels["artist"] for c in clips} for clips in splits.values()]
    assert not artists[0] & artists[1]
    assert not artists[0] & artists[2]
    assert not artists[1] & artists[2]
    for clips in splits.values():
        counts = Counter(tag for clip in clips for tag in clip.labels["tags"])
        assert set(counts) == set(TAGS)
        assert min(counts.values()) >= 2
        assert max(counts.values()) < len(clips)
        assert {c.labels["style"] for c in clips} == set(STYLES)


def test_tags_agree_with_what_is_played() -> None:
    for clip in create_dataset("synthetic-tags").clips()[::7]:
        tags, labels = set(clip.labels["tags"]), clip.labels
        assert ("drums" in tags) != ("no drums" in tags)
        assert ("drums" in labels["instruments"]) == ("drums" in tags)
        assert not {"slow", "fast"} <= tags
        assert not {"loud", "quiet"} <= tags
        for instrument in labels["parts"].values():
            tag = TAG_OF_INSTRUMENT[instrument]
            assert tag in tags or tag not in TAGS
        assert labels["key"] in labels["caption"]
        for instrument in set(labels["parts"].values()) & {"piano", "violin", "flute", "organ"}:
            assert instrument in labels["caption"]


def test_keyed_tracks_are_stratified_and_keys_say_nothing_about_styles() -> None:
    dataset = create_dataset("synthetic-keys")
    for split, each in {"train": 8, "valid": 1, "test": 1}.items():
        counts = Counter(clip.labels["key"] for clip in dataset.clips(split))
        assert set(counts) == {key.name for key in ALL_KEYS}
        assert set(counts.values()) == {each}
    pairs = Counter((c.labels["key"], c.labels["style"]) for c in dataset.clips())
    assert max(pairs.values()) == 1
    assert len({c.labels["artist"] for c in dataset.clips()}) == 240


@pytest.mark.parametrize(("dynamics", "size"), [(1, 619), (3, 1857)])
def test_notes_cover_the_ranges_in_five_even_folds(dynamics: int, size: int) -> None:
    dataset = create_dataset("synthetic-notes", dynamics_per_pitch=dynamics)
    clips = dataset.clips()
    assert len(clips) == size == len({c.id for c in clips}) == len({c.digest for c in clips})
    for instrument, (low, high, _) in RANGES.items():
        assert {c.labels["midi"] for c in clips if c.labels["instrument"] == instrument} == set(range(low, high + 1))
    folds = [dataset.clips(f"fold{i}") for i in range(5)]
    assert max(map(len, folds)) - min(map(len, folds)) <= 3 * dynamics
    groups = [{c.labels["group"] for c in fold} for fold in folds]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 619
    for fold in folds:
        assert {c.labels["instrument"] for c in fold} == set(ORCHESTRA)
        assert len({c.labels["pitch_class"] for c in fold}) == 12
        assert {c.labels["dynamic"] for c in fold} == set(DYNAMICS)
    assert len(dataset.clips("valid")) == len(folds[0])
    assert len(dataset.clips("test")) == len(folds[1])
    assert all(c.labels["synthetic"] for c in clips)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("synthetic", {"size": 0}, "size 0"),
        ("synthetic", {"seconds": -1.0}, "seconds -1"),
        ("synthetic", {"seed": -1}, "seed -1"),
        ("synthetic-tags", {"size": 250}, "250 is not a multiple of 100"),
        ("synthetic-keys", {"size": 100}, "100 is not a multiple of 24"),
        ("synthetic-keys", {"size": 48}, "below 72"),
        ("synthetic-notes", {"dynamics_per_pitch": 4}, "dynamics_per_pitch is 4"),
        ("synthetic-notes", {"seconds": 0.1}, "seconds 0.1"),
    ],
)
def test_impossible_options_name_the_value(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_dataset(name, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["synthetic", "synthetic-tags", "synthetic-keys", "synthetic-notes"])
def test_every_clip_of_every_set_renders(name: str) -> None:
    for clip in create_dataset(name).clips():
        audio, rate = clip.load()
        assert audio.shape[1] == round(float(clip.seconds or 0) * rate)
        assert np.abs(audio).max() < 0.98
        assert np.abs(audio).max() > 0.02


@pytest.mark.slow
def test_every_note_has_its_pitch() -> None:
    off = {
        clip.id: cents_off(clip.load()[0][0, int(0.3 * RATE) : int(0.95 * RATE)], clip.labels["midi"])
        for clip in create_dataset("synthetic-notes").clips()
    }
    worst = max(off, key=lambda id: abs(off[id]))
    assert abs(off[worst]) < 35, (worst, off[worst])


@pytest.mark.slow
def test_a_processor_without_vector_instructions_gives_the_same_samples() -> None:
    code = (
        "import hashlib\n"
        "from benchmarks.datasets import create_dataset\n"
        "for clip in create_dataset('synthetic', size=10).clips():\n"
        "    print(hashlib.sha256(clip.load()[0].tobytes()).hexdigest())"
    )
    features = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX2 FMA3"
    env = {"NPY_DISABLE_CPU_FEATURES": features, "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    here = [sha(clip) for clip in create_dataset("synthetic", size=10).clips()]
    assert sum(a == b for a, b in zip(out.split(), here, strict=True)) >= 9  # a sample may round the other way
