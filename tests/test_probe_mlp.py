"""Probes trained together and alone, and scikit-learn's conventions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from probes.mlp import estimators
from probes.mlp.config import ProbeConfig
from probes.mlp.estimators import KNNProbe, MLPProbe
from probes.mlp.training import ProbeJob, train_probes


def toy(n: int = 90, dim: int = 12, n_outputs: int = 4, seed: int = 0, multilabel: bool = False):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim)).astype(np.float32)
    logits = x @ rng.normal(size=(dim, n_outputs))
    return x, (logits > 0).astype(np.uint8) if multilabel else logits.argmax(axis=1)


def test_a_stack_gives_what_each_model_gives_alone() -> None:
    """Five seeds, two tasks, unequal folds and two learning rates in one pass, against one by one."""
    x, classes = toy(n=120)
    _, tags = toy(n=120, n_outputs=6, seed=5, multilabel=True)
    folds = np.arange(120) % 5
    jobs = [ProbeJob(classes, 4, np.flatnonzero(folds < 3), np.flatnonzero(folds == 4), seed=s) for s in range(5)]
    jobs += [ProbeJob(tags, 6, np.flatnonzero(folds != 2), np.flatnonzero(folds == 2), seed=7)]
    jobs += [ProbeJob(classes, 4, np.arange(83), np.arange(83, 120), seed=9, learning_rate=1e-2)]
    for config in (
        ProbeConfig(batch_size=16, max_epochs=12, patience=2),
        ProbeConfig(batch_size=50, max_epochs=12, patience=2, standardize=True, stop_on="macro", select_on="macro"),
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


def test_settings_reach_the_training_as_they_are() -> None:
    assert MLPProbe().config() == ProbeConfig()
    assert (MLPProbe().seed, MLPProbe().validation_fraction) == (0, 0.1)
    changed: dict[str, Any] = {
        "hidden_units": (7,), "learning_rate": 0.5, "l2": 0.25, "batch_size": 3, "max_epochs": 9, "patience": 4,
        "stop_on": "macro", "select_on": "last", "standardize": True, "precision": "bf16",
    }  # fmt: skip
    assert MLPProbe(**changed).config() == ProbeConfig(**changed)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, ProbeJob]]:
    """What `fit` hands over to be trained."""
    seen: list[tuple[np.ndarray, ProbeJob]] = []

    def trained(features: np.ndarray, jobs: list[ProbeJob], config: ProbeConfig, device: str) -> list[None]:
        assert device == "cpu"
        seen.extend((features, job) for job in jobs)
        return [None]

    monkeypatch.setattr(estimators, "train_probes", trained)
    return seen


def test_a_part_is_held_out_by_class_where_every_class_has_two(jobs: list[tuple[np.ndarray, ProbeJob]]) -> None:
    from sklearn.model_selection import train_test_split

    def expected(n: int, size: int, stratify: Any) -> list[list[int]]:
        parts = train_test_split(np.arange(n), test_size=size, random_state=3, stratify=stratify)
        return [part.tolist() for part in parts]

    x = np.arange(40.0).reshape(20, 2)
    classes = np.array(["b", "a"])[np.r_[np.ones(16, int), np.zeros(4, int)]]
    numbers = np.r_[np.zeros(16, int), np.ones(4, int)]
    rare = np.r_[np.zeros(19, int), 1]
    tags = np.stack([numbers, 1 - numbers], axis=1)
    for y, fraction, size, stratify in (
        (classes, 0.1, 2, numbers),
        (classes, 0.06, 1, None),  # too few for one of each class
        (rare, 0.25, 5, None),
        (tags, 0.25, 5, None),
        (classes, 0.001, 1, None),
    ):
        MLPProbe(validation_fraction=fraction, seed=3).fit(x, y)
        features, job = jobs.pop()
        assert [job.train.tolist(), job.validation.tolist()] == expected(20, size, stratify)
        np.testing.assert_array_equal(features, x)
        assert (job.n_outputs, job.seed) == (2, 3)
        np.testing.assert_array_equal(job.targets, {2: tags}.get(np.ndim(y), rare if y is rare else numbers))


def test_ones_own_validation_follows_the_training_items(jobs: list[tuple[np.ndarray, ProbeJob]]) -> None:
    x = np.arange(12.0).reshape(6, 2)
    MLPProbe().fit(x[:4], ["u", "w", "u", "v"], validation=(x[4:], ["w", "u"]))
    features, job = jobs.pop()
    np.testing.assert_array_equal(features, x)
    assert job.targets.tolist() == [0, 2, 0, 1, 2, 0]
    assert (job.train.tolist(), job.validation.tolist(), job.n_outputs) == ([0, 1, 2, 3], [4, 5], 3)
    tags = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    MLPProbe().fit(x[:3], tags, validation=(x[3:5], tags[:2]))
    _, job = jobs.pop()
    np.testing.assert_array_equal(job.targets, np.concatenate([tags, tags[:2]]))
    for wrong in (tags[:2, :2], np.array([0, 1])):
        with pytest.raises(ValueError, match=r"validation targets have shape \(2.*, expected 3 tags"):
            MLPProbe().fit(x[:3], tags, validation=(x[3:5], wrong))


def test_all_items_train_what_neither_stops_nor_selects(jobs: list[tuple[np.ndarray, ProbeJob]]) -> None:
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    for patience, held_out in ((5, 0), (6, 0), (4, 1)):
        MLPProbe(select_on="last", max_epochs=5, patience=patience).fit(x, y)
        _, job = jobs.pop()
        assert (len(job.train), len(job.validation)) == (10 - held_out, held_out)
    MLPProbe(max_epochs=5, patience=5).fit(x, y)
    assert len(jobs.pop()[1].validation) == 1


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full((4, 2), 2), "multilabel targets must be zeros and ones"),
        (np.zeros((4, 2, 1)), r"targets must be .*, got shape \(4, 2, 1\)"),
        (np.zeros(3), "the training data holds one class only: "),
        (np.arange(3), "3 targets for 4 items"),
    ],
)
def test_targets_that_fit_nothing_are_named(y: np.ndarray, message: str) -> None:
    for probe in (MLPProbe(), KNNProbe()):
        with pytest.raises(ValueError, match=message):
            probe.fit(np.eye(4), y)
        with pytest.raises(ValueError, match=r"features must be \(n_items, dim\), got shape \(4,\)"):
            probe.fit(np.zeros(4), y)


def test_predictions_are_the_likeliest_class_or_tags_above_one_half(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = MLPProbe()
    monkeypatch.setattr(probe, "predict_proba", lambda X: np.array([[0.5, 0.51, 0.2], [0.1, 0.4, 0.5]]))
    probe.classes_, probe.multilabel_ = np.array(["x", "y", "z"]), False
    assert probe.predict(None).tolist() == ["y", "z"]
    probe.multilabel_ = True
    assert probe.predict(None).tolist() == [[0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("scale", [1.0, 2.0**100])
def test_knn_equals_sklearn(standardize: bool, scale: float) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    x, y = toy(n=700)
    x += 0.5
    x[:, 3] = 2.0  # says nothing once it is standardized
    x[:, 5] *= 3
    ours = KNNProbe(7, standardize=standardize).fit(x[:100] * np.float32(scale), y[:100])
    seen = (x - x[:100].mean(axis=0)) / np.where(np.ptp(x, axis=0) > 0, x[:100].std(axis=0), 1) if standardize else x
    theirs = KNeighborsClassifier(7, metric="cosine").fit(seen[:100], y[:100])
    found = ours.predict_proba(x[100:] * np.float32(scale))
    np.testing.assert_allclose(found, theirs.predict_proba(seen[100:]), atol=1e-9)
    assert KNNProbe().get_params() == {"n_neighbors": 5, "standardize": True}


def test_knn_by_hand() -> None:
    """Ties go to the earlier item, more neighbors than items are all, and what overflows is near to nothing."""
    items = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    tags = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    queries = np.array([[3.0, 0.1], [0.1, 3.0], [0.0, 0.0]])
    one, three, all_four = (KNNProbe(k, standardize=False).fit(items, tags) for k in (1, 3, 9))
    assert one.predict_proba(queries).tolist() == [[1, 0], [1, 1], [1, 0]]
    np.testing.assert_allclose(three.predict_proba(queries), np.full((3, 2), 2 / 3))
    np.testing.assert_allclose(all_four.predict_proba(queries), np.full((3, 2), 1 / 2))
    values = np.array([[4.0], [8.0], [2.0], [10.0]])
    assert three.mean_of_nearest(queries[:1], values).tolist() == [[pytest.approx(14 / 3)]]
    far = KNNProbe(1).fit(items, tags)
    with np.errstate(over="ignore", invalid="ignore"):
        found = far.predict_proba(np.array([[3e38, -3e38], [2.0, 0.0]]))
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [0, 1]


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
