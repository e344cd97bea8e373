"""A run that is stopped leaves nothing running and nothing lying about, however it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness_helpers import tiny_toml, write_clips

#: A program that copies its first input, and then waits for ever and says which process it is.
PROGRAM = """
import os, shutil, sys, time
marks, source, target = sys.argv[1:]
try:
    os.close(os.open(marks + ".first", os.O_CREAT | os.O_EXCL))
except FileExistsError:
    open(os.path.join(marks, str(os.getpid())), "w").close()
    time.sleep(600)
shutil.copy(source, target)
"""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(what: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _descendants(pid: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, layer = set(), {pid}
    while layer:
        layer = {child for child, parent in parents.items() if parent in layer}
        found |= layer
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("executor", ["serial", "loky"])
def test_a_stopped_run_takes_workers_programs_and_temporary_folders_with_it(
    tmp_path: Path, executor: str, number: signal.Signals
) -> None:
    for name in ("marks", "tmp"):
        (tmp_path / name).mkdir()
    write_clips(tmp_path / "clips", count=8)
    (tmp_path / "program.py").write_text(PROGRAM)
    program = f"{sys.executable} {tmp_path / 'program.py'} {tmp_path / 'marks'} {{input}} {{output}}"
    suite = tiny_toml(tmp_path, tmp_path / "clips")
    command = [sys.executable, "-m", "benchmarks.cli", "compare", "--command", f"waiting={program}", "--quiet"]
    command += ["--suite", str(suite), "--against", "identity", "--metrics", "si_sdr"]
    command += ["--executor", executor, "--workers", "2", "--store", str(tmp_path / "store")]
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        expected = 2 if executor == "loky" else 1
        assert _until(lambda: len(list((tmp_path / "marks").iterdir())) >= expected, 60), process.poll()
        ours = _descendants(process.pid)
        programs = {int(mark.name) for mark in (tmp_path / "marks").iterdir()}
        assert programs <= ours
        process.send_signal(number)
        assert _until(lambda: process.poll() is not None, 5)
        assert _until(lambda: not any(map(_alive, ours)), 5), [pid for pid in ours if _alive(pid)]
    finally:
        process.kill()
        _, said = process.communicate()
    assert process.returncode == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    if number == signal.SIGTERM:
        assert said.strip().splitlines()[-1].startswith("interrupted;"), said
        assert "Traceback" not in said
    assert _until(lambda: not list((tmp_path / "tmp").glob("m2l-command-*")), 5)
