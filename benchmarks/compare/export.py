"""A suite's clips as WAV files, for systems that run elsewhere.

What is written is what every system is given: with the channels that the suite keeps, at the clip's own rate, as
float32, without the clips that no system is given. Reconstructions under the same file names are measured with
`m2l-bench compare --external NAME=DIR`.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from benchmarks.autoencoders.own.external import wav_bytes
from benchmarks.datasets.clip_files import export_stems
from benchmarks.evaluation.left_out import count_reasons
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.base import Executor
from benchmarks.harness.run import RunOptions, run_units
from benchmarks.store.store import CorruptEntryError, Store
from benchmarks.suite import Suite
from m2l.io.atomic import write_atomic


def export_suite(
    suite: Suite, run: RunOptions, executor: Executor, store: Store, folder: Path, *, replace: bool = False
) -> dict[str, Any]:
    """Load a suite's clips and write them into a folder.

    Returns:
        What `export` returns, and failed_units: causes of clips that could not be read.

    Raises:
        FileExistsError: as for `export`.
    """
    planner = Planner(suite, run)
    with executor:
        report = run_units(planner.stereo_units or planner.load_units, store, executor, run)
    found = export(planner, store, folder, replace=replace)
    found["failed_units"] = sorted({done.error or "" for done in report.failed.values()})
    return found


def export(planner: Planner, store: Store, folder: Path, *, replace: bool = False) -> dict[str, Any]:
    """Write the loaded clips of a plan and `clips.csv` into a folder.

    Returns:
        written, kept (counts), left_out (reason -> count), folder.

    Raises:
        FileExistsError: a file exists with other contents (reconstructions have the same names), and
            `replace` is False.
    """
    stems = export_stems(planner.all_clip_ids)
    written = kept = 0
    failures: dict[str, str] = {}
    lines: list[list[Any]] = []
    for unit in planner.stereo_units or planner.load_units:
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
                raise FileExistsError(f"{path} holds something else than the clip (--overwrite replaces it)")
            else:
                write_atomic(path, data)
                written += 1
            lines.append([file, clip_id, planner.groups.get(clip_id, ""), rate, audio.shape[0], audio.shape[1]])
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "clip", "group", "sample_rate", "channels", "samples"])
    writer.writerows(lines)
    # Ids of files whose names are no Unicode are written as the bytes that they are.
    write_atomic(folder / "clips.csv", table.getvalue().encode(errors="surrogateescape"))
    return {"written": written, "kept": kept, "left_out": count_reasons(failures), "folder": str(folder)}
