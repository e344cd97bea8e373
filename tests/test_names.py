"""Names of files made from other names: different ones never share a file, and none is taken for another's."""

from __future__ import annotations

import csv
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from harness_helpers import RATE, tiny_toml, write_clips
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.cli.main import main
from benchmarks.datasets.clip_files import export_stems, file_stem, folded, match, safe_name

NFC, NFD = unicodedata.normalize("NFC", "café.wav"), unicodedata.normalize("NFD", "café.wav")
#: Clips of one folder whose names some rule or some file system takes for one.
TWINS = {
    "scripts": ("東京.wav", "大阪.wav", "Море.wav", "Небо.wav", "हिन्दी.wav", "हनद.wav"),
    "spaces": ("a b.wav", "a_b.wav"),
    "case": ("Song.wav", "song.wav"),
    "folders": ("sub/c.wav", "sub__c.wav", "sub/c d.wav"),
    "signs": ("why?.wav", "why!.wav", "why*.wav"),
    "suffixes": ("a.wav", "a.ogg", "a.wav.mp3", "a"),
    "accents": (NFC, NFD),
    "long": ("x" * 250 + ".wav", "x" * 249 + "y.wav", "x" * 240 + "/x.wav"),
    "signs alone": ("?", "!", "…"),
    "not Unicode": ("caf\udce9.wav", "caf\udcea.wav"),
}

_names = st.lists(st.text(st.sampled_from("aAbé́ _/.?東京w").map(str), min_size=1, max_size=6), unique=True)


@settings(deadline=None, max_examples=100)
@given(_names.map(lambda names: [name + suffix for name in names for suffix in ("", ".wav")]))
@example([clip for clips in TWINS.values() for clip in clips])
def test_every_clip_finds_its_exported_file_and_no_other(ids: list[str]) -> None:
    stems = export_stems(ids)
    assert len({folded(stem) for stem in stems.values()}) == len(ids)
    for stem in stems.values():
        assert not set(stem) & set('/\\:*?"<>|\n ')
        assert not stem.startswith(".")
        assert len(f"{stem}.wav".encode()) < 255
    found = match(ids, [f"{stem}.wav" for stem in stems.values()])
    assert found.files == {clip_id: f"{stem}.wav" for clip_id, stem in stems.items()}
    assert not found.strays
    # in another format, and as a file system that decomposes accents lists them
    names = {clip_id: unicodedata.normalize("NFD", f"{stem}.flac") for clip_id, stem in stems.items()}
    assert match(ids, names.values()).files == names


@settings(deadline=None, max_examples=100)
@given(_names)
@example([clip for clips in TWINS.values() for clip in clips])
def test_files_under_the_clips_own_names_are_theirs(ids: list[str]) -> None:
    ids = [f"{clip_id}.wav" for clip_id in ids]
    assert match(ids, ids).files == {clip_id: clip_id for clip_id in ids}


def test_names_stay_readable() -> None:
    assert export_stems(["hyperrogue/hunting.ogg@10", "song.flac", "other.wav", "other.ogg", "東京.wav"]) == {
        "hyperrogue/hunting.ogg@10": "hyperrogue__hunting.ogg@10",
        "song.flac": "song",
        "other.wav": "other.wav",
        "other.ogg": "other.ogg",
        "東京.wav": "東京",
    }
    assert list(export_stems(["a.wav", "a.ogg", "a.wav.mp3"]).values()) == ["a.wav", "a.ogg", "a.wav.mp3"]
    assert all(stem.startswith("a_b-") for stem in export_stems(["a b", "a?b"]).values())
    for clip_id in ("../../etc/passwd", "/etc/passwd", "..", ".hidden", "a/../b", ""):
        assert "/" not in file_stem(clip_id)
        assert not file_stem(clip_id).startswith(".")
        assert file_stem(clip_id)
    assert safe_name("हिन्दी") == "हिन्दी"


def test_ambiguous_files_are_refused_by_name() -> None:
    found = match(["a b.wav", "a?b.wav"], ["a_b.wav"])  # as an earlier export would have called both
    assert found.files == {}
    assert found.refused["a b.wav"] == "a_b.wav may belong to clips 'a b.wav' and 'a?b.wav'"
    assert match(["a.wav", "a.ogg"], ["a.flac"]).files == {}
    assert match(["a.wav", "a.ogg"], ["a.wav"]).refused == {"a.ogg": "no file for the clip"}
    both = match(["x.wav"], ["x.wav", "x.flac"])
    assert both.refused == {"x.wav": "2 files for the clip (x.flac, x.wav)"}
    assert match([NFC], [NFD]).files == {NFC: NFD}
    assert match([NFC, NFD], [NFD]).refused == {NFC: "no file for the clip"}


def test_files_of_earlier_exports_are_found() -> None:
    ids = ["a b.wav", "deep/x y.ogg", "東京.wav", "same.wav", "same.ogg"]
    old = {
        "a b.wav": "a_b.wav",
        "deep/x y.ogg": "deep__x_y.wav",
        "東京.wav": "_.wav",
        "same.wav": "same.wav.wav",
        "same.ogg": "same.ogg.wav",
    }
    assert match(ids, old.values()).files == old


def write(path: Path, hz: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = 0.2 * np.sin(2 * np.pi * hz * np.arange(RATE) / RATE)
    with open(os.fsencode(path), "wb") as file:
        sf.write(file, sound, RATE, format="WAV")


@pytest.mark.parametrize("kind", [kind for kind in TWINS if kind not in ("signs alone", "not Unicode")])
def test_twins_are_exported_apart_and_measured_against_their_own(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [clip for clip in TWINS[kind] if clip.endswith((".wav", ".ogg", ".mp3"))]
    try:
        for i, clip in enumerate(clips):
            write(tmp_path / "clips" / clip, 200 + 70 * i)
    except (OSError, UnicodeError):
        pytest.skip("not a name for this file system")
    if len([path for path in (tmp_path / "clips").rglob("*") if path.is_file()]) < len(clips):
        pytest.skip("one name for this file system")
    toml = str(tiny_toml(tmp_path, tmp_path / "clips"))
    run = ["--suite", toml, "--executor", "serial", "--store", str(tmp_path / "store"), "--quiet"]
    assert main(["export-clips", "-o", str(tmp_path / "out"), *run, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == len(clips)
    with open(tmp_path / "out" / "clips.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert sorted(row["clip"] for row in csv.DictReader(file)) == sorted(clips)
    for folder in ("clips", "out"):
        against = ["compare", "--external", f"mine={tmp_path / folder}", "--against", "identity", *run]
        # a part of the clips is matched as all of them are
        for limit, n in ((0, len(clips)), (1, 1)):
            assert main([*against, "--metrics", "si_sdr", "--limit", str(limit), "--json"]) == 0
            found = json.loads(capsys.readouterr().out)
            assert list(found["scores"]["si_sdr"]["mine"].values()) == [100.0] * n
            assert found["warnings"] == []


def test_a_file_of_another_split_is_no_partner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "clips" / "test" / "a b.wav", 200)
    write(tmp_path / "clips" / "test__a_b.wav", 300)
    write(tmp_path / "mine" / "test__a_b.wav", 300)
    toml = tiny_toml(tmp_path, tmp_path / "clips")
    toml.write_text(toml.read_text().replace("[data]\n", '[data]\nsplit = "test"\n', 1))
    run = ["--suite", str(toml), "--executor", "serial", "--store", str(tmp_path / "store"), "--quiet", "--json"]
    main(["compare", "--external", f"mine={tmp_path / 'mine'}", "--against", "identity", "--metrics", "si_sdr", *run])
    out = capsys.readouterr().out
    assert "no file for the clip" in out
    assert json.loads(out)["scores"]["si_sdr"].get("mine", {}) == {}


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_that_are_no_unicode_are_clips_like_any_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clips(tmp_path / "clips", 2)
    odd = os.fsencode(tmp_path / "clips") + b"/b\xff\xe9.wav"
    try:
        os.rename(tmp_path / "clips" / "clip1.wav", odd)
    except OSError:
        pytest.skip("not a name for this file system")
    toml = str(tiny_toml(tmp_path, tmp_path / "clips"))
    run = ["--suite", toml, "--executor", "serial", "--store", str(tmp_path / "store"), "--quiet"]
    assert main(["export-clips", "-o", str(tmp_path / "out"), *run]) == 0
    capsys.readouterr()
    for folder in ("clips", "out"):
        command = ["compare", "--external", f"mine={tmp_path / folder}", "--against", "identity", *run]
        assert main([*command, "--metrics", "si_sdr", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["scores"]["si_sdr"]["mine"] == {"b\\xff\\xe9.wav": 100.0, "clip0.wav": 100.0}
