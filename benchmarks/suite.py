"""Suites: TOML files that say which systems are measured on which data with which metrics.

A suite names its data set, systems, metrics, seeds and sizes. Three ship (`synthetic`, `open`, `paper`);
`--suite FILE` takes a user's own. Every section is a frozen dataclass, and an error names the key.
"""

from __future__ import annotations

import copy
import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.errors import UsageError
from benchmarks.metrics.base import Metric
from benchmarks.metrics.registry import parse_metric
from benchmarks.registry import UnknownNameError
from m2l.names import did_you_mean

FOLDER = Path(__file__).resolve().parent / "suites"

T = TypeVar("T")


class SuiteError(UsageError):
    """An invalid suite file; the message names the file and the key."""


@dataclass(frozen=True)
class Data:
    """Clips for Tables 2 and 3 and Figure 2.

    Attributes:
        dataset: name in the data set registry, or `module:Class`.
        split: split of the data set; empty for its default selection.
        options: passed to the data set.
        limit: at most this many clips (0: all).
        channels: "mono" folds clips before any system sees them, as the paper does; "native" leaves them. "stereo" does
            both: metrics that see stereo are measured on clips as they are, the others and distances on mono folds.
        min_seconds, min_sample_rate: clips below become reported rows.
        silence_rms: clips with a root mean square below are reported as silent.
        unit_clips: clips per work unit; small units resume finely, large ones cost less overhead.
    """

    dataset: str
    split: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    limit: int = 0
    channels: str = "mono"
    min_seconds: float = 1.0
    min_sample_rate: int = 16000
    silence_rms: float = 1e-5
    unit_clips: int = 16

    def __post_init__(self) -> None:
        _one_of("data.channels", self.channels, ("mono", "native", "stereo"))
        _at_least("data.limit", self.limit, 0)
        _at_least("data.unit_clips", self.unit_clips, 1)


@dataclass(frozen=True)
class Columns:
    """A section with columns; names of metrics become metrics, here and nowhere else."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", parse_columns(self.metrics))  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Table2(Columns):
    """Systems in rows, metrics in columns; `n_steps` gives systems other numbers of denoising steps than their own."""

    systems: list[str]
    metrics: list[Metric]
    system_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    n_steps: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, steps in self.n_steps.items():
            if name not in self.systems:
                raise SuiteError(f"key table2.n_steps: {name!r} is none of table2.systems")
            _check_type(f"table2.n_steps.{name}", steps, "int")
            _at_least(f"table2.n_steps.{name}", steps, 1)

    @property
    def wanted(self) -> list[tuple[str, int | None]]:
        """Systems with their numbers of denoising steps (None: the system's own)."""
        return [(name, self.n_steps.get(name)) for name in self.systems]


@dataclass(frozen=True)
class Figure2(Columns):
    """Quality of one system against its number of denoising steps, on `clips` clips spread over groups (0: all)."""

    systems: list[str]
    metrics: list[Metric]
    steps: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5])
    clips: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for steps in self.steps:
            _at_least("figure2.steps", steps, 1)


@dataclass(frozen=True)
class Rate(Columns):
    """Quality of systems against the bit rates that they spent, on `clips` clips spread over groups (0: all).

    Systems whose names differ in a rate or a number of codebooks are one curve.
    """

    systems: list[str]
    metrics: list[Metric]
    clips: int = 0
    system_options: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Table3(Columns):
    """The ablation: row title -> system, in order, on `clips` clips spread over groups (0: all)."""

    rows: dict[str, str]
    metrics: list[Metric]
    clips: int = 0


@dataclass(frozen=True)
class Statistics:
    """How intervals are made.

    Attributes:
        resamples: bootstrap resamples of groups of clips, for means of scores; distances of corpora need none.
        level: coverage of the intervals.
    """

    resamples: int = 10000
    level: float = 0.95

    def __post_init__(self) -> None:
        _at_least("statistics.resamples", self.resamples, 100)


@dataclass(frozen=True)
class Suite:
    """A validated suite.

    Attributes:
        name: folder under results/.
        title: one line for headings.
        seed: every random number of a run derives from it and names.
        table1: handed as it is to the probes' table builder.
        figure: "rate" draws the systems of Table 2 against their bit rates; [rate] says otherwise which, and on what.
        published: show published figures below the tables.
    """

    name: str
    data: Data
    title: str = ""
    seed: int = 0
    table1: dict[str, Any] | None = None
    table2: Table2 | None = None
    table3: Table3 | None = None
    figure2: Figure2 | None = None
    rate: Rate | None = None
    figure: str = ""
    published: bool = False
    statistics: Statistics = field(default_factory=Statistics)

    @property
    def tables(self) -> list[str]:
        """The tables this suite has a section for."""
        return [name for name in _PARTS if getattr(self, name) is not None]

    @property
    def metrics(self) -> dict[str, Metric]:
        """All metrics of the suite, by name."""
        sections = (self.table2, self.table3, self.figure2, self.rate)
        return {metric.name: metric for section in sections if section for metric in section.metrics}

    def to_dict(self) -> dict[str, Any]:
        """The suite as plain values, metrics by their names."""
        record = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        for name, value in record.items():
            if dataclasses.is_dataclass(value):
                plain = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
                if isinstance(value, Columns):
                    plain["metrics"] = [metric.name for metric in plain["metrics"]]
                if not plain.get("n_steps", True):
                    del plain["n_steps"]  # files of suites that say nothing about it stay as they are
                record[name] = plain
        return copy.deepcopy(record)


_PARTS = ("table1", "table2", "table3", "figure2", "rate")
#: Sections of a suite file but [table1], which `probes.table1` reads.
SECTIONS = {
    "data": Data,
    "table2": Table2,
    "table3": Table3,
    "figure2": Figure2,
    "rate": Rate,
    "statistics": Statistics,
}


def list_suites() -> list[str]:
    """Names of the suites that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_suite(name_or_path: str | Path) -> Suite:
    """A suite by name, or from a TOML file of your own.

    Raises:
        UnknownNameError: neither a shipped suite nor a file.
        SuiteError: the file is not valid TOML, or a key is missing, unknown or has a wrong value.
    """
    text = str(name_or_path)
    path = FOLDER / f"{text}.toml"
    if not path.is_file():
        path = Path(text).expanduser()
        if not path.is_file():
            if path.suffix == ".toml" or "/" in text:
                raise SuiteError(f"suite file {text!r} does not exist")
            raise UnknownNameError("suite", text, list_suites())
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: not valid TOML: {error}") from None
    try:
        return parse_suite({"name": path.stem, **record})
    except SuiteError as error:
        raise SuiteError(f"{path}: {error}") from None


def parse_suite(record: Mapping[str, Any]) -> Suite:
    """Validate a suite given as a dictionary.

    Raises:
        SuiteError: a key is missing, unknown, or has a wrong value; the message names it.
    """
    values = dict(record)
    if "figure" in values:
        _one_of("figure", values["figure"], ("rate",))
        rows = values.get("table2")
        if not isinstance(rows, Mapping):
            raise SuiteError('figure = "rate" draws the systems of [table2], which is missing')
        shared = {key: rows[key] for key in ("systems", "metrics", "system_options") if key in rows}
        values["rate"] = shared | values.get("rate", {})
    for section, kind in SECTIONS.items():
        if section in values:
            values[section] = _build(kind, values[section], section)
    suite = _build(Suite, values, "")
    if not suite.name or "/" in suite.name or suite.name.startswith("."):
        raise SuiteError(f"name {suite.name!r} cannot be a folder name")
    return suite


def parse_columns(names: Iterable[str | Metric]) -> list[Metric]:
    """The metrics of a table's columns; the one place where names become metrics.

    Raises:
        SuiteError: two have one name, so that the table could not tell them apart.
        UnknownNameError, FileNotFoundError, ImportError, UserCodeError: as for `parse_metric`.
    """
    found: dict[str, Metric] = {}
    for metric in map(parse_metric, names):
        if metric.name in found:
            raise SuiteError(f"two metrics are called {metric.name!r}; use LABEL=NAME for one of them")
        found[metric.name] = metric
    return list(found.values())


def _build(kind: type[T], values: Any, where: str) -> T:
    if not isinstance(values, Mapping):
        raise SuiteError(f"[{where}] must be a table, got {values!r}")
    prefix = f"{where}." if where else ""
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise SuiteError(f"unknown key {prefix}{key}; {did_you_mean(key, fields)}")
    for name, item in fields.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise SuiteError(f"key {prefix}{name} is missing")
        if name in values:
            _check_type(f"{prefix}{name}", values[name], str(item.type))
    try:
        return kind(**values)
    except UnknownNameError as error:
        raise SuiteError(f"key {prefix}metrics: {error}") from None


def _check_type(key: str, value: Any, declared: str) -> None:
    kinds: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "bool": (bool,),
        "int": (int,),
        "float": (int, float),
        "list[str]": (list,),
        "list[int]": (list,),
        "list[Metric]": (list,),
        "dict[str, str]": (dict,),
        "dict[str, int]": (dict,),
        "dict[str, Any]": (dict,),
        "dict[str, dict[str, Any]]": (dict,),
    }
    allowed = kinds.get(declared.removesuffix(" | None"))
    if allowed is None:
        return
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        wanted = declared.replace("Metric", "str")
        raise SuiteError(f"key {key} must be {wanted}, got {value!r}")
    if isinstance(value, list):
        inner = {"str": str, "int": int, "Metric": str}[declared[5:-1]]
        for item in value:
            if not isinstance(item, inner) or isinstance(item, bool):
                wanted = f"list[{inner.__name__}]"
                raise SuiteError(f"key {key} must be {wanted}, got the element {item!r}")
        if not value:
            raise SuiteError(f"key {key} is empty")
        repeated = {item for item in value if value.count(item) > 1}
        if repeated:
            raise SuiteError(f"key {key} has {sorted(repeated)[0]!r} more than once")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SuiteError(f"key {key} must be one of {', '.join(allowed)}, got {value!r}")


def _at_least(key: str, value: float, least: float) -> None:
    if value < least:
        raise SuiteError(f"key {key} must be at least {least}, got {value!r}")
