"""What a metric is: one object with all that tables, comparisons and the gate need to know of it.

A metric of pairs scores a clip against its original; a metric of corpora is a distance between two sets of
embeddings. Both are declared beside the function that computes them and listed in `benchmarks.metrics.registry`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

from benchmarks.embedders import embedder_entry, embedder_label, embedder_status
from benchmarks.registry import load_target
from benchmarks.weights.find import has_weight, weight_digest

if TYPE_CHECKING:
    import numpy as np

#: A value; with a reason where it is NaN, or with a remark.
Score = tuple[float, "str | None"]
#: `(preds, target, sample_rate)`: output and original, float32 `(channels, samples)`, and their rate in Hz.
ScoreFunction: TypeAlias = "Callable[[np.ndarray, np.ndarray, int], Score | float]"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What every metric has.

    Attributes:
        name: key in tables, results and baselines.
        title: column heading.
        higher_is_better: direction.
        digits: decimals shown.
        unit: of a value, as in "dB".
        note: what exactly is computed; a line below the table.
        version: raise it when a change that the code does not show changes the values.
        worst, best: limits of a value; None for no limit. A silent output of an audible clip counts as `worst`.
        tolerance: changes of the mean (or of a distance) up to this size never count for the gate.
        relative_tolerance: the same as a share of the baseline's value; the larger of the two holds.
        elsewhere_tolerance: `relative_tolerance` where the baseline was measured on another processor.
        floor: what the gate takes for the worst value: scores beyond it count as equal to it; default `worst`.
        collapse: a single clip that loses more than this is a regression whatever the mean says.
        given: the name that `parse_metric` makes this metric from, also in another process.
        own: `"module:attribute"` or `"FILE.py:attribute"` of a user's code; empty for a metric of this project.
    """

    #: What its name needs after a colon, as in "an embedder, as in {name}:vggish"; empty for a name that is whole.
    needs: ClassVar[str] = ""

    name: str
    title: str
    higher_is_better: bool = True
    digits: int = 2
    unit: str = ""
    note: str = ""
    version: str = "1"
    worst: float | None = None
    best: float | None = None
    tolerance: float = 0.0
    relative_tolerance: float = 0.0
    elsewhere_tolerance: float = 0.0
    floor: float | None = None
    collapse: float | None = None
    given: str = ""
    own: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _parsed_again, (self.given or self.name,)

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest value; infinite where there is no limit."""
        return self._range(self.worst)

    @property
    def gate_limits(self) -> tuple[float, float]:
        """The range within which the gate can tell scores of clips apart."""
        return self._range(self.worst if self.floor is None else self.floor)

    def _range(self, worst: float | None) -> tuple[float, float]:
        low, high = (worst, self.best) if self.higher_is_better else (self.best, worst)
        return -math.inf if low is None else low, math.inf if high is None else high

    def clamp(self, value: float) -> float:
        """A score within `gate_limits`."""
        low, high = self.gate_limits
        return min(max(value, low), high)

    def allowed_change(self, baseline: float, *, elsewhere: bool = False) -> float:
        """The change of the mean that the gate lets through, for a baseline value."""
        share = max(self.relative_tolerance, self.elsewhere_tolerance) if elsewhere else self.relative_tolerance
        return max(self.tolerance, share * abs(baseline))

    def with_tolerance(self, tolerance: float) -> Metric:
        """The metric with a user's absolute tolerance in place of its own."""
        return replace(self, tolerance=tolerance, relative_tolerance=0.0, elsewhere_tolerance=0.0)

    @property
    def weight(self) -> str | None:
        """Name of the weights that it needs."""
        return None

    def unavailable(self) -> str | None:
        """Why it cannot be computed here; None if it can."""
        return None

    def of(self, argument: str) -> Metric:
        """The metric that its name and what stands after the colon give; only for those with `needs`."""
        raise NotImplementedError

    def cell_unit(self, planner: Any, row: Any) -> Any:
        """The unit of a table's cell: this metric of one system. `planner` is the suite's, `row` the system's."""
        raise NotImplementedError

    def comparison_unit(self, planner: Any, labels: Sequence[str], cells: Sequence[Any]) -> Any:
        """The unit that compares every two of a column's cells."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class PairMetric(Metric):
    """A full-reference metric: its cell is the mean of clips' scores.

    Attributes:
        function: `(preds, target, sample_rate)` -> value, or value and reason.
        modules: modules of this project whose code decides the value; their digest is part of the content key.
        weights: name of the weights it needs.
        packages: packages beyond the suite's dependencies, by the names under which they import.
        install: command that installs them.
        exact: `best` means that an output differs from its original by its gain at most.
        folds: it averages channels, so that clips whose channels cancel are scored one channel at a time.
    """

    function: ScoreFunction
    modules: tuple[str, ...] = ()
    weights: str | None = None
    packages: tuple[str, ...] = ()
    install: str = ""
    exact: bool = False
    folds: bool = False

    # A dataclass would pickle its fields; the function of a user's file is imported by its name instead.
    __reduce__ = Metric.__reduce__

    @property
    def spec(self) -> dict[str, Any]:
        """What decides the values beside the code; part of content keys."""
        names = ("version", "higher_is_better", "worst", "best", "unit", "exact", "folds")
        return {name: getattr(self, name) for name in names}

    @property
    def weight(self) -> str | None:
        return self.weights

    @property
    def alone(self) -> bool:
        """Whether it needs neither weights nor a package nor anything after its name."""
        return not (self.weight or self.packages or self.needs)

    def identity(self) -> dict[str, Any]:
        """What its values rest on beside its code and `spec`: weights and packages; part of content keys.

        Raises:
            WeightsNotFoundError: they are not on this machine.
        """
        packages = {"packages": {name: _version(name) for name in self.packages}} if self.packages else {}
        return {"weights": weight_digest(self.weights) if self.weights else None, **packages}

    def unavailable(self) -> str | None:
        for package in self.packages:
            if find_spec(package) is None:
                return f"package {package!r} is not installed. To get it: {self.install}"
        available, reason = has_weight(self.weights) if self.weights else (True, "")
        return None if available else reason

    def cell_unit(self, planner: Any, row: Any) -> Any:
        return planner.pair_cell(row, self)

    def comparison_unit(self, planner: Any, labels: Sequence[str], cells: Sequence[Any]) -> Any:
        return planner.pair_comparison(self, labels, cells)


@dataclass(frozen=True, kw_only=True)
class CorpusMetric(Metric):
    """A distance of corpora in an embedder's space; `of` gives the metric of one embedder.

    Attributes:
        distance: a name in `benchmarks.statistics.corpus.DISTANCES`, or `"module:function"` of such a function:
            value, interval and replicates from embeddings of clips.
        embedder: name of the embedder; empty as declared.
        covariances: whether it rests on covariances, which no more windows than dimensions leave singular.
    """

    distance: str
    embedder: str = ""
    covariances: bool = False

    __reduce__ = Metric.__reduce__

    needs = "an embedder, as in {name}:vggish"

    def of(self, embedder: str) -> CorpusMetric:
        """The metric in the space of `embedder`.

        The titles are the paper's: FAD is VGGish, FAD_clap any CLAP; others go by the embedder's name.

        Raises:
            UnknownNameError: no such embedder.
        """
        entry, label = embedder_entry(embedder), embedder_label(embedder)
        family = label.rpartition(":")[2].partition("-")[0].partition("@")[0]
        return replace(
            self,
            name=f"{self.name}:{label}",
            title=self.title if family == "vggish" else f"{self.title}_{family}",
            note=f"{self.note}, {entry.title} [{label}]",
            given=f"{self.name}:{embedder}",
            embedder=embedder,
        )

    @property
    def weight(self) -> str | None:
        return embedder_entry(self.embedder).weight or None

    def unavailable(self) -> str | None:
        available, reason = embedder_status(self.embedder)
        return None if available else reason

    def cell_unit(self, planner: Any, row: Any) -> Any:
        return planner.corpus_cell(row, self)

    def comparison_unit(self, planner: Any, labels: Sequence[str], cells: Sequence[Any]) -> Any:
        return planner.corpus_comparison(self, labels, cells)


def metric(**fields: Any) -> Callable[[F], F]:
    """Decorator that declares fields of `PairMetric` on a function: `@metric(unit="dB", tolerance=0.1)`.

    Setting attributes of the function does the same.
    """

    def declare(function: F) -> F:
        for name, value in fields.items():
            setattr(function, name, value)
        return function

    return declare


def _version(package: str) -> str:
    """Version of an installed package; "" where it does not tell."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _parsed_again(name: str) -> Metric:
    """What a pickled metric becomes in another process."""
    parsed: Metric = load_target("benchmarks.metrics.registry:parse_metric")(name)
    return parsed
