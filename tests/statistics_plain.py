"""Statistics once more, as plainly as they can be said, and cells of made-up distances: for the tests."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.statistics.bootstrap import resample_blocks


def loop(table: np.ndarray, index: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, ...]:
    """What `studentized` promises, from the definitions: one column, one resample, one group at a time."""

    def error(values: list[np.ndarray], mean: float) -> float:
        n, n_groups = sum(map(len, values)), len(values)
        return math.sqrt(n_groups / (n_groups - 1) * sum((v - mean).sum() ** 2 for v in values)) / n

    means, errors, deviations = [], [], []
    draws = np.concatenate(list(resample_blocks(1 + int(index.max()), resamples, seed)))
    for column in table.T:
        parts = [column[(index == g) & ~np.isnan(column)] for g in range(1 + int(index.max()))]
        held = [part for part in parts if len(part)]
        mean = float(np.concatenate(held).mean())
        whole = error(held, mean)
        row = []
        for draw in draws:
            drawn = [parts[g] for g in draw if len(parts[g])]
            if len(drawn) < 2:
                row.append(0.0)
                continue
            moved = float(np.concatenate(drawn).mean())
            spread = error(drawn, moved)
            spread = 0.0 if spread < 1e-9 * whole else spread
            spread = max(spread, 0.4 * whole if len(held) >= 5 else 0.0)
            if spread == 0.0:
                row.append(math.copysign(math.inf, moved - mean) if abs(moved - mean) > 1e-12 else 0.0)
            else:
                row.append((moved - mean) / spread)
        means.append(mean)
        errors.append(whole)
        deviations.append(row)
    return np.array(means), np.array(errors), np.array(deviations).T


def cell(value: float, replicates: list[float], **changes: Any) -> dict[str, Any]:
    shape = {"clips": ["p", "q", "r"], "n": 7, "n_groups": len(replicates), "freedom": len(replicates) - 1.5}
    return {"value": value, "replicates": replicates, "replicates_of": "jackknife", **shape, **changes}
