"""Progress of a suite over all jobs that share a store.

Every run leaves a small record beside the results (`runs/<suite>/<i>-of-<n>.json` in the store) and renews
it while it works. Finished units are counted in the store itself, so that jobs that died or never started
are seen as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.progress import Estimate, duration
from benchmarks.harness.run import RunOptions, missing_units, waves_of
from benchmarks.status.dry_run import plan_suite
from benchmarks.store.store import Store
from benchmarks.suite import load_suite
from benchmarks.tables.text import markdown_table

#: A running job is called silent after this many seconds without an update. A unit can take minutes, and only its end
#: updates the record.
SILENT = 900.0


@dataclass
class ShardStatus:
    """One share of the work.

    Attributes:
        index, count: which share of how many.
        total, left: units, and those of them that still have to run.
        left_seconds: CPU time of the rest, as far as rates are known.
        state: "finished", "running", "silent", "stopped", or "not started".
        record: what its last job left.
    """

    index: int
    count: int
    total: int = 0
    left: int = 0
    left_seconds: float = 0.0
    state: str = "not started"
    record: dict[str, Any] = field(default_factory=dict)


@dataclass
class SuiteStatus:
    """Progress of a suite in a store.

    Attributes:
        stages: stage -> (units, units left).
        shards: shares that jobs reported, or that were asked for.
        merging: units left that no share computes: the last `m2l-bench tables` does.
        reasons: what cannot be planned here.
    """

    suite: str
    store: str
    stages: dict[str, tuple[int, int]]
    shards: list[ShardStatus]
    merging: int = 0
    reasons: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Units that still have to run."""
        return sum(left for _, left in self.stages.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "suite": self.suite,
            "store": self.store,
            "stages": {name: {"units": u, "left": left} for name, (u, left) in self.stages.items()},
            "left": self.left,
            "merging": self.merging,
            "shards": [vars(shard) for shard in self.shards],
            "reasons": self.reasons,
        }


def examine(
    suite_name: str,
    store: Store,
    *,
    shards: int = 0,
    options: RunOptions | None = None,
    only: Sequence[str] | None = None,
    now: float | None = None,
) -> SuiteStatus:
    """Count what is done in a store, by stage and by share.

    Args:
        suite_name: suite, or TOML file.
        store: the shared store.
        shards: number of shares; 0 takes what the jobs' records say.
        options: limit and device of the run, as they are part of what is to be done.
        only: tables ("table1", ...); None for all of the suite.
        now: seconds since the epoch.

    Raises:
        SuiteError, UnknownNameError: the suite is wrong, or there is no such suite.
    """
    suite = load_suite(suite_name)
    plan = plan_suite(suite, options or RunOptions(), only or suite.tables, store)
    # Progress counts what can run; what is not available here has a stand-in.
    real = [unit for unit in plan.planned if not unit.stands_in]
    layers = waves_of(real)
    todo = missing_units(layers, {unit.key for unit in real}, store, "missing")
    left = {unit.key for layer in todo for unit in layer}
    stages: dict[str, tuple[int, int]] = {}
    for layer in layers:
        for unit in layer:
            units, missing = stages.get(unit.stage, (0, 0))
            stages[unit.stage] = (units + 1, missing + (unit.key in left))
    records = store.records(f"runs/{suite.name}")
    counts = [shards] if shards else sorted({int(r["shard"][1]) for r in records.values()} or {1})
    found = []
    merged = {"aggregate", "probe"}
    work = [unit for layer in layers for unit in layer if unit.stage not in merged]
    estimate = Estimate(store)
    for count in counts:
        shares = [ShardStatus(index, count) for index in range(count)]
        owner: dict[str, ShardStatus] = {}
        for unit in work:
            group = unit.group or unit.key
            if group not in owner:
                owner[group] = next(share for share in shares if unit.on_shard(share.index, count))
            share = owner[group]
            share.total += 1
            if unit.key in left:
                share.left += 1
                share.left_seconds += estimate.seconds(unit) or 0.0
        for share in shares:
            name = f"runs/{suite.name}/{share.index}-of-{count}.json"
            share.record = records.get(name, {})
            share.state = state_of(share.record, time.time() if now is None else now)
        found += shares
    reasons = [f"{n.kind} {n.name}: {n.text}" for n in plan.needs.values() if not n.present]
    merging = sum(unit.key in left for layer in layers for unit in layer if unit.stage in merged)
    return SuiteStatus(suite.name, store.location, stages, found, merging, reasons)


def state_of(record: Mapping[str, Any], now: float) -> str:
    """What a job's record says about it."""
    if not record:
        return "not started"
    if record.get("state") == "running" and now - float(record.get("updated", 0)) > SILENT:
        return "silent"
    return str(record.get("state"))


def describe(found: SuiteStatus, now: float | None = None, given: str = "") -> str:
    """The report for people; `given` are the options that name suite and store, as they were typed."""
    now = time.time() if now is None else now
    total = sum(units for units, _ in found.stages.values())
    lines = [f"suite {found.suite}, store {found.store}: {total - found.left} of {total} units done", ""]
    if found.stages:
        rows = [
            [name, f"{units}", f"{units - left}", f"{100 * (units - left) / units:.0f} %"]
            for name, (units, left) in sorted(found.stages.items())
        ]
        lines += [markdown_table(["stage", "units", "done", ""], rows), ""]
    rows = []
    for shard in found.shards:
        record = shard.record
        sign = f"{duration(max(0.0, now - record['updated']))} ago" if "updated" in record else "-"
        rows.append(
            [
                f"{shard.index}/{shard.count}",
                shard.state,
                f"{shard.total - shard.left}/{shard.total}",
                duration(shard.left_seconds) if shard.left_seconds else "-",
                str(record.get("host", "-")),
                sign,
                str(record.get("failed", "-")),
                str(record.get("last", "-")) or "-",
            ]
        )
    header = ["shard", "state", "done", "CPU left", "host", "last sign", "failed", "last unit"]
    lines.append(markdown_table(header, rows))
    errors = [error for shard in found.shards for error in shard.record.get("errors", ())]
    if errors:
        lines += ["", "failed:", *(f"  {error}" for error in dict.fromkeys(errors))]
    if found.merging:
        lines += [
            "",
            f"{found.merging} units come with the tables: m2l-bench tables {given or f'--suite {found.suite}'}",
        ]
    if found.reasons:
        lines += ["", "not counted, because it cannot run here:", *(f"  {text}" for text in found.reasons)]
    return "\n".join(lines)
