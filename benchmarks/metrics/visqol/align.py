"""What a lag does to a signal, in the words of Google's C++."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def usable_lag(lag: int, n_target: int) -> int:
    """The lag, or 0 where it is over half the reference: such a match is not believed."""
    return 0 if abs(lag) > n_target / 2 else int(lag)


def shift(preds: NDArray[np.float64], lag: int) -> NDArray[np.float64]:
    """Drop the first |lag| samples (negative lag), or prepend `lag` zeros."""
    if lag < 0:
        return preds[-lag:]
    if lag > 0:
        return np.concatenate([np.zeros(lag), preds])
    return preds
