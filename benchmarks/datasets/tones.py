"""Steady tones to train on: music holds few of them, and a model that never saw one plays them at another level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.datasets.base import Clip, check_split, digest_of

SAMPLE_RATE = 44100
VERSION = "2"
#: Hz of the lowest pitch, and octaves above it.
_LOWEST, _OCTAVES = 55.0, 7.0
#: dBFS of a clip's peak, and of the noise under four in ten clips.
_PEAKS, _NOISE = (-36.0, -3.0), (-80.0, -45.0)


@dataclass(frozen=True)
class ToneLoader:
    """Renders one clip: one to three pitches, each a sine or 2 to 8 harmonics, some over quiet white noise.

    Attributes:
        seed: Decides pitches, levels and phases.
        seconds: Length.
    """

    seed: int
    seconds: float

    def __call__(self) -> tuple[npt.NDArray[np.float32], int]:
        """Return mono samples (1, samples) and the sample rate."""
        draw = np.random.Generator(np.random.PCG64(self.seed))
        time = np.arange(round(self.seconds * SAMPLE_RATE)) / SAMPLE_RATE
        audio = np.zeros_like(time)
        for _ in range(draw.integers(1, 4)):
            pitch = _LOWEST * 2 ** draw.uniform(0, _OCTAVES)
            harmonics = 1 if draw.random() < 0.5 else int(draw.integers(2, 9))
            for number in range(1, harmonics + 1):
                level, phase = draw.uniform(0.3, 1.0) / number, draw.random()
                if pitch * number < 0.45 * SAMPLE_RATE:
                    audio += level * np.sin(2 * np.pi * (pitch * number * time + phase))
        audio *= 10 ** (draw.uniform(*_PEAKS) / 20) / np.abs(audio).max()
        if draw.random() < 0.4:
            audio += 10 ** (draw.uniform(*_NOISE) / 20) * draw.standard_normal(len(time))
        return audio[None].astype(np.float32), SAMPLE_RATE


class SteadyTones:
    """Sines and harmonic tones of random pitch and level, rendered from integer seeds.

    Args:
        size: Number of clips.
        seconds: Length of each.
        seed: Seed of the first clip; the others follow.
    """

    name = "tones"
    version = VERSION
    license = "CC0-1.0 (generated)"
    citation = "Steady tones of the m2l benchmark suite"
    notice = "Synthesized by this package from integer seeds; no recording is involved."
    splits = ("train",)

    def __init__(self, size: int = 96, seconds: float = 10.0, seed: int = 0) -> None:
        if size < 1 or seconds <= 0 or seed < 0:
            raise ValueError(f"tones: size {size}, seconds {seconds}, seed {seed}")
        self.size, self.seconds, self.seed = size, seconds, seed

    def clips(self, split: str | None = None) -> list[Clip]:
        """List the clips in the order of their seeds.

        Raises:
            ValueError: The split does not exist.
        """
        check_split(split, self.splits, self.name)
        return [
            Clip(
                id=f"{self.name}-{seed:06d}",
                dataset=self.name,
                digest=digest_of("tones", VERSION, seed, self.seconds),
                labels={"seed": seed},
                source=f"generated: seed {seed}",
                loader=ToneLoader(seed, self.seconds),
                split="train",
                seconds=self.seconds,
            )
            for seed in range(self.seed, self.seed + self.size)
        ]
