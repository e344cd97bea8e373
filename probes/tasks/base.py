"""What a task is: clips, targets bound to label names, and splits that are checked and hashed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets.audio_files import read_excerpt
from benchmarks.datasets.base import Clip, ClipError, DataNotFoundError
from benchmarks.datasets.locations import fetched_root
from benchmarks.statistics.groups import group_index
from m2l.io.digest import file_digest, file_sha256

#: kind -> metric keys of `probes.metrics`, in the order of Table 1's columns.
METRICS: dict[str, tuple[str, ...]] = {
    "multilabel": ("roc_auc", "average_precision"),
    "multiclass": ("f1_micro", "f1_macro"),
    "key": ("weighted_micro", "weighted_macro", "accuracy_micro", "accuracy_macro"),
    "regression": ("r2", "pearson"),
}


class TaskDataError(ValueError):
    """Data of a task is there and wrong: counts, labels, checksums or splits are not what they must be."""


@dataclass(frozen=True)
class TaskInfo:
    """What is known of a task before its data is read.

    Attributes:
        name: registry name.
        version: raised when targets, splits or labels change; old results then no longer match.
        title: heading in Table 1.
        kind: "multilabel", "multiclass", "key" (24 classes with their own scores) or "regression".
        labels: names of classes, tags or values; target columns and class numbers follow this order, never a file's.
        dataset: data set the clips come from; compared with a representation's training data.
        license, citation, source: of the data.
        batch_size: items per training step under mir_ref-1.
        changes: what each version changed.
    """

    name: str
    version: str
    title: str
    kind: str
    labels: tuple[str, ...]
    dataset: str
    license: str
    citation: str
    source: str
    batch_size: int = 64
    changes: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Keys of the metrics, the first one being the main one."""
        return METRICS[self.kind]


@dataclass(frozen=True)
class Split:
    """Clip ids of one train / validation / test division."""

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """sha256 over the three lists: equal digests mean the same division, in the same order."""
        text = "\n".join(["train", *self.train, "validation", *self.validation, "test", *self.test])
        return hashlib.sha256(text.encode()).hexdigest()

    def check(self, known: Iterable[str], groups: Mapping[str, str] | None = None) -> None:
        """Hold the split to what a split must be.

        Raises:
            TaskDataError: an empty part, an id twice or unknown, an id in two parts, or (with `groups`) a
                group whose clips lie on both sides of train and test.
        """
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        known = set(known)
        for name, ids in parts.items():
            if not ids:
                raise TaskDataError(f"split {self.name!r}: the {name} part is empty")
            if len(set(ids)) != len(ids):
                repeated = next(i for i in ids if ids.count(i) > 1)
                raise TaskDataError(f"split {self.name!r}: {repeated!r} is twice in {name}")
            if strangers := set(ids) - known:
                raise TaskDataError(
                    f"split {self.name!r}: {len(strangers)} ids of {name} are no clips of the task, "
                    f"e.g. {min(strangers)!r}"
                )
        for first, second in (("train", "test"), ("train", "validation"), ("validation", "test")):
            if shared := set(parts[first]) & set(parts[second]):
                raise TaskDataError(
                    f"split {self.name!r} leaks: {min(shared)!r} is in {first} and in {second} "
                    f"({len(shared)} such clips)"
                )
        if groups is not None:
            leaked = {groups[i] for i in self.train} & {groups[i] for i in self.test}
            if leaked:
                raise TaskDataError(
                    f"split {self.name!r} leaks: group {min(leaked)!r} is in train and in test "
                    f"({len(leaked)} such groups)"
                )


@dataclass(frozen=True)
class Clusters:
    """Which items of a task are not independent of each other: intervals count groups, not items.

    Attributes:
        of: clip id -> group. A clip that is missing is its own group.
        items, groups: what captions call them ("notes", "instruments").
    """

    of: Mapping[str, str] = field(default_factory=dict)
    items: str = "clips"
    groups: str = "groups"

    def index(self, ids: Iterable[str]) -> np.ndarray:
        """(n,) number of each clip's group, in order of first appearance."""
        return group_index(ids, self.of)

    def describe(self, ids: Sequence[str]) -> str:
        """The clips and their groups, counted: "352 notes of 14 instruments"."""
        n_groups = len(set(self.index(ids).tolist()))
        text = f"{len(ids):,} {self.items}"
        return f"{text} of {n_groups:,} {self.groups}" if n_groups < len(ids) else text


@dataclass(frozen=True)
class TaskData:
    """A task with its data: clips in a fixed order, targets, and divisions by name.

    Attributes:
        info: the task.
        clips: audio, in the order of `targets`.
        targets: (n,) class numbers, or (n, n_labels) integers zero and one, or (n, n_labels) floats of a regression.
        schemes: division scheme -> splits. "mir_ref" is what Table 1 used, "strict" what it should have
            used (folds, disjoint groups); tasks may add others.
        groups: clip id -> what must not be divided in the strict scheme (artist, note).
        clusters: what intervals count; by default every clip on its own. Not always `groups`: notes of one pitch must
            not be divided, and yet it is their instruments that a pitch score has to hold for.
        notes: what a reader of the numbers should know.
    """

    info: TaskInfo
    clips: Sequence[Clip]
    targets: np.ndarray
    schemes: Mapping[str, Sequence[Split]]
    groups: Mapping[str, str] | None = None
    notes: tuple[str, ...] = field(default=())
    clusters: Clusters = field(default_factory=Clusters)

    @cached_property
    def row(self) -> dict[str, int]:
        """Clip id -> row of `targets`."""
        return {clip.id: number for number, clip in enumerate(self.clips)}

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """Rows of the given clips."""
        row = self.row
        return np.array([row[i] for i in ids], dtype=np.int64)

    def splits(self, scheme: str) -> Sequence[Split]:
        """The splits of a scheme.

        Raises:
            ValueError: the task has no such scheme.
        """
        if scheme not in self.schemes:
            raise ValueError(f"task {self.info.name!r} has no splits {scheme!r} (has: {', '.join(self.schemes)})")
        return self.schemes[scheme]

    @cached_property
    def digest(self) -> str:
        """sha256 over ids, targets and label names."""
        state = hashlib.sha256("\n".join([self.info.name, self.info.version, *self.info.labels]).encode())
        state.update("\n".join(clip.id for clip in self.clips).encode())
        numbers = "<f8" if self.info.kind == "regression" else "<i4"
        state.update(np.ascontiguousarray(self.targets).astype(numbers).tobytes())
        return state.hexdigest()

    @cached_property
    def clusters_digest(self) -> str:
        """sha256 over the group of every clip."""
        return hashlib.sha256(self.clusters.index(clip.id for clip in self.clips).astype("<i4").tobytes()).hexdigest()

    def check(self) -> None:
        """Hold targets and all splits to what they must be.

        Raises:
            TaskDataError: see `Split.check`; also duplicate ids, targets out of range, or a class or tag
                that a training part does not have at all.
        """
        ids = [clip.id for clip in self.clips]
        if len(set(ids)) != len(ids):
            raise TaskDataError(f"task {self.info.name!r}: clip ids are not unique")
        if len(self.targets) != len(ids):
            raise TaskDataError(f"task {self.info.name!r}: {len(self.targets)} targets for {len(ids)} clips")
        values = self.info.kind == "regression"
        wide = self.info.kind == "multilabel" or values
        shape_ok = self.targets.ndim == (2 if wide else 1)
        if not shape_ok or (wide and self.targets.shape[1] != len(self.info.labels)):
            raise TaskDataError(f"task {self.info.name!r}: targets have shape {self.targets.shape}")
        if not wide and (self.targets.min() < 0 or self.targets.max() >= len(self.info.labels)):
            raise TaskDataError(f"task {self.info.name!r}: class numbers outside 0..{len(self.info.labels) - 1}")
        for scheme, splits in self.schemes.items():
            for split in splits:
                split.check(ids, self.groups if scheme == "strict" else None)
                if values:
                    continue
                seen = self.targets[self.rows(split.train)]
                counts = seen.sum(axis=0) if wide else np.bincount(seen, minlength=len(self.info.labels))
                if absent := [self.info.labels[i] for i in np.flatnonzero(counts == 0)]:
                    raise TaskDataError(
                        f"task {self.info.name!r}, split {split.name!r}: no training clip is labeled "
                        f"{', '.join(map(repr, absent))}"
                    )


def k_fold_splits(folds: Mapping[str, int], name: str = "fold") -> list[Split]:
    """One split per fold: fold i validates, the next one tests, the others train (mirdata's rotation).

    Args:
        folds: clip id -> fold number, in the order of the clips.
    """
    numbers = sorted(set(folds.values()))
    splits = []
    for position, validation in enumerate(numbers):
        test = numbers[(position + 1) % len(numbers)]
        splits.append(
            Split(
                f"{name}-{validation}",
                tuple(i for i, fold in folds.items() if fold not in (validation, test)),
                tuple(i for i, fold in folds.items() if fold == validation),
                tuple(i for i, fold in folds.items() if fold == test),
            )
        )
    return splits


def grouped_folds(
    ids: Sequence[str], strata: np.ndarray, groups: Mapping[str, str], n_folds: int = 5, seed: int = 42
) -> dict[str, int]:
    """Clip id -> fold, groups undivided, classes spread as evenly as the groups allow."""
    from sklearn.model_selection import StratifiedGroupKFold

    folder = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    folds = np.empty(len(ids), dtype=int)
    for number, (_, rows) in enumerate(folder.split(np.zeros(len(ids)), strata, [groups[i] for i in ids])):
        folds[rows] = number
    return {clip_id: int(fold) for clip_id, fold in zip(ids, folds, strict=True)}


class UnionFind:
    """Connected components of names."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        """The component's representative."""
        root = self.parent.setdefault(name, name)
        while root != self.parent[root]:
            root = self.parent[root]
        while self.parent[name] != root:
            self.parent[name], name = root, self.parent[name]
        return root

    def join(self, first: str, second: str) -> None:
        """Put both names into one component; its name is the smaller one."""
        a, b = sorted((self.find(first), self.find(second)))
        self.parent[b] = a


# ---- files ------------------------------------------------------------------------------------------


def data_folder() -> Path:
    """Where data sets lie: `M2L_DATA`.

    Raises:
        DataNotFoundError: the variable is not set.
    """
    value = os.environ.get("M2L_DATA")
    if not value:
        raise DataNotFoundError("M2L_DATA is not set; it names the folder that holds the data sets")
    return Path(value).expanduser()


def find_folder(names: Sequence[str], root: str | Path | None, source: str) -> Path:
    """`root`, or the first of `names` that is a folder under `M2L_DATA` or where `m2l-bench fetch` puts data.

    Raises:
        DataNotFoundError: none is there; the message says what was looked for and where the data comes from.
    """
    if root is not None:
        candidates = [Path(root)]
    else:
        candidates = [fetched_root() / name for name in names]
        if os.environ.get("M2L_DATA") or not any(folder.is_dir() for folder in candidates):
            candidates = [data_folder() / name for name in names] + candidates
    for folder in candidates:
        if folder.is_dir():
            return folder
    looked = " or ".join(str(folder) for folder in candidates)
    raise DataNotFoundError(f"no folder {looked}; the data is published at {source}")


def find_file(name: str, folders: Sequence[Path], source: str) -> Path:
    """The first `folder/name` that is there.

    Raises:
        DataNotFoundError: as `find_folder`.
    """
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(str(folder) for folder in folders)
    raise DataNotFoundError(f"no file {name} in {looked}; it is published at {source}")


class FilesMissingError(DataNotFoundError):
    """Some files of a data set are not there; `missing` names all of them."""

    def __init__(self, message: str, missing: Sequence[Path]) -> None:
        super().__init__(message)
        self.missing = tuple(missing)


def require_files(paths: Sequence[Path], what: str, source: str) -> None:
    """Raise a FilesMissingError that counts the files that are not there, names the first and holds all."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FilesMissingError(
            f"{len(missing)} of {len(paths)} {what} are missing, the first is {missing[0]}; "
            f"the data is published at {source}; `m2l-bench fetch verify` names every missing or wrong file",
            missing,
        )


@dataclass(frozen=True)
class ChecksumLoader:
    """Reads a whole audio file, after comparing its MD5 with the published one (where there is one)."""

    path: str
    md5: str | None = None

    def __call__(self) -> tuple[np.ndarray, int]:
        """Samples (channels, samples) and their rate.

        Raises:
            FileNotFoundError: no such file.
            ClipError: wrong checksum, or not decodable.
        """
        path = Path(self.path)
        if self.md5 is not None:
            found = file_digest(path, "md5")
            if found != self.md5:
                raise ClipError(f"{path}: MD5 is {found}, published is {self.md5}: damaged, or another version")
        return read_excerpt(path)


def audio_clip(
    clip_id: str,
    dataset: str,
    path: Path,
    *,
    md5: str | None,
    labels: Mapping[str, Any],
    license: str,
    seconds: float | None = None,
) -> Clip:
    """A clip of an audio file. Its digest is the published MD5, else the file's own sha256.

    `seconds` is its length as the data set publishes it; estimates use it.
    """
    digest = f"md5:{md5}" if md5 is not None else (file_sha256(path) if path.is_file() else "")
    return Clip(
        id=clip_id,
        dataset=dataset,
        digest=digest,
        labels=dict(labels),
        source=path.name,
        loader=ChecksumLoader(str(path), md5),
        license=license,
        seconds=seconds,
    )
