"""The `m2l` command: round trips, folders that resume, exit codes, and what it refuses to overwrite."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from m2l import Music2Latent, audio_files  # noqa: E402
from m2l.cli.jobs import RECORD_NAME  # noqa: E402
from m2l.cli.main import main  # noqa: E402
from m2l.io.blocks import read_audio, write_audio  # noqa: E402
from m2l.io.latents import LatentsReader, read_latents  # noqa: E402
from m2l.io.sound import audio_info  # noqa: E402

TINY = ["--checkpoint", "random:tiny"]
RATE = 22_050


def tone(path: Path, seconds: float = 0.1, channels: int = 2, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    time_axis = np.arange(round(seconds * rate)) / rate
    write_audio(path, np.tile(0.3 * np.sin(2 * np.pi * 440 * time_axis), (channels, 1)).astype(np.float32), rate)
    return path


@pytest.fixture
def music(tmp_path) -> Path:
    """A folder with a tree, two files of one stem, a non-audio file, a hidden one and a symlink."""
    folder = tmp_path / "music"
    tone(folder / "a.wav", channels=1)
    tone(folder / "a.flac", channels=1)
    tone(folder / "sub" / "ünïcode – 音楽.ogg", rate=48_000)
    (folder / "notes.txt").write_text("no audio")
    tone(folder / ".hidden" / "x.wav")
    (folder / "link.wav").symlink_to(folder / "a.wav")
    return folder


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def outcome(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


# --- single files -------------------------------------------------------------------------------------------


def test_encode_then_decode_gives_what_reconstruct_gives(tmp_path) -> None:
    source = tone(tmp_path / "in.wav")
    assert run("encode", source, "-o", tmp_path / "z.safetensors", *TINY) == 0
    # The latents file is all that decode needs: rate, length, channels, weights.
    assert run("decode", tmp_path / "z.safetensors", "-o", tmp_path / "a.wav", "--seed", 3) == 0
    assert run("reconstruct", source, "-o", tmp_path / "b.wav", "--seed", 3, *TINY) == 0
    decoded, rate = read_audio(tmp_path / "a.wav")
    assert rate == RATE
    assert decoded.shape == read_audio(source)[0].shape
    assert np.array_equal(decoded, read_audio(tmp_path / "b.wav")[0])


def test_the_command_line_computes_what_python_computes(tmp_path) -> None:
    source = tone(tmp_path / "in.wav")
    assert run("encode", source, "-o", tmp_path / "z.safetensors", "--checkpoint", "random:tiny:7") == 0
    model = Music2Latent.from_config("tiny", seed=7)
    audio, rate = read_audio(source)
    latents, info = read_latents(tmp_path / "z.safetensors")
    assert np.array_equal(latents, model.encode(audio, rate))
    assert info.checkpoint == "random:tiny:7"
    assert info.digest == model.digest()
    assert info.source == "in.wav"


def test_seed_steps_and_precision_have_their_effect(tmp_path) -> None:
    source = tone(tmp_path / "in.wav")
    options = {"base": [], "seed": ["--seed", 1], "steps": ["--n-steps", 2], "half": ["--dtype", "bfloat16"]}
    model_folder = tmp_path / "model"
    model = Music2Latent.from_config("tiny")
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # an untrained output layer is zero: precision would not matter
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(model_folder)
    results = {}
    for name, extra in options.items():
        target = tmp_path / f"{name}.wav"
        assert run("reconstruct", source, "-o", target, "--checkpoint", model_folder, *extra) == 0
        results[name] = read_audio(target)[0]
    for name in ("seed", "steps", "half"):
        assert not np.array_equal(results["base"], results[name])
    error = np.linalg.norm(results["half"] - results["base"]) / np.linalg.norm(results["base"])
    assert error < 0.1


def test_bfloat16_latents_belong_to_the_same_checkpoint(tmp_path) -> None:
    source = tone(tmp_path / "in.wav")
    assert run("encode", source, "-o", tmp_path / "z.safetensors", *TINY, "--dtype", "bfloat16") == 0
    assert run("decode", tmp_path / "z.safetensors", "-o", tmp_path / "a.wav") == 0


def test_decode_with_other_weights_is_refused_unless_forced(tmp_path, capsys) -> None:
    tone(tmp_path / "in.wav")
    assert run("encode", tmp_path / "in.wav", "-o", tmp_path / "z.safetensors", *TINY) == 0
    other = ["--checkpoint", "random:tiny:1"]
    assert run("decode", tmp_path / "z.safetensors", "-o", tmp_path / "a.wav", *other) == 1
    assert "other weights" in capsys.readouterr().err
    assert not (tmp_path / "a.wav").exists()
    assert run("decode", tmp_path / "z.safetensors", "-o", tmp_path / "a.wav", *other, "--force") == 0


def test_subtype_and_format(tmp_path) -> None:
    tone(tmp_path / "in.wav")
    assert run("reconstruct", tmp_path / "in.wav", "-o", tmp_path / "a.wav", "--subtype", "PCM_16", *TINY) == 0
    assert audio_info(tmp_path / "a.wav").subtype == "PCM_16"
    assert run("reconstruct", tmp_path / "in.wav", "-o", tmp_path / "out/", "--format", "flac", *TINY) == 0
    assert audio_info(tmp_path / "out" / "in.flac").format == "FLAC"


def test_windows_from_the_command_line(tmp_path, capsys) -> None:
    source = tone(tmp_path / "in.wav", seconds=8, channels=1)
    assert run("encode", source, "-o", tmp_path / "a.safetensors", *TINY, "--window", 7) == 0
    assert run("encode", source, "-o", tmp_path / "b.safetensors", *TINY) == 0
    windowed, whole = read_latents(tmp_path / "a.safetensors")[0], read_latents(tmp_path / "b.safetensors")[0]
    assert windowed.shape == whole.shape
    assert not np.array_equal(windowed, whole)
    assert run("encode", source, "-o", tmp_path / "c.safetensors", *TINY, "--window", 2) == 2
    assert "6.0" in capsys.readouterr().err


# --- folders --------------------------------------------------------------------------------------------------


def test_a_folder_is_converted_as_a_tree_and_nothing_is_lost(music, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert run("encode", music, "-o", out, "--json", *TINY) == 0
    assert outcome(capsys)["counts"] == {"made": 4, "skipped": 0, "failed": 0, "not tried": 0}
    made = sorted(str(path.relative_to(out)) for path in out.rglob("*.safetensors"))
    assert made == sorted(
        ["a.flac.safetensors", "a.wav.safetensors", "link.safetensors", "sub/ünïcode – 音楽.safetensors"]
    )
    assert run("decode", out, "-o", tmp_path / "back", "--format", "flac") == 0
    info = audio_info(tmp_path / "back" / "sub" / "ünïcode – 音楽.flac")
    assert (info.sample_rate, info.channels) == (48_000, 2)
    assert info.frames == audio_info(music / "sub" / "ünïcode – 音楽.ogg").frames


def test_a_second_run_skips_what_is_done_and_redoes_what_changed(music, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    command = ["reconstruct", music, "-o", out, "--json", *TINY]

    def counts(*extra: object) -> dict:
        assert run(*command, *extra) == 0
        return outcome(capsys)["counts"]

    assert counts()["made"] == 4
    stamp = (out / "a.wav.wav").stat().st_mtime_ns
    assert counts()["skipped"] == 4
    assert (out / "a.wav.wav").stat().st_mtime_ns == stamp
    assert counts("--seed", 1)["made"] == 4  # other noise, other result
    assert counts("--seed", 1)["skipped"] == 4
    tone(music / "a.flac", seconds=0.4)  # another source
    (out / "link.wav").unlink()  # a lost output
    (out / "a.wav.wav").write_bytes(b"cut")  # a damaged one
    assert counts("--seed", 1) == {"made": 3, "skipped": 1, "failed": 0, "not tried": 0}
    assert counts("--seed", 1, "--overwrite")["made"] == 4


def test_one_bad_file_does_not_stop_the_others(music, tmp_path, capsys) -> None:
    (music / "broken.wav").write_bytes(b"RIFF0000WAVE")
    assert run("encode", music, "-o", tmp_path / "out", "--json", *TINY) == 1
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["counts"]["made"] == 4
    failed = [one for one in result["files"] if one["status"] == "failed"]
    assert [Path(one["input"]).name for one in failed] == ["broken.wav"]
    assert "broken.wav" in captured.err
    assert "Traceback" not in captured.err


def test_interrupting_keeps_what_is_done_and_leaves_nothing_half_done(music, tmp_path, capsys, monkeypatch) -> None:
    out = tmp_path / "out"
    calls = []
    real = audio_files.reconstruct_file

    def interrupted(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            options["progress"] = lambda done: (_ for _ in ()).throw(KeyboardInterrupt)
        return real(*args, **options)

    monkeypatch.setattr(audio_files, "reconstruct_file", interrupted)
    assert run("reconstruct", music, "-o", out, *TINY) == 130
    assert len(list(out.rglob("*.wav"))) == 2
    assert not list(out.rglob("*.part"))
    monkeypatch.undo()
    capsys.readouterr()
    assert run("reconstruct", music, "-o", out, "--json", *TINY) == 0
    assert outcome(capsys)["counts"] == {"made": 2, "skipped": 2, "failed": 0, "not tried": 0}


def test_a_record_cut_by_a_kill_costs_one_file(music, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert run("encode", music, "-o", out, *TINY) == 0
    record = out / RECORD_NAME
    record.write_bytes(record.read_bytes()[:-30])
    capsys.readouterr()
    assert run("encode", music, "-o", out, "--json", *TINY) == 0
    assert outcome(capsys)["counts"] == {"made": 1, "skipped": 3, "failed": 0, "not tried": 0}
    assert run("encode", music, "-o", out, "--json", *TINY) == 0
    assert outcome(capsys)["counts"]["skipped"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_is_resumed_by_the_same_command(tmp_path, how) -> None:
    folder, out = tmp_path / "music", tmp_path / "out"
    for number in range(6):
        tone(folder / f"{number}.wav", seconds=6)
    command = [sys.executable, "-m", "m2l.cli", "reconstruct", str(folder), "-o", str(out), "--json", *TINY]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(out.glob("*.wav"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(how)
    code = process.wait(60)
    assert code == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("*.wav")}
    assert 2 <= len(done) < 6
    for name in done:
        assert audio_info(out / name).frames == 6 * RATE
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    counts = json.loads(again.stdout)["counts"]
    # The kill may have come between an output and its line in the record.
    assert len(done) - 1 <= counts["skipped"] <= len(done)
    assert counts["made"] == 6 - counts["skipped"]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [".lock", RECORD_NAME, *(f"{n}.wav" for n in range(6))]
    )


# --- refusals and exit codes ------------------------------------------------------------------------------------


def test_nothing_of_the_users_is_overwritten(music, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "link.wav").write_bytes(b"mine")
    assert run("reconstruct", music, "-o", out, *TINY) == 1
    assert (out / "link.wav").read_bytes() == b"mine"
    assert "--overwrite" in capsys.readouterr().err
    before = (music / "a.wav").read_bytes()
    assert run("reconstruct", music, "-o", music, *TINY) == 2
    assert run("reconstruct", music / "a.wav", "-o", music / "a.wav", *TINY) == 2
    assert run("reconstruct", music / "link.wav", "-o", music / "a.wav", *TINY) == 2
    assert (music / "a.wav").read_bytes() == before


def test_outputs_inside_the_input_folder_are_not_read_back(music, capsys) -> None:
    for expected in ("made", "skipped"):
        assert run("reconstruct", music, "-o", music / "out", "--json", *TINY) == 0
        assert outcome(capsys)["counts"][expected] == 4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["encode", "IN", "-o", "z.safetensors", "--checkpoint", "random:mni"], 2, "mini"),
        (["encode", "IN", "-o", "z.safetensors", "--checkpoint", "random:tiny:-1"], 2, "seed"),
        (["encode", "IN", "-o", "z.safetensors", "--checkpoint", "no-such-thing"], 3, "no-such-thing"),
        (
            ["encode", "IN", "-o", "z.safetensors", "--checkpoint", "SonyCSLParis/music2latent"],
            3,
            "m2l-bench fetch music2latent",
        ),
        (["encode", "nowhere.wav", "-o", "z.safetensors", *TINY], 3, "nowhere.wav"),
        (["encode", "EMPTY", "-o", "out", *TINY], 3, "no audio files"),
        (["decode", "EMPTY", "-o", "out"], 3, "no latents files"),
        (["encode", "IN", "-o", "z.npy", *TINY], 2, ".npy"),
        (["reconstruct", "IN", "-o", "out.xyz", *TINY], 2, ".xyz"),
        (["reconstruct", "IN", "-o", "out.wav", "--subtype", "PCM_99", *TINY], 2, "PCM_99"),
        (["reconstruct", "IN", "-o", "out.wav", "--n-steps", "0", *TINY], 2, "n-steps"),
        (["reconstruct", "IN", "-o", "out.wav", "--seed", "-1", *TINY], 2, "seed"),
        (["reconstruct", "IN", "-o", "out.wav", "--dtype", "int8", *TINY], 2, "int8"),
        (["reconstruct", "IN", "-o", "out.wav", "--device", "cuda:99", *TINY], 2, "cuda:99"),
        (["reconstruct", "IN", "-o", "out.wav", "--window", "nan", *TINY], 2, "window"),
        (["encode", "IN"], 2, "--output"),
        (["transmogrify"], 2, "transmogrify"),
        ([], 2, "COMMAND"),
        (["info", "nowhere.wav"], 3, "nowhere.wav"),
        (["info", "random:nope"], 2, "nope"),
    ],
)
def test_exit_codes_and_messages(tmp_path, monkeypatch, capsys, arguments, code, message) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / "empty").mkdir()
    names = {"IN": str(tone(tmp_path / "in.wav")), "EMPTY": str(tmp_path / "empty")}
    monkeypatch.chdir(tmp_path)
    assert run(*[names.get(word, word) for word in arguments]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert not captured.out
    assert "Traceback" not in captured.err
    assert sorted(os.listdir(tmp_path)) == ["empty", "in.wav"]


def test_info_tells_checkpoints_latents_and_audio_apart(tmp_path, capsys) -> None:
    source = tone(tmp_path / "in.wav")
    assert run("encode", source, "-o", tmp_path / "z.safetensors", *TINY) == 0
    model = Music2Latent.from_config("tiny")
    model.save_pretrained(tmp_path / "model")
    capsys.readouterr()
    targets = [tmp_path / "model", tmp_path / "model" / "model.safetensors", tmp_path / "z.safetensors", source]
    assert run("info", *targets, "--json") == 0
    folder, file, latents, audio = outcome(capsys)
    assert folder["kind"] == file["kind"] == "checkpoint"
    assert folder["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert folder["digest"] == file["digest"] == latents["digest"] == model.digest()
    assert latents["kind"] == "latents"
    assert (latents["sample_rate"], latents["channels"], latents["samples"]) == (RATE, 2, round(0.1 * RATE))
    assert audio["kind"] == "audio"
    assert audio["duration"] == pytest.approx(0.1)
    assert run("info", tmp_path / "z.safetensors") == 0
    assert "random:tiny" in capsys.readouterr().out


def test_decode_finds_a_checkpoint_by_its_path_from_anywhere(tmp_path, monkeypatch) -> None:
    tone(tmp_path / "in.wav")
    Music2Latent.from_config("tiny").save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert run("encode", "in.wav", "-o", "z.safetensors", "--checkpoint", "model") == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run("decode", tmp_path / "z.safetensors", "-o", "out.wav") == 0
    with LatentsReader(tmp_path / "z.safetensors") as reader:
        assert reader.info.checkpoint == str(tmp_path / "model")


def test_missing_weights_of_one_latents_file_do_not_stop_the_others(tmp_path, capsys) -> None:
    for name, checkpoint in (("a", tmp_path / "model"), ("b", "random:tiny")):
        Music2Latent.from_config("tiny").save_pretrained(tmp_path / "model")
        tone(tmp_path / f"{name}.wav")
        target = tmp_path / "z" / f"{name}.safetensors"
        target.parent.mkdir(exist_ok=True)
        assert run("encode", tmp_path / f"{name}.wav", "-o", target, "--checkpoint", checkpoint) == 0
    shutil.rmtree(tmp_path / "model")
    assert run("decode", tmp_path / "z", "-o", tmp_path / "out") == 1
    assert str(tmp_path / "model") in capsys.readouterr().err
    assert (tmp_path / "out" / "b.wav").exists()
    assert run("decode", tmp_path / "z" / "a.safetensors", "-o", tmp_path / "a2.wav") == 3


def test_help_does_not_load_torch_nor_name_modules() -> None:
    commands = ["encode", "decode", "reconstruct", "info", "train", "export", "completion"]
    code = (
        "import sys\n"
        "from m2l.cli.main import main\n"
        f"for words in [[], *([name] for name in {commands})]:\n"
        "    assert main([*words, '--help']) == 0\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"usage: m2l {name}" in done.stdout for name in commands)
    assert "\x1b" not in done.stdout
    assert "m2l." not in done.stdout.replace("-m -- m2l.cli train", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str, capsys) -> None:
    assert run("completion", shell) == 0
    assert "encode" in capsys.readouterr().out
