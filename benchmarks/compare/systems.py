"""New systems beside a suite's baselines: rows, differences from each baseline, the best of each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.autoencoders.names import label_of
from benchmarks.autoencoders.own.external import External
from benchmarks.compare.result import NO_VALUE, Comparison
from benchmarks.evaluation.cells import Row
from benchmarks.evaluation.left_out import partial_rows
from benchmarks.evaluation.measure import Measured, measure
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.base import Executor
from benchmarks.metrics.base import Metric
from benchmarks.statistics.multiple import Compared, compare_corpora, compare_scores
from benchmarks.store.own_code import split_label
from benchmarks.store.store import CorruptEntryError, Store
from benchmarks.suite import SuiteError, parse_columns
from benchmarks.tables.best import verdict_lines
from benchmarks.tables.columns import (
    COST_COLUMNS,
    cost_cells,
    metric_columns,
    notes,
    provenance,
    row_metadata,
    units_of,
)
from benchmarks.tables.table import TableResult


def compare(
    planner: Planner,
    store: Store,
    executor: Executor,
    new: Sequence[str],
    *,
    baselines: Sequence[str] | None = None,
    metrics: Sequence[str | Metric] | None = None,
    system_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Comparison:
    """Measure what the store lacks, and compare new systems with baselines.

    Args:
        planner: the suite's clips and keys.
        store: holds the results of work units.
        executor: execution back end for missing units.
        new: systems to compare, by name (see `create_autoencoder`).
        baselines: systems to compare with; default those of the suite's Table 2.
        metrics: columns; default those of the suite's Table 2.
        system_options: options by name or label, over those of the suite.

    Raises:
        SuiteError: the suite has no [table2], or two rows have one label.
        UnknownNameError: no such system or metric.
        UserCodeError: a user's class is broken; nothing is measured then.
        FileNotFoundError: none of the new systems is available.
    """
    section = planner.suite.table2
    if section is None:
        raise SuiteError(f"suite {planner.suite.name!r} has no [table2] to compare with")
    # What is asked for: rows of baselines and of new systems, their options, and columns.
    new = list(dict.fromkeys(new))
    base = [name for name in (section.systems if baselines is None else baselines) if name not in new]
    names = [*base, *new]
    _check_labels(names)
    metrics = section.metrics if metrics is None else parse_columns(metrics)
    options = dict(section.system_options)
    for name in names:
        given = (system_options or {}).get(name) or (system_options or {}).get(label_of(name))
        if given:
            options[name] = {**options.get(name, {}), **given}
    # Cells of all rows; a broken class of the user's stops here.
    wanted = [(name, None) for name in names]
    planner.options.refuse_broken = True
    measured = measure(planner, store, executor, wanted, metrics, options, needed=new)
    # Differences of every new system from every baseline.
    found = _Differences(planner, store, measured, metrics)
    own, others = ([label_of(name) for name in part] for part in (new, base))
    keys = [metric.name for metric in metrics]
    against = {
        (name, key): found.of(name, others, key)
        for name in own
        for key in keys
        if measured.cells[name, key].value is not None
    }
    # The table, with those columns of costs that say something.
    rows = _rows(measured, keys, own)
    columns = metric_columns(metrics, measured.cells)
    costs = [c for c in COST_COLUMNS if any(row.cells[c.key].value is not None for row in rows)]
    table = TableResult(
        name="compare",
        title=f"{', '.join(own)} beside {planner.suite.title or planner.suite.name}, {measured.description}",
        suite=planner.suite.name,
        columns=[*columns, *costs],
        rows=rows,
        notes=notes(planner.suite, measured)[:1],
        comparisons=measured.comparisons,
        scores=measured.scores,
        groups=measured.groups,
        provenance=provenance(planner.suite, measured),
    )
    lines = verdict_lines(table, planner.suite.statistics.level)
    table = replace(table, notes=[*table.notes, *lines])
    return Comparison(table, own, against, measured.report, units_of(measured), _warnings(planner, new, options))


def _check_labels(names: Sequence[str]) -> None:
    labels = [label_of(name) for name in names]
    for label in labels:
        if labels.count(label) > 1:
            twice = [name for name, other in zip(names, labels, strict=True) if other == label]
            raise SuiteError(f"rows {' and '.join(map(repr, twice))} are both called {label!r}; use LABEL=NAME")


def _rows(measured: Measured, keys: Sequence[str], own: Sequence[str]) -> list[Row]:
    rows = []
    for row in measured.rows:
        metadata = measured.metadata.get(row.label, {})
        cells = {key: measured.cells[row.label, key] for key in keys} | cost_cells(row, metadata)
        title = f"**{row.label}**" if row.label in own else ""
        rows.append(Row(row.label, cells, title=title, metadata=row_metadata(row, metadata)))
    return rows


class _Differences:
    """Differences of a row from others, read from the aggregates of a run."""

    def __init__(self, planner: Planner, store: Store, measured: Measured, metrics: Sequence[Metric]) -> None:
        self.planner, self.store, self.measured = planner, store, measured
        self.metrics = {metric.name: metric for metric in metrics}
        self.rows = {row.label: row for row in measured.rows}
        self._meta: dict[tuple[str, str], dict[str, Any] | None] = {}

    def of(self, name: str, others: Sequence[str], metric: str) -> list[Compared]:
        """`name` against each of `others`; those without a value, or on a part of the clips, say so."""
        suite = self.planner.suite
        own = self.meta(name, metric)
        metas = {other: self.meta(other, metric) for other in others}
        there = {other: meta for other, meta in metas.items() if meta is not None}
        absent = {other: Compared(other, reason=NO_VALUE) for other in others if other not in there}
        if own is None:
            return [Compared(other, reason=f"{name} has no value") for other in others]
        # A mean over the clips that a row managed says nothing beside one over all of them.
        partial = self.partial(metric)
        why = {row: f"{row} was measured on {partial[row]}" for row in (name, *others) if row in partial}
        absent |= {row: Compared(row, reason=why.get(name, why.get(row))) for row in there if name in why or row in why}
        there = {row: meta for row, meta in there.items() if row not in absent}
        if "values" in own:
            values = {other: meta["values"] for other, meta in there.items()}
            statistics = suite.statistics
            records = compare_scores(
                own["values"],
                values,
                self.planner.groups,
                resamples=statistics.resamples,
                seed=suite.seed,
                level=statistics.level,
            )
            # A few clips with one far from the others allow any difference; the metric's own range does not.
            low, high = self.metrics[metric].limits
            span = high - low
            records = [replace(r, low=max(r.low, -span), high=min(r.high, span)) for r in records]
        else:
            records = compare_corpora(own, there, level=suite.statistics.level)
        found = {record.against: record for record in records} | absent
        return [found[other] for other in others]

    def partial(self, metric: str) -> dict[str, str]:
        """Rows measured on fewer clips than others -> "8 of 20 clips"."""
        return partial_rows({name: cell for (name, key), cell in self.measured.cells.items() if key == metric})

    def meta(self, name: str, metric: str) -> dict[str, Any] | None:
        """The aggregate behind a cell; None where there is no value."""
        if (name, metric) not in self._meta:
            self._meta[name, metric] = self._read(name, metric)
        return self._meta[name, metric]

    def _read(self, name: str, metric: str) -> dict[str, Any] | None:
        if self.measured.cells[name, metric].value is None:
            return None
        unit = self.planner.cell(self.rows[name], self.metrics[metric]).unit
        try:
            return self.store.get(unit.key).meta if unit is not None else None
        except (KeyError, CorruptEntryError):
            return None


def _warnings(planner: Planner, names: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Warnings about files of external systems that belong to no clip: a misspelled name loses a clip silently."""
    lines = []
    for name in names:
        kind, _, path = split_label(name)[1].partition(":")
        if kind != "external":
            continue
        try:
            system = External(path, **options.get(name, {}))
        except FileNotFoundError:
            continue  # the table shows the reason
        strays = system.matches(planner.all_clip_ids).strays
        if system.files.left_out:
            lines.append(f"{label_of(name)}: left out {system.files}")
        if strays:
            lines.append(f"{label_of(name)}: {len(strays)} files belong to no clip, the first is {strays[0]}")
    return lines
