"""Tables and figures of a run become files: which are written, which are kept, and what goes beside them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import Any

from benchmarks.store.store import Store
from benchmarks.tables.cost import cost_record, with_speed
from benchmarks.tables.figure2 import FigureResult
from benchmarks.tables.places import INCOMPLETE, Place, remove_incomplete
from benchmarks.tables.scores import write_scores
from benchmarks.tables.table import TableResult
from benchmarks.tables.text import json_text, write_if_changed
from benchmarks.tables.values import read_values, values_of

Part = TableResult | FigureResult


@dataclass(frozen=True)
class Written:
    """What became of the parts: names of those written, whether one was to stay and would change, and the costs."""

    names: tuple[str, ...]
    refused: bool
    costs: dict[str, Any]


def write_parts(
    made: Sequence[Part], place: Place, store: Store, *, refresh: bool, change: bool, failed: bool
) -> Written:
    """Write what was measured, with `scores.csv` and `cost.json`; paths and what is kept are said on stderr.

    Args:
        made: tables and figures.
        place: folders of the results.
        store: where the units of the figures' drawings are.
        refresh: also rewrite the reference.
        change: whether files that exist may change.
        failed: a unit of the run failed: a file with more cells is kept, and the new one written beside it.
    """
    folders = [place.measured, *([place.reference] if refresh else [])]
    names, refused = [], False
    for item in made:
        kept = place.measured / f"{item.name}.json"
        if item.measured and not change and _differs(item, kept):
            print(f"{kept} would change; left as it is (--overwrite never)", file=sys.stderr)
            refused = True
        elif failed and (lost := len(read_values(kept).keys() - values_of(loads(item.to_json())).keys())):
            print(
                f"{kept} is kept: this run failed and lacks {lost} of its cells;",
                "written beside it:",
                *_files(item, place.measured, store, item.name + INCOMPLETE),
                file=sys.stderr,
            )
        elif not item.measured:
            print(f"{item.name}: nothing could be measured; no file written", file=sys.stderr)
        else:
            paths = [path for folder in folders for path in _files(item, folder, store, item.name)]
            remove_incomplete(place.measured, item.name)
            print("written:", *paths, file=sys.stderr)
            names.append(item.name)
    costs = cost_record(store, [row.name for item in made if isinstance(item, TableResult) for row in item.rows])
    for folder in folders:
        if names:
            write_scores(folder)
        if costs["systems"]:
            write_if_changed(folder / "cost.json", json_text(costs))
    return Written(tuple(names), refused, costs)


def shown_text(made: Sequence[Part], costs: dict[str, Any], format: str) -> str:
    """What is printed of a run: "md", "csv", "json" or "latex"; figures only as Markdown and JSON.

    For people Table 2 also has how fast the systems run here, which no file of a table holds.
    """
    shown = []
    for item in made:
        if isinstance(item, TableResult):
            shown.append((with_speed(item, costs) if format in ("md", "latex") else item).render(format))
        elif format in ("md", "json"):
            shown.append(item.to_json() if format == "json" else item.to_markdown())
    return "\n".join(shown)


def _files(item: Part, folder: Path, store: Store, stem: str) -> list[Path]:
    if isinstance(item, FigureResult):
        return item.write(folder, store, stem)
    return item.write(folder, stem)


def _differs(item: Part, path: Path) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") != item.to_json()
