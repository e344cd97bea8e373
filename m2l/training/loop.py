"""The training loop: one optimizer step after the other, until the run is complete or told to stop.

Running the same command again resumes: on one device the weights, the average, the optimizer and the order of data
are bit for bit those of a run that was never stopped.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from m2l.consistency import step_size
from m2l.io.atomic import InUseError, exclusive, write_atomic
from m2l.io.torch_files import CheckpointError
from m2l.model import Music2Latent
from m2l.representation import waveform_to_representation
from m2l.training import checkpoint as checkpoints
from m2l.training.data import Crops, DataError, StepOrder, collate, crop_samples, open_corpus, times_of
from m2l.training.distributed import World, peak_memory
from m2l.training.initialize import check_fits, freeze_unused, initial_model, scale_latent_path
from m2l.training.log import RunLog
from m2l.training.losses import StartLoss, StepLoss
from m2l.training.optimizer import Ema, ema_decay, learning_rate, make_optimizer
from m2l.training.readers import Batch, reading, take
from m2l.training.settings import SettingsError, TrainingSettings
from m2l.training.stops import TrainingStopped, Unreadable, UnreadableDataError, complaint_about, report_failure

#: Losses that the loss-spike test needs before it judges, and looks back on.
MEMORY = 100
#: Crops the data-dependent initialization looks at.
LSUV_CROPS = 8


class Trainer:
    """A run: settings, model, data, optimizer, and the folder it lives in.

    Args:
        settings: what to train. A run that exists must have been started with the same.
        run: its folder; a complete checkpoint in it is resumed from.
        device: where to compute; the process's GPU if there is one, else the CPU.
        world: this process's place among those of the run.
        workers: processes that read audio; 0 reads in this one. The crops are the same.

    Raises:
        SettingsError: for settings that make no sense, unusable data, or a run started with other settings.
        CheckpointError, WeightsNotFoundError: for initial weights that are damaged or do not exist.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        run: str | Path,
        *,
        device: str | None = None,
        world: World | None = None,
        workers: int = 0,
    ) -> None:
        self.settings = settings
        self.run = Path(run)
        self.world = world or World()
        self.device = self.world.device(device)
        self.workers = workers
        settings.shares(self.world.size)  # fails early
        if settings.precision == "float16" and self.device.type != "cuda":
            raise SettingsError(
                f"precision float16 needs a CUDA device, not {self.device}: use bfloat16 (--precision bfloat16)"
            )
        checkpoints.check_same_run(self.run, settings)

        # Model and data, whose fit is checked before anything is computed.
        model = initial_model(settings)
        check_fits(settings, model.config)
        self.corpora = [
            open_corpus(spec, crop_samples(settings, model.config), settings.split, self.run) for spec in settings.data
        ]
        freeze_unused(model)
        if settings.lsuv and settings.init is None and not checkpoints.list_checkpoints(self.run):
            crops = Crops(self.corpora, settings, model.config)
            batch = collate([crops[index] for index in range(LSUV_CROPS)])
            scale_latent_path(model, waveform_to_representation(batch["waveform"], model.config))
        # Memory layout. Kernels for half precision want channels last; a CPU's float32 ones run faster on planes.
        plain = settings.precision == "float32" and self.device.type == "cpu"
        self._layout = torch.contiguous_format if plain else torch.channels_last
        if plain:  # convolutions take the layout of their weights
            for parameter in model.parameters():
                parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        model.to(self.device).train()
        # The state, from the last whole checkpoint if the run has one.
        optimizer = make_optimizer(self._groups(model), settings)
        scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "float16")
        self.ema = Ema(model)
        recent: deque[float] = deque(maxlen=MEMORY)
        self.state = checkpoints.TrainingState(model, self.ema.model, optimizer, scaler, recent)
        self._damaged, self._unsure = checkpoints.load_newest(self.run, self.state)
        self.unreadable = Unreadable(self.state.unreadable)
        self._saved = self.state.step
        self._loss = self._wrapped(starting=self._starting)
        self.stop_requested = False

    @property
    def parameters(self) -> int:
        """Trained parameters."""
        return sum(p.numel() for p in checkpoints.trained_parameters(self.state.model))

    def _groups(self, model: Music2Latent) -> list[dict[str, Any]]:
        factor = self.settings.autoencoder_rate
        return [
            {"params": checkpoints.trained_parameters(part), "factor": one}
            for part, one in ((model.encoder, factor), (model.decoder, factor), (model.unet, 1.0))
        ]

    @property
    def _starting(self) -> bool:
        """Whether the next step is one of the autoencoder's alone."""
        return self.state.step < self.settings.autoencoder_steps

    def _wrapped(self, *, starting: bool) -> nn.Module:
        model = self.state.model
        loss: Any = StartLoss(model) if starting else StepLoss(model, self.settings)
        if self.settings.compile:
            loss = torch.compile(loss, dynamic=False)
        if self.world.size > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            loss = DistributedDataParallel(loss, device_ids=ids)
        return loss

    def train(
        self,
        *,
        until: int | None = None,
        checkpoint_every: int = 10_000,
        keep: int = 3,
        milestone: int | None = None,
        log_every: int = 10,
        validate_every: int | None = None,
        validate: Callable[[Music2Latent, int], dict[str, float]] | None = None,
        quiet: bool = False,
    ) -> int:
        """Continue to the last step, or to `until`; returns the step reached.

        Args:
            until: a step to stop at before the last, with the schedule of the whole run.
            checkpoint_every: steps between checkpoints; one more is written at the end and on a request to stop.
            keep: checkpoints kept.
            milestone: checkpoints at multiples of this are kept for good.
            log_every: steps between lines of `log.jsonl`.
            validate_every: steps between calls of `validate`.
            validate: called in the main process with the averaged model and the step; its numbers are logged.
            quiet: no progress bar.

        Raises:
            TrainingStopped: for a loss that is not finite or explodes, or too much audio that cannot be read; the last
                checkpoint stays.
            InUseError: if another process trains in the run's folder; nothing was written.
            OSError: if the folder cannot be written to; the last checkpoint stays.
            PeerError: if another process of the run has failed.
        """
        state, settings = self.state, self.settings
        last = settings.steps if until is None else min(until, settings.steps)
        if len(set(self.world.gather(state.step))) > 1:
            raise CheckpointError(f"the processes of the run do not find the same checkpoints in {self.run}")
        with ExitStack() as stack:
            with self.world.together():
                if self.world.is_main:
                    self.run.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(exclusive(self.run))
                    self._prepare()
                log = stack.enter_context(RunLog(self.run if self.world.is_main else None, state.step))
                self._note_left_out(log)
            bar = stack.enter_context(tqdm(
                total=settings.steps, initial=state.step, unit="step", file=sys.stderr,
                disable=quiet or not self.world.is_main, dynamic_ncols=True,
            ))  # fmt: skip
            batches = stack.enter_context(self._reading())
            while state.step < last:
                parts = self._fetch(batches, keep, milestone)
                if parts is None:
                    break
                facts = self._step(parts)
                bar.update()
                bar.set_postfix(loss=f"{facts['loss']:.1f}", refresh=False)
                if state.unreadable:
                    facts["unreadable_draws"] = state.unreadable.total()
                logged = state.step % log_every == 0
                with self.world.together() if logged or self.unreadable.news else nullcontext():
                    log.step(state.step, facts, settings.batch_size, write=logged)
                    self.unreadable.tell(log, state.step, self._say)
                if state.step % checkpoint_every == 0:
                    self._save(keep, milestone)
                if validate is not None and validate_every and state.step % validate_every == 0:
                    with self.world.together():
                        if self.world.is_main:
                            log.write({"step": state.step, **validate(self.state.ema, state.step)})
            self._save(keep, milestone)
        if state.unreadable:
            self._say(f"{self.unreadable} in {state.step} steps; other places were drawn")
        return state.step

    def _prepare(self) -> None:
        """Clean up the folder, as its only writer."""
        newest = checkpoints.newest_step(self.run, [path for path, _ in self._damaged])
        if newest > self.state.step:
            raise InUseError(f"{self.run} was trained by another process in the meantime; start again")
        checkpoints.remove_leftovers(self.run)
        for path, reason in self._damaged:
            start = f"step {self.state.step}"
            self._say(f"{reason}; resuming from {start}; kept as {checkpoints.set_aside(path).name}")
        self._damaged = []
        if self._unsure:
            self._say(f"{self._unsure} has no checksums, so damage to it would not be noticed")
            self._unsure = None
        content = json.dumps(self.settings.to_dict(), indent=2) + "\n"
        write_atomic(self.run / checkpoints.SETTINGS_FILE, content.encode())

    def complain(self) -> None:
        """Report what was left out of the corpora, and why."""
        for corpus in self.corpora:
            if corpus.complaint:
                self._say(corpus.complaint)

    def _note_left_out(self, log: RunLog) -> None:
        self.complain()
        facts = [corpus.describe() for corpus in self.corpora]
        left_out = [{"name": one["name"], "left_out": one["left_out"]} for one in facts if "left_out" in one]
        if left_out != log.left_out:
            log.write({"step": self.state.step, "left_out": left_out})

    def _say(self, text: str) -> None:
        if self.world.is_main:
            tqdm.write(f"m2l: {text}", file=sys.stderr)

    def _save(self, keep: int, milestone: int | None) -> None:
        """Write a checkpoint, unless the last one is of this step."""
        if self.state.step == self._saved:
            return
        with self.world.together():
            if self.world.is_main:
                checkpoints.save_checkpoint(self.run, self.state)
                checkpoints.prune(self.run, keep, milestone)
        self._saved = self.state.step

    def _reading(self) -> AbstractContextManager[Iterator[Batch]]:
        order = StepOrder(self.settings, self.state.step, self.world.rank, self.world.size)
        crops = Crops(self.corpora, self.settings, self.state.model.config)
        pin = self.device.type == "cuda"
        return reading(crops, order, self.workers, lambda: self.stop_requested, pin=pin)

    def _fetch(self, batches: Iterator[Batch], keep: int, milestone: int | None) -> list[Batch] | None:
        """This process's parts of the next batch; None if the run is to stop.

        Raises:
            TrainingStopped: if a process cannot read them, after a checkpoint.
        """
        parts, fault = take(batches, self.settings.gradient_accumulation)
        unreadable = [one for part in parts for one in part["unreadable"]]
        told = self.world.gather((self.stop_requested, fault, unreadable))
        if any(stop for stop, *_ in told):
            return None
        faults = [one for _, one, _ in told if one is not None]
        if not faults:
            crops = (self.state.step + 1) * self.settings.batch_size
            too_many = self.unreadable.add([one for *_, ones in told for one in ones], crops)
            faults = [DataError(too_many)] if too_many else []
        if faults:
            self._save(keep, milestone)  # the state is that of a step's end
            kind = UnreadableDataError if isinstance(faults[0], DataError) else TrainingStopped
            self._fail(str(faults[0]), [origin for part in parts for origin in part["origin"]], kind=kind)
        return parts

    def _step(self, parts: list[Batch]) -> dict[str, float]:
        """One optimizer step over the accumulated parts of a batch; returns what the log records of it."""
        state, settings = self.state, self.settings
        if state.step and state.step == settings.autoencoder_steps:
            self._loss = self._wrapped(starting=False)
            state.recent.clear()  # of losses that the next ones do not compare with
        # Rates and step size of this step.
        rate = learning_rate(state.step, settings)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * (1.0 if self._starting else group["factor"])
        # The first stage has no use for a step size: the second begins with it.
        index, steps = (0, 1) if self._starting else settings.stage(state.step)
        delta_t = step_size(index, steps, settings.initial_delta_t, settings.final_exponent)
        # This process's share of the batch, forward and backward, part by part.
        share, part = settings.shares(self.world.size)
        times = times_of(state.step, settings, state.model.config)[self.world.rank * share :][:share]
        state.optimizer.zero_grad(set_to_none=True)
        origins: list[str] = []
        total = 0.0
        for index, batch in enumerate(parts):
            origins += batch["origin"]
            t = times[index * part : (index + 1) * part].to(self.device)
            with self._no_sync(index):
                loss = self.loss(batch, t, delta_t) / settings.gradient_accumulation
                state.scaler.scale(loss).backward()
            total += float(loss.detach())
        # Nothing is learned from a loss or gradient that is not to be trusted.
        mean = self.world.mean(total)
        if complaint := complaint_about(mean, state.recent, settings.loss_spike):
            self._fail(complaint, origins, mean)
        state.scaler.unscale_(state.optimizer)
        norm = self._gradient_norm()
        # A float16 run skips the step and lowers its scale; in the other precisions nothing may overflow.
        if not state.scaler.is_enabled() and not math.isfinite(norm):
            self._fail("the gradient is not finite", origins, mean)
        # Learn, and let the average follow.
        state.scaler.step(state.optimizer)
        state.scaler.update()
        self.ema.update(state.model, ema_decay(state.step, settings))
        state.step += 1
        return {"loss": mean, "learning_rate": rate, "delta_t": delta_t, "gradient_norm": norm}

    def loss(self, batch: dict[str, Any], t: Tensor, delta_t: float) -> Tensor:
        """Mean loss of one accumulated part, in the run's precision."""
        waveform = batch["waveform"].to(self.device, non_blocking=True)
        noise = batch["noise"].to(self.device, non_blocking=True)
        representation = waveform_to_representation(waveform, self.state.model.config)
        precision = self.settings.precision
        autocast = torch.autocast(self.device.type, getattr(torch, precision), enabled=precision != "float32")
        layout = self._layout
        with autocast:
            return self._loss(
                representation.contiguous(memory_format=layout), t, delta_t, noise.contiguous(memory_format=layout)
            )

    def _no_sync(self, index: int) -> AbstractContextManager[Any]:
        if isinstance(self._loss, DistributedDataParallel) and index < self.settings.gradient_accumulation - 1:
            return self._loss.no_sync()
        return nullcontext()

    def _gradient_norm(self) -> float:
        gradients = [p.grad for p in checkpoints.trained_parameters(self.state.model) if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def _fail(
        self, what: str, origins: list[str], loss: float | None = None, kind: type[TrainingStopped] = TrainingStopped
    ) -> NoReturn:
        raise kind(report_failure(self.run, self.world.rank, self.state.step, what, origins, loss))

    def rehearse(self, steps: int = 2) -> dict[str, float]:
        """Loss and gradient of a few real batches, no weight changed: seconds per step, and peak memory in bytes.

        Of the whole model's steps: those of the autoencoder alone cost less.
        """
        if self._starting:
            self._loss = self._wrapped(starting=False)
        times, share = [], self.settings.shares(self.world.size)[1]
        with self._reading() as batches:
            for _ in range(steps):
                started = time.perf_counter()
                for _ in range(self.settings.gradient_accumulation):
                    t = torch.full((share,), 0.5, device=self.device)
                    loss = self.loss(next(batches), t, self.settings.initial_delta_t)
                    self.state.scaler.scale(loss).backward()
                times.append(time.perf_counter() - started)
        self.state.optimizer.zero_grad(set_to_none=True)
        self._loss = self._wrapped(starting=self._starting)
        return {"seconds_per_step": min(times), "peak_bytes": peak_memory(self.device)}

    def describe(self) -> dict[str, Any]:
        """The resolved run: settings, model configuration, parameters, corpora."""
        return {
            "settings": self.settings.to_dict(),
            "model": self.state.model.config.to_dict(),
            "parameters": self.parameters,
            "step": self.state.step,
            "device": str(self.device),
            "processes": self.world.size,
            "corpora": [corpus.describe() for corpus in self.corpora],
        }
