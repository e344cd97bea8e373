"""The two modes of ViSQOL v3 and the constants both share.

The figures are those of Google's ViSQOL v3 (Apache-2.0), conformance number 333.
"""

from __future__ import annotations

from dataclasses import dataclass

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
