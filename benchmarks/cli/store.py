"""`m2l-bench store`: care of the store of measured units."""

from __future__ import annotations

import sys
from json import dumps

from benchmarks.cli.options import Device, Json, Names, StorePlace, open_store, split_names
from benchmarks.errors import OK
from m2l.cli.plain import new_app

app = new_app("store", "Look after the store of measured units.")


@app.command
def prune(
    *, suite: Names = None, store: StorePlace = None, device: Device = "cpu", dry_run: bool = False, json: Json = False
) -> int:
    """Remove stored results that no table of the suites reads, such as those of earlier versions.

    Results of `compare`, `curve` and `ablation` and the audio of reports go as well; they are computed again when they
    are needed. So do results of systems and data that are not available on this machine, which stderr lists.

    Args:
        suite: suites whose results stay: names or TOML files; may be repeated (default: all that ship)
        dry_run: remove nothing, show what would be removed
    """
    from benchmarks.status.prune import prune as prune_store
    from benchmarks.suite import list_suites

    place = open_store(store)
    found, missing = prune_store(split_names(suite) or list_suites(), place, device=device, dry_run=dry_run)
    for need in missing:
        print(f"not available, so its results are not recognized: {need.kind} {need.name}", file=sys.stderr)
    if json:
        print(dumps({"store": place.location, **vars(found)}, indent=2, sort_keys=True))
    else:
        verb = "would be removed" if dry_run else "removed"
        print(f"{found.removed} results ({found.bytes / 1e6:.1f} MB) {verb}, {found.kept} kept in {place.location}")
    return OK
