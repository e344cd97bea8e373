"""Regenerates synthetic.npz: `python tests/golden/make_synthetic.py`.

Only after a change that is meant to change the sound, together with a new
`benchmarks.datasets.synthetic.VERSION`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.datasets import create_dataset

PATH = Path(__file__).with_name("synthetic.npz")
CLIPS = {
    "synthetic": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    "synthetic-tags": (17, 42),
    "synthetic-keys": (23, 99),
    "synthetic-notes": (0, 100, 200, 300, 400, 500, 618),
}


def extracts() -> dict[str, np.ndarray]:
    """int16 extracts by clip id, and the RMS of every half second of the clip."""
    out: dict[str, np.ndarray] = {}
    sets = {name: create_dataset(name).clips() for name in CLIPS}
    for clip in (sets[name][i] for name, numbers in CLIPS.items() for i in numbers):
        audio, rate = clip.load()
        samples = np.round(audio * 32768).astype(np.int16)
        first = rate // 2
        out[clip.id] = samples[:, first : first + 1500]
        half = rate // 2
        usable = audio[0, : audio.shape[1] // half * half].astype(np.float64).reshape(-1, half)
        out[f"{clip.id}/rms"] = np.sqrt((usable**2).mean(axis=1))
    return out


if __name__ == "__main__":
    np.savez_compressed(PATH, **extracts())
    print(f"{PATH}: {PATH.stat().st_size} bytes")
