"""Distances of corpora: values as defined, intervals over clips, comparisons on the same draws."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from benchmarks.metrics.frechet import frechet_distance
from benchmarks.metrics.kernel import kernel_distance, median_bandwidth, paired_kernel_distance
from benchmarks.statistics.corpus import compare_replicates, corpus_distance
from benchmarks.statistics.multiple import adjust_pairs, compare_corpora

OPTIONS: dict[str, Any] = {"seed": 0, "level": 0.95}


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


@pytest.mark.parametrize(("distance", "function"), [("fad", frechet_distance), ("kad", kernel_distance)])
def test_the_value_is_the_distance_of_all_windows(distance: str, function: object) -> None:
    reference, outputs = corpus(), corpus(shift=0.7)
    found = corpus_distance(distance, reference, outputs, **OPTIONS)
    expected = function(np.concatenate(reference), np.concatenate(outputs))  # type: ignore[operator]
    assert found["value"] == pytest.approx(expected, rel=1e-9)
    assert found["n"] == 12
    assert found["n_windows"] == sum(len(clip) for clip in outputs)
    assert found["low"] < found["value"] < found["high"]


@pytest.mark.parametrize("distance", ["fad", "fad_debiased", "kad_paired"])
def test_identical_corpora_are_at_exactly_zero(distance: str) -> None:
    found = corpus_distance(distance, corpus(), corpus(), **OPTIONS)
    assert (found["value"], found["low"], found["high"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("distance", ["fad", "fad_debiased", "kad", "kad_paired"])
def test_worse_outputs_are_farther_by_the_paired_interval(distance: str) -> None:
    reference = corpus()
    cells = {
        name: {**corpus_distance(distance, reference, corpus(shift=shift), **OPTIONS), "clips": list(range(12))}
        for name, shift in [("near", 0.3), ("far", 1.0), ("far again", 1.0)]
    }
    records = {(r["a"], r["b"]): r for r in adjust_pairs(compare_replicates(cells, level=0.95), 0.95)}
    assert records["near", "far"]["difference"] < 0
    assert records["near", "far"]["significant"]
    same = records["far", "far again"]
    assert same["difference"] == 0
    assert not same["significant"]


def test_systems_on_different_clips_are_not_compared() -> None:
    reference = corpus()
    full = {**corpus_distance("fad", reference, corpus(shift=1.0), **OPTIONS), "clips": list(range(12))}
    part = {**corpus_distance("fad", reference[1:], corpus(shift=1.0)[1:], **OPTIONS), "clips": list(range(1, 12))}
    (record,) = compare_replicates({"a": full, "b": part}, level=0.95)
    assert record["reason"] == "measured on different clips"
    assert "p" not in record


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 2, 3, 3, 4, 5, 5, 6, 6, 6]], ids=["clips", "groups"])
@pytest.mark.parametrize("distance", ["fad", "fad_debiased", "kad", "kad_paired"])
def test_a_replicate_is_the_distance_without_a_group(distance: str, groups: list[int] | None) -> None:
    reference, outputs = corpus(), corpus(shift=0.7)
    found = corpus_distance(distance, reference, outputs, groups=groups, **OPTIONS)
    of = groups or list(range(12))
    assert found["n_groups"] == len(found["replicates"]) == len(set(of))
    for group, replicate in enumerate(found["replicates"]):
        kept = [i for i in range(12) if of[i] != group]
        rest = [[clips[i] for i in kept] for clips in (reference, outputs)]
        if distance == "kad_paired":
            expected = paired_kernel_distance(*rest, bandwidth=median_bandwidth(np.concatenate(reference)))
        elif distance == "kad":
            expected = kernel_distance(*map(np.concatenate, rest), bandwidth=median_bandwidth(np.concatenate(outputs)))
        else:
            expected = frechet_distance(*map(np.concatenate, rest))
        assert replicate == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("distance", ["fad", "fad_debiased", "kad_paired"])
def test_rounding_is_no_difference(distance: str) -> None:
    """The debiased value multiplies what rounding leaves by the number of clips: it must not decide."""
    reference, outputs = corpus(40), corpus(40, shift=0.7)
    rounded = [clip.astype(np.float64) * (1 + 1e-14) for clip in outputs]
    cells = {
        name: {**corpus_distance(distance, reference, clips, **OPTIONS), "clips": list(range(40))}
        for name, clips in (("a", outputs), ("b", rounded))
    }
    (record,) = compare_replicates(cells, level=0.95)
    assert (record["difference"], record["low"], record["high"], record["p"]) == (0.0, 0.0, 0.0, 1.0)
    (compared,) = compare_corpora(cells["a"], {"b": cells["b"]}, level=0.95)
    assert (compared.difference, compared.significant) == (0.0, False)


def test_groups_of_unequal_size_count_as_fewer() -> None:
    equal = corpus_distance("fad", corpus(), corpus(shift=1.0), groups=[i // 3 for i in range(12)], **OPTIONS)
    unequal = corpus_distance("fad", corpus(), corpus(shift=1.0), groups=[0] * 9 + [1, 2, 3], **OPTIONS)
    assert (equal["n_groups"], equal["freedom"]) == (4, 3.0)
    assert unequal["n_groups"] == 4
    assert unequal["freedom"] == pytest.approx(144 / 84 - 1)
    two = corpus_distance("fad", corpus(200), corpus(200, shift=1.0), groups=[0] * 199 + [1], **OPTIONS)
    assert 0.0 <= two["low"] < two["value"] < two["high"]


def test_one_group_has_a_distance_but_no_interval() -> None:
    reference, outputs = corpus(), corpus(shift=1.0)
    for distance in ("fad", "kad", "kad_paired"):
        found = corpus_distance(distance, reference, outputs, groups=["a"] * 12, **OPTIONS)
        assert found["value"] == pytest.approx(corpus_distance(distance, reference, outputs, **OPTIONS)["value"])
        assert not {"low", "high", "replicates"} & found.keys()
    with pytest.raises(ValueError, match="two groups"):
        corpus_distance("fad_debiased", reference, outputs, groups=["a"] * 12, **OPTIONS)
    with pytest.raises(ValueError, match="3 groups are given for 12 clips"):
        corpus_distance("fad", reference, outputs, groups=["a", "b", "c"], **OPTIONS)


def test_debiased_distances_do_not_depend_on_the_number_of_clips() -> None:
    """40 clips in 12 dimensions are farther apart than 160 by a third of their distance."""

    def mean(distance: str, n: int) -> float:
        values = []
        for seed in range(12):
            x, noise = np.random.default_rng(seed).standard_normal((2, n, 1, 12))
            y = x + 12**-0.5 + 0.6 * noise
            groups = np.arange(n) // (n // 20)  # twenty blocks: an eighth of the time
            values.append(corpus_distance(distance, list(x), list(y / 1.36**0.5), groups=groups, **OPTIONS)["value"])
        return float(np.mean(values))

    debiased = mean("fad_debiased", 40)
    assert mean("fad", 40) - mean("fad", 160) > 0.2
    assert debiased == pytest.approx(mean("fad_debiased", 160), abs=0.12)


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


def test_twenty_thousand_clips_fit_in_a_small_part_of_memory() -> None:
    clips = list(np.random.default_rng(0).standard_normal((20_000, 3, 64)).astype(np.float32))
    outputs = [clip + np.float32(0.1) for clip in clips]
    tracemalloc.start()
    found = corpus_distance("fad", clips, outputs, **OPTIONS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found["replicates"]) == 200
    assert peak < 100e6
