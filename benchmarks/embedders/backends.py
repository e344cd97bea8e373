"""The tools that FAD and FAD_clap have to agree with, as embedders.

frechet-audio-distance runs its own front ends and networks, and laion-clap's, on the weights found here: a difference
between `vggish` and `vggish[frechet-audio-distance]` is a difference of code. It needs other versions of numpy and
transformers than the suite, so it runs in an environment of its own (`make parity`), as a process that takes paths of
audio and writes `.npy` files: see `parity_worker`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.embedders import parity_worker
from benchmarks.embedders.base import ShortClipError, embedder_entry, embedder_spec
from benchmarks.embedders.checks import checked_mono
from benchmarks.embedders.clap import WINDOW
from benchmarks.embedders.parity import parity_folder, parity_missing
from benchmarks.embedders.vggish import MIN_SAMPLES
from benchmarks.weights.find import find_weight
from m2l.io.torch_files import read_pickled

_STDERR_LINES = 5


class Worker:
    """The process that runs frechet-audio-distance with one model.

    Args:
        model: `vggish`, or a CLAP checkpoint's file name without `.pt`.
        weights: its file.
        device: "cpu" hides GPUs from it; it takes one by itself where it sees one.

    Raises:
        FileNotFoundError: the environment has not been built; the message names the command.
        RuntimeError: it ends before it is ready; the message has the end of what it printed.
    """

    def __init__(self, model: str, weights: str | os.PathLike[str], device: str | None = None) -> None:
        if reason := parity_missing():
            raise FileNotFoundError(reason)
        # laion-clap unpickles without restriction: a file that holds more than tensors is refused here.
        read_pickled(Path(weights), any_form=True)
        self.model = model
        self.said = tempfile.TemporaryFile()  # noqa: SIM115  read when the process ends
        # Threads would move the last digits from machine to machine.
        settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
        if device == "cpu":
            settings["CUDA_VISIBLE_DEVICES"] = ""
        elsewhere = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        self.process = subprocess.Popen(
            [str(parity_folder() / "bin" / "python"), parity_worker.__file__, model, os.fspath(weights)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
            env={**elsewhere, **settings},
        )
        self._end = weakref.finalize(self, _stop, self.process)
        self._answer()

    def embed(self, sources: Sequence[Path]) -> list[np.ndarray]:
        """`(windows, dim)` float32 of `.npy` files of mono samples, or of sound files.

        Raises:
            ValueError: the tool refuses one.
            RuntimeError: the process has ended.
        """
        with tempfile.TemporaryDirectory() as folder:
            targets = [str(Path(folder) / f"{i}.npy") for i in range(len(sources))]
            self._ask({"embed": [str(source) for source in sources], "to": targets})
            return [np.load(target).astype(np.float32, copy=False) for target in targets]

    def score(self, originals: Path, outputs: Path) -> float:
        """FAD of two folders of sound files, all of it computed by the tool.

        Raises:
            ValueError, RuntimeError: as `embed`.
        """
        return float(self._ask({"score": [str(originals), str(outputs)]})["value"])

    def close(self) -> None:
        """End the process."""
        self._end()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `_answer` says why
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.said.seek(0)
            end = self.said.read().decode(errors="replace").strip().splitlines()[-_STDERR_LINES:]
            raise RuntimeError(f"frechet-audio-distance, {self.model}: it ended: {' | '.join(end) or 'no message'}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ValueError(f"frechet-audio-distance, {self.model}: {reply['error']}")
        return reply


def _stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


class OriginalTool:
    """An embedder that is frechet-audio-distance itself, in a process that starts at the first clip.

    Args:
        name: registered name.
        model: as `Worker` takes it.
        weights: path of the weights instead of the look-up.
        device: as `Worker` takes it.

    Raises:
        WeightsNotFoundError: weights missing; says how to get them.
    """

    def __init__(
        self, name: str, model: str, weights: str | os.PathLike[str] | None = None, device: str | None = None
    ) -> None:
        entry = embedder_entry(name)
        self.name, self.sample_rate, self.dim, self.model = name, entry.sample_rate, entry.dim, model
        self.path = find_weight(entry.weight, weights)
        self._weights, self._device = weights, device
        self._worker: Worker | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """Weights digest, window, hop, policies, versions of the packages; JSON-ready."""
        return embedder_spec(self.name, self._weights)

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """(samples,) float32 mono at `sample_rate` -> (n_windows, dim) float32.

        Raises:
            ShortClipError: too short for one window.
            ValueError: not mono, or non-finite samples; or the tool refuses it.
            FileNotFoundError, RuntimeError: as `Worker`.
        """
        return self.embed_batch([audio])[0]

    def embed_batch(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        """`embed` of each clip."""
        signals = [self._signal(clip) for clip in clips]
        if self._worker is None:
            self._worker = Worker(self.model, self.path, self._device)
        with tempfile.TemporaryDirectory() as folder:
            sources = [Path(folder) / f"{i}.npy" for i in range(len(signals))]
            for source, signal in zip(sources, signals, strict=True):
                np.save(source, signal)
            return self._worker.embed(sources)

    def close(self) -> None:
        """End the process; the next `embed` starts another."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _signal(self, clip: np.ndarray) -> np.ndarray:
        audio = checked_mono(clip, self.name)
        if self.model == "vggish":
            if len(audio) < MIN_SAMPLES:
                raise ShortClipError(f"{self.name}: {len(audio)} samples; one window takes {MIN_SAMPLES}")
            return audio
        # Of long clips the tool takes a random 10 s; given the middle 10 s it has nothing to choose.
        start = max(0, len(audio) - WINDOW) // 2
        return audio[start : start + WINDOW]
