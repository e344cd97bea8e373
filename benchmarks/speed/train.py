"""`m2l-bench speed train`: our optimizer step against a plain eager float32 step of the same model.

The plain step is written here as the method reads: contiguous maps, float32, maps upsampled before they are
convolved, a teacher that is asked at sigma_min too and whose graph is then detached, Muon's iteration on one matrix
after the other, the average updated parameter by parameter. Both start from the same weights and take the same crops,
noise and times, in turns; the losses say what our precision costs. On a GPU the achieved share of the matrix peak
is added, against a large product timed in the same run.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.errors import UsageError
from benchmarks.speed.timing import CLOCKS, Contest, Timing
from m2l.config import create_config
from m2l.consistency import denoise, sigma_from_t, step_size
from m2l.kernels.convolution import Conv2d
from m2l.layers import Upsample
from m2l.model import Music2Latent
from m2l.representation import waveform_to_representation
from m2l.training import Trainer, TrainingSettings
from m2l.training.data import crop_samples, times_of
from m2l.training.initialize import freeze_unused
from m2l.training.losses import band_distance, direction_distance, output_weight, pseudo_huber, spectrum_loss
from m2l.training.optimizer import COEFFICIENTS, ITERATIONS, Muon, ema_decay, learning_rate, make_optimizer
from m2l.training.settings import RECIPES

Batch = dict[str, Any]
N_BATCHES = 4


@dataclass(frozen=True)
class Options:
    """What is raced, and how.

    Attributes:
        presets: models; by default the mini ones, on a GPU the paper's.
        batch_size: crops per step; by default the preset's recipe.
        precision: precision of ours; by default the recipe's.
        compile: whether ours goes through `torch.compile`.
        device: "cpu" or "cuda".
        threads: CPU threads of both; by default torch's choice.
        repeats: timed steps of each side.
        at_step: where on the recipe's schedule: the smaller Delta t is, the more often the teacher is asked.
        warmup: steps before the timed ones.
        clock: "wall" or "cpu".
        profile: also draw where a step's time goes, one file per preset.
    """

    presets: Sequence[str] = ()
    batch_size: int | None = None
    precision: str | None = None
    compile: bool = False
    device: str = "cpu"
    threads: int | None = None
    repeats: int = 5
    at_step: int = 0
    warmup: int = 1
    clock: str = "wall"
    profile: Path | None = None


def run(**given: Any) -> Contest:
    """The contest; arguments are the fields of `Options`.

    Raises:
        FileNotFoundError: the device is not available.
        UsageError: a step that the schedule does not have.
    """
    options = Options(**given)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise FileNotFoundError(f"--device {options.device}: no CUDA device is available")
    presets = options.presets or (["paper"] if device.type == "cuda" else ["mini", "table3-mini-scaling"])
    contest = Contest(
        f"Training step, {device.type}, {torch.get_num_threads()} threads: ours against plain eager float32",
        options.clock,
    )
    for preset in presets:
        race(contest, preset, device, options)
    contest.notes.append(
        "loss_error: relative, of the mean loss over all steps taken from the same weights on the same crops; "
        "first_loss_error: of the first step alone. Reading audio is in neither."
    )
    return contest


def race(contest: Contest, preset: str, device: torch.device, options: Options) -> None:
    """Add one preset's row: both sides in turns, a step each."""
    settings = contest_settings(preset, device, options)
    steps = options.at_step + options.warmup + options.repeats
    if options.at_step < 0 or steps > settings.steps:
        raise UsageError(f"--at-step {options.at_step}: {preset} has {settings.steps} steps, and {steps} are asked for")
    batches = make_batches(settings)
    with tempfile.TemporaryDirectory() as folder:
        ours = OurStep(settings, Path(folder), device, batches)
        plain = PlainStep(settings, device, batches)
        ours.state.step = plain.n_steps = options.at_step
        now = _clock(device, options.clock)
        seconds: dict[str, list[float]] = {"ours": [], "plain": []}
        losses: dict[str, list[float]] = {"ours": [], "plain": []}
        for repeat in range(-options.warmup, options.repeats):
            for name, step in (("ours", ours.step), ("plain", plain.step)):
                start = now()
                losses[name].append(step())
                spent = now() - start
                if repeat >= 0:
                    seconds[name].append(spent)
                print(f"{preset} {name}: {spent:.2f} s", file=sys.stderr)
        first, second = losses["ours"], losses["plain"]
        facts: dict[str, float] = {
            "loss": sum(first) / len(first),
            "loss_error": abs(sum(first) - sum(second)) / abs(sum(second)),
            "first_loss_error": abs(first[0] - second[0]) / abs(second[0]),
            "steps_per_second": 1 / Timing("", tuple(seconds["ours"])).median,
        }
        if device.type == "cuda":
            facts |= matrix_share(ours.step, facts["steps_per_second"], settings.precision)
        ours_name = f"m2l {settings.precision}{'+compile' if settings.compile else ''}"
        case = f"{preset}, batch {settings.batch_size}" + (f", step {options.at_step}" if options.at_step else "")
        contest.add(
            case, Timing(ours_name, tuple(seconds["ours"])), Timing("plain float32", tuple(seconds["plain"])), **facts
        )
        if options.profile is not None:
            path = options.profile.with_stem(f"{options.profile.stem}-{preset}")
            contest.notes.append(f"{preset}: profile of our step: {draw_profile(ours.step, device, path)}")


def contest_settings(preset: str, device: torch.device, options: Options) -> TrainingSettings:
    """The preset's recipe without data, in a precision the device has."""
    given: dict[str, Any] = {**RECIPES.get(preset, {}), "preset": preset}
    if options.batch_size:
        given["batch_size"] = options.batch_size
    precision = options.precision or given.get("precision", "float16")
    given.pop("lsuv", None)  # it needs data, and there are none
    given.pop("autoencoder_steps", None)  # the race is between the whole model's steps
    given["precision"] = "bfloat16" if precision == "float16" and device.type != "cuda" else precision
    return TrainingSettings(**given, compile=options.compile)


def make_batches(settings: TrainingSettings) -> list[Batch]:
    """Batches of decaying tones with noise, in the form of `m2l.training.data`; the same for the same seed."""
    config = create_config(settings.preset)
    samples = crop_samples(settings, config)
    random = torch.Generator().manual_seed(settings.seed)
    t = torch.arange(samples) / config.sample_rate
    batches = []
    for _ in range(N_BATCHES):
        pitch = 60 * 2 ** (5 * torch.rand((settings.batch_size, 4, 1), generator=random))
        tones = (torch.sin(2 * torch.pi * pitch * t) * torch.exp(-3 * t)).mean(1)
        hiss = 0.01 * torch.randn((settings.batch_size, samples), generator=random)
        shape = (settings.batch_size, 2, config.n_bins, settings.crop_frames)
        noise = torch.randn(shape, generator=random)
        batches.append({"waveform": tones + hiss, "noise": noise, "origin": ["made"] * settings.batch_size})
    return batches


class OurStep(Trainer):
    """The trainer as it is, fed with batches that are in memory."""

    def __init__(
        self, settings: TrainingSettings, folder: Path, device: torch.device, batches: Sequence[Batch]
    ) -> None:
        super().__init__(settings, folder, device=str(device))
        awaken(self.state.model)
        awaken(self.ema.model)
        self._fed = itertools.cycle(batches)

    def step(self) -> float:
        """One optimizer step; returns its loss."""
        return self._step([next(self._fed)])["loss"]


class PlainStep:
    """The same model, data and schedules, one operation after the other as a first version would have it."""

    def __init__(self, settings: TrainingSettings, device: torch.device, batches: Sequence[Batch]) -> None:
        self.settings, self.device, self.n_steps = settings, device, 0
        self.batches = itertools.cycle(batches)

        def model() -> Music2Latent:
            made = Music2Latent.from_config(settings.preset, settings.seed)
            awaken(made)
            for parameter in made.parameters():
                parameter.data = parameter.data.contiguous()
            for module in made.modules():
                if isinstance(module, Upsample):
                    module.forward = partial(upsample_then_convolve, module)  # type: ignore[method-assign]
                elif isinstance(module, Conv2d):
                    module.forward = partial(nn.Conv2d.forward, module)  # type: ignore[method-assign]
            return made.to(device)

        self.model, self.average = model().train(), model().requires_grad_(False)
        freeze_unused(self.model)
        factor = settings.autoencoder_rate
        groups = [
            {"params": [p for p in part.parameters() if p.requires_grad], "factor": one}
            for part, one in ((self.model.encoder, factor), (self.model.decoder, factor), (self.model.unet, 1.0))
        ]
        self.optimizer = make_optimizer(groups, settings)
        if isinstance(self.optimizer, Muon):
            self.optimizer.orthogonalize = newton_schulz

    def step(self) -> float:
        """One optimizer step; returns its loss."""
        settings, config = self.settings, self.model.config
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * learning_rate(self.n_steps, settings)
        delta_t = step_size(self.n_steps, settings.steps, settings.initial_delta_t, settings.final_exponent)
        t = times_of(self.n_steps, settings, config).to(self.device)
        batch = next(self.batches)
        clean = waveform_to_representation(batch["waveform"].to(self.device), config)
        noise = batch["noise"].to(self.device)
        self.optimizer.zero_grad()
        loss = self._loss(clean.contiguous(), noise, t, delta_t)
        loss.backward()
        self.optimizer.step()
        decay = ema_decay(self.n_steps, settings)
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
            for average, parameter in pairs:
                average.copy_(decay * average + (1 - decay) * parameter)
        self.n_steps += 1
        return float(loss.detach())

    def _loss(self, clean: Tensor, noise: Tensor, t: Tensor, delta_t: float) -> Tensor:
        """Eq. 10-12 with feature maps computed once and a teacher whose graph is thrown away; what a recipe adds."""
        config, settings = self.model.config, self.settings
        direct = (t >= 1) & (settings.direct_share > 0)
        steps = torch.where(direct, 1.0, delta_t)
        later, earlier = sigma_from_t(t, config), sigma_from_t((t - steps).clamp(min=0), config)
        feature_maps = self.model.decoder(self.model.encoder(clean))
        student, teacher = (
            denoise(self.model.unet, clean + sigma.reshape(-1, 1, 1, 1) * noise, sigma, feature_maps, config)
            for sigma in (later, earlier)
        )
        gap = later - earlier
        weighted = torch.where(gap > 0, pseudo_huber(student, teacher.detach()) / gap.clamp_min(1e-12), 0.0)
        if settings.weighting == "output":
            weighted = weighted * output_weight(t, steps, config)
        weighted = torch.where(direct, direction_distance(student, clean), weighted)
        if settings.band_weight:
            weighted = weighted + settings.band_weight * band_distance(student, clean)
        if settings.spectrum_weight:
            weighted = weighted + settings.spectrum_weight * spectrum_loss(feature_maps[0], clean)
        return weighted.mean()


def upsample_then_convolve(layer: Upsample, x: Tensor) -> Tensor:
    """What `m2l.layers.Upsample` computes, as it reads."""
    return layer.conv(F.interpolate(x, scale_factor=layer.factor, mode="nearest"))


def newton_schulz(matrices: Sequence[Tensor]) -> list[Tensor]:
    """What `m2l.training.optimizer.orthogonalized` computes, as it reads: X <- a X + (b A + c A A) X with A = X X^T."""
    a, b, c = COEFFICIENTS
    factors = []
    for matrix in matrices:
        tall = matrix.shape[0] > matrix.shape[1]
        x = matrix.mT if tall else matrix
        x = x / (x.norm() + 1e-7)
        for _ in range(ITERATIONS):
            gram = x @ x.mT
            x = a * x + (b * gram + c * gram @ gram) @ x
        factors.append(x.mT if tall else x)
    return factors


def awaken(model: Music2Latent, seed: int = 1) -> None:
    """Give layers that start at zero small weights: before that the network's output is zero in any precision."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and not parameter.any():
                spread = 0.5 * parameter[0].numel() ** -0.5
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))


def _clock(device: torch.device, clock: str) -> Callable[[], float]:
    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return CLOCKS[clock]()

    return now


def matrix_share(step: Callable[[], float], steps_per_second: float, precision: str) -> dict[str, float]:
    """Arithmetic of a step per second, and as a share of what one large product reaches on the same device."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    achieved = counter.get_total_flops() * steps_per_second
    size, repeats = 8192, 20
    a = torch.randn((size, size), device="cuda", dtype=getattr(torch, precision))
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        a @ a
    torch.cuda.synchronize()
    peak = 2 * size**3 * repeats / (time.perf_counter() - start)
    return {"teraflops": achieved / 1e12, "matrix_peak_teraflops": peak / 1e12, "share_of_peak": achieved / peak}


def draw_profile(step: Callable[[], float], device: torch.device, path: Path, rows: int = 12) -> Path:
    """Draw where one step's time goes, by operator, into an SVG or PNG file; returns its path."""
    from matplotlib.figure import Figure
    from torch.profiler import ProfilerActivity, profile

    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities) as profiler:
        step()
    field = "self_device_time_total" if gpu else "self_cpu_time_total"
    spent = {event.key: getattr(event, field) / 1e3 for event in profiler.key_averages()}
    total = sum(spent.values())
    top = sorted(spent.items(), key=lambda item: -item[1])[:rows]
    figure = Figure(figsize=(8, 0.35 * len(top) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.barh([name[:48] for name, _ in reversed(top)], [value for _, value in reversed(top)], color="#4477aa")
    axes.set_xlabel(f"ms of {'GPU' if gpu else 'CPU'} time (one step: {total:.0f} ms)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
