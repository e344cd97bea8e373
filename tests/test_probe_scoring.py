"""Protocols, choices on the validation part, scores of folds and their replicates, by hand and against scikit-learn."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, r2_score

from benchmarks.statistics.groups import leave_out_blocks
from probes import stage
from probes.mlp.config import ProbeConfig
from probes.mlp.models import TrainedProbe
from probes.mlp.training import ProbeJob
from probes.protocol import MIR_REF_BATCH, PROTOCOLS, Protocol, get_protocol, seeds_from
from probes.scoring import Problem, Scorer, chance, problem_of, score
from probes.stage import evaluate


def rows(*edges: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Train, validation and test part as stretches between four edges."""
    train, validation, test = (np.arange(a, b) for a, b in itertools.pairwise(edges))
    return train, validation, test


def classes_of(targets: Sequence[int], *splits: Any, **changes: Any) -> Problem:
    return Problem("p", "multiclass", ("a", "b", "c"), np.array(targets), splits, 4, **changes)


# --- protocols ------------------------------------------------------------------------------------------------


def test_the_protocols_of_the_tables() -> None:
    """mir_ref's: Keras' Adam with 1e-3, [256, 128], L2 1e-5, patience 10 on the loss, the epoch of the best metric."""
    config = ProbeConfig((256, 128), 1e-3, 1e-5, 1e-7, 64, 100, 10, "loss", "keras", False, "fp32", False)
    assert config == ProbeConfig()
    assert PROTOCOLS["mir_ref-1"] == Protocol("mir_ref-1", "mir_ref", config, ("mlp",), (), (1, 3, 5, 11, 21))
    strict = replace(config, standardize=True, stop_on="macro", select_on="macro")
    assert PROTOCOLS["strict-1"] == Protocol(
        "strict-1", "strict", strict, ("mlp", "linear", "knn"), (1e-4, 3e-4, 1e-3), (1, 3, 5, 11, 21)
    )
    assert not any(protocol.drop_last or protocol.batch_size for protocol in PROTOCOLS.values())
    assert 5329 % MIR_REF_BATCH == 997  # of MagnaTagATune's test part mir_ref leaves out so many


def test_seeds_count_up() -> None:
    assert seeds_from(7, 3) == (7, 8, 9)
    assert seeds_from(0, 1) == (0,)
    with pytest.raises(ValueError, match="at least one seed is needed, got 0"):
        seeds_from(3, 0)


def test_a_changed_protocol_says_so_in_its_name() -> None:
    plain = get_protocol("mir_ref-1")
    changed = plain.replace(max_epochs=3, drop_last=True)
    assert (changed.name, changed.config.max_epochs, changed.drop_last) == (
        "mir_ref-1+drop_last=True,max_epochs=3",
        3,
        True,
    )
    assert plain.replace() == plain
    assert "inferred" not in plain.to_dict()
    assert plain.replace(inferred=("infer",)).to_dict()["inferred"] == ("infer",)


@pytest.mark.parametrize(
    ("kind", "dim", "outputs", "widths"),
    [
        (("infer",), 20, 4, (12,)),
        (("infer", "infer"), 19, 4, (14, 10)),  # 14 and 9, made even
        (("power_infer",) * 2, 19, 4, (10, 24)),  # 4 + 5, 4 + 4 x 5
        (("infer",), 2, 1, (2,)),  # 1.5 is 1, made even
        (("power_infer",) * 2, 2, 50, (34, 2)),  # 50 - 64 is nothing, and two is the least
    ],
)
def test_inferred_widths_by_hand(kind: tuple[str, ...], dim: int, outputs: int, widths: tuple[int, ...]) -> None:
    assert get_protocol("mir_ref-1").replace(inferred=kind).hidden_units(dim, outputs) == widths


# --- scores ---------------------------------------------------------------------------------------------------


def test_scores_of_folds_are_means_and_replicates_lose_a_group_in_all_of_them() -> None:
    """Three groups over two folds; of two seeds the second is right throughout."""
    targets = [0, 1, 2, 0, 1, 2, 0, 1]
    split = (np.arange(0), np.arange(0))
    one = classes_of(
        targets, (*split, np.array([0, 1, 2])), (*split, np.array([3, 4, 5, 6])),
        groups=np.array([5, 5, 9, 9, 7, 7, 7, 0]),
    )  # fmt: skip
    first = np.eye(3)[[0, 0, 2, 0, 0, 2, 1]]  # right: yes no yes | yes no yes no
    both = np.stack([first, np.eye(3)[targets[:7]]])
    found = score(one, both, {"told": 1})
    assert found.per_seed["f1_micro"] == pytest.approx([(2 / 3 + 1 / 2) / 2, 1.0])
    macro = [
        f1_score(targets[a:b], first[a:b].argmax(1), labels=range(3), average="macro", zero_division=0)
        for a, b in ((0, 3), (3, 7))
    ]
    assert found.per_seed["f1_macro"] == pytest.approx([np.mean(macro), 1.0])
    # Without group 5 the first fold has item 2 alone; without 9 it has two and the other three; 7 leaves item 3.
    expected = [((1 + 1 / 2) / 2 + 1) / 2, ((1 / 2 + 1 / 3) / 2 + 1) / 2, ((2 / 3 + 1) / 2 + 1) / 2]
    # The mean is over seeds and folds at once.
    assert found.replicates["f1_micro"] == pytest.approx(expected)
    assert found.n_groups == 3
    assert found.n_effective == pytest.approx(49 / 17)  # groups of 2, 2 and 3
    assert found.details == {"told": 1}
    assert found.predictions.dtype == np.float32
    np.testing.assert_array_equal(found.predictions, both)


def test_many_groups_are_left_out_in_the_blocks_that_all_representations_share() -> None:
    right = np.arange(201) % 3 == 0
    one = classes_of([0] * 201, (np.arange(0), np.arange(0), np.arange(201)))
    found = score(one, np.where(right[:, None], [1.0, 0, 0], [0, 1.0, 0])[None], {})
    expected = [np.delete(right, block).mean() for block in leave_out_blocks(201, 0)]
    assert len(expected) == 200
    assert found.replicates["f1_micro"] == pytest.approx(expected)


def test_a_task_as_arrays() -> None:
    """Rows number the task's clips; name and batch size are its own unless others are given."""
    ids = ["u", "v", "w", "x"]
    clips = [SimpleNamespace(id=name) for name in ids]
    data: Any = SimpleNamespace(
        clips=clips,
        rows=lambda names: np.array([ids.index(name) for name in names]),
        splits=lambda scheme: (
            [SimpleNamespace(train=["x", "u"], validation=["v"], test=["w"])] if scheme == "s" else []
        ),
        info=SimpleNamespace(name="own", kind="multiclass", labels=("a", "b"), batch_size=7),
        targets=np.array([0, 1, 1, 0]),
        clusters=SimpleNamespace(index=lambda names: np.array([len(list(names)), 0, 0, 1])),
    )
    plain, other = problem_of(data, "s"), problem_of(data, "s", "other", 3)
    assert (plain.name, plain.batch_size, other.name, other.batch_size) == ("own", 7, "other", 3)
    assert [part.tolist() for part in plain.splits[0]] == [[3, 0], [1], [2]]
    assert (plain.kind, plain.labels, plain.targets.tolist()) == ("multiclass", ("a", "b"), [0, 1, 1, 0])
    assert plain.groups is not None
    assert plain.groups.tolist() == [4, 0, 0, 1]


def test_incomplete_batches_are_left_out_of_each_fold() -> None:
    split = (np.arange(0), np.arange(0))
    one = classes_of([0, 1, 0, 1, 0], (*split, np.arange(3)), (*split, np.arange(2)))
    guess = np.eye(3)[[0, 0, 1, 1, 1]][None]  # right: yes no no | no yes
    assert score(one, guess, {}).per_seed["f1_micro"] == pytest.approx([(1 / 3 + 1 / 2) / 2])
    assert score(one, guess, {}, drop_last=2).per_seed["f1_micro"] == pytest.approx([1 / 2])
    with pytest.raises(ValueError, match="task 'p': a test part of 2 items has no full batch of 3"):
        score(one, guess, {}, drop_last=3)


def test_without_rows_that_are_missing() -> None:
    one = classes_of([0] * 9, rows(0, 3, 6, 9), rows(6, 7, 8, 9)).without(np.array([1, 8, 6]))
    assert [[part.tolist() for part in split] for split in one.splits] == [[[0, 2], [3, 4, 5], [7]], [[], [7], []]]
    assert one.test_rows.tolist() == [7]
    assert one.test_rows.dtype == np.int64


def test_tags_and_values_that_no_item_decides() -> None:
    tags = Problem("p", "multilabel", ("a", "b", "c"), np.array([[1, 0, 1], [0, 0, 1]]), (rows(0, 0, 0, 2),), 4)
    scorer = Scorer(tags, tags.targets, np.array([[0.9, 0.1, 0.2], [0.2, 0.3, 0.1]]))
    # Of tag a alone, and of a and c.
    assert scorer(np.ones(2)) == {"roc_auc": 1.0, "average_precision": 1.0}
    with pytest.raises(ValueError, match="tag 'b' has no positive or no negative test item"):
        scorer()
    classes, values = classes_of([0, 1], rows(0, 0, 0, 2)), replace(tags, kind="regression")
    for nothing, names in (
        (scorer(np.zeros(2)), ["average_precision", "roc_auc"]),
        (Scorer(classes, classes.targets, np.eye(2))(np.zeros(2)), ["f1_macro", "f1_micro"]),
        (Scorer(values, values.targets, np.ones((2, 3)))(np.zeros(2)), ["pearson", "r2"]),
    ):
        assert sorted(nothing) == names
        assert np.isnan(list(nothing.values())).all()


def test_chance_of_keys_and_values() -> None:
    """For keys the constant with the best expected score; for values the mean of the training part."""
    names = ("A minor", "C major", "F major", "G major")
    # A constant C major has its own two, G's for the fifth nothing, F's half (C is its fifth) and A minor's 0.3.
    keys = Problem("k", "key", names, np.array([0, 0, 0, 1, 1, 2, 2, 3, 1, 3]), (rows(0, 8, 8, 10),), 4)
    gains = {"A minor": 3 + 0.3 * 2, "C major": 2 + 0.5 * 2 + 0.3 * 3, "F major": 2.0, "G major": 1 + 0.5 * 2}
    assert max(gains, key=gains.__getitem__) == "C major"
    assert chance(keys).per_seed["weighted_micro"] == [0.5]  # right, and no fifth of G
    targets = np.array([[1.0, 2.0], [3.0, 2.0], [2.5, 1.0], [4.0, 5.0]])
    values = Problem("v", "regression", ("x", "y"), targets, (rows(0, 2, 2, 4),), 4)
    constant = np.tile([2.0, 2.0], (2, 1))
    assert chance(values).per_seed["r2"] == pytest.approx([r2_score(targets[2:], constant)])
    np.testing.assert_array_equal(chance(values).predictions, constant[None])


# --- choices on the validation part ---------------------------------------------------------------------------


def probe_with(value: float, epochs: int = 2, best: int = 1, loss: float = 1.0, name: str = "keras") -> TrainedProbe:
    """A probe that answers class 0, kept in an epoch whose monitor showed `value`; the others showed 0."""
    history = [{"loss": loss, name: value if epoch == best else 0.0} for epoch in range(epochs)]
    layers = [(np.zeros((3, 2), np.float32), np.array([1.0, 0.0, 0.0], np.float32))]
    return TrainedProbe(layers, None, None, False, best, history)


def test_a_fold_has_one_learning_rate_by_the_mean_over_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rate 2 is better for one seed of the first fold; on average rate 1 is there, and rate 2 in the second fold."""
    values = {(0, 0, 1.0): 0.6, (0, 1, 1.0): 0.6, (0, 0, 2.0): 0.9, (0, 1, 2.0): 0.2}
    values |= {(1, 0, 1.0): 0.1, (1, 1, 1.0): 0.3, (1, 0, 2.0): 0.4, (1, 1, 2.0): 0.2}
    asked: list[tuple[int, int, float | None]] = []

    def trained(features: np.ndarray, jobs: list[ProbeJob], config: ProbeConfig, device: str) -> list[TrainedProbe]:
        asked.extend((int(job.train[0] > 0), job.seed, job.learning_rate) for job in jobs)
        return [probe_with(values[key], best=index % 2) for index, key in enumerate(asked)]  # type: ignore[index]

    monkeypatch.setattr(stage, "train_probes", trained)
    one = classes_of([0, 1, 2] * 3, rows(0, 3, 4, 6), rows(3, 6, 7, 9))
    protocol = replace(get_protocol("mir_ref-1"), learning_rates=(1.0, 2.0))
    found = evaluate(np.ones((9, 2)), [one], protocol, (0, 1))["p"]["mlp"]
    assert not isinstance(found, str)
    assert asked == [(fold, seed, rate) for fold in (0, 1) for seed in (0, 1) for rate in (1.0, 2.0)]
    assert found.details == {
        "best_epochs": [[0, 1], [0, 1]], "epochs": [[2, 2], [2, 2]], "learning_rates": [1.0, 2.0],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("probes", "expected"),
    [
        ([probe_with(0.5, best=0), probe_with(0.7, best=0)], True),
        ([probe_with(0.5, best=0), probe_with(0.7, best=1)], False),
        ([probe_with(1.0, best=0)], False),  # has learned all there is
        ([probe_with(0.5, epochs=1, best=0)], False),
    ],
)
def test_probes_of_their_first_epoch_have_learned_nothing(probes: list[TrainedProbe], expected: bool) -> None:
    assert stage._never_improved(probes, ProbeConfig()) is expected


def test_the_value_of_the_kept_epoch() -> None:
    """What decides the rate is what the epoch was kept for; with the last epoch kept, what ended the training."""
    probe = probe_with(0.5, loss=3.0)
    probe.history[probe.best_epoch]["macro"] = 0.25
    for stop, select, expected in (
        ("loss", "keras", 0.5),
        ("keras", "macro", 0.25),
        ("macro", "keras", 0.5),
        ("macro", "last", 0.25),
        ("loss", "last", -3.0),
    ):
        assert stage._kept_score(probe, ProbeConfig(stop_on=stop, select_on=select)) == expected
    assert stage._kept_score(TrainedProbe([], None, None, False), ProbeConfig()) == 0.0
    assert stage._finite_loss(TrainedProbe([], None, None, False))
    assert not stage._finite_loss(probe_with(0.5, loss=float("nan")))


def test_a_loss_that_is_not_finite_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([probe_with(0.5), probe_with(0.5, loss=float("inf"))])
    monkeypatch.setattr(stage, "train_probes", lambda features, jobs, *rest, **options: [next(found) for _ in jobs])
    one = classes_of([0, 1, 2] * 3, rows(0, 3, 6, 9))
    text = evaluate(np.full((9, 2), -40.0), [one], get_protocol("mir_ref-1"), (0, 1))["p"]["mlp"]
    assert text == "the loss is not finite with 1 of 2 seeds (the largest feature is 40)"


def test_predictions_that_are_not_finite_are_counted_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = probe_with(0.5)
    huge.layers[0][0][:] = 1e38
    made = iter([probe_with(0.5), huge])
    monkeypatch.setattr(stage, "train_probes", lambda features, jobs, *rest, **options: [next(made) for _ in jobs])
    x = np.full((9, 2), 3.0)
    x[7] = -40.0
    one = classes_of([0, 1, 2] * 3, rows(0, 3, 6, 9))
    text = evaluate(x, [one], get_protocol("mir_ref-1"), (0, 1))["p"]["mlp"]
    assert text == "predictions are not finite with 1 of 2 seeds (the largest feature is 40)"


def test_networks_are_as_wide_as_the_protocol_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of one width and batch are trained together; "linear" has no hidden layer."""
    seen: list[tuple[tuple[int, ...], int, bool, list[int]]] = []

    def trained(features: np.ndarray, jobs: list[ProbeJob], config: ProbeConfig, device: str) -> list[TrainedProbe]:
        seen.append((config.hidden_units, config.batch_size, config.drop_last, [job.n_outputs for job in jobs]))
        layers = [(np.zeros((3, 6), np.float32), np.zeros(3, np.float32))]
        return [TrainedProbe(layers, None, None, False, history=[{"keras": 0.5, "loss": 1.0}] * 2) for _ in jobs]

    monkeypatch.setattr(stage, "train_probes", trained)
    first = classes_of([0, 1, 2] * 3, rows(0, 3, 6, 9))
    others = [replace(first, name="q"), replace(first, name="r", batch_size=1)]
    protocol = get_protocol("mir_ref-1").replace(inferred=("infer",), probes=("mlp", "linear"), drop_last=True)
    found = evaluate(np.ones((9, 6)), [first, *others], replace(protocol, drop_last=False), (0,))
    width = (4,)  # half way from 6 features to 3 classes, 4.5
    assert seen == [
        (width, 1, False, [3]), (width, 4, False, [3, 3]), ((), 1, False, [3]), ((), 4, False, [3, 3]),
    ]  # fmt: skip
    mlp = found["p"]["mlp"]
    assert not isinstance(mlp, str)
    assert mlp.details["never_improved"] is True
    assert mlp.details["learning_rates"] == [1e-3]
    seen.clear()
    dropped = evaluate(np.ones((9, 6)), [replace(others[1], batch_size=2)], protocol, (0,))["r"]["mlp"]
    assert seen[0] == (width, 2, True, [3])
    assert not isinstance(dropped, str)
    assert dropped.per_seed["f1_micro"] == [0.5]  # of two test items in place of three


def test_values_are_learned_with_mean_0_and_deviation_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the training part; predictions come back in the unit of the targets, and what is constant keeps it."""
    seen: list[np.ndarray] = []

    def trained(features: np.ndarray, jobs: list[ProbeJob], *rest: Any, **options: Any) -> list[TrainedProbe]:
        seen.extend(job.targets for job in jobs)
        assert all(job.regression for job in jobs)
        layers = [(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))]
        return [TrainedProbe(layers, None, None, False) for _ in jobs]

    monkeypatch.setattr(stage, "train_probes", trained)
    targets = np.array([[1.0, 7.0], [5.0, 7.0], [9.0, 9.0], [4.0, 8.0], [2.0, 6.0]])
    one = Problem("v", "regression", ("x", "y"), targets, (rows(0, 2, 3, 5),), 4)
    features = np.arange(10.0).reshape(5, 2)
    found = evaluate(features, [one], get_protocol("mir_ref-1"), (0,))["v"]["mlp"]
    assert not isinstance(found, str)
    np.testing.assert_allclose(seen[0], (targets - [3, 7]) / [2, 1])
    np.testing.assert_allclose(found.predictions[0], features[3:] * [2, 1] + [3, 7])


def test_neighbors_are_chosen_on_the_validation_part_of_each_fold() -> None:
    """One neighbor is right where each item has a twin, three where twins are mislabeled."""
    angles = np.repeat(np.arange(8) * 0.7, 1)
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    train = np.concatenate([x + 0.001 * k for k in range(3)])
    labels = np.arange(8) % 2
    honest, spoiled = np.tile(labels, 3), np.tile(labels, 3)
    spoiled[:8] = 1 - spoiled[:8]  # the nearest of three
    features = np.concatenate([train, train, x, x])
    targets = np.concatenate([honest, spoiled, labels, labels])
    validation, test = np.arange(48, 56), np.arange(56, 64)
    protocol = replace(get_protocol("mir_ref-1"), probes=("knn",), neighbors=(1, 3))
    folds = [(np.arange(24), validation, test), (np.arange(24, 48), validation, test)]
    one = Problem("p", "multiclass", ("a", "b", "never"), targets, tuple(folds), 4)
    found = evaluate(features, [one], protocol, (0, 1, 2))["p"]["knn"]
    assert not isinstance(found, str)
    assert found.details == {"neighbors": [1, 3]}
    assert found.per_seed["f1_micro"] == [1.0]
    assert found.predictions.shape == (1, 16, 3)
    assert found.predictions[0, 8:, :2].max(axis=1) == pytest.approx([2 / 3] * 8)
    tags = replace(one, kind="multilabel", labels=("a", "b"), targets=np.eye(2, dtype=int)[targets])
    values = replace(one, kind="regression", labels=("a", "b"), targets=np.eye(2)[targets])
    for other in (tags, values):
        same = evaluate(features, [other], protocol, (0,))["p"]["knn"]
        assert not isinstance(same, str)
        np.testing.assert_allclose(same.predictions, found.predictions[..., :2])


# --- what is refused ------------------------------------------------------------------------------------------


def test_features_that_a_split_needs_must_be_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.ones((9, 2))
    x[[0, 3, 5], 1] = np.nan, np.inf, 1e39
    one = classes_of([0, 1, 2] * 3, rows(3, 6, 7, 9))
    with pytest.raises(ValueError, match="features of 2 items are not finite, the first is item 3"):
        evaluate(x, [one], get_protocol("mir_ref-1"), (0,))
    # The item that no split uses is nothing to the others.
    used = classes_of([0, 1, 2] * 3, rows(6, 8, 8, 9))
    knn = replace(PROTOCOLS["mir_ref-1"], probes=("knn",), neighbors=(1,))
    unused, without = (evaluate(y, [used], knn, (0,))["p"]["knn"] for y in (x, np.nan_to_num(x, nan=7.0)))
    assert not isinstance(unused, str)
    assert not isinstance(without, str)
    np.testing.assert_array_equal(unused.predictions, without.predictions)
    # Nor to the scale of columns: training is given zeros in its place.
    seen: list[np.ndarray] = []
    monkeypatch.setattr(
        stage, "train_probes", lambda features, jobs, *rest, **more: seen.append(features) or [probe_with(0.5)]
    )
    evaluate(x, [used], get_protocol("mir_ref-1"), (0,))
    np.testing.assert_array_equal(seen[0], np.where(np.isin(np.arange(9), [0, 3, 5])[:, None], 0, x))
    with pytest.raises(ValueError, match="unknown probe 'svm'; known: mlp, linear, knn"):
        evaluate(
            x[6:], [classes_of([0, 1, 2], rows(0, 1, 2, 3))], replace(PROTOCOLS["mir_ref-1"], probes=("svm",)), (0,)
        )


def test_variants_without_a_test_item_have_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "train_probes", lambda features, jobs, *rest, **options: [probe_with(0.5) for _ in jobs])
    one = classes_of([0, 1, 2] * 3, rows(0, 3, 6, 9))
    x = np.ones((9, 2), np.float32)
    changed = x.copy()
    changed[[2, 7]] = np.nan
    found = evaluate(x, [one], get_protocol("mir_ref-1"), (0,), variants={"noise:15": changed, "same": x})["p"]
    assert found["mlp/noise:15"] == "features of 1 test clips are missing"
    assert not isinstance(found["mlp"], str)
    assert not isinstance(found["mlp/same"], str)
    np.testing.assert_array_equal(found["mlp/same"].predictions, found["mlp"].predictions)


def test_shuffled_labels_are_those_of_items_that_are_not_tested() -> None:
    one = classes_of(list(range(9)), rows(0, 4, 6, 9))
    shuffled = stage._shuffled(one).targets
    assert sorted(shuffled[:6]) == list(range(6))
    assert shuffled[:6].tolist() != list(range(6))
    assert shuffled[6:].tolist() == [6, 7, 8]
    for refused in (classes_of([0] * 9, rows(0, 2, 4, 6), rows(3, 5, 6, 9)), classes_of([0, 1], rows(0, 0, 0, 2))):
        with pytest.raises(ValueError, match="labels can be shuffled for a single split only"):
            stage._shuffled(refused)
