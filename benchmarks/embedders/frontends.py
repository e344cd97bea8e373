"""Log-mel front ends, in float64: spectrograms by `torch.fft`, mel filter banks from their definitions.

float64 because a float32 transform's rounding noise is white: beside a loud tone it would fill the quiet
bands that the logarithm makes visible.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

Weights = npt.NDArray[np.float64]


def spectrum(audio: torch.Tensor, *, n_fft: int, win_length: int, hop_length: int, pad: str | None) -> torch.Tensor:
    """Magnitude spectrogram with a periodic Hann window.

    Args:
        audio: (samples,).
        win_length: window in samples; frames are zero-padded on the right to `n_fft`.
        pad: `"reflect"` or `"constant"` pads n_fft / 2 on both sides (centered frames); None pads nothing.

    Returns:
        (frames, n_fft // 2 + 1) float64.
    """
    audio = audio.to(torch.float64)
    if pad is not None:
        audio = torch.nn.functional.pad(audio[None, None], (n_fft // 2, n_fft // 2), mode=pad)[0, 0]
    window = torch.hann_window(win_length, periodic=True, dtype=torch.float64, device=audio.device)
    frames = audio.unfold(0, win_length, hop_length) * window
    return torch.fft.rfft(frames, n=n_fft).abs()


def hz_to_mel_htk(hz: Weights) -> Weights:
    """1127 ln(1 + f/700)."""
    return 1127.0 * np.log1p(np.asarray(hz, dtype=np.float64) / 700.0)


def mel_filters_htk(*, sample_rate: int, n_fft: int, n_mels: int, low: float, high: float) -> Weights:
    """Triangles in mel (AudioSet's): unit peak, straight sides on the mel axis, no weight on bin 0.

    Returns:
        (n_fft // 2 + 1, n_mels).
    """
    bins = hz_to_mel_htk(np.arange(n_fft // 2 + 1) * sample_rate / n_fft)
    ends = hz_to_mel_htk(np.array([low, high]))
    edges = np.linspace(ends[0], ends[1], n_mels + 2, dtype=np.float64)
    filters = _triangles(bins, edges)
    filters[0] = 0.0
    return filters


def mel_filters_slaney(*, sample_rate: int, n_fft: int, n_mels: int, low: float, high: float) -> Weights:
    """Slaney's auditory-toolbox bank: edges equally spaced in his mel, triangles in Hz, unit area.

    Returns:
        (n_fft // 2 + 1, n_mels).
    """
    linear, knee, step = 200.0 / 3.0, 1000.0, math.log(6.4) / 27.0

    def to_mel(hz: float) -> float:
        return hz / linear if hz < knee else knee / linear + math.log(hz / knee) / step

    def to_hz(mel: Weights) -> Weights:
        above = knee * np.exp(step * (mel - knee / linear))
        return np.where(mel < knee / linear, mel * linear, above)

    edges = to_hz(np.linspace(to_mel(low), to_mel(high), n_mels + 2, dtype=np.float64))
    filters = _triangles(np.arange(n_fft // 2 + 1) * sample_rate / n_fft, edges)
    return filters * (2.0 / (edges[2:] - edges[:-2]))


def _triangles(points: Weights, edges: Weights) -> Weights:
    """(len(points), len(edges) - 2): triangle i rises from edges[i] to edges[i+1] and falls to edges[i+2]."""
    rising = (points[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[None, 2:] - points[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))


def vggish_log_mel() -> Callable[[torch.Tensor], torch.Tensor]:
    """Front end of VGGish: (samples,) at 16 kHz -> (frames, 64); 25 ms windows, 10 ms hop, ln(mel + 0.01)."""
    filters = torch.from_numpy(mel_filters_htk(sample_rate=16000, n_fft=512, n_mels=64, low=125.0, high=7500.0))

    def front_end(audio: torch.Tensor) -> torch.Tensor:
        magnitude = spectrum(audio, n_fft=512, win_length=400, hop_length=160, pad=None)
        return torch.log(magnitude @ filters.to(audio.device) + 0.01).to(torch.float32)

    return front_end


def musicnn_log_mel() -> Callable[[torch.Tensor], torch.Tensor]:
    """Front end of MusiCNN: (samples,) at 16 kHz -> (frames, 96); power mel, log10(10000 m + 1)."""
    filters = torch.from_numpy(mel_filters_slaney(sample_rate=16000, n_fft=512, n_mels=96, low=0.0, high=8000.0))

    def front_end(audio: torch.Tensor) -> torch.Tensor:
        magnitude = spectrum(audio, n_fft=512, win_length=512, hop_length=256, pad="constant")
        mel = magnitude.square() @ filters.to(audio.device)
        return torch.log10(10000.0 * mel + 1.0).to(torch.float32)

    return front_end


def clap_log_mel(mel_weights: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Front end of LAION-CLAP: (samples,) at 48 kHz -> (frames, 64) in dB re 1, floor -100 dB.

    Args:
        mel_weights: `logmel_extractor.melW` of the checkpoint, (513, 64).
    """
    filters = mel_weights.to(torch.float64)

    def front_end(audio: torch.Tensor) -> torch.Tensor:
        magnitude = spectrum(audio, n_fft=1024, win_length=1024, hop_length=480, pad="reflect")
        mel = magnitude.square() @ filters.to(audio.device)
        return (10.0 * torch.log10(mel.clamp(min=1e-10))).to(torch.float32)

    return front_end
