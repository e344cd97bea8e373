"""Musika (Pasini and Schlüter 2022, MIT), the 44.1 kHz autoencoder of `marcop/musika_ae`.

Its code needs TensorFlow 2.10 on Python 3.8; here its four h5 files of weights are read with h5py into a torch
port (`musika_net`).

What to know about its numbers:

- Phase is not encoded but made up by the decoder, so SI-SDR is low however good it sounds (-25.81 dB in Table 2).
- The decoder adds noise in every layer (upstream unseeded): here it comes from the seed.
- It works on blocks of 4 latents (16,384 samples) that know nothing of each other.
- Upstream skips files of up to 66,304 samples and, unless told otherwise, encodes a random crop of the others; here
  a clip of any length is padded with 768 zeros in front (the first three hops of an inverse STFT fade in) and to
  whole blocks behind.
- The spectrogram has no normalization of loudness: 0 dBFS stays 0 dBFS.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.autoencoders.neural import NeuralAutoencoder
from m2l.io.torch_files import CheckpointError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: The four files, and the network each fills.
FILES = ("enc", "enc2", "dec2", "dec")
#: Log power in dB is shifted and scaled by these (mu_rescale, sigma_rescale).
MEAN_DB, SCALE_DB = -25.0, 75.0
#: Hidden layers that can be probed: 768 channels at 10.77 Hz, or 1,024 at 172 Hz.
FEATURE_POINTS = ("enc2", "enc")


class Musika(NeuralAutoencoder):
    """Musika; the arguments are those of `NeuralAutoencoder`.

    Args:
        feature_point: "enc2": the last hidden layer of the second encoder (768), our reading of "the layer with
            most output channels before the last linear layer"; "enc": that of the first (1,024).
    """

    name = "musika"
    sample_rate = 44100
    latent_rate = 44100 / 4096
    latent_dim = 64
    compression_ratio = 64.0
    n_parameters = 28_087_890
    library = ("h5py", "3.10", "'m2l[h5]'")
    window_seconds = None

    def __init__(self, *args: Any, feature_point: str = "enc2", **kwargs: Any) -> None:
        if feature_point not in FEATURE_POINTS:
            raise ValueError(f"feature_point must be one of {FEATURE_POINTS}, got {feature_point!r}")
        self.feature_point = feature_point
        super().__init__(*args, **kwargs)

    def _extra_options(self) -> dict[str, Any]:
        return {"feature_point": self.feature_point}

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        return {"hop": 16, "inner": 8, "latent": 4} if tiny else {"hop": 256, "inner": 64, "latent": 64}

    @classmethod
    def build(cls, config: dict[str, Any]) -> torch.nn.Module:
        from benchmarks.autoencoders.networks.musika import MusikaNet

        return MusikaNet(**config)

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        network: Any = cls.build(config)
        for name in FILES:
            load_h5(getattr(network, name), path / f"{name}.h5")
        return network

    def _encode(self, audio: Tensor) -> dict[str, Tensor]:
        network: Any = self.model
        return {"z": network.encode(spectrogram(self._padded(audio), self._hop))}

    def _decode(self, latents: dict[str, Tensor], generator: torch.Generator, n_steps: int) -> Tensor:
        network: Any = self.model
        magnitude, phase = network.decode(latents["z"], generator)
        return inverse_spectrogram(magnitude, phase, self._hop)[:, None, 3 * self._hop :]

    def _features(self, audio: Tensor) -> Tensor:
        network: Any = self.model
        x = spectrogram(self._padded(audio), self._hop)
        if self.feature_point == "enc":
            return network.enc.hidden(x)  # type: ignore[no-any-return]
        return network.enc2.hidden(network.enc(x))  # type: ignore[no-any-return]

    @property
    def _hop(self) -> int:
        return int(self.settings["hop"])

    def _padded(self, audio: Tensor) -> Tensor:
        """(1, 1, S) -> (1, S') with three hops of silence in front and whole blocks of 64 frames."""
        from torch.nn import functional as F

        samples, hop = audio.shape[-1], self._hop
        # One more block than the samples need, so that the last ones are covered by four frames as well.
        frames = 64 * math.ceil((samples + 3 * hop) / (64 * hop))
        return F.pad(audio[:, 0], (3 * hop, hop * frames - samples))


def spectrogram(audio: Tensor, hop: int) -> Tensor:
    """(B, S) -> (B, 2 hop + 1, frames): (10 log10 |STFT|² + 25) / 75, window 4 hops (Hann), no centering."""
    import torch

    frames = audio.unfold(-1, 4 * hop, hop) * torch.hann_window(4 * hop, device=audio.device)
    power = torch.fft.rfft(frames).abs().square()
    decibels = 10.0 * torch.log10(power.clamp_min(1e-10))
    return ((decibels - MEAN_DB) / SCALE_DB).transpose(1, 2)


def inverse_spectrogram(magnitude: Tensor, phase: Tensor, hop: int) -> Tensor:
    """Two maps (B, 2 hop + 1, T) -> (B, hop T + 3 hop); inverse of `spectrogram`, the phase in units of pi."""
    import torch

    from m2l.representation import overlap_add

    amplitude = (10.0 ** (0.1 * (magnitude * SCALE_DB + MEAN_DB)) + 1e-7).sqrt()
    spectrum = torch.polar(amplitude, phase * math.pi).transpose(1, 2)
    window = torch.hann_window(4 * hop, device=magnitude.device)
    # Divided by the sum of the squared windows that cover a sample: analysis then synthesis is the identity.
    window = window / window.square().reshape(4, hop).sum(0).repeat(4)
    return overlap_add(torch.fft.irfft(spectrum) * window, hop)


def load_h5(network: torch.nn.Module, path: Path) -> None:
    """Fill one of the four networks from a Keras `save_weights` file.

    Keras numbers the layers of a class over a whole session (`conv2d_7`, `conv2d_8`, …), so names say nothing but
    the order; within a class, layers are matched in the order of their numbers, and every shape is checked.

    Raises:
        CheckpointError: not such a file, or layers of other numbers or shapes; the message names them.
        ImportError: no h5py.
    """
    import h5py
    import torch

    from benchmarks.autoencoders.networks.musika import keras_layers

    try:
        with h5py.File(path, "r") as file:
            found = _groups(file, path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read as h5: {error}") from error
    expected = keras_layers(network)
    problems = [f"unknown layer {name}" for name in found.pop("", [])]
    for kind, layers in expected.items():
        groups = found.get(kind, [])
        if len(groups) != len(layers):
            problems.append(f"{len(groups)} layers of class {kind}, expected {len(layers)}")
            continue
        for (name, weights), layer in zip(groups, layers, strict=True):
            for target, value in _torch_weights(kind, weights, layer, name, problems):
                if tuple(target.shape) != value.shape:
                    problems.append(f"{name}: shape {value.shape}, expected {tuple(target.shape)}")
                elif value.dtype != np.float32:
                    problems.append(f"{name}: {value.dtype}, expected float32")
                elif not problems:
                    with torch.no_grad():
                        target.copy_(torch.from_numpy(np.array(value)))
    if problems:
        raise CheckpointError(f"{path} is not in the published format: {'; '.join(problems[:8])}")


#: Layers of the published graphs that were given a name instead of a number, both convolutions at the end.
_NAMED = {"cbottle": "conv2d", "cout": "conv2d"}


def _groups(file: Any, path: Path) -> dict[str, list[Any]]:
    """Layers with weights by Keras class, in the order of their numbers; names of no known class under ""."""
    root = file.get("model_weights", file)
    if "layer_names" not in root.attrs:
        raise CheckpointError(f"{path} has no attribute 'layer_names': not a Keras file of weights")
    numbered: dict[str, list[tuple[int, str, dict[str, np.ndarray]]]] = {}
    unknown = []
    for raw in root.attrs["layer_names"]:
        name = _text(raw)
        names = [_text(item) for item in root[name].attrs["weight_names"]]
        if not names:
            continue
        weights = {item.rsplit("/", 1)[-1].partition(":")[0]: np.asarray(root[name][item]) for item in names}
        match = re.fullmatch(r"(conv2d_transpose|conv2d|add_noise)(?:_(\d+))?", name)
        if match:
            numbered.setdefault(match[1], []).append((int(match[2] or 0), name, weights))
        elif name in _NAMED:
            numbered.setdefault(_NAMED[name], []).append((1 << 30, name, weights))
        else:
            unknown.append(name)
    found: dict[str, list[Any]] = {
        kind: [(name, weights) for _, name, weights in sorted(layers, key=lambda layer: layer[0])]
        for kind, layers in numbered.items()
    }
    return found | {"": unknown}


def _torch_weights(
    kind: str, weights: dict[str, np.ndarray], layer: Any, name: str, problems: list[str]
) -> list[tuple[Tensor, np.ndarray]]:
    """Pairs of a parameter and its value in torch's layout."""
    wanted = {"noise_weight"} if kind == "add_noise" else {"kernel", "bias"}
    if set(weights) != wanted:
        problems.append(f"{name} holds {', '.join(sorted(weights))}, expected {', '.join(sorted(wanted))}")
        return []
    if kind == "add_noise":
        return [(layer.noise_weight, weights["noise_weight"])]
    kernel = weights["kernel"]
    if kernel.ndim != 4 or kernel.shape[0] != 1:
        problems.append(f"{name}: kernel of shape {kernel.shape}, expected (1, width, …, …)")
        return []
    # (1, k, in, out) -> (out, in, k); transposed (1, k, out, in) -> (in, out, k).
    return [(layer.conv.weight, kernel[0].transpose(2, 1, 0)), (layer.conv.bias, weights["bias"])]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
