"""The metrics of Table 1, and the corrected readings of them.

Plain functions of targets and predictions. They take weights per item: items that are left out weigh 0, and sorting
once per prediction makes hundreds of such scores affordable.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

#: Sharp spelling, in the alphabetical order in which mir_ref's LabelEncoder numbers the 24 keys.
PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
KEYS = tuple(sorted(f"{tonic} {mode}" for tonic in PITCH_CLASSES for mode in ("major", "minor")))


@cache
def key_weight_table(labels: tuple[str, ...] = KEYS) -> np.ndarray:
    """(n, n) MIREX scores of key estimates: row is the reference, column the estimate, both in the order of `labels`.

    The same key scores 1; a fifth above the reference in the same mode 0.5; relative major or minor 0.3; parallel 0.2;
    anything else nothing, a fifth *below* included (MIREX 2005's rule).

    Raises:
        ValueError: a label that is no key; it is named.
    """
    from mir_eval.key import weighted_score

    return np.array([[weighted_score(reference, estimate) for estimate in labels] for reference in labels])


def mean_per_class(target: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean over the classes that occur in `target` of the mean of `scores` within the class."""
    target = np.asarray(target)
    weights = np.ones(len(target)) if weights is None else np.asarray(weights, dtype=float)
    total = np.bincount(target, weights=weights)
    summed = np.bincount(target, weights=weights * scores)
    return float(np.mean(summed[total > 0] / total[total > 0]))


def key_scores(
    target: np.ndarray, guess: np.ndarray, labels: Sequence[str] = KEYS, weights: np.ndarray | None = None
) -> dict[str, float]:
    """The four readings of "key accuracy", none of which may stand for another.

    Args:
        target, guess: class numbers into `labels`.
        labels: key names.
        weights: item weights.

    Returns:
        `weighted_micro`, `weighted_macro`: MIREX scores, mean over items and over true keys; this is what
        mir_ref calls accuracy and what Table 1 shows. `accuracy_micro`, `accuracy_macro`: the plain ones.
    """
    target, guess = np.asarray(target), np.asarray(guess)
    scores = key_weight_table(tuple(labels))[target, guess]
    hits = (target == guess).astype(float)
    return {
        "weighted_micro": float(np.average(scores, weights=weights)),
        "weighted_macro": mean_per_class(target, scores, weights),
        "accuracy_micro": float(np.average(hits, weights=weights)),
        "accuracy_macro": mean_per_class(target, hits, weights),
    }


def f1_scores(
    target: np.ndarray, guess: np.ndarray, n_classes: int, weights: np.ndarray | None = None
) -> dict[str, float]:
    """Micro and macro F1 of single-label classification; an absent class counts 0 in the macro mean.

    Equal to `sklearn.metrics.f1_score(…, labels=range(n_classes), zero_division=0)`, and to the "micro avg"
    and "macro avg" of the `classification_report` mir_ref prints. A class that is lost only because all of
    its items have weight 0 is left out of the macro mean.
    """
    target, guess = np.asarray(target), np.asarray(guess)
    everywhere = np.bincount(target, minlength=n_classes) + np.bincount(guess, minlength=n_classes)
    weights = np.ones(len(target)) if weights is None else np.asarray(weights, dtype=float)
    hit = target == guess
    hits = np.bincount(target[hit], weights=weights[hit], minlength=n_classes)
    total = np.bincount(target, weights=weights, minlength=n_classes)
    total = total + np.bincount(guess, weights=weights, minlength=n_classes)
    f1 = np.divide(2 * hits, total, out=np.zeros(n_classes), where=total > 0)
    n_counted = n_classes - np.count_nonzero((everywhere > 0) & (total == 0))
    return {"f1_micro": float(hits.sum() / weights.sum()), "f1_macro": float(f1.sum() / n_counted)}


def regression_scores(target: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    """Coefficient of determination R^2 and Pearson's correlation, each the mean over outputs.

    Args:
        target, predicted: (n_items, n_outputs).
        weights: item weights; means, and with them R^2, are of the weighted items.

    A constant prediction has the correlation 0; an output whose target does not vary is left out, and NaN is the score
    where none does.
    """
    weights = np.ones(len(target)) if weights is None else np.asarray(weights, dtype=float)
    share = weights[:, None] / weights.sum()
    x, y = (values - (share * values).sum(axis=0) for values in (np.asarray(target, dtype=float), predicted))
    vary, product = ((share * a * b).sum(axis=0) for a, b in ((x, x), (x, y)))
    deviation = np.sqrt(vary * (share * y**2).sum(axis=0))
    error = (share * (np.asarray(target, dtype=float) - predicted) ** 2).sum(axis=0)
    known = vary > 0
    if not known.any():
        return {"r2": float("nan"), "pearson": float("nan")}
    correlation = np.divide(product, deviation, out=np.zeros_like(product), where=deviation > 0)
    return {"r2": float(np.mean(1 - error[known] / vary[known])), "pearson": float(correlation[known].mean())}


class Ranking:
    """ROC-AUC and average precision of every tag, for any item weights, after sorting once.

    Args:
        target: (n_items, n_tags) zeros and ones.
        scores: (n_items, n_tags), higher is more likely; must be finite.

    Both equal scikit-learn's `roc_auc_score` and `average_precision_score`, ties and weights included.
    """

    def __init__(self, target: np.ndarray, scores: np.ndarray) -> None:
        target, scores = np.asarray(target, dtype=float), np.asarray(scores)
        if target.shape != scores.shape or target.ndim != 2:
            raise ValueError(f"targets {target.shape} and scores {scores.shape} must be (n_items, n_tags)")
        if not np.isfinite(scores).all():
            item, tag = np.argwhere(~np.isfinite(scores))[0]
            raise ValueError(f"score of item {item}, tag {tag} is {scores[item, tag]}")
        self.order = np.argsort(-scores, axis=0, kind="stable")
        ordered = np.take_along_axis(scores, self.order, axis=0)
        self.positive = np.take_along_axis(target, self.order, axis=0)
        last = np.ones_like(ordered, dtype=bool)  # last item of each run of equal scores
        last[:-1] = ordered[:-1] != ordered[1:]
        rows = np.arange(len(ordered))[:, None]
        # for every item the end of its run: curves only turn there
        ends = np.minimum.accumulate(np.where(last, rows, len(ordered))[::-1], axis=0)[::-1]
        self.ends, self.tied = ends, not last.all()

    def __call__(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(ROC-AUC, average precision) per tag; NaN (0 / 0) where a tag lacks positives (or negatives, for AUC)."""
        if weights is None:
            positive, negative = self.positive, 1.0 - self.positive
        else:
            ordered = np.asarray(weights, dtype=float)[self.order]
            positive = self.positive * ordered
            negative = ordered - positive
        true, false = positive.cumsum(axis=0), negative.cumsum(axis=0)
        n_true, n_false = true[-1], false[-1]
        if self.tied:
            true_at, false_at = (np.take_along_axis(c, self.ends, axis=0) for c in (true, false))
            starts = np.zeros_like(true)
            # negatives seen before an item's run begins
            starts[1:] = np.where(
                self.ends[1:] == self.ends[:-1], 0.0, np.take_along_axis(false, self.ends, axis=0)[:-1]
            )
            starts = np.maximum.accumulate(starts, axis=0)
            below = n_false - 0.5 * (starts + false_at)
        else:
            true_at, false_at = true, false
            below = n_false - false
        with np.errstate(divide="ignore", invalid="ignore"):
            area = (positive * below).sum(axis=0) / (n_true * n_false)
            seen = true_at + false_at
            precision = np.divide(true_at, seen, out=np.zeros_like(true_at), where=seen > 0)
            average_precision = (positive * precision).sum(axis=0) / n_true
        return area, average_precision
