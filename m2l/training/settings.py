"""What a training run is: one frozen dataclass, saved beside its checkpoints as JSON."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2l.io.published import CheckpointError

#: In the folder of a run: what it was started with.
SETTINGS_FILE = "training.json"
PRECISIONS = ("float32", "bfloat16", "float16")
DENSITIES = ("grid", "lognormal")
WEIGHTINGS = ("gap", "output")
OPTIMIZERS = ("radam", "muon")


class SettingsError(ValueError):
    """A setting that makes no sense; the message names it and its value."""


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides the weights a run ends with. The defaults are the reference training's.

    The paper (Sec. 5.1) gives RAdam, batch 16, 800k steps, learning rate 1e-4 to 1e-6 by a cosine, EMA 0.9999 and
    crops of 34,304 samples. Both warm-ups, the silence gate and fp16 stand only in its code.
    """

    preset: str = "paper"
    #: Folders, audio files or manifests, each with an optional `=weight` (see `m2l.training.data.open_corpus`).
    data: tuple[str, ...] = ()
    #: Rows used of manifests that have a `split` column.
    split: str = "train"
    #: Checkpoint to start from, instead of random weights (fine-tuning).
    init: str | None = None

    #: Scale the convolutions between encoder and UNet to unit variance first (`m2l.training.initialize`).
    lsuv: bool = False
    #: First steps, in which encoder and decoder alone learn to draw spectra (`m2l.training.losses.spectrum_loss`),
    #: with a warm-up and a cosine of their own.
    autoencoder_steps: int = 0

    steps: int = 800_000
    #: Crops per optimizer step over all processes and accumulated parts.
    batch_size: int = 16
    #: Parts a process's share of the batch is computed in: as many times less memory.
    accumulate: int = 1
    seed: int = 42
    crop_frames: int = 64
    #: Crops with a lower RMS are drawn again.
    silence_rms: float = 0.001

    #: "radam" is the paper's; "muon" learns more per step of a short run (`m2l.training.optimizer`).
    optimizer: str = "radam"
    learning_rate: float = 1e-4
    #: Encoder and decoder learn this many times as fast as the UNet.
    autoencoder_rate: float = 1.0
    final_learning_rate: float = 1e-6
    #: RAdam's second decay, which also sets its warm-up: some 1/(1 - beta2) steps go by before it runs at full rate.
    #: Beside Muon, Adam's.
    beta2: float = 0.999
    warmup_steps: int = 10_000
    ema_decay: float = 0.9999

    #: Eq. 13: Delta t at step k of K is initial^(1 + (exponent - 1) k / K).
    initial_delta_t: float = 0.1
    final_exponent: float = 3.0
    density: str = "grid"
    #: Of the noise levels' losses: "gap" is Eq. 12's, "output" makes them errors of the raw network's output
    #: (`m2l.consistency.output_weight`).
    weighting: str = "gap"

    #: Of the bands' loudness in the loss, 0 leaves it out (`m2l.training.losses.band_distance`).
    band_weight: float = 0.0
    #: Of the output's level in the loss (`m2l.training.losses.level_distance`).
    level_weight: float = 0.0
    #: Of what the decoder draws, once the UNet takes part (`m2l.training.losses.spectrum_loss`).
    spectrum_weight: float = 0.0
    #: Share of a batch's items that go from sigma_max to the clean input in one step
    #: (`m2l.training.losses.direction_distance`).
    direct_share: float = 0.0

    precision: str = "float16"
    compile: bool = False

    #: The run stops when a batch's loss is not finite or this many times the median of the last 100. A run that
    #: exists may be given another value.
    explosion: float = 50.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", tuple(self.data))
        for name in ("steps", "batch_size", "accumulate", "crop_frames"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "initial_delta_t", "final_exponent", "explosion"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise SettingsError(f"{name} must be positive, not {value}")
        no_less_than_0 = ("seed", "warmup_steps", "silence_rms", "autoencoder_rate", "autoencoder_steps")
        for name in (*no_less_than_0, "band_weight", "level_weight", "spectrum_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SettingsError(f"{name} must not be negative, is {value}")
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise SettingsError(
                f"final_learning_rate must lie in 0 … learning_rate ({self.learning_rate}), "
                f"not {self.final_learning_rate}"
            )
        for name in ("ema_decay", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} must lie in [0, 1), not {getattr(self, name)}")
        if not 0 <= self.direct_share <= 1:
            raise SettingsError(f"direct_share must lie in [0, 1], not {self.direct_share}")
        if self.initial_delta_t >= 1:
            raise SettingsError(f"initial_delta_t must be below 1, not {self.initial_delta_t}")
        if self.precision not in PRECISIONS:
            raise SettingsError(f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        if self.optimizer not in OPTIMIZERS:
            raise SettingsError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {self.optimizer!r}")
        if self.density not in DENSITIES:
            raise SettingsError(f"density must be one of {', '.join(DENSITIES)}, not {self.density!r}")
        if self.weighting not in WEIGHTINGS:
            raise SettingsError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {self.weighting!r}")
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
        parts = world_size * self.accumulate
        if self.batch_size % parts:
            raise SettingsError(
                f"batch_size {self.batch_size} does not divide into {world_size} processes x "
                f"{self.accumulate} accumulated parts"
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
            near = difflib.get_close_matches(key, known, n=1)
            raise SettingsError(
                f"unknown training setting {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    try:
        return TrainingSettings(**values)
    except TypeError as error:
        raise SettingsError(f"bad training setting: {error}") from error


def read_settings(run: Path) -> TrainingSettings:
    """What a run was started with.

    Raises:
        CheckpointError: if its file is missing, damaged, or of another version.
    """
    path = run / SETTINGS_FILE
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no JSON object")
        return from_dict(values)
    except FileNotFoundError:
        raise CheckpointError(f"{run} is no run of m2l train: it has no {SETTINGS_FILE}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}, the settings of the run, cannot be read: {error}") from error


def check_same_run(run: Path, settings: TrainingSettings) -> None:
    """Raise `SettingsError` naming what differs if `run` was started with other settings.

    `explosion` may differ: it decides when a run gives up, and not what comes of it.

    Raises:
        CheckpointError: if the run's settings are damaged.
    """
    if not (run / SETTINGS_FILE).exists():
        return
    try:
        then, now = read_settings(run).to_dict(), settings.to_dict()
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; without that file the run goes on with the settings given"
        ) from error
    differing = [f"{name} {then[name]!r} -> {now[name]!r}" for name in now
                 if now[name] != then[name] and name != "explosion"]  # fmt: skip
    if differing:
        raise SettingsError(
            f"{run} was started with other settings ({'; '.join(differing)}); "
            "resume with the same, or give another --run"
        )


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
