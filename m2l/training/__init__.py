"""Training of `Music2Latent`: `settings` -> `data` -> `loop`, with `losses`, `optimizer`, `checkpoint`, `distributed`.

    from m2l.training import Trainer, TrainingSettings
    Trainer(TrainingSettings(preset="mini", data=("music/", "speech/=1"), steps=10_000), run="runs/mini").train()

Names are imported on first use: `m2l train --help` reads the settings without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m2l.training.loop import Trainer as Trainer
    from m2l.training.settings import SettingsError as SettingsError
    from m2l.training.settings import TrainingSettings as TrainingSettings
    from m2l.training.stops import TrainingStopped as TrainingStopped

_HOMES = {"Trainer": "loop", "TrainingStopped": "stops", "SettingsError": "settings", "TrainingSettings": "settings"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'm2l.training' has no attribute {name!r}")
    return getattr(import_module(f"m2l.training.{_HOMES[name]}"), name)
