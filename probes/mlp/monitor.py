"""Validation metrics that decide which epoch of a probe is kept; each takes logits and 0/1 targets.

They run once per model and epoch, so they are torch functions of whole validation splits. The metrics that
are *reported* live in `probes.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from probes.mlp.config import MONITOR_NAMES

KERAS_THRESHOLDS = 200


def keras_auc(probabilities: Tensor, target: Tensor, n_thresholds: int = KERAS_THRESHOLDS) -> float:
    """Area under the ROC curve as `keras.metrics.AUC()` computes it: flattened, at fixed thresholds.

    Thresholds are -ε, 1/(n-1), …, (n-2)/(n-1), 1+ε; a prediction is positive *above* a threshold; the area
    is the trapezoid sum. NaN (0 / 0) when one of the two classes is absent.
    """
    scores, truth = probabilities.reshape(-1), target.reshape(-1)
    inner = torch.arange(1, n_thresholds - 1, device=scores.device, dtype=scores.dtype) / (n_thresholds - 1)
    # number of inner thresholds strictly below the score = how many of them it passes
    passed = torch.searchsorted(inner, scores.contiguous(), right=False)
    positives = torch.bincount(passed, weights=truth.double(), minlength=n_thresholds - 1)
    negatives = torch.bincount(passed, weights=1.0 - truth.double(), minlength=n_thresholds - 1)
    # curve from the highest threshold (0, 0) to the lowest (1, 1)
    tpr = torch.cat([positives.new_zeros(1), positives.flip(0).cumsum(0)]) / positives.sum()
    fpr = torch.cat([negatives.new_zeros(1), negatives.flip(0).cumsum(0)]) / negatives.sum()
    return float(torch.trapezoid(tpr, fpr))


def keras_monitor(logits: Tensor, target: Tensor, multilabel: bool) -> float:
    """What mir_ref's checkpoint looks at: accuracy, or the flattened 200-threshold ROC-AUC."""
    if multilabel:
        return keras_auc(torch.sigmoid(logits), target)
    return float((logits.argmax(dim=1) == target.argmax(dim=1)).double().mean())


def macro_monitor(logits: Tensor, target: Tensor, multilabel: bool) -> float:
    """What is reported: macro ROC-AUC over the tags that have both classes, or macro F1 over all classes."""
    if multilabel:
        return _macro_auc(logits, target)
    guess, truth, n = logits.argmax(dim=1), target.argmax(dim=1), logits.shape[1]
    hits = torch.bincount(truth[guess == truth], minlength=n).double()
    total = torch.bincount(truth, minlength=n).double() + torch.bincount(guess, minlength=n).double()
    return float((2 * hits / total.clamp_min(1.0)).mean())


def _macro_auc(scores: Tensor, target: Tensor) -> float:
    columns = scores.t().contiguous()
    ranked = columns.sort(dim=1).values
    # mean rank of every score, ties shared: (number below + number not above + 1) / 2
    below = torch.searchsorted(ranked, columns, right=False)
    not_above = torch.searchsorted(ranked, columns, right=True)
    ranks = (below + not_above + 1).double() / 2
    truth = target.t().double()
    positives = truth.sum(dim=1)
    negatives = truth.shape[1] - positives
    area = ((ranks * truth).sum(dim=1) - positives * (positives + 1) / 2) / (positives * negatives)
    return float(area[(positives > 0) & (negatives > 0)].mean())


def r2_monitor(predicted: Tensor, target: Tensor) -> float:
    """Mean coefficient of determination over outputs: what a regression is stopped and selected by."""
    total = (target - target.mean(dim=0)).square().sum(dim=0).clamp_min(1e-12)
    return float((1.0 - (predicted - target).square().sum(dim=0) / total).double().mean())


MONITORS: dict[str, Callable[[Tensor, Tensor, bool], float]] = dict(
    zip(MONITOR_NAMES, (keras_monitor, macro_monitor), strict=True)
)
