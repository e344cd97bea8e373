"""Moûsai (Schneider et al. 2023): diffusion autoencoders on 48 kHz stereo, `dmae1d-ATC32-v3` and `dmae1d-ATC64-v2`.

The published model code lives on the hub and needs transformers 4.24; here the pickled weights are read (tensors
only) into a torch port (`mousai_net`), every name and shape checked.

What to know about its numbers:

- Stereo only: a mono clip is given twice and the two outputs are averaged.
- The encoder sees magnitudes only; phase is made up by the diffusion model, so SI-SDR is low (-17.47 dB).
- Decoding starts from noise and takes `n_steps` (20, as in its README; the number behind Table 2 is not stated).
  It is recorded with each row; the noise follows from the seed.
- Upstream rounds every output to a power of two of samples, so clips are coded in pieces of 2^18 samples (5.46 s)
  that know nothing of each other, the last one padded with silence.
- Nothing clips: samples beyond ±1 stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.autoencoders.neural import NeuralAutoencoder, inputs_of
from benchmarks.weights.loading import check_state, load_strict
from m2l.io.torch_files import CheckpointError, read_pickled

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_TINY_UNET = {
    "channels": [8, 16, 16],
    "factors": [1, 2, 2],
    "items": [1, 1, 2],
    "inject_depth": 2,
    "modulation": 16,
    "filters": 4,
    "window": 16,
    "stride": 8,
}


class _Mousai(NeuralAutoencoder):
    """What both versions share; the arguments are those of `NeuralAutoencoder`."""

    sample_rate = 48000
    channels = "stereo"
    latent_dim = 32
    n_steps = 20
    #: Samples coded at a time.
    piece = 1 << 18
    window_seconds = None
    multiple = piece

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        tiny = bool(kwargs.get("tiny", args[3] if len(args) > 3 else False))
        if tiny:
            self.piece = self.multiple = 1 << 11  # type: ignore[misc]
        super().__init__(*args, **kwargs)

    def _extra_options(self) -> dict[str, Any]:
        return {"piece": self.piece}

    @classmethod
    def build(cls, config: dict[str, Any]) -> torch.nn.Module:
        from benchmarks.autoencoders.networks.mousai import MousaiNet

        return MousaiNet(**config)

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        model = cls.build(config)
        load_published(model, read_pickled(path, any_form=True), str(path))
        return model

    def _encode(self, audio: Tensor) -> dict[str, Tensor]:
        import torch

        model: Any = self.model
        return {"z": torch.cat([model.encoder(part) for part in audio.split(self.piece, dim=-1)], dim=-1)}

    def _decode(self, latents: dict[str, Tensor], generator: torch.Generator, n_steps: int) -> Tensor:
        import torch

        model: Any = self.model
        parts = []
        for z in latents["z"].split(self.piece // model.encoder.factor, dim=-1):
            noise = torch.randn(1, 2, self.piece, generator=generator).to(z.device)
            parts.append(model.sample(noise, z, n_steps))
        return torch.cat(parts, dim=-1)

    def _features(self, audio: Tensor) -> Tensor:
        """Input of the encoder's last 1x1 convolution (512)."""
        import torch

        model: Any = self.model
        return torch.cat(inputs_of(model.encoder.to_out, lambda: self._encode(audio)), dim=-1)


class MousaiV3(_Mousai):
    """`dmae1d-ATC32-v3`: log-mel encoder, 93.75 Hz, 32x. The configuration is exact."""

    name = "mousai-v3"
    latent_rate = 93.75
    compression_ratio = 32.0
    n_parameters = 86_270_688

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        encoder = {"front": "mel", "n_fft": 1024, "hop": 256, "n_mels": 80, "latent": 32}
        if tiny:
            encoder |= {"n_fft": 64, "hop": 16, "n_mels": 8, "latent": 4}
            return {"encoder": encoder | {"channels": 16, "factors": [2], "n_blocks": [2]}, "unet": _TINY_UNET}
        return {
            "encoder": encoder | {"channels": 512, "factors": [2], "n_blocks": [12]},
            "unet": {
                "channels": [256, 512, 512, 512, 512],
                "factors": [1, 2, 2, 2, 2],
                "items": [1, 2, 2, 2, 4],
                "inject_depth": 4,
                "modulation": 1024,
                "filters": 128,
                "window": 64,
                "stride": 32,
            },
        }


class MousaiV2(_Mousai):
    """`dmae1d-ATC64-v2`: magnitude encoder, 46.875 Hz, 64x. The configuration is that of `dmae.py` beside its weights.

    The stride of the learned transform shows in no shape of a weight: only the values of the output hold it.
    """

    name = "mousai-v2"
    latent_rate = 46.875
    compression_ratio = 64.0
    n_parameters = 185_107_872

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        encoder = {"front": "magnitude", "n_fft": 1023, "hop": 256, "latent": 32}
        if tiny:
            encoder |= {"n_fft": 63, "hop": 8, "latent": 4}
            return {"encoder": encoder | {"channels": 16, "factors": [2, 2], "n_blocks": [1, 1]}, "unet": _TINY_UNET}
        return {
            "encoder": encoder | {"channels": 512, "factors": [2, 2], "n_blocks": [4, 8]},
            "unet": {
                "channels": [256, 512, 512, 512, 1024, 1024, 1024],
                "factors": [1, 2, 2, 2, 2, 2, 2],
                "items": [1, 2, 2, 2, 2, 2, 2],
                "inject_depth": 4,
                "modulation": 1024,
                "filters": 128,
                "window": 64,
                "stride": 64,
            },
        }


def load_published(model: Any, state: Mapping[str, Tensor], what: str) -> None:
    """Fill a `MousaiNet` from the published names.

    Raises:
        CheckpointError: entries are missing, unknown or of another shape or type (the whole difference goes to
            stderr, the message names the first ones), or two names of one tensor hold different values.
    """
    import torch

    from benchmarks.autoencoders.networks.mousai import published_names

    own = model.state_dict()
    names = published_names(model)
    expected = {name: tuple(own[key].shape) for key, aliases in names.items() for name in aliases}
    try:
        check_state(state, expected, what)
    except CheckpointError:
        for line in differences(state, expected):
            print(line, file=sys.stderr)
        raise
    for aliases in names.values():
        for alias in aliases[1:]:
            if not torch.equal(state[aliases[0]], state[alias]):
                raise CheckpointError(f"{what}: {aliases[0]} and {alias} are one tensor and differ")
    load_strict(model, {key: state[aliases[0]] for key, aliases in names.items()}, what)


def differences(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """One line per name that only one side has, or whose shapes differ."""
    lines = []
    for name in sorted({*state, *expected}):
        found = tuple(state[name].shape) if name in state else None
        wanted = expected.get(name)
        if found != wanted:
            lines.append(f"{name}: file {found or 'lacks it'}, configuration {wanted or 'lacks it'}")
    return lines
