"""Models in threads and forked processes: the same weights, one thread a fork, no lock left taken."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from m2l import Music2Latent


def test_random_weights_in_threads_are_those_of_the_seed(tmp_path: Path) -> None:
    expected = [Music2Latent.from_config("tiny", seed=seed).digest() for seed in range(3)]
    Music2Latent.from_config("tiny").save_pretrained(tmp_path)
    torch.manual_seed(1)
    alone = [torch.rand(7) for _ in range(200)]
    torch.manual_seed(1)
    drawn: list[Tensor] = []
    other = threading.Thread(target=lambda: drawn.extend(torch.rand(7) for _ in range(200)))
    other.start()

    def make(index: int) -> str:
        if index % 4 == 3:
            return Music2Latent.from_pretrained(tmp_path, device="cpu").digest()
        return Music2Latent.from_config("tiny", seed=index % 4).digest()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(make, range(12)))
    other.join()
    assert found == [*expected, expected[0]] * 3
    assert all(torch.equal(a, b) for a, b in zip(drawn, alone, strict=True))
    assert torch.empty(1).device.type == "cpu"


FORK = """
import multiprocessing, sys, threading
import numpy as np
import torch
from m2l import Music2Latent
torch.set_num_threads(2)
model = Music2Latent.from_config("tiny")
audio = np.full((1, 44_100), 0.1, np.float32)
def work(_):
    return float(np.abs(model.encode(audio)).sum()), torch.get_num_threads()
def hold(ready, done):
    with model._pool.lock:
        ready.set()
        done.wait()
if __name__ == "__main__":
    expected, _ = work(0)
    ready, done = threading.Event(), threading.Event()
    threading.Thread(target=hold, args=(ready, done), daemon=True).start()
    ready.wait()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        done.set()
        for found, threads in pool.map_async(work, range(2)).get(timeout=60):
            assert threads == 1 and abs(found - expected) < 1e-3 * expected
    print(torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_encodes_after_its_parent_did(tmp_path: Path) -> None:
    script = tmp_path / "forked.py"
    script.write_text(FORK)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "2"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2"  # the parent keeps its threads


@pytest.mark.parametrize("package", ["benchmarks", "probes"])
def test_either_program_imports_what_m2l_does_after_a_fork(package: str) -> None:
    code = f"import sys, {package}; sys.exit('m2l' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
