"""What `m2l-bench fetch` can get of what a suite needs: its data, and the weights of its systems and embedders."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.fetch.corpora.catalog import PAPER_DATA
from benchmarks.fetch.transfer import human
from benchmarks.suite import Suite
from benchmarks.weights.find import has_weight, restriction
from benchmarks.weights.table import WEIGHTS


def names_for(suite: Suite, fetchable: Iterable[str]) -> list[str]:
    """Names of `m2l-bench fetch` that the suite's tables need, each once: data first, then weights.

    Args:
        suite: Any suite.
        fetchable: Names of everything that can be fetched.

    Returns:
        Names in the order in which a run needs them, without what cannot be fetched (a folder, a codec without
        weights, a file of one's own).
    """
    known = set(fetchable)
    mentioned: list[str] = [suite.data.dataset]
    table1: Mapping[str, Any] = suite.table1 or {}
    mentioned += table1.get("tasks", [])
    for table in (suite.table2, suite.figure2, suite.rate):
        mentioned += table.systems if table is not None else []
    mentioned += suite.table3.rows.values() if suite.table3 is not None else []
    mentioned += table1.get("representations", [])
    mentioned += [weight for metric in suite.metrics.values() if (weight := metric.weight)]
    found = [name for text in mentioned if (name := _fetchable_name(text, known)) is not None]
    return sorted(dict.fromkeys(found), key=lambda name: name in WEIGHTS)


def _fetchable_name(text: str, known: set[str]) -> str | None:
    """`tinysol-pitch` -> `tinysol`, `music2latent@latents` -> `music2latent`, `mimi-8q` -> `mimi`."""
    base = re.split(r"[@\[]", text)[0]
    rateless = re.sub(r"-[\d.]+[kq]$", "", base)
    base = "lyra-v2" if rateless == "lyra" else rateless
    if base in known:
        return base
    # Tasks of one data set; "open-pitch" of rendered notes is `open-notes`, which has a name of its own.
    data = next((name for name in PAPER_DATA if base.startswith(f"{name}-")), None)
    if data is None and base in ("open-pitch", "open-instrument"):
        data = "open-notes"
    return data if data in known else None


def overview(
    suite: Suite, names: Sequence[str], rows: Iterable[Mapping[str, Any]], present: Collection[str] = ()
) -> list[str]:
    """Lines that announce what will be fetched: each name, one total, and one list of licenses.

    Args:
        suite: For its name.
        names: From `names_for`.
        rows: From `benchmarks.fetch.command.available`.
        present: Names of data sets that are complete here; of weights it is looked up.
    """
    by_name = {row["name"]: row for row in rows}
    lines = [f"suite {suite.name}: {len(names)} things can be fetched for it"]
    total, unknown = 0, list[str]()
    licenses: dict[str, list[str]] = {}
    for name in names:
        row = by_name[name]
        here = name in present or (name in WEIGHTS and has_weight(name)[0])
        size = row["bytes"]
        if not here:
            total += size or 0
            unknown += [name] if size is None else []
        state = "already present" if here else "rendered here" if row["kind"] == "rendered" else human(size)
        lines.append(f"  {name}: {state}")
        licenses.setdefault(str(row["license"]), []).append(name)
    rest = f", and {', '.join(unknown)} of unknown size" if unknown else ""
    lines.append(f"in all at most {human(total)} to fetch{rest}")
    lines.append("licenses:")
    for license, owners in licenses.items():
        limits = restriction(license) if any(name in WEIGHTS for name in owners) else None
        lines.append(f"  {license}{f' ({limits})' if limits else ''}: {', '.join(owners)}")
    return lines
