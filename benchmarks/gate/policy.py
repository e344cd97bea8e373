"""Which changes count for the gate: the tolerance and limits of each metric, and those of probes.

A tolerance has two jobs. It absorbs what another machine, thread count or library version does to the last
bits of a neural system (a re-run on the same machine gives the same bits), and it says what is too small to
matter. A change counts only when it is both beyond the tolerance and not explained by chance. Every metric
states its own (`benchmarks.metrics.base.Metric`).

A probe of Table 1 is trained, and training carries a last bit far: on another processor it ends like one with
another seed. Its tolerance therefore comes from the spread over seeds that was pinned with it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.metrics.base import Metric
from benchmarks.metrics.registry import METRICS, declared_metric
from m2l.names import did_you_mean

#: Bound on the probability, over all cells together, of calling a run worse that is not (Holm).
ALPHA = 0.002

#: What stands for every probe of Table 1 (columns TASK/METRIC, in points); see `spread_tolerance`.
PROBE = Metric(name="probe", title="probe", worst=0.0, best=100.0)
#: What stands for a pinned metric that the results do not have and nothing declares: its cell is missing.
_UNDECLARED = Metric(name="undeclared", title="undeclared")

#: Standard errors of the difference of two means over seeds that a probe's tolerance spans on one processor, where
#: only library versions can move a probe.
_SPREADS = 2.0
#: Chance that one probe's score falls by more than its tolerance because it was trained on another processor.
_ELSEWHERE = 0.0005
#: What Table 1 shows of a score, in points.
_LAST_DIGIT = 0.1


class PolicyError(ValueError):
    """A tolerance that cannot be used; the message names it."""


def spread_tolerance(seeds: Sequence[float], n: int, elsewhere: Sequence[float] = ()) -> float:
    """The change of a probe's mean score that other seeds would make as well, in points.

    On another processor some seeds end as other seeds would (of one probe, 17.9 became 26.6 and 20.4 stayed), so that
    the scores are two samples of one distribution: the tolerance is a quantile of Student's t times the pooled
    standard error of the difference of the two means, with as many degrees of freedom as both spreads have.

    Args:
        seeds: the score of each seed, in percent.
        n: test items. Seeds that agree by luck may differ by an item the next time: that is let through. 0 for
            a row that nothing is trained for: only what the table cannot show is.
        elsewhere: scores of the seeds on another processor; empty if all were measured on one.
    """
    if not n or not seeds:
        return _LAST_DIGIT
    spans = _SPREADS
    samples = [list(sample) for sample in (seeds, elsewhere) if len(sample) > 1]
    error = 0.0
    if samples:
        freedom = sum(len(sample) - 1 for sample in samples)
        spread = math.hypot(*(statistics.stdev(sample) * math.sqrt(len(sample) - 1) for sample in samples))
        error = spread / math.sqrt(freedom) * math.sqrt(1 / len(seeds) + 1 / len(elsewhere or seeds))
        if elsewhere:
            from scipy.special import stdtrit  # slow to import

            spans = float(stdtrit(freedom, 1 - _ELSEWHERE))
    return max(spans * error, 100.0 / (n * len(seeds)), _LAST_DIGIT)


def family_of(metric: str) -> str:
    """What a tolerance may be given for beside a column: "probe" for TASK/METRIC, else the part before the colon."""
    name = metric.partition(":")[0]
    return PROBE.name if "/" in name else name


def metric_of(
    name: str,
    tolerances: Mapping[str, float] | None = None,
    known: Mapping[str, Metric] | None = None,
    *,
    measured: bool = True,
) -> Metric:
    """The metric of a column of results, with the user's absolute tolerance where one is given.

    Args:
        name: "si_sdr", "fad:vggish", "TASK/METRIC", ...
        tolerances: absolute tolerances that replace absolute and relative ones, by metric or by the part
            before the colon; the exact name wins.
        known: metrics of the suite by name, a user's own among them.
        measured: whether the results have it; one that is gone needs no declaration.

    Raises:
        PolicyError: the metric is unknown.
    """
    family = family_of(name)
    found = (known or {}).get(name) or (PROBE if family == PROBE.name else declared_metric(name))
    if found is None and measured:
        raise PolicyError(f"the suite has no metric {name!r}; {did_you_mean(name, _names(known))}")
    for key in (name, family):
        if tolerances and key in tolerances:
            return (found or _UNDECLARED).with_tolerance(tolerances[key])
    return found or _UNDECLARED


def _names(known: Iterable[str] | None) -> list[str]:
    return list(dict.fromkeys([*METRICS.names(), *(known or ()), PROBE.name]))


def parse_tolerance(text: str, known: Iterable[str] | None = ()) -> tuple[str, float]:
    """Parse `METRIC=VALUE`.

    Args:
        text: as given.
        known: names of the suite's metrics, which may be named beside those registered; None takes any name.

    Raises:
        PolicyError: not of that form, an unknown metric, or a value that is negative or not finite.
    """
    name, equals, number = text.rpartition("=")
    if not equals:
        raise PolicyError(f"tolerance {text!r} is not METRIC=VALUE")
    if known is not None and name not in (names := _names(known)) and family_of(name) not in names:
        raise PolicyError(f"tolerance {text!r}: no metric {name!r}; {did_you_mean(family_of(name), names)}")
    try:
        value = float(number)
    except ValueError:
        raise PolicyError(f"tolerance {text!r}: {number!r} is not a number") from None
    if not 0.0 <= value < float("inf"):
        raise PolicyError(f"tolerance {text!r}: must be finite and at least 0")
    return name, value
