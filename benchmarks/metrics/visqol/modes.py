"""The two modes of ViSQOL v3, the constants both share, and what a measurement returns.

The figures are those of Google's ViSQOL v3 (Apache-2.0), conformance number 333.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Google's number for this version of the algorithm (`include/conformance.h`).
CONFORMANCE_NUMBER = 333

WINDOW_SECONDS = 0.08
#: Hop as a fraction of the window.
HOP_FRACTION = 0.25
MIN_FREQUENCY = 50.0

#: Spectrogram floors in dB (10·log10 of the RMS): absolute, and below the louder peak of each frame pair.
ABSOLUTE_FLOOR_DB = -45.0
RELATIVE_FLOOR_DB = 45.0

#: Search radius around each reference patch, in patches.
SEARCH_RADIUS_PATCHES = 60

#: Below this mean NSIM two signals have nothing in common and the MOS is 1.
MIN_VNSIM = 0.15

#: NSIM: the 3x3 window's corner, edge and center, and the constants C1 = (0.01·L)², C3 = (0.03·L)²/2 with
#: an intensity range L of 1, although the spectrograms are in dB.
KERNEL = (0.0113033910173052, 0.0838251475442633, 0.619485845753726)
C1 = 0.01**2
C3 = 0.03**2 / 2


@dataclass(frozen=True)
class Mode:
    """What differs between audio and speech mode.

    Attributes:
        name: "audio" or "speech".
        sample_rate: the rate in Hz that signals are resampled to.
        n_bands: gammatone bands from 50 Hz to `max_frequency`.
        max_frequency: upper edge in Hz; None stands for half the sample rate.
        patch_frames: spectrogram frames in a patch.
        voice_activity: patches without voice activity in the reference are left out.
    """

    name: str
    sample_rate: int
    n_bands: int
    max_frequency: float | None
    patch_frames: int
    voice_activity: bool


AUDIO = Mode("audio", 48_000, 32, None, 30, False)
SPEECH = Mode("speech", 16_000, 21, 8_000.0, 20, True)
MODES = {mode.name: mode for mode in (AUDIO, SPEECH)}


def window_length(sample_rate: int) -> int:
    """Samples in the 80-ms analysis window."""
    return round(sample_rate * WINDOW_SECONDS)


def hop_length(sample_rate: int) -> int:
    """Samples between two windows: a quarter of the window, rounded down."""
    return int(window_length(sample_rate) * HOP_FRACTION)


def _empty(*shape: int) -> NDArray[np.float64]:
    return np.empty(shape)


@dataclass(frozen=True)
class VisqolResult:
    """One pair's score and how it came about.

    Attributes:
        moslqo: MOS-LQO in [1, 5], or NaN where it is not defined.
        reason: why `moslqo` is NaN, else None.
        vnsim: mean NSIM over bands.
        band_nsim: mean NSIM over patches, (bands,), lowest band first.
        center_frequencies: of the bands in Hz.
        patch_nsim: NSIM of each scored patch, (patches,); 0 for a lost one.
        patch_band_nsim: (patches, bands).
        patch_times: start and end in `target`, start and end in the aligned `preds`, in seconds,
            (patches, 4); zeros in `preds` for a lost patch.
        lag: samples by which `preds` was delayed (positive) or cut (negative) as a whole.
        sample_rate: the rate in Hz that was scored at, the unit of `lag`.
        dropped_share: share of reference patches left out since `preds` had ended.
        lost_share: share of the scored patches without a match.
    """

    moslqo: float
    reason: str | None = None
    vnsim: float = math.nan
    band_nsim: NDArray[np.float64] = field(default_factory=lambda: _empty(0))
    center_frequencies: NDArray[np.float64] = field(default_factory=lambda: _empty(0))
    patch_nsim: NDArray[np.float64] = field(default_factory=lambda: _empty(0))
    patch_band_nsim: NDArray[np.float64] = field(default_factory=lambda: _empty(0, 0))
    patch_times: NDArray[np.float64] = field(default_factory=lambda: _empty(0, 4))
    lag: int = 0
    sample_rate: int = 0
    dropped_share: float = 0.0
    lost_share: float = 0.0

    @classmethod
    def undefined(cls, reason: str, sample_rate: int = 0) -> VisqolResult:
        """A result without a score."""
        return cls(math.nan, reason, sample_rate=sample_rate)

    @property
    def n_patches(self) -> int:
        """Number of scored patches."""
        return len(self.patch_nsim)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and strings, ready for JSON (an undefined score is None)."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in plain.items()}
