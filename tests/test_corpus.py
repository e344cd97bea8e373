"""Distances of corpora: values as defined, intervals over clips, comparisons on the same draws."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from benchmarks.metrics.frechet import frechet_distance
from benchmarks.metrics.kernel import kernel_distance
from benchmarks.statistics.corpus import compare_draws, corpus_distance

OPTIONS = {"seed": 0, "resamples": 60, "level": 0.95}


def corpus(n_clips: int = 12, dim: int = 6, shift: float = 0.0, scale: float = 1.0) -> list[np.ndarray]:
    """Embeddings of clips with 3 to 6 windows; windows of a clip are alike."""
    rng = np.random.default_rng(5)
    clips = []
    for _ in range(n_clips):
        center = rng.standard_normal(dim)
        windows = center + 0.5 * rng.standard_normal((int(rng.integers(3, 7)), dim))
        noise = np.random.default_rng(6).standard_normal(windows.shape)
        clips.append((windows * scale + shift + 0.05 * shift * noise).astype(np.float32))
    return clips


@pytest.mark.parametrize(
    ("distance", "function"), [("fad", frechet_distance), ("kad", partial(kernel_distance, paired=True))]
)
def test_the_value_is_the_distance_of_all_windows(distance: str, function: object) -> None:
    reference, outputs = corpus(), corpus(shift=0.7)
    found = corpus_distance(distance, reference, outputs, **OPTIONS)
    expected = function(np.concatenate(reference), np.concatenate(outputs))  # type: ignore[operator]
    assert found["value"] == pytest.approx(expected, rel=1e-9)
    assert found["n"] == 12
    assert found["n_windows"] == sum(len(clip) for clip in outputs)
    assert found["low"] < found["value"] < found["high"]


def test_identical_corpora_are_at_exactly_zero() -> None:
    found = corpus_distance("fad", corpus(), corpus(), **OPTIONS)
    assert (found["value"], found["low"], found["high"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("distance", ["fad", "kad"])
def test_worse_outputs_are_farther_by_the_paired_interval(distance: str) -> None:
    reference = corpus()
    cells = {
        name: {**corpus_distance(distance, reference, corpus(shift=shift), **OPTIONS), "clips": list(range(12))}
        for name, shift in [("near", 0.3), ("far", 1.0), ("far again", 1.0)]
    }
    records = {(r["a"], r["b"]): r for r in compare_draws(cells, level=0.95)}
    assert records["near", "far"]["difference"] < 0
    assert records["near", "far"]["significant"]
    same = records["far", "far again"]
    assert same["difference"] == 0
    assert not same["significant"]


def test_systems_on_different_clips_are_not_compared() -> None:
    reference = corpus()
    full = {**corpus_distance("fad", reference, corpus(shift=1.0), **OPTIONS), "clips": list(range(12))}
    part = {**corpus_distance("fad", reference[1:], corpus(shift=1.0)[1:], **OPTIONS), "clips": list(range(1, 12))}
    (record,) = compare_draws({"a": full, "b": part}, level=0.95)
    assert record["reason"] == "measured on different clips"
    assert "significant" not in record


@pytest.mark.parametrize("paired", [False, True])
def test_one_clip_drawn_twice_says_nothing_about_itself(paired: bool) -> None:
    """The kernel draw with every clip once is the value itself."""
    from benchmarks.statistics.corpus import _kernel_draws

    reference, outputs = corpus(), corpus(shift=0.5)
    (draw,) = _kernel_draws(reference, outputs, [np.arange(12)[None]], paired=paired)
    expected = kernel_distance(np.concatenate(reference), np.concatenate(outputs), paired=paired)
    assert draw == pytest.approx(expected, rel=1e-5)  # the metric's kernel values are float32


def test_intervals_shrink_with_clips() -> None:
    def width(n: int) -> float:
        found = corpus_distance("fad", corpus(n), corpus(n, shift=1.0), **OPTIONS)
        return float(found["high"] - found["low"])

    assert width(96) < width(12)


def test_fad_infinity_has_no_interval_and_says_so_by_having_none() -> None:
    found = corpus_distance("fad_inf", corpus(60), corpus(60, shift=1.0), **OPTIONS)
    assert found["value"] == pytest.approx(6.0, rel=0.3)  # dim * shift²
    assert "low" not in found


@pytest.mark.parametrize(("clips", "message"), [(0, "0 clips"), (1, "1 clips")])
def test_too_few_clips(clips: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corpus_distance("fad", corpus()[:clips], corpus()[:clips], **OPTIONS)


def test_unknown_distance() -> None:
    with pytest.raises(ValueError, match="'mmd'"):
        corpus_distance("mmd", corpus(), corpus(), **OPTIONS)
