"""What `import m2l` offers, how a model presents itself, and how the command lines start and end."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import m2l
from m2l.audio import AudioError
from m2l.cli.main import main
from m2l.cli.plain import styled
from m2l.config import ConfigError

ROOT = Path(__file__).resolve().parent.parent


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=os.environ | environment, cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> m2l.Music2Latent:
    return m2l.load("random:tiny:7")


@pytest.fixture
def song(tmp_path: Path) -> Path:
    audio = 0.3 * np.sin(2 * np.pi * 440 * np.arange(12_000) / 24_000)
    soundfile.write(tmp_path / "song.wav", np.stack([audio, -audio], axis=1), 24_000, subtype="FLOAT")
    return tmp_path / "song.wav"


# --- the package ------------------------------------------------------------------------------------------------


def test_importing_m2l_loads_no_torch_and_shows_only_public_names() -> None:
    done = python("-c", "import sys, m2l; print('torch' in sys.modules, 'numpy' in sys.modules); print(*dir(m2l))")
    loaded, names = done.stdout.splitlines()
    assert loaded == "False False"
    assert set(names.split()) == {"EncoderDecoder", "Music2Latent", "load", "__version__"}
    assert issubclass(m2l.CheckpointError, ValueError)  # not shown, and there


def test_dir_stays_clean_once_names_were_used(tiny) -> None:
    assert tiny is not None  # submodules are attributes of the package by now
    assert set(dir(m2l)) == {*m2l.__all__, "__version__"}
    for name in dir(m2l):
        assert getattr(m2l, name) is not None


def test_load_takes_what_the_option_checkpoint_takes(tmp_path) -> None:
    seeded = m2l.load("random:tiny:7", dtype="bfloat16")
    assert str(seeded.dtype) == "torch.bfloat16"
    assert m2l.load("random:tiny").digest() != m2l.load("random:tiny:7").digest()
    made = m2l.load("random:tiny:7")
    made.save_pretrained(tmp_path / "mine")
    assert m2l.load(tmp_path / "mine").digest() == made.digest()
    with pytest.raises(ConfigError, match=r"2\^63"):
        m2l.load("random:tiny:x")
    with pytest.raises(m2l.WeightsNotFoundError, match="did you mean 'mini'"):
        m2l.load("mimi")


def test_encode_of_the_class_says_how() -> None:
    with pytest.raises(TypeError, match=r"needs a model: m2l\.load\('mini'\)\.encode\('song\.wav'\)"):
        m2l.Music2Latent.encode("song.wav")  # type: ignore[arg-type]


# --- a model ----------------------------------------------------------------------------------------------------


def test_a_model_presents_itself_in_a_few_lines() -> None:
    model = m2l.load("mini")
    text = repr(model)
    assert len(text.splitlines()) <= 6
    for fact in ("mini", "2,742,186 parameters", "64 at 10.77 Hz", "Apache-2.0", model.digest()[:12], "float32 on cpu"):
        assert fact in text
        assert fact in model._repr_html_()


def test_names_are_escaped_in_notebooks(tiny, tmp_path) -> None:
    place = tmp_path / "<b>&mine"
    tiny.save_pretrained(place)
    assert "<b>" not in m2l.load(place)._repr_html_()
    assert "&lt;b&gt;&amp;mine" in m2l.load(place)._repr_html_()


def test_a_license_comes_from_the_card_and_a_damaged_card_is_none(tiny, tmp_path) -> None:
    tiny.save_pretrained(tmp_path)
    (tmp_path / "card.json").write_text('{"license": "MIT"}')
    assert m2l.load(tmp_path).license == "MIT"
    (tmp_path / "card.json").write_text("{")
    assert m2l.load(tmp_path).license == "not stated"
    assert "license" not in repr(tiny)


def test_a_path_stands_for_its_samples_and_rate(tiny, song) -> None:
    samples, rate = soundfile.read(song, dtype="float32")
    assert np.array_equal(tiny.encode(str(song)), tiny.encode(samples.T, rate))
    assert np.array_equal(tiny.features(song), tiny.features(samples.T, rate))
    assert tiny.reconstruct(song).shape == samples.T.shape
    with pytest.raises(AudioError, match="rate of its own"):
        tiny.encode(song, 44_100)
    with pytest.raises(FileNotFoundError):
        tiny.encode(song.with_name("absent.wav"))


# --- the command lines ------------------------------------------------------------------------------------------


def test_encode_says_which_checkpoint_it_used(song, tmp_path, capsys) -> None:
    assert main(["encode", str(song), "-o", str(tmp_path / "z.safetensors")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("m2l: checkpoint mini (Apache-2.0, ")
    assert "a demonstration" in said[0]
    assert "m2l-bench fetch music2latent --accept-license" in said[0]
    own = tmp_path / "own.safetensors"
    assert main(["encode", str(song), "-o", str(own), "--checkpoint", "random:tiny"]) == 0
    assert "demonstration" not in capsys.readouterr().err
    assert main(["encode", str(song), "-o", str(tmp_path / "quiet.safetensors"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_verbose_shows_where_an_unexpected_error_comes_from(song, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("m2l.audio_files.encode_file", lambda *_, **__: [][0])
    command = ["encode", str(song), "-o", str(tmp_path / "z.safetensors"), "--checkpoint", "random:tiny"]
    assert main([*command, "--quiet"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main([*command, "-v"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["m2l", "benchmarks", "probes"])
def test_packages_run_as_modules(package: str) -> None:
    done = python("-m", package, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: m2l")


@pytest.mark.parametrize("package", ["m2l", "benchmarks"])
def test_version_is_that_of_the_package(package: str) -> None:
    assert python("-m", package, "--version").stdout.split()[-1] == m2l.__version__


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_color_is_for_terminals_without_no_color(monkeypatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert styled("m2l:", "red", Terminal()) == "\x1b[31mm2l:\x1b[0m"
    assert styled("m2l:", "red", io.StringIO()) == "m2l:"
    monkeypatch.setenv("NO_COLOR", "1")
    assert styled("m2l:", "red", Terminal()) == "m2l:"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert styled("m2l:", "red", Terminal()) == "m2l:"


@pytest.mark.parametrize(("package", "program"), [("m2l", "m2l"), ("benchmarks", "m2l-bench"), ("probes", "m2l-bench")])
def test_ctrl_c_while_modules_are_imported_is_one_line(package: str, program: str, tmp_path) -> None:
    # cyclopts, which every command line imports first, is one that is interrupted while it is imported.
    # Where a shell runs the tests in the background, they inherit an ignored SIGINT.
    (tmp_path / "cyclopts.py").write_text(
        "import os, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "os.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH")]))
    done = python("-m", package, "--help", PYTHONPATH=path)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == f"{program}: interrupted\n"
