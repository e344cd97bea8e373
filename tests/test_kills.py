"""A hundred SIGKILLs at random moments: the same bytes as a run in peace, nothing left running, no partial files."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from harness_helpers import tiny_toml, write_clips

ROOT = Path(__file__).resolve().parent.parent
KILLS = 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc"),
]


def _processes_of(session: int) -> list[int]:
    """Processes of a session that run; loky's workers keep the session of who started them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def _kill_at_random(command: list[str], longest: float, folder: Path | None, seed: int) -> None:
    """Start the command again and again, and kill its first process at random moments, `KILLS` times.

    A run that gets through before its kill starts from nothing the next time: `folder` is what it wrote.
    """
    rng = np.random.default_rng(seed)
    kills = 0
    while kills < KILLS:
        process = subprocess.Popen(
            command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=float(rng.uniform(0.2, longest)))
        if process.poll() is None:
            kills += 1
            process.send_signal(signal.SIGKILL)  # of the parent alone: what it started must notice
        elif folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        process.wait()
        end = time.monotonic() + 5
        while left := _processes_of(process.pid):
            assert time.monotonic() < end, f"still running 5 s after the kill: {left}"
            time.sleep(0.05)


def _run(command: list[str]) -> float:
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began


def _bytes_below(folder: Path, skip: Callable[[Path], bool] = lambda _: False) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not skip(path)
    }


def _partial_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith((".part", ".old"))]


@pytest.mark.parametrize("executor", ["serial", "loky"])
def test_tables(tmp_path: Path, executor: str) -> None:
    write_clips(tmp_path / "clips", count=12, seconds=2.0)
    toml = tiny_toml(tmp_path, tmp_path / "clips")
    toml.write_text(toml.read_text().replace('"opus-16k"', '"opus-16k", "mel-griffinlim", "vorbis-64k"'))

    def command(folder: Path) -> list[str]:
        options = ["--executor", executor, "--workers", "2", "--quiet", "--suite", str(toml)]
        places = ["--store", str(folder / "store"), "--results", str(folder / "results")]
        return [sys.executable, "-m", "benchmarks.cli", "tables", *options, *places]

    took = _run(command(tmp_path / "peace"))
    _kill_at_random(command(tmp_path / "war"), 0.9 * took, tmp_path / "war", seed=1)
    _run(command(tmp_path / "war"))

    def results(folder: Path) -> dict[str, bytes]:  # cost.json holds how long it took
        return _bytes_below(folder / "results", skip=lambda path: path.name == "cost.json")

    assert results(tmp_path / "peace")
    assert results(tmp_path / "war") == results(tmp_path / "peace")
    assert _partial_files(tmp_path) == []


def test_encode(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", count=12, seconds=3.0)

    def command(folder: Path) -> list[str]:
        options = ["--checkpoint", "random:tiny", "--quiet", "-o", str(folder)]
        return [sys.executable, "-m", "m2l.cli", "encode", str(tmp_path / "clips"), *options]

    took = _run(command(tmp_path / "peace"))
    _kill_at_random(command(tmp_path / "war"), 0.9 * took, tmp_path / "war", seed=2)
    _run(command(tmp_path / "war"))
    expected = {name: data for name, data in _bytes_below(tmp_path / "peace").items() if "/" not in name}
    latents = [name for name in expected if name.endswith(".safetensors")]
    assert len(latents) == 12
    found = _bytes_below(tmp_path / "war")
    assert {name: found[name] for name in latents} == {name: expected[name] for name in latents}
    assert _partial_files(tmp_path) == []


def test_train(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(44_100 * 4).astype("float32")
    (tmp_path / "data").mkdir()
    soundfile.write(tmp_path / "data/noise.wav", 0.1 * noise, 44_100)

    def command(folder: Path) -> list[str]:
        options = ["--preset", "tiny", "--precision", "float32", "--batch-size", "2", "--steps", "60", "--quiet"]
        options += ["--checkpoint-every", "3", "--workers", "1", "--threads", "1"]
        places = ["--data", str(tmp_path / "data"), "--run", str(folder)]
        return [sys.executable, "-m", "m2l.cli", "train", *options, *places]

    took = _run(command(tmp_path / "peace"))
    _kill_at_random(command(tmp_path / "war"), 0.9 * took, tmp_path / "war", seed=3)
    _run(command(tmp_path / "war"))

    def weights(folder: Path) -> dict[str, bytes]:
        last = sorted(folder.glob("step-*"))[-1]
        return _bytes_below(last, skip=lambda path: path.suffix != ".safetensors")

    assert weights(tmp_path / "peace")
    assert weights(tmp_path / "war") == weights(tmp_path / "peace")
    assert _partial_files(tmp_path) == []


def test_report(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", count=4)
    toml = tiny_toml(tmp_path, tmp_path / "clips")
    common = ["--suite", str(toml), "--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
    _run([sys.executable, "-m", "benchmarks.cli", "tables", *common, "--quiet", "--executor", "serial"])

    def command(folder: Path) -> list[str]:
        return [sys.executable, "-m", "benchmarks.cli", "report", *common, "-o", str(folder)]

    took = _run(command(tmp_path / "peace"))
    _run(command(tmp_path / "war"))
    _kill_at_random(command(tmp_path / "war"), 0.9 * took, None, seed=4)
    assert (tmp_path / "war/index.html").is_file(), "a kill took the old report"
    _run(command(tmp_path / "war"))
    assert _bytes_below(tmp_path / "war") == _bytes_below(tmp_path / "peace")
    assert _partial_files(tmp_path) == []
