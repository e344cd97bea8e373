"""Probes with scikit-learn's conventions: the [256, 128] MLP, its linear form, and k nearest neighbors.

    probe = MLPProbe(seed=0).fit(features, labels)
    probe.predict_proba(features), probe.score(features, labels)

For five seeds, or several tasks on the same features, call `probes.mlp.training.train_probes` once: it trains
all of them in one pass and gives the same models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from probes.mlp.config import ProbeConfig
from probes.mlp.models import balance
from probes.mlp.training import ProbeJob, TrainedProbe, train_probes


class _Probe(ClassifierMixin, BaseEstimator):
    """Label handling that all probes share: classes by name, or a 0/1 matrix of tags."""

    def _encode(self, y: Any) -> np.ndarray:
        """Targets as class numbers (n,) or 0/1 matrix (n, tags); sets `classes_` and `multilabel_`."""
        y = np.asarray(y)
        self.multilabel_ = y.ndim == 2
        if self.multilabel_:
            if not np.isin(y, (0, 1)).all():
                raise ValueError("multilabel targets must be zeros and ones")
            self.classes_ = np.arange(y.shape[1])
            return y.astype(np.uint8)
        if y.ndim != 1:
            raise ValueError(f"targets must be (n_items,) or (n_items, n_tags), got shape {y.shape}")
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"the training data holds one class only: {self.classes_[0]!r}")
        return numbers

    def _matrix(self, X: Any) -> np.ndarray:
        features = np.asarray(X, dtype=np.float32)
        if features.ndim != 2:
            raise ValueError(f"features must be (n_items, dim), got shape {features.shape}")
        if hasattr(self, "n_features_in_") and features.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {features.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        if not np.isfinite(features).all():
            bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
            raise ValueError(f"features of {bad.size} items are not finite, the first is item {bad[0]}")
        return features

    def predict(self, X: Any) -> np.ndarray:
        """Class of each item, or the 0/1 matrix of tags with probability above one half."""
        probabilities = self.predict_proba(X)
        if self.multilabel_:
            return (probabilities > 0.5).astype(int)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        raise NotImplementedError


class MLPProbe(_Probe):
    """Multi-layer perceptron trained as `mir_ref` trains it (see `probes.mlp.training`).

    Args:
        hidden_units: width of each hidden layer; `()` makes it a linear probe.
        learning_rate, l2, batch_size, max_epochs, patience: as in `ProbeConfig`.
        stop_on: "loss", "macro" or "keras": what early stopping watches.
        select_on: "keras", "macro" or "last": whose best epoch is kept.
        standardize: scale features by the training items.
        precision: "fp32" or "bf16".
        validation_fraction: part of the data `fit` holds out when it is given no validation data.
        seed: draws the initial weights, the order of batches, and the held-out part.
        device: "cpu" or "cuda".

    Attributes:
        classes_: class labels, or tag numbers.
        probe_: the `TrainedProbe`, with weights and history.
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (256, 128),
        learning_rate: float = 1e-3,
        l2: float = 1e-5,
        batch_size: int = 64,
        max_epochs: int = 100,
        patience: int = 10,
        stop_on: str = "loss",
        select_on: str = "keras",
        standardize: bool = False,
        precision: str = "fp32",
        validation_fraction: float = 0.1,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.hidden_units = hidden_units
        self.learning_rate = learning_rate
        self.l2 = l2
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.stop_on = stop_on
        self.select_on = select_on
        self.standardize = standardize
        self.precision = precision
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.device = device

    def config(self) -> ProbeConfig:
        """These settings as a `ProbeConfig`."""
        return ProbeConfig(
            hidden_units=tuple(self.hidden_units),
            learning_rate=self.learning_rate,
            l2=self.l2,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            stop_on=self.stop_on,
            select_on=self.select_on,
            standardize=self.standardize,
            precision=self.precision,
        )

    def fit(self, X: Any, y: Any, validation: tuple[Any, Any] | None = None) -> MLPProbe:
        """Train.

        Args:
            X: (n_items, dim) features.
            y: (n_items,) labels, or (n_items, n_tags) zeros and ones.
            validation: features and targets that stop training and choose the epoch; without them a part
                of the items is held out, stratified by class where every class has two items.

        Raises:
            ValueError: features that are not finite, one class only, or validation labels never seen.
        """
        self.__dict__.pop("n_features_in_", None)
        features = self._matrix(X)
        self.n_features_in_ = features.shape[1]
        targets = self._encode(y)
        if len(targets) != len(features):
            raise ValueError(f"{len(targets)} targets for {len(features)} items")
        items: np.ndarray = np.arange(len(features))
        train: np.ndarray
        held_out: np.ndarray
        if validation is not None:
            features = np.concatenate([features, self._matrix(validation[0])])
            targets = np.concatenate([targets, self._encode_again(validation[1])])
            train, held_out = items, np.arange(len(items), len(features))
        elif self.select_on == "last" and self.patience >= self.max_epochs:
            train, held_out = items, items[:0]
        else:
            train, held_out = self._hold_out(items, targets)
        n_outputs = len(self.classes_)
        job = ProbeJob(targets, n_outputs, train, held_out, seed=self.seed)
        self.probe_: TrainedProbe = train_probes(features, [job], self.config(), device=self.device)[0]
        return self

    def _encode_again(self, y: Any) -> np.ndarray:
        y = np.asarray(y)
        if self.multilabel_:
            if y.ndim != 2 or y.shape[1] != len(self.classes_):
                raise ValueError(f"validation targets have shape {y.shape}, expected {len(self.classes_)} tags")
            return y.astype(np.uint8)
        unknown = sorted({str(label) for label in y} - {str(label) for label in self.classes_})
        if unknown:
            raise ValueError(f"validation labels that training never saw: {', '.join(unknown)}")
        return np.searchsorted(self.classes_, y)

    def _hold_out(self, items: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.model_selection import train_test_split

        smallest = 0 if self.multilabel_ else np.bincount(targets).min()
        n_held_out = max(1, round(self.validation_fraction * len(items)))
        stratify = targets if smallest >= 2 and n_held_out >= len(self.classes_) else None
        train, held_out = train_test_split(items, test_size=n_held_out, random_state=self.seed, stratify=stratify)
        return train, held_out

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (n_items, n_classes), columns as in `classes_`."""
        check_is_fitted(self, "probe_")
        return self.probe_.predict_proba(self._matrix(X))


class KNNProbe(_Probe):
    """k nearest neighbors by cosine similarity; votes are the probabilities.

    Args:
        n_neighbors: neighbors that vote; capped at the number of training items.
        standardize: scale features by the training items first.
    """

    def __init__(self, n_neighbors: int = 5, standardize: bool = True) -> None:
        self.n_neighbors = n_neighbors
        self.standardize = standardize

    def fit(self, X: Any, y: Any) -> KNNProbe:
        """Keep the training items and their labels."""
        self.keep(X)
        self.targets_ = self._encode(y)
        if len(self.targets_) != len(self.items_):
            raise ValueError(f"{len(self.targets_)} targets for {len(self.items_)} items")
        return self

    def keep(self, X: Any) -> KNNProbe:
        """Keep the training items alone, for `mean_of_nearest`."""
        self.__dict__.pop("n_features_in_", None)
        features = self._matrix(X)
        self.n_features_in_ = features.shape[1]
        # cosines depend on the relative scale of columns, standardized ones do not
        self.factors_ = balance(features if self.standardize else features.reshape(-1, 1))
        features = self._balanced(features)
        deviation = features.std(axis=0)
        self.mean_ = features.mean(axis=0) if self.standardize else np.zeros_like(deviation)
        self.scale_ = (
            np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
            if self.standardize
            else np.ones_like(deviation)
        )
        self.items_ = self._normalize(features)
        return self

    def _balanced(self, features: np.ndarray) -> np.ndarray:
        return features if self.factors_ is None else features * self.factors_

    def _normalize(self, features: np.ndarray) -> np.ndarray:
        scaled = (features - self.mean_) * self.scale_
        return scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Share of the neighbors with each class or tag."""
        check_is_fitted(self, "items_")
        one_hot = self.targets_ if self.multilabel_ else np.eye(len(self.classes_))[self.targets_]
        return self.mean_of_nearest(X, one_hot)

    def mean_of_nearest(self, X: Any, values: np.ndarray) -> np.ndarray:
        """(n_queries, n_values): mean of the neighbors' rows of `values` (n_items, n_values)."""
        queries = self._normalize(self._balanced(self._matrix(X)))
        k = min(self.n_neighbors, len(self.items_))
        means = np.empty((len(queries), values.shape[1]))
        for start in range(0, len(queries), 512):
            similarity = queries[start : start + 512] @ self.items_.T
            # a stable sort breaks ties by item number, so the vote does not depend on the machine
            nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
            found = values[nearest].mean(axis=1)
            # a query so far away that its distance overflows is near to nothing
            found[~np.isfinite(similarity).all(axis=1)] = np.nan
            means[start : start + 512] = found
        return means
