"""Tasks of the literature on miniature trees in their published layouts, tables of labels, and copies by --from."""

from __future__ import annotations

import csv
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.cli.main import main
from benchmarks.datasets.base import DataNotFoundError
from benchmarks.fetch.command import available
from benchmarks.fetch.corpora.copies import COPIES
from probes.metrics import KEYS
from probes.tasks import create_task, list_tasks
from probes.tasks.base import TaskDataError
from probes.tasks.folder import FolderTask
from probes.tasks.label_tables import key_name, read_table
from probes.tasks.published import held_out

GENRES = ("blues", "rock")


def sound(path: Path, hz: float = 440.0, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(2 * np.pi * hz * np.arange(rate // 4) / rate)
    soundfile.write(path, tone, rate, format="WAV")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def giantsteps(folder: Path) -> None:
    mtg, test = folder / "giantsteps-mtg-key-dataset", folder / "giantsteps-key-dataset"
    lines = ["ID\tMANUAL KEY\tC"]
    for number, key in enumerate([*KEYS] * 6):
        lines.append(f"{number}\t{key}\t2")
        sound(mtg / "audio" / f"{number}.LOFI.wav")
    lines += ["900\tC minor\t1", "901\tC minor / C major\t2"]
    write(mtg / "annotations" / "annotations.txt", "\n".join(lines) + "\n")
    for number, key in ((7, "Bb major"), (8, "E minor")):
        write(test / "annotations" / "key" / f"{number}.LOFI.key", key)
        sound(test / "audio" / f"{number}.LOFI.wav")


def nsynth(folder: Path) -> None:
    for split, instrument in (("train", "000"), ("valid", "001"), ("test", "002")):
        notes = {}
        for pitch in (60, 61):
            for family in ("bass", "flute"):
                name = f"{family}_acoustic_{instrument}-{pitch:03d}-100"
                about = {"pitch": pitch, "instrument_family_str": family, "qualities": [0, 1]}
                notes[name] = about | {"instrument_str": f"{family}_acoustic_{instrument}"}
                sound(folder / f"nsynth-{split}" / "audio" / f"{name}.wav")
        write(folder / f"nsynth-{split}" / "examples.json", json.dumps(notes))


def gtzan(folder: Path) -> None:
    for split, numbers in (("train", (0, 1)), ("valid", (2,)), ("test", (3, 4))):
        names = [f"{genre}/{genre}.{number:05d}.wav" for genre in GENRES for number in numbers]
        write(folder / f"{split}_filtered.txt", "\n".join(names) + "\n")
        for name in names:  # as the original archive has it
            sound((folder / "genres" / name).with_suffix(".au"))
    sound(folder / "genres" / "rock" / "rock.00099.au")  # a fault


def emo(folder: Path) -> None:
    head = ["song_id", "file_name", "Artist", "Song title", "start of the segment (min.sec)"]
    head += ["end of the segment (min.sec)", "Genre", "Mediaeval 2013 set"]
    songs, values = [head], [["song_id", "mean_arousal", "std_arousal", "mean_valence", "std_valence"]]
    for number in range(2, 62):
        part = "evaluation" if number % 5 == 0 else "development"
        songs.append([str(number), f"{number}.mp3", f"\tArtist {number % 29}\t", "Title", "0.15", "1.0", "Pop", part])
        values.append([str(number), f"{1 + number / 10}", "1", f"{7 - number / 10}", "1"])
        sound(folder / "clips_45seconds" / f"{number}.wav")
    songs.append(["99", "99.mp3", "Nobody", "A duplicate without values", "0.15", "1.0", "Pop", "development"])
    for name, rows in (("songs_info.csv", songs), ("static_annotations.csv", values)):
        (folder / "annotations").mkdir(exist_ok=True)
        with open(folder / "annotations" / name, "w", newline="") as file:
            csv.writer(file).writerows(rows)


def jamendo(folder: Path) -> None:
    for subset in ("top50tags", "instrument", "moodtheme"):
        for part, artists in (("train", (1, 2)), ("validation", (3,)), ("test", (4, 5))):
            lines = ["TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"]
            for artist in artists:
                for number, tags in enumerate((["a---x"], ["a---x", "b---y"], ["b---y"])):
                    track = 10 * artist + number
                    path = f"{track % 100:02d}/{track}.mp3"
                    cells = [f"track_{track:07d}", f"artist_{artist:06d}", "album_1", path, "240.1", *tags]
                    lines.append("\t".join(cells))
                    suffix = ".low.mp3" if artist == 5 else ".mp3"
                    sound(folder / ("audio-low" if artist == 5 else "audio") / path.replace(".mp3", suffix))
            write(folder / "data" / "splits" / "split-0" / f"autotagging_{subset}-{part}.tsv", "\n".join(lines))


#: Task -> (what writes the tree, folder, kind, labels or their number, clips of each part, what groups are).
TASKS: dict[str, tuple[Callable[[Path], None], str, str, Any, tuple[int, ...], str]] = {
    "giantsteps-key": (giantsteps, "giantsteps", "key", KEYS, (120, 24, 2), "files"),
    "nsynth-pitch": (nsynth, "nsynth", "multiclass", ("060", "061"), (4, 4, 4), "instruments"),
    "nsynth-instrument": (nsynth, "nsynth", "multiclass", ("bass", "flute"), (4, 4, 4), "instruments"),
    "gtzan": (gtzan, "gtzan", "multiclass", GENRES, (4, 2, 4), "files"),
    "emo-arousal": (emo, "emomusic", "regression", ("mean_arousal",), (44, 4, 12), "artists"),
    "emo-valence": (emo, "emomusic", "regression", ("mean_valence",), (44, 4, 12), "artists"),
    "jamendo-top50": (jamendo, "mtg-jamendo", "multilabel", ("a---x", "b---y"), (6, 3, 6), "artists"),
    "jamendo-instrument": (jamendo, "mtg-jamendo", "multilabel", ("a---x", "b---y"), (6, 3, 6), "artists"),
    "jamendo-mood": (jamendo, "mtg-jamendo", "multilabel", ("a---x", "b---y"), (6, 3, 6), "artists"),
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for make, folder in {(row[0], row[1]) for row in TASKS.values()}:
        (root / folder).mkdir()
        make(root / folder)
    return root


@pytest.mark.parametrize("name", TASKS)
def test_a_miniature_in_published_layout(name: str, trees: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, kind, labels, sizes, groups = TASKS[name]
    monkeypatch.setenv("M2L_DATA", str(trees))
    data = create_task(name, complete=False).load()
    assert (data.info.name, data.info.kind, data.info.labels) == (name, kind, labels)
    (split,) = data.splits("mir_ref")
    parts = [split.train, split.validation, split.test]
    if name.startswith(("giantsteps", "emo")):  # validation is a random choice, the same everywhere
        assert sum(map(len, parts)) == sum(sizes)
        assert len(split.test) == sizes[2]
        assert 0 < len(split.validation) < len(split.train) / 2
    else:
        assert tuple(map(len, parts)) == sizes
    assert data.clips[0].load()[0].shape[0] == 1
    assert groups in data.clusters.describe([clip.id for clip in data.clips])
    assert data.splits("strict")
    assert data.info.license and data.info.citation and data.info.source  # noqa: PT018
    # The whole data set is another matter.
    if name.startswith("jamendo"):
        create_task(name).load()
    else:
        with pytest.raises(TaskDataError, match="published are"):
            create_task(name).load()


@pytest.mark.parametrize("name", TASKS)
def test_missing_data_says_where_it_is_published(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2L_DATA", str(tmp_path))
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    task = create_task(name)
    assert task.info.labels in ((), KEYS, ("mean_arousal",), ("mean_valence",))
    with pytest.raises(DataNotFoundError, match="published at"):
        task.load()
    size = task.published  # type: ignore[attr-defined]
    assert size.command == f"m2l-bench fetch {size.data} --from DIR"
    assert size.data in COPIES


def test_targets_follow_the_annotations(trees: Path) -> None:
    data = create_task("giantsteps-key", root=trees / "giantsteps", complete=False).load()
    (split,) = data.splits("mir_ref")
    assert [KEYS[data.targets[data.row[i]]] for i in split.test] == ["A# major", "E minor"]
    values = create_task("emo-valence", root=trees / "emomusic", complete=False).load()
    assert values.targets[values.row["clips_45seconds/12.wav"], 0] == pytest.approx(5.8)
    tags = create_task("jamendo-mood", root=trees / "mtg-jamendo").load()
    assert tags.targets[tags.row["audio/11/11.mp3"]].tolist() == [1, 1]
    assert tags.targets[tags.row["audio-low/50/50.low.mp3"]].tolist() == [1, 0]


def test_artists_that_a_published_split_divides_stay_whole_in_the_strict_one(trees: Path) -> None:
    data = create_task("emo-arousal", root=trees / "emomusic", complete=False).load()
    assert len(data.splits("strict")) == 5
    for split in data.splits("strict"):
        assert data.groups is not None
        assert not {data.groups[i] for i in split.train} & {data.groups[i] for i in split.test}
    assert "divides groups" in data.notes[0]


def test_files_that_are_no_such_data_are_named(trees: Path, tmp_path: Path) -> None:
    write(tmp_path / "data/splits/split-0/autotagging_top50tags-train.tsv", "A\tB\n")
    with pytest.raises(TaskDataError, match="expected TRACK_ID"):
        create_task("jamendo-top50", root=tmp_path).load()
    giantsteps(tmp_path)
    write(tmp_path / "giantsteps-key-dataset/annotations/key/7.LOFI.key", "Bb locrian")
    with pytest.raises(TaskDataError, match=r"7.LOFI.*'Bb locrian' is not one of the 24 keys"):
        create_task("giantsteps-key", root=tmp_path, complete=False).load()


@pytest.mark.shared
def test_the_published_annotations_of_giantsteps_give_the_literatures_count(tmp_path: Path) -> None:
    table = Path(os.environ.get("M2L_DATA", ".")) / "metadata" / "giantsteps_mtg_key_annotations.txt"
    if not table.is_file():
        pytest.skip("M2L_DATA does not name a folder with the annotations")
    giantsteps(tmp_path)
    write(tmp_path / "giantsteps-mtg-key-dataset/annotations/annotations.txt", table.read_text())
    rows = create_task("giantsteps-key", root=tmp_path, complete=False).rows(tmp_path)  # type: ignore[attr-defined]
    parts = Counter(row["split"] for row in rows)
    assert parts["train"] + parts["valid"] == 1159
    assert parts["valid"] == pytest.approx(1159 * 16 / 116, rel=0.15)


# --- tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key"),
    [("Bb major", "A# major"), ("a# Maj", "A# major"), ("Cb minor", "B minor"), ("f♯ min", "F# minor"),
     (" C minor ", "C minor")],
)  # fmt: skip
def test_spellings_of_keys(text: str, key: str) -> None:
    assert key_name(text) == key


@pytest.mark.parametrize("text", ["", "C", "H minor", "C dorian", "C major minor"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(TaskDataError, match="24 keys"):
        key_name(text)


ROWS = [{"file": f"{i}.wav", "tags": ["low", "all"] if i % 2 else ["all"], "split": "train"} for i in range(4)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_every_kind_of_table_gives_the_same_rows(suffix: str, tmp_path: Path) -> None:
    import pandas

    frame = pandas.DataFrame(ROWS)
    path = tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame["tags"] = frame["tags"].map(";".join)
        frame.to_csv(path, sep="," if suffix == ".csv" else "\t", index=False)
    columns, rows = read_table(path)
    assert columns == ["file", "tags", "split"]
    assert rows[1] == {"file": "1.wav", "tags": "low;all", "split": "train"}
    task = FolderTask(path)
    assert (task.kind, task.info.labels) == ("multilabel", ("all", "low"))


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"file,label\n\xff\xfe,a\n")
    with pytest.raises(TaskDataError, match=r"x.csv: not a table"):
        read_table(tmp_path / "x.csv")
    pytest.importorskip("pyarrow")
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(TaskDataError, match=r"x.parquet: not a parquet file"):
        read_table(tmp_path / "x.parquet")


def test_keys_of_a_folder_of_ones_own(tmp_path: Path) -> None:
    lines = ["file,key"]
    for number, key in enumerate([*KEYS] * 10):
        sound(tmp_path / f"{number}.wav")
        lines.append(f"{number}.wav,{key}")
    write(tmp_path / "labels.csv", "\n".join(lines))
    data = create_task(f"folder:{tmp_path}").load()
    assert (data.info.kind, len(data.splits("strict"))) == ("key", 5)
    assert data.info.metrics[0] == "weighted_micro"
    assert data.targets.tolist() == [*range(24)] * 10


# --- copies -----------------------------------------------------------------------------------------------------


def fetch(*words: str) -> int:
    return main(["fetch", *words])


def test_a_copy_is_taken_from_a_folder(
    trees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("M2L_DATA", raising=False)
    assert fetch("gtzan") == 3
    assert "--from DIR" in capsys.readouterr().err
    assert fetch("gtzan", "--from", str(trees)) == 0
    assert "4 parts taken" in capsys.readouterr().out
    assert len(create_task("gtzan", complete=False).load().clips) == 10
    assert fetch("gtzan") == 0  # nothing is missing
    assert "0 parts taken, 4 present" in capsys.readouterr().out
    assert fetch("mtg-jamendo-splits", "--from", str(trees / "mtg-jamendo")) == 0
    assert (tmp_path / "cache/data/mtg-jamendo/data/splits/split-0").is_dir()
    assert fetch("emomusic", "--from", str(trees / "gtzan")) == 3
    assert "annotations is not in the copy" in capsys.readouterr().err


def test_a_copy_is_taken_from_archives(trees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("M2L_DATA", raising=False)
    (tmp_path / "downloads").mkdir()
    for split in ("train", "valid", "test"):
        with tarfile.open(tmp_path / "downloads" / f"nsynth-{split}.jsonwav.tar.gz", "w:gz") as archive:
            archive.add(trees / "nsynth" / f"nsynth-{split}", f"nsynth-{split}")
    assert fetch("nsynth", "--from", str(tmp_path / "downloads")) == 0
    assert len(create_task("nsynth-pitch", complete=False).load().clips) == 12


def test_copies_are_listed_with_license() -> None:
    rows = {row["name"]: row for row in available()}
    for name, copy in COPIES.items():
        assert rows[name]["license"] == copy.license
        assert rows[name]["kind"] == "copy"
    assert set(TASKS) <= set(list_tasks())


def test_a_random_choice_is_the_same_everywhere() -> None:
    assert [name for name in map(str, range(100)) if held_out(name, 10, 1)] == [
        "11",
        "46",
        "70",
        "74",
        "76",
        "78",
        "79",
        "81",
        "92",
    ]
