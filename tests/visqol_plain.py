"""ViSQOL's audio mode once more, as plainly as it can be said: the tests compare the fast one with it.

Written from the description of the algorithm with SciPy's filters, double precision FFTs and loops; it
shares no code with `benchmarks.metrics`, recomputes every frame, and takes seconds for a second of audio.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import correlate, sosfilt

RATE, WINDOW, HOP, BANDS, PATCH = 48_000, 3_840, 960, 32, 30
KERNEL = np.array(
    [
        [0.0113033910173052, 0.0838251475442633, 0.0113033910173052],
        [0.0838251475442633, 0.619485845753726, 0.0838251475442633],
        [0.0113033910173052, 0.0838251475442633, 0.0113033910173052],
    ]
)


def filters() -> list[np.ndarray]:
    """Slaney's gammatone filters as four second-order sections each, lowest band first."""
    ear_q, least, low, high = 9.26449, 24.7, 50.0, RATE / 2
    step = (np.log(low + ear_q * least) - np.log(high + ear_q * least)) / BANDS
    centers = -ear_q * least + np.exp(np.arange(1, BANDS + 1) * step) * (high + ear_q * least)
    bank = []
    for f in centers[::-1]:
        t = 1 / RATE
        decay = np.exp(-1.019 * 2 * np.pi * (f / ear_q + least) * t)
        w = 2 * np.pi * f * t
        sections = [
            [t, -t * decay * (np.cos(w) + s * np.sqrt(3 + r * 2**1.5) * np.sin(w)), 0.0,
             1.0, -2 * np.cos(w) * decay, decay**2]
            for r in (1, -1) for s in (1, -1)
        ]  # fmt: skip
        z = np.exp(-1j * w)
        gain = abs(np.prod([(s[0] + s[1] * z) / (1 + s[4] * z + s[5] * z**2) for s in sections]))
        sections[0][0] /= gain
        sections[0][1] /= gain
        bank.append(np.array(sections))
    return bank


def spectrogram(x: np.ndarray) -> np.ndarray:
    """(bands, frames) RMS in dB."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / (WINDOW - 1))
    frames = [x[i : i + WINDOW] * window for i in range(0, len(x) - WINDOW + 1, HOP)]
    rms = np.array([np.sqrt(np.mean(sosfilt(sections, frames) ** 2, axis=1)) for sections in filters()])
    return 10 * np.log10(np.where(rms == 0, np.finfo(float).eps, rms))


def prepare(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Floors."""
    a, b = np.maximum(a, -45.0), np.maximum(b, -45.0)
    for i in range(min(a.shape[1], b.shape[1])):
        floor = max(a[:, i].max(), b[:, i].max()) - 45.0
        a[:, i], b[:, i] = np.maximum(a[:, i], floor), np.maximum(b[:, i], floor)
    lowest = min(a.min(), b.min())
    return a - lowest, b - lowest


def smooth(x: np.ndarray) -> np.ndarray:
    """The 3x3 window with repeated edges."""
    padded = np.pad(x, 1, mode="edge")
    rows, columns = x.shape
    return sum(KERNEL[i, j] * padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3))


def nsim(r: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Mean similarity of each band."""
    mr, md = smooth(r), smooth(d)
    vr, vd, cov = smooth(r * r) - mr * mr, smooth(d * d) - md * md, smooth(r * d) - mr * md
    c1, c3 = 1e-4, 4.5e-4
    product = vr * vd
    structure = (cov + c3) / (np.sqrt(np.maximum(product, 0.0)) + c3)
    return ((2 * mr * md + c1) / (mr**2 + md**2 + c1) * structure).mean(axis=1)


def lag_of(a: np.ndarray, b: np.ndarray) -> int:
    """Lag of the rectified envelopes' correlation, 0 if over half of `a`."""

    def envelope(x: np.ndarray) -> np.ndarray:
        return 2 * np.abs(x - x.mean()) + x.mean()

    n = max(len(a), len(b))
    full = correlate(np.pad(envelope(a), (0, n - len(a))), np.pad(envelope(b), (0, n - len(b))), method="fft")
    lag = int(np.argmax(full)) - (n - 1)
    return 0 if abs(lag) > len(a) / 2 else lag


def shifted(b: np.ndarray, lag: int) -> np.ndarray:
    return b[-lag:] if lag < 0 else np.concatenate([np.zeros(lag), b])


def band_nsim(preds: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean NSIM of each band, the input of the support vector machine."""
    preds = shifted(preds, lag_of(target, preds))
    preds = preds * np.sqrt(np.mean(target**2) / np.mean(preds**2))
    r, d = prepare(spectrogram(target), spectrogram(preds))
    n_frames, n_offsets = r.shape[1], d.shape[1]
    starts = [i - 1 for i in range(15, max(n_frames - PATCH, 16), PATCH)]
    while starts[-1] - 15 > n_offsets:
        starts.pop()
    padded = np.pad(d, ((0, 0), (0, PATCH)))
    table = np.array(
        [[nsim(r[:, s : s + PATCH], padded[:, o : o + PATCH]).mean() for o in range(n_offsets)] for s in starts]
    )
    # Best strictly increasing offsets; a lost patch takes its predecessor's offset and adds nothing.
    score, origin = np.zeros_like(table), np.full(table.shape, -1)
    score[0] = table[0]
    for p in range(1, len(starts)):
        for o in range(n_offsets):
            best, where = -np.inf, -1
            for q in range(o - 1, -1, -1):
                if score[p - 1, q] > best:
                    best, where = score[p - 1, q], q
            score[p, o], origin[p, o] = table[p, o] + best, where
            if score[p - 1, o] > score[p, o]:
                score[p, o], origin[p, o] = score[p - 1, o], o
    o, found = int(np.argmax(score[-1])), []
    for p in range(len(starts) - 1, -1, -1):
        lost = o == origin[p, o]
        found.append(np.zeros(BANDS) if lost else fine(target, preds, r, padded, starts[p], o))
        o = int(origin[p, o])
    return np.mean(found, axis=0)


def fine(
    target: np.ndarray, preds: np.ndarray, r: np.ndarray, padded: np.ndarray, start: int, offset: int
) -> np.ndarray:
    """Similarity of one matched patch, with its audio aligned once more where that is no worse."""
    coarse = nsim(r[:, start : start + PATCH], padded[:, offset : offset + PATCH])

    def cut(x: np.ndarray, frame: int) -> np.ndarray:
        begin, end = frame * 0.02, frame * 0.02 + 0.02 * PATCH
        piece = x[int(begin * RATE) : min(len(x) - 1, int(end * RATE))]
        return np.concatenate([np.zeros(max(int(end * RATE - len(x)), 0)), piece])

    a, b = cut(target, start), cut(preds, offset)
    lag = lag_of(a, b)
    b = shifted(b, lag)
    if len(a) > len(b):
        a = a[: len(b)]
    elif len(a) < len(b):
        skip = int(lag / RATE * RATE)
        a, b = a[skip:], b[skip : len(a)]
    again = nsim(*prepare(spectrogram(a), spectrogram(b)))
    return coarse if again.mean() < coarse.mean() else again
