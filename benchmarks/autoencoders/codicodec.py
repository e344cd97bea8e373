"""CoDiCodec (Pasini, Lattner and Fazekas 2025): Music2Latent's successor, 128x, 48 kHz stereo.

The network is that of the package `codicodec` 0.1.2 (weights: CC BY-NC 4.0). Only its files for the network are run,
under a name of our own (`codicodec_net`): the package itself imports librosa, and its constructor downloads.

What to know about its numbers:

- Stereo only: a mono clip is given twice and the two outputs are averaged. 44.1 kHz is resampled to 48 kHz; upstream
  takes either rate without looking.
- Decoding is random (noise of a consistency model, unseeded upstream) and takes `n_steps`: 5 by default, 3 and 4
  in the paper's table. The seed fixes it.
- Decoding in parallel joins chunks of 32,768 samples in pairs, at places that change with the step, so a decoded
  chunk depends on its neighbors. (The autoregressive mode is not used here.)
- Real and imaginary part are compressed each by itself, not the magnitude as in Music2Latent, with 50 % overlap.
- The decoder clips to ±1. The first hop of an inverse STFT fades in, so one hop of silence goes before a clip.
- Computed in float32; the package uses float16 autocast.
- Latents are the tanh-like codes in (-1, 1); the package's `encode` returns atanh of them, divided by 0.8.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.autoencoders.neural import NeuralAutoencoder, inputs_of
from benchmarks.weights.loading import load_strict
from m2l.io.torch_files import CheckpointError, read_pickled

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: STFT hop, window, exponent and factor of the compression.
HOP, WINDOW, ALPHA, BETA = 1024, 2048, 0.65, 0.34
#: Frames per chunk, and latents a chunk is coded as (4 numbers each).
FRAMES, LATENTS = 32, 128


class CoDiCodec(NeuralAutoencoder):
    """CoDiCodec with continuous latents, decoded in parallel; the arguments are those of `NeuralAutoencoder`."""

    name = "codicodec"
    sample_rate = 48000
    channels = "stereo"
    # 128 latents of 4 numbers per 0.68 s, which the package arranges as 8 vectors of 64.
    latent_rate = 48000 / 4096
    latent_dim = 64
    compression_ratio = 128.0
    n_parameters = 148_533_388
    n_steps = 5
    library = ("codicodec", "0.1.2", "--no-deps codicodec==0.1.2")
    window_seconds = 30.0

    def _extra_options(self) -> dict[str, Any]:
        return {"decoding": "parallel", "precision": "float32"}

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        if tiny:
            return {
                "dim": 16,
                "heads": 2,
                "head_dim": 8,
                "num_layers": 1,
                "num_layers_encoder": 1,
                "cond_channels": 16,
                "frontend_base_channels": 8,
                "frontend_multipliers_list": [1, 1, 1, 2],
                "frontend_layers_list": [1, 1, 1, 1],
                "frontend_encoder_layers_list": [1, 1, 1, 1],
            }
        return {}

    @classmethod
    def build(cls, config: dict[str, Any]) -> torch.nn.Module:
        from benchmarks.autoencoders.networks.codicodec import build_network

        return build_network(config)

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        content = read_pickled(path, any_form=True)
        if not isinstance(content, dict) or "gen_state_dict" not in content:
            raise CheckpointError(f"{path} has no entry 'gen_state_dict': not a CoDiCodec checkpoint")
        return load_strict(cls.build(config), content["gen_state_dict"], str(path))

    def _encode(self, audio: Tensor) -> dict[str, Tensor]:
        """One row of codes `(chunks, 128, 4)` per chunk, under the name `z`."""
        model: Any = self.model
        return {"z": model.encoder_forward(self._chunks(audio), dont_quantize=True)}

    def _decode(self, latents: dict[str, Tensor], generator: torch.Generator, n_steps: int) -> Tensor:
        import torch
        from torch.nn import functional as F

        model: Any = self.model
        z = latents["z"]
        n_chunks = z.shape[0]
        flat = F.pad(z, (0, 0, 0, 0, 0, n_chunks % 2)).flatten(0, 1)[None]
        # The network draws from the global generator.
        devices = [z.device] if z.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(torch.randint(1 << 62, (1,), generator=generator)))
            spectrum = model.decode_parallel(flat, denoising_steps=n_steps)
        return waveform(spectrum[..., : n_chunks * FRAMES])[..., HOP:]

    def _features(self, audio: Tensor) -> Tensor:
        """States of the latent tokens before the encoder's last linear layer (512), chunk after chunk."""
        model: Any = self.model
        found = inputs_of(model.encoder.linear_output, lambda: self._encode(audio))[0]
        return found[:, :LATENTS].flatten(0, 1).T[None]

    def _chunks(self, audio: Tensor) -> Tensor:
        """(1, 2, S) -> (chunks, 4, 1024, 32), with a hop of silence in front and whole chunks."""
        from torch.nn import functional as F

        samples = audio.shape[-1]
        frames = FRAMES * math.ceil((samples + HOP) / (HOP * FRAMES))
        spectrum = representation(F.pad(audio, (HOP, frames * HOP - samples)))
        return spectrum.reshape(4, -1, frames // FRAMES, FRAMES).permute(2, 0, 1, 3)


def representation(audio: Tensor) -> Tensor:
    """(1, 2, S) -> (1, 4, 1024, T): real and imaginary part per channel, `beta sign(x) |x|^alpha`, no Nyquist bin."""
    import torch

    frames = audio.unfold(-1, WINDOW, HOP) * torch.hann_window(WINDOW, device=audio.device)
    spectrum = torch.fft.rfft(frames)[..., : WINDOW // 2].transpose(-1, -2)
    parts = torch.stack([spectrum.real, spectrum.imag], dim=2).flatten(1, 2)
    return BETA * parts.sign() * parts.abs() ** ALPHA


def waveform(parts: Tensor) -> Tensor:
    """Inverse of `representation`: (1, 4, 1024, T) -> (1, 2, 1024 T + 1024), clipped to ±1."""
    import torch

    from m2l.representation import overlap_add

    parts = parts.float() / BETA
    parts = parts.sign() * parts.abs() ** (1.0 / ALPHA)
    spectrum = torch.complex(parts[:, 0::2].contiguous(), parts[:, 1::2].contiguous()).transpose(-1, -2)
    window = torch.hann_window(WINDOW, device=parts.device)
    window = window / window.square().reshape(WINDOW // HOP, HOP).sum(0).repeat(WINDOW // HOP)
    return overlap_add(torch.fft.irfft(spectrum, n=WINDOW) * window, HOP).clamp(-1.0, 1.0)
