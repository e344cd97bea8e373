"""Gammatone spectrogram: filter design, and the filter bank with bands as SIMD lanes.

Every frame is filtered from a zero state, so frames are independent, and a frame that was computed for
the whole signal can be reused for any slice that starts on the same hop.

Design: M. Slaney, "An Efficient Implementation of the Patterson-Holdsworth Auditory Filter Bank", Apple
TR #35 (1993): four cascaded sections with one common denominator per band,
H_k(z) = T·(1 + c_k z⁻¹) / (1 + a_1 z⁻¹ + a_2 z⁻²), ERB after Glasberg and Moore (1990).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from benchmarks.metrics.visqol.lanes import Lanes
from benchmarks.metrics.visqol.modes import MIN_FREQUENCY, hop_length, window_length
from m2l.kernels.jit import jit

EAR_Q = 9.26449
MIN_BANDWIDTH = 24.7

#: Bands filtered together: eight doubles fill an AVX-512 register, two AVX2 or four NEON registers.
LANES = 8
_SECTIONS = 4
_ROWS = 2 + _SECTIONS  # -a1, -a2, c_1 … c_4


@dataclass(frozen=True)
class FilterBank:
    """A gammatone filter bank, lowest band first.

    Attributes:
        sample_rate: in Hz.
        center_frequencies: (bands,) in Hz.
        denominator: (bands, 2): a_1, a_2, common to the four sections.
        zeros: (bands, 4): c_k of the numerators 1 + c_k z⁻¹.
        gain: (bands,): T⁴ over the filter's magnitude at its center frequency.
        packed: (groups, 6, LANES): -a_1, -a_2, c_1 … c_4 as the kernel reads them, zero-padded.
        window: (window,) symmetric Hann window.
        hop: hop length in samples.
    """

    sample_rate: int
    center_frequencies: NDArray[np.float64]
    denominator: NDArray[np.float64]
    zeros: NDArray[np.float64]
    gain: NDArray[np.float64]
    packed: NDArray[np.float64]
    window: NDArray[np.float64]
    hop: int

    @property
    def n_bands(self) -> int:
        return len(self.gain)

    def n_frames(self, n_samples: int) -> int:
        """Frames of a signal of `n_samples`; 0 where it is not longer than one window."""
        window = len(self.window)
        return 0 if n_samples <= window else 1 + (n_samples - window) // self.hop

    def impulse_response(self, n_samples: int) -> NDArray[np.float64]:
        """The first `n_samples` of every band's impulse response, (bands, n_samples)."""
        impulse = np.zeros(n_samples)
        impulse[0] = 1.0
        out = np.empty((self.n_bands, n_samples))
        _impulse_responses(impulse, self.denominator, self.zeros, out)
        return out * self.gain[:, None]


def _centers(n_bands: int, low: float, high: float) -> NDArray[np.float64]:
    """Center frequencies, uniform on the ERB scale, highest first (Slaney, pages 33-34)."""
    offset = EAR_Q * MIN_BANDWIDTH
    step = (np.log(low + offset) - np.log(high + offset)) / n_bands
    return -offset + np.exp(np.arange(1, n_bands + 1) * step) * (high + offset)


@lru_cache(maxsize=8)
def make_filter_bank(sample_rate: int, n_bands: int, max_frequency: float | None = None) -> FilterBank:
    """Design the filter bank of one mode at one sample rate.

    Args:
        sample_rate: in Hz.
        n_bands: number of bands.
        max_frequency: upper edge in Hz; None or anything above it stands for half the sample rate.

    Returns:
        The bank, lowest band first.
    """
    nyquist = sample_rate / 2
    high = min(max_frequency or nyquist, nyquist)
    center = _centers(n_bands, MIN_FREQUENCY, high)
    period = 1.0 / sample_rate
    bandwidth = 1.019 * 2 * np.pi * (center / EAR_Q + MIN_BANDWIDTH)
    angle = 2 * np.pi * center * period
    decay = np.exp(-bandwidth * period)
    roots = np.array([s * np.sqrt(3 + r * 2**1.5) for r in (1, -1) for s in (1, -1)])

    # Zeros of the four numerators, and the magnitude at the center frequency by evaluating H there.
    zeros = -decay[:, None] * (np.cos(angle)[:, None] + np.sin(angle)[:, None] * roots)
    denominator = np.stack([-2 * np.cos(angle) * decay, decay**2], axis=1)
    z1 = np.exp(-1j * angle)
    peak = (
        np.prod(1 + zeros * z1[:, None], axis=1) / (1 + denominator[:, 0] * z1 + denominator[:, 1] * z1**2) ** _SECTIONS
    )
    gain = 1.0 / np.abs(peak)

    order = np.argsort(center)
    groups = -(-n_bands // LANES)
    table = np.zeros((groups * LANES, _ROWS))
    table[:n_bands, :2] = -denominator[order]
    table[:n_bands, 2:] = zeros[order]
    packed = np.ascontiguousarray(table.reshape(groups, LANES, _ROWS).transpose(0, 2, 1))
    n = window_length(sample_rate)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / (n - 1))
    return FilterBank(
        sample_rate, center[order], denominator[order], zeros[order], gain[order], packed, window,
        hop_length(sample_rate),
    )  # fmt: skip


@intrinsic
def _filter_group(typing_context: Any, frame: Any, coefficients: Any, group: Any, energy: Any) -> tuple[Any, Any]:
    """Energy of `LANES` bands over one windowed frame: energy[group·LANES + lane] = Σ y².

    Written as vector instructions, because the eight state vectors then live in registers for the whole
    frame; a loop over an array of states stores and reloads each of them once per sample, which takes
    more than twice the time. Direct form II per section: v = u - a_1 v₁ - a_2 v₂, w = v + c_k v₁.
    """
    signature = types.void(frame, coefficients, group, energy)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        v = Lanes(context, builder, ir.DoubleType(), LANES)
        samples, table, out = v.arrays(signature, args, 0, 1, 3)
        group_index = v.index(signature, args, 2)
        n_samples = builder.extract_value(samples.shape, 0)
        first = builder.mul(group_index, v.number(_ROWS * LANES))
        offsets = [builder.add(first, v.number(row * LANES)) for row in range(_ROWS)]
        minus_a1, minus_a2, *zeros = (v.load(table.data, offset) for offset in offsets)
        nothing = v.constant(0.0)

        entry = builder.block
        loop, done = builder.append_basic_block("samples"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", n_samples, v.number(0)), loop, done)

        builder.position_at_end(loop)
        index, total = builder.phi(v.integer), builder.phi(v.vector)
        states = [(builder.phi(v.vector), builder.phi(v.vector)) for _ in zeros]
        signal = v.splat(samples.data, index)
        carried = []
        for (v1, v2), c in zip(states, zeros, strict=True):
            now = v.fused(minus_a1, v1, v.fused(minus_a2, v2, signal))
            signal = v.fused(c, v1, now)
            carried += [(v1, now), (v2, v1)]
        new_total = v.fused(signal, signal, total)
        following = builder.add(index, v.number(1))
        builder.cbranch(builder.icmp_signed("<", following, n_samples), loop, done)
        index.add_incoming(v.number(0), entry)
        index.add_incoming(following, loop)
        for phi, value in [(total, new_total), *carried]:
            phi.add_incoming(nothing, entry)
            phi.add_incoming(value, loop)

        builder.position_at_end(done)
        result = builder.phi(v.vector)
        result.add_incoming(nothing, entry)
        result.add_incoming(new_total, loop)
        v.store(result, out.data, builder.mul(group_index, v.number(LANES)))
        return context.get_dummy_value()

    return signature, generate


@jit()
def _frame_energies(
    signal: NDArray[np.float64],
    start: int,
    hop: int,
    window: NDArray[np.float64],
    packed: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Mean square of every band's output, out[frame, lane], for frames at start, start + hop, …."""
    n = window.shape[0]
    groups = packed.shape[0]
    frame = np.empty(n)
    energy = np.empty(groups * LANES)
    for f in range(out.shape[0]):
        first = start + f * hop
        for i in range(n):
            frame[i] = signal[first + i] * window[i]
        for g in range(groups):
            _filter_group(frame, packed, g, energy)  # type: ignore[call-arg]
        for lane in range(out.shape[1]):
            out[f, lane] = energy[lane] / n


@jit()
def _impulse_responses(
    impulse: NDArray[np.float64], denominator: NDArray[np.float64], zeros: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """Plain scalar filtering of `impulse` by every band, for the FFT form of the filter bank."""
    for band in range(out.shape[0]):
        out[band] = impulse
        for section in range(zeros.shape[1]):
            v1 = 0.0
            v2 = 0.0
            for i in range(out.shape[1]):
                v = out[band, i] - denominator[band, 0] * v1 - denominator[band, 1] * v2
                out[band, i] = v + zeros[band, section] * v1
                v2 = v1
                v1 = v


def band_rms(
    signal: NDArray[np.float64], bank: FilterBank, *, start: int = 0, n_frames: int | None = None
) -> NDArray[np.float64]:
    """RMS of each gammatone band over each Hann-windowed frame.

    Args:
        signal: mono, (samples,), float64.
        bank: the filter bank.
        start: first sample of the first frame.
        n_frames: frames wanted; by default as many as fit into the rest of the signal.

    Returns:
        (frames, bands), linear.
    """
    if n_frames is None:
        n_frames = bank.n_frames(len(signal) - start)
    mean_square = np.empty((n_frames, bank.n_bands))
    _frame_energies(np.ascontiguousarray(signal), start, bank.hop, bank.window, bank.packed, mean_square)
    return np.sqrt(mean_square) * bank.gain


def to_decibels(rms: NDArray[np.float64]) -> NDArray[np.float64]:
    """10·log10 of an RMS spectrogram; an exact zero counts as the machine epsilon (as in Google's C++)."""
    return 10.0 * np.log10(np.where(rms == 0.0, np.finfo(np.float64).eps, rms))
