"""Two folders (or two files) scored against each other: `m2l-bench score` and `benchmarks.score`.

It is a suite of one folder with one external system, so pairing, reasons, intervals and content keys are those of the
tables. A unit holds one pair: with one more file in both folders, one pair is measured. The audio itself leaves the
store again when its scores are in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.autoencoders.own.external import External
from benchmarks.errors import UsageError
from benchmarks.evaluation.cells import Cell
from benchmarks.evaluation.measure import measure
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.base import Executor
from benchmarks.harness.executors import make_executor
from benchmarks.harness.run import RunOptions, RunReport, run_units
from benchmarks.harness.units import Unit
from benchmarks.metrics.base import CorpusMetric, Metric, PairMetric
from benchmarks.metrics.frechet import frechet_distance, frechet_infinity
from benchmarks.metrics.kernel import kernel_distance
from benchmarks.metrics.registry import METRICS, declared_metric
from benchmarks.store.store import Store
from benchmarks.suite import Data, Suite, parse_columns

if TYPE_CHECKING:
    import pandas

#: Columns of the scores; a distance of corpora has no clip.
COLUMNS = ("clip", "metric", "value", "reason")
_ROW = "output"
_SECONDS_APART = 0.1

#: Distances between sets that need no pairs, of embeddings `(windows, dim)`.
_UNPAIRED: dict[str, Callable[[list[np.ndarray], list[np.ndarray]], float]] = {
    "fad": lambda a, b: float(frechet_distance(np.concatenate(a), np.concatenate(b))),
    "fad_inf": lambda a, b: float(frechet_infinity(a, b, paired=False, seed=0).value),
    "kad": lambda a, b: float(kernel_distance(np.concatenate(a), np.concatenate(b))),
}


@dataclass
class Scored:
    """What was measured.

    Attributes:
        metrics: the columns.
        cells: metric -> mean (or distance) with its interval, or the reason why there is none.
        scores: metric -> clip -> value.
        report: how the run went.
        description: how many clips there are, as in "42 clips of 7 folders".
        alone: files without a partner, of "reference" and "degraded".
    """

    metrics: list[Metric]
    cells: dict[str, Cell]
    scores: dict[str, dict[str, float]]
    report: RunReport
    description: str
    alone: dict[str, list[str]] = field(default_factory=dict)
    level: float = field(default=0.95)

    @property
    def measured(self) -> bool:
        """Whether there is any value."""
        return any(cell.value is not None for cell in self.cells.values())

    def rows(self) -> list[dict[str, Any]]:
        """The scores of clips with their reasons, and the distances of corpora, as `COLUMNS`."""
        found: list[dict[str, Any]] = []
        for metric in self.metrics:
            cell = self.cells[metric.name]
            if isinstance(metric, CorpusMetric):
                found.append({"clip": "", "metric": metric.name, "value": cell.value, "reason": cell.reason or ""})
                continue
            values = self.scores.get(metric.name, {})
            reasons = cell.details.get("failed_clips", {})
            for clip in sorted({*values, *reasons}):
                reason = "" if clip in values else reasons[clip]
                found.append({"clip": clip, "metric": metric.name, "value": values.get(clip), "reason": reason})
        return found

    def frame(self) -> pandas.DataFrame:
        """`rows` as a data frame; values are floats, NaN where there is a reason instead."""
        import pandas

        return pandas.DataFrame(self.rows(), columns=list(COLUMNS)).astype({"value": float})


def score(
    reference: str | Path,
    degraded: str | Path,
    metrics: Sequence[str | Metric] | None = None,
    *,
    unpaired: bool = False,
    workers: int | None = None,
    device: str = "cpu",
    store: str | Path | None = None,
    quiet: bool = True,
) -> pandas.DataFrame:
    """Score audio files against their originals.

    Args:
        reference: folder of originals, or one file. Files of one sub-folder count as a group for the intervals.
        degraded: folder of outputs under the same paths (the suffix may differ), or one file. Files at another rate
            are resampled, mono is repeated; a file whose length differs by more than 0.1 s has a reason for a score.
        metrics: names (`m2l-bench list metrics`) or metrics; default those of pairs that need no weights.
        unpaired: compare the folders as sets, for distances of corpora; their files need not correspond.
        workers: processes; default the CPUs that this process may use.
        device: device of embedders.
        store: folder of kept results; default in the cache.
        quiet: print no progress to stderr.

    Returns:
        One row per clip and metric: `clip`, `metric`, `value` (NaN where there is none), `reason`. A distance of
        corpora has one row without a clip. `frame.attrs["unpaired"]` lists the files of either side without a partner.

    Raises:
        FileNotFoundError: no such folder or file, or no audio in it.
        UnknownNameError, UsageError: no such metric, or one that needs pairs although `unpaired` is set.

    Example:
        >>> scores = benchmarks.score("originals", "decoded", ["si_sdr", "mel"])     # doctest: +SKIP
        >>> scores.groupby("metric")["value"].mean()                                 # doctest: +SKIP
    """
    options = RunOptions(device=device, quiet=quiet)
    with make_executor(workers=workers) as executor:
        found = score_folders(
            Path(reference), Path(degraded), metrics, options, Store(store), executor, unpaired=unpaired
        )
    frame = found.frame()
    frame.attrs["unpaired"] = found.alone
    return frame


def score_folders(
    reference: Path,
    degraded: Path,
    metrics: Sequence[str | Metric] | None,
    options: RunOptions,
    store: Store,
    executor: Executor,
    *,
    unpaired: bool = False,
) -> Scored:
    """As `score`, with what a command line knows beside it."""
    columns = parse_columns(default_metrics() if metrics is None else metrics)
    with _as_folders(reference.expanduser(), degraded.expanduser()) as (originals, outputs):
        if unpaired:
            return _score_sets(originals, outputs, columns, options, store, executor)
        planner = Planner(_suite_of(originals), options)
        name = f"{_ROW}=external:{outputs}"
        own = {name: {"resample": True, "tolerance": _SECONDS_APART}}
        found = measure(
            planner, store, executor, [(name, None)], columns, own, compare=False, metadata_too=False, needed=[name]
        )
        _drop_audio(store, [*planner.load_units, *found.rows[0].units])
        matches = External(str(outputs)).matches(planner.all_clip_ids)
        return Scored(
            columns,
            {metric.name: found.cells[_ROW, metric.name] for metric in columns},
            {metric: rows[_ROW] for metric, rows in found.scores.items()},
            found.report,
            planner.description,
            {"reference": sorted(matches.refused), "degraded": list(matches.strays)},
        )


def default_metrics() -> list[str]:
    """Names of the metrics of pairs that need neither weights nor further packages."""
    known = (declared_metric(name) for name in METRICS.names())
    return [metric.name for metric in known if isinstance(metric, PairMetric) and metric.alone]


def _score_sets(
    originals: Path, outputs: Path, columns: list[Metric], options: RunOptions, store: Store, executor: Executor
) -> Scored:
    """Distances between the folders as sets, without intervals: nothing pairs their groups."""
    known = [metric for metric in columns if isinstance(metric, CorpusMetric) and metric.distance in _UNPAIRED]
    if others := [metric.name for metric in columns if metric not in known]:
        raise UsageError(f"{', '.join(others)}: needs pairs; without them there are {', '.join(_UNPAIRED)}")
    planners = [Planner(_suite_of(folder), options) for folder in (originals, outputs)]
    for planner in planners:
        planner.store = store
    # Run: the embeddings of both folders, for every embedder that can be used.
    missing = {metric.name: reason for metric in known if (reason := metric.unavailable())}
    used = {metric.embedder for metric in known if metric.name not in missing}
    units = {name: [planner.embeddings(name) for planner in planners] for name in used}
    wanted = [unit for sides in units.values() for side in sides for unit in side]
    report = run_units(wanted, store, executor, options)
    # Read: the windows of the files that could be embedded.
    cells: dict[str, Cell] = {}
    for metric in known:
        if metric.name in missing:
            cells[metric.name] = Cell(reason=missing[metric.name])
            continue
        results = [
            [store.get(unit.key) for unit in side if unit.key not in report.failed] for side in units[metric.embedder]
        ]
        windows = [[array for result in side for array in result.arrays.values()] for side in results]
        for planner, side in zip(planners, results, strict=True):
            failed = [why for result in side for why in result.meta["failures"].values()]
            report.note_lost(planner.data_name, {why: failed.count(why) for why in failed})
        try:
            value = _UNPAIRED[metric.distance](*windows)
            cells[metric.name] = Cell(value=value, n=len(windows[1]))
        except (ValueError, ArithmeticError) as error:
            cells[metric.name] = Cell(reason=str(error).splitlines()[0])
    _drop_audio(store, [unit for planner in planners for unit in planner.load_units])
    description = " and ".join(planner.description for planner in planners)
    return Scored(list(known), cells, {}, report, description)


def _suite_of(folder: Path) -> Suite:
    """A suite of all audio in a folder; what can be measured is for the metrics to say."""
    options = {"path": str(folder), "group_folders": True, "group_name": "folder"}
    data = Data("folder", options=options, channels="native", min_seconds=0.0, min_sample_rate=0, unit_clips=1)
    return Suite("score", data)


@contextmanager
def _as_folders(reference: Path, degraded: Path) -> Iterator[tuple[Path, Path]]:
    """Two folders; two files become folders with a link to each, under one name.

    Raises:
        FileNotFoundError: one does not exist.
        UsageError: a file and a folder.
    """
    for path in (reference, degraded):
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
    if reference.is_dir() != degraded.is_dir():
        raise UsageError(f"{reference} and {degraded}: give two folders or two files")
    if reference.is_dir():
        yield reference, degraded
        return
    with tempfile.TemporaryDirectory() as place:
        folders = Path(place, "reference"), Path(place, "degraded")
        for folder, file in zip(folders, (reference, degraded), strict=True):
            folder.mkdir()
            (folder / f"{reference.stem}{file.suffix}").symlink_to(file.resolve())
        yield folders


def _drop_audio(store: Store, units: Sequence[Unit]) -> None:
    """Remove audio that has been measured: it lies in the folders."""
    for unit in units:
        store.delete(unit.key)


def summary(found: Scored) -> dict[str, Any]:
    """The means as plain values."""
    values: dict[str, Any] = {}
    for metric in found.metrics:
        cell = found.cells[metric.name]
        record = {name: getattr(cell, name) for name in ("value", "low", "high", "median", "n", "reason")}
        values[metric.name] = {name: value for name, value in record.items() if value is not None and value == value}
        values[metric.name] |= {"unit": metric.unit, "higher_is_better": metric.higher_is_better}
        if cell.failures:
            values[metric.name]["failures"] = dict(cell.failures)
    return {"clips": found.description, "level": found.level, "metrics": values, "unpaired": found.alone}
