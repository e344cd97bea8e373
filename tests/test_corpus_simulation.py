"""Do intervals of Fréchet distances hold what they say? By simulation on a model of a music embedder.

The model has 200 dimensions and three windows per clip, and is calibrated on MusiCNN embeddings of open music (41 clips
through real codecs, moments with windows in clips): spectrum of the originals, share of the variance between clips,
shift, loss and noise of two codecs. The mild one stands for mp3 at 64 kbit/s: distance 2.6, expected at 20, 42 and 200
clips 5.0, 3.8 and 2.9 (fitted moments: 2.9; 5.2, 4.0 and 3.2). The harsh one stands for opus at 16 kbit/s: distance 49,
expected 65, 56 and 51 (fitted: 50; 65, 57 and 52).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest

from benchmarks.metrics.frechet import frechet_distance
from benchmarks.metrics.moments import Moments
from benchmarks.statistics.corpus import compare_replicates, corpus_distance, frechet_replicates

DIM, WINDOWS = 200, 3
_AXES = np.arange(DIM)
#: Variances of the originals along their principal axes, and the share of it between clips.
SPECTRUM, BETWEEN = 170.0 * (1 + _AXES / 8) ** -3.8, 0.82
#: Squared shift, amplitude kept, noise along the originals' axes and across them; the noise's share between clips.
CODECS, NOISE_BETWEEN = {"mild": (1.5, 0.98, 9.0, 1.6), "harsh": (30.5, 0.87, 52.0, 13.0)}, 0.4


class Codec:
    """Output = shift + gain * original + noise, by axis."""

    def __init__(self, shift: float, kept: float, along: float, across: float) -> None:
        basis = np.linalg.qr(np.random.default_rng(int(10 * shift)).standard_normal((DIM, DIM)))[0]
        own = along * SPECTRUM**1.1 / (SPECTRUM**1.1).sum()
        fading = np.exp(-_AXES / 2)
        noise = np.diag(own) + (basis * (across * fading / fading.sum())) @ basis.T
        self.root = np.linalg.cholesky(noise).T
        self.gain = np.sqrt(np.maximum(kept**2 * SPECTRUM - own, 0.0) / SPECTRUM)
        self.shift = np.sqrt(SPECTRUM * shift / SPECTRUM.sum())
        many = 10**9
        originals = Moments.from_statistics(np.zeros(DIM), np.diag(SPECTRUM), many)
        outputs = Moments.from_statistics(self.shift, np.diag(self.gain**2 * SPECTRUM) + noise, many)
        self.truth = frechet_distance(originals, outputs)

    def outputs(self, originals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.shift + self.gain * originals + windows_of_clips(len(originals), NOISE_BETWEEN, rng) @ self.root


def windows_of_clips(n: int, between: float, rng: np.random.Generator) -> np.ndarray:
    """(n, windows, dim) standard normal; windows of a clip correlate by `between`."""
    clips = math.sqrt(between) * rng.standard_normal((n, 1, DIM))
    return clips + math.sqrt(1 - between) * rng.standard_normal((n, WINDOWS, DIM))


@functools.cache
def codec(name: str) -> Codec:
    return Codec(*CODECS[name])


def cells_of(
    distances: tuple[str, ...], n: int, names: tuple[str, ...], groups: Any, rng: np.random.Generator
) -> dict[str, list[dict[str, Any]]]:
    """Cells of several systems on the same n clips."""
    originals = windows_of_clips(n, BETWEEN, rng) * np.sqrt(SPECTRUM)
    outputs = [list(codec(name).outputs(originals, rng)) for name in names]
    options = {"groups": groups, "seed": 0, "level": 0.95}
    return {
        distance: [
            corpus_distance(distance, list(originals), output, **options) | {"clips": list(range(n))}
            for output in outputs
        ]
        for distance in distances
    }


def within(share: float, low: float, high: float, trials: int) -> bool:
    """Whether a share lies in a range, give or take three standard errors of so many trials."""
    slack = 3 * math.sqrt(0.05 * 0.95 / trials)
    return low - slack <= share <= high + slack


@pytest.mark.slow
@pytest.mark.parametrize(("n", "trials", "size"), [(20, 300, 1), (42, 100, 1), (200, 60, 5)])
def test_intervals_hold_in_93_to_97_percent(n: int, trials: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fad` the expected distance of n clips, `fad_debiased` that of all music; the same of differences.

    Of 200 clips five at a time are left out (they are independent all the same), which saves most of the hour.
    """
    # Both distances rest on the same replicates.
    once = functools.lru_cache(maxsize=4)(lambda key: frechet_replicates(*made[key]))
    made: dict[int, tuple[Any, Any, Any]] = {}

    def shared(reference: Any, outputs: Any, blocks: Any) -> Any:
        key = hash(outputs[0].tobytes())
        made[key] = (reference, outputs, blocks)
        return once(key)

    monkeypatch.setattr("benchmarks.statistics.corpus.frechet_replicates", shared)
    rng = np.random.default_rng(n)
    groups = np.arange(n) // size
    values: dict[str, list[list[float]]] = {"fad": [], "fad_debiased": []}
    bounds: dict[str, list[list[tuple[float, float]]]] = {"fad": [], "fad_debiased": []}
    for _ in range(trials):
        made.clear()
        for distance, (mild, harsh) in cells_of(("fad", "fad_debiased"), n, ("mild", "harsh"), groups, rng).items():
            (pair,) = compare_replicates({"harsh": harsh, "mild": mild}, level=0.95)
            values[distance].append([mild["value"], harsh["value"], pair["difference"]])
            bounds[distance].append([(c["low"], c["high"]) for c in (mild, harsh, pair)])
    truths = [codec("mild").truth, codec("harsh").truth, codec("harsh").truth - codec("mild").truth]
    wanted = {"fad": np.mean(values["fad"], axis=0), "fad_debiased": np.array(truths)}
    found = {}
    for distance, all_bounds in bounds.items():
        low, high = np.moveaxis(np.array(all_bounds), 2, 0)
        assert (low <= np.array(values[distance])).all()
        assert (high >= np.array(values[distance])).all()
        for name, share in zip(
            ("mild", "harsh", "difference"),
            ((low <= wanted[distance]) & (high >= wanted[distance])).mean(axis=0),
            strict=True,
        ):
            found[distance, name] = float(share)
    print(n, {" ".join(key): round(share, 3) for key, share in found.items()})
    for key, share in found.items():
        assert within(share, 0.93, 0.97, trials), (key, share)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mild", "harsh"])
def test_equal_codecs_are_told_apart_in_3_to_7_percent(name: str) -> None:
    trials, found = 300, {"fad": 0, "fad_debiased": 0}
    rng = np.random.default_rng(7)
    for _ in range(trials):
        for distance, (first, second) in cells_of(tuple(found), 20, (name, name), None, rng).items():
            (pair,) = compare_replicates({"a": first, "b": second}, level=0.95)
            found[distance] += pair["p"] <= 0.05
            assert (pair["p"] <= 0.05) == (pair["low"] > 0 or pair["high"] < 0)
    print(name, found)
    for count in found.values():
        assert within(count / trials, 0.03, 0.07, trials)


@pytest.mark.parametrize("distance", ["fad", "fad_debiased", "kad_paired"])
def test_thirty_clips_tell_a_mild_from_a_harsh_codec(distance: str) -> None:
    """Distances of 2.6 and 49: a basic bootstrap interval of the difference once held 0 here."""
    cells = cells_of((distance,), 30, ("mild", "harsh"), np.arange(30) // 2, np.random.default_rng(0))[distance]
    (pair,) = compare_replicates(dict(zip(("mild", "harsh"), cells, strict=True)), level=0.95)
    assert pair["high"] < 0
    assert pair["p"] < 1e-3
