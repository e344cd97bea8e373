"""`m2l-bench status` and `doctor`: how far a suite is, and what this machine lacks."""

from __future__ import annotations

import json as jsons
import time
from typing import Annotated

from cyclopts import Parameter

from benchmarks.cli.options import Device, Json, Limit, StorePlace, SuiteName, open_store, options_text
from benchmarks.errors import FAILED, MISSING, OK, UsageError
from benchmarks.registry import load_target
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


def doctor(
    *,
    suite: SuiteName = "synthetic",
    online: bool = False,
    deep: Annotated[str | None, Parameter(metavar="NAME")] = None,
    weights: Annotated[str | None, Parameter(metavar="PATH")] = None,
    untrained: bool = False,
    seconds: Annotated[float, Parameter(metavar="S")] = 3.0,
    steps: Whole = 0,
    device: Device = "cpu",
    json: Json = False,
) -> int:
    """Check which packages, weights and data sets are available, and what each missing cell of a suite needs.

    Exit code 0 when every cell of the suite can be measured, else 3.

      m2l-bench doctor --deep music2latent     # are these weights loaded right? Made to be pasted into an issue

    Args:
        online: ask every address that fetch knows whether it answers, and with which size, instead
        deep: load the weights of one system, embedder or representation strictly, run them on a built-in clip, and
            print what was found beside what is known of them; exit code 1 if something differs
        weights: with --deep: file or folder of the weights instead of the look-up
        untrained: with --deep: random weights of the same form
        seconds: with --deep: length of the built-in clip
        steps: with --deep: denoising steps (default: the system's own number)
    """
    if deep is not None:
        return _deep(deep, weights, untrained, seconds, steps, device, json)
    if weights is not None or untrained:
        raise UsageError("--weights and --untrained go with --deep NAME")
    if online:
        return _online(json)
    from benchmarks.status.doctor import describe, examine

    found = examine(suite)
    print(jsons.dumps(found, indent=2, sort_keys=True) if json else describe(found))
    return MISSING if found["missing_cells"] else OK


def _deep(name: str, path: str | None, untrained: bool, seconds: float, steps: int, device: str, json: bool) -> int:
    from benchmarks.status.deep import LONGEST, agrees, describe, examine
    from benchmarks.status.subjects import subject

    if not 1.0 <= seconds <= LONGEST:
        raise UsageError(f"--seconds is {seconds:g}, expected 1 to {LONGEST:g}")
    if untrained and path is not None:
        raise UsageError("give --weights or --untrained, not both")
    # The representations lie above this package: only the command line may name them.
    above = load_target("probes.representations:REPRESENTATIONS")
    what = subject(name, above, path=path, untrained=untrained, device=device)
    found = examine(what, seconds, steps or None)
    print(jsons.dumps(found, indent=2, sort_keys=True) if json else describe(found))
    return OK if agrees(found) else FAILED


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
