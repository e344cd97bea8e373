"""What the gate takes for a real change, metric by metric: direction, tolerance, limits.

A tolerance has two jobs. It absorbs what another machine, thread count or library version does to the last
bits of a neural system (a re-run on the same machine gives the same bits), and it says what is too small to
matter. A change counts only when it is both beyond the tolerance and not explained by chance.

A probe of Table 1 is trained, and training carries a last bit far: on another processor it ends like one with
another seed. Its tolerance therefore comes from the spread over seeds that was pinned with it.
"""

from __future__ import annotations

import difflib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.metrics.clip_score import LIMITS

#: Bound on the probability, over all cells together, of calling a run worse that is not (Holm).
ALPHA = 0.002
#: Probability of catching a change of the stated minimum detectable effect.
POWER = 0.95


class PolicyError(ValueError):
    """A tolerance that cannot be used; the message names it."""


@dataclass(frozen=True)
class Policy:
    """How one metric is judged.

    Attributes:
        higher_is_better: direction.
        absolute: changes of the mean (or corpus value) up to this size never count, in the metric's unit.
        relative: the same as a share of the baseline's value; the larger of the two holds.
        elsewhere: `relative` where the baseline was measured on another processor.
        floor, ceiling: scores of clips are clamped to this range before they are compared.
        collapse: a single clip that loses more than this is a regression whatever the mean says.
    """

    higher_is_better: bool
    absolute: float
    relative: float = 0.0
    elsewhere: float = 0.0
    floor: float = float("-inf")
    ceiling: float = float("inf")
    collapse: float | None = None

    def tolerance(self, baseline: float, *, elsewhere: bool = False) -> float:
        """The change of the mean that is let through, for a baseline value."""
        share = max(self.relative, self.elsewhere) if elsewhere else self.relative
        return max(self.absolute, share * abs(baseline))

    def clamp(self, value: float) -> float:
        """A score held to what can be told apart."""
        return min(max(value, self.floor), self.ceiling)


#: By metric, or by a corpus distance's name before the colon.
#: SI-SDR: unrelated audio of some seconds scores about -40 dB by chance, where a last bit moves the score
#: by whole decibels. Ceilings are those of the tables.
#: Distances: 0.001 is the last digit that tables show; libopus of another processor moved one by 2.1 %.
#: Probes (columns TASK/METRIC, in points): see `spread_tolerance`.
POLICIES: dict[str, Policy] = {
    "si_sdr": Policy(True, absolute=0.1, floor=-40.0, ceiling=LIMITS["si_sdr"].ceiling, collapse=10.0),
    "visqol": Policy(
        True, absolute=0.02, floor=LIMITS["visqol"].worst, ceiling=LIMITS["visqol"].ceiling, collapse=1.0
    ),
    "fad": Policy(False, absolute=1e-3, relative=0.02, elsewhere=0.04),
    "fad_inf": Policy(False, absolute=1e-3, relative=0.05),
    "kad": Policy(False, absolute=1e-3, relative=0.02, elsewhere=0.04),
    "probe": Policy(True, absolute=0.0, floor=0.0, ceiling=100.0),
}

#: Standard errors of the difference of two means over seeds that a probe's tolerance spans on one processor, where
#: only library versions can move a probe.
_SPREADS = 2.0
#: Chance that one probe's score falls by more than its tolerance because it was trained on another processor.
_ELSEWHERE = 0.0005
#: What Table 1 shows of a score, in points.
_LAST_DIGIT = 0.1


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
        squares = sum(statistics.variance(sample) * (len(sample) - 1) for sample in samples)
        error = math.sqrt(squares / freedom * (1 / len(seeds) + 1 / len(elsewhere or seeds)))
        if elsewhere:
            from scipy.special import stdtrit  # slow to import

            spans = float(stdtrit(freedom, 1 - _ELSEWHERE))
    return max(spans * error, 100.0 / (n * len(seeds)), _LAST_DIGIT)


def family_of(metric: str) -> str:
    """The key in `POLICIES` of a column: "probe" for TASK/METRIC, else what stands before the colon."""
    name = metric.partition(":")[0]
    return "probe" if "/" in name else name


def policy_of(metric: str, tolerances: Mapping[str, float] | None = None) -> Policy:
    """The policy of a metric, with the user's absolute tolerance where one is given.

    Args:
        metric: "si_sdr", "visqol", "fad:vggish", ...
        tolerances: absolute tolerances that replace absolute and relative ones, by metric or by the part
            before the colon; the exact name wins.

    Raises:
        PolicyError: the metric is unknown.
    """
    family = family_of(metric)
    if family not in POLICIES:
        raise PolicyError(f"no policy for metric {metric!r}; known: {', '.join(POLICIES)}")
    policy = POLICIES[family]
    for name in (metric, family):
        if tolerances and name in tolerances:
            return replace(policy, absolute=tolerances[name], relative=0.0, elsewhere=0.0)
    return policy


def parse_tolerance(text: str) -> tuple[str, float]:
    """Parse `METRIC=VALUE`.

    Raises:
        PolicyError: not of that form, an unknown metric, or a value that is negative or not finite.
    """
    name, equals, number = text.rpartition("=")
    family = family_of(name)
    if not equals:
        raise PolicyError(f"tolerance {text!r} is not METRIC=VALUE")
    if family not in POLICIES:
        near = difflib.get_close_matches(family, POLICIES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(POLICIES)}"
        raise PolicyError(f"tolerance {text!r}: no metric {name!r}; {hint}")
    try:
        value = float(number)
    except ValueError:
        raise PolicyError(f"tolerance {text!r}: {number!r} is not a number") from None
    if not 0.0 <= value < float("inf"):
        raise PolicyError(f"tolerance {text!r}: must be finite and at least 0")
    return name, value
