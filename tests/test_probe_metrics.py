"""The metrics of Table 1 against mir_eval and scikit-learn."""

from __future__ import annotations

import mir_eval.key
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    classification_report,
    f1_score,
    r2_score,
    roc_auc_score,
)

from probes.metrics import KEYS, Ranking, f1_scores, key_scores, key_weight_table, mean_per_class, regression_scores


def test_weighted_key_score_equals_mir_eval_on_all_pairs() -> None:
    assert len(KEYS) == 24
    table = key_weight_table()
    theirs = [[mir_eval.key.weighted_score(ref, est) for est in KEYS] for ref in KEYS]
    assert table.tolist() == theirs
    assert key_weight_table() is table  # a bootstrap asks for it a thousand times
    assert sorted(set(table.flat)) == [0.0, 0.2, 0.3, 0.5, 1.0]


def test_fifth_counts_upwards_only() -> None:
    assert key_weight_table(("C major", "G major"))[0, 1] == 0.5
    assert key_weight_table(("C major", "F major"))[0, 1] == 0.0


@pytest.mark.parametrize(("key", "named"), [("C", "'C'"), ("C dorian", "'dorian'"), ("H minor", "H"), ("", "''")])
def test_what_is_no_key_is_named(key: str, named: str) -> None:
    with pytest.raises(ValueError, match=f"{named} is"):
        key_weight_table(("C major", key))


def test_constant_predictor_scores_weighted_above_plain() -> None:
    target = np.arange(24)
    scores = key_scores(target, np.full(24, KEYS.index("C minor")))
    assert scores["accuracy_micro"] == pytest.approx(1 / 24)
    assert scores["weighted_micro"] == pytest.approx((1 + 0.5 + 0.3 + 0.2) / 24)


labels = st.integers(2, 9).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), min_size=1, max_size=60)
    )
)


@given(labels)
@settings(max_examples=50, deadline=None)
def test_f1_equals_sklearn(case: tuple[int, list[tuple[int, int]]]) -> None:
    n, pairs = case
    target, guess = (np.array(column) for column in zip(*pairs, strict=True))
    ours = f1_scores(target, guess, n)
    assert ours["f1_macro"] == pytest.approx(f1_score(target, guess, labels=range(n), average="macro", zero_division=0))
    report = classification_report(
        np.eye(n, dtype=int)[target], np.eye(n, dtype=int)[guess], output_dict=True, zero_division=0
    )
    assert ours["f1_micro"] == pytest.approx(report["micro avg"]["f1-score"])
    assert ours["f1_macro"] == pytest.approx(report["macro avg"]["f1-score"])


@given(st.integers(0, 2**31), st.integers(2, 40), st.sampled_from([2, 5, 1000]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_ranking_equals_sklearn_with_ties_and_weights(seed: int, n_items: int, levels: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    target = rng.random((n_items, 3)) < 0.4
    target[0], target[1] = True, False
    scores = rng.integers(0, levels, (n_items, 3)) / levels
    weights = rng.integers(0, 3, n_items) / 4 if weighted else None
    if weights is not None:
        weights[:2] = 0.25
    area, precision = Ranking(target, scores)(weights)
    for tag in range(3):
        args = (target[:, tag], scores[:, tag])
        assert area[tag] == pytest.approx(roc_auc_score(*args, sample_weight=weights), abs=1e-12)
        assert precision[tag] == pytest.approx(average_precision_score(*args, sample_weight=weights), abs=1e-12)


def test_weights_are_repetitions() -> None:
    rng = np.random.default_rng(0)
    target, scores = rng.random((30, 4)) < 0.5, rng.integers(0, 8, (30, 4)) / 8
    draw = rng.integers(0, 30, 30)
    by_weight = Ranking(target, scores)(np.bincount(draw, minlength=30))
    by_copy = Ranking(target[draw], scores[draw])()
    np.testing.assert_allclose(by_weight, by_copy, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_tags_without_positives_or_negatives_have_no_score(weighted: bool) -> None:
    """Three of four items count; among them tag 1 is always there and tag 2 never."""
    target = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]])[: 4 if weighted else 3]
    scores = np.array([[0.9, 0.1, 0.2], [0.4, 0.2, 0.2], [0.3, 0.3, 0.1], [0.1, 0.4, 0.4]])[: len(target)]
    area, precision = Ranking(target, scores)(np.array([0.5, 0.5, 0.5, 0.0]) if weighted else None)
    np.testing.assert_allclose(area, [0.5, np.nan, np.nan])
    np.testing.assert_allclose(precision, [(1 + 2 / 3) / 2, 1.0, np.nan])


@pytest.mark.parametrize("shapes", [((3, 2), (3, 3)), ((3,), (3,)), ((3, 2, 1), (3, 2, 1))])
def test_targets_and_scores_of_other_shapes_are_named(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    target, scores = (np.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r"targets \(3.* and scores \(3.* must be \(n_items, n_tags\)"):
        Ranking(target, scores)


def test_scores_that_are_not_finite_are_named() -> None:
    scores = np.zeros((3, 3))
    scores[1, 2], scores[2, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match="score of item 1, tag 2 is nan"):
        Ranking(np.ones((3, 3)), scores)


def test_class_lost_in_a_resample_is_left_out() -> None:
    """Perfect predictions stay perfect when weights remove a class; a class never there still counts 0."""
    target = np.array([0, 0, 1, 2])
    weights = np.array([1.0, 2.0, 1.0, 0.0])
    assert f1_scores(target, target, 3, weights)["f1_macro"] == 1.0
    assert f1_scores(target, target, 4, weights)["f1_macro"] == pytest.approx(2 / 3)


def test_mean_per_class_ignores_absent_classes() -> None:
    assert mean_per_class(np.array([0, 0, 3]), np.array([1.0, 0.0, 1.0])) == pytest.approx(0.75)


def test_means_per_class_are_weighted() -> None:
    target, scores, weights = np.array([0, 0, 2]), np.array([1.0, 0.0, 0.5]), np.array([0.3, 0.1, 0.2])
    assert mean_per_class(target, scores, weights) == pytest.approx((0.75 + 0.5) / 2)


@pytest.mark.parametrize("weights", [None, np.array([0.1, 0.2, 0.3, 0.4])])
def test_the_four_readings_of_key_accuracy_by_hand(weights: np.ndarray | None) -> None:
    """Right, a fifth above, the relative minor, nothing; the first two are of one true key."""
    names = ["C major", "G major", "A minor", "F# major"]
    target, guess = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 3])
    found = key_scores(target, guess, names, weights)
    if weights is None:
        expected = {"weighted_micro": 1.8 / 4, "weighted_macro": (1.8 / 3 + 0) / 2}
        expected |= {"accuracy_micro": 1 / 4, "accuracy_macro": 1 / 6}
        assert found["accuracy_macro"] == pytest.approx(balanced_accuracy_score(target, guess))
    else:
        expected = {"weighted_micro": 0.1 + 0.1 + 0.09, "weighted_macro": 0.29 / 0.6 / 2}
        expected |= {"accuracy_micro": 0.1, "accuracy_macro": 0.1 / 0.6 / 2}
    assert found == pytest.approx(expected)


def test_weighted_f1_equals_sklearn() -> None:
    rng = np.random.default_rng(0)
    target, guess, weights = rng.integers(0, 4, 30), rng.integers(0, 4, 30), rng.random(30) / 20
    found = f1_scores(target, guess, 4, weights)
    options = {"labels": range(4), "zero_division": 0, "sample_weight": weights}
    assert found["f1_macro"] == pytest.approx(f1_score(target, guess, average="macro", **options))
    assert found["f1_micro"] == pytest.approx(f1_score(target, guess, average="micro", **options))


def test_a_class_guessed_once_by_an_item_that_does_not_count_is_left_out() -> None:
    found = f1_scores(np.array([0, 0, 1]), np.array([0, 2, 1]), 3, np.array([1.0, 0.0, 1.0]))
    assert found == {"f1_micro": 1.0, "f1_macro": 1.0}


@pytest.mark.parametrize("weighted", [False, True])
def test_regression_scores_equal_sklearn_and_scipy(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(3, [1, 2, 0.1], (20, 3))
    predicted = target + rng.normal(0.5, 0.5, (20, 3))
    counts = rng.integers(0, 3, 20) if weighted else np.ones(20, dtype=int)
    found = regression_scores(target, predicted, counts / 7 if weighted else None)
    x, y = np.repeat(target, counts, axis=0), np.repeat(predicted, counts, axis=0)
    assert found["r2"] == pytest.approx(r2_score(x, y))
    assert found["r2"] == pytest.approx(r2_score(target, predicted, sample_weight=counts))
    assert found["pearson"] == pytest.approx(np.mean([pearsonr(a, b).statistic for a, b in zip(x.T, y.T, strict=True)]))


def test_outputs_without_spread() -> None:
    """A constant prediction has the correlation 0; a target that does not vary has no score."""
    target = np.array([[0.0, 5.0, 0.0], [0.5, 5.0, 1.0]])
    predicted = np.array([[0.25, 1.0, 0.0], [0.25, 2.0, 1.0]])
    assert regression_scores(target, predicted) == pytest.approx({"r2": 0.5, "pearson": 0.5})
    nothing = regression_scores(target[:, 1:2], predicted[:, 1:2])
    assert sorted(nothing) == ["pearson", "r2"]
    assert np.isnan(list(nothing.values())).all()
