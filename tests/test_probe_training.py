"""How a probe is trained: arithmetic against a plain float64 reference, selection and stopping by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import r2_score
from torch import Tensor

from probes.mlp import stack, training
from probes.mlp.config import ProbeConfig
from probes.mlp.models import TrainedProbe
from probes.mlp.training import ProbeJob, batch_order, glorot_layers, train_probes

Layers = list[tuple[np.ndarray, np.ndarray]]


def keras_style_fit(
    layers: Layers, x: np.ndarray, y: np.ndarray, kind: str, seed: int, config: ProbeConfig, rate: float | None = None
) -> tuple[Layers, list[float]]:
    """One model, float64, written as Keras' documentation states it; returns weights and epoch losses.

    `kind` is "classes" (y one-hot), "tags" or "values".
    """
    beta1, beta2, rate = 0.9, 0.999, rate or config.learning_rate
    weights = [np.array(p, dtype=np.float64) for layer in layers for p in layer]
    m, v = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    losses, t = [], 0

    def forward(items: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        activations = [items]
        for number in range(0, len(weights), 2):
            z = activations[-1] @ weights[number].T + weights[number + 1]
            activations.append(np.maximum(z, 0) if number + 2 < len(weights) else z)
        z = activations.pop()
        if kind == "values":
            return activations, z
        if kind == "tags":
            return activations, 1 / (1 + np.exp(-z))
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return activations, e / e.sum(axis=1, keepdims=True)

    for epoch in range(config.max_epochs):
        order = batch_order(len(x), seed, epoch)
        end = len(x) // config.batch_size * config.batch_size if config.drop_last else len(x)
        for start in range(0, end, config.batch_size):
            rows = order[start : min(start + config.batch_size, end)]
            activations, p = forward(x[rows])
            mean = {"classes": 1, "tags": y.shape[1], "values": y.shape[1] / 2}[kind]
            delta = (p - y[rows]) / (len(rows) * mean)
            gradients: list[np.ndarray] = []
            for number in reversed(range(0, len(weights), 2)):
                below = activations.pop()
                gradients = [delta.T @ below, delta.sum(axis=0), *gradients]
                delta = (delta @ weights[number]) * (below > 0)
            t += 1
            for w, g, first, square in zip(weights, gradients, m, v, strict=True):
                g = g + 2 * config.l2 * w  # derivative of l2 * sum(w ** 2), biases too
                first += (1 - beta1) * (g - first)
                square += (1 - beta2) * (g * g - square)
                w -= rate * np.sqrt(1 - beta2**t) / (1 - beta1**t) * first / (np.sqrt(square) + config.epsilon)
        _, p = forward(x)
        if kind == "values":
            data_loss = ((p - y) ** 2).mean()
        elif kind == "tags":
            data_loss = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
        else:
            data_loss = -np.log(p[y == 1]).mean()
        losses.append(data_loss + config.l2 * sum((w**2).sum() for w in weights))
    return list(zip(weights[::2], weights[1::2], strict=True)), losses


def toy(kind: str, n: int = 90, dim: int = 12, n_outputs: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features and targets; class numbers for "classes"."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim)).astype(np.float32)
    logits = x @ rng.normal(size=(dim, n_outputs)) / 3
    return x, {"classes": logits.argmax(axis=1), "tags": (logits > 0).astype(np.uint8), "values": logits}[kind]


def assert_same_training(ours: TrainedProbe, theirs: Layers, losses: list[float]) -> None:
    for (kernel, bias), (kernel_ref, bias_ref) in zip(ours.layers, theirs, strict=True):
        np.testing.assert_allclose(kernel, kernel_ref, atol=1e-4)
        np.testing.assert_allclose(bias, bias_ref, atol=1e-4)
    np.testing.assert_allclose([e["loss"] for e in ours.history], losses, atol=1e-4)


@pytest.mark.parametrize("kind", ["classes", "tags", "values"])
@pytest.mark.parametrize(
    "changes", [{}, {"l2": 0.02, "epsilon": 0.05, "learning_rate": 0.02}, {"drop_last": True}, {"hidden_units": ()}]
)
def test_equals_the_plain_reference(kind: str, changes: dict[str, Any]) -> None:
    x, y = toy(kind)
    settings: dict[str, Any] = {"hidden_units": (32, 16), "batch_size": 32, "max_epochs": 8, "patience": 8}
    config = ProbeConfig(**{**settings, "select_on": "last", **changes})
    everything = np.arange(len(x))
    job = ProbeJob(y, 4, everything, everything, seed=3, regression=kind == "values")
    ours = train_probes(x, [job], config)[0]
    start = glorot_layers([12, *config.hidden_units, 4], seed=3)
    one_hot = np.eye(4)[y] if kind == "classes" else y
    theirs, losses = keras_style_fit(start, x, one_hot, kind, 3, config)
    assert_same_training(ours, theirs, losses)
    assert losses[-1] < losses[0]
    assert ours.best_epoch == 7


def test_a_stack_of_tasks_of_different_widths_equals_the_reference() -> None:
    """Outputs, training items, seeds and rates differ; models without items in a step wait."""
    x, classes = toy("classes")
    _, tags = toy("tags", n_outputs=6, seed=1)
    config = ProbeConfig(hidden_units=(8,), batch_size=20, max_epochs=3, patience=3, select_on="last", l2=0.01)
    jobs = [
        ProbeJob(classes, 4, np.arange(90), np.arange(90), seed=1),
        ProbeJob(tags, 6, np.arange(50), np.arange(50), seed=2, learning_rate=0.01),
    ]
    trained = train_probes(x, jobs, config)
    for job, probe, kind in zip(jobs, trained, ("classes", "tags"), strict=True):
        start = glorot_layers([12, 8, job.n_outputs], job.seed)
        y = np.eye(4)[classes] if kind == "classes" else tags
        items = job.train
        theirs, losses = keras_style_fit(start, x[items], y[items], kind, job.seed, config, job.learning_rate)
        assert_same_training(probe, theirs, losses)


def test_wide_features_take_the_same_steps() -> None:
    """Wide inputs go through another matrix product (oneDNN); the result has to be the same."""
    x, y = toy("classes", dim=600)
    config = ProbeConfig(batch_size=40, max_epochs=2, patience=99, select_on="last", hidden_units=(300, 8))
    everything = np.arange(len(x))
    ours = train_probes(x, [ProbeJob(y, 4, everything, everything)], config)[0]
    theirs, losses = keras_style_fit(glorot_layers([600, 300, 8, 4], 0), x, np.eye(4)[y], "classes", 0, config)
    assert_same_training(ours, theirs, losses)


def test_initial_layers_replace_the_seeds_own() -> None:
    x, y = toy("classes")
    config = ProbeConfig(hidden_units=(8,), max_epochs=1, patience=1, select_on="last", batch_size=90)
    jobs = [ProbeJob(y, 4, np.arange(90), np.arange(90), seed=seed) for seed in range(3)]
    start = [glorot_layers([12, 8, 4], 10 + seed) for seed in range(3)]
    for memory in (1e9, 1.0):
        for seed, probe in enumerate(train_probes(x, jobs, config, initial=start, memory=memory)):
            theirs, losses = keras_style_fit(start[seed], x, np.eye(4)[y], "classes", seed, config)
            assert_same_training(probe, theirs, losses)


@pytest.mark.parametrize("standardize", [False, True])
def test_bfloat16_takes_nearly_the_same_step(standardize: bool) -> None:
    """One step in proportion to the gradient (a large epsilon).

    Features are standardized before they are rounded: of 300 and more bfloat16 keeps even numbers.
    """
    x, y = toy("classes")
    x += 300 * standardize
    moves = {}
    for precision in ("fp32", "bf16"):
        config = ProbeConfig(
            hidden_units=(70,), batch_size=90, max_epochs=1, patience=1, select_on="last", precision=precision,
            epsilon=10.0, learning_rate=30.0, standardize=standardize,
        )  # fmt: skip
        probe = train_probes(x, [ProbeJob(y, 4, np.arange(90), np.arange(90))], config)[0]
        moves[precision] = [a - b for a, b in zip(probe.layers[0], glorot_layers([12, 70, 4], 0)[0], strict=True)]
    for exact, rough in zip(moves["fp32"], moves["bf16"], strict=True):
        assert np.abs(rough - exact).mean() < 0.03 * np.abs(exact).mean()


def test_standardized_by_the_training_items() -> None:
    x, y = toy("classes")
    x = x * np.geomspace(0.1, 10, 12).astype(np.float32) + 3
    x[:, 4] = 5.0  # says nothing
    x[60:, 4] = 900.0  # and may not, then
    config = ProbeConfig(hidden_units=(8,), max_epochs=2, patience=2, select_on="last", batch_size=30, standardize=True)
    train, rest = np.arange(60), np.arange(60, 90)
    probe = train_probes(x, [ProbeJob(y, 4, train, train)], config)[0]
    deviation = x[train].std(axis=0)
    scaled = (x - x[train].mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    scaled[:, 4] = 0
    theirs, losses = keras_style_fit(
        glorot_layers([12, 8, 4], 0), scaled[train], np.eye(4)[y[train]], "classes", 0, config
    )
    assert_same_training(probe, theirs, losses)
    far = train_probes(x * np.float32(2.0**100), [ProbeJob(y, 4, train, train)], config)[0]
    np.testing.assert_array_equal(far.layers[0][0], probe.layers[0][0])
    np.testing.assert_array_equal(far.predict_proba(x * np.float32(2.0**100)), probe.predict_proba(x))
    hidden = np.maximum(scaled[rest] @ theirs[0][0].T + theirs[0][1], 0)
    np.testing.assert_allclose(probe.decision_function(x[rest]), hidden @ theirs[1][0].T + theirs[1][1], atol=1e-3)


# ---- selection and stopping -----------------------------------------------------------------------


def watched(monkeypatch: pytest.MonkeyPatch, keras: Sequence[float], macro: Sequence[float], **changes: Any) -> Any:
    """A probe whose monitors show these values epoch after epoch."""
    shown = {"keras": iter(keras), "macro": iter(macro)}

    def monitor(name: str) -> Callable[..., float]:
        return lambda *_: next(shown[name])

    monkeypatch.setattr(stack, "MONITORS", {name: monitor(name) for name in shown})
    x, y = toy("classes", n=20)
    config = ProbeConfig(hidden_units=(), max_epochs=len(macro), stop_on="macro", **changes)
    return train_probes(x, [ProbeJob(y, 4, np.arange(15), np.arange(15, 20))], config)[0]


def test_the_best_epoch_is_kept_and_patience_counts_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Selection and stopping watch different values; equal ones are no improvement."""
    probe = watched(
        monkeypatch, keras=[0.1, 0.5, 0.5, 0.4, 0.9, 1.0, 1.0], macro=[0.3, 0.2, 0.4, 0.4, 0.1, 0.9, 0.9], patience=2
    )
    assert [epoch["macro"] for epoch in probe.history] == [0.3, 0.2, 0.4, 0.4, 0.1]
    assert [sorted(epoch) for epoch in probe.history] == [["keras", "loss", "macro"]] * 5
    assert probe.best_epoch == 4
    probe = watched(monkeypatch, keras=[0.1, 0.5, 0.5, 0.4], macro=[0.1, 0.1, 0.1, 0.1], patience=3)
    assert (len(probe.history), probe.best_epoch) == (4, 1)


def test_what_has_no_value_never_stops_the_first_epoch_nor_is_it_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    nan = float("nan")
    probe = watched(monkeypatch, keras=[nan] * 4, macro=[nan] * 4, patience=1)
    assert (len(probe.history), probe.best_epoch) == (2, 1)  # the last, for want of a best
    assert len(watched(monkeypatch, keras=[nan] * 4, macro=[nan] * 4, patience=3).history) == 3
    probe = watched(monkeypatch, keras=[nan] * 3, macro=[0.1, 0.2, 0.3], patience=1)
    assert (len(probe.history), probe.best_epoch) == (3, 2)
    probe = watched(monkeypatch, keras=[nan, 0.5, nan], macro=[0.1, 0.2, 0.3], patience=1)
    assert probe.best_epoch == 1


def test_the_last_epoch_is_kept_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = watched(monkeypatch, keras=[], macro=[0.5, 0.4, 0.3, 0.9], patience=2, select_on="last")
    assert (len(probe.history), probe.best_epoch) == (3, 2)
    assert sorted(probe.history[0]) == ["loss", "macro"]


def test_a_falling_loss_is_an_improvement(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 2.0, 2.5, 2.0, 1.0, 0.5])
    monkeypatch.setattr(stack.Stack, "_loss", lambda *_: next(losses))
    x, y = toy("classes", n=20)
    told: list[tuple[int, int]] = []
    probe = train_probes(
        x, [ProbeJob(y, 4, np.arange(15), np.arange(15, 20))], ProbeConfig(max_epochs=6, patience=2),
        progress=lambda *seen: told.append(seen),
    )[0]  # fmt: skip
    assert [epoch["loss"] for epoch in probe.history] == [3.0, 2.0, 2.5, 2.0]
    assert told == [(0, 1), (1, 1), (2, 1), (3, 0)]


def test_models_that_stop_leave_the_others_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three, the second stops first; the others end where they end alone."""
    x, y = toy("classes")
    jobs = [ProbeJob(y, 4, np.arange(60), np.arange(60, 90), seed=seed) for seed in range(3)]
    config = ProbeConfig(hidden_units=(8,), max_epochs=4, patience=4, batch_size=30, select_on="last")
    alone = [train_probes(x, [job], config)[0] for job in jobs]
    losses = {1: iter([1.0, 2.0])}
    plain = stack.Stack._loss

    def loss(self: Any, logits: Tensor, target: Tensor, job: ProbeJob, layers: list[Tensor]) -> float:
        return next(losses[job.seed]) if job.seed in losses else plain(self, logits, target, job, layers)

    monkeypatch.setattr(stack.Stack, "_loss", loss)
    together = train_probes(x, jobs, ProbeConfig(**{**vars(config), "patience": 1}))
    assert [len(probe.history) for probe in together] == [4, 2, 4]
    for number in (0, 2):
        assert_same_training(together[number], alone[number].layers, [e["loss"] for e in alone[number].history])


def test_the_monitor_of_values_is_r2() -> None:
    x, y = toy("values")
    everything = np.arange(90)
    config = ProbeConfig(hidden_units=(), max_epochs=2, patience=2)
    probe = train_probes(x, [ProbeJob(y, 4, everything, everything, regression=True)], config)[0]
    assert probe.history[-1]["keras"] == pytest.approx(r2_score(y, probe.decision_function(x)), abs=1e-5)


# ---- memory, and what is refused -------------------------------------------------------------------


def test_as_many_are_trained_at_a_time_as_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of 12 features, 8 units and 4 outputs: six times 140 weights, twice a batch of 10 by 24."""
    sizes: list[int] = []

    class Counted(stack.Stack):
        def __init__(self, data: Tensor, jobs: list[ProbeJob], *rest: Any) -> None:
            sizes.append(len(jobs))
            super().__init__(data, jobs, *rest)

    monkeypatch.setattr(training, "Stack", Counted)
    x, y = toy("classes")
    jobs = [ProbeJob(y, 4, np.arange(60), np.arange(60, 90), seed=seed) for seed in range(5)]
    config = ProbeConfig(hidden_units=(8,), max_epochs=1, batch_size=10)
    one = 4 * (6 * 140 + 2 * 10 * 24)
    for memory, expected in ((1.5e9, [5]), (2 * one, [2, 2, 1]), (2 * one - 1, [1] * 5), (1.0, [1] * 5)):
        sizes.clear()
        train_probes(x, jobs, config, memory=memory)
        assert sizes == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": np.zeros(80, dtype=int)}, "80 targets for 90 items"),
        ({"targets": np.zeros((90, 3), dtype=int)}, "targets have 3 columns, n_outputs is 4"),
        ({"targets": np.arange(90) % 5}, r"class numbers must lie in 0..3, got 4"),
        ({"targets": np.arange(90) % 4 - 1}, r"class numbers must lie in 0..3"),
        ({"targets": np.full((90, 4), np.nan), "regression": True}, "targets to regress on must be finite"),
        ({"train": np.arange(0)}, "the training split is empty"),
        ({"targets": np.r_[np.full(60, 2), np.arange(30) % 4]}, "holds one class only: 2"),
        ({"train": np.arange(1)}, "holds one class only: "),
        ({"validation": np.arange(0)}, "the validation split is empty"),
    ],
)
def test_what_would_train_to_nonsense_is_refused(change: dict[str, Any], message: str) -> None:
    x, y = toy("classes")
    job = {"targets": y, "n_outputs": 4, "train": np.arange(60), "validation": np.arange(60, 90), **change}
    with pytest.raises(ValueError, match=message):
        train_probes(x, [ProbeJob(**job)])


def test_features_that_are_no_matrix_of_numbers_are_refused() -> None:
    x, y = toy("classes")
    job = ProbeJob(y, 4, np.arange(60), np.arange(60, 90))
    with pytest.raises(ValueError, match=r"features must be \(n_items, dim\), got shape \(90,\)"):
        train_probes(x[:, 0], [job])
    with pytest.raises(ValueError, match="no probes to train"):
        train_probes(x, [])
    x[[7, 9], 3] = np.inf
    with pytest.raises(ValueError, match="features of 2 items are not finite, the first is item 7"):
        train_probes(x, [job])


def test_without_validation_only_what_neither_stops_nor_selects_is_trained() -> None:
    x, y = toy("classes")
    job = ProbeJob(y, 4, np.arange(90), np.arange(0))
    for patience, select in ((2, "last"), (3, "keras")):
        with pytest.raises(ValueError, match="validation split is empty"):
            train_probes(x, [job], ProbeConfig(max_epochs=3, patience=patience, select_on=select))
    config = ProbeConfig(max_epochs=3, patience=3, select_on="last", hidden_units=())
    assert len(train_probes(x, [ProbeJob(y % 2, 2, np.arange(90), np.arange(0))], config)) == 1
    probe = train_probes(x, [job], config)[0]
    assert (probe.best_epoch, probe.history) == (2, [])
    theirs, _ = keras_style_fit(glorot_layers([12, 4], 0), x, np.eye(4)[y], "classes", 0, config)
    assert_same_training(probe, theirs, [])
