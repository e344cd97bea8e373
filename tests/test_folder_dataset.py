"""Folders as data sets: links followed, nothing left out or cut short in silence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from harness_helpers import tiny_toml, write_clips
from test_audio_streams import flac_claiming, made

from benchmarks.cli.main import main
from benchmarks.datasets import ClipError, create_dataset
from benchmarks.datasets.audio_files import AUDIO_SUFFIXES, audio_info, read_excerpt
from m2l.io.blocks import read_audio
from m2l.io.sound import FORMATS
from m2l.training.data import open_corpus


def table(folder: Path, clips: Path, *options: str) -> tuple[int, dict, str]:
    """Exit code, Table 2 as JSON, and Table 2 as Markdown."""
    toml = tiny_toml(folder, clips)
    toml.write_text(toml.read_text().replace(', "noise-20db", "opus-16k"', ""))
    results = folder / "results"
    arguments = ["tables", "--suite", toml, "--store", folder / "store", "--results", results]
    code = main([*map(str, arguments), "--only", "2", "--executor", "serial", "--quiet", *options])
    made = results / "tiny"
    return code, json.loads((made / "table2.json").read_text()), (made / "table2.md").read_text()


def test_links_are_followed_and_what_is_left_out_is_counted(tmp_path, capsys) -> None:
    write_clips(tmp_path / "elsewhere" / "artist", 2)
    write_clips(tmp_path / "clips", 1)
    (tmp_path / "clips" / "linked").symlink_to(tmp_path / "elsewhere" / "artist")
    (tmp_path / "clips" / "loop").symlink_to(tmp_path / "clips")
    (tmp_path / "clips" / "song.m4a").write_bytes(b"an audio format that is not read")
    (tmp_path / "clips" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "clips" / "cover.jpg").write_bytes(b"no audio")
    os.mkfifo(tmp_path / "clips" / "pipe.wav")
    dataset = create_dataset("folder", path=tmp_path / "clips")
    assert [clip.id for clip in dataset.clips()] == ["clip0.wav", "linked/clip0.wav", "linked/clip1.wav"]
    counts = {reason: len(paths) for reason, paths in dataset.left_out.items()}
    assert sum(counts.values()) == 4
    said = capsys.readouterr().err
    assert said.count("left out") == 1
    for what in ("1 broken link", "1 not a readable format (.m4a)", "pipe or device", "song.m4a"):
        assert what in said
    code, record, shown = table(tmp_path, tmp_path / "clips")
    assert code == 0
    assert record["provenance"]["n_clips"] == 3
    assert "3 of 7 files are clips; left out: " in shown
    assert "1 not a readable format (.m4a)" in record["provenance"]["coverage"]
    flat = create_dataset("folder", path=tmp_path / "clips", recursive=False)
    assert [clip.id for clip in flat.clips()] == ["clip0.wav"]


def test_a_folder_without_loss_has_no_line_on_it(tmp_path, capsys) -> None:
    write_clips(tmp_path / "clips", 2)
    dataset = create_dataset("folder", path=tmp_path / "clips")
    assert len(dataset.clips()) == 2
    assert dataset.coverage() is None
    assert not capsys.readouterr().err
    code, _, shown = table(tmp_path, tmp_path / "clips", "--strict")
    assert code == 0
    assert "left out" not in shown.lower()


def test_clips_that_are_cut_short_are_counted_and_never_measured(tmp_path, capsys) -> None:
    clips = tmp_path / "clips"
    write_clips(clips, 2)
    kinds = ("wav", "flac", "mp3", "ogg", "opus", "aiff", "au", "caf", "w64", "rf64")
    for kind in kinds:
        (clips / f"cut.{kind}").write_bytes(made(kind, 2.0)[: -len(made(kind, 2.0)) // 3])
    (clips / "claims.flac").write_bytes(flac_claiming(made("flac"), 2**36 - 1))
    (clips / "streamed.flac").write_bytes(flac_claiming(made("flac"), 0))
    (clips / "joined.ogg").write_bytes(made("ogg") + made("ogg", 0.5, 1))
    code, record, shown = table(tmp_path, clips, "--strict")
    assert code == 1
    (row,) = [row for row in record["rows"] if row["name"] == "identity"]
    (cell,) = [cell for cell in row["cells"].values() if cell["failures"]]
    assert cell["failures"] == {"unreadable: the file: cut short": len(kinds) + 1}
    assert cell["n"] == 4
    assert f"{len(kinds) + 1} x unreadable: the file: cut short" in shown
    for name in ("cut.mp3", "claims.flac"):
        (clip,) = [clip for clip in create_dataset("folder", path=clips).clips() if clip.id == name]
        with pytest.raises(ClipError, match=r"cut short \(its header announces \d+ samples, but"):
            clip.load()


def test_excerpts_of_a_cut_file_are_refused_as_well(tmp_path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(made("flac", 2.0)[:-9_000])
    with pytest.raises(ClipError, match="cut short"):
        read_excerpt(path, 0.0, 0.1)
    with pytest.raises(ClipError, match="cut short"):
        audio_info(path)


def test_data_sets_read_what_the_command_line_and_training_read(tmp_path) -> None:
    assert set(AUDIO_SUFFIXES) == set(FORMATS)
    path = tmp_path / "joined.opus"
    path.write_bytes(made("opus") + made("opus", 0.5, 1))
    whole, rate = read_audio(path)
    assert np.array_equal(read_excerpt(path)[0], whole)
    assert np.array_equal(read_excerpt(path, 0.9, 0.3)[0], read_audio(path, round(0.9 * rate), round(0.3 * rate))[0])
    assert audio_info(path) == (rate, 1, 1.5)
    assert open_corpus(str(path), 1_000).seconds == 1.5
