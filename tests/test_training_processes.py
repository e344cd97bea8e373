"""Processes around a training run: readers that die or wait, a second writer, kills; and mistakes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_helpers import SMALL, assert_same_run, children, m2l, tiny, train, wait_for_end, wait_until

from m2l.io.atomic import InUseError, exclusive
from m2l.training import Trainer, readers
from m2l.training.checkpoint import list_checkpoints
from m2l.training.data import DataError, StepOrder
from m2l.training.readers import MAX_DEATHS, reading

pytest_plugins = ["training_fixtures"]

# --- readers ------------------------------------------------------------------------------------------------------


def crops_of(data: tuple[str, ...], tmp_path: Path, **changes: Any) -> tuple[Any, StepOrder]:
    from m2l.training.data import Crops

    trainer = Trainer(tiny(data, **changes), tmp_path / "unused", device="cpu")
    crops = Crops(trainer.corpora, trainer.settings, trainer.state.model.config)
    return crops, StepOrder(trainer.settings, 0)


def test_a_killed_reader_is_started_again_and_nothing_changes(
    data: tuple[str, str], straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    step = Trainer._step

    def kill_a_reader(self: Trainer, parts: Any) -> dict[str, float]:
        if self.state.step == 0:  # one of them is asked for its last batch after this
            for child in children():
                os.kill(child, signal.SIGKILL)
        return step(self, parts)

    monkeypatch.setattr(Trainer, "_step", kill_a_reader)
    train(tiny(data), tmp_path, workers=2)
    assert_same_run(tmp_path, straight)
    words = capfd.readouterr().err
    assert words.count("a process that reads audio died (signal 9); another one takes over") in (1, 2)
    assert "Traceback" not in words
    assert not children()


def test_a_reader_that_always_dies_ends_the_run_with_a_checkpoint(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    train(tiny(data), tmp_path, until=1)
    own = os.getpid()

    def die_in_a_reader(*_: Any) -> Any:
        assert os.getpid() != own
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("m2l.training.data.read_audio", die_in_a_reader)
    with pytest.raises(RuntimeError, match=f"step 1: a process that reads audio died {MAX_DEATHS} times"):
        train(tiny(data), tmp_path, workers=1)
    assert capfd.readouterr().err.count("another one takes over") == MAX_DEATHS - 1
    assert not children()


def test_a_run_that_waits_for_audio_can_be_stopped(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from m2l.training import data as module

    monkeypatch.setattr(readers, "PATIENCE", 0.1)
    monkeypatch.setattr(readers, "PATIENCES", 1000)
    trainer = Trainer(tiny(data), tmp_path, device="cpu", workers=1)
    read, calls, hangs = module.read_audio, [], tmp_path / "hangs"

    def hang(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 4:  # two steps' crops
            hangs.touch()
            time.sleep(1000)
        return read(*arguments)

    def stop() -> None:
        wait_until(lambda: hangs.exists() and trainer.state.step == 2)
        trainer.stop_requested = True

    monkeypatch.setattr(module, "read_audio", hang)
    threading.Thread(target=stop, daemon=True).start()
    assert trainer.train(quiet=True) == 2
    assert list_checkpoints(tmp_path)[-1].name == "step-00000002"
    assert not children()


def test_a_reader_that_gives_no_sign_is_replaced(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """As after a fork in which another thread held a lock: it lives, and never answers."""
    crops, order = crops_of(data, tmp_path)
    with reading(crops, order, 0, lambda: False) as batches:
        expected = next(batches)
    monkeypatch.setattr(readers, "PATIENCE", 0.2)
    own, silent, read, restart = os.getpid(), tmp_path / "silent", readers._read, readers._Reader.restart

    def deadlock(*arguments: Any) -> Any:
        assert os.getpid() != own
        if not silent.exists():
            silent.touch()
            threading.Lock().acquire()
            time.sleep(1000)
        return read(*arguments)

    def patient(*arguments: Any) -> None:  # with the other reader, which is only as slow as the machine
        monkeypatch.setattr(readers, "PATIENCE", 60.0)
        restart(*arguments)

    monkeypatch.setattr(readers, "_read", deadlock)
    monkeypatch.setattr(readers._Reader, "restart", patient)
    with reading(crops, order, 1, lambda: False) as batches:
        wait_until(silent.exists)
        found = next(batches)
    assert torch.equal(found["waveform"], expected["waveform"])
    words = capfd.readouterr().err
    assert words.count("m2l: no audio for 0 s") == 1
    assert words.count("a process that reads audio died (no answer for 1 s); another one takes over") == 1
    assert not children()


def test_a_reader_that_never_gives_a_sign_ends_the_run(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops, order = crops_of(data, tmp_path)
    monkeypatch.setattr(readers, "PATIENCE", 0.05)
    monkeypatch.setattr(readers, "_read", lambda *_: time.sleep(1000))
    with (
        reading(crops, order, 1, lambda: False) as batches,
        pytest.raises(readers.ReaderError, match=rf"died {MAX_DEATHS} times over one batch \(no answer for 0 s"),
    ):
        next(batches)
    assert not children()


def test_a_fault_of_a_reader_is_one_line(data: tuple[str, str], tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError("no room")

    crops, order = crops_of(data, tmp_path)
    monkeypatch.setattr("m2l.training.data.read_audio", fail)
    with reading(crops, order, 1, lambda: False) as batches, pytest.raises(DataError, match=r"^MemoryError: no room$"):
        next(batches)


def test_readers_need_no_dev_shm(data: tuple[str, str], tmp_path: Path) -> None:
    """Containers have 64 MB of it. What readers hand over is not there."""
    before = set(os.listdir("/dev/shm"))
    crops, order = crops_of(data, tmp_path, batch_size=8, steps=8)
    with reading(crops, order, 2, lambda: False) as batches:
        next(batches)
        for child in children():
            maps = Path(f"/proc/{child}/maps").read_text().splitlines()
            used = [line for line in maps if "/dev/shm/" in line and "/dev/shm/sem." not in line]
            assert not used
        assert set(os.listdir("/dev/shm")) <= before


# --- one writer, kills --------------------------------------------------------------------------------------------


def test_a_second_writer_is_refused_in_one_line(
    run: Path, data: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for spec in data for word in ("--data", spec)]
    arguments = ["train", *SMALL, *words, "--run", run / "new", "--steps", 1]
    (run / "new").mkdir()
    with exclusive(run / "new"):
        assert m2l(*arguments) == 2
        assert sorted(path.name for path in (run / "new").iterdir()) == [".lock"]  # nothing was written
    (line,) = capsys.readouterr().err.splitlines()
    assert "is being written to by another process" in line
    assert m2l(*arguments) == 0


def test_whoever_loaded_before_another_went_on_starts_again(run: Path, data: tuple[str, str]) -> None:
    shutil.rmtree(run / "step-00000006")
    late = Trainer(tiny(data), run, device="cpu")
    train(tiny(data), run)
    content = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(InUseError, match="trained by another process in the meantime"):
        late.train(quiet=True)
    assert {path: path.read_bytes() for path in content} == content


def start(arguments: list[object], **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from m2l.cli.main import main; sys.exit(main())", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


def wait_for_lock(running: subprocess.Popen[str], lock: Path) -> None:
    """Until the process has taken the run."""
    wait_until(lambda: running.poll() is not None or (lock.exists() and f"{running.pid} on" in lock.read_text()))


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(data: tuple[str, str], tmp_path: Path) -> None:
    """Of the command as users start it, from its first files to its last; readers, halves and locks go with it."""
    words = [word for spec in data for word in ("--data", spec)]
    run = tmp_path / "run"
    arguments = ["train", *SMALL, *words, "--steps", 240, "--workers", 2, "--checkpoint-every", 1]
    assert m2l(*arguments, "--run", tmp_path / "straight") == 0
    random, kills = np.random.default_rng(0), 0
    while kills < 20:
        running = start([*arguments, "--run", run])
        wait_for_lock(running, run / ".lock")
        time.sleep(float(random.uniform(0, 1.5)))
        inner = children(running.pid) if running.poll() is None else []
        running.kill()
        running.communicate()
        if running.returncode == 0:
            break
        assert running.returncode == -signal.SIGKILL
        kills += 1
        wait_for_end(inner)
    assert kills >= 5
    assert m2l(*arguments, "--run", run) == 0
    assert_same_run(run, tmp_path / "straight")
    assert not list(run.rglob("*.part"))
    assert {path.name for path in run.iterdir()} == {path.name for path in (tmp_path / "straight").iterdir()}


# --- mistakes on the command line ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "nope"], "unknown preset 'nope'"),
        (["--preset", "papr"], "unknown preset 'papr'; did you mean 'paper'?"),
        (["--preset", "nope", "--init", "mini"], "unknown preset 'nope'"),
        (["--preset", "paper", "--precision", "float16"], "float16 needs a CUDA device, not cpu"),
        (["--preset", "paper"], "--precision bfloat16"),
        (["--workers", "-1"], "--workers: must be at least 0, not -1"),
        (["--threads", "0"], "--threads: must be at least 1, not 0"),
        (["--until", "0"], "--until: must be at least 1, not 0"),
        (["--milestone", "-3"], "--milestone: must be at least 1, not -3"),
        (["--run", ""], "--run is empty ('')"),
        (["--device", "gpu"], "device 'gpu' cannot be used"),
        (["--device", "cuda:77"], "device 'cuda:77' cannot be used"),
    ],
)
def test_mistakes_of_train_are_one_line_and_2(
    words: list[str], message: str, data: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--batch-size", "1", "--device", "cpu", "--run", tmp_path / "r", "--data", data[0]]
    assert m2l(*arguments, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("m2l: ")
    assert message in line
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--crops", "0"], 2, "--crops: must be at least 1, not 0"),
        (["-o", ""], 2, "--output is empty ('')"),
        (["--metrics", "LIST"], 3, "it holds no JSON object"),
        (["--metrics", "DEEP"], 3, "DEEP"),
    ],
)
def test_mistakes_of_export_are_one_line(
    words: list[str], code: int, message: str, straight: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("LIST").write_text("[1]")
    Path("DEEP").write_text("[" * 100_000)
    assert m2l("export", straight, "-o", "out", *words) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not Path("out").exists()


def test_a_damaged_log_does_not_stop_resuming_or_export(run: Path, data: tuple[str, str]) -> None:
    log = run / "log.jsonl"
    log.write_bytes(log.read_bytes() + b'\xff\n[1]\n{"step": 6, "seconds": "x"}\n{"step": 1e999}\n')
    assert m2l("export", run, "-o", run / "out", "--crops", 2) == 0
    assert train(tiny(data), run).state.step == 6


def test_a_dry_run_of_a_float16_recipe_works_without_cuda(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("m2l.training.Trainer.rehearse", lambda self: {"seconds_per_step": 1.0, "peak_bytes": 1e9})
    words = ["--preset", "paper", "--device", "cpu", "--data", data[0], "--run", tmp_path / "r", "--dry-run", "--json"]
    assert m2l("train", *words) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["settings"]["precision"] == "bfloat16"
    assert "trained in float16, which needs a CUDA device" in captured.err
