"""Steps of the training loop against the plain loop written out, and what it does when."""

from __future__ import annotations

import copy
import dataclasses
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from training_helpers import log_lines, tiny, train

from m2l import Music2Latent, create_config
from m2l.io.atomic import InUseError
from m2l.io.torch_files import CheckpointError
from m2l.representation import waveform_to_representation
from m2l.training import Trainer, TrainingStopped, loop
from m2l.training.checkpoint import list_checkpoints
from m2l.training.data import Crops, DataError, times_of
from m2l.training.losses import StepLoss, consistency_loss, spectrum_loss
from m2l.training.readers import ReaderError
from m2l.training.stops import UnreadableDataError

pytest_plugins = ["training_fixtures"]

#: Rates of warm-up over 2 steps to 1e-3, then half a cosine to 1e-6 over 4, and Delta t from 0.1 to 0.001 over 6.
FINAL, PEAK = 1e-6, 1e-3
RATES = [PEAK / 2, PEAK, *(FINAL + (PEAK - FINAL) * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(4))]
DELTAS = [0.1 ** (1 + 2 * k / 6) for k in range(6)]
#: Two levels of 64 bins: a step takes hundredths of a second.
SMALL = create_config("tiny").replace(
    hop_length=32, channel_mults=(1, 2), unet_blocks=(1, 1), autoencoder_blocks=(1, 1), attention=(False, True),
    downsampling=((4, 2),), bottleneck_channels=8, cond_channels=8,
)  # fmt: skip


def small_model() -> Music2Latent:
    """A model in which every weight has a gradient."""
    generator = torch.Generator().manual_seed(0)
    model = Music2Latent(SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run starts from `small_model`."""
    monkeypatch.setattr(loop, "initial_model", lambda settings: small_model())


def plain_steps(
    model: Music2Latent, trainer: Trainer, steps: int, first_stage: int = 0, factor: float = 1.0
) -> tuple[list[dict[str, float]], Music2Latent]:
    """RAdam on whole batches, drawn as the run draws them; returns what the log should say, and the average."""
    average, config, settings = copy.deepcopy(model), model.config, trainer.settings
    crops = Crops(trainer.corpora, settings, config)
    slow = [p for name, p in model.named_parameters() if not name.startswith("unet.")]
    fast = list(model.unet.parameters())
    optimizer = torch.optim.RAdam([{"params": slow}, {"params": fast}], PEAK, betas=(0.9, 0.999))
    lines = []
    for step in range(steps):
        items = [crops[step * settings.batch_size + index] for index in range(settings.batch_size)]
        x = waveform_to_representation(torch.stack([item["waveform"] for item in items]), config)
        noise = torch.stack([item["noise"] for item in items])
        optimizer.zero_grad()
        if step < first_stage:
            loss = spectrum_loss(model.decoder(model.encoder(x))[0], x).mean()
        else:
            loss = consistency_loss(model, x, times_of(step, settings, config), DELTAS[step], noise).mean()
        loss.backward()
        for group, scale in zip(optimizer.param_groups, (1.0 if step < first_stage else factor, 1.0), strict=True):
            group["lr"] = RATES[step] * scale
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        lines.append({"loss": loss.item(), "gradient_norm": float(torch.cat(gradients).norm())})
        optimizer.step()
        decay = (1 + step) / (10 + step)
        with torch.no_grad():
            for mean, p in zip(average.parameters(), model.parameters(), strict=True):
                mean.copy_(decay * mean + (1 - decay) * p)
    return lines, average


def test_steps_are_those_of_the_plain_loop(data: tuple[str, str], tmp_path: Path) -> None:
    """Losses, norms, rates, step sizes, weights and their average; batches of two parts, two rates."""
    settings = tiny(data, gradient_accumulation=2, autoencoder_rate=1 / 3, final_learning_rate=FINAL)
    trainer = train(settings, tmp_path, until=2)
    model = small_model()
    lines, average = plain_steps(model, trainer, 2, factor=1 / 3)
    logged = log_lines(tmp_path)
    assert [line["step"] for line in logged] == [1, 2]
    for line, expected, rate, delta in zip(logged, lines, RATES, DELTAS, strict=False):
        assert line["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert line["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4)
        assert (line["learning_rate"], line["delta_t"]) == (pytest.approx(rate), pytest.approx(delta))
    start = dict(small_model().named_parameters())
    for ours, theirs in ((trainer.state.model, model), (trainer.ema.model, average)):
        for name, p in theirs.named_parameters():
            moved_by = (p - start[name]).abs().max().item()
            torch.testing.assert_close(dict(ours.named_parameters())[name], p, rtol=0.0, atol=0.02 * moved_by + 1e-7)


def test_the_first_stage_has_its_loss_and_a_rate_of_one(data: tuple[str, str], tmp_path: Path) -> None:
    """Its warm-up and cosine are its own; the step size stays at its first value."""
    settings = tiny(data, steps=8, autoencoder_steps=6, autoencoder_rate=1 / 3, final_learning_rate=FINAL)
    trainer = train(settings, tmp_path, until=2)
    lines, _ = plain_steps(small_model(), trainer, 2, first_stage=6, factor=1 / 3)
    for line, expected, rate in zip(log_lines(tmp_path), lines, RATES, strict=False):
        assert line["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert line["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4)
        assert (line["learning_rate"], line["delta_t"]) == (pytest.approx(rate), pytest.approx(0.1))
    rates = [group["lr"] for group in trainer.state.optimizer.param_groups]
    assert rates == pytest.approx([RATES[1]] * 3)


def test_the_second_stage_has_the_whole_loss_and_is_judged_anew(data: tuple[str, str], tmp_path: Path) -> None:
    trainer = train(tiny(data, steps=2, autoencoder_steps=1, batch_size=1), tmp_path)
    assert isinstance(trainer._loss, StepLoss)
    assert list(trainer.state.recent) == [log_lines(tmp_path)[1]["loss"]]


def test_a_gradient_that_is_not_finite_stops_the_run(data: tuple[str, str], tmp_path: Path, monkeypatch: Any) -> None:
    """The slope of the square root at 0 is infinite, the loss is 0."""
    trainer = Trainer(tiny(data, batch_size=1), tmp_path, device="cpu")
    weight = trainer.state.model.unet.conv_in.weight
    before = weight.detach().clone()
    monkeypatch.setattr(trainer, "loss", lambda *_: (0 * weight.sum()).abs().sqrt())
    with pytest.raises(TrainingStopped, match=r"step 0: the gradient is not finite \(0\)"):
        trainer._step([{"origin": ["a.wav"]}])  # type: ignore[list-item]
    assert torch.equal(weight, before)


def test_a_rank_takes_its_share_of_the_times(data: tuple[str, str], tmp_path: Path, monkeypatch: Any) -> None:
    """Of 8 crops the second of two processes takes the last 4, in 2 parts, with the times of these."""
    trainer = Trainer(tiny(data, batch_size=8, gradient_accumulation=2), tmp_path, device="cpu")
    seen: list[torch.Tensor] = []

    def loss(batch: Any, t: torch.Tensor, delta_t: float) -> torch.Tensor:
        seen.append(t)
        return batch["value"] * next(iter(trainer.state.model.parameters())).sum() * 0 + batch["value"]

    trainer.world = dataclasses.replace(trainer.world, rank=1, size=2)
    monkeypatch.setattr(type(trainer.world), "mean", lambda self, value: value)
    monkeypatch.setattr(trainer, "loss", loss)
    batches: list[Any] = [{"origin": ["a"], "value": torch.tensor(value)} for value in (3.0, 5.0)]
    facts = trainer._step(batches)
    assert facts["loss"] == 4.0
    times = times_of(0, trainer.settings, trainer.state.model.config)
    assert [t.tolist() for t in seen] == [times[4:6].tolist(), times[6:8].tolist()]
    assert trainer.state.step == 1


def test_when_the_run_is_saved_validated_and_logged(data: tuple[str, str], tmp_path: Path) -> None:
    seen: list[tuple[int, bool]] = []

    def validate(model: Music2Latent, step: int) -> dict[str, float]:
        seen.append((step, model is trainer.ema.model))
        return {"validation_x": step / 2}

    trainer = Trainer(tiny(data, steps=5), tmp_path, device="cpu")
    reached = trainer.train(checkpoint_every=2, keep=9, log_every=2, validate_every=3, validate=validate, quiet=True)
    assert reached == 5
    assert seen == [(3, True)]
    assert [path.name for path in list_checkpoints(tmp_path)] == [f"step-0000000{step}" for step in (2, 4, 5)]
    lines = log_lines(tmp_path)
    assert [line["step"] for line in lines if "loss" in line] == [2, 4]
    assert [line for line in lines if "validation_x" in line] == [{"step": 3, "validation_x": 1.5}]
    assert trainer.train(until=9, quiet=True) == 5


def test_a_spike_is_judged_by_the_last_hundred_losses(data: tuple[str, str], tmp_path: Path) -> None:
    trainer = Trainer(tiny(data), tmp_path, device="cpu")
    assert trainer.state.recent.maxlen == 100


def test_a_rehearsal_changes_nothing(data: tuple[str, str], tmp_path: Path) -> None:
    """It runs the whole model's steps, in the first stage too, of all accumulated parts at time 1/2."""
    settings = tiny(data, autoencoder_steps=2, gradient_accumulation=2, initial_delta_t=0.3)
    trainer = Trainer(settings, tmp_path, device="cpu")
    before = copy.deepcopy(trainer.state.model.state_dict())
    seen: list[tuple[list[float], float, bool]] = []
    plain = trainer.loss

    def loss(batch: Any, t: torch.Tensor, delta_t: float) -> torch.Tensor:
        seen.append((t.tolist(), delta_t, hasattr(trainer._loss, "settings")))
        return plain(batch, t, delta_t)

    trainer.loss = loss  # type: ignore[method-assign]
    facts = trainer.rehearse()
    assert seen == [([0.5], 0.3, True)] * 4  # two steps
    assert 0 < facts["seconds_per_step"] < 60
    assert facts["peak_bytes"] > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in trainer.state.model.state_dict().items())
    assert all(p.grad is None for p in trainer.state.model.parameters())
    assert not hasattr(trainer._loss, "settings")  # the first stage's again
    assert trainer.state.step == 0


def test_a_run_as_facts(data: tuple[str, str], tmp_path: Path) -> None:
    trainer = Trainer(tiny(data), tmp_path, device="cpu")
    idle = [p for name, p in trainer.state.model.named_parameters() if not p.requires_grad]
    facts = trainer.describe()
    assert facts["parameters"] == sum(p.numel() for p in trainer.state.model.parameters()) - sum(
        p.numel() for p in idle
    )
    assert (facts["step"], facts["device"], facts["processes"]) == (0, "cpu", 1)
    assert facts["settings"] == trainer.settings.to_dict()
    assert [corpus["files"] for corpus in facts["corpora"]] == [2, 1]


# --- the round of steps, whose work is left out -------------------------------------------------------------------


def idle(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int | None]]:
    """Steps that do nothing; returns (step, keep, milestone) of each checkpoint."""
    saved: list[tuple[int, int, int | None]] = []

    def step(parts: object) -> dict[str, float]:
        trainer.state.step += 1
        return {"loss": float(trainer.state.step)}

    monkeypatch.setattr(trainer, "_step", step)
    monkeypatch.setattr(trainer, "_fetch", lambda *arguments: [])
    monkeypatch.setattr(trainer, "_save", lambda keep, milestone: saved.append((trainer.state.step, keep, milestone)))
    return saved


def test_a_checkpoint_every_ten_thousand_steps_and_a_line_every_ten(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny(data, steps=10_003), tmp_path / "a" / "run", device="cpu")
    trainer.state.step = 9_975
    saved = idle(trainer, monkeypatch)
    assert trainer.train(quiet=True) == 10_003
    assert saved == [(10_000, 3, None), (10_003, 3, None)]
    assert [line["step"] for line in log_lines(trainer.run)] == [9_980, 9_990, 10_000]
    text = (trainer.run / "training.json").read_text()
    assert text.startswith('{\n  "preset": "tiny",\n')
    assert text.endswith("}\n")


def test_validation_and_checkpoints_come_at_multiples(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny(data, steps=9), tmp_path, device="cpu")
    saved = idle(trainer, monkeypatch)
    judged: list[int] = []
    options = {"validate": lambda model, step: judged.append(step) or {}, "checkpoint_every": 3, "keep": 5}
    assert trainer.train(until=4, validate_every=2, milestone=6, log_every=3, quiet=True, **options) == 4
    assert trainer.train(until=7, quiet=True, **options) == 7
    assert judged == [2, 4]
    assert saved == [(3, 5, 6), (4, 5, 6), (6, 5, None), (7, 5, None)]


def test_a_step_is_saved_once(data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(tiny(data), tmp_path, device="cpu")
    written: list[Any] = []
    monkeypatch.setattr(loop.checkpoints, "save_checkpoint", lambda run, state: written.append(state.step))
    monkeypatch.setattr(loop.checkpoints, "prune", lambda run, keep, milestone: written.append((keep, milestone)))
    for step in (0, 1, 1, 2):
        trainer.state.step = step
        trainer._save(4, 10)
    assert written == [1, (4, 10), 2, (4, 10)]


def test_a_request_to_stop_ends_the_round(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny(data), tmp_path, device="cpu")
    saved = idle(trainer, monkeypatch)
    monkeypatch.setattr(trainer, "_fetch", lambda *arguments: [] if trainer.state.step < 2 else None)
    assert trainer.train(quiet=True) == 2
    assert saved == [(2, 3, None)]


def test_processes_must_agree_on_the_step(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny(data), tmp_path / "run", device="cpu")
    monkeypatch.setattr(type(trainer.world), "gather", lambda self, value: [value, 3])
    with pytest.raises(CheckpointError, match="the processes of the run do not find the same checkpoints"):
        trainer.train(quiet=True)


@pytest.mark.parametrize(("newest", "fails"), [(0, False), (1, True)])
def test_a_run_that_went_on_elsewhere_is_not_gone_on_with(
    newest: int, fails: bool, data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny(data), tmp_path, device="cpu")
    monkeypatch.setattr(loop.checkpoints, "newest_step", lambda run, damaged: newest)
    with pytest.raises(InUseError, match="another process") if fails else nullcontext():
        trainer._prepare()


def test_crops_that_cannot_be_read_are_counted_by_all_crops_so_far(data: tuple[str, str], tmp_path: Path) -> None:
    """Of 2 a step, after 3 steps and the one in hand 8."""
    trainer = Trainer(tiny(data), tmp_path, device="cpu")
    trainer.state.step = 3
    told: list[Any] = []
    trainer.unreadable = SimpleNamespace(add=lambda found, crops: told.append((list(found), crops)))  # type: ignore[assignment]
    part: Any = {"unreadable": [("a", "bad")], "origin": ["x"]}
    assert trainer._fetch(iter([part]), 3, None) == [part]
    assert told == [([("a", "bad")], 8)]
    trainer.stop_requested = True
    assert trainer._fetch(iter([part]), 3, None) is None


def test_the_first_fault_of_several_processes_is_told(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny(data), tmp_path, device="cpu")
    faults = [(False, None, []), (False, DataError("first"), []), (False, ReaderError("second"), [])]
    monkeypatch.setattr(type(trainer.world), "gather", lambda self, value: faults)
    monkeypatch.setattr(trainer, "_save", lambda *arguments: None)
    part: Any = {"unreadable": [], "origin": ["x", "y"]}
    with pytest.raises(UnreadableDataError, match=r"step 0: first.*batch: x; y"):
        trainer._fetch(iter([part]), 3, None)


# --- initialization, precision, processes -------------------------------------------------------------------------


def test_the_data_dependent_initialization_looks_at_the_first_eight_crops_of_a_new_run(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(loop, "scale_latent_path", lambda model, representation: seen.append(representation))
    trainer = Trainer(tiny(data, lsuv=True), tmp_path, device="cpu")
    crops = Crops(trainer.corpora, trainer.settings, SMALL)
    waveforms = torch.stack([crops[index]["waveform"] for index in range(8)])
    torch.testing.assert_close(seen[0], waveform_to_representation(waveforms, SMALL))
    monkeypatch.setattr(loop.checkpoints, "load_newest", lambda run, state: ([], None))
    for existing, changes in (([], {}), ([], {"init": "mini", "lsuv": True}), (["step-1"], {"lsuv": True})):
        monkeypatch.setattr(loop.checkpoints, "list_checkpoints", lambda run, existing=existing: existing)
        Trainer(tiny(data, **changes), tmp_path, device="cpu")
    assert len(seen) == 1


@pytest.mark.parametrize(("precision", "low"), [("float32", False), ("bfloat16", True)])
def test_the_network_computes_in_the_runs_precision(
    precision: str, low: bool, data: tuple[str, str], tmp_path: Path
) -> None:
    trainer = Trainer(tiny(data, precision=precision), tmp_path, device="cpu")
    kinds: list[tuple[torch.dtype, bool]] = []

    def loss(representation: torch.Tensor, t: torch.Tensor, delta_t: float, noise: torch.Tensor) -> torch.Tensor:
        kinds.append(((representation @ representation.mT).dtype, noise.is_contiguous(memory_format=layout)))
        return t.sum()

    layout = torch.channels_last if low else torch.contiguous_format
    trainer._loss = loss  # type: ignore[assignment]
    trainer.loss({"waveform": torch.zeros(2, 1000), "noise": torch.zeros(2, 2, 64, 8)}, torch.ones(2), 0.1)
    assert kinds == [(torch.bfloat16 if low else torch.float32, True)]


def test_several_processes_share_gradients_after_the_last_part(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Parallel:
        def __init__(self, module: torch.nn.Module, device_ids: list[int] | None) -> None:
            self.module, self.device_ids = module, device_ids

        def no_sync(self) -> str:
            return "apart"

    monkeypatch.setattr(loop, "DistributedDataParallel", Parallel)
    trainer = Trainer(tiny(data, batch_size=6, gradient_accumulation=3), tmp_path, device="cpu")
    assert isinstance(trainer._loss, StepLoss)
    assert trainer._no_sync(0) != "apart"
    trainer.world = dataclasses.replace(trainer.world, size=2)
    for device, ids in (("cpu", None), ("cuda:1", [1])):
        trainer.device = torch.device(device)
        wrapped: Any = trainer._wrapped(starting=False)
        assert (type(wrapped), wrapped.device_ids) == (Parallel, ids)
    trainer._loss = wrapped
    assert [trainer._no_sync(part) == "apart" for part in range(3)] == [True, True, False]
