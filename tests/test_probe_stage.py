"""The probe stage: which features its units give to which clip, and what it keeps of a score."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_probe_scoring import classes_of, rows

from probes import stage
from probes.protocol import get_protocol
from probes.scoring import Problem, score


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
