"""What a ViSQOL measurement returns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    def lag_seconds(self) -> float:
        """`lag` in seconds."""
        return self.lag / self.sample_rate if self.sample_rate else 0.0

    @property
    def n_patches(self) -> int:
        """Number of scored patches."""
        return len(self.patch_nsim)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and strings, ready for JSON (an undefined score is None)."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in plain.items()}
