"""What a probe is before and after training: jobs, initial weights, and the trained network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True)
class ProbeJob:
    """One model of a stack.

    Attributes:
        targets: (n_items,) class numbers, (n_items, n_outputs) integers zero and one for multilabel targets, or
            (n_items, n_outputs) values to regress on, whose scale the learning rate presumes to be about 1.
        n_outputs: number of classes, tags or values.
        train, validation: item numbers, rows of the feature matrix. `validation` may be empty only if the
            configuration neither stops nor selects on it.
        seed: draws the initial weights and the order of batches.
        learning_rate: overrides the configuration's.
        regression: targets are values; the loss is the mean squared error.
    """

    targets: np.ndarray
    n_outputs: int
    train: np.ndarray
    validation: np.ndarray
    seed: int = 0
    learning_rate: float | None = None
    regression: bool = False

    @property
    def multilabel(self) -> bool:
        return self.targets.ndim == 2 and not self.regression


@dataclass
class TrainedProbe:
    """Weights of the kept epoch and how training got there.

    `layers` holds (kernel (out, in), bias (out,)) per layer; `mean` and `scale` are (in,) and applied first, after
    `factors`, which are powers of two (see `balance`).
    """

    layers: list[tuple[np.ndarray, np.ndarray]]
    mean: np.ndarray | None
    scale: np.ndarray | None
    multilabel: bool
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    factors: np.ndarray | None = None

    def decision_function(self, features: np.ndarray) -> np.ndarray:
        """Logits (n_items, n_outputs), or what a regression predicts."""
        hidden = np.asarray(features, dtype=np.float32)
        if hidden.ndim != 2 or hidden.shape[1] != self.layers[0][0].shape[1]:
            raise ValueError(
                f"probe was trained on {self.layers[0][0].shape[1]} features, got an array of {hidden.shape}"
            )
        if self.factors is not None:
            hidden = hidden * self.factors
        if self.mean is not None and self.scale is not None:
            hidden = (hidden - self.mean) * self.scale
        for number, (kernel, bias) in enumerate(self.layers):
            hidden = hidden @ kernel.T + bias
            if number + 1 < len(self.layers):
                hidden = np.maximum(hidden, 0.0)
        return hidden

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Probabilities (n_items, n_outputs): softmax over classes, or one sigmoid per tag."""
        logits = self.decision_function(features).astype(np.float64)
        if self.multilabel:
            return 0.5 * (1.0 + np.tanh(0.5 * logits))
        logits = np.exp(logits - logits.max(axis=1, keepdims=True))
        return logits / logits.sum(axis=1, keepdims=True)


#: Features between these are squared and summed in float32 without overflow or underflow.
_SAFE_EXPONENT = 40


def balance(features: np.ndarray) -> np.ndarray | None:
    """(dim,) powers of two that bring columns of very large or very small (n_items, dim) features near one, if any.

    Scaling by them is exact, and standardized features do not depend on the scale: it only keeps their deviations
    from running out of float32.
    """
    largest = np.abs(features).max(axis=0, initial=0.0)
    _, exponent = np.frexp(largest)
    far = np.abs(exponent) > _SAFE_EXPONENT
    if not far.any():
        return None
    # the smallest float32 is 2**-149: 2**127 is the largest power that is one
    return np.ldexp(np.float32(1), np.where(far, np.minimum(-exponent, 127), 0)).astype(np.float32)


def glorot_layers(sizes: Sequence[int], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Initial layers: kernels (out, in) uniform in ±sqrt(6 / (in + out)), zero biases (Keras' defaults)."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        limit = (6.0 / (n_in + n_out)) ** 0.5
        kernel = torch.rand((n_out, n_in), generator=generator) * (2 * limit) - limit
        layers.append((kernel.numpy(), np.zeros(n_out, dtype=np.float32)))
    return layers


def batch_order(n_items: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the training items in one epoch; a function of (seed, epoch) alone."""
    return np.random.default_rng((seed, epoch)).permutation(n_items)
