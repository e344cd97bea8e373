"""Ordinary mistakes with `m2l`: one line that names the value and what to do, exit code 2 or 3, never a traceback."""

from __future__ import annotations

import io
import os
import pwd
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from m2l import Music2Latent  # noqa: E402
from m2l.cli.convert import Batch  # noqa: E402
from m2l.cli.jobs import Job  # noqa: E402
from m2l.cli.main import main  # noqa: E402
from m2l.io.blocks import write_audio  # noqa: E402

RATE = 22_050
TINY = ["--checkpoint", "random:tiny"]
LONG = "a" * 300
NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a user: a song, a text, folders of nothing, damaged weights, no caches."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    write_audio("a.wav", np.zeros((1, 3_000), np.float32), RATE)
    for name in ("home", "empty", "bad", "dangling"):
        Path(name).mkdir()
    Path("notes.txt").write_text("no audio")
    Path("file").write_text("no folder")
    Path("bad/model.safetensors").write_bytes(b"\0" * 100)
    Path("broken.pt").write_bytes(b"PK\x03\x04" + bytes(200))
    Path("deep.json").write_text("[" * 100_000)
    Path("dangling/x").symlink_to("nowhere")
    os.mkfifo("pipe.safetensors")
    return tmp_path


#: What is typed, the exit code, and words of the answer: the value that is wrong, and what to do.
MISTAKES = [
    # paths
    ("encode nowhere.wav -o z.safetensors", 3, ["no such file or folder: nowhere.wav"]),
    ("encode '' -o out", 2, ["IN is empty", "current folder is called ."]),
    ("encode a.wav -o ''", 2, ["--output is empty"]),
    ("encode a.wav -o out --checkpoint ''", 2, ["--checkpoint is empty"]),
    ("decode '' -o out", 2, ["IN is empty"]),
    ("info ''", 2, ["is empty"]),
    ("train --data '' --run r", 2, ["--data is empty"]),
    ("train --data a.wav --run ''", 2, ["--run is empty"]),
    ("export '' -o x", 2, ["RUN is empty"]),
    (f"encode {LONG}.wav -o z.safetensors", 3, ["File name too long"]),
    (f"encode a.wav -o {LONG}.safetensors", 2, ["File name too long"]),
    (f"encode a.wav -o {LONG}/", 2, ["File name too long"]),
    (f"info {LONG}", 3, ["no checkpoint at"]),
    (f"encode a.wav -o z.safetensors --checkpoint {LONG}", 3, ["no checkpoint at", "known: Sony"]),
    ("encode a.wav --output=~nosuchuser/x", 2, ["--output '~nosuchuser/x'", "home folder is not known"]),
    ("encode a.wav -o no/z.safetensors", 2, ["no/z.safetensors", "no folder", "make it first"]),
    ("encode a.wav -o file", 2, ["file exists and is not a folder", ".safetensors"]),
    ("encode a.wav notes.txt -o file", 2, ["file exists and is not a folder"]),
    ("encode a.wav -o /dev/null", 2, ["/dev/null exists and is not a folder"]),
    ("encode a.wav -o z.npy", 2, ["unknown suffix '.npy'", ".safetensors"]),
    ("encode empty -o out", 3, ["no audio files in empty"]),
    ("encode dangling -o out", 3, ["no audio files in dangling", "1 broken link"]),
    ("reconstruct a.wav -o a.wav", 2, ["a.wav would replace its own input"]),
    ("encode /dev/zero -o out", 3, ["/dev/zero is a device", "give a file"]),
    # weights
    ("encode a.wav -o out --checkpoint minni", 3, ["'minni'", "did you mean 'mini'?"]),
    ("encode a.wav -o out --checkpoint Mini", 3, ["'Mini'", "did you mean 'mini'?"]),
    ("encode a.wav -o out --checkpoint music2latent", 3, ["did you mean 'SonyCSLParis/music2latent'?"]),
    ("encode a.wav -o out --checkpoint tiny", 3, ["it is a preset", "random:tiny"]),
    ("encode a.wav -o out --checkpoint random:tinny", 2, ["'tinny'", "did you mean 'tiny'"]),
    ("encode a.wav -o out --checkpoint random:tiny:x", 2, ["seed", "'x'"]),
    ("encode a.wav -o out --checkpoint SonyCSLParis/music2latent", 3, ["is not on this machine", "m2l-bench fetch"]),
    ("encode a.wav -o out --checkpoint bad", 3, ["bad/model.safetensors is not"]),
    ("encode a.wav -o out --checkpoint empty", 3, ["empty holds neither model.safetensors nor"]),
    ("encode a.wav -o out --checkpoint broken.pt", 3, ["broken.pt is not a readable checkpoint"]),
    ("encode a.wav -o out --checkpoint notes.txt", 3, ["notes.txt is not a checkpoint", "expected .safetensors"]),
    ("info bad", 3, ["bad/model.safetensors"]),
    ("info notes.txt", 3, ["notes.txt is not a checkpoint, latents file or audio file"]),
    ("decode a.wav -o b.wav", 1, ["a.wav", "not a readable latents file"]),
    # options
    ("encode a.wav -o out --device nope", 2, ["--device", "'nope'"]),
    ("encode a.wav -o out --device meta", 2, ["--device", "'meta'"]),
    ("decode empty -o out --n-steps 0", 2, ["--n-steps: must be 1 … 1000, not 0"]),
    ("decode empty -o out --n-steps many", 2, ["--n-steps", "'many' is not a whole number"]),
    ("reconstruct a.wav -o b.wav --seed 1.5", 2, ["--seed", "'1.5' is not a whole number"]),
    ("encode a.wav -o out --window wide", 2, ["--window", "positive number of seconds, not 'wide'"]),
    ("encode a.wav -o pipe.safetensors", 2, ["pipe.safetensors: it is a pipe"]),
    ("reconstruct a.wav -o b.wav --subtype PCM_99", 2, ["PCM_99", "known:"]),
    ("reconstruct a.wav -o b.wav --window 0.1 --checkpoint random:tiny", 2, ["--window must be at least"]),
    ("encode a.wav -o out --seed 1", 2, ["--seed"]),
    ("encode a.wav -o out --dtyp float16", 2, ["--dtyp", "Did you mean --dtype?"]),
    ("decode a.wav -o out --format wave", 2, ["--format", "\"wave\"", "Did you mean \"wav\"?"]),
    ("encode a.wav", 2, ["--output"]),
    ("encode -o out", 2, ["IN"]),
    ("encod a.wav -o out", 2, ["'encod'", "did you mean 'encode'?"]),
    ("--versio", 2, ["'--versio'", "did you mean '--version'?"]),
    ("", 2, ["COMMAND is needed", "encode"]),
    # training
    ("train --preset nope --data a.wav --run r", 2, ["--preset", "'nope'", "known: "]),
    ("train --preset minni --data a.wav --run r --dry-run", 2, ["did you mean 'mini'"]),
    ("train --data a.wav --run r --device nope", 2, ["--device", "'nope'"]),
    ("train --data a.wav --run r --threads 0", 2, ["--threads: must be at least 1, not 0"]),
    ("train --data a.wav --run r --steps many", 2, ["--steps", "'many'"]),
    ("train --data a.wav --run r --steps 1.5", 2, ["--steps", "'1.5' is not a whole number"]),
    ("train --presett mini", 2, ["'--presett'", "did you mean '--preset'?"]),
    ("train --data a.wav --run r --precision float8", 2, ["--precision", "\"float8\"", "float16"]),
    ("train --run r", 2, ["--data is needed"]),
    ("train --data a.wav", 2, ["--run"]),
    ("export nowhere -o x", 3, ["nowhere holds no complete checkpoint"]),
    ("export empty -o x --metrics deep.json", 3, ["--metrics deep.json"]),
    ("export empty -o x --metrics nowhere.json", 3, ["nowhere.json"]),
    ("export empty -o x --dtype int8", 2, ["\"int8\"", "float16"]),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "code", "words"), MISTAKES, ids=[typed[:60] for typed, *_ in MISTAKES])
def test_a_mistake_is_told_in_a_line(
    typed: str, code: int, words: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(os.listdir(place))
    assert main(shlex.split(typed)) == code
    captured = capsys.readouterr()
    for word in words:
        assert word in captured.err
    assert "Traceback" not in captured.err
    assert captured.err.startswith("m2l: ")
    assert captured.err.count("\n") == 1, captured.err
    assert not captured.out or code == 1
    assert sorted(os.listdir(place)) == before  # nothing was begun


@NO_CUDA
@pytest.mark.parametrize("command", ["encode", "reconstruct", "decode", "train"])
def test_a_device_that_is_not_there_is_told_once(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for name in "abc":
        write_audio(f"in/{name}.wav", np.zeros((1, 3_000), np.float32), RATE)
    assert main(["encode", "in", "-o", "z", *TINY, "--quiet"]) == 0
    capsys.readouterr()
    words = {"train": ["--data", "in", "--run", "r"], "decode": ["z", "-o", "out"]}.get(command, ["in", "-o", "out"])
    assert main([command, *words, "--device", "cuda"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "'cuda'" in captured.err
    assert "cpu always can" in captured.err
    assert not Path("out").exists()
    assert not Path("r").exists()


# --- homes --------------------------------------------------------------------------------------------------------


def test_a_tilde_that_the_shell_left_alone(place: Path) -> None:
    """Shells do not expand it in --output=~/x."""
    assert main(["encode", "a.wav", "--output=~/lat", *TINY, "--quiet"]) == 0
    assert (place / "home" / "lat" / "a.safetensors").exists()
    assert main(["info", "~/lat/a.safetensors"]) == 0
    Music2Latent.from_config("tiny").save_pretrained("home/model")
    assert main(["encode", "~/../a.wav", "-o=~/z.safetensors", "--checkpoint=~/model", "--quiet"]) == 0
    assert not (place / "~").exists()
    write_audio("~odd.wav", np.zeros((1, 3_000), np.float32), RATE)  # a name like any other
    assert main(["encode", "~odd.wav", "-o", "~out", *TINY, "--quiet"]) == 0
    assert (place / "~out" / "~odd.safetensors").exists()


def test_users_without_a_home(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers often run as a number that no user has."""

    def unknown(*_: object) -> None:
        raise KeyError("no such user")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)
    for name in ("HOME", "M2L_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert main(["encode", "a.wav", "-o", "z.safetensors", *TINY, "--quiet"]) == 0
    assert main(["info", "mini"]) == 0
    capsys.readouterr()
    for words, code, message in (
        ("encode a.wav -o out --checkpoint SonyCSLParis/music2latent", 3, "set M2L_CACHE"),
        ("encode a.wav -o ~/out", 2, "the home folder is not known"),
        ("info ~/model", 2, "the home folder is not known"),
    ):
        assert main(words.split()) == code
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


# --- streams and encodings ----------------------------------------------------------------------------------------


def process(*words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """`python -m m2l` in a process of its own, buffered as it is in a shell."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment |= options.pop("env", {})  # type: ignore[operator]
    return subprocess.run(
        [sys.executable, "-m", "m2l", *words], check=False, env=environment, stderr=subprocess.PIPE, **options
    )  # type: ignore[call-overload, no-any-return]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout(place: Path, unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        done = process("info", "a.wav", "--json", stdout=full, env={"PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 3
    assert done.stderr == b"m2l: cannot write to stdout: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_full_disk_behind_stderr_does_not_end_the_work(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert main(["encode", "a.wav", "-o", "out", *TINY]) == 0
        assert main(["encode", "nowhere.wav", "-o", "out", *TINY]) == 3
    assert Path("out/a.safetensors").exists()


def test_a_reader_that_went_away(place: Path) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    done = process("info", "a.wav", stdout=writes)
    os.close(writes)
    assert done.stderr == b""
    assert done.returncode == 3


def test_closed_streams(place: Path) -> None:
    command = f"{sys.executable} -m m2l info nowhere.wav"
    done = subprocess.run(f"{command} 2>&-", shell=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (3, b"")  # what is for stderr does not go to stdout
    done = subprocess.run(f"{command.replace('nowhere', 'a')} >&-", shell=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_names_that_a_terminal_cannot_show(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsencode("ünïcode 音楽-") + b"\xe9.wav"
    os.rename("a.wav", name)
    for words in (["info", os.fsdecode(name)], ["--help"], ["encode", os.fsdecode(name), "-o", "out", *TINY]):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        assert main(words) == 0
        assert streams[0].buffer.getvalue()
    assert os.path.exists(b"out/" + name[:-4] + b".safetensors")


# --- ways to start it, and failures in the middle -----------------------------------------------------------------


@pytest.mark.parametrize(("module", "words", "code"), [("m2l", "decode x -o y", 3), ("m2l.cli", "encode '' -o y", 2)])
def test_exit_codes_of_python_dash_m(place: Path, module: str, words: str, code: int) -> None:
    """A module that runs as __main__ is loaded a second time by those that import it."""
    done = subprocess.run(f"{sys.executable} -m {module} {words}", shell=True, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(b"m2l: ")
    assert done.stderr.count(b"\n") == 1


def test_a_file_that_fails_in_a_new_way_does_not_stop_the_others(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_audio("b.wav", np.zeros((1, 3_000), np.float32), RATE)
    convert = Batch._convert

    def failing(batch: Batch, job: Job, *rest: Any) -> float:
        if job.source.name == "a.wav":
            raise IndexError("list index out of range")
        return convert(batch, job, *rest)

    monkeypatch.setattr(Batch, "_convert", failing)
    assert main(["encode", "a.wav", "b.wav", "-o", "out", *TINY, "--quiet"]) == 1
    assert capsys.readouterr().err == "m2l: a.wav: IndexError: list index out of range\n"
    assert Path("out/b.safetensors").exists()


def test_names_too_long_for_their_outputs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.rename("a.wav", "n" * 250 + ".wav")
    assert main(["encode", ".", "-o", "out", *TINY, "--quiet"]) == 1
    assert "File name too long" in capsys.readouterr().err


def test_sigterm_handlers_are_given_back(place: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    for words in (["info", "a.wav"], ["encode", "", "-o", "out"]):
        main(words)
        assert signal.getsignal(signal.SIGTERM) is before
