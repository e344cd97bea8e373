"""The loaders on miniature trees in the published layouts: counts, splits, labels, rates; every loss named."""

from __future__ import annotations

from pathlib import Path

import pytest
from http_helpers import Server
from paper_data import Mini, miniature

from benchmarks.cli.main import main
from benchmarks.datasets import ClipError, DataNotFoundError, create_dataset
from benchmarks.datasets.records import record_path
from benchmarks.datasets.training_corpora import read_tracks
from m2l.training.data import DataError, open_corpus
from probes.tasks.base import FilesMissingError, TaskData, TaskDataError
from probes.tasks.beatport import Beatport
from probes.tasks.magnatagatune import MagnaTagATune
from probes.tasks.tinysol import TinySOLInstrument, TinySOLPitch

pytest_plugins = ["fetch_fixtures"]


def fetched(name: str, mirror: Server, root: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Mini:
    mini = miniature(name, monkeypatch)
    mirror.files.update(mini.served)
    copy = mini.download_by_hand(root / "download")
    assert main(["fetch", name, "--data", str(root), "--from", str(copy), *more]) == 0
    return mini


def labels_of(data: TaskData, part: str) -> set[str]:
    split = data.splits("mir_ref")[0]
    return {data.info.labels[data.targets[row]] for row in data.rows(getattr(split, part))}


def test_tinysol(mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched("tinysol", mirror, tmp_path, monkeypatch)
    data = TinySOLPitch(tmp_path / "tinysol", complete=False).load()
    split = data.splits("mir_ref")[0]
    assert (len(split.train), len(split.validation), len(split.test)) == (6, 2, 2)
    assert len(data.splits("strict")) == 5
    assert labels_of(data, "train") == {"C#", "D"}
    assert {clip.load()[1] for clip in data.clips} == {44100}
    instruments = TinySOLInstrument(tmp_path / "tinysol", complete=False).load()
    assert labels_of(instruments, "train") == {"Cello", "Violin"}
    with pytest.raises(TaskDataError, match=r"folds hold .* published are"):
        TinySOLPitch(tmp_path / "tinysol").load()


def test_beatport(mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched("beatport", mirror, tmp_path, monkeypatch)
    data = Beatport(tmp_path / "beatport_key", complete=False).load()
    labels = [data.info.labels[target] for target in data.targets]
    assert labels == ["C minor", "D# major", "G minor", *["C minor", "D# major"] * 4]
    assert {clip.load()[1] for clip in data.clips} == {44100}
    assert any("é" in clip.source for clip in data.clips)
    with pytest.raises(TaskDataError, match=r"11 tracks have a single key, the stored table has 1272"):
        Beatport(tmp_path / "beatport_key").load()


def test_magnatagatune(mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched("magnatagatune", mirror, tmp_path, monkeypatch)
    data = MagnaTagATune(tmp_path / "magnatagatune", complete=False).load()
    won, everything = data.splits("mir_ref")[0], data.splits("all-clips")[0]
    # folders 0-b, c, d-f; clip 2 has none of the 50 tags; the three damaged clips are left out
    assert (won.train, won.validation, won.test) == (("1", "3"), ("4",), ("5", "6"))
    assert everything.train == ("1", "2", "3")
    assert data.splits("strict")[0].train == ("3",)  # artist_a is tested
    assert data.targets.sum(axis=1).tolist() == [50, 0, 50, 1, 1, 1]
    assert {clip.load()[1] for clip in data.clips} == {16000}
    with pytest.raises(TaskDataError, match="published are"):
        MagnaTagATune(tmp_path / "magnatagatune").load()


def test_mtg_jamendo(mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched("mtg-jamendo", mirror, tmp_path, monkeypatch)
    clips = create_dataset("mtg-jamendo", root=tmp_path).clips()
    assert [clip.id for clip in clips] == ["audio/00/1009600.mp3", "audio/00/7000.mp3", "audio/01/7001.mp3"]
    assert [clip.load()[1] for clip in clips] == [48000, 44100, 44100]  # native rates
    assert all(clip.load()[0].shape[0] == 2 for clip in clips)
    assert clips[0].labels == {
        "track": "track_1", "artist": "artist_1", "album": "album_1", "duration": 41.5,
        "tags": ["genre---rock", "instrument---piano"],
    }  # fmt: skip
    assert clips[0].seconds == 41.5
    excerpt = create_dataset("mtg-jamendo", root=tmp_path, start=0.02, seconds=0.05).clips()
    assert excerpt[1].load()[0].shape == (2, 2205)
    assert excerpt[1].digest != clips[1].digest


def test_dns4(mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched("dns4", mirror, tmp_path, monkeypatch)
    clips = create_dataset("dns4", root=tmp_path).clips()
    assert [clip.labels["group"] for clip in clips] == ["VocalSet_48kHz_mono", *["read_speech"] * 3]
    assert {clip.load()[1] for clip in clips} == {48000}


@pytest.mark.parametrize("name", ["mtg-jamendo", "dns4"])
def test_corpora_train_by_the_manifest_that_the_fetch_wrote(
    name: str, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    mini = fetched(name, mirror, tmp_path, monkeypatch)
    folder = tmp_path / mini.corpus.folder
    assert f"m2l train --data {folder / 'training.csv'}=1" in capsys.readouterr().err
    corpus = open_corpus(f"{folder / 'training.csv'}=2", crop_samples=2000)
    audio = [path for path in mini.files if path.endswith((".mp3", ".wav"))]
    assert {Path(part.path) for part in corpus.stretches} == {folder / path for path in audio}
    assert {part.sample_rate for part in corpus.stretches} <= {44100, 48000}
    assert corpus.weight == 2
    assert len(open_corpus(str(folder / str(mini.corpus.train)), crop_samples=2000).stretches) == len(audio)
    (folder / audio[0]).unlink()
    with pytest.raises(DataError, match="names a file that is not there"):
        open_corpus(str(folder / "training.csv"), crop_samples=2000)


def test_only_complete_archives_are_listed(mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mini = fetched("dns4", mirror, tmp_path, monkeypatch)
    archive = next(a for a in mini.corpus.archives(tmp_path / "dns4") if "VocalSet" in a.name)
    record_path(tmp_path / "dns4", archive.name).unlink()
    assert len(create_dataset("dns4", root=tmp_path).clips()) == 3
    with pytest.raises(DataNotFoundError, match="m2l-bench fetch dns4"):
        create_dataset("dns4", root=tmp_path / "nowhere").clips()


def test_a_track_table_of_another_shape_is_refused_by_line(tmp_path: Path) -> None:
    table = tmp_path / "raw_30s.tsv"
    table.write_text("TRACK_ID\tPATH\n")
    with pytest.raises(ValueError, match=r"columns are \['TRACK_ID', 'PATH'\]"):
        list(read_tracks(table))
    table.write_text("TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\na\tb\tc\t00/1.mp3\tlong\n")
    with pytest.raises(ValueError, match="line 2: could not convert"):
        list(read_tracks(table))


LOADERS = {
    "tinysol": lambda root: TinySOLPitch(root / "tinysol", complete=False).load(),
    "beatport": lambda root: Beatport(root / "beatport_key", complete=False).load(),
    "magnatagatune": lambda root: MagnaTagATune(root / "magnatagatune", complete=False).load(),
}


@pytest.mark.parametrize("name", LOADERS)
def test_loaders_name_every_missing_file(
    name: str, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = fetched(name, mirror, tmp_path, monkeypatch)
    folder = tmp_path / mini.corpus.folder
    clips = LOADERS[name](tmp_path).clips
    victims = sorted({next(folder.rglob(clip.source)) for clip in clips[:2]})
    for path in victims:
        path.unlink()
    with pytest.raises(FilesMissingError, match=f"2 of {len(clips)} audio files are missing") as error:
        LOADERS[name](tmp_path)
    assert sorted(error.value.missing) == victims


@pytest.mark.parametrize("name", ["tinysol", "beatport", "mtg-jamendo", "dns4"])
def test_wrong_files_are_named(
    name: str, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    mini = fetched(name, mirror, tmp_path, monkeypatch)
    folder = tmp_path / mini.corpus.folder
    if name in LOADERS:
        clip = LOADERS[name](tmp_path).clips[0]
        victim = next(folder.rglob(clip.source))
        victim.write_bytes(victim.read_bytes() + b"x")
        with pytest.raises(ClipError, match=r"MD5 is .* published is") as error:
            clip.load()
        assert victim.name in str(error.value)
    else:
        victim = next(iter(sorted((folder / str(mini.corpus.train)).rglob("*.*"))))
        victim.write_bytes(b"not audio" * 100)
        clip = next(c for c in create_dataset(name, root=tmp_path).clips() if victim.name in c.id)
        with pytest.raises(ClipError, match=victim.name):
            clip.load()
    capsys.readouterr()
    assert main(["fetch", "verify", name, "--data", str(tmp_path)]) == 3
    assert victim.relative_to(folder).as_posix() in capsys.readouterr().err


def test_loaders_find_what_was_fetched_into_the_cache(
    mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = miniature("tinysol", monkeypatch)
    mirror.files.update(mini.served)
    assert main(["fetch", "tinysol"]) == 0
    assert len(TinySOLPitch(complete=False).load().clips) == 10
    monkeypatch.setenv("M2L_DATA", str(tmp_path / "elsewhere"))
    assert len(TinySOLPitch(complete=False).load().clips) == 10
