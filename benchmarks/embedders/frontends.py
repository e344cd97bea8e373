"""Log-mel front ends, in float64: spectrograms by `torch.fft` through the filter banks of `mel_filters`.

float64 because a float32 transform's rounding noise is white: beside a loud tone it would fill the quiet
bands that the logarithm makes visible.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.embedders.mel_filters import mel_filters_htk, mel_filters_slaney


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
