"""What the neural systems share: weights, rates, channels, lengths, long clips and seeds.

An adapter states its properties as class attributes and gives the network (`config`, `build`, `load`) and three short
methods on one item `(1, channels, samples)` at its own rate. Everything around it is done here, the same way
for all, so that a difference between two rows is a difference between two systems:

- resampling with soxr HQ, to the system's rate and back; exactly the input's length comes back;
- "per_channel" systems code the channels of a clip one by one; "stereo" systems get a mono clip twice and
  their two output channels are averaged;
- no loudness normalization and no clipping beyond what a system's own decoder does: outputs stay float32;
- the noise of a decoder is drawn on the CPU from a generator seeded by (seed, channel), so that neither device
  nor order changes it.

Constructing an adapter finds weights and reads their digest. torch, the system's library and the weights are
loaded at the first clip.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmarks.autoencoders.base import AutoencoderSpec
from benchmarks.store.fingerprint import derive_seed, digest
from benchmarks.weights.find import find_weight, weight_digest, weight_source
from m2l.audio import check_audio, fit_length, resample, to_mono

if TYPE_CHECKING:
    import torch

#: Neighboring windows of a long clip share this much, and are cross-faded over it.
OVERLAP_SECONDS = 1.0


@dataclass(frozen=True)
class Latents:
    """What `encode` returns.

    Attributes:
        items: one mapping of named arrays per item coded (a channel, or a stereo clip): `z` (1, dim, frames) for
            continuous latents, `codes` for discrete ones, and what else the decoder needs.
        channels: of the clip.
        seconds: of the clip.
        bits: of the discrete codes of all items; None for continuous latents.
    """

    items: tuple[dict[str, np.ndarray], ...]
    channels: int
    seconds: float
    bits: float | None = None

    @property
    def bitrate(self) -> float | None:
        """Bits per second of the codes; None for continuous latents."""
        return None if self.bits is None else self.bits / self.seconds


class NeuralAutoencoder:
    """Base of the adapters. See the module's docstring for what it does for them.

    Args:
        device: where the network runs.
        path: file (or folder, where there are several files) of the weights instead of the look-up.
        random_seed: use random weights drawn with this seed, and no file.
        tiny: with `random_seed`, a network of the same form that runs in milliseconds.

    Raises:
        WeightsNotFoundError: the weights are not on this machine; says how to get them.
        ImportError: the library that holds the network is not installed, or too old.
        ValueError: `tiny` without `random_seed`.
    """

    #: Name on the command line, and of the entry in the table of weights.
    name: ClassVar[str]
    sample_rate: ClassVar[int]
    channels: ClassVar[str] = "per_channel"
    latent_rate: ClassVar[float]
    #: An adapter with a choice of codebooks sets these two by it, before it calls `__init__` here.
    latent_dim: int
    compression_ratio: ClassVar[float | None] = None
    #: Bits per second and item, for systems whose latents are discrete.
    bitrate: float | None = None
    n_parameters: ClassVar[int | None] = None
    #: Denoising steps where a system has such a thing.
    n_steps: ClassVar[int | None] = None
    #: (distribution, lowest version, arguments of `pip install`) of a library that is not a core dependency.
    library: ClassVar[tuple[str, str, str] | None] = None
    #: An item is padded with zeros to a multiple of so many samples.
    multiple: ClassVar[int] = 1
    #: Longer clips run in overlapping windows; None where the system itself works in independent pieces.
    window_seconds: ClassVar[float | None] = 60.0
    training_datasets: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[str] = "1"

    def __init__(
        self, device: str = "cpu", path: str | None = None, random_seed: int | None = None, tiny: bool = False
    ) -> None:
        if tiny and random_seed is None:
            raise ValueError(f"{self.name}: tiny=True is for random weights; give random_seed too")
        self.device, self.random_seed = device, random_seed
        self.settings = self.config(tiny)
        weights = weight_source(self.name)
        if random_seed is None:
            self._path: Path | None = find_weight(self.name, path)
            identity, source, license = weight_digest(self.name, path), weights.origin, weights.license
        else:
            self._path = None
            identity = digest({"config": self.settings, "seed": int(random_seed)})
            source, license = f"random initialization, seed {random_seed}", ""
        self.spec = AutoencoderSpec(
            name=self.name,
            sample_rate=self.sample_rate,
            channels=self.channels,
            latent_rate=self.latent_rate,
            latent_dim=self.latent_dim,
            compression_ratio=self.compression_ratio,
            bitrate=self.bitrate,
            n_parameters=None if tiny else self.n_parameters,
            n_steps=self.n_steps,
            source=source,
            license=license,
            weights_digest=identity,
            training_datasets=self.training_datasets,
            version=self.version,
            options=self._options(),
        )

    # ---- what an adapter gives ---------------------------------------------------------------------

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        """Arguments of `build`, JSON-ready: of the published network, or of a tiny one of the same form."""
        raise NotImplementedError

    @classmethod
    def build(cls, config: dict[str, Any]) -> torch.nn.Module:
        """The network with freshly initialized weights."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        """The network with the weights of a published file (or folder of files).

        Raises:
            CheckpointError: the file is not in the published format; names the entries that differ.
        """
        raise NotImplementedError

    def _encode(self, audio: torch.Tensor) -> dict[str, torch.Tensor]:
        """Named latents of one item `(1, channels, samples)`; samples is a multiple of `multiple`."""
        raise NotImplementedError

    def _decode(self, latents: dict[str, torch.Tensor], generator: torch.Generator, n_steps: int) -> torch.Tensor:
        """Audio `(1, channels, samples)` of one item; noise comes from `generator`, which lives on the CPU."""
        raise NotImplementedError

    def _features(self, audio: torch.Tensor) -> torch.Tensor:
        """The point Table 1 probes, `(1, dim, frames)`."""
        raise NotImplementedError

    def _extra_options(self) -> dict[str, Any]:
        """Settings of the adapter that change its output; they enter the content key."""
        return {}

    def _bits(self, latents: dict[str, torch.Tensor]) -> float | None:
        """Bits of one item's discrete codes."""
        return None

    # ---- the protocol ------------------------------------------------------------------------------

    @cached_property
    def model(self) -> torch.nn.Module:
        """The network, loaded at first use, in evaluation mode."""
        import torch

        with torch.inference_mode(False):  # it is kept, and others may want gradients through it
            if self._path is not None:
                model = self.load(self._path, self.settings)
            else:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(int(self.random_seed or 0))
                    model = self.build(self.settings)
            return model.to(self.device).eval().requires_grad_(False)

    def encode(self, audio: np.ndarray, sample_rate: int) -> Latents:
        """Latents of `(channels, samples)` audio at any rate.

        Raises:
            ValueError: more than two channels for a stereo system, or audio that is none.
        """
        import torch

        audio = check_audio(audio, sample_rate)
        items: list[dict[str, np.ndarray]] = []
        bits: list[float] = []
        with torch.inference_mode():
            for item in self._items(audio, sample_rate):
                latents = self._encode(item)
                found = self._bits(latents)
                bits += [] if found is None else [found]
                items.append({key: value.cpu().numpy() for key, value in latents.items()})
        seconds = audio.shape[1] / sample_rate
        return Latents(tuple(items), audio.shape[0], seconds, sum(bits) if bits else None)

    def decode(
        self, latents: Latents, *, length: int, sample_rate: int, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """Audio `(channels, length)` at `sample_rate`; decoding noise is a function of `seed` and channel."""
        import torch

        steps = n_steps if n_steps is not None else (self.n_steps or 1)
        if steps < 1:
            raise ValueError(f"n_steps must be at least 1, got {steps}")
        outputs = []
        with torch.inference_mode():
            for index, item in enumerate(latents.items):
                own = seed if index == 0 else derive_seed(seed, f"channel {index}")
                tensors = {key: torch.from_numpy(value).to(self.device) for key, value in item.items()}
                output = self._decode(tensors, torch.Generator().manual_seed(own), steps)
                outputs.append(output[0].float().cpu().numpy())
        joined = np.concatenate(outputs)
        if self.channels == "stereo" and latents.channels == 1:
            joined = to_mono(joined)
        return np.ascontiguousarray(fit_length(resample(joined, self.sample_rate, sample_rate, exact=False), length))

    def reconstruct(
        self, audio: np.ndarray, sample_rate: int, *, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """Encode and decode: float32 of exactly the input's shape, at the input's rate."""
        audio = check_audio(audio, sample_rate)

        def whole(piece: np.ndarray, own: int) -> np.ndarray:
            latents = self.encode(piece, sample_rate)
            return self.decode(latents, length=piece.shape[1], sample_rate=sample_rate, seed=own, n_steps=n_steps)

        if self.window_seconds is None or audio.shape[1] <= self.window_seconds * sample_rate:
            return whole(audio, seed)
        window = round(self.window_seconds * sample_rate)
        return in_windows(audio, window, round(OVERLAP_SECONDS * sample_rate), whole, seed)

    def features(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """The layer Table 1 probes, `(dim, frames)`, averaged over channels where they are coded one by one."""
        import torch

        audio = check_audio(audio, sample_rate)
        size = audio.shape[1]
        if self.window_seconds is not None:
            size = min(size, round(self.window_seconds * sample_rate))
        pieces = []
        with torch.inference_mode():
            for start in range(0, audio.shape[1], size):
                items = self._items(audio[:, start : start + size], sample_rate)
                found = [self._features(item)[0].float().cpu().numpy() for item in items]
                pieces.append(np.mean(found, axis=0, dtype=np.float32))
        return np.concatenate(pieces, axis=1)

    # ---- how ---------------------------------------------------------------------------------------

    def _items(self, audio: np.ndarray, sample_rate: int) -> list[torch.Tensor]:
        """The clip as the network's inputs: at its rate, with its channels, padded to its multiple."""
        import torch

        if self.channels == "stereo" and audio.shape[0] > 2:
            raise ValueError(f"{audio.shape[0]} channels: {self.name} takes one or two")
        # Two samples at least: soxr cannot tell the layout of one sample of two channels.
        audio = resample(fit_length(audio, max(2, audio.shape[1])), sample_rate, self.sample_rate, exact=False)
        if self.channels == "stereo" and audio.shape[0] == 1:
            audio = np.repeat(audio, 2, axis=0)
        length = max(1, math.ceil(audio.shape[1] / self.multiple)) * self.multiple
        tensor = torch.from_numpy(np.array(fit_length(audio, length))).to(self.device)
        return [tensor[None]] if self.channels == "stereo" else list(tensor[:, None, None])

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"config": digest(self.settings), **self._extra_options()}
        if self.library is not None:
            options["library"] = f"{self.library[0]} {require(*self.library, for_name=self.name)}"
        return options


def require(package: str, lowest: str, install: str, *, for_name: str) -> str:
    """Version of an installed library, which is not imported.

    Raises:
        ImportError: not installed, or older than `lowest`; the message says what to install.
    """
    hint = f"pip install {install}"
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"{for_name} needs {package} >= {lowest}, which is not installed: {hint}") from None
    if _numbers(found) < _numbers(lowest):
        raise ImportError(f"{for_name} needs {package} >= {lowest}, found {found}: {hint}")
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def in_windows(
    audio: np.ndarray, window: int, overlap: int, process: Callable[[np.ndarray, int], np.ndarray], seed: int
) -> np.ndarray:
    """Process long audio in windows that share `overlap` samples, cross-faded linearly there.

    Args:
        audio: (channels, samples).
        window: samples per window, more than twice `overlap`.
        overlap: samples two neighbors share.
        process: (window of audio, seed) -> audio of the same shape.
        seed: of the first window; the others' seeds are derived from it.
    """
    output = np.zeros_like(audio)
    fade = np.linspace(0.0, 1.0, overlap + 2, dtype=np.float32)[1:-1]
    step = window - overlap
    for start in range(0, max(1, audio.shape[1] - overlap), step):
        piece = audio[:, start : start + window]
        done = process(piece, seed if start == 0 else derive_seed(seed, f"window {start // step}"))
        done = np.array(done)
        if start > 0:
            done[:, :overlap] *= fade
        if start + window < audio.shape[1]:
            done[:, -overlap:] *= 1.0 - fade
        output[:, start : start + window] += done
    return output


def checked_codebooks(name: str, number: int, low: int, high: int) -> int:
    """A system's number of codebooks.

    Raises:
        ValueError: it has no such number of them.
    """
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise ValueError(f"{name} has {low} to {high} codebooks (n_codebooks), not {number!r}")
    return number


def inputs_of(module: torch.nn.Module, run: Callable[[], Any]) -> list[torch.Tensor]:
    """What `module` was given, call by call, while `run()` ran."""
    found: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    try:
        run()
    finally:
        handle.remove()
    return found
