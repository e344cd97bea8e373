"""The metrics of Table 1 against mir_eval and scikit-learn."""

from __future__ import annotations

import mir_eval.key
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, classification_report, f1_score, roc_auc_score

from probes.metrics import KEYS, Ranking, f1_scores, key_scores, key_weight_table, mean_per_class, tagging_scores


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
    weights = rng.integers(0, 3, n_items).astype(float) if weighted else None
    if weights is not None:
        weights[:2] = 1
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


def test_tag_without_positives_is_an_error() -> None:
    target = np.zeros((4, 2))
    target[:2, 0] = 1
    with pytest.raises(ValueError, match="tag 1"):
        tagging_scores(target, np.random.default_rng(0).random((4, 2)))


def test_scores_that_are_not_finite_are_named() -> None:
    scores = np.zeros((3, 2))
    scores[1, 1] = np.nan
    with pytest.raises(ValueError, match="item 1, tag 1"):
        Ranking(np.ones((3, 2)), scores)


def test_class_lost_in_a_resample_is_left_out() -> None:
    """Perfect predictions stay perfect when weights remove a class; a class never there still counts 0."""
    target = np.array([0, 0, 1, 2])
    weights = np.array([1.0, 2.0, 1.0, 0.0])
    assert f1_scores(target, target, 3, weights)["f1_macro"] == 1.0
    assert f1_scores(target, target, 4, weights)["f1_macro"] == pytest.approx(2 / 3)


def test_mean_per_class_ignores_absent_classes() -> None:
    assert mean_per_class(np.array([0, 0, 3]), np.array([1.0, 0.0, 1.0])) == pytest.approx(0.75)
