"""`m2l train`: train, resume or fine-tune; `m2l export`: a run's checkpoint as files to ship."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from dataclasses import dataclass
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from cyclopts import Parameter

from m2l.cli.common import (
    FAILED,
    FINE,
    INTERRUPTED,
    MISSING,
    USAGE,
    Dtype,
    MissingError,
    Name,
    UsageError,
    check_device,
    fail,
    is_follower,
    load_model,
    option,
    path,
    say,
    yield_to_torchrun,
)
from m2l.cli.plain import whole
from m2l.training.settings import RECIPES, SettingsError, TrainingSettings, with_recipe

if TYPE_CHECKING:
    from m2l.training import Trainer
    from m2l.training.distributed import World
    from m2l.training.validation import Validation

#: The preset of a run that names none.
PRESET = "mini"


# --- options ------------------------------------------------------------------------------------------------------


def _option(setting: dataclasses.Field[Any], kind: Any) -> tuple[str, Any, Any]:
    """A field of `TrainingSettings` as an option, None unless it is given."""
    small, reference = (RECIPES.get(one, {}).get(setting.name, setting.default) for one in (PRESET, "paper"))
    default = f"{small} for {PRESET}, {reference} for paper" if small != reference else reference
    if setting.name == "preset":
        default = PRESET
    told = default is not None and default != () and default is not False
    text = setting.metadata["help"] + (f" (default: {default})" if told else "")
    choices = setting.metadata["choices"]
    # A recipe that switches something on can be overridden.
    on = kind is bool and any(setting.name in recipe for recipe in RECIPES.values())
    metavar = {int: "N", float: "X", tuple[str, ...]: "PATH[=WEIGHT]"}.get(kind, "NAME")
    kind = Literal[choices] if choices else {tuple[str, ...]: list[str], str | None: str}.get(kind, kind)
    if setting.name in ("init", "data"):
        parameter = path(f"--{setting.name}", metavar, help=text)
    else:
        converter = whole() if kind is int else None
        parameter = Parameter(
            converter=converter,
            metavar=metavar,
            negative=f"--no-{setting.name}" if on else (),
            help=text,
            show_default=False,
        )
    return setting.name, Annotated[kind | None, parameter], None


_KINDS = get_type_hints(TrainingSettings)
#: The settings that a command line gives; the preset's recipe and the defaults fill in the others.
Given: Any = dataclasses.make_dataclass(
    "Given", [_option(one, _KINDS[one.name]) for one in dataclasses.fields(TrainingSettings)], frozen=True
)
Given.__module__ = __name__  # cyclopts does not look into classes of the standard library


def resolved_settings(given: Any) -> TrainingSettings:
    """The settings that the options, the preset's recipe and the defaults make, in this order.

    Args:
        given: a `Given`.

    Raises:
        UsageError: for values that make no sense.
    """
    from m2l.config import ConfigError, create_config

    values = {name: value for name, value in dataclasses.asdict(given).items() if value is not None}
    preset = values.setdefault("preset", PRESET)
    try:
        create_config(preset)
    except ConfigError as error:
        raise UsageError(f"--preset: {error}") from error
    try:
        return TrainingSettings(**with_recipe(preset, values))
    except SettingsError as error:
        raise UsageError(error) from error


_Count = Annotated[int, Parameter(converter=whole(1), metavar="N")]
_Limit = Annotated[int | None, Parameter(converter=whole(1), metavar="N")]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to train, which does not change what a run computes."""

    device: Name = option(None, "cpu, cuda or cuda:1 (default: the process's GPU if available)")
    workers: Annotated[int, Parameter(converter=whole(0), metavar="N")] = option(
        0, "processes that read audio; 0 reads in the main one"
    )
    threads: _Limit = option(None, "CPU threads of the network (default: chosen by torch)")
    until: _Limit = option(None, "stop at this step, with the schedule of the whole run")
    checkpoint_every: _Count = option(1000, "steps between checkpoints")
    keep: _Count = option(3, "number of latest checkpoints to keep")
    milestone: _Limit = option(None, "keep the checkpoint of every N-th step for good")
    log_every: _Count = option(10, "steps between lines of log.jsonl")
    validation: Annotated[str | None, path("--validation")] = option(None, "folder or manifest to validate with")
    validation_split: Annotated[str, Parameter(metavar="NAME")] = option(
        "validation", "rows to use of validation manifests with a column 'split'"
    )
    validate_every: _Count = option(1000, "steps between validations")
    validation_clips: _Count = option(8, "number of validation clips, of up to 10 s each")
    dry_run: bool = option(False, "print the resolved settings, memory and time, and do not train")
    json: bool = option(False, "print the result as one JSON object")
    quiet: bool = option(False, "no progress on stderr")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Precision of exported weights, and what their model card says."""

    dtype: Dtype = option("float16", "precision of the weights")
    license: Annotated[str, Parameter(metavar="TEXT", show_default=False)] = option("", "license of the weights")
    dataset: Annotated[list[str] | None, Parameter(metavar="NAME=LICENSE")] = option(
        None, "data set trained on; may be repeated (default: the names of the run's data)"
    )
    note: Annotated[list[str] | None, Parameter(metavar="TEXT")] = option(None, "a line of notes; may be repeated")
    metrics: Annotated[str | None, path("--metrics", "FILE")] = option(
        None, "JSON object of measured figures (default: the last validation in the log)"
    )
    crops: _Count = option(64, "number of crops to measure latent_scale on")


# --- m2l train ----------------------------------------------------------------------------------------------------


def train(
    *,
    run: Annotated[str, path("--run", "RUN", help="folder of the run: checkpoints, log.jsonl and settings")],
    given: Annotated[Given, Parameter(name="*")] = Given(),  # noqa: B008 - frozen
    options: Annotated[Options, Parameter(name="*")] = Options(),
) -> int:
    """Train a model, or resume a training run."""
    settings = resolved_settings(given)
    _check(settings, run, options)
    on_cpu = check_device(options.device).type != "cuda"
    if options.dry_run and settings.precision == "float16" and given.precision is None and on_cpu:
        settings = dataclasses.replace(settings, precision="bfloat16")
        if not is_follower():
            say(
                f"m2l: {settings.preset} is trained in float16, which needs a CUDA device; this is what "
                "--precision bfloat16 takes here"
            )
    return run_training(settings, run, options)


def _check(settings: TrainingSettings, run: str, options: Options) -> None:
    """Raise `UsageError` for options that make no sense together or on this machine."""
    if not settings.data:
        raise UsageError("--data is needed: a folder, audio file or manifest")
    if os.path.lexists(run) and not os.path.isdir(run):
        raise UsageError(f"--run {run} is not a folder")


def run_training(settings: TrainingSettings, run: str, options: Options) -> int:
    """Train as the options say; returns the exit code. Of several processes only one says what went wrong."""
    from m2l.training.distributed import PeerError, world

    try:
        with world(options.device) as here:
            return _train(settings, run, options, here)
    except BrokenPipeError:
        raise
    except PeerError:
        yield_to_torchrun()
        return FAILED
    except Exception as error:
        code, message = _explained(error, run)
        if code is None:
            raise
        return fail(message, code)


def _train(settings: TrainingSettings, run: str, options: Options, here: World) -> int:
    from m2l.training.stops import stopping

    with here.together():
        trainer, validation = _open(settings, run, options, here)
    if options.dry_run:
        with here.together():
            _print_rehearsal(trainer, options)
        return FINE
    with stopping(trainer) as stopped:
        step = trainer.train(
            until=options.until, checkpoint_every=options.checkpoint_every, keep=options.keep,
            milestone=options.milestone, log_every=options.log_every, validate_every=options.validate_every,
            validate=validation, quiet=options.quiet,
        )  # fmt: skip
    if here.is_main:
        steps = trainer.settings.steps
        result = {"run": run, "step": step, "steps": steps, "complete": step == steps}
        print(dumps(result) if options.json else f"{run}: step {step} of {steps}")
        if stopped:
            say("m2l: interrupted; the same command resumes from here")
    return INTERRUPTED if stopped else FINE


def _open(settings: TrainingSettings, run: str, options: Options, here: World) -> tuple[Trainer, Validation | None]:
    import torch

    from m2l.training import Trainer
    from m2l.training.validation import Validation

    if options.threads:
        torch.set_num_threads(options.threads)
    trainer = Trainer(settings, run, device=options.device, world=here, workers=options.workers)
    if not options.validation or options.dry_run:
        return trainer, None
    folder = Path(run) / "validation"
    clips, quiet = options.validation_clips, not here.is_main
    return trainer, Validation(options.validation, folder, options.validation_split, clips, quiet=quiet)


def _explained(error: Exception, run: str) -> tuple[int | None, object]:
    """Exit code and message for an error; no code for one that is a fault of the program."""
    import torch

    from m2l.config import ConfigError
    from m2l.io.atomic import InUseError
    from m2l.io.checkpoint_files import WeightsNotFoundError
    from m2l.io.torch_files import CheckpointError
    from m2l.training import TrainingStopped
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
        return USAGE, f"{error}; give another --run, or wait for it to end"
    if isinstance(error, ReaderError):
        return FAILED, error
    if isinstance(error, OSError):  # a full disk, a read-only folder, missing weights
        kept = list_checkpoints(Path(run))
        hint = f"; the last checkpoint in {run} is whole" if kept else ""
        return FAILED if kept else MISSING, f"{error}{hint}"
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in text:
        return FAILED, f"out of memory: {text}; --gradient-accumulation N computes a batch in N parts"
    if "by peer" in text:  # what gloo says of a process that was killed
        return FAILED, f"another process of the run has died ({text}); the last checkpoint in {run} is whole"
    return None, error


def _print_rehearsal(trainer: Trainer, options: Options) -> None:
    """Print what `--dry-run` promises: everything resolved, and the time and memory of two steps."""
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
    if options.json:
        print(dumps(facts, indent=2))
        return
    for group in ("settings", "model"):
        print(f"{group}:")
        for name, value in facts.pop(group).items():
            print(f"  {name} = {dumps(value)}")
    for corpus in facts.pop("corpora"):
        if left_out := corpus.pop("left_out", None):
            corpus["left out"] = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        print(f"corpus: {', '.join(f'{name} {value}' for name, value in corpus.items())}")
    for name, value in facts.items():
        print(f"{name}: {value}")


# --- m2l export ---------------------------------------------------------------------------------------------------


def export(
    source: Annotated[
        str,
        path("RUN", name="RUN", help="a run of m2l train, or one of its checkpoints (step-…); for onnx any checkpoint"),
    ],
    /,
    *,
    output: Annotated[str, path("--output", "OUT", alias="-o", help="folder to write")],
    format: Annotated[
        Literal["checkpoint", "onnx"],
        Parameter(help="files of this package, or encoder.onnx and decoder.onnx, audio to latents and back"),
    ] = "checkpoint",
    card: Annotated[Card, Parameter(name="*")] = Card(),
) -> int:
    """Write the averaged weights of a training run as a checkpoint, or a model as ONNX graphs."""
    if format == "onnx":
        return _export_graphs(source, output, card)
    print(dumps(_export_run(source, Path(output), card), indent=2))
    return FINE


def _export_graphs(source: str, output: str, card: Card) -> int:
    """`m2l export --format onnx`: of a run its averaged weights in float32, of another checkpoint its weights."""
    from m2l.graphs import GraphError, export_graphs
    from m2l.training.checkpoint import is_checkpoint, list_checkpoints

    if card != Card():
        raise UsageError("--format onnx writes no card and one precision: leave out the options of the card")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(source)
        if place.is_dir() and (is_checkpoint(place) or list_checkpoints(place)):
            _export_run(source, Path(scratch), dataclasses.replace(card, dtype="float32"))
            source = scratch
        model, _ = load_model(source, device="cpu")
        try:
            print(dumps(export_graphs(model, Path(output), say=lambda line: say(f"m2l: {line}")), indent=2))
        except GraphError as error:
            raise MissingError(error) from error
    return FINE


def _export_run(source: str, output: Path, card: Card) -> dict[str, Any]:
    from m2l.config import ConfigError
    from m2l.io.torch_files import CheckpointError
    from m2l.training.export import export

    try:
        metrics = None if card.metrics is None else loads(Path(card.metrics).read_text(encoding="utf-8"))
        if not isinstance(metrics, dict | None):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise MissingError(f"--metrics {card.metrics}: {error}") from error
    licenses = dict(entry.partition("=")[::2] for entry in card.dataset or ())
    try:
        return export(
            Path(source), output, dtype=card.dtype, license=card.license, notes=card.note,
            datasets=licenses or None, crops=card.crops, metrics=metrics,
        )  # fmt: skip
    except (CheckpointError, SettingsError, ConfigError, OSError) as error:
        raise MissingError(error) from error
