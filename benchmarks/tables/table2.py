"""Table 2: reconstruction quality of every system, with what it costs."""

from __future__ import annotations

from benchmarks.evaluation.measure import (
    COST_COLUMNS,
    PUBLISHED_COLUMNS,
    cost_cells,
    measure,
    metric_columns,
    notes,
    provenance,
    row_facts,
)
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.executors import Executor
from benchmarks.harness.run import RunOptions, RunReport
from benchmarks.store.store import Store
from benchmarks.suite import Suite, SuiteError
from benchmarks.tables.reference import published_rows
from benchmarks.tables.table import Row, TableResult


def build(
    suite: Suite, store: Store, executor: Executor, options: RunOptions
) -> tuple[TableResult, RunReport]:
    """Measure what is missing and return Table 2.

    Raises:
        SuiteError: the suite has no [table2], or names an unknown system or metric.
    """
    section = suite.table2
    if section is None:
        raise SuiteError(f"suite {suite.name!r} has no [table2]")
    planner = Planner(suite, options)
    wanted = [(name, None) for name in section.systems]
    measured = measure(planner, store, executor, wanted, section.metrics, section.system_options)
    metrics = metric_columns(section.metrics)
    rows = [
        Row(
            row.label,
            {name: measured.cells[row.label, name] for name in section.metrics}
            | cost_cells(row, measured.facts.get(row.label, {})),
            facts=row_facts(row, measured.facts.get(row.label, {})),
        )
        for row in measured.rows
    ]
    table = TableResult(
        name="table2",
        title=f"Table 2. Reconstruction quality ({suite.title or suite.name}, {measured.n_clips} clips)",
        suite=suite.name,
        columns=[*metrics, *COST_COLUMNS],
        rows=rows,
        published=published_rows("table2"),
        published_columns=PUBLISHED_COLUMNS["table2"],
        notes=notes(suite, measured),
        comparisons=measured.comparisons,
        scores=measured.scores,
        draws=measured.draws,
        provenance=provenance(suite, measured),
    )
    return table, measured.report
