"""The gate: is a run worse than the pinned one, beyond tolerance and beyond chance?

Every pinned cell (metric x system) is compared clip by clip with the same clips of the current run:

  scores of pairs   the mean difference, and what it is without each group of clips in turn
  corpus distances  replicate k of both runs leaves out the same groups, so their difference is a paired
                    replicate; taken of log(distance + tolerance), since a distance is a sum of squares: a fault
                    in half of the clips makes it many times larger and as much more uncertain

Clips of a group (a track) share their faults, so that groups are what is counted, not clips. The standard error
of the change comes from a jackknife over groups, its one-sided p-value from Student's t (see
`benchmarks.gate.evidence`): Holm's correction needs p-values far below what resampling can tell. With equal runs
the differences of groups are symmetric about 0, where the t test is exact or conservative. Holm's step-down
correction over all cells bounds the probability of any false "worse" by `alpha`; the tolerance lowers it further.

What can be caught depends on the number of groups. By simulation (16 cells; a decoder that draws fresh noise of 0.3 dB
in each run; a drop of SI-SDR that varies by 0.3 dB; noise and drop correlated by 0.8 within a group), a drop of

  0.5 dB on 48 clips, each its own group, is caught in 100 % of trials
  0.5 / 1 dB on 42 clips of 18 tracks (of 1 to 4 clips), in 27 / 99 %
  1 / 2 dB on 42 clips of 11 artists (of 1 to 9), in 53 / 99 %

and with one group that holds half of all clips hardly any is. One group alone tells nothing of chance: it is judged by
its tolerance, as a single clip is. A report states the same for the spread that it saw.

Table 3 is judged as Table 2 is. A point of Figure 2 and a probe of Table 1 are judged by their tolerance
alone: the one has no scores of clips in its file, the other has the spread over seeds in its tolerance.

The numbers must come from the same clips: a cell, metric, system or clip that is gone is "missing", never
"same". Nothing here loads a model or torch.

The test asks whether other clips would show the change too; that is what a noisy system needs. A system
that gives the same bits on every run needs less: what its pinned clips lost, it lost. `strict` counts every
change beyond its tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.gate.evidence import Evidence, evidence_of
from benchmarks.gate.policy import ALPHA, family_of, metric_of, spread_tolerance
from benchmarks.gate.record import OTHERS, TABLE, CellRecord, Record
from benchmarks.metrics.base import Metric
from benchmarks.statistics.intervals import t_p_value
from benchmarks.statistics.significance import holm, minimum_detectable, power_of
from benchmarks.store.processor import describe, same_processor

#: The change whose chance of being caught a report states, in tolerances: 0.5 dB of SI-SDR.
SAMPLE = 5.0

WORSE, MISSING, BETTER, SAME = "worse", "missing", "better", "same"
VERDICTS = (WORSE, MISSING, BETTER, SAME)


@dataclass(frozen=True)
class Verdict:
    """The verdict on one pinned cell.

    Attributes:
        metric, system: the cell.
        title, digits: how the metric is shown.
        higher_is_better: direction.
        verdict: one of `VERDICTS`.
        baseline, current: values as the tables give them.
        n, n_groups: clips compared, and the groups that they form.
        change: current - baseline over the clips both have, on the metric's clamped scale.
        low, high: its 95 % interval.
        tolerance: what is let through.
        detectable: smallest change that would be caught with probability `POWER`, given the spread of the
            differences seen between groups; NaN where nothing was compared.
        sample_change, power: a change of `SAMPLE` tolerances, and the probability that it would be caught.
        p: one-sided p-value of the change in the bad direction after Holm's correction.
        clips: (clip, its change), or (group, its pull on a corpus distance), worst first.
        collapsed: clips that lost more than the metric's limit for one clip.
        reason: why it is missing, or a remark.
        table: the table or figure it stands in.
        floor: scores of clips below count as this value.
    """

    metric: str
    system: str
    title: str
    digits: int
    higher_is_better: bool
    verdict: str
    baseline: float
    current: float | None = None
    n: int = 0
    n_groups: int = 0
    change: float = math.nan
    low: float = math.nan
    high: float = math.nan
    tolerance: float = math.nan
    detectable: float = math.nan
    sample_change: float = math.nan
    power: float = math.nan
    p: float = math.nan
    clips: tuple[tuple[str, float], ...] = ()
    collapsed: tuple[str, ...] = ()
    reason: str = ""
    table: str = TABLE
    floor: float = -math.inf

    @property
    def harm(self) -> float:
        """The change with its sign turned so that more is worse."""
        return -self.change if self.higher_is_better else self.change


@dataclass(frozen=True)
class GateReport:
    """Verdicts of all pinned cells, in the order of the tables.

    Attributes:
        unpinned: (metric, system) measured now and not pinned.
        notes: differences between the two runs that may explain a verdict.
        alpha, strict: as given to `compare`.
    """

    suite: str
    verdicts: tuple[Verdict, ...]
    unpinned: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    alpha: float = ALPHA
    strict: bool = False

    def of(self, verdict: str) -> list[Verdict]:
        """The cells with one verdict."""
        return [item for item in self.verdicts if item.verdict == verdict]

    @property
    def counts(self) -> dict[str, int]:
        """Number of cells by verdict."""
        return {name: len(self.of(name)) for name in VERDICTS}


def compare(
    baseline: Record,
    current: Record,
    *,
    tolerances: Mapping[str, float] | None = None,
    alpha: float = ALPHA,
    strict: bool = False,
    only: Collection[str] | None = None,
    metrics: Mapping[str, Metric] | None = None,
) -> GateReport:
    """Judge every pinned cell.

    Args:
        baseline: what was pinned.
        current: the run under test.
        tolerances: absolute tolerances that replace those pinned with the baseline and the defaults.
        alpha: bound on the probability of any false "worse".
        strict: count changes beyond their tolerance whatever their p-value.
        only: tables to judge ("table1", ...); None for all that are pinned.
        metrics: those of the suite by name; a user's own metric is known from here alone.

    Raises:
        ValueError: `alpha` is not between 0 and 0.5, or the baseline is of another suite.
        PolicyError: a metric of both runs is unknown.
    """
    if not 0.0 < alpha < 0.5:
        raise ValueError(f"alpha={alpha}: must be between 0 and 0.5")
    if baseline.suite != current.suite:
        raise ValueError(f"the baseline is of suite {baseline.suite!r}, the results of {current.suite!r}")
    limits = {**baseline.tolerances, **(tolerances or {})}
    drafts: list[Verdict] = []
    found: list[Evidence | None] = []
    unpinned: list[tuple[str, str]] = []
    notes: list[str] = []
    measured = current.tables
    for table, pinned in baseline.tables.items():
        if only is not None and table not in only:
            continue
        now = measured.get(table, replace(current, metrics={}, systems={}, cells={}, others={}))
        for metric, system in pinned.measured:
            draft, evidence = _draft(table, pinned, now, metric, system, limits, metrics)
            drafts.append(draft)
            found.append(evidence)
        known = set(pinned.measured)
        unpinned += [item for item in now.measured if item not in known]
        notes += [note for note in _notes(pinned, now) if note not in notes]
    for table in measured:
        if table not in baseline.tables and (only is None or table in only):
            notes.append(f"{OTHERS[table]} is not pinned")
    verdicts = _judge(drafts, found, alpha, strict)
    return GateReport(current.suite, tuple(verdicts), tuple(unpinned), tuple(notes), alpha, strict)


def _draft(
    table: str,
    baseline: Record,
    current: Record,
    metric: str,
    system: str,
    limits: Mapping[str, float],
    known: Mapping[str, Metric] | None,
) -> tuple[Verdict, Evidence | None]:
    """A cell before it is judged beside the others, and what its clips or seeds say."""
    policy = metric_of(metric, limits, known, measured=metric in current.metrics)
    elsewhere = not same_processor(baseline.about.get("processor"), current.about.get("processor"))
    pinned = baseline.cells[metric][system]
    assert pinned.value is not None
    start = policy.clamp(pinned.value)
    tolerance = policy.allowed_change(start, elsewhere=elsewhere)
    cell, problem = _find(baseline, current, metric, system)
    if pinned.seeds and not {metric, family_of(metric)} & limits.keys():  # no tolerance of the user's own
        others = cell.seeds if cell and elsewhere else ()
        tolerance = spread_tolerance(pinned.seeds, pinned.n, others)
    evidence = None
    if cell is not None:
        evidence, gap = evidence_of(pinned, cell, policy, tolerance, (baseline, current))
        problem = gap or problem
    metadata = baseline.metrics[metric]
    draft = Verdict(
        metric,
        system,
        str(metadata["title"]) if table == TABLE else f"{OTHERS[table]} {metadata['title']}",
        int(metadata["digits"]),
        policy.higher_is_better,
        MISSING if problem else SAME,
        pinned.value,
        cell.value if cell else None,
        tolerance=tolerance,
        reason=problem,
        table=table,
        floor=policy.gate_limits[0],
    )
    return (draft if evidence is None else _with_evidence(draft, evidence, policy)), evidence


def _find(baseline: Record, current: Record, metric: str, system: str) -> tuple[CellRecord | None, str]:
    """The current cell, and what stands in the way of comparing it."""
    if not current.metrics:
        return None, "the table is not among the results"
    if metric not in current.metrics:
        return None, "the results have no such metric"
    if system not in current.systems:
        return None, "the results have no such system"
    cell = current.cell(metric, system)
    if cell is None or cell.value is None:
        return None, f"not measured: {cell.reason or 'no value' if cell else 'no cell'}"
    data = [record.metrics[metric].get("data") for record in (baseline, current)]
    if baseline.clips_sha256 != current.clips_sha256 or data[0] != data[1]:
        return cell, "the audio of the suite is not the pinned one (other clips or other contents)"
    return cell, ""


def _with_evidence(draft: Verdict, evidence: Evidence, policy: Metric) -> Verdict:
    sign = -1.0 if policy.higher_is_better else 1.0
    collapsed: tuple[str, ...] = ()
    if policy.collapse is not None:
        collapsed = tuple(clip for clip, shift in evidence.clips if sign * shift > policy.collapse)
    return replace(
        draft,
        n=evidence.n,
        n_groups=evidence.n_groups,
        change=evidence.change,
        low=evidence.low,
        high=evidence.high,
        clips=evidence.clips,
        collapsed=collapsed,
    )


def _judge(drafts: Sequence[Verdict], evidence: Sequence[Evidence | None], alpha: float, strict: bool) -> list[Verdict]:
    """Holm's correction over all cells that could be compared, then a verdict for each."""
    tested = [(i, item) for i, item in enumerate(evidence) if item is not None]
    signs = [-1.0 if drafts[i].higher_is_better else 1.0 for i, _ in tested]
    harms = [sign * item.effect for sign, (_, item) in zip(signs, tested, strict=True)]
    worse = _adjusted([(harm, item) for harm, (_, item) in zip(harms, tested, strict=True)])
    better = _adjusted([(-harm, item) for harm, (_, item) in zip(harms, tested, strict=True)])
    family = sum(not math.isnan(item.error) for _, item in tested)
    verdicts = list(drafts)
    for position, (i, item) in enumerate(tested):
        limit = item.on_scale(drafts[i].tolerance)
        detectable = item.from_scale(minimum_detectable(item.error, item.freedom, limit, family, alpha))
        sample = SAMPLE * drafts[i].tolerance
        power = power_of(item.on_scale(sample), item.error, item.freedom, limit, family, alpha)
        draft = replace(drafts[i], p=worse[position], detectable=detectable, sample_change=sample, power=power)
        if ((strict or draft.p < alpha) and draft.harm > draft.tolerance) or draft.collapsed:
            draft = replace(draft, verdict=WORSE)
        elif draft.verdict == SAME and -draft.harm > draft.tolerance and (strict or better[position] < alpha):
            draft = replace(draft, verdict=BETTER)
        elif draft.verdict == SAME and draft.harm > draft.tolerance:
            draft = replace(draft, reason="beyond the tolerance, but within chance")
        verdicts[i] = draft
    return verdicts


def _adjusted(found: Sequence[tuple[float, Evidence]]) -> list[float]:
    """P-values after Holm's correction; a cell without a standard error is judged by its tolerance, outside it."""
    values = [t_p_value(harm, item.error, item.freedom) for harm, item in found]
    inside = [i for i, (_, item) in enumerate(found) if not math.isnan(item.error)]
    for i, value in zip(inside, holm([values[i] for i in inside]), strict=True):
        values[i] = value
    return values


def _notes(baseline: Record, current: Record) -> list[str]:
    """What differs between the runs and may explain a verdict."""
    found = []
    processors = [record.about.get("processor") for record in (baseline, current)]
    if any(processors) and current.about and not same_processor(*processors):
        found.append(
            f"measured on {describe(processors[1])}, pinned on {describe(processors[0])}: "
            "a likely cause of small changes"
        )
    for name, metadata in baseline.systems.items():
        before, now = metadata.get("weights_sha256"), current.systems.get(name, {}).get("weights_sha256")
        if now and before != now:
            found.append(f"{name}: weights {str(before or 'none')[:12]} -> {str(now)[:12]}")
    changed = {
        clip
        for clip in baseline.groups.keys() | current.groups.keys()
        if baseline.groups.get(clip, clip) != current.groups.get(clip, clip)
    }
    if changed and current.metrics:
        found.append(f"{len(changed)} clips belong to other groups than pinned")
    before_libraries = dict(baseline.about.get("libraries", {}))
    for name, version in dict(current.about.get("libraries", {})).items():
        if before_libraries.get(name) != version:
            found.append(f"{name} {before_libraries.get(name, 'absent')} -> {version}")
    return found
