"""Settings of a probe. Planning reads them, so this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

#: Metrics of the validation part that may stop or select; `probes.mlp.monitor` computes them.
MONITOR_NAMES = ("keras", "macro")


@dataclass(frozen=True)
class ProbeConfig:
    """Everything about a probe but its data and its seed.

    Attributes:
        hidden_units: width of each hidden layer; `()` is a linear probe.
        learning_rate: Adam step size.
        l2: Keras' factor λ: the loss gains λ·Σw² over kernels and biases, so its gradient is 2λ·w.
        epsilon: Adam's ε as Keras applies it, to sqrt(v) before any bias correction.
        batch_size: items per step; the last batch of an epoch may be smaller and is used.
        max_epochs: upper limit.
        patience: epochs without improvement of `stop_on` before training stops.
        stop_on: "loss" (validation loss with its L2 term, falling) or a name of `MONITOR_NAMES` (rising).
        select_on: whose best epoch is kept: a name of `MONITOR_NAMES`, or "last" for the last epoch.
        standardize: scale features by mean and deviation of the training items.
        precision: "fp32", or "bf16" for features and first layer in bfloat16 (master weights stay fp32).
        drop_last: drop incomplete training batches, as mir_ref does. For studies only.
    """

    hidden_units: tuple[int, ...] = (256, 128)
    learning_rate: float = 1e-3
    l2: float = 1e-5
    epsilon: float = 1e-7
    batch_size: int = 64
    max_epochs: int = 100
    patience: int = 10
    stop_on: str = "loss"
    select_on: str = "keras"
    standardize: bool = False
    precision: str = "fp32"
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be 'fp32' or 'bf16', got {self.precision!r}")
        if self.stop_on not in ("loss", *MONITOR_NAMES):
            raise ValueError(f"stop_on must be 'loss' or one of {sorted(MONITOR_NAMES)}, got {self.stop_on!r}")
        if self.select_on not in ("last", *MONITOR_NAMES):
            raise ValueError(f"select_on must be 'last' or one of {sorted(MONITOR_NAMES)}, got {self.select_on!r}")
        for name in ("batch_size", "max_epochs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
