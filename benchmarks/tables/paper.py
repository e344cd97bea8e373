"""Tables 2 and 3 of the paper: reconstruction quality of every system, and the ablation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from benchmarks.evaluation.cells import Column, Row
from benchmarks.evaluation.measure import Measured, measure
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.base import Executor
from benchmarks.harness.run import RunOptions, RunReport
from benchmarks.metrics.base import Metric
from benchmarks.store.store import Store
from benchmarks.suite import Suite, SuiteError
from benchmarks.tables.best import verdict_lines
from benchmarks.tables.columns import (
    COST_COLUMNS,
    PUBLISHED_COLUMNS,
    cost_cells,
    metric_columns,
    notes,
    provenance,
    row_metadata,
)
from benchmarks.tables.reference import published_rows
from benchmarks.tables.table import TableResult


def build_table2(suite: Suite, store: Store, executor: Executor, options: RunOptions) -> tuple[TableResult, RunReport]:
    """Measure what is missing and return Table 2: the quality of every system, with what it costs.

    Raises:
        SuiteError: the suite has no [table2], or names an unknown system or metric.
    """
    section = suite.table2
    if section is None:
        raise SuiteError(f"suite {suite.name!r} has no [table2]")
    planner, given = Planner(suite, options), section.system_options
    measured = measure(planner, store, executor, section.wanted, section.metrics, given)
    return _table("table2", "Table 2. Reconstruction quality", suite, measured, section.metrics, COST_COLUMNS)


def build_table3(suite: Suite, store: Store, executor: Executor, options: RunOptions) -> tuple[TableResult, RunReport]:
    """Measure the ablation's checkpoints and return Table 3.

    Raises:
        SuiteError: the suite has no [table3], or names an unknown metric.
    """
    section = suite.table3
    if section is None:
        raise SuiteError(f"suite {suite.name!r} has no [table3]")
    titles = {system: title for title, system in section.rows.items()}
    wanted = [(name, None) for name in titles]
    measured = measure(Planner(suite, options, n_clips=section.clips), store, executor, wanted, section.metrics)
    return _table("table3", "Table 3. Ablation", suite, measured, section.metrics, COST_COLUMNS[:1], titles)


def _table(
    name: str,
    title: str,
    suite: Suite,
    measured: Measured,
    metrics: Sequence[Metric],
    costs: Sequence[Column],
    titles: Mapping[str, str] | None = None,
) -> tuple[TableResult, RunReport]:
    """A table of measured rows.

    Args:
        titles: headings of rows by system; default the systems' own labels.
    """
    rows = []
    for row in measured.rows:
        metadata = measured.metadata.get(row.label, {})
        cells = {metric.name: measured.cells[row.label, metric.name] for metric in metrics}
        heading = titles[row.name] if titles else ""
        rows.append(Row(row.label, cells | cost_cells(row, metadata), heading, row_metadata(row, metadata)))
    table = TableResult(
        name=name,
        title=f"{title} ({suite.title or suite.name}, {measured.description})",
        suite=suite.name,
        columns=[*metric_columns(metrics, measured.cells), *costs],
        rows=rows,
        published=published_rows(name) if suite.published else [],
        published_columns=PUBLISHED_COLUMNS[name],
        notes=notes(suite, measured),
        comparisons=measured.comparisons,
        scores=measured.scores,
        groups=measured.groups,
        replicates=measured.replicates,
        provenance=provenance(suite, measured),
    )
    lines = [*table.notes, *verdict_lines(table, suite.statistics.level)]
    return dataclasses.replace(table, notes=lines), measured.report
