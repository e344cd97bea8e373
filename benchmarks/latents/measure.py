"""An autoencoder's latents on the clips of a suite or a folder: `m2l-bench latents`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.autoencoders import create_autoencoder
from benchmarks.errors import UsageError
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.run import RunOptions
from benchmarks.latents.statistics import code_statistics, relative_error, spread
from benchmarks.suite import Data, Suite, load_suite
from m2l.audio import is_silent, resample, to_mono

#: The gain that linearity is tried with.
GAIN = 0.5

Encode = Callable[[np.ndarray], np.ndarray]


def latent_statistics(
    autoencoder: Any, data: str | Path = "synthetic", *, limit: int = 0, quiet: bool = True
) -> dict[str, Any]:
    """Statistics of an autoencoder's latents.

    Args:
        autoencoder: a name (`m2l-bench list autoencoders`), or an object with `encode` and `spec`.
        data: a suite, or a folder of audio. Clips are folded to mono.
        limit: only the first so many clips; 0 for all.
        quiet: print no progress to stderr.

    Returns:
        `system`, `clips`, `dim`, `kind` ("continuous" or "codes") and the statistics of
        `benchmarks.latents.statistics`: for continuous latents also the relative errors `gain_error` (of half the
        amplitude), `mix_error` (of the mean of two clips) and `shift_error` (of a delay of one latent).

    Raises:
        UsageError: the system has no latents of a known form, or no clip gives any.
        FileNotFoundError: weights or data are missing; says how to get them.
    """
    system = create_autoencoder(autoencoder) if isinstance(autoencoder, str) else autoencoder
    name = autoencoder if isinstance(autoencoder, str) else system.spec.name
    planner = Planner(_suite(data), RunOptions(limit=limit, quiet=True))
    rate = system.spec.sample_rate
    found: list[np.ndarray] = []
    errors: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"gain_error": [], "mix_error": [], "shift_error": []}
    last: tuple[np.ndarray, np.ndarray] | None = None
    for clip in tqdm(planner.clips, desc=name, disable=quiet, file=sys.stderr, leave=False):
        audio, clip_rate = clip.load()
        mono, own_rate = resample(to_mono(audio), clip_rate, rate or clip_rate), rate or clip_rate
        if is_silent(mono):
            continue

        def encode(x: np.ndarray, own_rate: int = own_rate) -> np.ndarray:
            return as_array(system.encode(x, own_rate), name)

        latents = encode(mono)
        found.append(latents)
        if np.issubdtype(latents.dtype, np.integer):
            continue
        errors["gain_error"].append((encode(np.float32(GAIN) * mono), GAIN * latents))
        errors["shift_error"] += shifted(encode, mono, latents, own_rate, system.spec.latent_rate)
        if last is not None:
            errors["mix_error"].append(mixed(encode, (mono, latents), last))
        last = mono, latents
    if not found:
        raise UsageError(f"{name}: no clip of {data} gives latents (are all of them silent?)")
    record: dict[str, Any] = {"system": name, "clips": len(found), "dim": len(found[0])}
    if np.issubdtype(found[0].dtype, np.integer):
        return record | {"kind": "codes"} | code_statistics(found)
    measured = {key: relative_error(pairs) for key, pairs in errors.items()}
    return record | {"kind": "continuous"} | spread(found) | measured


def shifted(
    encode: Encode, audio: np.ndarray, latents: np.ndarray, sample_rate: int, latent_rate: float | None
) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """(found, expected) of audio that is delayed by one latent; edges are left out, and so is an unknown rate."""
    if not latent_rate or latents.shape[1] < 4:
        return []
    hop = round(sample_rate / latent_rate)
    delayed = encode(np.pad(audio, [(0, 0), (hop, 0)])[:, : audio.shape[1]])
    return [(delayed[:, 2:-1], latents[:, 1:-2])]


def mixed(
    encode: Encode, first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(found, expected) of the mean of two clips, (audio, latents) each, cut to the shorter."""
    samples = min(first[0].shape[1], second[0].shape[1])
    found = encode((first[0][:, :samples] + second[0][:, :samples]) / np.float32(2))
    parts = [latents if audio.shape[1] == samples else encode(audio[:, :samples]) for audio, latents in (first, second)]
    return found, (parts[0] + parts[1]) / 2


def as_array(encoded: Any, name: str) -> np.ndarray:
    """What `encode` returns as `(dim or codebooks, frames)`: floats of continuous latents, integers of codes.

    Raises:
        UsageError: neither.
    """
    items = getattr(encoded, "items", None)
    if isinstance(items, tuple) and items:  # `benchmarks.autoencoders.neural.Latents`
        encoded = items[0].get("codes", items[0].get("z"))
    elif hasattr(encoded, "indices"):  # `benchmarks.autoencoders.lyra.Codes`
        encoded = encoded.indices.transpose(0, 2, 1)
    if hasattr(encoded, "detach"):
        encoded = encoded.detach().cpu().numpy()
    array = encoded if isinstance(encoded, np.ndarray) else np.empty(0)
    if array.ndim == 4:  # EnCodec's chunks
        array = np.concatenate(list(array), axis=-1)
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
        raise UsageError(f"{name}: encode gives {type(encoded).__name__}, no latents (1, dim, frames)")
    return array


def _suite(data: str | Path) -> Suite:
    """The suite of that name, or one of the audio in a folder."""
    if isinstance(data, Path) or Path(data).expanduser().is_dir():
        return Suite("latents", Data("folder", options={"path": str(data)}, min_seconds=0.0, min_sample_rate=0))
    return load_suite(data)
