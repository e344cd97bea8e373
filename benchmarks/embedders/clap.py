"""LAION-CLAP's audio tower (Wu et al. 2023) with any of the five published checkpoints.

The network is transformers' `ClapAudioModelWithProjection`; the checkpoint's names are translated, and
compared one by one with the published listing first. Embeddings have unit length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.embedders.frontends import clap_log_mel
from benchmarks.embedders.mel_filters import mel_filters_slaney
from benchmarks.embedders.torch_embedder import TorchEmbedder
from benchmarks.weights.loading import check_state
from m2l.io.torch_files import CheckpointError, read_pickled

#: 10 s at 48 kHz: the only length the network takes.
WINDOW = 480_000
HOP = 48_000
N_FFT, N_MELS = 1024, 64

#: Width of the patch embedding and blocks per stage.
TOWERS: dict[str, tuple[int, tuple[int, int, int, int]]] = {
    "HTSAT-tiny": (96, (2, 2, 6, 2)),
    "HTSAT-base": (128, (2, 2, 12, 2)),
}
_HEADS = (4, 8, 16, 32)
_PROJECTION = 512
_CLASSES = 527
_ATTENTION_WINDOW = 8

#: Parts of a published checkpoint that are not the audio tower.
_OTHER_PARTS = ("text_branch.", "text_projection.", "text_transform.", "audio_transform.", "logit_scale_")


def published_shapes(tower: str) -> dict[str, tuple[int, ...]]:
    """Every name and shape of a published checkpoint's audio tower.

    Raises:
        ValueError: unknown tower.
    """
    if tower not in TOWERS:
        raise ValueError(f"unknown tower {tower!r}: {', '.join(TOWERS)}")
    width, depths = TOWERS[tower]
    bins = N_FFT // 2 + 1
    shapes: dict[str, tuple[int, ...]] = {
        "spectrogram_extractor.stft.conv_real.weight": (bins, 1, N_FFT),
        "spectrogram_extractor.stft.conv_imag.weight": (bins, 1, N_FFT),
        "logmel_extractor.melW": (bins, N_MELS),
        **{f"bn0.{name}": (N_MELS,) for name in ("weight", "bias", "running_mean", "running_var")},
        "bn0.num_batches_tracked": (),
        "patch_embed.proj.weight": (width, 1, 4, 4),
        **{f"patch_embed.{name}": (width,) for name in ("proj.bias", "norm.weight", "norm.bias")},
    }
    area = _ATTENTION_WINDOW**2
    for stage, (depth, heads) in enumerate(zip(depths, _HEADS, strict=True)):
        dim = width * 2**stage
        side = 64 // 2**stage  # patches per side at this stage
        for block in range(depth):
            prefix = f"layers.{stage}.blocks.{block}"
            # Every second block shifts its windows, unless one window covers everything.
            if block % 2 == 1 and side > _ATTENTION_WINDOW:
                shapes[f"{prefix}.attn_mask"] = ((side // _ATTENTION_WINDOW) ** 2, area, area)
            shapes |= {
                f"{prefix}.norm1.weight": (dim,),
                f"{prefix}.norm1.bias": (dim,),
                f"{prefix}.attn.relative_position_bias_table": ((2 * _ATTENTION_WINDOW - 1) ** 2, heads),
                f"{prefix}.attn.relative_position_index": (area, area),
                f"{prefix}.attn.qkv.weight": (3 * dim, dim),
                f"{prefix}.attn.qkv.bias": (3 * dim,),
                f"{prefix}.attn.proj.weight": (dim, dim),
                f"{prefix}.attn.proj.bias": (dim,),
                f"{prefix}.norm2.weight": (dim,),
                f"{prefix}.norm2.bias": (dim,),
                f"{prefix}.mlp.fc1.weight": (4 * dim, dim),
                f"{prefix}.mlp.fc1.bias": (4 * dim,),
                f"{prefix}.mlp.fc2.weight": (dim, 4 * dim),
                f"{prefix}.mlp.fc2.bias": (dim,),
            }
        if stage < len(depths) - 1:
            prefix = f"layers.{stage}.downsample"
            shapes[f"{prefix}.reduction.weight"] = (2 * dim, 4 * dim)
            shapes |= {f"{prefix}.norm.{name}": (4 * dim,) for name in ("weight", "bias")}
    last = 8 * width
    shapes |= {
        "norm.weight": (last,),
        "norm.bias": (last,),
        "tscam_conv.weight": (_CLASSES, last, 2, 3),
        "tscam_conv.bias": (_CLASSES,),
        "head.weight": (_CLASSES, _CLASSES),
        "head.bias": (_CLASSES,),
    }
    shapes = {f"audio_branch.{name}": shape for name, shape in shapes.items()}
    return shapes | {
        "audio_projection.0.weight": (_PROJECTION, last),
        "audio_projection.0.bias": (_PROJECTION,),
        "audio_projection.2.weight": (_PROJECTION, _PROJECTION),
        "audio_projection.2.bias": (_PROJECTION,),
    }


def audio_state(checkpoint: Any, what: str) -> dict[str, torch.Tensor]:
    """The audio tower's entries of a published checkpoint, without the `module.` of its training.

    Raises:
        CheckpointError: it has no state dict.
    """
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"{what} holds no state dict")
    names = {key: key.removeprefix("module.") for key in state}
    return {ours: state[key] for key, ours in names.items() if not ours.startswith(_OTHER_PARTS)}


def check_computed(state: Mapping[str, torch.Tensor], what: str) -> None:
    """Compare a checkpoint's STFT kernels and attention masks, which are not used, with what is computed instead.

    Raises:
        CheckpointError: an entry holds other values; the message names it.
    """
    for key, value in state.items():
        if key.endswith(".attn_mask"):
            alike = torch.allclose(value.float(), _attention_mask(len(value)))
        elif ".stft.conv_" in key:
            alike = torch.allclose(value.float(), _stft_kernels(imaginary="conv_imag" in key), rtol=0, atol=1e-5)
        else:
            continue
        if not alike:
            raise CheckpointError(f"{what}: {key} holds other values than those that are computed here in its place")


def _stft_kernels(*, imaginary: bool) -> torch.Tensor:
    """The Fourier transform with a periodic Hann window, (513, 1, 1024)."""
    turns = torch.arange(N_FFT // 2 + 1, dtype=torch.float64)[:, None] * torch.arange(N_FFT) / N_FFT
    wave = torch.polar(torch.hann_window(N_FFT, dtype=torch.float64).expand_as(turns), -2 * torch.pi * turns)
    return (wave.imag if imaginary else wave.real)[:, None].float()


def _attention_mask(windows: int) -> torch.Tensor:
    """Which of a window's positions see each other once windows are shifted by half: (windows, area, area), 0 or -100.

    Rows and columns of the image's last window come from two sides of it each (Liu et al. 2021, Fig. 4).
    """
    across = round(windows**0.5)
    side = torch.zeros(across, _ATTENTION_WINDOW)
    side[-1, _ATTENTION_WINDOW // 2 :] = 1
    region = (2 * side[:, None, :, None] + side[None, :, None, :]).reshape(windows, -1)
    return (region[:, :, None] != region[:, None, :]).float() * -100.0


def transformers_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Published names -> those of `ClapAudioModelWithProjection`.

    The classifier heads and the mel matrix have no counterpart there; STFT kernels and attention masks are computed,
    which `check_computed` verifies.
    """
    unused = ("spectrogram_extractor.", "logmel_extractor.", "tscam_conv.", "head.")
    renames = (
        ("bn0.", "batch_norm."),
        (".attn.proj.", ".attention.output.dense."),
        (".attn.relative", ".attention.self.relative"),
        (".mlp.fc1.", ".intermediate.dense."),
        (".mlp.fc2.", ".output.dense."),
        (".norm1.", ".layernorm_before."),
        (".norm2.", ".layernorm_after."),
    )
    result: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if key.startswith("audio_projection."):
            layer = {"0": "linear1", "2": "linear2"}[key.split(".")[1]]
            result[f"audio_projection.{layer}.{key.rsplit('.', 1)[1]}"] = value
            continue
        name = key.removeprefix("audio_branch.")
        if name.startswith(unused) or name.endswith(".attn_mask"):
            continue
        for theirs, ours in renames:
            name = name.replace(theirs, ours)
        name = f"audio_model.audio_encoder.{name}"
        if ".attn.qkv." in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                result[name.replace(".attn.qkv.", f".attention.self.{part}.")] = third
        else:
            result[name] = value
    return result


class ClapAudio(nn.Module):
    """Audio tower of a checkpoint: log-mel (n, 1001, 64) in dB -> unit embeddings (n, 512)."""

    def __init__(self, tower: str, state: Mapping[str, torch.Tensor], what: str = "the checkpoint") -> None:
        """Raises CheckpointError naming the entries of `state` that are missing, unknown or misshapen."""
        super().__init__()
        check_state(state, published_shapes(tower), what)
        check_computed(state, what)
        from transformers.models.clap.configuration_clap import ClapAudioConfig
        from transformers.models.clap.modeling_clap import ClapAudioModelWithProjection

        width, depths = TOWERS[tower]
        config = ClapAudioConfig(
            patch_embeds_hidden_size=width,
            hidden_size=8 * width,
            depths=list(depths),
            num_attention_heads=list(_HEADS),
            projection_dim=_PROJECTION,
            num_mel_bins=N_MELS,
            spec_size=256,
            window_size=_ATTENTION_WINDOW,
            patch_embed_input_channels=1,
        )
        self.tower = ClapAudioModelWithProjection(config)
        translated = transformers_state(state)
        own = self.tower.state_dict()
        indices = [key for key in own if key.endswith("relative_position_index")]
        if any(not torch.equal(own[key], translated[key].to(own[key].dtype)) for key in indices):
            raise CheckpointError(f"{what}: relative positions are numbered differently from transformers'")
        self.tower.load_state_dict(translated, strict=True)
        self.register_buffer("mel_weights", state["audio_branch.logmel_extractor.melW"].clone())

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        """(n, 1001, 64) -> (n, 512)."""
        return F.normalize(self.tower(input_features=log_mel[:, None]).audio_embeds, dim=-1)


def fit_window(audio: torch.Tensor) -> torch.Tensor:
    """(samples,) -> (480000,): repeated as often as it fits, then zeros; of longer audio the middle."""
    excess = len(audio) - WINDOW
    if excess >= 0:
        return audio[excess // 2 : excess // 2 + WINDOW]
    repeated = audio.repeat(WINDOW // len(audio))
    return F.pad(repeated, (0, WINDOW - len(repeated)))


def sliding_windows(audio: torch.Tensor) -> list[torch.Tensor]:
    """10 s windows every second from the start to the last sample, zero-padded, of 16-bit samples."""
    quantized = (audio.clamp(-1.0, 1.0) * 32767.0).to(torch.int16).to(torch.float32) / 32767.0
    pieces = [quantized[start : start + WINDOW] for start in range(0, len(audio), HOP)]
    return [F.pad(piece, (0, WINDOW - len(piece))) for piece in pieces]


class ClapEmbedder(TorchEmbedder):
    """FAD_clap's embedder.

    Args:
        tower: `HTSAT-tiny` or `HTSAT-base`, as the checkpoint was trained.
        mode: `file` for one embedding per clip as frechet-audio-distance does, `windows` for one per
            10 s window with a hop of 1 s as fadtk does.
    """

    batch_size = 4

    def __init__(self, name: str, tower: str, mode: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.tower, self.mode = tower, mode

    def _load(self) -> nn.Module:
        state = audio_state(read_pickled(self.path, any_form=True), str(self.path))
        return ClapAudio(self.tower, state, str(self.path))

    def _windows(self, audio: torch.Tensor) -> torch.Tensor:
        pieces = [fit_window(audio)] if self.mode == "file" else sliding_windows(audio)
        front_end = clap_log_mel(self.model.mel_weights)  # type: ignore[arg-type]
        return torch.stack([front_end(piece) for piece in pieces])

    def _forward(self, windows: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.model(windows)
        return output


def clap_mel_matrix() -> np.ndarray:
    """The mel matrix LAION trained with: Slaney, 64 bands, 50 Hz - 14 kHz at 48 kHz; (513, 64) float32."""
    filters = mel_filters_slaney(sample_rate=48000, n_fft=N_FFT, n_mels=N_MELS, low=50.0, high=14000.0)
    return filters.astype(np.float32)
