"""Lyra v2: SoundStream (Zeghidour et al. 2022) as Google trained it for speech at 16 kHz, run by ai-edge-litert.

The three published TensorFlow Lite models: an encoder and a decoder that keep state from frame to frame (320 samples,
64 features), and a residual quantizer of up to 46 codebooks of 16 entries.

What to know about its numbers:

- 16 kHz: nothing above 8 kHz survives the resampling, and metrics at the clip's own rate see that.
- Mono: the channels of a clip are coded one by one, each at the named rate; what is reported is measured.
- Without delay: frame i of the output stands for frame i of the input.
- It was trained on speech; nothing clips.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.autoencoders.base import AutoencoderSpec
from benchmarks.weights.find import find_weight, weight_digest
from benchmarks.weights.table import WEIGHTS
from m2l.audio import check_audio, fit_length, resample

WEIGHTS_NAME = "lyra-v2"
_ENCODER, _DECODER = "soundstream_encoder.tflite", "lyragan.tflite"
SAMPLE_RATE, FRAME, N_FEATURES = 16000, 320, 64
#: Codebooks, and the bits that one of their indices takes.
MOST_CODEBOOKS, BITS = 46, 4
#: Codebooks of the three rates that Lyra offers: 3.2, 6 and 9.2 kbit/s (8 bits are a byte, 50 frames a second).
RATES = {3200: 16, 6000: 30, 9200: 46}


@dataclass(frozen=True)
class Codes:
    """Indices `(channels, frames, codebooks)` of a clip, and the bits per second they take."""

    indices: np.ndarray
    bitrate: float


class Lyra:
    """Lyra v2 at one of its rates.

    Args:
        bitrate: bits per second and channel: 3200, 6000 or 9200.
        weights: folder of the three models; by default what `m2l-bench fetch lyra-v2` brought.

    Raises:
        ValueError: another rate.
        ImportError: ai-edge-litert is not installed.
        WeightsNotFoundError: the models are not on this machine.
    """

    def __init__(self, bitrate: int = 9200, weights: str | None = None) -> None:
        if bitrate not in RATES:
            raise ValueError(f"Lyra codes {', '.join(map(str, RATES))} bits per second, not {bitrate}")
        if importlib.util.find_spec("ai_edge_litert") is None:
            raise ImportError("Lyra's models need ai-edge-litert: pip install 'm2l[lyra]'")
        self.n_codebooks = RATES[bitrate]
        self._folder = Path(find_weight(WEIGHTS_NAME, weights))
        self.spec = AutoencoderSpec(
            name=f"lyra-{bitrate / 1000:g}k",
            sample_rate=SAMPLE_RATE,
            channels="per_channel",
            latent_rate=SAMPLE_RATE / FRAME,
            latent_dim=N_FEATURES,
            bitrate=float(bitrate),
            source=WEIGHTS[WEIGHTS_NAME].origin,
            license=WEIGHTS[WEIGHTS_NAME].license,
            weights_digest=weight_digest(WEIGHTS_NAME, weights),
            options={"n_codebooks": self.n_codebooks},
        )

    def encode(self, audio: np.ndarray, sample_rate: int) -> Codes:
        """Codes of `(channels, samples)` audio."""
        audio = check_audio(audio, sample_rate)
        seconds = audio.shape[1] / sample_rate
        audio = resample(audio, sample_rate, SAMPLE_RATE, exact=False)
        audio = fit_length(audio, -(-audio.shape[1] // FRAME) * FRAME)
        indices = np.stack([self._indices(channel.reshape(-1, 1, FRAME)) for channel in audio])
        return Codes(indices, indices.size * BITS / seconds)

    def decode(
        self, latents: Codes, *, length: int, sample_rate: int, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """Audio `(channels, length)` at `sample_rate`, aligned with the input."""
        audio = np.stack([self._audio(channel) for channel in latents.indices])
        return fit_length(resample(audio, SAMPLE_RATE, sample_rate, exact=False), length)

    def reconstruct(
        self, audio: np.ndarray, sample_rate: int, *, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        return self.decode(self.encode(audio, sample_rate), length=audio.shape[1], sample_rate=sample_rate)

    def _indices(self, frames: np.ndarray) -> np.ndarray:
        """(frames, codebooks) of one channel's frames (frames, 1, 320)."""
        quantize, count = self._quantizer.get_signature_runner("encode"), np.int32(self.n_codebooks)
        found = [quantize(input_frames=x, num_quantizers=count)["output_0"] for x in self._run(_ENCODER, frames)]
        return np.stack(found)[:, : self.n_codebooks, 0, 0]

    def _audio(self, indices: np.ndarray) -> np.ndarray:
        """(frames * 320,) from one channel's indices (frames, codebooks); -1 stands for a codebook that is not used."""
        look_up = self._quantizer.get_signature_runner("decode")
        padded = np.full((len(indices), MOST_CODEBOOKS, 1, 1), -1, dtype=np.int32)
        padded[:, : self.n_codebooks, 0, 0] = indices
        features = [look_up(encoding_indices=frame)["output_0"] for frame in padded]
        return np.concatenate(self._run(_DECODER, features), axis=1)[0]

    @cached_property
    def _quantizer(self) -> Any:
        return self._interpreter("quantizer.tflite")

    def _interpreter(self, name: str) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        made = Interpreter(model_path=str(self._folder / name), num_threads=1)
        made.allocate_tensors()
        return made

    def _run(self, name: str, frames: Iterable[np.ndarray]) -> list[np.ndarray]:
        """The outputs of a model that keeps state, frame by frame; resetting its variables leaves some of the state."""
        model = self._interpreter(name)
        source, target = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]
        outputs = []
        for frame in frames:
            model.set_tensor(source, frame)
            model.invoke()
            outputs.append(model.get_tensor(target))
        return outputs


def lyra(kbits: float, weights: str | None = None) -> Lyra:
    """Lyra v2 at a rate in kbit/s and channel."""
    return Lyra(round(1000 * kbits), weights)
