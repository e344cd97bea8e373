"""Training of many small MLPs in one pass: seeds, tasks, folds and learning rates are stacked.

All models of a stack read the same feature matrix. Each keeps its own weights, training items, order of
batches, learning rate and early stopping; they only share the pass over memory and the Python loop. A model
in a stack therefore ends where it would have ended alone.

The arithmetic follows Keras, because that is what the published Table 1 was made with: Glorot-uniform
kernels and zero biases, Adam with epsilon 1e-7 *outside* the bias correction, L2 on kernels and biases as a
term of the loss (so coupled, not AdamW), and a validation loss that includes that term.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from probes.mlp.config import ProbeConfig
from probes.mlp.kernels import fused_adam, matmul_nt, matmul_tn
from probes.mlp.models import ProbeJob, TrainedProbe, batch_order, glorot_layers
from probes.mlp.monitor import MONITORS, r2_monitor


class _Update(NamedTuple):
    """One model's part in a step: its row in the stack, the steps it has made, its learning rate."""

    row: int
    steps_before: int
    learning_rate: float


class Stack:
    """The models trained together; `fit` runs the epochs."""

    def __init__(
        self,
        data: Tensor,
        jobs: list[ProbeJob],
        config: ProbeConfig,
        initial: Sequence[list[tuple[np.ndarray, np.ndarray]]] | None,
    ) -> None:
        self.config, self.jobs, self.device = config, jobs, data.device
        self.width = max(job.n_outputs for job in jobs)
        self.bf16 = config.precision == "bf16"
        self.data = data.bfloat16() if self.bf16 and not config.standardize else data
        self._prepare_targets()
        self._prepare_scaling(data)
        self.active = list(range(len(jobs)))
        start = initial or [
            glorot_layers([data.shape[1], *config.hidden_units, job.n_outputs], job.seed) for job in jobs
        ]
        self.parameters = self._stack_layers(start)
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]
        # Buffers of the first layer are kept: fresh memory at every step costs as much as the products.
        self._gathered = torch.empty(0, dtype=self.data.dtype, device=self.device)
        if self.bf16:
            kernel = self.parameters[0]
            self.half = kernel.bfloat16()
            self._product = torch.empty_like(kernel[0], dtype=torch.bfloat16)
        self.steps = [0] * len(jobs)
        self.results = [TrainedProbe([], *self._scaling_of(i), multilabel=job.multilabel) for i, job in enumerate(jobs)]
        self.best_metric = [-np.inf] * len(jobs)
        self.best_stop = [-np.inf] * len(jobs)
        self.waited = [0] * len(jobs)
        self._validation: dict[Any, Tensor] = {}

    # ---- set-up -----------------------------------------------------------------------------------

    def _prepare_targets(self) -> None:
        """One (n_items, width) 0/1 matrix per distinct target array, padded to the widest output."""
        rows: dict[int, int] = {}
        matrices: list[Tensor] = []
        for job in self.jobs:
            if id(job.targets) not in rows:
                matrix = torch.zeros((len(job.targets), self.width))
                if job.targets.ndim == 2:
                    matrix[:, : job.n_outputs] = torch.from_numpy(np.asarray(job.targets, dtype=np.float32))
                else:
                    matrix[torch.arange(len(matrix)), torch.from_numpy(np.asarray(job.targets)).long()] = 1.0
                rows[id(job.targets)] = len(matrices)
                matrices.append(matrix)
        self.targets = torch.stack(matrices).to(self.device)
        self.target_row = [rows[id(job.targets)] for job in self.jobs]

    def _prepare_scaling(self, data: Tensor) -> None:
        self.scalings: list[tuple[Tensor, Tensor]] = []
        self.scaling_row: list[int] = []
        if not self.config.standardize:
            return
        rows: dict[bytes, int] = {}
        for job in self.jobs:
            key = np.asarray(job.train).tobytes()
            if key not in rows:
                items = data[torch.from_numpy(np.asarray(job.train)).long().to(self.device)]
                deviation = items.std(dim=0, correction=0)
                # a feature that never moves carries nothing: leave it at zero instead of dividing by zero
                scale = torch.where(deviation > 0, 1.0 / deviation.clamp_min(1e-30), 0.0)
                rows[key] = len(self.scalings)
                self.scalings.append((items.mean(dim=0), scale))
            self.scaling_row.append(rows[key])

    def _scaling_of(self, model: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        if not self.scalings:
            return None, None
        mean, scale = self.scalings[self.scaling_row[model]]
        return mean.cpu().numpy(), scale.cpu().numpy()

    def _stack_layers(self, models: Sequence[list[tuple[np.ndarray, np.ndarray]]]) -> list[Tensor]:
        """[kernel (K, out, in), bias (K, out), …]; outputs beyond a model's own stay zero."""
        stacked = []
        for layers in zip(*models, strict=True):
            for tensors in zip(*layers, strict=True):
                n_out = max(len(t) for t in tensors)
                padded = [np.pad(t, [(0, n_out - len(t))] + [(0, 0)] * (t.ndim - 1)) for t in tensors]
                stacked.append(torch.from_numpy(np.stack(padded).astype(np.float32)).to(self.device))
        return stacked

    # ---- one epoch --------------------------------------------------------------------------------

    def fit(self, progress: Callable[[int, int], None] | None = None) -> list[TrainedProbe]:
        for epoch in range(self.config.max_epochs):
            self._train_epoch(epoch)
            self._validate(epoch)
            if progress is not None:
                progress(epoch, len(self.active))
            if not self.active:
                break
        for row, model in enumerate(self.active):
            if not self.results[model].layers:
                self._keep(row, model, self.config.max_epochs - 1)
        return self.results

    def _train_epoch(self, epoch: int) -> None:
        size = self.config.batch_size
        orders = []
        for model in self.active:
            train = np.asarray(self.jobs[model].train)
            order = train[batch_order(len(train), self.jobs[model].seed, epoch)]
            whole = len(order) // size * size
            orders.append(order[:whole] if self.config.drop_last and whole else order)
        for start in range(0, max(map(len, orders)), size):
            batches = [order[start : start + size] for order in orders]
            longest = max(map(len, batches))
            index = np.zeros((len(batches), longest), dtype=np.int64)
            for row, batch in enumerate(batches):
                index[row, : len(batch)] = batch
            self._step(torch.from_numpy(index).to(self.device), [len(batch) for batch in batches])

    def _inputs(self, index: Tensor) -> Tensor:
        """(K, B, dim) features of a batch, scaled."""
        size = index.numel() * self.data.shape[1]
        if self._gathered.numel() < size:
            self._gathered = self.data.new_empty(size)
        flat = self._gathered[:size].view(index.numel(), -1)
        flat = torch.index_select(self.data, 0, index.view(-1), out=flat).view(*index.shape, -1)
        if self.scalings:
            rows = [self.scaling_row[model] for model in self.active]
            mean = torch.stack([self.scalings[row][0] for row in rows])
            scale = torch.stack([self.scalings[row][1] for row in rows])
            flat = flat.sub_(mean[:, None]).mul_(scale[:, None])
        return flat.bfloat16() if self.bf16 else flat

    def _step(self, index: Tensor, counts: list[int]) -> None:
        """One Adam step of every active model on its own batch (forward and backward written out)."""
        inputs = self._inputs(index)
        hidden = [inputs]
        depth = len(self.parameters) // 2
        first = self.half if self.bf16 else self.parameters[0]
        for layer in range(depth):
            kernel, bias = self.parameters[2 * layer], self.parameters[2 * layer + 1]
            if layer == 0:
                output = torch.stack([matmul_nt(x, w) for x, w in zip(inputs, first, strict=True)]).float()
                output += bias[:, None]
            else:
                output = torch.baddbmm(bias[:, None], hidden[-1], kernel.transpose(1, 2))
            hidden.append(output.relu_() if layer + 1 < depth else output)
        delta = self._output_delta(hidden.pop(), index, counts)
        gradients = [torch.empty(0)] * len(self.parameters)
        for layer in reversed(range(depth)):
            gradients[2 * layer + 1] = delta.sum(dim=1)
            if layer:
                below = hidden[layer]
                gradients[2 * layer] = torch.bmm(delta.transpose(1, 2), below)
                delta = torch.bmm(delta, self.parameters[2 * layer]).mul_(below > 0)
        updates = self._next_updates(counts)
        # The first kernel holds nearly all weights: its gradient is made and used model by model, while it is in
        # the cache.
        half_delta = delta.bfloat16() if self.bf16 else delta
        for update in updates:
            if self.bf16:
                product = torch.mm(half_delta[update.row].t(), inputs[update.row], out=self._product)
                self._adam([0], [product], update, rounded=[self.half[update.row]])
            else:
                self._adam([0], [matmul_tn(delta[update.row], inputs[update.row])], update)
        rest = range(1, len(self.parameters))
        for update in updates:
            self._adam(rest, [gradients[number][update.row] for number in rest], update)

    def _output_delta(self, logits: Tensor, index: Tensor, counts: list[int]) -> Tensor:
        """d loss / d logits: (probability - target) / n for both cross-entropies, twice that for the squared error.

        n counts items, and outputs too where the loss is their mean (tags, values).
        """
        delta = torch.empty_like(logits)
        for row, model in enumerate(self.active):
            job, count = self.jobs[model], counts[row]
            target = self.targets[self.target_row[model]][index[row]][:, : job.n_outputs]
            own = logits[row, :, : job.n_outputs]
            if job.regression:
                probability = own
            else:
                probability = torch.sigmoid(own) if job.multilabel else torch.softmax(own, dim=-1)
            delta[row].zero_()
            norm = count * (job.n_outputs if job.multilabel else job.n_outputs / 2 if job.regression else 1)
            if count:
                delta[row, :count, : job.n_outputs] = (probability - target)[:count] / norm
        return delta

    def _next_updates(self, counts: list[int]) -> list[_Update]:
        """The updates of this step: of every active model that has items in it."""
        updates = []
        for row, model in enumerate(self.active):
            if counts[row]:
                rate = self.jobs[model].learning_rate or self.config.learning_rate
                updates.append(_Update(row, self.steps[model], rate))
                self.steps[model] += 1
        return updates

    def _adam(
        self, numbers: Iterable[int], gradients: list[Tensor], update: _Update, rounded: list[Tensor] | None = None
    ) -> None:
        """Adam on some of one model's parameters."""
        row = update.row
        fused_adam(
            [self.parameters[number][row] for number in numbers],
            gradients,
            [self.moments[number][0][row] for number in numbers],
            [self.moments[number][1][row] for number in numbers],
            update.steps_before,
            update.learning_rate,
            2.0 * self.config.l2,
            self.config.epsilon,
            rounded=rounded,
        )

    # ---- validation, selection, stopping ----------------------------------------------------------

    def _validate(self, epoch: int) -> None:
        """Keras' order: the checkpoint sees every epoch, then early stopping counts it."""
        config, stopped = self.config, []
        for row, model in enumerate(self.active):
            job, result = self.jobs[model], self.results[model]
            if not len(job.validation):
                continue
            layers = [p[row] for p in self.parameters]
            logits = self._forward(layers, self._validation_inputs(model))[:, : job.n_outputs]
            items = torch.from_numpy(np.asarray(job.validation)).long().to(self.device)
            target = self.targets[self.target_row[model]][items][:, : job.n_outputs]
            values = {"loss": self._loss(logits, target, job, layers)}
            for name in {config.stop_on, config.select_on} - {"loss", "last"}:
                values[name] = (
                    r2_monitor(logits, target) if job.regression else MONITORS[name](logits, target, job.multilabel)
                )
            result.history.append(values)
            if config.select_on != "last" and values[config.select_on] > self.best_metric[model]:
                self.best_metric[model] = values[config.select_on]
                self._keep(row, model, epoch)
            score = -values["loss"] if config.stop_on == "loss" else values[config.stop_on]
            self.waited[model] += 1
            if score > self.best_stop[model]:
                self.best_stop[model], self.waited[model] = score, 0
            elif self.waited[model] >= config.patience and epoch > 0:
                if not result.layers:
                    self._keep(row, model, epoch)
                stopped.append(row)
        if stopped:
            self._remove(stopped)

    def _validation_inputs(self, model: int) -> Tensor:
        job = self.jobs[model]
        scaling = self.scaling_row[model] if self.scalings else None
        key = (np.asarray(job.validation).tobytes(), scaling)
        if key not in self._validation:
            items = self.data[torch.from_numpy(np.asarray(job.validation)).long().to(self.device)]
            if scaling is not None:
                mean, scale = self.scalings[scaling]
                items = (items - mean) * scale
            self._validation[key] = items
        return self._validation[key]

    def _forward(self, layers: list[Tensor], hidden: Tensor) -> Tensor:
        for number in range(0, len(layers), 2):
            kernel = layers[number].to(hidden.dtype)
            hidden = matmul_nt(hidden, kernel).float() + layers[number + 1]
            if number + 2 < len(layers):
                hidden = hidden.relu_()
        return hidden

    def _loss(self, logits: Tensor, target: Tensor, job: ProbeJob, layers: list[Tensor]) -> float:
        if job.regression:
            loss = torch.nn.functional.mse_loss(logits, target)
        elif job.multilabel:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        else:
            loss = torch.nn.functional.cross_entropy(logits, target)
        penalty = sum(float(layer.square().sum()) for layer in layers)
        return float(loss) + self.config.l2 * penalty

    def _keep(self, row: int, model: int, epoch: int) -> None:
        own = [p[row].detach().cpu().numpy().copy() for p in self.parameters]
        own[-2], own[-1] = own[-2][: self.jobs[model].n_outputs], own[-1][: self.jobs[model].n_outputs]
        result = self.results[model]
        result.layers = list(zip(own[::2], own[1::2], strict=True))
        result.best_epoch = epoch

    def _remove(self, rows: list[int]) -> None:
        """Take stopped models out of the stack, so that the others do not pay for them."""
        rest = [row for row in range(len(self.active)) if row not in rows]
        self.active = [self.active[row] for row in rest]
        self.parameters = [p[rest] for p in self.parameters]
        self.moments = [(m[rest], v[rest]) for m, v in self.moments]
        if self.bf16:
            self.half = self.half[rest]
