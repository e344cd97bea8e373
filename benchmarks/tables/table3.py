"""Table 3: the ablation of frequency-wise attention and adaptive frequency scaling."""

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
    """Measure the ablation's checkpoints and return Table 3.

    Raises:
        SuiteError: the suite has no [table3], or names an unknown metric.
    """
    section = suite.table3
    if section is None:
        raise SuiteError(f"suite {suite.name!r} has no [table3]")
    titles = {system: title for title, system in section.rows.items()}
    planner = Planner(suite, options, n_clips=section.clips)
    measured = measure(planner, store, executor, [(name, None) for name in titles], section.metrics)
    columns = metric_columns(section.metrics)
    rows = []
    for row in measured.rows:
        facts = measured.facts.get(row.label, {})
        cells = {name: measured.cells[row.label, name] for name in section.metrics}
        rows.append(
            Row(
                row.label, cells | cost_cells(row, facts), title=titles[row.name], facts=row_facts(row, facts)
            )
        )
    table = TableResult(
        name="table3",
        title=f"Table 3. Ablation ({suite.title or suite.name}, {measured.n_clips} clips)",
        suite=suite.name,
        columns=[*columns, COST_COLUMNS[0]],
        rows=rows,
        published=published_rows("table3"),
        published_columns=PUBLISHED_COLUMNS["table3"],
        notes=notes(suite, measured),
        comparisons=measured.comparisons,
        scores=measured.scores,
        draws=measured.draws,
        provenance=provenance(suite, measured),
    )
    return table, measured.report
