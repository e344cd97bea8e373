"""Peak memory of decoding, file to file: one process for each length, precision and size of the network."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.speed.timing import Contest
from m2l import Music2Latent
from m2l.audio_files import decode_file
from m2l.io.latents import LatentsInfo, write_latents

_UNIT = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss, per MB


@dataclass(frozen=True)
class Peak:
    """Resident memory in MB: once the model is loaded, and at most while it decodes; and what that took."""

    loaded: float
    peak: float
    seconds: float


def run(*, presets: Sequence[str], seconds: Sequence[float], precisions: Sequence[str], threads: int) -> Contest:
    """Decode files of noise as latents, mono, with random weights.

    Args:
        presets: architectures.
        seconds: lengths of the audio.
        precisions: of the network.
        threads: CPU threads.

    Raises:
        ConfigError: no such preset.
    """
    table = Contest(f"Decoding, file to file, {threads} threads: memory of the process in MB")
    for preset in presets:
        for precision in precisions:
            for length in seconds:
                print(f"{preset}, {precision}, {length:g} s …", file=sys.stderr)
                spawn = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                    found = pool.submit(decode, preset, precision, length, threads).result()
                table.rows.append(
                    {
                        "preset": preset,
                        "precision": precision,
                        "audio_seconds": length,
                        "model_loaded": found.loaded,
                        "peak": found.peak,
                        "seconds": found.seconds,
                    }
                )
    return table


def decode(preset: str, precision: str, seconds: float, threads: int) -> Peak:
    """Decode one file in this process."""
    torch.set_num_threads(threads)
    model = Music2Latent.from_config(preset, seed=0).to(getattr(torch, precision))
    config = model.config
    samples = int(seconds * config.sample_rate)
    length = config.n_latents(samples)
    latents = np.random.default_rng(0).standard_normal((1, config.latent_dim, length), dtype=np.float32)
    info = LatentsInfo(
        channels=1,
        latent_dim=config.latent_dim,
        n_latents=length,
        sample_rate=config.sample_rate,
        samples=samples,
        model_sample_rate=config.sample_rate,
        downsampling_ratio=config.downsampling_ratio,
        model=config.name,
        checkpoint="",
        digest=model.digest(),
        source="noise",
    )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "noise.safetensors"
        write_latents(source, latents, info)
        del latents
        loaded, start = _resident(), time.perf_counter()
        decode_file(model, source, Path(folder) / "noise.wav")
        return Peak(loaded, _resident(), time.perf_counter() - start)


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _UNIT
