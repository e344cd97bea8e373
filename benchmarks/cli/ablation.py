"""`m2l-bench ablation`: trains the rows of Table 3 from scratch and fills the table with them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cli.options import open_store
from benchmarks.compare.ablation import (
    CLIP_SECONDS,
    FULL,
    MINI,
    N_CLIPS,
    Ablation,
    Cost,
    render_training_clips,
    row_settings,
    runs_folder,
    title_of,
    with_rows,
)
from benchmarks.errors import FAILED, INTERRUPTED, MISSING, OK, UsageError, check_folder
from benchmarks.evaluation.left_out import say_left_out
from benchmarks.harness.base import Executor
from benchmarks.harness.executors import EXECUTORS, make_executor
from benchmarks.harness.run import RunOptions
from benchmarks.store.store import Store
from benchmarks.suite import Suite, SuiteError, load_suite
from benchmarks.tables.places import stem_for
from benchmarks.tables.table import FORMATS

if TYPE_CHECKING:
    from m2l.training import TrainingSettings

_EPILOG = """\
The same command again goes on where it stopped. Without --data the rows are trained on synthetic clips that are
rendered once into the cache, from seeds that no test clip has.

  m2l-bench ablation                              # the mini rows, steps as those that ship
  m2l-bench ablation --dry-run                    # what it costs here
  m2l-bench ablation --steps 200 --suite open --data music/=3 --data speech/
  m2l-bench ablation --full --data DIR --device cuda   # the paper's rows, 200k steps each
"""


def main(argv: Sequence[str]) -> int:
    """Train, export, measure, print; exit code 0, 1 failed, 3 data missing, 130 interrupted."""
    options = _parser().parse_args(argv)
    for option, folder in (("-o", options.output), ("--runs", options.runs)):
        if folder is not None:
            check_folder(option, folder)
    suite = load_suite(options.suite)
    if suite.table3 is None:
        raise SuiteError(f"suite {suite.name!r} has no [table3]")
    try:
        executor = make_executor(options.executor, workers=options.workers)
        run = RunOptions(device=options.device or "cpu", quiet=options.quiet, limit=options.limit)
    except ValueError as error:
        raise UsageError(str(error)) from None
    from m2l.config import ConfigError
    from m2l.io.atomic import InUseError
    from m2l.io.published import CheckpointError
    from m2l.training import SettingsError, TrainingStopped
    from m2l.training.data import DataError
    from m2l.training.loop import UnreadableDataError
    from m2l.training.readers import ReaderError

    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    try:
        ablation = _ablation(options)
        costs = ablation.costs()
        _state(costs, ablation)
        if options.dry_run:
            print(_costs_json(costs) if options.format == "json" else "\n".join(map(str, costs)))
            return OK
        if not _train(ablation, options.quiet):
            print("interrupted; the same command goes on from here", file=sys.stderr)
            return INTERRUPTED
        return _measure(ablation, suite, open_store(options.store), executor, run, options)
    except (TrainingStopped, ReaderError) as error:
        print(f"m2l-bench: training stopped at {error}", file=sys.stderr)
        return MISSING if isinstance(error, UnreadableDataError) else FAILED
    except (SettingsError, ConfigError, InUseError) as error:
        if isinstance(error, DataError):
            raise FileNotFoundError(str(error)) from None
        raise UsageError(str(error)) from None
    except CheckpointError as error:
        raise FileNotFoundError(str(error)) from None
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder that cannot be written to
        print(f"m2l-bench: {error}", file=sys.stderr)
        return MISSING


def _ablation(options: argparse.Namespace) -> Ablation:
    import torch

    presets = [name for item in options.presets or [] for name in item.split(",") if name]
    presets = presets or list(FULL if options.full else MINI)
    if len(set(presets)) != len(presets):
        raise UsageError(f"--presets names a row twice: {', '.join(presets)}")
    if options.clips < 1:
        raise UsageError(f"--clips must be at least 1, not {options.clips}")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    given = _given(options)
    # wrong settings fail before clips are rendered
    row_settings(presets, options.data, given, cuda=device.startswith("cuda"))
    data = options.data or [str(render_training_clips(options.clips, CLIP_SECONDS, quiet=options.quiet))]
    rows = row_settings(presets, data, given, cuda=device.startswith("cuda"))
    return Ablation(rows, runs_folder(rows, options.runs), device=device, workers=options.data_workers)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """`--steps` and `--setting NAME=VALUE` as settings."""
    from benchmarks.suite import tomllib

    given: dict[str, Any] = {} if options.steps is None else {"steps": options.steps}
    for item in options.setting:
        name, equals, text = item.partition("=")
        if not (name and equals):
            raise UsageError(f"--setting {item!r} is not of the form NAME=VALUE")
        if name in ("preset", "data", "init"):
            raise UsageError(
                f"--setting {item!r}: rows are told apart by --presets and trained alike by --data"
            )
        try:
            given[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            given[name] = text
    return given


def _state(costs: list[Cost], ablation: Ablation) -> None:
    """Say what it costs before it starts."""
    rows: dict[str, TrainingSettings] = ablation.rows
    any_row = next(iter(rows.values()))
    hours = sum(cost.hours for cost in costs)
    print(
        f"{len(costs)} rows of {any_row.steps} steps, batch {any_row.batch_size}, {any_row.precision}, "
        f"on {', '.join(any_row.data)}; {hours:.3g} h to train in all",
        *(f"  {cost}" for cost in costs),
        f"runs and checkpoints: {ablation.folder}",
        sep="\n",
        file=sys.stderr,
    )


def _train(ablation: Ablation, quiet: bool) -> bool:
    from m2l.training.interrupt import stopping

    for preset in ablation.rows:
        if not quiet:
            print(f"{title_of(preset)} ({preset})", file=sys.stderr)
        if not ablation.train(preset, while_training=stopping, quiet=quiet):
            return False
        ablation.export(preset)
    return True


def _measure(
    ablation: Ablation,
    suite: Suite,
    store: Store,
    executor: Executor,
    run: RunOptions,
    options: argparse.Namespace,
) -> int:
    from benchmarks.tables.paper import build_table3

    checkpoints = {preset: ablation.export(preset) for preset in ablation.rows}
    with executor:
        table, report = build_table3(with_rows(suite, checkpoints), store, executor, run)
    folder = options.output or ablation.folder / "results" / suite.name
    stem = stem_for(folder, table.name, failed=bool(report.failed))
    print("written:", *(str(path) for path in table.write(folder, stem)), file=sys.stderr)
    print(table.render(options.format))
    lost = say_left_out(report)
    if report.failed:
        causes = sorted({f"{done.stage} {done.name}: {done.error}" for done in report.failed.values()})
        print(f"{len(report.failed)} units failed:", *causes, sep="\n  ", file=sys.stderr)
        return FAILED
    return MISSING if lost or not table.measured else OK


def _costs_json(costs: list[Cost]) -> str:
    records = [
        {**dataclasses.asdict(cost), "hours": cost.hours, "title": title_of(cost.preset)} for cost in costs
    ]
    return json.dumps(records, indent=2, sort_keys=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2l-bench ablation",
        description="Train the rows of Table 3 from scratch, measure them, and print the table.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--suite", default="synthetic", metavar="NAME|FILE", help="what they are measured on (synthetic)")
    add("--steps", type=int, metavar="N", help="optimizer steps of each row (default: the preset's recipe)")
    add(
        "--data",
        action="append",
        default=[],
        metavar="PATH[=WEIGHT]",
        help="training data as for `m2l train`",
    )
    add("--presets", action="append", metavar="NAMES", help=f"rows (default: {','.join(MINI)})")
    add("--full", action="store_true", help="the paper's full-size rows, 200,000 steps each, unless --steps")
    add("--setting", action="append", default=[], metavar="NAME=VALUE",
        help="another setting of all rows: batch_size, seed, precision, … (m2l train --help)")  # fmt: skip
    add("--clips", type=int, default=N_CLIPS, metavar="N", help=f"rendered training clips ({N_CLIPS})")
    add("--runs", type=Path, metavar="DIR", help="folder of runs and checkpoints (default: in the cache)")
    add(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="where table3.* is written (default: beside the runs)",
    )
    add("--dry-run", action="store_true", help="state the cost, measured here, and train nothing")
    add("--device", help="where to train and measure (default: a GPU if there is one)")
    add("--threads", type=int, metavar="N", help="CPU threads of training (default: torch's choice)")
    add("--data-workers", type=int, default=0, metavar="N", help="processes that read training audio (0)")
    add("--executor", default="loky", choices=EXECUTORS, help="who measures (loky: local processes)")
    add("--workers", type=int, metavar="N", help="local workers that measure")
    add("--limit", type=int, default=0, metavar="N", help="measure only the first N clips")
    add("--store", metavar="DIR", help="where results of work units are kept (default: in the cache folder)")
    add("--quiet", action="store_true", help="no progress on stderr")
    add("--format", default="md", choices=FORMATS, help="what is printed (md)")
    add("--json", dest="format", action="store_const", const="json", help="same as --format json")
    return parser
