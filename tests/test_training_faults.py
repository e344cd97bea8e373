"""Faults around a training run: damaged checkpoints and settings, audio that is left out or cannot be read."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_helpers import SMALL, assert_same_run, log_lines, m2l, noise_file, tiny, train, without_checksums

from m2l import CheckpointError
from m2l.audio import AudioError
from m2l.training import SettingsError, Trainer, validation
from m2l.training.checkpoint import check_same_run, list_checkpoints, load_checkpoint, newest_whole, verify_checkpoint
from m2l.training.data import open_corpus

pytest_plugins = ["training_fixtures"]

FILES = ["config.json", "model.safetensors", "training.json", "training.safetensors"]


def flip(path: Path, share: float, bit: int = 0) -> None:
    """Flip one bit at this share of a file."""
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)


# --- damaged checkpoints ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_wherever_it_is(name: str, share: float, run: Path) -> None:
    checkpoint = list_checkpoints(run)[-1]
    assert verify_checkpoint(checkpoint)
    flip(checkpoint / name, share, bit=1)
    if name == "training.json" and share == 1.0:  # the newline at the end, which says nothing
        return
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        verify_checkpoint(checkpoint)
    assert newest_whole(run) == run / "step-00000004"


def test_a_checkpoint_under_another_name_is_not_taken(
    run: Path, data: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "step-00000006").rename(run / "step-00000009")
    trainer = Trainer(tiny(data), run, device="cpu")
    assert trainer.state.step == 4


def test_every_key_of_the_state_is_covered(run: Path) -> None:
    path = list_checkpoints(run)[-1] / "training.json"
    plain = json.loads(path.read_text())
    for change in (
        {"step": 5}, {"recent_losses": plain["recent_losses"][:-1]}, {"unreadable": {"x": 1}}, {"scaler": {"x": 1}},
        {"more": 1}, {"checksums": {}}, {"checksums": None}, {"checksums": 3},
    ):  # fmt: skip
        path.write_text(json.dumps({**plain, **change}))
        with pytest.raises(CheckpointError, match=r"training\.json is damaged"):
            verify_checkpoint(path.parent)
    for text in ("", "[1]", "null", "[" * 100_000, "{"):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"training\.json is damaged"):
            verify_checkpoint(path.parent)


@pytest.mark.parametrize("name", ["config.json", "training.safetensors"])
def test_a_damaged_last_checkpoint_is_named_and_the_one_before_goes_on_to_the_same(
    name: str, run: Path, straight: Path, data: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    flip(run / "step-00000006" / name, 0.6)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert Trainer(tiny(data), run, device="cpu").state.step == 4
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before  # it only looks
    train(tiny(data), run)
    words = capsys.readouterr().err
    assert f"step-00000006/{name} is damaged" in words
    assert "resuming from step 4" in words
    assert words.count("\n") == 1
    assert_same_run(run, straight)
    kept = run / "step-00000006.damaged"
    assert kept.is_dir()
    assert kept not in list_checkpoints(run)


def test_pruning_does_not_count_what_is_damaged(run: Path, data: tuple[str, str]) -> None:
    """Else the damaged one would be the one that is kept."""
    flip(run / "step-00000006" / "training.safetensors", 0.6)
    train(tiny(data), run, until=5, keep=1)
    assert [path.name for path in list_checkpoints(run)] == ["step-00000005"]


def test_nothing_whole_is_an_error_that_names_the_last(
    run: Path, data: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for checkpoint in list_checkpoints(run):
        (checkpoint / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"step-00000006.*model\.safetensors.*, nor from the 2 before it"):
        Trainer(tiny(data), run, device="cpu")
    assert len(list_checkpoints(run)) == 3  # nothing is moved or deleted


def test_checkpoints_without_checksums_go_on_with_a_word(
    run: Path, straight: Path, data: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run / "step-00000006")
    for checkpoint in list_checkpoints(run):
        without_checksums(checkpoint)
        assert not verify_checkpoint(checkpoint)
    train(tiny(data), run)
    assert "step-00000004 has no checksums" in capsys.readouterr().err
    assert_same_run(run, straight)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"steps": "x"}', '{"sede": 1}', "\udcff", "[" * 10_000])
def test_damaged_settings_of_a_run_are_one_line(
    content: str, run: Path, data: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "training.json").write_bytes(content.encode(errors="surrogateescape"))
    capsys.readouterr()
    assert m2l("train", *SMALL, "--data", data[0], "--run", run) == 3
    assert m2l("export", run, "-o", run / "out") == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("m2l: ") and "training.json, the settings of the run" in line for line in lines)


@pytest.mark.parametrize("name", FILES)
def test_export_names_a_damaged_checkpoint_and_the_last_whole_one(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(run / "step-00000006" / name, 0.6)
    assert m2l("export", run, "-o", run / "out", "--crops", 2) == 3
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert f"step-00000006/{name}" in line
    assert line.endswith("the last whole checkpoint is " + str(run / "step-00000004"))
    assert m2l("export", run / "step-00000004", "-o", run / "out", "--crops", 2) == 0


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True])
def test_a_thousand_damaged_files_are_errors_of_one_line_or_nothing(
    old: bool, run: Path, data: tuple[str, str]
) -> None:
    random = np.random.default_rng(0)

    def damaged(content: bytes) -> bytes:
        place, kind = int(random.integers(len(content))), random.integers(4)
        if kind == 0:
            return content[:place]
        if kind == 1:
            return content[:place] + random.bytes(int(random.integers(1, 30))) + content[place + 9 :]
        if kind == 2:  # in a header, where there is one
            place = int(random.integers(min(len(content), 300)))
        new = bytes([content[place] ^ (1 << int(random.integers(8)))])
        return content[:place] + new + content[place + 1 :]

    checkpoint = run / "step-00000006"
    state = Trainer(tiny(data), run, device="cpu").state
    if old:
        without_checksums(checkpoint)
    for name in ("training.json", "training.safetensors", "model.safetensors"):
        whole = (checkpoint / name).read_bytes()
        for _ in range(1000):
            content = damaged(whole)
            (checkpoint / name).write_bytes(content)
            message = ""
            try:
                load_checkpoint(checkpoint, state)
            except CheckpointError as error:
                message = str(error)
            assert "\n" not in message
            # What is taken says the same, such as 1E-5 for 1e-5.
            assert message or old or content == whole or json.loads(content) == json.loads(whole)
        (checkpoint / name).write_bytes(whole)
    settings = (run / "training.json").read_bytes()
    for _ in range(1000):
        (run / "training.json").write_bytes(damaged(settings))
        with suppress(CheckpointError, SettingsError):
            check_same_run(run, tiny(data))


# --- audio that is left out, or cannot be read ----------------------------------------------------------------------


def test_what_a_folder_loses_is_said_counted_and_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "d"
    noise_file(folder / "good.wav")
    noise_file(tmp_path / "elsewhere" / "linked.wav")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    os.mkfifo(folder / "pipe.wav")
    (folder / "song.m4a").write_text("x")
    (folder / "bad.wav").write_text("x" * 100)
    noise_file(folder / "short.wav", seconds=0.01)
    noise_file(folder / "low.wav", rate=22_050)
    expected = {
        "at 22050 Hz (used are 44.1 and 48 kHz)": 1,
        "broken link": 1,
        "link to a folder that it lies in": 1,
        "not a readable format (.m4a)": 1,
        "not a regular file (a pipe or device)": 1,
        "shorter than a crop": 1,
        "unreadable": 1,
    }
    arguments = ["train", *SMALL, "--data", folder, "--run", tmp_path / "run", "--steps", 2]
    assert m2l(*arguments, "--dry-run", "--json") == 0
    captured = capsys.readouterr()
    (corpus,) = json.loads(captured.out)["corpora"]
    assert (corpus["files"], corpus["left_out"]) == (2, expected)
    assert f"m2l: {folder}: 2 of 9 files are used" in captured.err
    assert m2l(*arguments, "--dry-run") == 0
    assert "1 broken link, 1 link to a folder that it lies in" in capsys.readouterr().out
    for until in (1, 2):  # --quiet is about progress
        assert m2l(*arguments, "--until", until) == 0
        assert "1 unreadable" in capsys.readouterr().err
    (note,) = [line for line in log_lines(tmp_path / "run") if "left_out" in line]
    assert note == {"step": 0, "left_out": [{"name": str(folder), "left_out": expected}]}
    assert m2l("export", tmp_path / "run", "-o", tmp_path / "out", "--crops", 2) == 0
    assert json.loads((tmp_path / "out" / "card.json").read_text())["corpora"][0]["left_out"] == expected


def test_a_runs_own_validation_audio_is_no_training_data(data: tuple[str, str], tmp_path: Path) -> None:
    noise_file(tmp_path / "a.wav")
    run = tmp_path / "run"
    noise_file(run / "validation" / "step-00000002" / "00-a.wav")
    corpus = open_corpus(str(tmp_path), 1000, own=run)
    assert [Path(part.path).name for part in corpus.stretches] == ["a.wav"]
    assert corpus.describe()["left_out"] == {"in the run's own folder": 1}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("x" * 300, "File name too long"),
        ("PIPE", "not a regular file"),
        ("LINK", "no training data"),
        ("/dev/zero", "not a regular file"),
        ("song.m4a", "is not a manifest, and .m4a is not a readable audio format"),
        ("list.csv", "names what is not a file"),
        ("wide.csv", "is not a manifest: field larger"),
        ("deep.jsonl", "is not a manifest"),
    ],
)
def test_data_that_is_none_is_one_line(
    spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("PIPE")
    Path("LINK").symlink_to("nowhere")
    Path("song.m4a").write_text("x")
    Path("list.csv").write_text("path\nPIPE\n")
    Path("wide.csv").write_text("path\n" + "x" * 200_000)
    Path("deep.jsonl").write_text("[" * 100_000)
    assert m2l("train", *SMALL, "--data", spec, "--run", "r") == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not Path("r").exists()


def partly_bad(folder: Path, monkeypatch: pytest.MonkeyPatch, good: int) -> str:
    """Some good files, and one that cannot be read beyond its first quarter, which shows in reading alone."""
    from m2l.training import data as module

    for index in range(good):
        noise_file(folder / f"good{index}.flac", seed=index)
    bad, read = noise_file(folder / "zbad.flac", seconds=20.0, seed=9), module.read_audio

    def read_a_part(path: str, start: int, frames: int) -> Any:
        if path == str(bad) and start > 5 * 44_100:
            raise AudioError(f"{path} is damaged after sample {5 * 44_100}: lost sync")
        return read(path, start, frames)

    monkeypatch.setattr(module, "read_audio", read_a_part)
    return str(folder)


def test_bad_audio_is_drawn_again_counted_and_stays_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = tiny((partly_bad(tmp_path / "d", monkeypatch, good=2),), steps=7)
    train(settings, tmp_path / "straight")
    words = capfd.readouterr().err
    assert words.count("no crop at") == words.count("; another place is drawn") == 1  # not at every draw
    assert "draws could not be read" in words.splitlines()[-1]
    lines = log_lines(tmp_path / "straight")
    (named,) = [line for line in lines if "unreadable" in line]
    assert named["unreadable"].endswith("zbad.flac")
    assert "no crop at" in named["reason"]
    count = lines[-1]["unreadable_draws"]
    assert count >= 2
    state = json.loads((tmp_path / "straight" / "step-00000007" / "training.json").read_text())
    assert list(state["unreadable"].values()) == [count]
    train(settings, tmp_path / "resumed", until=3, workers=2)
    train(settings, tmp_path / "resumed", workers=1)
    assert_same_run(tmp_path / "resumed", tmp_path / "straight")


def test_too_much_bad_audio_stops_the_run_with_a_checkpoint_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("m2l.training.stops.JUDGED_FROM", 12)
    folder = partly_bad(tmp_path / "d", monkeypatch, good=1)
    arguments = ["train", *SMALL, "--data", folder, "--run", tmp_path / "run", "--steps", 60]
    assert m2l(*arguments) == 3
    words = capsys.readouterr().err
    assert "m2l: stopped at step" in words
    assert "more than 25% of" in words
    assert "zbad.flac" in words.splitlines()[-1]
    assert "Traceback" not in words
    stopped = list_checkpoints(tmp_path / "run")[-1]
    assert json.loads((tmp_path / "run" / "failure.json").read_text())["checkpoint"] == stopped.name
    monkeypatch.undo()
    assert m2l(*arguments, "--until", int(stopped.name[-8:]) + 1) == 0  # repaired, it goes on from there


def test_a_bad_validation_file_is_left_out_and_counted(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validation, "entry_points", lambda group: [])
    long = f"b{'ä' * 120}.flac"
    for name in ("a.flac", long):
        noise_file(tmp_path / "held" / name, seconds=0.5)
    validate = validation.Validation(str(tmp_path / "held"), tmp_path / "run" / "validation")
    (tmp_path / "held" / "a.flac").write_bytes(b"no audio")
    trainer = train(tiny(data), tmp_path / "run", until=1, validate_every=1, validate=validate)
    assert "a.flac" in capsys.readouterr().err
    (entry,) = [line for line in log_lines(tmp_path / "run") if "validation_si_sdr" in line]
    assert entry["validation_unreadable"] == 1
    (tmp_path / "held" / long).unlink()
    assert validate(trainer.ema.model, 2) == {"validation_unreadable": 2}
