"""`m2l encode`, `decode` and `reconstruct`: files through the model."""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from tqdm import tqdm

from m2l.audio import AudioError
from m2l.cli.common import (
    FAILED,
    FINE,
    MissingError,
    UsageError,
    check_device,
    load_model,
    message_of,
    path,
    portable_name,
    say,
)
from m2l.cli.jobs import Job, Plan, Record, Source, as_file, is_pipe, job_key, plan_jobs, record_above
from m2l.cli.options import Conversion, Decode, Encode, FromAudio, Reconstruct, ToAudio
from m2l.io.atomic import InUseError, exclusive, remove_leftovers
from m2l.io.cache import HUB_NAME
from m2l.io.digest import file_sha256
from m2l.io.latents import SUFFIX, LatentsError, LatentsReader
from m2l.io.sound import audio_info, output_format

if TYPE_CHECKING:
    from m2l.model import Music2Latent

Progress = Callable[[float], None]

#: What is said of the checkpoints that ship.
DEMONSTRATION = (
    "a demonstration, a small model after a short training. For music worth listening to: m2l-bench fetch music2latent "
    f"--accept-license, then --checkpoint {HUB_NAME}"
)

# --- the commands -------------------------------------------------------------------------------------------------


_FLAT = Parameter(name="*")
_AudioFiles = Annotated[list[str], path("IN", name="IN", help="audio files or folders")]
_LatentsFiles = Annotated[list[str], path("IN", name="IN", help="latents files or folders")]


def encode(inputs: _AudioFiles, /, *, options: Annotated[Encode, _FLAT]) -> int:
    """Encode audio files to latents files (.safetensors)."""
    return convert(inputs, options)


def decode(inputs: _LatentsFiles, /, *, options: Annotated[Decode, _FLAT]) -> int:
    """Decode latents files to audio files."""
    return convert(inputs, options)


def reconstruct(inputs: _AudioFiles, /, *, options: Annotated[Reconstruct, _FLAT]) -> int:
    """Encode and decode audio files in one go."""
    return convert(inputs, options)


# --- the work -----------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """The outcome of one input: made, skipped (already done), failed, or not tried (the disk is full)."""

    input: str
    output: str
    status: str
    error: str | None = None
    #: Seconds of audio, and of work.
    audio_seconds: float | None = None
    took: float | None = None
    #: What is missing of an input that was read with --incomplete.
    fault: str | None = None


def convert(inputs: list[str], options: Conversion) -> int:
    """Convert all inputs and print a report; returns the exit code.

    Raises:
        UsageError: for options that make no sense together, or an OUT that cannot be written.
        MissingError: for inputs or weights that do not exist, or a folder that another process writes to.
    """
    suffix = f".{options.format}" if isinstance(options, ToAudio) else SUFFIX
    plan = plan_jobs(options.command, inputs, options.output, suffix)
    if plan.left_out:  # also with --quiet
        say(f"m2l: left out {plan.reasons()}: {plan.examples()}")
    # Mistakes that concern all jobs come before any work.
    if isinstance(options, ToAudio):
        try:
            output_format(plan.jobs[0].target, options.subtype)
        except AudioError as error:
            raise UsageError(error) from error
    check_device(options.device)
    batch = Batch(options)
    if options.checkpoint is not None:
        batch.window(batch.model(options.checkpoint)[0])
    with ExitStack() as held:
        if plan.folder is not None:
            try:
                plan.folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(exclusive(plan.folder))
                batch.record = Record(plan.folder)
            except InUseError as error:
                raise MissingError(f"{error}; wait for it, or choose another OUT") from error
            except OSError as error:
                raise UsageError(f"cannot write to {plan.folder}: {error.strerror or error}") from error
            for folder in {job.target.parent for job in plan.jobs}:
                remove_leftovers(folder)
        return _report(options, plan, batch.run(plan.jobs))


@dataclass
class Batch:
    """The jobs of one command. `record` is that of the output folder, if OUT is a folder."""

    options: Conversion
    record: Record | None = None
    # The last model stays loaded, since most neighboring files share it.
    _name: str = ""
    # The checkpoint that was named on stderr last.
    _named: str = ""
    _loaded: tuple[Music2Latent, str] | None = field(default=None, repr=False)

    def model(self, name: str) -> tuple[Music2Latent, str]:
        """A model and its digest."""
        if self._loaded is None or self._name != name:
            self._loaded = None  # free the old one first
            self._loaded, self._name = load_model(name, self.options.device, self.options.dtype), name
        return self._loaded

    def window(self, model: Music2Latent) -> int | None:
        """--window in latents.

        Raises:
            UsageError: if the window is too short for this model.
        """
        if self.options.window is None:
            return None
        from m2l.streaming.windows import OVERLAP_LATENTS

        latents = round(self.options.window * model.config.latent_rate)
        if latents <= 2 * OVERLAP_LATENTS:
            least = (2 * OVERLAP_LATENTS + 1) / model.config.latent_rate
            raise UsageError(f"--window must be at least {least:.2f} s for this model, not {self.options.window:g}")
        return latents

    def run(self, jobs: list[Job]) -> list[Outcome]:
        """Do all jobs, with a progress bar on a terminal, or a line per file elsewhere."""
        command, quiet = self.options.command, self.options.quiet
        lengths = [_length(job, command) for job in jobs]
        outcomes: list[Outcome] = []
        full, before, total = False, 0.0, round(sum(lengths))
        live = not quiet and sys.stderr.isatty()
        with tqdm(total=total, unit="s", desc=f"m2l {command}", disable=not live) as bar:
            for number, (job, length) in enumerate(zip(jobs, lengths, strict=True), 1):
                if full:
                    outcomes.append(Outcome(str(job.source), str(job.target), "not tried", "the disk is full"))
                    continue

                def progress(done: float, start: float = before, length: float = length) -> None:
                    # Reconstruction reports its two passes one after the other.
                    share = done / 2 if command == "reconstruct" else done
                    bar.update(min(start + min(share, length), total) - bar.n)

                outcome, full = self._one(job, progress)
                outcomes.append(outcome)
                before += length
                bar.update(min(before, total) - bar.n)
                _tell(outcome, number, len(jobs), live, quiet)
        return outcomes

    def _one(self, job: Job, progress: Progress) -> tuple[Outcome, bool]:
        """One job; the flag says that the disk is full, so that further jobs are pointless."""
        outcome = Outcome(os.fspath(job.source), os.fspath(job.target), "made")
        began, file = time.monotonic(), job.source
        try:
            if self.record is not None:
                job.target.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):
                    os.lstat(job.target)  # a name that is too long fails before the work
            with as_file(job.source, job.target.parent) as file:
                outcome.audio_seconds = self._make(job, file, progress)
            if outcome.audio_seconds is None:
                outcome.status = "skipped"
            else:
                outcome.took = round(time.monotonic() - began, 3)
            return outcome, False
        except (MissingError, UsageError) as error:
            # The weights that one latents file names must not stop the others.
            if self.record is None:
                raise type(error)(f"{job.source}: {error}") from error
            outcome.error = str(error)
        except (AudioError, LatentsError, OSError) as error:
            # A pipe was copied to a temporary file, the name of which means nothing to the user.
            outcome.error = message_of(error).replace(str(file), str(job.source))
            outcome.status = "failed"
            return outcome, isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        except Exception as error:  # such as torch's out-of-memory errors; one file must not stop the others
            if self.options.verbose:
                say(traceback.format_exc().rstrip())
            hint = "; a smaller --window needs less memory" if "memory" in str(error).lower() else ""
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            outcome.error = f"{type(error).__name__}: {reason}{hint}"
        outcome.status = "failed"
        return outcome, False

    def _make(self, job: Job, file: Path, progress: Progress) -> float | None:
        """Make the output of a job from `file`, which has the content of its source.

        Returns:
            Seconds of audio; None if the output is already done.
        """
        model, digest, checkpoint = self._model_for(job, file)
        if checkpoint != self._named and not self.options.quiet:
            _write(_named(model, digest), sys.stderr.isatty())
            self._named = checkpoint
        piped = file != job.source
        content = cache(partial(file_sha256, file))
        source = Source(os.path.abspath(job.source), "" if piped else os.path.realpath(job.source), content)
        key = job_key(job.source, self._settings(digest), content() if piped else None)
        record, name = self.record, job.relative
        if record is None or name is None:
            # Named outright, it may be replaced; the record of an earlier folder run must know.
            record, name = record_above(job.target)
        elif os.path.lexists(job.target) and not self.options.overwrite:
            if not record.is_ours(name):
                raise FileExistsError(errno.EEXIST, "exists and was not made by m2l; --overwrite replaces it")
            if other := record.other_source(name, source):
                raise FileExistsError(
                    errno.EEXIST,
                    f"{job.target} was made from another file, {other}; choose another OUT, or --overwrite replaces it",
                )
            if record.is_done(name, key):
                if not record.is_from(name, source):  # the source was moved or copied
                    with suppress(OSError):
                        record.finish(name, source, key)
                return None
        if record is not None:
            record.begin(name, source)
        seconds = self._convert(job, file, model, digest, checkpoint, progress)
        if record is not None:
            record.finish(name, source, key)
        return seconds

    def _model_for(self, job: Job, file: Path) -> tuple[Music2Latent, str, str]:
        """The model for a job, its digest, and the name to keep; decoding follows the latents file."""
        options = self.options
        if not isinstance(options, Decode):
            assert options.checkpoint is not None
            return *self.model(options.checkpoint), portable_name(options.checkpoint)
        with LatentsReader(file) as reader:
            info = reader.info
        name = options.checkpoint or info.checkpoint
        if not name:
            raise LatentsError(f"{job.source} does not name its checkpoint; give --checkpoint")
        model, digest = self.model(name)
        info.check_model(model.config, os.fspath(job.source))
        if digest != info.digest and not options.force:
            raise LatentsError(
                f"{job.source} was encoded by other weights ({info.checkpoint or info.model}, {info.digest[:12]}) "
                f"than {name} ({digest[:12]}); --force decodes anyway"
            )
        return model, digest, name

    def _settings(self, digest: str) -> dict[str, Any]:
        """What an output depends on beside its source."""
        names = ("command", "dtype", "window", "n_steps", "seed", "subtype")
        # Only where it is set: outputs of versions without this option stay valid.
        asked = {"incomplete": True} if getattr(self.options, "incomplete", False) else {}
        return {"digest": digest, **{name: getattr(self.options, name, None) for name in names}, **asked}

    def _convert(
        self, job: Job, file: Path, model: Music2Latent, digest: str, checkpoint: str, progress: Progress
    ) -> float:
        """Do the work; returns seconds of audio."""
        from m2l import audio_files

        options = self.options
        common: dict[str, Any] = {"window": self.window(model), "progress": progress}
        if isinstance(options, FromAudio):
            common["incomplete"] = options.incomplete
        if not isinstance(options, ToAudio):
            common |= {"name": job.source.name, "checkpoint": checkpoint, "digest": digest}
            return audio_files.encode_file(model, file, job.target, **common).duration
        common |= {"n_steps": options.n_steps, "seed": options.seed, "subtype": options.subtype}
        if isinstance(options, Decode):
            return audio_files.decode_file(model, file, job.target, **common).duration
        rate, _, samples = audio_files.reconstruct_file(model, file, job.target, **common)
        return samples / rate


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


def _tell(outcome: Outcome, number: int, total: int, live: bool, quiet: bool) -> None:
    if outcome.status == "failed":
        # "song.wav: song.wav is not readable audio" would say the name once too often.
        name = outcome.input
        message = f"m2l: {name}: {(outcome.error or '').removeprefix(f'{name} ').removeprefix(f'{name}: ')}"
        _write(message, live)
    elif not quiet and not live:
        took = "" if outcome.took is None else f" {outcome.audio_seconds:.1f} s of audio in {outcome.took:.1f} s"
        say(f"[{number}/{total}] {outcome.status} {outcome.output}{took}")


def _write(message: str, live: bool) -> None:
    """Print to stderr, above the progress bar if there may be one."""
    tqdm.write(message, file=sys.stderr) if live else say(message)


def _named(model: Music2Latent, digest: str) -> str:
    """Which weights are used, and that those that ship are no more than a demonstration."""
    from m2l.io.checkpoint_files import list_checkpoints

    facts = ", ".join(filter(None, (model.license, digest[:12])))
    text = f"m2l: checkpoint {model.source} ({facts})"
    return f"{text}: {DEMONSTRATION}" if model.source in list_checkpoints() else text


def _report(options: Conversion, plan: Plan, outcomes: list[Outcome]) -> int:
    """Print what became of all inputs; returns the exit code."""
    counts = {name: sum(one.status == name for one in outcomes) for name in ("made", "skipped", "failed")}
    counts["not tried"] = len(outcomes) - sum(counts.values())
    if getattr(options, "incomplete", False):
        from m2l.io.containers import examine

        for one in outcomes:
            if one.status == "made" and os.path.isfile(one.input):
                with suppress(OSError):
                    one.fault = examine(one.input).fault
    if cut := sum(one.fault is not None for one in outcomes):
        say(f"m2l: {cut} of {len(outcomes)} inputs were cut short, and processed as far as they could be read")
    if options.json:
        left_out = {reason: [str(path) for path in paths] for reason, paths in plan.left_out.items()}
        files = [asdict(one) for one in outcomes]
        print(dumps({"command": options.command, "counts": counts, "left_out": left_out, "files": files}, indent=2))
    else:
        parts = [f"{count} {name}" for name, count in counts.items() if count or name == "made"]
        print(", ".join(parts + ([f"{plan.n_left_out} left out"] if plan.left_out else [])))
    return FAILED if counts["failed"] or counts["not tried"] else FINE
