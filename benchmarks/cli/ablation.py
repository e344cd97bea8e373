"""`m2l-bench ablation`: trains the rows of Table 3 from scratch and measures them."""

from __future__ import annotations

import json as jsons
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from benchmarks.cli.options import (
    MACHINE,
    DryRun,
    Format,
    JsonFormat,
    Limit,
    Machine,
    Names,
    Output,
    SuiteName,
    finish,
    split_names,
    toml_setting,
)
from benchmarks.errors import FAILED, INTERRUPTED, MISSING, OK, UsageError, check_folder
from benchmarks.suite import SuiteError, load_suite
from m2l.cli.plain import Whole

if TYPE_CHECKING:
    from benchmarks.compare.ablation import Ablation, Cost
    from m2l.training import TrainingSettings


def ablation(
    *,
    suite: SuiteName = "synthetic",
    steps: Whole | None = None,
    data: Annotated[list[str] | None, Parameter(metavar="PATH[=WEIGHT]")] = None,
    presets: Names = None,
    full: bool = False,
    setting: Annotated[list[str] | None, Parameter(metavar="NAME=VALUE")] = None,
    clips: Whole = 150,
    runs: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    output: Output = None,
    device: Annotated[str | None, Parameter(metavar="NAME")] = None,
    threads: Whole | None = None,
    data_workers: Whole = 0,
    limit: Limit = 0,
    machine: Machine = MACHINE,
    dry_run: DryRun = False,
    format: Format = "md",
    json: JsonFormat = False,
) -> int:
    """Train the rows of Table 3 from scratch, measure them, and print the table.

    The same command resumes where an earlier one stopped. Without --data the rows are trained on synthetic clips,
    rendered once into the cache from seeds that no test clip has.

      m2l-bench ablation                              # the mini rows, with the steps of those that ship
      m2l-bench ablation --dry-run                    # what it costs on this machine
      m2l-bench ablation --steps 200 --suite open --data music/=3 --data speech/
      m2l-bench ablation --full --data DIR --device cuda   # the paper's rows, 200k steps each

    Args:
        steps: optimizer steps of each row (default: the preset's recipe)
        data: training data as for m2l train; may be repeated
        presets: rows (default: the three mini rows)
        full: the paper's full-size rows, 200,000 steps each unless --steps is given
        setting: another setting of all rows, as in m2l train: batch_size, seed, precision, …; may be repeated
        clips: number of rendered training clips
        runs: folder of runs and checkpoints (default: in the cache)
        output: folder to write table3.* to (default: beside the runs)
        device: device to train and measure on (default: a GPU if one is available)
        threads: CPU threads for training (default: torch's choice)
        data_workers: processes that read training audio
    """
    for option, folder in (("-o", output), ("--runs", runs)):
        if folder is not None:
            check_folder(option, folder)
    chosen = load_suite(suite)
    if chosen.table3 is None:
        raise SuiteError(f"suite {chosen.name!r} has no [table3]")
    run, executor, store = machine.open(device=device or "cpu", limit=limit)
    given = _settings(steps, setting or [])
    from benchmarks.compare.ablation import FULL, MINI, measure_rows
    from m2l.config import ConfigError
    from m2l.io.atomic import InUseError
    from m2l.io.torch_files import CheckpointError
    from m2l.training import SettingsError, TrainingStopped
    from m2l.training.data import DataError
    from m2l.training.loop import UnreadableDataError
    from m2l.training.readers import ReaderError

    if threads:
        import torch

        torch.set_num_threads(threads)
    try:
        names = split_names(presets) or list(FULL if full else MINI)
        planned = _ablation(names, data or [], given, clips, runs, device, data_workers, quiet=machine.quiet)
        costs = planned.costs()
        _state(costs, planned)
        if dry_run:
            records = [cost.record() for cost in costs]
            as_json = json or format == "json"
            print(jsons.dumps(records, indent=2, sort_keys=True) if as_json else "\n".join(map(str, costs)))
            return OK
        if not _train(planned, machine.quiet):
            print("interrupted; the same command resumes from here", file=sys.stderr)
            return INTERRUPTED
        table, report, paths = measure_rows(planned, chosen, store, executor, run, output)
        print("written:", *(str(path) for path in paths), file=sys.stderr)
        print(table.render("json" if json else format))
        return finish(report, verbose=machine.verbose, measured=table.measured)
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


def _ablation(
    presets: list[str],
    data: list[str],
    given: dict[str, Any],
    clips: int,
    runs: Path | None,
    device: str | None,
    workers: int,
    *,
    quiet: bool,
) -> Ablation:
    import torch

    from benchmarks.compare.ablation import Ablation, row_settings, runs_folder
    from benchmarks.fetch.render_clips import render_synthetic

    if len(set(presets)) != len(presets):
        raise UsageError(f"--presets names a row twice: {', '.join(presets)}")
    if clips < 1:
        raise UsageError(f"--clips must be at least 1, not {clips}")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    cuda = device.startswith("cuda")
    row_settings(presets, data, given, cuda=cuda)  # wrong settings fail before clips are rendered
    data = data or [str(render_synthetic(clips, quiet=quiet))]
    rows = row_settings(presets, data, given, cuda=cuda)
    return Ablation(rows, runs_folder(rows, runs), device=device, workers=workers)


def _settings(steps: int | None, items: list[str]) -> dict[str, Any]:
    """`--steps` and `--setting NAME=VALUE` as settings."""
    given: dict[str, Any] = {} if steps is None else {"steps": steps}
    for item in items:
        name, value = toml_setting("--setting", item)
        if name in ("preset", "data", "init"):
            raise UsageError(f"--setting {item!r}: rows are told apart by --presets and trained alike by --data")
        given[name] = value
    return given


def _state(costs: list[Cost], ablation: Ablation) -> None:
    """Print the cost before training starts."""
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
    """Train and export every row; False when it was interrupted."""
    from benchmarks.compare.ablation import title_of
    from m2l.training.stops import stopping

    for preset in ablation.rows:
        if not quiet:
            print(f"{title_of(preset)} ({preset})", file=sys.stderr)
        if not ablation.train(preset, while_training=stopping, quiet=quiet):
            return False
        ablation.export(preset)
    return True
