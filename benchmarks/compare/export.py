"""`m2l-bench export-clips`: a suite's clips as WAV files, for systems that run elsewhere.

What is written is what every system is given: folded as the suite says, at the clip's own rate, as float32,
without the clips that no system is given. Reconstructions under the same file names are measured with
`m2l-bench compare --external NAME=DIR`.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.autoencoders.own.external import wav_bytes
from benchmarks.datasets.clip_files import export_stems
from benchmarks.evaluation.plan import Planner
from benchmarks.evaluation.stages import count_reasons
from benchmarks.harness.executors import EXECUTORS, make_executor
from benchmarks.harness.run import RunOptions, run_units
from benchmarks.store.store import CorruptEntryError, Store
from benchmarks.suite import load_suite
from m2l.io.atomic import write_atomic

OK, FAILED = 0, 1


def main(argv: Sequence[str]) -> int:
    """Write the clips; exit code 0, or 1 when one could not be read or written."""
    parser = argparse.ArgumentParser(prog="m2l-bench export-clips", description=__doc__.split(": ", 1)[1])
    add = parser.add_argument
    add(
        "--suite", default="synthetic", metavar="NAME|FILE", help="a shipped suite or a TOML file (synthetic)"
    )
    add("-o", "--output", required=True, type=Path, metavar="DIR", help="where the WAV files go")
    add("--replace", action="store_true", help="replace files that are there and hold something else")
    add("--limit", type=int, default=0, metavar="N", help="only the first N clips")
    add("--executor", default="loky", choices=EXECUTORS, help="who reads the clips")
    add("--workers", type=int, metavar="N", help="local workers (default: the CPUs this process may use)")
    add("--store", metavar="DIR", help="where results of work units are kept (default: in the cache folder)")
    add("--quiet", action="store_true", help="no progress on stderr")
    add("--json", action="store_true", help="JSON on stdout")
    options = parser.parse_args(argv)
    from benchmarks.cli.options import open_store
    from benchmarks.errors import UsageError, check_folder

    check_folder("-o", options.output)
    try:
        run = RunOptions(limit=options.limit, quiet=options.quiet)
        executor = make_executor(options.executor, workers=options.workers)
    except ValueError as error:
        raise UsageError(str(error)) from None
    planner = Planner(load_suite(options.suite), run)
    with executor:
        report = run_units(planner.load_units, store := open_store(options.store), executor, run)
    try:
        found = export(planner, store, options.output, replace=options.replace)
    except (ValueError, FileExistsError) as error:
        raise UsageError(str(error)) from None
    found["failed_units"] = sorted({done.error or "" for done in report.failed.values()})
    if options.json:
        print(json.dumps(found, indent=2, sort_keys=True))
    else:
        print(f"{found['written']} clips written to {options.output}, {found['kept']} were there")
        for reason, count in found["left_out"].items():
            print(f"left out: {count} x {reason}")
        for cause in found["failed_units"]:
            print(f"failed: {cause}", file=sys.stderr)
    return FAILED if found["failed_units"] else OK


def export(planner: Planner, store: Store, folder: Path, *, replace: bool = False) -> dict[str, Any]:
    """Write the loaded clips of a plan and `clips.csv` into a folder.

    Returns:
        written, kept (counts), left_out (reason -> count), folder.

    Raises:
        FileExistsError: a file is there with other contents (reconstructions have the same names), and
            `replace` is False.
    """
    stems = export_stems(planner.all_clip_ids)
    written = kept = 0
    failures: dict[str, str] = {}
    lines: list[list[Any]] = []
    for unit in planner.load_units:
        try:
            result = store.get(unit.key)
        except (KeyError, CorruptEntryError):
            continue  # reported by the run
        failures |= result.meta["failures"]
        for clip_id, audio in result.arrays.items():
            rate = result.meta["sample_rates"][clip_id]
            file = f"{stems[clip_id]}.wav"
            data = wav_bytes(audio, rate)
            path = folder / file
            if path.is_file() and path.read_bytes() == data:
                kept += 1
            elif path.exists() and not replace:
                raise FileExistsError(f"{path} holds something else than the clip (--replace replaces it)")
            else:
                write_atomic(path, data)
                written += 1
            lines.append([file, clip_id, rate, audio.shape[0], audio.shape[1]])
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "clip", "sample_rate", "channels", "samples"])
    writer.writerows(lines)
    # Ids of files whose names are no Unicode are written as the bytes that they are.
    write_atomic(folder / "clips.csv", table.getvalue().encode(errors="surrogateescape"))
    return {"written": written, "kept": kept, "left_out": count_reasons(failures), "folder": str(folder)}
