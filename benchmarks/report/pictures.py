"""Spectrogram pictures: mel bands in dB, one scale for all systems of a clip, as small palette PNGs."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

WIDTH, BANDS = 512, 96
#: Range shown, in dB below the loudest band of the original.
RANGE_DB = 75.0
LOW_HZ, HIGH_HZ = 40.0, 16000.0

_COLORS = 64
#: Above 1: quiet parts darker, so that what stands out does.
_GAMMA = 1.35
#: Anchors of the palette, dark to bright; lightness rises steadily, so that it reads in gray as well.
_ANCHORS = ((9, 12, 24), (22, 38, 78), (24, 84, 110), (62, 138, 118), (163, 182, 98), (243, 213, 137), (255, 250, 236))

FloatArray = npt.NDArray[np.float64]


def mel_spectrogram_db(audio: npt.NDArray[np.float32], sample_rate: int) -> FloatArray:
    """Power of mel bands in dB, `(BANDS, WIDTH)`, lowest band first.

    Args:
        audio: `(channels, samples)`; channels are averaged.
        sample_rate: in Hz.

    The window is about 46 ms whatever the rate; bands above the Nyquist frequency are at the floor.
    """
    mono = np.asarray(audio, dtype=np.float64).mean(axis=0)
    size = 1 << max(6, round(np.log2(0.046 * sample_rate)))
    padded = np.pad(mono, (size // 2, size))
    starts = np.linspace(0, max(len(mono) - 1, 0), WIDTH).astype(np.int64)
    frames = padded[starts[:, None] + np.arange(size)] * np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1)))
    bands = power @ _mel_bank(size, sample_rate).T
    return np.ascontiguousarray(10 * np.log10(bands + 1e-20).T)


def _mel_bank(size: int, sample_rate: int) -> FloatArray:
    """Triangles of equal width in mel `(BANDS, bins)`; one too narrow to hold a bin takes the nearest."""
    bins = np.fft.rfftfreq(size, 1 / sample_rate)
    low_mel, high_mel = (2595 * np.log10(1 + hertz / 700) for hertz in (LOW_HZ, HIGH_HZ))
    edges = np.linspace(low_mel, high_mel, BANDS + 2)
    hertz = 700 * (10 ** (edges / 2595) - 1)
    low, center, high = hertz[:-2, None], hertz[1:-1, None], hertz[2:, None]
    bank = np.maximum(0.0, np.minimum((bins - low) / (center - low), (high - bins) / (high - center)))
    for band in np.flatnonzero(bank.sum(axis=1) == 0.0):
        if hertz[band + 1] <= sample_rate / 2:
            bank[band, np.argmin(np.abs(bins - hertz[band + 1]))] = 1.0
    return np.asarray(bank)


def picture(levels_db: FloatArray, top_db: float) -> bytes:
    """A PNG of `(bands, frames)` levels; `top_db` is white, `RANGE_DB` below it and less is black."""
    scaled = (levels_db - top_db + RANGE_DB) / RANGE_DB
    shade = np.clip(scaled, 0.0, 1.0) ** _GAMMA
    indices = np.rint(shade * (_COLORS - 1)).astype(np.uint8)
    return indexed_png(indices[::-1], palette())


def palette() -> npt.NDArray[np.uint8]:
    """`(colors, 3)` bytes of red, green, blue."""
    anchors = np.array(_ANCHORS, dtype=np.float64)
    at = np.linspace(0, len(anchors) - 1, _COLORS)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def indexed_png(pixels: npt.NDArray[np.uint8], colors: npt.NDArray[np.uint8]) -> bytes:
    """An 8-bit palette PNG (RFC 2083) of `(height, width)` indices.

    Raises:
        ValueError: an index without a color.
    """
    if pixels.size and int(pixels.max()) >= len(colors):
        raise ValueError(f"index {int(pixels.max())} for a palette of {len(colors)} colors")
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # a filter byte (0: none) before each row
    rows[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = (
        (b"IHDR", header),
        (b"PLTE", colors.tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, body) for name, body in parts)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
