"""Tasks: published splits and labels, leak checks, loaders on small fixture trees in the published layouts."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.datasets import ClipError, DataNotFoundError
from benchmarks.registry import UnknownNameError
from probes.metrics import KEYS
from probes.tasks import create_task, list_tasks
from probes.tasks import magnatagatune as mtt
from probes.tasks.base import Split, TaskDataError, grouped_folds, k_fold_splits
from probes.tasks.beatport import Beatport, artist_groups, parse_label, stored, stored_keys
from probes.tasks.tinysol import TinySOLInstrument, TinySOLPitch

# ---- what is stored beside the modules -------------------------------------------------------------


def test_beatport_split_has_the_published_sizes_and_is_sklearns() -> None:
    from sklearn.model_selection import train_test_split

    keys = stored_keys()
    assert len(keys) == 1272
    assert sorted(set(keys.values())) == list(KEYS)
    assert Counter(keys.values())["C minor"] == 124
    assert Counter(key.split()[1] for key in keys.values()) == {"minor": 887, "major": 385}
    held_out = {*stored()["validation"], *stored()["test"]}
    assert (len(keys) - len(held_out), len(stored()["validation"]), len(stored()["test"])) == (1017, 127, 128)
    assert held_out <= set(keys)
    ids = list(keys)
    _, rest = train_test_split(ids, train_size=0.8, random_state=42, stratify=[keys[i] for i in ids])
    validation, test = train_test_split(rest, test_size=0.5, random_state=42, stratify=[keys[i] for i in rest])
    assert (set(validation), set(test)) == (set(stored()["validation"]), set(stored()["test"]))
    assert len({keys[i] for i in test}) == 24


def test_magnatagatune_list_has_the_published_sizes() -> None:
    table = mtt.stored()
    assert {part: len(ids) for part, ids in table["ids"].items()} == table["counts"]
    assert table["counts"] == {"train": 15244, "validation": 1529, "test": 4332}
    assert table["won_counts"] == {"train": 15247, "validation": 1529, "test": 4332}
    parts = [set(ids) for ids in table["ids"].values()]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert not mtt.CORRUPT & set().union(*parts)
    assert {31533} <= parts[1]
    assert {19588} <= parts[2]
    assert len(set(table["tags"])) == 50


# ---- checks ----------------------------------------------------------------------------------------


def test_leaks_are_found() -> None:
    ids = [str(i) for i in range(6)]
    good = Split("s", ("0", "1"), ("2", "3"), ("4", "5"))
    good.check(ids)
    with pytest.raises(TaskDataError, match="'1' is in train and in test"):
        replace(good, test=("4", "1")).check(ids)
    with pytest.raises(TaskDataError, match="'2' is in validation and in test"):
        replace(good, test=("4", "2")).check(ids)
    with pytest.raises(TaskDataError, match="'4' is twice in test"):
        replace(good, test=("4", "4")).check(ids)
    with pytest.raises(TaskDataError, match=r"no clips of the task, e\.g\. '9'"):
        replace(good, test=("9",)).check(ids)
    with pytest.raises(TaskDataError, match="test part is empty"):
        replace(good, test=()).check(ids)
    groups = dict(zip(ids, "aabbca", strict=True))
    with pytest.raises(TaskDataError, match="group 'a' is in train and in test"):
        good.check(ids, groups)


def test_split_digest_sees_order_and_parts() -> None:
    split = Split("s", ("0", "1"), ("2",), ("3",))
    others = [
        replace(split, train=("1", "0")),
        replace(split, train=("0",), validation=("1", "2")),
        replace(split, test=("4",)),
    ]
    assert len({split.digest, *(other.digest for other in others)}) == 4
    assert replace(split, name="t").digest == split.digest


def test_rotation_tests_every_item_once() -> None:
    folds = {str(i): i % 5 for i in range(23)}
    splits = k_fold_splits(folds)
    assert [len(s.test) for s in splits] == [5, 5, 4, 4, 5]
    assert sorted(i for s in splits for i in s.test) == sorted(folds)
    assert {folds[i] for i in splits[0].validation} == {0}
    assert {folds[i] for i in splits[0].test} == {1}
    for split in splits:
        split.check(folds)


def test_grouped_folds_keep_groups_whole() -> None:
    ids = [str(i) for i in range(200)]
    groups = {i: f"artist {int(i) // 3}" for i in ids}
    folds = grouped_folds(ids, np.arange(200) % 4, groups)
    for split in k_fold_splits(folds):
        split.check(ids, groups)


@pytest.mark.parametrize("name", ["synthetic-tags", "synthetic-keys", "synthetic-pitch", "synthetic-instrument"])
def test_synthetic_tasks_hold_no_leak(name: str) -> None:
    data = create_task(name).load()
    data.check()
    assert data.groups is not None
    for scheme in ("mir_ref", "strict"):
        for split in data.splits(scheme):
            split.check([clip.id for clip in data.clips], data.groups)
            # the same audio under two ids would be a leak too
            digest = {clip.id: clip.digest for clip in data.clips}
            assert not {digest[i] for i in split.train} & {digest[i] for i in split.test}
    with pytest.raises(ValueError, match="no splits 'nonsense'"):
        data.splits("nonsense")


def test_targets_follow_label_names() -> None:
    data = create_task("synthetic-keys").load()
    for row in (0, 17, 101):
        assert data.info.labels[data.targets[row]] == data.clips[row].labels["key"]
    tags = create_task("synthetic-tags").load()
    for row in (0, 50):
        chosen = {tags.info.labels[i] for i in np.flatnonzero(tags.targets[row])}
        assert chosen == set(tags.clips[row].labels["tags"]) & set(tags.info.labels)


def test_names() -> None:
    assert {"magnatagatune", "beatport", "tinysol-pitch", "tinysol-instrument"} <= set(list_tasks())
    with pytest.raises(UnknownNameError, match="did you mean 'tinysol-pitch'"):
        create_task("tinysol-pich")


def test_no_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("M2L_DATA", raising=False)
    with pytest.raises(DataNotFoundError, match="M2L_DATA is not set"):
        create_task("tinysol-pitch").load()
    monkeypatch.setenv("M2L_DATA", str(tmp_path))
    for name, source in (("tinysol-pitch", "Zenodo"), ("beatport", "Zenodo"), ("magnatagatune", "mirg")):
        with pytest.raises(DataNotFoundError, match=source):
            create_task(name).load()


# ---- loaders on fixture trees ----------------------------------------------------------------------


def tone(path: Path, seconds: float = 0.1, rate: int = 16000) -> str:
    """Write a short file; returns its MD5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(int(seconds * rate)) / 7), rate)
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def tinysol(tmp_path: Path) -> Path:
    root = tmp_path / "tinysol"
    rows, index = [], {}
    for number in range(10):
        name, pitch = ("Cello", "Vc"), ["C#3", "D4"][number % 2]
        path = f"Strings/Cello/ordinario/{name[1]}-ord-{pitch}-mf-{number}c-N.wav"
        md5 = tone(root / "audio" / path)
        index[Path(path).stem] = {"audio": [f"audio/{path}", md5]}
        rows.append({"Path": path, "Fold": number % 5, "Instrument (in full)": name[0], "Pitch": pitch})
    with open(root / "TinySOL_metadata.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (root / "tinysol_index_6.0.json").write_text(json.dumps({"version": "6.0", "tracks": index}))
    return root


def test_tinysol_tree(tinysol: Path) -> None:
    data = TinySOLPitch(tinysol, complete=False).load()
    assert [data.info.labels[t] for t in data.targets[:2]] == ["C#", "D"]
    split = data.splits("mir_ref")[0]
    assert (len(split.train), len(split.validation), len(split.test)) == (6, 2, 2)
    assert len(data.splits("strict")) == 5
    audio, rate = data.clips[0].load()
    assert audio.shape == (1, 1600)
    assert rate == 16000
    instruments = TinySOLInstrument(tinysol, complete=False).load()
    assert {instruments.info.labels[t] for t in instruments.targets} == {"Cello"}
    with pytest.raises(TaskDataError, match=r"folds hold .* published are"):
        TinySOLPitch(tinysol).load()


def test_wrong_checksum_is_named(tinysol: Path) -> None:
    data = TinySOLPitch(tinysol, complete=False).load()
    path = next((tinysol / "audio").rglob("*.wav"))
    path.write_bytes(path.read_bytes() + b"x")
    clip = next(clip for clip in data.clips if clip.id == path.stem)
    with pytest.raises(ClipError, match=r"MD5 is .* published is"):
        clip.load()


def test_missing_audio_is_counted_and_named(tinysol: Path) -> None:
    victims = sorted((tinysol / "audio").rglob("*.wav"))[:2]
    for path in victims:
        path.unlink()
    with pytest.raises(DataNotFoundError, match="2 of 10 audio files are missing, the first is"):
        TinySOLPitch(tinysol, complete=False).load()


def test_unknown_label_is_named(tinysol: Path) -> None:
    table = tinysol / "TinySOL_metadata.csv"
    table.write_text(table.read_text().replace("Cello,", "Theremin,", 1).replace("/Theremin,", "/Cello,"))
    with pytest.raises(TaskDataError, match="unknown label 'Theremin'"):
        TinySOLInstrument(tinysol, complete=False).load()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("C minor", "C minor"),
        ("Bb major", "A# major"),
        ("F# minor\n", "F# minor"),
        ("C# major ", None),
        ("A minor | C major", None),
        ("F other", None),
        ("X", None),
        ("unknown", None),
    ],
)
def test_key_labels_as_mir_ref_reads_them(text: str, key: str | None) -> None:
    assert parse_label(text) == key


@pytest.fixture
def beatport(tmp_path: Path) -> Path:
    root = tmp_path / "beatport_key"
    index: dict[str, Any] = {}
    names = ["100 A - x (Original Mix)", "101 B - y (Original Mix)", "102 A, C - z (Mix)", "103 D - q (Mix)"]
    texts = ["C minor", "Eb major", "A minor | C major", "G minor"]
    for number, (name, text) in enumerate(zip(names, texts, strict=True), start=1):
        audio = root / "audio" / f"{name}.wav"
        md5 = tone(audio)
        label = root / "keys" / f"{name}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text(text)
        key_md5 = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        index[str(number)] = {"audio": [f"audio/{audio.name}", md5], "key": [f"keys/{label.name}", key_md5]}
    (root / "beatport_key_index_1.0.0.json").write_text(json.dumps({"version": "1.0.0", "tracks": index}))
    return root


def test_beatport_tree(beatport: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.tasks.beatport.grouped_folds", lambda ids, *_: dict.fromkeys(ids, 0))
    data = Beatport(beatport, complete=False).load()
    assert {clip.id: KEYS[t] for clip, t in zip(data.clips, data.targets, strict=True)} == {
        "1": "C minor",
        "2": "D# major",
        "4": "G minor",
    }
    with pytest.raises(TaskDataError, match="the stored table has 1272"):
        Beatport(beatport).load()
    label = next((beatport / "keys").glob("101*"))
    label.write_text("E major")
    with pytest.raises(TaskDataError, match=r"MD5 is .* published is"):
        Beatport(beatport, complete=False).load()


def test_artists_and_duplicates_form_groups() -> None:
    groups = artist_groups(
        {
            "1": ("audio/1 Ann - One (Original Mix).mp3", "a"),
            "2": ("audio/2 Ann, Bob - Two (Dub).mp3", "b"),
            "3": ("audio/3 Bob - Three (Mix).mp3", "c"),
            "4": ("audio/4 Eve - Four (Mix).mp3", "d"),
            "5": ("audio/5 Zoe - Five (Mix).mp3", "d"),
            "6": ("audio/6 Kim - Six (Mix).mp3", "e"),
        }
    )
    assert groups["1"] == groups["2"] == groups["3"]
    assert groups["4"] == groups["5"]
    assert len(set(groups.values())) == 3


def annotations(root: Path, rows: list[tuple[int, str, set[str]]]) -> None:
    tags = sorted(mtt.stored()["tags"])
    with open(root / "annotations_final.csv", "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL)
        writer.writerow(["clip_id", "a tag beyond the fifty", *reversed(tags), "mp3_path"])
        for clip_id, path, chosen in rows:
            row = [int(tag in chosen) for tag in reversed(tags)]
            writer.writerow([clip_id, 1, *row, path])


def test_magnatagatune_rule_and_label_binding(tmp_path: Path) -> None:
    everything = set(mtt.stored()["tags"])
    rows = [
        (2, "f/eve-album-01-x-0-29.mp3", {"guitar"}),
        (39, "0/ann-album-01-x-0-29.mp3", everything),
        (40, "0/eve-album-02-x-0-29.mp3", {"rock"}),
        (14, "c/bob-album-01-x-0-29.mp3", {"sitar", "flute"}),
        (50, "b/ann-album-03-x-0-29.mp3", set()),
        (55753, "9/ann-album-04-x-0-29.mp3", {"guitar"}),
    ]
    annotations(tmp_path, rows)
    data = mtt.MagnaTagATune(tmp_path, audio=False, complete=False).load()
    (won,) = data.splits("mir_ref")
    assert (won.train, won.validation, won.test) == (("39", "40"), ("14",), ("2",))
    (everyone,) = data.splits("all-clips")
    assert everyone.train == ("39", "40", "50")
    (disjoint,) = data.splits("strict")
    assert disjoint.train == ("39",), "an artist of the test part must not train"
    row = data.row["14"]
    assert {data.info.labels[i] for i in np.flatnonzero(data.targets[row])} == {"sitar", "flute"}
    with pytest.raises(DataNotFoundError, match="5 of 5 audio files are missing"):
        mtt.MagnaTagATune(tmp_path, complete=False).load()
    with pytest.raises(TaskDataError, match="published are"):
        mtt.MagnaTagATune(tmp_path, audio=False).load()


def test_magnatagatune_full_size_is_checked_against_the_stored_list(tmp_path: Path) -> None:
    """A table with the stored clips, three short ones and the zero-tag ones passes; one clip off does not."""
    table = mtt.stored()
    folder = {"train": "0", "validation": "c", "test": "d"}
    everything = set(table["tags"])
    used = {i for ids in table["ids"].values() for i in ids}
    free = iter(sorted(set(range(1, 59000)) - used - mtt.CORRUPT))
    rows: list[tuple[int, str, set[str]]] = []
    for part, ids in table["ids"].items():
        rows += [(i, f"{folder[part]}/{part}-a-0{i}.mp3", everything if n < 2 else {"rock"}) for n, i in enumerate(ids)]
    rows += [(next(free), "1/train-short.mp3", {"rock"}) for _ in range(3)]
    for part, count in mtt.ALL_COUNTS.items():
        missing = count - table["won_counts"][part]
        rows += [(next(free), f"{folder[part]}/{part}-none.mp3", set()) for _ in range(missing)]
    annotations(tmp_path, rows)
    data = mtt.MagnaTagATune(tmp_path, audio=False).load()
    (won,) = data.splits("mir_ref")
    assert (len(won.train), len(won.validation), len(won.test)) == (15247, 1529, 4332)
    wrong = replace(won, test=(*won.test[1:], "58999"))
    with pytest.raises(TaskDataError, match="test: 1 clips of the stored list are absent, 1 are new"):
        mtt.check_published(wrong)


def test_missing_tag_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "annotations_final.csv").write_text("clip_id\tguitar\tmp3_path\n1\t1\t0/a.mp3\n")
    with pytest.raises(TaskDataError, match="no column 'ambient'"):
        mtt.MagnaTagATune(tmp_path, audio=False).load()


# ---- the published tables themselves ---------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.skipif("M2L_DATA" not in os.environ, reason="M2L_DATA is not set")
def test_published_metadata() -> None:
    pitch = create_task("tinysol-pitch", audio=False).load()
    split = pitch.splits("mir_ref")[0]
    assert (len(split.train), len(split.validation), len(split.test)) == (1748, 583, 582)
    assert [len(s.validation) for s in pitch.splits("strict")] == [583, 582, 583, 582, 583]
    counts = dict(zip(pitch.info.labels, np.bincount(pitch.targets), strict=True))
    assert (counts["A"], counts["C"], counts["G#"]) == (243, 254, 237)
    instrument = create_task("tinysol-instrument", audio=False).load()
    assert np.bincount(instrument.targets)[0] == 689
    keys = create_task("beatport", audio=False).load()
    split = keys.splits("mir_ref")[0]
    assert (len(split.train), len(split.validation), len(split.test)) == (1017, 127, 128)
    assert len(keys.splits("strict")) == 5


@pytest.mark.shared
@pytest.mark.skipif("M2L_DATA" not in os.environ, reason="M2L_DATA is not set")
def test_open_notes_strict_folds_keep_a_note_on_one_side() -> None:
    data = create_task("open-pitch").load()
    assert len(data.clips) == 1743
    assert data.groups is not None
    for split in data.splits("strict"):
        split.check([clip.id for clip in data.clips], data.groups)
