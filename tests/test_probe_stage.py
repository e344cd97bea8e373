"""The probe stage: evaluation on arrays, which features its units give to which clip, and what it keeps of a score."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from test_probe_scoring import classes_of, rows

from probes import stage
from probes.protocol import PROTOCOLS, get_protocol
from probes.scoring import Problem, chance, score
from probes.stage import evaluate

# ---- evaluation on arrays ------------------------------------------------------------------------------------------


def problem(kind: str = "multiclass", n: int = 120, n_labels: int = 3) -> tuple[np.ndarray, Problem]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    logits = x @ rng.normal(size=(6, n_labels))
    targets = (logits > 0.3).astype(int) if kind == "multilabel" else logits.argmax(axis=1)
    rows = np.arange(n)
    return x, Problem("p", kind, tuple("abc"[:n_labels]), targets, ((rows[:70], rows[70:90], rows[90:]),), 16)


def test_tasks_that_share_features_score_as_alone() -> None:
    x, first = problem()
    _, second = problem("multilabel")
    second = replace(second, name="q")
    together = evaluate(x, [first, second], get_protocol("mir_ref-1"), (0, 1))
    for one in (first, second):
        alone = evaluate(x, [one], get_protocol("mir_ref-1"), (0, 1))[one.name]["mlp"]
        shared = together[one.name]["mlp"]
        assert not isinstance(alone, str)
        assert not isinstance(shared, str)
        np.testing.assert_allclose(shared.predictions, alone.predictions, atol=1e-5)


def test_shuffled_labels_score_at_chance() -> None:
    """A probe that still scores on shuffled labels has seen the test part."""
    x, one = problem(n=900)
    rows = np.arange(900)
    one = replace(one, splits=((rows[:500], rows[500:600], rows[600:]),), batch_size=64)
    protocol = get_protocol("mir_ref-1")
    honest = evaluate(x, [one], protocol, (0,))["p"]["mlp"]
    shuffled = evaluate(x, [one], protocol, (0, 1, 2, 3), shuffle_labels=True)["p"]["mlp"]
    assert not isinstance(honest, str)
    assert not isinstance(shuffled, str)
    assert np.mean(honest.per_seed["f1_micro"]) > 0.9
    largest = np.bincount(one.targets[600:]).max() / 300
    assert np.mean(shuffled.per_seed["f1_micro"]) < largest + 0.06
    folded = replace(one, splits=(*one.splits, (rows[300:], rows[200:300], rows[:200])))
    with pytest.raises(ValueError, match="for a single split only"):
        evaluate(x, [folded], protocol, (0,), shuffle_labels=True)


def test_dropping_the_last_batch_shortens_the_test_part() -> None:
    x, one = problem()
    protocol = replace(get_protocol("mir_ref-1"), drop_last=True)
    legacy = evaluate(x, [one], protocol, (0,))["p"]["mlp"]
    assert not isinstance(legacy, str)
    hits = legacy.predictions[0].argmax(axis=1) == one.targets[90:]
    assert legacy.per_seed["f1_micro"] == [pytest.approx(hits[:16].mean())]
    with pytest.raises(ValueError, match="test part of 30 items has no full batch of 64"):
        evaluate(x, [replace(one, batch_size=64)], protocol, (0,))


def test_chance_is_the_best_constant() -> None:
    _, one = problem("multilabel")
    found = chance(one)
    test = one.targets[90:]
    assert found.per_seed["roc_auc"] == [0.5]
    assert found.per_seed["average_precision"][0] == pytest.approx(test.mean())
    _, one = problem()
    counts = np.bincount(one.targets[:70])
    expected = (one.targets[90:] == counts.argmax()).mean()
    assert chance(one).per_seed["f1_micro"] == [pytest.approx(expected)]


def test_one_class_and_missing_positives_are_errors() -> None:
    x, one = problem()
    with pytest.raises(ValueError, match="one class only"):
        evaluate(x, [replace(one, targets=np.zeros(120, dtype=int))], PROTOCOLS["mir_ref-1"], (0,))
    x, tags = problem("multilabel")
    tags.targets[90:, 1] = 0
    with pytest.raises(ValueError, match="tag 'b' has no positive"):
        evaluate(x, [tags], PROTOCOLS["mir_ref-1"], (0,))


def test_neighbors_are_those_of_standardized_features() -> None:
    """By scikit-learn's scaler and cosines: a column far from 0 and one of another scale do not decide."""
    rng = np.random.default_rng(0)
    x = rng.normal((50, 0, 0), (1, 30, 1), (40, 3)).astype(np.float32)
    items, queries = x[:30], x[30:]
    scaler = StandardScaler().fit(items)
    known = NearestNeighbors(n_neighbors=3, metric="cosine").fit(scaler.transform(items))
    nearest = known.kneighbors(scaler.transform(queries), return_distance=False)
    values, classes = rng.normal(size=(30, 2)), rng.integers(0, 2, 30)
    train = np.arange(30)
    one = Problem("p", "regression", ("a", "b"), values, (), 4)
    found = stage._neighbors(items, one, train, 3)(queries)
    np.testing.assert_allclose(found, values[nearest].mean(axis=1), rtol=1e-5)
    votes = stage._neighbors(items, classes_of(classes.tolist()), train, 3)(queries)
    np.testing.assert_allclose(votes, np.eye(3)[classes[nearest]].mean(axis=1))


def test_neighbors_are_chosen_by_micro_f1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 zeros and 2 ones: all zeros have micro F1 0.8 and macro 0.44, 5 zeros and 5 ones 0.7 and 0.67."""
    votes = {1: np.zeros(10, dtype=int), 3: np.array([0] * 5 + [1] * 5)}
    monkeypatch.setattr(stage, "_neighbors", lambda items, problem, train, k: lambda queries: np.eye(2)[votes[k]])
    one = classes_of([0] * 8 + [1] * 2, (np.arange(10),) * 3)
    one = replace(one, labels=("a", "b"))
    protocol = get_protocol("mir_ref-1").replace(neighbors=(3, 1))
    assert stage._knn_models(np.ones((10, 2)), one, protocol).details == {"neighbors": [1]}


# ---- units ----------------------------------------------------------------------------------------------------


def test_a_cell_has_the_features_of_its_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two units of clean features, then one and two of deformed ones, whose clips come in an order of their own."""
    nan = [np.nan, np.nan]
    gathered = {
        ("f0", "f1"): ([[0.0, 1.0], [2.0, 3.0], [4.0, np.inf], [6.0, 7.0]], list("abcd"), {"c": "is damaged"}),
        ("g0",): ([[60.0, 70.0], [20.0, 30.0]], list("db"), {}),
        ("h0", "h1"): ([nan], list("d"), {"d": "is silent"}),
    }

    def gather(units: list[str], store: str, output: str) -> tuple[np.ndarray, list[str], dict[str, str]]:
        assert (store, output) == ("store", "mean")
        rows, ids, failures = gathered[tuple(units)]
        return np.array(rows, np.float32), ids, failures

    found: dict[str, Any] = {}

    def evaluated(features: np.ndarray, problems: list[Problem], protocol: str, seeds: str, **more: Any) -> Any:
        found.update(more, features=features, problems=problems, told=(protocol, seeds))
        scored = score(problems[0], np.eye(3)[[[1, 0]]], {"kept": 1})
        return {"p": {"mlp": scored, "mlp/gain": "features of 1 test clips are missing"}}

    monkeypatch.setattr(stage, "gather", gather)
    monkeypatch.setattr(stage, "evaluate", evaluated)
    one = classes_of([0, 1, 2, 0], (np.array([0]), np.array([2]), np.array([1, 2, 3])))
    job = SimpleNamespace(
        is_chance=False, problems=(one,), n_features=2, output="mean", deformed={"gain": 1, "noise": 2},
        protocol="protocol", seeds="seeds", shuffle_labels=True,
    )  # fmt: skip
    unit: Any = SimpleNamespace(payload=job, inputs=["f0", "f1", "g0", "h0", "h1"])
    result = stage.probe(unit, "store")  # type: ignore[arg-type]
    assert [part.tolist() for part in found["problems"][0].splits[0]] == [[0], [], [1, 3]]
    clean = np.array(gathered["f0", "f1"][0])
    np.testing.assert_array_equal(found["features"], clean)
    np.testing.assert_array_equal(found["variants"]["gain"], [clean[0], [20, 30], clean[2], [60, 70]])
    np.testing.assert_array_equal(found["variants"]["noise"], [*clean[:3], nan])
    assert (found["told"], found["shuffle_labels"]) == (("protocol", "seeds"), True)
    assert result.meta["failures"] == {"p": {"c": "is damaged"}}
    assert result.meta["evaluations"] == {
        "p/mlp": {
            "per_seed": {"f1_macro": [pytest.approx(2 / 3)], "f1_micro": [1.0]}, "details": {"kept": 1},
            "n_groups": 2, "n_effective": 2.0,
        },
        "p/mlp/gain": {"reason": "features of 1 test clips are missing"},
    }  # fmt: skip
    assert result.arrays["p/mlp/replicates/f1_micro"].tolist() == [1.0, 1.0]
    np.testing.assert_array_equal(result.arrays["p/mlp/predictions"], np.eye(3)[[[1, 0]]])


def test_chance_needs_no_features() -> None:
    one = classes_of([0, 2, 2, 2, 0], rows(0, 3, 3, 5))
    job = SimpleNamespace(is_chance=True, problems=(one,), protocol=get_protocol("strict-1"))
    result = stage.probe(SimpleNamespace(payload=job), None)  # type: ignore[arg-type]
    assert result.meta["evaluations"]["p/mlp"]["per_seed"]["f1_micro"] == [0.5]
    assert result.meta["failures"] == {}
