"""The batched probe against a plain one-model reference, and scikit-learn's conventions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import f1_score, roc_auc_score

from probes.mlp.config import ProbeConfig
from probes.mlp.estimators import KNNProbe, MLPProbe
from probes.mlp.training import ProbeJob, batch_order, glorot_layers, train_probes

Layers = list[tuple[np.ndarray, np.ndarray]]


def keras_style_fit(
    layers: Layers, x: np.ndarray, y: np.ndarray, multilabel: bool, seed: int, epochs: int, batch: int
) -> tuple[Layers, list[float]]:
    """One model, float64, written as Keras' documentation states it; returns weights and epoch losses."""
    rate, l2, beta1, beta2, epsilon = 1e-3, 1e-5, 0.9, 0.999, 1e-7
    weights = [np.array(p, dtype=np.float64) for layer in layers for p in layer]
    m, v = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    losses, t = [], 0

    def forward(items: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        activations = [items]
        for number in range(0, len(weights), 2):
            z = activations[-1] @ weights[number].T + weights[number + 1]
            activations.append(np.maximum(z, 0) if number + 2 < len(weights) else z)
        z = activations.pop()
        if multilabel:
            return activations, 1 / (1 + np.exp(-z))
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return activations, e / e.sum(axis=1, keepdims=True)

    for epoch in range(epochs):
        order = batch_order(len(x), seed, epoch)
        for start in range(0, len(x), batch):
            rows = order[start : start + batch]
            activations, p = forward(x[rows])
            delta = (p - y[rows]) / (len(rows) * (y.shape[1] if multilabel else 1))
            gradients: list[np.ndarray] = []
            for number in reversed(range(0, len(weights), 2)):
                below = activations.pop()
                gradients = [delta.T @ below, delta.sum(axis=0), *gradients]
                delta = (delta @ weights[number]) * (below > 0)
            t += 1
            for w, g, mean, square in zip(weights, gradients, m, v, strict=True):
                g = g + 2 * l2 * w  # derivative of l2 * sum(w ** 2), biases too
                mean += (1 - beta1) * (g - mean)
                square += (1 - beta2) * (g * g - square)
                w -= rate * np.sqrt(1 - beta2**t) / (1 - beta1**t) * mean / (np.sqrt(square) + epsilon)
        _, p = forward(x)
        if multilabel:
            data_loss = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
        else:
            data_loss = -np.log(p[y == 1]).mean()
        losses.append(data_loss + l2 * sum((w**2).sum() for w in weights))
    return list(zip(weights[::2], weights[1::2], strict=True)), losses


def toy(n: int = 90, dim: int = 12, n_outputs: int = 4, seed: int = 0, multilabel: bool = False):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim)).astype(np.float32)
    logits = x @ rng.normal(size=(dim, n_outputs))
    return x, (logits > 0).astype(np.uint8) if multilabel else logits.argmax(axis=1)


@pytest.mark.parametrize("multilabel", [False, True])
def test_equals_plain_reference_after_20_epochs(multilabel: bool) -> None:
    x, y = toy(multilabel=multilabel)
    config = ProbeConfig(hidden_units=(32, 16), batch_size=32, max_epochs=20, patience=99, select_on="last")
    everything = np.arange(len(x))
    job = ProbeJob(y, 4, everything, everything, seed=3)
    ours = train_probes(x, [job], config)[0]
    start = glorot_layers([12, 32, 16, 4], seed=3)
    one_hot = y if multilabel else np.eye(4)[y]
    theirs, losses = keras_style_fit(start, x, one_hot, multilabel, seed=3, epochs=20, batch=32)
    for (kernel, bias), (kernel_ref, bias_ref) in zip(ours.layers, theirs, strict=True):
        np.testing.assert_allclose(kernel, kernel_ref, atol=1e-4)
        np.testing.assert_allclose(bias, bias_ref, atol=1e-4)
    np.testing.assert_allclose([e["loss"] for e in ours.history], losses, atol=1e-4)
    assert losses[-1] < losses[0]


def test_wide_features_take_the_same_steps() -> None:
    """Wide inputs go through another matrix product (oneDNN); the result has to be the same."""
    x, y = toy(dim=600)
    config = ProbeConfig(batch_size=40, max_epochs=3, patience=99, select_on="last", hidden_units=(300, 8))
    everything = np.arange(len(x))
    ours = train_probes(x, [ProbeJob(y, 4, everything, everything)], config)[0]
    theirs, _ = keras_style_fit(glorot_layers([600, 300, 8, 4], 0), x, np.eye(4)[y], False, 0, 3, 40)
    for (kernel, _), (kernel_ref, _) in zip(ours.layers, theirs, strict=True):
        np.testing.assert_allclose(kernel, kernel_ref, atol=1e-4)


def test_a_stack_gives_what_each_model_gives_alone() -> None:
    """Five seeds, two tasks, unequal folds and two learning rates in one pass, against one by one."""
    x, classes = toy(n=120)
    _, tags = toy(n=120, n_outputs=6, seed=5, multilabel=True)
    folds = np.arange(120) % 5
    jobs = [ProbeJob(classes, 4, np.flatnonzero(folds < 3), np.flatnonzero(folds == 4), seed=s) for s in range(5)]
    jobs += [ProbeJob(tags, 6, np.flatnonzero(folds != 2), np.flatnonzero(folds == 2), seed=7)]
    jobs += [ProbeJob(classes, 4, np.arange(83), np.arange(83, 120), seed=9, learning_rate=1e-2)]
    for config in (
        ProbeConfig(batch_size=16, max_epochs=40, patience=3),
        ProbeConfig(batch_size=50, max_epochs=30, patience=4, standardize=True, stop_on="macro", select_on="macro"),
    ):
        together = train_probes(x, jobs, config)
        in_chunks = train_probes(x, jobs, config, memory=1.0)
        for number, job in enumerate(jobs):
            alone = train_probes(x, [job], config)[0]
            for other in (together[number], in_chunks[number]):
                assert other.best_epoch == alone.best_epoch
                assert len(other.history) == len(alone.history)
                np.testing.assert_allclose(other.predict_proba(x), alone.predict_proba(x), atol=1e-5)
        assert len({len(probe.history) for probe in together}) > 1, "models should stop at different epochs"


def test_seeds_differ_and_repeat() -> None:
    x, y = toy()
    jobs = [ProbeJob(y, 4, np.arange(60), np.arange(60, 90), seed=s) for s in (0, 1, 0)]
    first, second, again = train_probes(x, jobs, ProbeConfig(max_epochs=5))
    assert not np.allclose(first.layers[0][0], second.layers[0][0])
    np.testing.assert_array_equal(first.layers[0][0], again.layers[0][0])


def test_stops_after_patience_and_keeps_the_best_epoch() -> None:
    x, y = toy(n=60)
    y = np.random.default_rng(1).permutation(y)  # nothing to learn: validation loss soon rises
    probe = train_probes(
        x, [ProbeJob(y, 4, np.arange(40), np.arange(40, 60))], ProbeConfig(max_epochs=100, batch_size=8)
    )[0]
    losses = [epoch["loss"] for epoch in probe.history]
    assert len(losses) < 100
    assert int(np.argmin(losses)) == len(losses) - 1 - 10
    accuracies = [epoch["keras"] for epoch in probe.history]
    assert probe.best_epoch == int(np.argmax(accuracies))


def test_keras_auc_equals_thresholds_counted_one_by_one() -> None:
    import torch

    from probes.mlp.monitor import keras_auc

    rng = np.random.default_rng(0)
    p = np.round(rng.random(500), 3)
    y = (rng.random(500) < p).astype(float)
    thresholds = np.concatenate([[-1e-7], np.arange(1, 199) / 199, [1 + 1e-7]])
    tpr = np.array([(p[y == 1] > t).mean() for t in thresholds])
    fpr = np.array([(p[y == 0] > t).mean() for t in thresholds])
    area = np.sum((fpr[:-1] - fpr[1:]) * (tpr[:-1] + tpr[1:]) / 2)
    assert keras_auc(torch.from_numpy(p), torch.from_numpy(y)) == pytest.approx(area, abs=1e-9)
    assert abs(area - roc_auc_score(y, p)) > 1e-6, "200 thresholds are an approximation"


def test_macro_monitor_equals_sklearn() -> None:
    import torch

    from probes.mlp.monitor import macro_monitor

    rng = np.random.default_rng(0)
    logits = torch.from_numpy(np.round(rng.normal(size=(80, 5)), 1))
    truth = rng.integers(0, 4, 80)
    value = macro_monitor(logits, torch.eye(5)[truth], False)
    expected = f1_score(truth, logits.argmax(1), labels=range(5), average="macro", zero_division=0)
    assert value == pytest.approx(expected)
    tags = rng.random((80, 5)) < 0.3
    assert macro_monitor(logits, torch.from_numpy(tags).float(), True) == pytest.approx(
        roc_auc_score(tags, logits.numpy())
    )


def test_bf16_is_close_to_fp32() -> None:
    x, y = toy(n=300, dim=64)
    probes = [
        train_probes(x, [ProbeJob(y, 4, np.arange(200), np.arange(200, 300))], ProbeConfig(precision=p, max_epochs=15))[
            0
        ]
        for p in ("fp32", "bf16")
    ]
    a, b = (probe.predict_proba(x) for probe in probes)
    assert np.abs(a - b).mean() < 0.02
    assert (a.argmax(1) == b.argmax(1)).mean() > 0.97


def test_standardizing_ignores_scale_and_constant_features() -> None:
    x, y = toy(n=200)
    scaled = x * np.geomspace(1e-3, 1e3, x.shape[1]).astype(np.float32) + 5
    scaled[:, 0] = 7.0
    x[:, 0] = 0.0
    fits = [
        MLPProbe(standardize=True, max_epochs=10).fit(data[:150], y[:150]).predict_proba(data[150:])
        for data in (x, scaled)
    ]
    np.testing.assert_allclose(fits[0], fits[1], atol=0.02)


# ---- scikit-learn conventions ---------------------------------------------------------------------


def test_learns_and_follows_sklearn_conventions() -> None:
    x, y = toy(n=700)
    names = np.array(["guitar", "flute", "tuba", "harp"])[y]
    probe = MLPProbe(max_epochs=40, seed=1)
    assert clone(probe).get_params() == probe.get_params()
    assert probe.fit(x[:600], names[:600]) is probe
    assert probe.classes_.tolist() == sorted(set(names))
    p = probe.predict_proba(x[600:])
    assert p.shape == (100, 4)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-9)
    assert probe.score(x[600:], names[600:]) > 0.85
    assert probe.n_features_in_ == 12


def test_multilabel_and_linear() -> None:
    x, y = toy(n=400, multilabel=True)
    probe = MLPProbe(hidden_units=(), max_epochs=60, learning_rate=1e-2).fit(x[:300], y[:300])
    assert roc_auc_score(y[300:], probe.predict_proba(x[300:])) > 0.95
    assert probe.predict(x).shape == y.shape


def test_validation_data_of_ones_own() -> None:
    x, y = toy(n=200)
    probe = MLPProbe(max_epochs=5).fit(x[:150], y[:150], validation=(x[150:], y[150:]))
    assert len(probe.probe_.history) == 5
    with pytest.raises(ValueError, match="never saw: 9"):
        MLPProbe(max_epochs=5).fit(x[:150], y[:150], validation=(x[150:], np.full(50, 9)))


def test_knn_equals_sklearn() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    x, y = toy(n=150)
    ours = KNNProbe(7, standardize=False).fit(x[:100], y[:100])
    theirs = KNeighborsClassifier(7, metric="cosine").fit(x[:100], y[:100])
    np.testing.assert_allclose(ours.predict_proba(x[100:]), theirs.predict_proba(x[100:]), atol=1e-9)


# ---- bad data -------------------------------------------------------------------------------------


def test_bad_features_are_named() -> None:
    x, y = toy()
    x[4, 2] = np.nan
    with pytest.raises(ValueError, match="1 items are not finite, the first is item 4"):
        MLPProbe().fit(x, y)
    with pytest.raises(ValueError, match="item 4"):
        train_probes(x, [ProbeJob(y, 4, np.arange(40), np.arange(40, 90))])


def test_one_class_and_empty_splits_are_errors() -> None:
    x, y = toy()
    with pytest.raises(ValueError, match="one class only"):
        MLPProbe().fit(x, np.zeros(90))
    with pytest.raises(ValueError, match="one class only"):
        train_probes(x, [ProbeJob(y, 4, np.flatnonzero(y == 1), np.arange(5))])
    with pytest.raises(ValueError, match="training split is empty"):
        train_probes(x, [ProbeJob(y, 4, np.arange(0), np.arange(5))])
    with pytest.raises(ValueError, match="validation split is empty"):
        train_probes(x, [ProbeJob(y, 4, np.arange(50), np.arange(0))])


def test_feature_dimension_mismatch() -> None:
    x, y = toy()
    probe = MLPProbe(max_epochs=2).fit(x, y)
    with pytest.raises(ValueError, match=r"has 5 features.*expecting 12"):
        probe.predict_proba(x[:, :5])
    with pytest.raises(ValueError, match="trained on 12 features"):
        probe.probe_.predict_proba(x[:, :5])


@pytest.mark.parametrize("field", ["precision", "stop_on", "select_on", "batch_size"])
def test_bad_settings_are_named(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        ProbeConfig(**{field: 0 if field == "batch_size" else "nonsense"})
