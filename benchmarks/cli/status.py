"""`m2l-bench status` and `doctor`: how far a suite is, and what this machine lacks."""

from __future__ import annotations

import json as jsons
import time
from typing import Annotated

from cyclopts import Parameter

from benchmarks.cli.options import Device, Json, Limit, StorePlace, SuiteName, open_store, options_text
from benchmarks.errors import FAILED, MISSING, OK, UsageError
from m2l.cli.plain import Whole


def status(
    *,
    suite: SuiteName = "synthetic",
    store: StorePlace = None,
    shards: Whole = 0,
    limit: Limit = 0,
    device: Device = "cpu",
    watch: Annotated[float | None, Parameter(metavar="SECONDS")] = None,
    json: Json = False,
) -> int:
    """Show how far a suite is, over all jobs that share a store. Exit code 0 when everything is done, else 1.

    `--limit` and `--device` are those of the jobs.

    Args:
        shards: number of shards (default: as the jobs reported)
        watch: print again at this interval, until all is done
    """
    from benchmarks.harness.run import RunOptions
    from benchmarks.status.shards import describe, examine

    if shards < 0 or limit < 0 or (watch is not None and watch <= 0):
        raise UsageError("--shards and --limit must be at least 0, --watch more than 0")
    run = RunOptions(limit=limit, device=device, dry_run=True, quiet=True)
    while True:
        found = examine(suite, open_store(store), shards=shards, options=run)
        if json:
            print(jsons.dumps(found.to_dict(), indent=2, sort_keys=True), flush=True)
        else:
            print(describe(found, given=options_text(suite=suite, store=store)), flush=True)
        if not found.left or watch is None:
            return FAILED if found.left else OK
        time.sleep(watch)


def doctor(*, suite: SuiteName = "synthetic", online: bool = False, json: Json = False) -> int:
    """Check which packages, weights and data sets are available, and what each missing cell of a suite needs.

    Exit code 0 when every cell of the suite can be measured, else 3.

    Args:
        online: ask every address that fetch knows whether it answers, and with which size, instead
    """
    if online:
        return _online(json)
    from benchmarks.status.doctor import describe, examine

    found = examine(suite)
    print(jsons.dumps(found, indent=2, sort_keys=True) if json else describe(found))
    return MISSING if found["missing_cells"] else OK


def _online(json: bool) -> int:
    from benchmarks.fetch.download import NoConnectionError
    from benchmarks.fetch.online import ask_all, records_of

    try:
        answers = ask_all()
    except NoConnectionError as error:
        raise UsageError(str(error)) from error
    failed = [answer for answer in answers if answer.problem]
    if json:
        print(jsons.dumps(records_of(answers), indent=2, sort_keys=True))
    else:
        print("\n".join(map(str, answers)))
        print(f"{len(answers) - len(failed)} of {len(answers)} addresses are fine")
    return MISSING if failed else OK
