"""Scores of single clips: the file `scores.csv` beside a suite's tables, and its reader.

The file is a pure function of the table files in its folder, so it always fits them. Every clip that a system
was given has a row with its score, or with the reason why it has none, and its group (its own name where it has none):
what resamples clips should resample groups. Distances between corpora (FAD, KAD)
have no scores of clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.suite import load_suite
from benchmarks.tables.places import place_of
from benchmarks.tables.text import one_line, read_number, write_if_changed
from m2l.io.json_files import read_object

if TYPE_CHECKING:
    import pandas

NAME = "scores.csv"
COLUMNS = ("table", "clip", "group", "system", "metric", "value", "reason")
#: Tables whose cells are means over clips.
_TABLES = ("table2", "table3")


def write_scores(folder: str | Path) -> Path | None:
    """Write `scores.csv` from the tables in a folder; a file whose bytes are the same is left alone.

    Returns:
        Its path; None if the folder has no Table 2 or 3.

    Raises:
        ValueError: a table in the folder is damaged, or another program wrote it.
    """
    import pandas

    paths = [path for name in _TABLES if (path := Path(folder) / f"{name}.json").is_file()]
    if not paths:
        return None
    rows: list[dict[str, Any]] = []
    for path in paths:
        try:
            rows += score_rows(path.stem, read_object(path, ValueError))
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"{path}: not a table of this version: {type(error).__name__} {error}") from None
    # dtype object: floats keep every digit.
    frame = pandas.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    frame = frame.sort_values(["table", "clip", "system", "metric"], kind="stable")
    target = Path(folder) / NAME
    write_if_changed(target, frame.to_csv(index=False, lineterminator="\n"))
    return target


def score_rows(table: str, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The clips of one table's JSON, with a score or a reason."""
    rows = []
    groups = record.get("groups", {})
    for metric, by_system in record["scores"].items():
        cells = {row["name"]: row["cells"][metric] for row in record["rows"] if metric in row["cells"]}
        for system, values in by_system.items():
            head = {"table": table, "system": system, "metric": metric}
            reasons = cells[system]["details"].get("failed_clips", {}) if system in cells else {}
            rows += [head | {"clip": clip, "value": read_number(value)} for clip, value in values.items()]
            rows += [
                head | {"clip": clip, "reason": one_line(why)} for clip, why in reasons.items() if clip not in values
            ]
    return [row | {"group": groups.get(row["clip"], row["clip"])} for row in rows]


def load_scores(suite: str, results: str | Path | None = None) -> pandas.DataFrame:
    """The scores of single clips that a suite's tables rest on.

    Args:
        suite: a shipped suite, or a suite file.
        results: folder of result files (`--results`); default `results`, and in m2l's own checkout what was
            measured last.

    Returns:
        One row per table, clip, system and metric, sorted by them: `value` is a float (NaN where there is
        none), `reason` is the reason for that (else empty), the other columns are text.

    Raises:
        FileNotFoundError: the suite has not been measured; the message names the command that does it.
        UnknownNameError, SuiteError: no such suite.
        ValueError: the file is not one that `m2l-bench tables` wrote.

    Example:
        >>> scores = benchmarks.load_scores("open")                               # doctest: +SKIP
        >>> scores.pivot_table("value", "system", "metric", aggfunc="median")     # doctest: +SKIP
    """
    import pandas

    name = load_suite(suite).name
    path = place_of(results, name).newest / NAME
    try:
        frame = pandas.read_csv(
            path,
            dtype={column: float if column == "value" else str for column in COLUMNS},
            keep_default_na=False,
            na_values={"value": [""]},
            float_precision="round_trip",
        )
    except FileNotFoundError:
        raise FileNotFoundError(f"no scores {path}; measure them with: m2l-bench tables --suite {suite}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a file of scores: {error}") from None
    if tuple(frame.columns) != COLUMNS:
        raise ValueError(f"{path}: columns {', '.join(map(str, frame.columns))}; expected {', '.join(COLUMNS)}")
    return frame
