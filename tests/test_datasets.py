"""The contract of clips and data sets, and folders full of broken audio."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.datasets import Clip, ClipError, DataNotFoundError, create_dataset, dataset_digest, list_datasets
from benchmarks.datasets.audio_files import FileLoader, read_excerpt
from benchmarks.datasets.base import SPLIT_OF_FOLD, digest_of, select_fold
from benchmarks.registry import UnknownNameError
from m2l.audio import AudioError, check_audio


def tone(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return np.stack([0.4 * np.sin(2 * np.pi * 300 * (c + 1) * t) for c in range(channels)], axis=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "good.wav", tone(1.0, 44100, 2), 44100)
    soundfile.write(tmp_path / "eight.wav", tone(0.5, 48000, 8), 48000)
    soundfile.write(tmp_path / "low.flac", tone(0.5, 8000), 8000)
    soundfile.write(tmp_path / "short.ogg", tone(0.01, 44100), 44100)
    soundfile.write(tmp_path / "silent.wav", np.zeros((4410, 1)), 44100)
    soundfile.write(tmp_path / "nan.wav", np.full((100, 1), np.nan), 44100, subtype="FLOAT")
    (tmp_path / "corrupt.mp3").write_bytes(b"\xff\xfb\x90\x00" + bytes(range(256)))
    (tmp_path / "cut.wav").write_bytes((tmp_path / "good.wav").read_bytes()[:20])
    (tmp_path / "empty.flac").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not audio")
    (tmp_path / ".hidden.wav").write_bytes(b"")
    (tmp_path / "train").mkdir()
    soundfile.write(tmp_path / "train" / "a b.wav", tone(0.2, 22050), 22050)
    return tmp_path


def test_folds_are_splits_by_name() -> None:
    clips = [
        Clip(str(i), "set", "0", {"fold": i % 5}, "", lambda: (np.zeros((1, 1)), 1), split=SPLIT_OF_FOLD[i % 5])
        for i in range(12)
    ]
    for fold in range(5):
        assert [clip.id for clip in select_fold(clips, f"fold{fold}", "set")] == [
            str(i) for i in range(12) if i % 5 == fold
        ]
    assert [clip.id for clip in select_fold(clips, "train", "set")] == ["2", "3", "4", "7", "8", "9"]
    assert [clip.id for clip in select_fold(clips, "valid", "set")] == ["0", "5", "10"]
    assert select_fold(clips, None, "set") == select_fold(clips, "all", "set") == clips
    with pytest.raises(ValueError, match="fold5"):
        select_fold(clips, "fold5", "set")


def test_a_folder_lists_every_audio_file_whatever_its_state(folder: Path) -> None:
    clips = create_dataset("folder", path=folder).clips()
    assert [clip.id for clip in clips] == [
        "corrupt.mp3", "cut.wav", "eight.wav", "empty.flac", "good.wav", "low.flac", "nan.wav", "short.ogg",
        "silent.wav", "train/a b.wav",
    ]  # fmt: skip
    assert [clip.id for clip in create_dataset("folder", path=folder).clips("train")] == ["train/a b.wav"]
    assert len(create_dataset("folder", path=folder, recursive=False).clips()) == 9


@pytest.mark.parametrize(
    ("id", "shape", "rate"),
    [
        ("good.wav", (2, 44100), 44100),
        ("eight.wav", (8, 24000), 48000),
        ("low.flac", (1, 4000), 8000),
        ("short.ogg", (1, 441), 44100),
        ("silent.wav", (1, 4410), 44100),
        ("train/a b.wav", (1, 4410), 22050),
    ],
)
def test_readable_files_are_returned_as_they_are(folder: Path, id: str, shape: tuple[int, int], rate: int) -> None:
    clip = next(c for c in create_dataset("folder", path=folder).clips() if c.id == id)
    audio, sample_rate = clip.load()
    assert (audio.shape, sample_rate, audio.dtype) == (shape, rate, np.float32)
    if id in ("good.wav", "eight.wav"):
        np.testing.assert_allclose(audio, tone(shape[1] / rate, rate, shape[0]).T, atol=4e-5)


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("corrupt.mp3", r"corrupt\.mp3"),
        ("cut.wav", r"cut\.wav: cannot be decoded"),
        ("empty.flac", r"empty\.flac"),
        ("nan.wav", r"nan\.wav: .*100 non-finite values, the first \(nan\) at channel 0, sample 0"),
    ],
)
def test_damaged_files_say_what_is_wrong_when_loaded(folder: Path, id: str, message: str) -> None:
    clip = next(c for c in create_dataset("folder", path=folder).clips() if c.id == id)
    with pytest.raises(ClipError, match=message):
        clip.load()


def test_a_file_removed_after_listing_is_file_not_found(folder: Path) -> None:
    clip = next(c for c in create_dataset("folder", path=folder).clips() if c.id == "good.wav")
    (folder / "good.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"good\.wav"):
        clip.load()


def test_digests_follow_content_and_excerpt_not_names(folder: Path) -> None:
    def digests(**options: float) -> dict[str, str]:
        return {c.id: c.digest for c in create_dataset("folder", path=folder, **options).clips()}

    before = digests()
    assert before == digests()
    assert len(set(before.values())) == len(before)
    assert set(digests(seconds=0.1).values()).isdisjoint(before.values())
    (folder / "good.wav").rename(folder / "renamed.wav")
    soundfile.write(folder / "silent.wav", np.full((4410, 1), 0.1), 44100)
    after = digests()
    assert after["renamed.wav"] == before["good.wav"]
    assert after["silent.wav"] != before["silent.wav"]


def test_folders_without_audio_are_missing_data(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="no such folder"):
        create_dataset("folder", path=tmp_path / "none")
    with pytest.raises(DataNotFoundError, match="no audio file"):
        create_dataset("folder", path=tmp_path).clips()


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_excerpts_are_read_by_position(tmp_path: Path, suffix: str) -> None:
    rate = 44100
    t = np.arange(4 * rate) / rate
    audio = 0.4 * np.sin(2 * np.pi * (200 + 100 * np.floor(t)) * t)  # 200, 300, 400, 500 Hz, a second each
    soundfile.write(tmp_path / f"a.{suffix}", audio, rate)
    excerpt, sample_rate = read_excerpt(tmp_path / f"a.{suffix}", 2.25, 0.5)
    assert excerpt.shape == (1, rate // 2)
    assert sample_rate == rate
    assert np.argmax(np.abs(np.fft.rfft(excerpt[0]))) == 200  # 400 Hz in half a second


def test_excerpts_beyond_the_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0, 8000), 8000)
    assert read_excerpt(tmp_path / "a.wav", 0.75, 1.0)[0].shape == (1, 2000)
    with pytest.raises(ClipError, match=r"0\.250 s could be decoded from 0\.75 s, the excerpt has 1\.0"):
        read_excerpt(tmp_path / "a.wav", 0.75, 1.0, exact=True)
    with pytest.raises(ClipError, match=r"starts at 2\.0 s, the file has 1\.000 s"):
        read_excerpt(tmp_path / "a.wav", 2.0)
    with pytest.raises(ValueError, match="start -1"):
        read_excerpt(tmp_path / "a.wav", -1.0)


def test_a_file_with_another_digest_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.1, 8000), 8000)
    with pytest.raises(ClipError, match=r"sha256 is [0-9a-f]{64}, expected 0000"):
        FileLoader(str(tmp_path / "a.wav"), sha256="0" * 64)()


@given(
    channels=st.integers(0, 9),
    samples=st.integers(0, 50),
    bad=st.sampled_from([None, np.nan, np.inf, -np.inf]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_checked_audio_is_finite_float32_or_an_error(channels: int, samples: int, bad: float | None, seed: int) -> None:
    audio = np.random.default_rng(seed).uniform(-1, 1, (samples, channels)).T
    if bad is not None and audio.size:
        audio[seed % channels, seed % samples] = bad
    if audio.size == 0 or bad is not None:
        with pytest.raises(AudioError):
            check_audio(audio, 44100, "it")
    else:
        out = check_audio(audio, 44100, "it")
        assert out.dtype == np.float32
        assert out.flags.c_contiguous
        np.testing.assert_array_equal(out, audio.astype(np.float32))


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_impossible_sample_rates_are_refused(rate: float) -> None:
    with pytest.raises(AudioError, match="sample_rate"):
        check_audio(np.zeros((1, 5)), rate, "it")


def test_clips_travel_to_workers(folder: Path) -> None:
    for clip in [
        create_dataset("synthetic", size=1, seconds=0.5).clips()[0],
        create_dataset("synthetic-notes", seconds=0.3).clips()[0],
        create_dataset("folder", path=folder).clips()[4],
    ]:
        again = pickle.loads(pickle.dumps(clip))
        assert again == clip
        assert hash(again) == hash(clip)
        np.testing.assert_array_equal(again.load()[0], clip.load()[0])


def test_the_digest_of_a_data_set_sees_order_labels_and_content() -> None:
    clips = create_dataset("synthetic", size=3).clips()
    digest = dataset_digest(clips)
    assert digest == dataset_digest(create_dataset("synthetic", size=3).clips())
    assert digest != dataset_digest(clips[::-1])
    assert digest != dataset_digest(clips[:2])
    changed = Clip(
        id=clips[0].id, dataset="synthetic", digest=clips[0].digest, labels={**clips[0].labels, "key": "no"},
        source="", loader=clips[0].loader, split=clips[0].split,
    )  # fmt: skip
    assert digest != dataset_digest([changed, *clips[1:]])


@given(st.lists(st.one_of(st.text(), st.integers(), st.floats(allow_nan=False), st.none()), max_size=4))
@settings(deadline=None)
def test_digests_tell_parts_apart(parts: list[object]) -> None:
    assert digest_of(*parts) == digest_of(*parts)
    assert digest_of(*parts) != digest_of(*parts, None)


def test_names_and_splits_that_do_not_exist() -> None:
    with pytest.raises(UnknownNameError, match="synthetic"):
        create_dataset("synthetics")
    with pytest.raises(ValueError, match="no split 'tset'"):
        create_dataset("synthetic-keys").clips("tset")
    with pytest.raises(ValueError, match=r"fold9.*fold4"):
        create_dataset("synthetic-notes").clips("fold9")


def test_a_data_set_of_ones_own_by_module_and_class(folder: Path) -> None:
    dataset = create_dataset("benchmarks.datasets.folder:FolderDataset", path=folder, name="mine")
    assert dataset.clips()[0].dataset == "mine"


def test_listing_data_sets_is_light() -> None:
    code = (
        "import sys; from benchmarks.datasets import list_datasets; names = list_datasets(); "
        "heavy = {'torch', 'scipy.signal', 'soundfile', 'pandas'} & set(sys.modules); "
        "assert not heavy, heavy; print(','.join(names))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().split(",") == list_datasets()
    assert {"synthetic", "synthetic-tags", "synthetic-keys", "synthetic-notes", "open", "folder"} <= set(
        list_datasets()
    )
