"""Every set of weights of the paper suite in its published form: fetched from a world, loaded strictly, and run.

`M2L_REHEARSAL_WEIGHTS=DIR` takes sets that `python -m tests.world.published_weights DIR` has written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from world import World
from world.data import build
from world.published_weights import paper_weights, write_weights

from benchmarks.suite import load_suite
from benchmarks.weights.table import WEIGHTS
from m2l.io.digest import file_sha256

#: Published sizes are those of our files to the byte, so names, shapes and types in their headers are the same.
EXACT = {
    "ace-step-vae", "dac-44khz", "encodec-48khz", "mimi", "stable-audio-vae", "same-s", "kvae-audio", "xcodec2",
}  # fmt: skip
#: Sets of other systems.
OTHERS = ["ace-step-vae", "ear-vae", "snac-44khz", "xcodec2"]
KVAE_BYTES = 667_522_176


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world's folder; its weights are written set by set, or those of `M2L_REHEARSAL_WEIGHTS`."""
    folder = tmp_path_factory.mktemp("world")
    if given := os.environ.get("M2L_REHEARSAL_WEIGHTS"):
        (folder / "weights").symlink_to(Path(given).resolve())
    build(folder)  # the tables of data expect one
    return folder


def run(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks", *arguments]
    return subprocess.run(command, env=world.env, capture_output=True, text=True, check=False, timeout=3000)


def test_what_is_written_is_what_the_suite_names_and_no_wheel_holds() -> None:
    suite = load_suite("paper")
    assert suite.table1 is not None
    assert suite.table2 is not None
    named = {*suite.table2.systems, *suite.table1["representations"]} & set(WEIGHTS)
    embedders = {metric.weight for metric in suite.metrics.values()} & set(WEIGHTS)
    wheels = {"musicnn-msd", "visqol-svr"}
    assert set(paper_weights()) == (named | embedders) - wheels
    assert wheels <= named | embedders


def test_small_sets_are_the_same_bytes_and_not_written_twice(tmp_path: Path) -> None:
    first = json.loads(write_weights(tmp_path / "a", ["clmr"]).read_text())
    path = tmp_path / "a" / "clmr" / "clmr_checkpoint_10000.zip"
    assert first == {"clmr": {path.name: {"size": path.stat().st_size, "sha256": file_sha256(path)}}}
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["clmr_checkpoint_10000.pt", "clmr_checkpoint_10000_optim.pt"]
        with archive.open("clmr_checkpoint_10000.pt") as file:
            state = torch.load(file, weights_only=True)
    assert len(state) == 77 + 2  # the encoder without its last layer, and the projector
    before = path.stat().st_mtime_ns
    write_weights(tmp_path / "a", ["clmr"])
    assert path.stat().st_mtime_ns == before
    again = write_weights(tmp_path / "b", ["clmr"], seed=1)
    assert json.loads(again.read_text()) != first


@pytest.mark.slow
@pytest.mark.parametrize("name", [*paper_weights(), *OTHERS])
def test_a_published_set_is_fetched_loaded_and_run(name: str, root: Path) -> None:
    write_weights(root / "weights", [name])
    with World(root) as world:
        done = run(world, "fetch", name, "--accept-license", "--json")
        assert done.returncode == 0, done.stderr
        fetched = json.loads(done.stdout)[0]
        assert fetched["summary"] == "fetched"
        assert str(root) in fetched["dest"]
        done = run(world, "doctor", "--deep", name, "--seconds", "1", "--steps", "1", "--json")
    found = json.loads(done.stdout)
    assert found["error"] is None, found["error"]
    rows = {row["what"]: row for row in found["rows"]}
    _check_files(name, rows)
    for what, row in rows.items():
        if what in ("parameters", "file entries") or what.endswith("not finite"):
            assert row["agrees"] is not False, row
    if found["kind"] == "autoencoder":
        assert rows["output: level against the clip, dB"]["found"] > -60.0
        assert rows["output: deviation"]["found"] > 1e-5
        assert any(key.startswith("latents") for key in rows)
    else:
        assert rows["embeddings: deviation"]["found"] > 1e-5


def _check_files(name: str, rows: dict[str, Any]) -> None:
    for file in WEIGHTS[name].files:
        for quantity in ("bytes", "sha256"):
            assert rows[f"{file.basename}: {quantity}"]["agrees"] is True
        size = rows[f"{file.basename}: bytes"]["found"]
        if name in EXACT and file.path.endswith(".safetensors"):
            assert size == (KVAE_BYTES if name == "kvae-audio" else file.size or file.about)
        elif file.planned_size > 1_000_000 and not name.startswith("clap-"):
            # Containers differ by some bytes per tensor; CLMR's size is our estimate.
            assert size == pytest.approx(file.planned_size, rel=0.12 if name == "clmr" else 0.002)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clap-630k-audioset-best", "clap-music_audioset_epoch_15_esc_90.14"])
def test_clap_with_its_optimizer_has_the_published_size(name: str, tmp_path: Path) -> None:
    write_weights(tmp_path, [name], whole=True)
    (file,) = WEIGHTS[name].files
    assert (tmp_path / name / file.path).stat().st_size == pytest.approx(file.planned_size, rel=0.03)
