"""Which stored results current suites name, and removing all others."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness.run import Need, RunOptions
from benchmarks.status.dry_run import plan_suite, planned_keys, sorted_needs
from benchmarks.store.store import Pruned, Store
from benchmarks.suite import load_suite


def prune(
    suites: Sequence[str], store: Store, *, device: str = "cpu", dry_run: bool = False
) -> tuple[Pruned, list[Need]]:
    """Remove the results that no table of `suites` reads.

    Args:
        suites: names or TOML files.
        store: store to prune.
        device: device of the results that stay.
        dry_run: remove nothing, only count.

    Returns:
        What was removed, and what the suites need and this machine lacks: results of those have unknown keys, so they
        are removed.

    Raises:
        SuiteError, UnknownNameError: a suite does not exist, or names what does not exist.
    """
    options = RunOptions(device=device, dry_run=True, quiet=True)
    keep: set[str] = set()
    missing: dict[tuple[str, str], Need] = {}
    for suite in map(load_suite, suites):
        plan = plan_suite(suite, options, suite.tables, store)
        keep |= planned_keys(plan)
        missing |= {name: need for name, need in plan.needs.items() if not need.present}
    return store.prune(keep, dry_run=dry_run), sorted_needs(missing.values())
