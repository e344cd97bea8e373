"""Open data: manifests that hold together, a small tree in the real layout, and the real one if it is there."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.datasets import ClipError, DataNotFoundError, create_dataset, locations, open_data, open_notes
from benchmarks.datasets.locations import manifest
from benchmarks.datasets.open_notes import INSTRUMENTS, note_rows
from benchmarks.datasets.synthetic.notes import RANGES
from benchmarks.fetch import make_manifests
from benchmarks.fetch.sources import github_urls
from m2l.io.digest import file_sha256

OPEN_LICENSES = {"CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0"}


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Keep this machine's data out of the tests that do not ask for it."""
    if "shared" not in request.keywords:
        monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("M2L_DATA", str(tmp_path / "data"))


# --- the manifests ------------------------------------------------------------------------------------


def test_every_track_has_an_origin_a_license_a_digest_and_an_artist() -> None:
    tracks = manifest("open_music.csv")
    assert len(tracks) == 71 == len({t["path"] for t in tracks}) == len({t["sha256"] for t in tracks})
    for track in tracks:
        assert track["license"] in OPEN_LICENSES
        assert track["artist"]
        assert len(track["sha256"]) == 64
        assert int(track["bytes"]) > 0
        assert len(github_urls(track["source"])[0].split("/")[5]) == 40  # a full commit, not a branch
        # Nothing was re-encoded: the stored file has the format of its source.
        assert Path(track["path"]).suffix == Path(track["source"]).suffix


def test_two_tracks_have_the_digests_that_their_publisher_states() -> None:
    # librosa/librosa@0a60e0a8: librosa/util/example_data/registry.txt
    stated = {
        "Sugar_Plum_Fairy": "f062221a56a227cdb7c067cf2e6ac0e250a50012f7693ca0c8e31f05f83e49b1",
        "Vibe_Ace": "73d6443ef90a7c022f164e5aa90e56c2291585930b39b1656d0765abbc1f1779",
    }
    found = {Path(t["path"]).stem: t["sha256"] for t in manifest("open_music.csv") if "librosa" in t["path"]}
    assert found == stated


def test_clips_lie_within_their_tracks_and_artists_within_their_split() -> None:
    tracks = {t["path"]: t for t in manifest("open_music.csv")}
    positions = manifest("open_music_clips.csv")
    assert len(positions) == 158 == len({(p["path"], p["start"]) for p in positions})
    for p in positions:
        assert 0 <= float(p["start"]) <= float(tracks[p["path"]]["seconds"]) - float(p["seconds"]) + 0.01
    artists = {s: {t["artist"] for t in tracks.values() if t["split"] == s} for s in ("train", "test")}
    assert artists["train"]
    assert artists["test"]
    assert not artists["train"] & artists["test"]


def test_the_notes_have_the_instruments_and_pitches_of_tinysol() -> None:
    rows = note_rows()
    assert len(rows) == 1743 == len({row.path for row in rows})
    assert {name for name, _ in INSTRUMENTS.values()} == set(RANGES)
    assert sorted(Counter(row.fold for row in rows)) == [0, 1, 2, 3, 4]
    for row in rows:
        low, high, _ = RANGES[INSTRUMENTS[row.instrument][0]]
        assert low - 2 <= row.midi <= high + 2
    example = next(r for r in rows if r.path == "violin/violin_Cs4_061_mf.ogg")
    assert (example.pitch, example.midi, example.dynamic) == ("C#4", 61, "mf")


# --- a small tree in the real layout --------------------------------------------------------------------


def write(path: Path, seconds: float, rate: int, channels: int = 1, pitch: float = 220.0) -> None:
    t = np.arange(round(seconds * rate)) / rate
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = np.stack([0.3 * np.sin(2 * np.pi * pitch * (c + 1) * t) for c in range(channels)], axis=1)
    soundfile.write(path, audio, rate)


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tracks, two sentences, two notes, and the manifests that the project's own script makes of them."""
    root = tmp_path / "data"
    write(root / "music" / "a" / "one.ogg", 6.0, 44100, 2)
    write(root / "music" / "b" / "two.flac", 4.0, 48000)
    write(root / "speech" / "s1.ogg", 1.5, 48000)
    write(root / "speech" / "s2.ogg", 2.0, 48000)
    for note in ("violin_A3_057_pp", "violin_A3_057_ff"):
        write(root / "notes" / "violin" / f"{note}.ogg", 2.0, 44100)
    common = {"licence": "CC0-1.0", "genre": "", "codec": "x", "kbps": 100}
    source = "github:o/r@" + "c" * 40 + ":"
    write_table(
        root / "music" / "tracks.csv",
        [
            {"path": "music/a/one.ogg", "split": "train", "track": "one", "artist": "Ann", "sr": 44100, "channels": 2,
             "seconds": 6.0, "source": source + "one.ogg", **common},
            {"path": "music/b/two.flac", "split": "test", "track": "two", "artist": "Bob", "sr": 48000, "channels": 1,
             "seconds": 4.0, "source": source + "two.flac", **common},
        ],
    )  # fmt: skip
    place = {"bandwidth_khz": 20.0, "image": "stereo"}
    write_table(
        root / "music" / "clips.csv",
        [
            {"path": "music/a/one.ogg", "start": 0.5, "seconds": 2.0, **place},
            {"path": "music/b/two.flac", "start": 1.25, "seconds": 2.0, **place},
            {"path": "music/b/two.flac", "start": 1.75, "seconds": 2.0, **place},
        ],
    )
    write_table(
        root / "speech" / "speech.csv",
        [
            {"path": f"speech/s{i}.ogg", "speaker": "k", "language": "de", "sex": "female", "sr": 48000, "channels": 1,
             "seconds": 1.0 + i / 2, "text": "Größe, ja.", "licence": "CC0-1.0", "source": f"{source}s{i}.flac"}
            for i in (1, 2)
        ],
    )  # fmt: skip
    write_table(
        root / "notes" / "notes.csv",
        [
            {"path": f"violin/violin_A3_057_{d}.ogg", "instrument": "violin", "midi": 57, "dynamic": d, "fold": fold,
             "seconds": 2.0, "f0_cents_off": 0.0, "pitch_check": "ok"}
            for d, fold in (("pp", 0), ("ff", 1))
        ],
    )  # fmt: skip
    out = tmp_path / "manifests"
    out.mkdir()
    assert make_manifests.main([str(root), str(out)]) == 0

    def small(name: str) -> list[dict[str, str]]:
        return make_manifests.read_csv(out / name)

    for module in (locations, open_data, open_notes):
        monkeypatch.setattr(module, "manifest", small)
    return root


def test_music_is_read_by_position_test_split_by_default(tree: Path) -> None:
    clips = create_dataset("open").clips()
    assert [c.id for c in clips] == ["b/two.flac@1.25", "b/two.flac@1.75"]
    assert [c.id for c in create_dataset("open").clips("train")] == ["a/one.ogg@0.5"]
    assert len(create_dataset("open", split="all").clips()) == 3
    audio, rate = clips[0].load()
    assert (audio.shape, rate) == ((1, 96000), 48000)
    whole, _ = soundfile.read(tree / "music" / "b" / "two.flac", dtype="float32")
    np.testing.assert_array_equal(audio[0], whole[60000 : 60000 + 96000])
    stereo, rate = create_dataset("open").clips("train")[0].load()
    assert (stereo.shape, rate) == ((2, 88200), 44100)
    assert clips[0].labels["artist"] == "Bob"
    assert clips[0].license == "CC0-1.0"
    assert clips[0].source.startswith("github:o/r@")
    assert len({c.digest for c in create_dataset("open").clips("all")}) == 3


def test_a_replaced_file_changes_its_digest_and_fails_by_name(tree: Path) -> None:
    before = create_dataset("open").clips()
    write(tree / "music" / "b" / "two.flac", 4.0, 48000, pitch=330.0)
    after = create_dataset("open").clips()
    assert len(after) == len(before)
    assert all(a.digest != b.digest for a, b in zip(after, before, strict=True))
    with pytest.raises(ClipError, match=r"two\.flac: sha256 is .*not the file of the manifest"):
        after[0].load()


def test_a_missing_file_stays_in_the_list_and_fails_by_name(tree: Path) -> None:
    (tree / "music" / "b" / "two.flac").unlink()
    clips = create_dataset("open").clips()
    assert len(clips) == 2
    with pytest.raises(FileNotFoundError, match=r"two\.flac"):
        clips[0].load()
    assert [c.id for c in create_dataset("open").clips("train")]  # the rest is unharmed
    create_dataset("open").clips("train")[0].load()


def test_files_are_found_in_the_cache_where_m2l_data_has_none_or_a_wrong_one(tree: Path, tmp_path: Path) -> None:
    cached = tmp_path / "cache" / "data" / "music" / "b" / "two.flac"
    cached.parent.mkdir(parents=True)
    shutil.copy(tree / "music" / "b" / "two.flac", cached)
    good = create_dataset("open").clips()[0].digest
    (tree / "music" / "b" / "two.flac").write_bytes(b"damaged")
    clip = create_dataset("open").clips()[0]
    assert clip.digest == good
    clip.load()
    (tree / "music" / "b" / "two.flac").unlink()
    assert create_dataset("open").clips()[0].digest == good


def test_published_speech_is_preferred_to_the_copy(tree: Path) -> None:
    copy = create_dataset("open-speech").clips()
    assert [c.labels["codec"] for c in copy] == ["ogg", "ogg"]
    assert copy[0].load()[0].shape == (1, 72000)
    assert copy[0].labels["text"] == "Größe, ja."
    write(tree / "speech" / "s1.flac", 1.5, 48000)
    both = create_dataset("open-speech").clips()
    assert [c.labels["codec"] for c in both] == ["flac", "ogg"]
    assert both[0].digest != copy[0].digest
    assert both[0].id == copy[0].id


def test_notes_are_labeled_as_rendered_and_know_whose_copy_they_are(tree: Path) -> None:
    dataset = create_dataset("open-notes")
    assert "not recorded" in str(getattr(dataset, "notice", ""))
    clips = dataset.clips()
    assert [c.split for c in clips] == ["valid", "test"]
    assert all(c.labels["rendered"] and c.labels["manifest_copy"] for c in clips)
    assert clips[0].labels["instrument"] == "Violin"
    assert (clips[0].labels["pitch"], clips[0].labels["pitch_class"], clips[0].labels["octave"]) == ("A3", "A", 3)
    assert dataset.clips("fold1") == [clips[1]]
    write(tree / "notes" / "violin" / "violin_A3_057_pp.ogg", 1.9, 44100)
    again = create_dataset("open-notes").clips()[0]
    assert not again.labels["manifest_copy"]
    assert again.digest != clips[0].digest
    again.load()
    with pytest.raises(ClipError, match="sha256"):
        create_dataset("open-notes", exact=True).clips()[0].load()


@pytest.mark.parametrize("name", ["open", "open-speech", "open-notes"])
def test_missing_data_names_the_places_and_the_command(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=f"m2l-bench fetch {name}") as error:
        create_dataset(name).clips()
    assert str(tmp_path / "data") in str(error.value)
    assert str(tmp_path / "cache" / "data") in str(error.value)


def test_manifests_know_what_was_re_encoded(tree: Path) -> None:
    assert {row["published"] for row in open_data.manifest("open_music.csv")} == {"yes"}
    assert {row["published"] for row in open_data.manifest("open_speech.csv")} == {"no"}
    row = open_data.manifest("open_music.csv")[0]
    assert row["sha256"] == file_sha256(tree / "music" / "a" / "one.ogg")
    assert int(row["bytes"]) == (tree / "music" / "a" / "one.ogg").stat().st_size
    assert make_manifests.main([]) == 2


def test_no_split_of_that_name() -> None:
    with pytest.raises(ValueError, match="no split 'valid'"):
        create_dataset("open", split="valid")


# --- the real thing -----------------------------------------------------------------------------------------


def real_data() -> None:
    if not os.environ.get("M2L_DATA"):
        pytest.skip("M2L_DATA is not set")


@pytest.mark.shared
def test_every_open_clip_loads_with_its_digest() -> None:
    real_data()
    clips = create_dataset("open").clips("all")
    assert Counter(c.split for c in clips) == {"train": 116, "test": 42}
    for clip in clips:
        audio, rate = clip.load()
        assert audio.shape == (audio.shape[0], 10 * rate)
        assert rate == 44100
        assert np.abs(audio).max() > 0.01


@pytest.mark.shared
def test_every_sentence_and_note_loads() -> None:
    real_data()
    for name, size in (("open-speech", 181), ("open-notes", 1743)):
        clips = create_dataset(name).clips()
        assert len(clips) == size
        for clip in clips:
            audio, rate = clip.load()
            assert audio.shape[1] / rate == pytest.approx(float(clip.seconds or 0), abs=0.02)
