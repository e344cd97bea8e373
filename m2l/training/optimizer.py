"""Optimizers of a run, its learning rate, and the average of its weights.

RAdam is the paper's optimizer; a short run learns more per step from Muon.

Muon [Jordan et al. 2024, https://kellerjordan.github.io/posts/muon] takes the momentum of a weight matrix to the
nearest semi-orthogonal matrix before it is applied: all directions that a layer could learn in are taken at one rate,
where other steps are dominated by the few that carry most of the gradient.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from m2l.training.settings import TrainingSettings

#: Odd quintic that drives singular values in (0, 1] to about 1 (Jordan et al.), and how often it is applied.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
#: RMS of an update with rate 1: about Adam's [Liu et al. 2025, arXiv 2502.16982], so both take the same rates.
UPDATE_RMS = 0.2
#: Matrices with a shorter side than this are left to Adam: there is little to orthogonalize.
SMALLEST_SIDE = 8


def orthogonalized(matrices: Sequence[Tensor]) -> list[Tensor]:
    """The semi-orthogonal factors of matrices, by a Newton-Schulz iteration; singular values end in about 0.7 … 1.2.

    The iteration multiplies X by polynomials of its Gram matrix, which commute; so it is run on the Gram matrix of
    the shorter side, and X is multiplied once at the end. Of a 192 x 2048 matrix that is under half of the work, and
    all matrices with the same shorter side are iterated together.

    Args:
        matrices: (M, N) each; M and N may differ.

    Returns:
        One like each, float32. A zero matrix stays zero.
    """
    wide = [m.float() if m.shape[0] <= m.shape[1] else m.float().mT for m in matrices]
    wide = [x / (x.norm() + 1e-7) for x in wide]
    alike: dict[int, list[int]] = defaultdict(list)
    for index, x in enumerate(wide):
        alike[len(x)].append(index)
    factors: list[Tensor] = list(wide)
    for members in alike.values():
        products = _polynomials(torch.stack([wide[index] @ wide[index].mT for index in members]))
        for index, product in zip(members, products, strict=True):
            factors[index] = product @ wide[index]
    return [factor if m.shape[0] <= m.shape[1] else factor.mT for m, factor in zip(matrices, factors, strict=True)]


def _polynomials(gram: Tensor) -> Tensor:
    """What the whole iteration multiplies matrices with these Gram matrices by, (…, M, M) -> (…, M, M)."""
    a, b, c = COEFFICIENTS
    identity = torch.eye(gram.shape[-1], device=gram.device)
    product: Tensor | None = None
    for iteration in range(ITERATIONS):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c) + a * identity
        product = polynomial if product is None else polynomial @ product
        if iteration < ITERATIONS - 1:
            gram = polynomial @ gram @ polynomial
    assert product is not None
    return product


def make_optimizer(groups: list[dict[str, Any]], settings: TrainingSettings) -> torch.optim.Optimizer:
    """The settings' optimizer of these parameter groups."""
    betas = (0.9, settings.beta2)
    if settings.optimizer == "muon":
        return Muon(groups, settings.learning_rate, betas=betas)
    return torch.optim.RAdam(groups, settings.learning_rate, betas=betas, foreach=True)


class Muon(torch.optim.Optimizer):
    """Muon for weight matrices, kernels flattened to (out, in x taps); Adam for everything else.

    Args:
        params: parameters or groups of them.
        lr: rate of both.
        momentum: of the matrices, with Nesterov's look-ahead.
        betas: Adam's decays.
        eps: Adam's.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps})
        self.orthogonalize: Callable[[Sequence[Tensor]], list[Tensor]] = orthogonalized

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of all groups."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            self._muon([p for p in trained if is_matrix(p)], group)
            self._adam([p for p in trained if not is_matrix(p)], group)
        return result

    def _muon(self, params: list[Tensor], group: dict[str, Any]) -> None:
        if not params:
            return
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in params]
        gradients = [p.grad for p in params if p.grad is not None]
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, gradients)
        ahead = torch._foreach_add(gradients, momenta, alpha=group["momentum"])
        updates = self.orthogonalize([step.reshape(len(step), -1) for step in ahead])
        for p, update in zip(params, updates, strict=True):
            rate = group["lr"] * UPDATE_RMS * math.sqrt(max(update.shape))
            p.sub_(update.reshape(p.shape), alpha=rate)

    def _adam(self, params: list[Tensor], group: dict[str, Any]) -> None:
        if not params:
            return
        first, second = group["betas"]
        gradients: list[Tensor] = []
        for p in params:
            state = self.state[p]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += 1
            assert p.grad is not None
            gradients.append(p.grad)
        means = [self.state[p]["exp_avg"] for p in params]
        squares = [self.state[p]["exp_avg_sq"] for p in params]
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        for p, mean, square in zip(params, means, squares, strict=True):
            step = float(self.state[p]["step"])
            scale = (square / (1 - second**step)).sqrt_().add_(group["eps"])
            p.addcdiv_(mean, scale, value=-group["lr"] / (1 - first**step))


def is_matrix(parameter: Tensor) -> bool:
    """Whether Muon takes the parameter: at least two axes, and both sides of the flattened matrix long enough."""
    return parameter.dim() >= 2 and min(len(parameter), parameter[0].numel()) >= SMALLEST_SIDE


# --- schedules (Sec. 5.1 and the reference code's warm-up) ---------------------------------------------------


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Rate of the step with this index: linear warm-up from 0, then a cosine to `final_learning_rate`.

    The last step of the run, or of its first stage, is within one step of the final rate.
    """
    peak, final, warmup = settings.learning_rate, settings.final_learning_rate, settings.warmup_steps
    step, steps = settings.stage(step)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / (steps - warmup)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))


def ema_decay(step: int, settings: TrainingSettings) -> float:
    """Decay after the step with this index: min(ema_decay, (1 + n) / (10 + n)), so early weights fade fast."""
    return min(settings.ema_decay, (1 + step) / (10 + step))


# --- average ------------------------------------------------------------------------------------------------


class Ema:
    """Exponential moving average of a model's parameters, in float32: what is evaluated and shipped.

    Args:
        model: whose parameters are followed. It has no buffers to average.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, decay: float) -> None:
        """average <- decay average + (1 - decay) parameters."""
        averages: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(averages, [p.detach() for p in model.parameters()], 1 - decay)
