"""What changes over a run: the learning rate (Sec. 5.1 and the reference code's warm-up)."""

from __future__ import annotations

import math

from m2l.training.settings import TrainingSettings


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Rate of the step with this index: linear warm-up from 0, then a cosine to `final_learning_rate`.

    The last step of the run, or of its first stage, comes within one step of the final rate.
    """
    peak, final, warmup = settings.learning_rate, settings.final_learning_rate, settings.warmup_steps
    step, steps = settings.stage(step)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def ema_decay(step: int, settings: TrainingSettings) -> float:
    """Decay after the step with this index: min(ema_decay, (1 + n) / (10 + n)), so early weights fade fast."""
    return min(settings.ema_decay, (1 + step) / (10 + step))
