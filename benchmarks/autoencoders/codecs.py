"""Classical lossy codecs through libsndfile: MP3, Vorbis and Opus at named bit rates, as in `opus-24k`.

The named rate is the total over the channels given (one or two). What the encoder really spent is measured
from the bytes of every clip and reported beside the name: an encoder that cannot go as low (Vorbis in mono at
44.1 kHz: about 55 kbit/s; Opus in stereo: 12) or as high uses the nearest rate it has. libsndfile compensates encoder
delay itself; a test holds that by cross-correlation.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile as sf

from benchmarks.autoencoders.base import AutoencoderSpec
from m2l.audio import check_audio, fit_length, resample

#: Written in blocks: one call with a minute of stereo Vorbis overflows libsndfile's stack.
_BLOCK = 4096

#: Lowest and highest rate in kbit/s that makes sense, over one or two channels. Mono stops short of the highest.
_LIMITS = {"opus": (6, 512), "vorbis": (32, 500)}

#: MPEG-1 Layer III rates in kbit/s, the constant rates an encoder can be asked for.
_MP3_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)


@dataclass(frozen=True)
class Encoded:
    """A clip's bit stream: bytes of the file, and the rate and seconds of the audio in it."""

    data: bytes
    sample_rate: int
    seconds: float

    @property
    def bitrate(self) -> float:
        """Bits per second really spent, container included."""
        return 8.0 * len(self.data) / self.seconds


class LibsndfileCodec:
    """A lossy codec of libsndfile at a bit rate.

    Args:
        codec: "mp3", "vorbis" or "opus".
        bitrate: total bits per second over all channels.

    Raises:
        ValueError: unknown codec, or a rate it cannot be asked for.
        ImportError: soundfile is older than 0.13 and cannot set a rate.
    """

    def __init__(self, codec: str, bitrate: int) -> None:
        if codec not in _ENCODERS:
            raise ValueError(f"codec must be one of {sorted(_ENCODERS)}, got {codec!r}")
        if codec == "mp3" and bitrate / 1000 not in _MP3_RATES:
            rates = ", ".join(map(str, _MP3_RATES))
            raise ValueError(f"MP3 has no constant rate of {bitrate / 1000:g} kbit/s; it has {rates}")
        low, high = _LIMITS.get(codec, (0, math.inf))
        if not low <= bitrate / 1000 <= high:
            raise ValueError(f"{codec} can be asked for {low} to {high} kbit/s, not {bitrate / 1000:g}")
        if tuple(int(part) for part in sf.__version__.split(".")[:2]) < (0, 13):
            raise ImportError(f"codec bit rates need soundfile >= 0.13, found {sf.__version__}")
        self.codec, self.bitrate = codec, bitrate
        self.spec = AutoencoderSpec(
            name=f"{codec}-{bitrate / 1000:g}k",
            sample_rate=48000 if codec == "opus" else None,
            channels="stereo",
            bitrate=float(bitrate),
            source="libsndfile",
            license={"mp3": "LGPL (LAME)", "vorbis": "BSD", "opus": "BSD"}[codec],
            options={"codec": codec, "bitrate": bitrate, "rate_control": _CONTROL[codec]},
        )

    def encode(self, audio: np.ndarray, sample_rate: int) -> Encoded:
        """The bit stream of `(channels, samples)` audio.

        Raises:
            ValueError: more than two channels.
        """
        audio = check_audio(audio, sample_rate)
        if audio.shape[0] > 2:
            raise ValueError(f"{audio.shape[0]} channels: {self.spec.name} takes one or two")
        rate = self.spec.sample_rate or _mp3_or_vorbis_rate(sample_rate)
        audio = resample(audio, sample_rate, rate, exact=False)
        data = _ENCODERS[self.codec](np.clip(audio, -1.0, 1.0), rate, self.bitrate)
        return Encoded(data, rate, audio.shape[1] / rate)

    def decode(
        self, latents: Encoded, *, length: int, sample_rate: int, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """Audio `(channels, length)` at `sample_rate`, aligned with the input to the sample."""
        audio, rate = sf.read(io.BytesIO(latents.data), dtype="float32", always_2d=True)
        return fit_length(resample(np.ascontiguousarray(audio.T), rate, sample_rate, exact=False), length)

    def reconstruct(
        self, audio: np.ndarray, sample_rate: int, *, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        audio = check_audio(audio, sample_rate)
        return self.decode(self.encode(audio, sample_rate), length=audio.shape[1], sample_rate=sample_rate, seed=seed)


def _mp3_or_vorbis_rate(sample_rate: int) -> int:
    """The rate to code at: the caller's if it is one of MPEG-1's, else 44.1 kHz."""
    return sample_rate if sample_rate in (32000, 44100, 48000) else 44100


def _write(audio: np.ndarray, rate: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with sf.SoundFile(buffer, "w", samplerate=rate, channels=audio.shape[0], **options) as file:
        for start in range(0, audio.shape[1], _BLOCK):
            file.write(audio[:, start : start + _BLOCK].T)
    return buffer.getvalue()


def _encode_mp3(audio: np.ndarray, rate: int, bitrate: int) -> bytes:
    # libsndfile maps the level linearly from 320 kbit/s (0) to 32 kbit/s (1); LAME takes the nearest rate.
    level = (320 - bitrate / 1000) / (320 - 32)
    return _write(
        audio,
        rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=min(level, 0.999),
        bitrate_mode="CONSTANT",
    )


def _encode_opus(audio: np.ndarray, rate: int, bitrate: int) -> bytes:
    # libsndfile maps the level linearly from 256 kbit/s (0) to 6 kbit/s (1), per channel.
    per_channel = np.clip(bitrate / audio.shape[0], 6000, 256000)
    level = float((256000 - per_channel) / 250000)
    return _write(audio, rate, format="OGG", subtype="OPUS", compression_level=level)


def _encode_vorbis(audio: np.ndarray, rate: int, bitrate: int) -> bytes:
    """Vorbis has a quality and no rate: search the quality whose bytes come nearest to the rate.

    The range is halved eight times; the encoder itself moves in steps of a few per cent. When its lowest quality
    still spends more, that is what is used, and the measured rate says so.
    """
    target = bitrate / 8.0 * audio.shape[1] / rate

    def at(level: float) -> bytes:
        return _write(audio, rate, format="OGG", subtype="VORBIS", compression_level=level)

    low, high = 0.0, 1.0  # more compression, fewer bytes
    best = at(high)
    if len(best) >= target:
        return best
    for _ in range(8):
        level = (low + high) / 2
        data = at(level)
        if abs(len(data) - target) < abs(len(best) - target):
            best = data
        if len(data) > target:
            low = level
        else:
            high = level
    return best


_ENCODERS: dict[str, Callable[[np.ndarray, int, int], bytes]] = {
    "mp3": _encode_mp3,
    "vorbis": _encode_vorbis,
    "opus": _encode_opus,
}
_CONTROL = {"mp3": "constant", "vorbis": "quality searched per clip", "opus": "variable"}


def mp3(kbits: float) -> LibsndfileCodec:
    """MP3 at a rate in kbit/s."""
    return LibsndfileCodec("mp3", round(1000 * kbits))


def vorbis(kbits: float) -> LibsndfileCodec:
    """Vorbis at a rate in kbit/s."""
    return LibsndfileCodec("vorbis", round(1000 * kbits))


def opus(kbits: float) -> LibsndfileCodec:
    """Opus at a rate in kbit/s."""
    return LibsndfileCodec("opus", round(1000 * kbits))
