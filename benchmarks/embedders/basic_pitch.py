"""Basic Pitch (Bittner et al. 2022): the notes of polyphonic audio, by its published ONNX file.

The network gives, for each of 88 pitches and every 11.6 ms, how likely a note sounds and how likely one begins. Notes
are read from them as in the paper's section 2.3 and the authors' defaults: first those that begin at a peak, the latest
first, then what is left of sounding pitches, the likeliest first. Pitch bends are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.signal import argrelmax

SAMPLE_RATE = 22_050
HOP = 256
#: Samples that the network takes, the frames it gives, and how many frames of neighbors overlap.
WINDOW, FRAMES, OVERLAP = 2 * SAMPLE_RATE - HOP, 172, 30
#: Frames per second in the authors' count of frames, which they round down.
_FRAME_RATE = SAMPLE_RATE // HOP
LOWEST_MIDI, PITCHES = 21, 88
ONSET_THRESHOLD, FRAME_THRESHOLD = 0.5, 0.3
#: Frames: a note is longer than the first, and ends where it stays below the threshold for the second.
SHORTEST, PATIENCE = 11, 11
#: Seconds by which frames run ahead after each 172: an alignment that the authors measured.
_DRIFT = HOP / SAMPLE_RATE * (FRAMES - WINDOW / HOP) + 0.0018


class Notes(NamedTuple):
    """`intervals` (notes, 2) in seconds and `midi` (notes,), by beginning and pitch."""

    intervals: np.ndarray
    midi: np.ndarray


@lru_cache(maxsize=2)
def load_session(path: Path) -> Any:
    """An onnxruntime session on one thread.

    Raises:
        ImportError: onnxruntime is not installed.
    """
    import onnxruntime  # an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def posteriors(path: Path, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(samples,) at 22.05 kHz -> how likely notes sound and begin, (frames, 88) each."""
    session = load_session(path)
    lead = OVERLAP // 2 * HOP
    padded = np.concatenate([np.zeros(lead, np.float32), audio.astype(np.float32)])
    parts = []
    for start in range(0, len(padded), WINDOW - OVERLAP * HOP):
        window = padded[start : start + WINDOW]
        window = np.pad(window, (0, WINDOW - len(window)))[None, :, None]
        names = ["StatefulPartitionedCall:1", "StatefulPartitionedCall:2"]
        parts.append(session.run(names, {"serving_default_input_2:0": window}))
    frames = len(audio) * _FRAME_RATE // SAMPLE_RATE
    middle = slice(OVERLAP // 2, FRAMES - OVERLAP // 2)
    sounding, onsets = (np.concatenate([part[k][0, middle] for part in parts])[:frames] for k in (0, 1))
    return sounding, onsets


def transcribe(path: Path, audio: np.ndarray) -> Notes:
    """The notes of (samples,) at 22.05 kHz, with the network at `path`."""
    return notes_of(*posteriors(path, audio))


def notes_of(sounding: np.ndarray, onsets: np.ndarray) -> Notes:
    """Notes of the network's two outputs, (frames, 88) each."""
    found = sorted(_notes(sounding.astype(np.float64), _with_rises(onsets, sounding)))
    if not found:
        return Notes(np.empty((0, 2)), np.empty(0))
    starts, midi, ends = np.array(found).T
    return Notes(np.stack([_seconds(starts), _seconds(ends)], axis=1), midi + float(LOWEST_MIDI))


def _seconds(frames: np.ndarray) -> np.ndarray:
    return frames * HOP / SAMPLE_RATE - _DRIFT * (frames // FRAMES)


def _with_rises(onsets: np.ndarray, sounding: np.ndarray) -> np.ndarray:
    """Onsets, and where a pitch begins to sound: rises over one and two frames, scaled to the largest onset."""
    before = np.pad(sounding.astype(np.float64), ((2, 0), (0, 0)))
    rises = np.minimum(before[2:] - before[1:-1], before[2:] - before[:-2]).clip(0)
    rises[:2] = 0
    largest = rises.max(initial=0.0)
    return onsets if largest == 0 else np.maximum(onsets, onsets.max() * rises / largest)


def _notes(energy: np.ndarray, onsets: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(first frame, pitch, frame after the last) of each note; takes what they cover out of `energy`."""
    last = len(energy) - 1
    # Notes that begin at a peak.
    for start, pitch in list(zip(*argrelmax(onsets, axis=0), strict=True))[::-1]:
        if onsets[start, pitch] < ONSET_THRESHOLD or start >= last:
            continue
        end = _end(energy[start + 1 : last, pitch]) + start + 1
        if end - start > SHORTEST:
            energy[start:end, max(pitch - 1, 0) : pitch + 2] = 0
            yield int(start), int(pitch), int(end)
    # What still sounds. Energy is only ever taken away, so one sorting gives the order of the peaks.
    order = np.argsort(-energy, axis=None, kind="stable")
    for index in order[: np.count_nonzero(energy > FRAME_THRESHOLD)]:
        peak, pitch = divmod(int(index), PITCHES)
        if energy[peak, pitch] <= FRAME_THRESHOLD:
            continue
        after, before = energy[peak + 1 : last, pitch], energy[max(peak - 1, 0) : 0 : -1, pitch]
        end, start = peak + _end(after), peak - _end(before)
        seen = slice(max(peak - _seen(before), 0), peak + 1 + _seen(after))
        kept = energy[peak].copy()
        energy[seen, max(pitch - 1, 0) : pitch + 2] = 0
        energy[peak] = kept
        energy[peak, pitch] = 0
        if end - start > SHORTEST:
            yield start, pitch, end


def _seen(column: np.ndarray) -> int:
    """How many frames are looked at until `PATIENCE` in a row were below the threshold."""
    below = 0
    for count, value in enumerate(column, 1):
        below = below + 1 if value < FRAME_THRESHOLD else 0
        if below == PATIENCE:
            return count
    return len(column)


def _end(column: np.ndarray) -> int:
    """The same without the frames below the threshold at the end."""
    seen = column[: _seen(column)]
    above = np.flatnonzero(seen >= FRAME_THRESHOLD)
    return int(above[-1]) + 1 if above.size else 0
