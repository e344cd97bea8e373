"""The process that runs frechet-audio-distance: its protocol, and what becomes of mistakes, with a stand-in for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from harness_helpers import tiny_suite, write_clips
from synthetic_weights import notes, write_vggish

from benchmarks.embedders import ShortClipError, create_embedder, embedder_spec, embedder_status
from benchmarks.embedders.backends import Worker
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions
from benchmarks.store.store import Store
from benchmarks.tables.paper import build_table2
from m2l.io.torch_files import CheckpointError

NAME = "vggish[frechet-audio-distance]"
STAND_IN = """
import json, sys
import numpy as np
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "score" in request:
        reply = {"value": len(request["score"])}
    else:
        audio = [np.load(path) for path in request["embed"]]
        if any(len(clip) == 20000 for clip in audio):
            sys.exit("no memory\\nleft")
        reply = {"error": "too loud"} if any(np.abs(clip).max() > 1 for clip in audio) else {}
        for clip, path in zip(audio, request["to"]):
            np.save(path, np.full((len(clip) // 15360, 128), clip.mean()))
    print(json.dumps(reply), flush=True)
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment whose worker is the stand-in, run by this interpreter."""
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    program = tmp_path / "stand_in.py"
    program.write_text(STAND_IN)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (folder / "m2l-parity.json").write_text(json.dumps({"frechet-audio-distance": "0.3.4"}))
    monkeypatch.setenv("M2L_PARITY", str(folder))
    monkeypatch.setattr("benchmarks.embedders.parity_worker.__file__", str(program))
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_vggish(tmp_path / "vggish.pth")


def test_clips_go_there_and_embeddings_come_back(environment: Path, weights: Path) -> None:
    embedder = create_embedder(NAME, weights)
    clips = [np.full(16000, 0.25, np.float32), np.full((1, 40000), -0.5, np.float32)]
    found = embedder.embed_batch(clips)
    assert [vectors.shape for vectors in found] == [(1, 128), (2, 128)]
    assert [vectors.dtype for vectors in found] == [np.float32, np.float32]
    assert [float(vectors[0, 0]) for vectors in found] == [0.25, -0.5]
    embedder.close()
    assert embedder.embed(clips[0]).shape == (1, 128)  # by another process
    embedder.close()


def test_a_refused_clip_is_an_error_of_that_clip_and_the_process_goes_on(environment: Path, weights: Path) -> None:
    embedder = create_embedder(NAME, weights)
    with pytest.raises(ValueError, match="vggish: too loud"):
        embedder.embed(np.full(16000, 2.0, np.float32))
    assert embedder.embed(np.zeros(16000, np.float32)).shape == (1, 128)
    with pytest.raises(ShortClipError, match="100 samples"):
        embedder.embed(np.zeros(100, np.float32))
    with pytest.raises(ValueError, match="takes mono"):
        embedder.embed(np.zeros((2, 16000), np.float32))
    embedder.close()


def test_a_process_that_ends_says_what_it_printed_last(environment: Path, weights: Path) -> None:
    worker = Worker("vggish", weights)
    assert worker.score(Path("a"), Path("b")) == 2.0
    source = environment / "clip.npy"
    np.save(source, np.zeros(20000, np.float32))
    with pytest.raises(RuntimeError, match=r"it ended: no memory \| left"):
        worker.embed([source])
    worker.close()


def test_a_file_that_holds_more_than_weights_is_never_given_to_the_tool(environment: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.pth"
    torch.save({"a": Path("x")}, path)
    with pytest.raises(CheckpointError):
        Worker("vggish", path)


def test_versions_of_the_tools_are_part_of_the_key(environment: Path, weights: Path) -> None:
    before = embedder_spec(NAME, weights)
    assert before["packages"] == {"frechet-audio-distance": "0.3.4"}
    (environment / "m2l-parity.json").write_text(json.dumps({"frechet-audio-distance": "0.4"}))
    assert embedder_spec(NAME, weights) != before


def test_a_table_has_the_column_or_the_command_that_builds_the_environment(
    environment: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.embedders.backends.find_weight", lambda name, explicit=None: weights)
    monkeypatch.setattr("benchmarks.embedders.base.weight_digest", lambda name, explicit=None: "0")
    monkeypatch.setattr("benchmarks.embedders.base.has_weight", lambda name, explicit=None: (True, ""))
    write_clips(tmp_path / "clips", count=3)
    section = {"systems": ["identity", "noise-20db"], "metrics": [f"fad:{NAME}"]}
    suite = tiny_suite(tmp_path / "clips", table2=section)
    table, _ = build_table2(suite, Store(tmp_path / "store"), SerialExecutor(), RunOptions(quiet=True))
    cells = [row.cells[f"fad:{NAME}"] for row in table.rows]
    assert [cell.n for cell in cells] == [3, 3]
    assert cells[0].value == 0.0
    (environment / "m2l-parity.json").unlink()
    assert embedder_status(NAME)[1].endswith("make parity")
    table, _ = build_table2(suite, Store(tmp_path / "store"), SerialExecutor(), RunOptions(quiet=True))
    assert {row.cells[f"fad:{NAME}"].reason for row in table.rows} == {embedder_status(NAME)[1]}


def test_a_missing_environment_is_named_before_anything_starts(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2L_PARITY", str(tmp_path / "none"))
    embedder = create_embedder(NAME, weights)
    with pytest.raises(FileNotFoundError, match="To build it: make parity"):
        embedder.embed(notes(16000, 1.0))
