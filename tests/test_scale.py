"""A suite as large as the paper's with systems that cost nothing: what the harness itself costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scale_systems import N_CLIPS

from benchmarks.store.store import Result, Store

ROOT = Path(__file__).resolve().parent.parent
SYSTEMS = [f"scale_systems:Instant{i}" for i in range(7)]


def write_suite(folder: Path, size: int = N_CLIPS, systems: list[str] = SYSTEMS, unit_clips: int = 64) -> Path:
    """A suite of instant systems on `size` clips."""
    path = folder / "simulated.toml"
    names = ", ".join(f'"{name}"' for name in systems)
    path.write_text(
        f'[data]\ndataset = "scale_systems:PaperSized"\noptions = {{ size = {size} }}\n'
        f"unit_clips = {unit_clips}\n[table2]\nsystems = [{names}]\nmetrics = ['si_sdr']\n"
        "[statistics]\nresamples = 100\n"
    )
    return path


def command(toml: Path, store: Path | str, *options: str, what: str = "run") -> list[str]:
    return [
        *(sys.executable, "-m", "benchmarks.cli", what, "--suite", str(toml), "--store", str(store)),
        *("--quiet", *options),
    ]


def environment(**more: str) -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def start(arguments: list[str], **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments, cwd=ROOT, env=environment(**more), stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def resident(pid: int) -> float:
    """Resident memory of a process in MB; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def count(store: Path) -> int:
    """Published results; a killed writer may leave the beginning of one under a hidden name."""
    return sum(not name.startswith(".") for _, _, files in os.walk(store / "objects") for name in files)


def growth(memory: list[tuple[int, float]], begin: int, end: int) -> float:
    """How much more memory the last third of a stage takes than its first third, in MB."""
    third = (end - begin) / 3
    first = [mb for done, mb in memory if begin < done <= begin + third and mb]
    last = [mb for done, mb in memory if end - third < done <= end and mb]
    return max(last) - max(first)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_five_thousand_clips_seven_systems(tmp_path: Path) -> None:
    """3 ms a clip and system, flat memory, resumed in seconds after a kill -9 in the middle."""
    toml, store = write_suite(tmp_path), tmp_path / "store"
    total = 87 * (1 + 7 + 7)  # units of 64 clips: load, reconstruct, score; aggregates come on top
    first = start(command(toml, store, "--executor", "serial"))
    memory: list[tuple[int, float]] = []
    before = os.times()
    while first.poll() is None:
        done = count(store)
        memory.append((done, resident(first.pid)))
        if done > total // 2:
            os.killpg(first.pid, signal.SIGKILL)
            break
        time.sleep(0.25)
    first.wait()
    killed_at = count(store)
    assert total // 2 < killed_at < total

    again, clock = start(command(toml, store, "--executor", "serial")), time.monotonic()
    while again.poll() is None and count(store) <= killed_at:
        time.sleep(0.02)
    resumed = time.monotonic() - clock
    while again.poll() is None:
        memory.append((count(store), resident(again.pid)))
        time.sleep(0.25)
    assert again.wait() == 0
    assert "0 failed" in (again.stdout.read() if again.stdout else "")
    assert count(store) == total + 7 + 7 + 1  # one aggregate and one of metadata each, and the comparisons
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    overhead = 1000 * cpu / (N_CLIPS * 7)
    while_reconstructing = growth(memory, 87, total // 2)
    while_scoring = growth(memory, 87 + 7 * 87, total)

    idle, clock = start(command(toml, store, "--executor", "serial")), time.monotonic()
    assert idle.wait() == 0
    nothing_to_do = time.monotonic() - clock
    print(
        f"\nCPU {cpu:.1f} s, {overhead:.2f} ms a clip and system; at most {max(mb for _, mb in memory):.0f} MB; "
        f"growth while reconstructing {while_reconstructing:.1f} MB, while scoring {while_scoring:.1f} MB; "
        f"first new unit {resumed:.1f} s after the restart; "
        f"a run with nothing to do {nothing_to_do:.1f} s"
    )
    assert overhead <= 3.0
    assert while_reconstructing < 16  # a unit has 4 MB of audio, of which 87 are made for each system
    assert while_scoring < 16
    assert resumed < 30.0  # wall clock on a busy machine; a few seconds on a free one


@pytest.mark.slow
def test_a_store_as_large_as_the_paper_suite_opens_at_once(tmp_path: Path) -> None:
    """41,000 units, more than the paper suite has: all found by listing, in under 2 s of CPU."""
    store = Store(tmp_path)
    keys = [f"{i * 7919 % 256:02x}{i:062x}" for i in range(41000)]
    for key in keys:
        path = store.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if key is keys[0]:
            store.put(key, Result({"n": 0}))
            whole = path.read_bytes()
        # An entry holds its key; 41,000 synced writes would only test the disk.
        path.write_bytes(whole.replace(keys[0].encode(), key.encode()))
    begin = time.process_time()
    assert Store(tmp_path).has_many([*keys, "f" * 64]) == set(keys)
    seconds = time.process_time() - begin
    print(f"\n{len(keys)} units found in {seconds:.2f} s of CPU")
    assert seconds < 2.0
