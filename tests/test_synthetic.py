"""Sets of synthetic music: the same everywhere and every time, with the splits and labels they promise."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.datasets import Clip, create_dataset
from benchmarks.datasets.synthetic import VERSION
from benchmarks.datasets.synthetic.clips import TAGS
from benchmarks.datasets.synthetic.draw import Draw
from benchmarks.datasets.synthetic.harmony import ALL_KEYS
from benchmarks.datasets.synthetic.instruments import ORCHESTRA, TAG_OF_INSTRUMENT
from benchmarks.datasets.synthetic.notes import DYNAMICS, RANGES
from benchmarks.datasets.synthetic.styles import STYLES

RATE = 44100
GOLDEN = Path(__file__).parent / "golden" / "synthetic.npz"


def sha(clip: Clip) -> str:
    return hashlib.sha256(clip.load()[0].tobytes()).hexdigest()


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
