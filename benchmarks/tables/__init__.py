"""Tables 2 and 3, Figure 2 and quality against rate, from measured cells to JSON, CSV, LaTeX and Markdown."""

from benchmarks.registry import Registry

#: Name -> builder `build(suite, store, executor, options) -> (TableResult, RunReport)`, imported when asked for.
TABLES = Registry("table", entry_point_group="m2l.tables")
TABLES.register("table1", "probes.table1:build")
TABLES.register("table2", "benchmarks.tables.paper:build_table2")
TABLES.register("table3", "benchmarks.tables.paper:build_table3")
TABLES.register("figure2", "benchmarks.tables.figure2:build")
TABLES.register("rate", "benchmarks.tables.rate:build")
