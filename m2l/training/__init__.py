"""Training of `Music2Latent`: `settings` -> `data` -> `loop`, with `ema`, `checkpoint`, `schedule`, `distributed`.

    from m2l.training import Trainer, TrainingSettings
    Trainer(TrainingSettings(preset="mini", data=("music/", "speech/=1"), steps=10_000), run="runs/mini").train()

Nothing here is imported by `import m2l`.
"""

from __future__ import annotations

from m2l.training.loop import Trainer, TrainingStopped
from m2l.training.settings import SettingsError, TrainingSettings

__all__ = ["SettingsError", "Trainer", "TrainingSettings", "TrainingStopped"]
