"""`m2l train`: train, resume or fine-tune; `m2l export`: a run's checkpoint as files to ship."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2l.cli.errors import FAILED, FINE, INTERRUPTED, MISSING, USAGE, MissingError, UsageError

if TYPE_CHECKING:
    from m2l.training import Trainer, TrainingSettings
    from m2l.training.distributed import World
    from m2l.training.validation import Validation


def add_train(commands: Any) -> None:
    """Add the sub-command `train` to the parser of `m2l`."""
    train = commands.add_parser(
        "train",
        help="train a model; the same command again resumes the run",
        description="Train a consistency autoencoder. Run under `torchrun --nproc-per-node=N -m m2l.cli train "
        "--run-dir RUN ...` for several processes (torchrun takes a plain --run for its own). "
        "Defaults are the preset's recipe; settings are kept in RUN and must not change.",
    )
    add = train.add_argument
    add("--preset", default="mini", metavar="NAME", help="architecture and recipe (default: mini)")
    add("--data", action="append", default=[], metavar="PATH[=WEIGHT]",
        help="folder, audio file or manifest (CSV or JSON lines with a column `path`); may be repeated, weights "
        "default to 1: equal probability")  # fmt: skip
    add("--split", default="train", help="rows used of manifests with a column `split` (default: train)")
    add(
        "--run",
        "--run-dir",
        dest="run",
        required=True,
        metavar="DIR",
        help="folder of the run: checkpoints, log.jsonl, settings",
    )
    add(
        "--init",
        metavar="NAME",
        help="fine-tune this checkpoint: a shipped one, a path, or the published one",
    )
    for name, kind, text in (
        ("steps", int, "optimizer steps"),
        ("batch-size", int, "crops per step, over all processes"),
        ("accumulate", int, "parts a batch is computed in, to save memory"),
        ("seed", int, "of initial weights, data and noise"),
        ("learning-rate", float, "after warm-up"),
        ("autoencoder-rate", float, "encoder and decoder learn this many times as fast as the UNet"),
        ("final-learning-rate", float, "at the end of the cosine"),
        ("warmup-steps", int, "steps of linear warm-up"),
        ("autoencoder-steps", int, "first steps, of encoder and decoder alone, which learn to draw spectra"),
        ("beta2", float, "the optimizer's second decay"),
        ("ema-decay", float, "of the averaged weights"),
        ("initial-delta-t", float, "Delta t at the first step (Eq. 13)"),
        ("final-exponent", float, "Delta t ends at initial^this"),
        ("band-weight", float, "of the loudness of bands in the loss; 0: left out, as in the paper"),
        (
            "level-weight",
            float,
            "weight of the output's overall level in the loss; 0 leaves it out, as in the paper",
        ),
        ("spectrum-weight", float, "of what the decoder draws, once the UNet takes part"),
        ("direct-share", float, "share of items taught to go from sigma_max to the input in one step"),
        ("silence-rms", float, "quieter crops are drawn again"),
        ("explosion", float, "stop when a loss is this many times the median of the last 100"),
    ):
        add(f"--{name}", type=kind, metavar="N" if kind is int else "X", help=text)
    add("--optimizer", choices=("radam", "muon"), help="the paper's, or one that learns more per step")
    add(
        "--density",
        choices=("grid", "lognormal"),
        help="of training times: the published code's, or lognormal sigma",
    )
    add(
        "--weighting",
        choices=("gap", "output"),
        help="of noise levels: Eq. 12, or errors of the raw network's output",
    )
    add("--precision", choices=("float32", "bfloat16", "float16"), help="of the network while training")
    add(
        "--lsuv",
        action=argparse.BooleanOptionalAction,
        help="scale the way of the latents to unit variance first",
    )
    add("--compile", action="store_true", default=None, help="torch.compile the step (minutes at the start)")
    add("--device", help="cpu, cuda, cuda:1; default: the process's GPU if there is one")
    add(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="processes that read audio (default: 0, none of their own)",
    )
    add("--threads", type=int, metavar="N", help="CPU threads of the network (default: torch's choice)")
    add("--until", type=int, metavar="N", help="stop at this step, with the schedule of the whole run")
    add(
        "--checkpoint-every",
        type=int,
        default=1000,
        metavar="N",
        help="steps between checkpoints (default: 1000)",
    )
    add("--keep", type=int, default=3, metavar="N", help="last checkpoints kept (default: 3)")
    add("--milestone", type=int, metavar="N", help="keep those of every N-th step for good")
    add(
        "--log-every",
        type=int,
        default=10,
        metavar="N",
        help="steps between lines of log.jsonl (default: 10)",
    )
    add("--validation", metavar="PATH", help="folder or manifest to reconstruct from time to time")
    add(
        "--validation-split",
        default="validation",
        help="its rows, if it has a column `split` (default: validation)",
    )
    add(
        "--validate-every",
        type=int,
        default=1000,
        metavar="N",
        help="steps between validations (default: 1000)",
    )
    add("--validation-clips", type=int, default=8, metavar="N", help="clips of up to 10 s each (default: 8)")
    add(
        "--dry-run",
        action="store_true",
        help="print the resolved run, its memory and time, and train nothing",
    )
    add("--json", action="store_true", help="print the result as one JSON object")
    add("--quiet", action="store_true", help="no progress on stderr")


def add_export(commands: Any) -> None:
    """Add the sub-command `export` to the parser of `m2l`."""
    export = commands.add_parser(
        "export",
        help="a run's averaged weights as float16 safetensors, with config and model card",
        description="Write config.json, model.safetensors and card.json, a folder that every command takes for "
        "--checkpoint. latent_scale becomes the standard deviation of the latents of crops of the run's data.",
    )
    add = export.add_argument
    add("source", metavar="RUN", help="a run of m2l train, or one of its checkpoints (step-…)")
    add("-o", "--output", required=True, metavar="DIR", help="folder to write")
    add("--dtype", choices=("float32", "float16", "bfloat16"), default="float16", help="of the weights")
    add("--license", default="", metavar="TEXT", help="license of the weights, for the card")
    add(
        "--dataset",
        action="append",
        default=[],
        metavar="NAME=LICENSE",
        help="data set trained on, for the card; may be repeated",
    )
    add("--note", action="append", default=[], metavar="TEXT", help="a line for the card; may be repeated")
    add(
        "--metrics",
        metavar="FILE",
        help="JSON object of measured figures, for the card (default: the log's last validation)",
    )
    add(
        "--crops",
        type=int,
        default=64,
        metavar="N",
        help="crops that latent_scale is measured on (default: 64)",
    )


def resolved_settings(args: argparse.Namespace) -> TrainingSettings:
    """The settings that the options, the preset's recipe and the defaults make, in this order.

    Raises:
        UsageError: for values that make no sense.
    """
    from m2l.config import ConfigError, create_config
    from m2l.training import SettingsError, TrainingSettings
    from m2l.training.settings import with_recipe

    given = {
        field.name: getattr(args, field.name)
        for field in dataclasses.fields(TrainingSettings)
        if getattr(args, field.name, None) not in (None, [])
    }
    if args.init is not None:
        given["preset"] = args.preset
    try:
        create_config(args.preset)
        return TrainingSettings(**with_recipe(args.preset, given))
    except (SettingsError, ConfigError) as error:
        raise UsageError(error) from error


def _check(args: argparse.Namespace) -> None:
    """Raise `UsageError` for options that argparse accepts and that make no sense."""
    if not args.data:
        raise UsageError("--data is needed: a folder, audio file or manifest")
    for name in (
        "checkpoint_every", "keep", "log_every", "validate_every", "validation_clips", "threads", "until", "milestone",
    ):  # fmt: skip
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    if args.workers < 0:
        raise UsageError(f"--workers must be at least 0, not {args.workers}")
    if os.path.lexists(args.run) and not os.path.isdir(args.run):
        raise UsageError(f"--run {args.run} is not a folder")


def run_train(args: argparse.Namespace) -> int:
    """Train as the options say; returns the exit code. Of several processes only one says what went wrong."""
    from m2l.training.distributed import PeerError, world

    try:
        with world(args.device) as here:
            return _train(args, here)
    except BrokenPipeError:
        raise
    except PeerError:
        _yield_to_torchrun()
        return FAILED
    except Exception as error:
        code, message = _explained(error, args.run)
        if code is None:
            raise
        if os.environ.get("RANK", "0") not in ("", "0"):
            _yield_to_torchrun()
        print(f"m2l: {message}", file=sys.stderr)
        return code


def _yield_to_torchrun() -> None:
    """Leave the word to the process that failed first: torchrun ends the others, which fail for the same reason."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(3)


def _train(args: argparse.Namespace, here: World) -> int:
    from m2l.training.interrupt import stopping

    with here.together():
        trainer, validation = _open(args, here)
    if args.dry_run:
        with here.together():
            _print_rehearsal(trainer, args)
        return FINE
    with stopping(trainer) as stopped:
        step = trainer.train(
            until=args.until, checkpoint_every=args.checkpoint_every, keep=args.keep,
            milestone=args.milestone, log_every=args.log_every, validate_every=args.validate_every,
            validate=validation, quiet=args.quiet,
        )  # fmt: skip
    if here.is_main:
        steps = trainer.settings.steps
        result = {"run": args.run, "step": step, "steps": steps, "complete": step == steps}
        print(json.dumps(result) if args.json else f"{args.run}: step {step} of {steps}")
        if stopped:
            print("m2l: interrupted; the same command goes on from here", file=sys.stderr)
    return INTERRUPTED if stopped else FINE


def _open(args: argparse.Namespace, here: World) -> tuple[Trainer, Validation | None]:
    import torch

    from m2l.training import Trainer
    from m2l.training.validation import Validation

    settings = resolved_settings(args)
    _check(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    on_cpu = here.device(args.device).type != "cuda"
    if args.dry_run and args.precision is None and settings.precision == "float16" and on_cpu:
        settings = dataclasses.replace(settings, precision="bfloat16")
        if here.is_main:
            print(
                f"m2l: {args.preset} is trained in float16, which needs a CUDA device; this is what "
                "--precision bfloat16 takes here",
                file=sys.stderr,
            )
    trainer = Trainer(settings, args.run, device=args.device, world=here, workers=args.workers)
    if not args.validation or args.dry_run:
        return trainer, None
    folder = Path(args.run) / "validation"
    clips, quiet = args.validation_clips, not here.is_main
    return trainer, Validation(args.validation, folder, args.validation_split, clips, quiet=quiet)


def _explained(error: Exception, run: str) -> tuple[int | None, object]:
    """Exit code and message for an error; no code for one that is a fault of the program."""
    import torch

    from m2l.config import ConfigError
    from m2l.io.atomic import InUseError
    from m2l.io.checkpoints import WeightsNotFoundError
    from m2l.io.published import CheckpointError
    from m2l.training import SettingsError, TrainingStopped
    from m2l.training.checkpoint import list_checkpoints
    from m2l.training.data import DataError
    from m2l.training.loop import UnreadableDataError
    from m2l.training.readers import ReaderError

    if isinstance(error, TrainingStopped):
        return MISSING if isinstance(error, UnreadableDataError) else FAILED, f"stopped at {error}"
    if isinstance(error, DataError | CheckpointError | WeightsNotFoundError | MissingError):
        return MISSING, error
    if isinstance(error, SettingsError | ConfigError | UsageError):
        return USAGE, error
    if isinstance(error, InUseError):
        return USAGE, f"{error}; give another --run, or wait for its end"
    if isinstance(error, ReaderError):
        return FAILED, error
    if isinstance(
        error, OSError
    ):  # a full disk, a folder that cannot be written to, weights that are not there
        kept = list_checkpoints(Path(run))
        return (
            FAILED if kept else MISSING,
            f"{error}{f'; the last checkpoint in {run} is whole' if kept else ''}",
        )
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in text:
        return FAILED, f"out of memory: {text}; --accumulate N computes a batch in N parts"
    if "by peer" in text:  # what gloo says of a process that was killed
        return FAILED, f"another process of the run is gone ({text}); the last checkpoint in {run} is whole"
    return None, error


def _print_rehearsal(trainer: Trainer, args: argparse.Namespace) -> None:
    """What `--dry-run` shows: everything resolved, and two steps' worth of time and memory."""
    trainer.complain()
    facts = trainer.describe()
    measured = trainer.rehearse()
    left = trainer.settings.steps - trainer.state.step
    facts["seconds_per_step"] = round(measured["seconds_per_step"], 4)
    facts["hours_to_go"] = round(left * measured["seconds_per_step"] / 3600, 2)
    facts["peak_memory_gb"] = round(measured["peak_bytes"] / 1e9, 2)
    facts["checkpoint_mb"] = round(trainer.parameters * 16 / 1e6, 1)
    if not trainer.world.is_main:
        return
    if args.json:
        print(json.dumps(facts, indent=2))
        return
    for group in ("settings", "model"):
        print(f"{group}:")
        for name, value in facts.pop(group).items():
            print(f"  {name} = {json.dumps(value)}")
    for corpus in facts.pop("corpora"):
        if left_out := corpus.pop("left_out", None):
            corpus["left out"] = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        print(f"corpus: {', '.join(f'{name} {value}' for name, value in corpus.items())}")
    for name, value in facts.items():
        print(f"{name}: {value}")


def run_export(args: argparse.Namespace) -> int:
    """Export as the options say; returns the exit code."""
    from m2l.config import ConfigError
    from m2l.io.published import CheckpointError
    from m2l.training.export import export
    from m2l.training.settings import SettingsError

    if args.crops < 1:
        raise UsageError(f"--crops must be at least 1, not {args.crops}")
    try:
        metrics = None if args.metrics is None else json.loads(Path(args.metrics).read_text(encoding="utf-8"))
        if not isinstance(metrics, dict | None):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise MissingError(f"--metrics {args.metrics}: {error}") from error
    source, output = Path(args.source), Path(args.output)
    try:
        card = export(
            source, output, dtype=args.dtype, license=args.license, notes=args.note,
            datasets=dict(entry.partition("=")[::2] for entry in args.dataset) or None, crops=args.crops,
            metrics=metrics,
        )  # fmt: skip
    except (CheckpointError, SettingsError, ConfigError, OSError) as error:
        raise MissingError(error) from error
    print(json.dumps(card, indent=2))
    return FINE
