"""Your own task: a folder of audio and a table that says what is to be told of each file.

    file,label,group,split
    rock/one.wav,rock,Some Artist,train

`m2l-bench probe run --task folder:PATH --representation mel` takes a table `labels.csv` in the folder, or the table
that PATH is: CSV, tab-separated or parquet. A column `label` holds classes, `tags` several of them divided by
semicolons, `key` a musical key ("C minor"), `value` a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets.base import DataNotFoundError
from probes.metrics import KEYS
from probes.tasks.base import (
    Clusters,
    Split,
    TaskData,
    TaskDataError,
    TaskInfo,
    audio_clip,
    grouped_folds,
    k_fold_splits,
    require_files,
)
from probes.tasks.label_tables import SUFFIXES, check_columns, key_name, read_table

#: Column of labels -> kind of the task, of the first of these columns that the table has.
KINDS = {"label": "multiclass", "tags": "multilabel", "key": "key", "value": "regression"}
#: Names of a split's parts in the column `split`.
PARTS = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "test": 2}
#: Folds of a regression are dealt out over as many ranges of its first value.
_RANGES = 5


class FolderTask:
    """Classification, tags, keys or regression on the files of a folder.

    Args:
        path: the folder, or the table in it.
        table: the table, relative to the folder.
        kind: "multiclass", "multilabel", "key" or "regression"; by default what the column of labels says.
        label: the column of labels; several for a regression on several values.
        group: column of what is not independent: intervals count groups, folds keep them whole. Without the column
            every file is on its own.
        split: column with train, valid or test. Without it there are folds.
        folds: how many, where there is no column of splits: mir_ref-1 takes the first rotation, strict-1 all.
        name: what results call the task; the folder's name by default.
        license, citation: shown beside the results.
        batch_size: items per training step.

    Rows without a label are left out. `info` has no labels where the table cannot be read; `load` says why.
    """

    #: Whether a split that divides groups has folds beside it, which keep them whole.
    strict_folds = False

    def __init__(
        self,
        path: str | Path = "",
        *,
        table: str = "labels.csv",
        kind: str = "",
        label: str | Sequence[str] = "",
        group: str = "group",
        split: str = "split",
        folds: int = 5,
        name: str = "",
        license: str = "unknown",
        citation: str = "",
        batch_size: int = 64,
    ) -> None:
        self.path = Path(path).expanduser() if path else None
        if self.path is not None and self.path.suffix.lower() in SUFFIXES:
            self.path, table = self.path.parent, self.path.name
        self.table, self.group, self.split, self.folds = table, group, split, folds
        self._label, self._kind = [label] if isinstance(label, str) else list(label), kind
        self._about = (name, license, citation, batch_size)

    @cached_property
    def info(self) -> TaskInfo:
        """Name, kind and labels, as far as the table can be read."""
        name, license, citation, batch_size = self._about
        title = self.path.resolve().name if self.path is not None else "folder"
        try:
            labels, kind = self._labels(), self.kind
        except (DataNotFoundError, TaskDataError):
            labels, kind = (), self._kind or "multiclass"
        return TaskInfo(
            name or title, "1", title, kind, labels, title, license, citation, str(self.path or ""), batch_size
        )

    def load(self) -> TaskData:
        """Bind the table's rows to files, and divide them.

        Raises:
            DataNotFoundError: the folder, the table or some of the files are missing.
            TaskDataError: a column is missing, a cell is not what it must be, or the split is none.
        """
        labels, rows = self._labels(), self._rows
        paths = [self._folder / row["file"] for row in rows]
        require_files(paths, "audio files", self.info.source)
        ids = [row["file"] for row in rows]
        clips = [
            audio_clip(name, self.info.dataset, path, md5=None, labels=self._own(row), license=self.info.license)
            for name, path, row in zip(ids, paths, rows, strict=True)
        ]
        targets = self._targets(labels)
        groups = {row["file"]: row[self.group] for row in rows if row.get(self.group)}
        whole = {name: groups.get(name, name) for name in ids}
        notes: tuple[str, ...] = ()
        if self.split in self._columns:
            divided = self._divide(ids)
            schemes: dict[str, Sequence[Split]] = {"mir_ref": [divided]}
            if {whole[i] for i in divided.train} & {whole[i] for i in divided.test}:
                notes = ("the split divides groups: there is no strict one",)
                if self.strict_folds:
                    notes = ("the split divides groups: the strict scheme has folds that keep them whole",)
                    schemes["strict"] = self._rotations(ids, targets, whole)
            else:
                schemes["strict"] = [divided]
        else:
            rotations = self._rotations(ids, targets, whole)
            schemes = {"mir_ref": rotations[:1], "strict": rotations}
        clusters = Clusters(groups, "files", f"{self.group}s")
        data = TaskData(self.info, clips, targets, schemes, whole, notes, clusters)
        data.check()
        return data

    def _rotations(self, ids: Sequence[str], targets: np.ndarray, groups: Mapping[str, str]) -> list[Split]:
        return k_fold_splits(grouped_folds(ids, self._strata(targets), groups, self.folds), "fold")

    @property
    def kind(self) -> str:
        """What is told of a file.

        Raises:
            TaskDataError: no such kind.
        """
        kind = self._kind or KINDS.get(self._names[0], "multiclass")
        if kind not in KINDS.values():
            raise TaskDataError(f"kind {kind!r}; known: {', '.join(KINDS.values())}")
        return kind

    @property
    def _folder(self) -> Path:
        if self.path is None:
            raise DataNotFoundError("no folder: name it as folder:PATH, or by the task's option path")
        return self.path

    @property
    def _file(self) -> Path:
        return self._folder / self.table

    @cached_property
    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Columns and rows of the table."""
        return read_table(self._file)

    @property
    def _columns(self) -> list[str]:
        return self._read[0]

    @cached_property
    def _names(self) -> list[str]:
        """The columns of labels."""
        names = self._label if self._label != [""] else [name for name in KINDS if name in self._columns][:1]
        check_columns(self._file, self._columns, ["file", *names])
        if not names:
            raise TaskDataError(f"{self._file}: no column of labels, such as {', '.join(KINDS)}")
        return names

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        """The rows that have labels."""
        names = self._names
        rows = [row for row in self._read[1] if all(row[name] for name in names)]
        if not rows:
            raise TaskDataError(f"{self._file} has no row with {', '.join(names)}")
        return rows

    def _own(self, row: Mapping[str, str]) -> dict[str, Any]:
        return {name: row[name] for name in self._names}

    def _labels(self) -> tuple[str, ...]:
        """Names of the classes or tags in alphabetical order, or of the values."""
        if self.kind == "regression":
            return tuple(self._names)
        if self.kind == "key":
            return KEYS
        return tuple(sorted({label for row in self._rows for label in self._told(row)}))

    def _told(self, row: Mapping[str, str]) -> list[str]:
        """A row's class as a list, or its tags."""
        cells = [row[name] for name in self._names]
        if self.kind == "multiclass":
            return [" ".join(cells)]
        if self.kind == "key":
            return [key_name(cells[0], f"{self._file}: {row['file']}")]
        return [tag.strip() for cell in cells for tag in cell.split(";") if tag.strip()]

    def _targets(self, labels: Sequence[str]) -> np.ndarray:
        if self.kind == "regression":
            return np.array([[self._number(row, name) for name in labels] for row in self._rows])
        column = {label: number for number, label in enumerate(labels)}
        if self.kind in ("multiclass", "key"):
            return np.array([column[self._told(row)[0]] for row in self._rows], dtype=np.int64)
        targets = np.zeros((len(self._rows), len(labels)), dtype=np.int64)
        for number, row in enumerate(self._rows):
            targets[number, [column[tag] for tag in self._told(row)]] = 1
        return targets

    def _number(self, row: Mapping[str, str], name: str) -> float:
        try:
            value = float(row[name])
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise TaskDataError(f"{self._file}: {row['file']}: {name} is {row[name]!r}, not a number")
        return value

    def _divide(self, ids: Sequence[str]) -> Split:
        parts: tuple[list[str], ...] = ([], [], [])
        for name, row in zip(ids, self._rows, strict=True):
            word = (row[self.split] or "").strip().lower()
            if word not in PARTS:
                raise TaskDataError(f"{self._file}: {name}: split {row[self.split]!r}; known: {', '.join(PARTS)}")
            parts[PARTS[word]].append(name)
        return Split("split", *(tuple(part) for part in parts))

    def _strata(self, targets: np.ndarray) -> np.ndarray:
        """(n,) what folds spread evenly: classes, ranges of the first value, nothing of tags."""
        if self.kind in ("multiclass", "key"):
            return targets
        if self.kind == "multilabel":
            return np.zeros(len(targets), dtype=int)
        ranges = np.quantile(targets[:, 0], np.arange(1, _RANGES) / _RANGES)
        return np.searchsorted(ranges, targets[:, 0])
