"""Files through the model: `m2l encode`, `decode` and `reconstruct`."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from m2l.audio import AudioError, audio_info, output_format
from m2l.cli.common import check_device, load_model, portable_name
from m2l.cli.errors import FAILED, FINE, MissingError, UsageError, message_of, say
from m2l.cli.jobs import Job, Plan, plan_jobs
from m2l.cli.pipes import as_file, is_pipe
from m2l.cli.record import Record, Source, content_digest, job_key, record_above
from m2l.io.atomic import InUseError, exclusive, remove_leftovers
from m2l.io.latents import LatentsError, LatentsReader

if TYPE_CHECKING:
    from m2l.model import Music2Latent


@dataclass
class Outcome:
    """The fate of one input: made, skipped (done already), failed, or not tried (the disk is full)."""

    input: str
    output: str
    status: str
    error: str | None = None
    #: Seconds of audio, and seconds it took.
    audio_seconds: float | None = None
    took: float | None = None
    #: What is missing of an input that was read with --incomplete.
    fault: str | None = None


@dataclass
class _Models:
    """Models by name; the last one stays loaded, since neighboring files mostly share it."""

    device: str | None
    dtype: str
    _name: str = ""
    _loaded: tuple[Music2Latent, str] | None = field(default=None, repr=False)

    def get(self, name: str) -> tuple[Music2Latent, str]:
        if self._loaded is None or self._name != name:
            self._loaded = None  # free the old one first
            self._loaded, self._name = load_model(name, self.device, self.dtype), name
        return self._loaded


def run_files(args: argparse.Namespace) -> int:
    """Run the command on all its inputs; returns the exit code."""
    plan = plan_jobs(args)
    if plan.left_out:  # never without a word, also with --quiet
        say(f"m2l: left out {plan.reasons()}: {_some(plan)}")
    if args.command != "encode":
        _check_format(args, plan.jobs)
    check_device(args.device)
    models = _Models(args.device, args.dtype)
    if args.checkpoint is not None:
        model, _ = models.get(args.checkpoint)
        _window(args, model)
    if plan.folder is None:
        return _report(args, plan, _run_all(args, plan.jobs, models, None))
    with ExitStack() as held:
        try:
            plan.folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(exclusive(plan.folder))
            record = Record(plan.folder)
        except InUseError as error:
            raise MissingError(f"{error}; wait for it, or choose another OUT") from error
        except OSError as error:
            raise UsageError(f"cannot write to {plan.folder}: {error.strerror or error}") from error
        for folder in {job.target.parent for job in plan.jobs}:
            remove_leftovers(folder)
        return _report(args, plan, _run_all(args, plan.jobs, models, record))


def _some(plan: Plan, limit: int = 3) -> str:
    """The first few paths that were left out."""
    paths = [str(path) for several in plan.left_out.values() for path in several]
    return ", ".join(paths[:limit]) + (" …" if len(paths) > limit else "")


def _check_format(args: argparse.Namespace, jobs: list[Job]) -> None:
    try:
        output_format(jobs[0].target, args.subtype)
    except AudioError as error:
        raise UsageError(error) from error


def _window(args: argparse.Namespace, model: Music2Latent) -> int | None:
    """--window in latents."""
    if args.window is None:
        return None
    from m2l.streaming.windows import OVERLAP_LATENTS

    latents = round(args.window * model.config.latent_rate)
    if latents <= 2 * OVERLAP_LATENTS:
        least = (2 * OVERLAP_LATENTS + 1) / model.config.latent_rate
        raise UsageError(f"--window must be at least {least:.2f} s for this model, not {args.window:g}")
    return latents


def _run_all(
    args: argparse.Namespace, jobs: list[Job], models: _Models, record: Record | None
) -> list[Outcome]:
    lengths = [_length(job, args.command) for job in jobs]
    outcomes: list[Outcome] = []
    full = False
    live = not args.quiet and sys.stderr.isatty()
    # Without a terminal a line per file says as much, and reads better in a log.
    total = round(sum(lengths))
    with tqdm(total=total, unit="s", desc=f"m2l {args.command}", disable=not live) as bar:
        before = 0.0
        for number, (job, length) in enumerate(zip(jobs, lengths, strict=True), 1):
            if full:
                outcomes.append(Outcome(str(job.source), str(job.target), "not tried", "the disk is full"))
                continue

            def progress(done: float, start: float = before, length: float = length) -> None:
                # Reconstruction reports its two passes one after the other.
                share = done / 2 if args.command == "reconstruct" else done
                bar.update(min(start + min(share, length), total) - bar.n)

            outcome, full = _run_one(args, job, models, record, progress)
            outcomes.append(outcome)
            before += length
            bar.update(min(before, total) - bar.n)
            _tell(outcome, number, len(jobs), live, args.quiet)
    return outcomes


def _length(job: Job, command: str) -> float:
    """Seconds of audio behind an input, for the progress bar; 0 if its header does not say."""
    if is_pipe(job.source):
        return 0.0
    try:
        if command == "decode":
            with LatentsReader(job.source) as reader:
                return reader.info.duration
        return audio_info(job.source).duration or 0.0
    except (ValueError, OSError):  # reported when its turn comes
        return 0.0


def _run_one(
    args: argparse.Namespace, job: Job, models: _Models, record: Record | None, progress: Any
) -> tuple[Outcome, bool]:
    """One job; the flag says that the disk is full and going on is pointless."""
    outcome = Outcome(os.fspath(job.source), os.fspath(job.target), "made")
    began = time.monotonic()
    file = job.source
    try:
        if record is not None:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                os.lstat(job.target)  # a name that is too long is told before the work
        with as_file(job.source, job.target.parent) as file:
            _run_file(args, job, file, models, record, progress, outcome)
        outcome.took = round(time.monotonic() - began, 3) if outcome.status == "made" else None
        return outcome, False
    except (MissingError, UsageError) as error:
        # The weights that a latents file names: one of many such files must not stop the others.
        if record is None:
            raise type(error)(f"{job.source}: {error}") from error
        outcome.error = str(error)
    except (AudioError, LatentsError) as error:
        # What was read from a pipe lies in a file that only this process knows.
        outcome.error = str(error).replace(str(file), str(job.source))
    except OSError as error:
        outcome.error = message_of(error).replace(str(file), str(job.source))
        outcome.status = "failed"
        return outcome, error.errno in (errno.ENOSPC, errno.EDQUOT)
    except Exception as error:  # such as torch's out-of-memory errors; one file must not stop the others
        hint = "; a smaller --window needs less memory" if "memory" in str(error).lower() else ""
        outcome.error = (
            f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}{hint}"
        )
    outcome.status = "failed"
    return outcome, False


def _run_file(
    args: argparse.Namespace,
    job: Job,
    file: Path,
    models: _Models,
    record: Record | None,
    progress: Any,
    outcome: Outcome,
) -> None:
    """Make the output of a job from `file`, which holds what its source does, unless that is done already."""
    model, digest, checkpoint = _model_for(args, job, file, models)
    piped = file != job.source
    content = cache(partial(content_digest, file))
    source = Source(os.path.abspath(job.source), "" if piped else os.path.realpath(job.source), content)
    key = job_key(job.source, _settings(args, digest), content() if piped else None)
    if record is None or job.relative is None:
        # Named outright: it may be replaced, but the record of a folder run must not take it for what it was.
        above, name = record_above(job.target)
        if above is not None:
            above.begin(name, source)
        outcome.audio_seconds = _convert(args, job, file, model, digest, checkpoint, progress)
        if above is not None:
            above.finish(name, source, key)
        return
    if os.path.lexists(job.target) and not args.overwrite:
        if not record.is_ours(job.relative):
            raise FileExistsError(errno.EEXIST, "exists and was not made by m2l; --overwrite replaces it")
        if other := record.other_source(job.relative, source):
            raise FileExistsError(
                errno.EEXIST,
                f"{job.target} was made from another file, {other}; choose another OUT, or --overwrite replaces it",
            )
        if record.is_done(job.relative, key):
            outcome.status = "skipped"
            if not record.is_from(job.relative, source):  # the source was moved or copied
                with suppress(OSError):
                    record.finish(job.relative, source, key)
            return
    record.begin(job.relative, source)
    outcome.audio_seconds = _convert(args, job, file, model, digest, checkpoint, progress)
    record.finish(job.relative, source, key)


def _model_for(
    args: argparse.Namespace, job: Job, file: Path, models: _Models
) -> tuple[Music2Latent, str, str]:
    """The model for a job, its digest, and the name to keep; decoding follows the latents file."""
    if args.command != "decode":
        return *models.get(args.checkpoint), portable_name(args.checkpoint)
    with LatentsReader(file) as reader:
        info = reader.info
    name = args.checkpoint or info.checkpoint
    if not name:
        raise LatentsError(f"{job.source} does not name its checkpoint; give --checkpoint")
    model, digest = models.get(name)
    info.check_model(model.config, os.fspath(job.source))
    if digest != info.digest and not args.force:
        raise LatentsError(
            f"{job.source} was encoded by other weights ({info.checkpoint or info.model}, {info.digest[:12]}) than "
            f"{name} ({digest[:12]}); --force decodes all the same"
        )
    return model, digest, name


def _settings(args: argparse.Namespace, digest: str) -> dict[str, Any]:
    names = ("command", "dtype", "window", "n_steps", "seed", "subtype")
    # Only where it is set: what was made before there was such an option stays as good as it is.
    asked = {"incomplete": True} if getattr(args, "incomplete", False) else {}
    return {"digest": digest, **{name: getattr(args, name, None) for name in names}, **asked}


def _convert(
    args: argparse.Namespace,
    job: Job,
    file: Path,
    model: Music2Latent,
    digest: str,
    checkpoint: str,
    progress: Any,
) -> float:
    """Do the work; returns seconds of audio."""
    from m2l.streaming import long as streaming

    window = _window(args, model)
    if args.command == "encode":
        return streaming.encode_file(
            model,
            file,
            job.target,
            name=job.source.name,
            checkpoint=checkpoint,
            digest=digest,
            window=window,
            incomplete=args.incomplete,
            progress=progress,
        ).duration
    options: dict[str, Any] = {
        "n_steps": args.n_steps,
        "seed": args.seed,
        "subtype": args.subtype,
        "window": window,
        "progress": progress,
    }
    if args.command == "decode":
        return streaming.decode_file(model, file, job.target, **options).duration
    options["incomplete"] = args.incomplete
    rate, _, samples = streaming.reconstruct_file(model, file, job.target, **options)
    return samples / rate


def _tell(outcome: Outcome, number: int, total: int, live: bool, quiet: bool) -> None:
    if outcome.status == "failed":
        message = f"m2l: {outcome.input}: {_without(outcome.input, outcome.error)}"
        tqdm.write(message, file=sys.stderr) if live else say(message)
    elif not quiet and not live:
        detail = (
            "" if outcome.took is None else f" {outcome.audio_seconds:.1f} s of audio in {outcome.took:.1f} s"
        )
        say(f"[{number}/{total}] {outcome.status} {outcome.output}{detail}")


def _without(name: str, message: str | None) -> str:
    # "song.wav: song.wav is not readable audio" says the name once too often.
    return (message or "").removeprefix(f"{name} ").removeprefix(f"{name}: ")


def _note_faults(outcomes: list[Outcome]) -> None:
    """Say of each output whose input was cut short what is missing."""
    from m2l.io.containers import examine

    for one in outcomes:
        if one.status == "made" and os.path.isfile(one.input):
            with suppress(OSError):
                one.fault = examine(one.input).fault


def _report(args: argparse.Namespace, plan: Plan, outcomes: list[Outcome]) -> int:
    counts = {name: sum(one.status == name for one in outcomes) for name in ("made", "skipped", "failed")}
    counts["not tried"] = len(outcomes) - sum(counts.values())
    if getattr(args, "incomplete", False):
        _note_faults(outcomes)
    if cut := sum(one.fault is not None for one in outcomes):
        print(f"m2l: cut short, and read as far as they go: {cut} of {len(outcomes)} inputs", file=sys.stderr)
    if args.json:
        report = {
            "command": args.command,
            "counts": counts,
            "left_out": {reason: [str(path) for path in paths] for reason, paths in plan.left_out.items()},
            "files": [asdict(one) for one in outcomes],
        }
        print(json.dumps(report, indent=2))
    else:
        parts = [f"{count} {name}" for name, count in counts.items() if count or name == "made"]
        print(", ".join(parts + ([f"{plan.n_left_out} left out"] if plan.left_out else [])))
    return FAILED if counts["failed"] or counts["not tried"] else FINE
