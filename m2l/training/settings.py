"""What a training run is: one frozen dataclass, saved beside its checkpoints as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from m2l.names import did_you_mean

PRECISIONS = ("float32", "bfloat16", "float16")

T = TypeVar("T")
#: What a value must satisfy, and the words of the error if it does not.
Check = tuple[Callable[[Any], bool], str]


class SettingsError(ValueError):
    """A setting that makes no sense; the message names it and its value."""


_AT_LEAST_1: Check = (lambda value: value >= 1, "must be at least 1, not {}")
_POSITIVE: Check = (lambda value: math.isfinite(value) and value > 0, "must be positive, not {}")
_NOT_NEGATIVE: Check = (lambda value: math.isfinite(value) and value >= 0, "must not be negative, is {}")
_BELOW_1: Check = (lambda value: value < 1, "must be below 1, not {}")
_DECAY: Check = (lambda value: 0 <= value < 1, "must lie in [0, 1), not {}")
_SHARE: Check = (lambda value: 0 <= value <= 1, "must lie in [0, 1], not {}")


def _setting(default: T, help: str, *checks: Check, choices: tuple[str, ...] = ()) -> T:
    """A field with its help text for `m2l train`, and what its values must satisfy."""
    if choices:
        checks = (*checks, (lambda value: value in choices, f"must be one of {', '.join(choices)}, not {{!r}}"))
    return field(default=default, metadata={"help": help, "checks": checks, "choices": choices})


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides the weights a run ends with. The defaults are the reference training's.

    The paper (Sec. 5.1) gives RAdam, batch 16, 800k steps, learning rate 1e-4 to 1e-6 by a cosine, EMA 0.9999 and
    crops of 34,304 samples. Both warm-ups, the silence gate and fp16 appear only in its code. Every field is an option
    of `m2l train`.

    Raises:
        SettingsError: for a value that makes no sense.
    """

    preset: str = _setting("paper", "architecture, and recipe of default settings")
    #: See `m2l.training.data.open_corpus`.
    data: tuple[str, ...] = _setting(
        (),
        "folder, audio file or manifest (CSV or JSON lines with a column 'path') to train on; PATH=WEIGHT draws from "
        "it WEIGHT times as often (default weight: 1); may be repeated",
    )
    split: str = _setting("train", "rows to use of manifests with a column 'split'")
    init: str | None = _setting(
        None, "checkpoint to fine-tune instead of starting from random weights: a name, a path or the published one"
    )

    #: `m2l.training.initialize`.
    lsuv: bool = _setting(False, "first scale the convolutions that latents pass through to unit variance (LSUV)")
    #: The first stage; it has a warm-up and a cosine of its own (`m2l.training.losses.spectrum_loss`).
    autoencoder_steps: int = _setting(
        0, "steps of a first stage in which only encoder and decoder learn, to draw spectra", _NOT_NEGATIVE
    )

    steps: int = _setting(800_000, "optimizer steps", _AT_LEAST_1)
    batch_size: int = _setting(16, "crops per optimizer step, over all processes", _AT_LEAST_1)
    gradient_accumulation: int = _setting(
        1, "parts that a batch is computed in, one after another, to save memory", _AT_LEAST_1
    )
    seed: int = _setting(42, "random seed (weights, data, noise)", _NOT_NEGATIVE)
    crop_frames: int = _setting(64, "STFT frames per training crop", _AT_LEAST_1)
    silence_rms: float = _setting(0.001, "RMS below which a crop is silent and drawn again", _NOT_NEGATIVE)

    optimizer: str = _setting(
        "radam", "the paper's, or Muon, which learns more per step of a short run", choices=("radam", "muon")
    )
    learning_rate: float = _setting(1e-4, "peak learning rate, after the warm-up", _POSITIVE)
    autoencoder_rate: float = _setting(
        1.0, "learning rate of encoder and decoder, as a multiple of the UNet's", _NOT_NEGATIVE
    )
    final_learning_rate: float = _setting(1e-6, "learning rate at the end of the cosine decay")
    #: RAdam's also sets its own warm-up: some 1/(1 - beta2) steps go by before it runs at full rate.
    beta2: float = _setting(0.999, "second-moment decay of RAdam, or of Adam beside Muon", _DECAY)
    warmup_steps: int = _setting(10_000, "steps of linear learning-rate warm-up", _NOT_NEGATIVE)
    ema_decay: float = _setting(0.9999, "decay of the averaged (EMA) weights", _DECAY)

    #: Eq. 13: Delta t at step k of K is initial^(1 + (exponent - 1) k / K).
    initial_delta_t: float = _setting(0.1, "Delta t at the first step (Eq. 13)", _POSITIVE, _BELOW_1)
    final_exponent: float = _setting(3.0, "Delta t ends at its first value to this power (Eq. 13)", _POSITIVE)
    density: str = _setting(
        "grid", "distribution of noise levels: the published code's grid, or lognormal", choices=("grid", "lognormal")
    )
    #: `m2l.training.losses.output_weight`.
    weighting: str = _setting(
        "gap",
        "loss weight of noise levels: Eq. 12 (gap), or errors of the raw network's output (output)",
        choices=("gap", "output"),
    )

    #: `m2l.training.losses.band_distance`, `level_distance`, `spectrum_loss` and `direction_distance`.
    band_weight: float = _setting(
        0.0, "weight of the loudness of bands in the loss; the paper has no such term", _NOT_NEGATIVE
    )
    level_weight: float = _setting(
        0.0, "weight of the output's overall level in the loss; the paper has no such term", _NOT_NEGATIVE
    )
    spectrum_weight: float = _setting(
        0.0, "weight of the decoder's own spectrum in the loss, after the first stage", _NOT_NEGATIVE
    )
    direct_share: float = _setting(
        0.0, "share of each batch trained to go from sigma_max to the clean input in one step", _SHARE
    )

    precision: str = _setting("float16", "precision of the network", choices=PRECISIONS)
    compile: bool = _setting(False, "compile the training step with torch.compile, which takes minutes at the start")
    loss_spike: float = _setting(
        50.0,
        "stop when a loss exceeds this multiple of the median of the last 100, or is not finite; may be changed when "
        "a run is resumed",
        _POSITIVE,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", tuple(self.data))
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            for is_fine, message in one.metadata["checks"]:
                if not is_fine(value):
                    raise SettingsError(f"{one.name} {message.format(value)}")
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise SettingsError(
                f"final_learning_rate must lie in 0 … learning_rate ({self.learning_rate}), "
                f"not {self.final_learning_rate}"
            )
        if self.autoencoder_steps >= self.steps:
            raise SettingsError(
                f"autoencoder_steps must be fewer than the {self.steps} steps, not {self.autoencoder_steps}"
            )

    def stage(self, step: int) -> tuple[int, int]:
        """(index, length) of the step with this index in its stage: the autoencoder's alone, or all of the model's."""
        first = self.autoencoder_steps
        return (step, first) if step < first else (step - first, self.steps - first)

    def shares(self, world_size: int) -> tuple[int, int]:
        """Crops of one process, and of one accumulated part of them.

        Raises:
            SettingsError: if the batch does not divide evenly: then the mean over parts would not be the mean.
        """
        parts = world_size * self.gradient_accumulation
        if self.batch_size % parts:
            raise SettingsError(
                f"batch_size {self.batch_size} does not divide into {world_size} processes x "
                f"{self.gradient_accumulation} accumulated parts"
            )
        return self.batch_size // world_size, self.batch_size // parts

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in the form JSON gives back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def from_dict(values: dict[str, Any]) -> TrainingSettings:
    """Inverse of `TrainingSettings.to_dict`.

    Raises:
        SettingsError: for a field that does not exist (the nearest name is given) or a value that fits none.
    """
    known = {field.name for field in dataclasses.fields(TrainingSettings)}
    for key in values:
        if key not in known:
            raise SettingsError(f"unknown training setting {key!r}; {did_you_mean(key, known)}")
    try:
        return TrainingSettings(**values)
    except TypeError as error:
        raise SettingsError(f"bad training setting: {error}") from error


#: Preset -> settings that differ from the reference training's, which `paper` and the full-size rows use.
_SMALL_RUN = {
    "batch_size": 4,
    "learning_rate": 2e-3,
    "optimizer": "muon",
    "autoencoder_rate": 0.3,
    "beta2": 0.99,
    "warmup_steps": 50,
    "initial_delta_t": 0.6,
    "final_exponent": 2.5,
    "weighting": "output",
    "band_weight": 60.0,
    "spectrum_weight": 1.0,
    "direct_share": 0.5,
    "precision": "float32",
    "lsuv": True,
}
RECIPES: dict[str, dict[str, Any]] = {
    # Table 3 was trained for 200k steps (Sec. 5.4).
    "table3-base": {"steps": 200_000},
    "table3-attention": {"steps": 200_000},
    "table3-scaling": {"steps": 200_000},
    # What ships: minutes of two CPU cores. Encoder and decoder learn to draw spectra first; then
    # Delta t goes from 0.6, where half of the noise levels are plainly denoised, to 0.28, while the rate is annealed:
    # smaller steps ask for more training than there is, and add noise to what is drawn.
    "mini": {**_SMALL_RUN, "autoencoder_steps": 600, "steps": 3200},
    "table3-mini-base": {**_SMALL_RUN, "autoencoder_steps": 700, "steps": 1300},
    "table3-mini-attention": {**_SMALL_RUN, "autoencoder_steps": 700, "steps": 1300},
    "table3-mini-scaling": {**_SMALL_RUN, "autoencoder_steps": 700, "steps": 1300},
}


def with_recipe(preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The preset's recipe with the settings given laid over it.

    Its first stage keeps its share of another number of steps, and is left out of fine-tuning: weights to start from
    have it behind them.
    """
    values = dict(RECIPES.get(preset, {}))
    steps, first = given.get("steps"), values.get("autoencoder_steps")
    if given.get("init"):
        values.pop("autoencoder_steps", None)
    elif first and isinstance(steps, int):
        values["autoencoder_steps"] = max(0, first * steps // values["steps"])
    return {**values, **given}
