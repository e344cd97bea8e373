"""The training loop: resuming bit for bit, sharing a batch, schedules, the average, and stopping in time."""

from __future__ import annotations

import json
import math
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from training_helpers import assert_same_run, log_lines, noise_file, tiny, train

import m2l.io.checkpoints
from m2l import CheckpointError, Music2Latent, create_config
from m2l.io.published import key_map
from m2l.representation import waveform_to_representation
from m2l.training import SettingsError, Trainer, TrainingSettings, TrainingStopped, loop
from m2l.training.checkpoint import list_checkpoints
from m2l.training.data import StepOrder
from m2l.training.initialize import latent_path
from m2l.training.settings import from_dict

pytest_plugins = ["training_fixtures"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, data: tuple[str, str]) -> Path:
    """A run of 6 steps that nothing disturbed."""
    run = tmp_path_factory.mktemp("straight")
    train(tiny(data), run, checkpoint_every=1, keep=6)
    return run


def weights(run: Path, part: str = "model.") -> dict[str, torch.Tensor]:
    tensors = load_file(list_checkpoints(run)[-1] / "training.safetensors")
    return {name: tensor for name, tensor in tensors.items() if name.startswith(part)}


def assert_close_updates(run: Path, other: Path, start: str, rtol: float) -> None:
    """The weights have moved by the same amounts, but for `rtol` of the largest."""
    ours, theirs, initial = weights(run), weights(other), load_file(Path(start) / "model.safetensors")
    moves = {name: theirs[name] - initial[name.removeprefix("model.")] for name in theirs}
    largest = max(float(move.abs().max()) for move in moves.values())
    assert largest > 0
    for name in theirs:
        assert float((ours[name] - theirs[name]).abs().max()) <= rtol * largest, name


# --- resuming -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stop", "workers"), [(3, 0), (1, 2)])
def test_resumed_is_straight_bit_for_bit(
    stop: int, workers: int, straight: Path, data: tuple[str, str], tmp_path: Path
) -> None:
    first = train(tiny(data), tmp_path, until=stop, workers=workers)
    assert first.state.step == stop
    assert list_checkpoints(tmp_path)[-1].name == f"step-{stop:08d}"
    train(tiny(data), tmp_path, workers=workers)
    assert_same_run(tmp_path, straight)


def test_a_finished_run_stays_as_it_is(straight: Path, data: tuple[str, str]) -> None:
    def content() -> dict[Path, bytes]:
        files = [path for path in straight.rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in files if path.parent.name != "tensorboard"}

    before = content()
    assert train(tiny(data), straight).state.step == 6
    assert content() == before


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fifty_of_a_hundred(precision: str, data: tuple[str, str], tmp_path: Path) -> None:
    settings = tiny(data, steps=100, precision=precision, warmup_steps=10)
    train(settings, tmp_path / "straight", checkpoint_every=30)
    train(settings, tmp_path / "resumed", checkpoint_every=30, until=50)
    train(settings, tmp_path / "resumed", checkpoint_every=30)
    assert_same_run(tmp_path / "resumed", tmp_path / "straight")


def test_changed_settings_are_named_on_resuming(data: tuple[str, str], tmp_path: Path) -> None:
    train(tiny(data), tmp_path, until=1)
    with pytest.raises(SettingsError, match=r"other settings \(batch_size 2 -> 4; seed 42 -> 7\)"):
        Trainer(tiny(data, batch_size=4, seed=7), tmp_path, device="cpu")
    assert Trainer(tiny(data, loss_spike=9.0), tmp_path, device="cpu").state.step == 1


@pytest.mark.parametrize("name", ["training.safetensors", "training.json", "model.safetensors"])
def test_a_damaged_checkpoint_is_named(name: str, data: tuple[str, str], tmp_path: Path) -> None:
    train(tiny(data), tmp_path, until=1)
    damaged = tmp_path / "step-00000001" / name
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"cannot resume from .*step-00000001"):
        Trainer(tiny(data), tmp_path, device="cpu")


def test_checkpoints_kept(data: tuple[str, str], tmp_path: Path) -> None:
    train(tiny(data), tmp_path, checkpoint_every=1, keep=2, milestone=3)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "step-00000003", "step-00000005", "step-00000006",
    ]  # fmt: skip


def test_the_seed_decides(straight: Path, data: tuple[str, str], tmp_path: Path) -> None:
    train(tiny(data, seed=7), tmp_path)
    assert log_lines(tmp_path)[0]["loss"] != log_lines(straight)[0]["loss"]


def test_scaled_to_unit_variance_at_the_start_and_never_again(data: tuple[str, str], tmp_path: Path) -> None:
    """LSUV: outputs of the convolutions that the latents pass have mean 0 and variance 1 on the first crops."""
    settings = tiny(data, lsuv=True, steps=3)
    trainer = Trainer(settings, tmp_path / "straight", device="cpu")
    model, outputs = trainer.state.model, {}
    for index, module in enumerate(latent_path(model)):
        module.register_forward_hook(lambda _m, _i, out, index=index: outputs.update({index: out}))
    crops = loop.Crops(trainer.corpora, settings, model.config)
    waveforms = torch.stack([crops[item]["waveform"] for item in range(loop.LSUV_CROPS)])
    representation = waveform_to_representation(waveforms, model.config)
    with torch.no_grad():
        model.decoder(model.encoder(representation))
    assert len(outputs) == len(latent_path(model)) == 8
    for out in outputs.values():
        mean = out.transpose(0, 1).flatten(1).mean(1)
        assert float(mean.abs().max()) < 0.01
        assert float(out.std()) == pytest.approx(1.0, abs=0.02)
    assert not any(bool(p.any()) for name, p in model.unet.named_parameters() if ".cross." in name)
    train(settings, tmp_path / "straight")
    train(settings, tmp_path / "resumed", until=1)
    train(settings, tmp_path / "resumed")
    assert_same_run(tmp_path / "resumed", tmp_path / "straight")


# --- one batch, computed in parts ----------------------------------------------------------------------------


def test_accumulated_parts_are_the_whole_batch(data: tuple[str, str], moved: str, tmp_path: Path) -> None:
    settings = tiny(data, steps=3, batch_size=4, init=moved)
    train(settings, tmp_path / "whole")
    parts = tiny(data, steps=3, batch_size=4, init=moved, gradient_accumulation=4)
    train(parts, tmp_path / "parts")
    for ours, theirs in zip(log_lines(tmp_path / "parts"), log_lines(tmp_path / "whole"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-4)
    assert_close_updates(tmp_path / "parts", tmp_path / "whole", moved, rtol=1e-3)


@given(
    world_size=st.integers(1, 5),
    accumulate=st.integers(1, 4),
    part=st.integers(1, 3),
    first_step=st.integers(0, 3),
    more=st.integers(1, 3),
)
def test_every_item_is_taken_once(world_size: int, accumulate: int, part: int, first_step: int, more: int) -> None:
    batch = world_size * accumulate * part
    run = TrainingSettings(batch_size=batch, gradient_accumulation=accumulate, steps=first_step + more)
    orders = [StepOrder(run, first_step, rank, world_size) for rank in range(world_size)]
    taken = [list(order) for order in orders]
    assert all(len(parts) == len(order) for parts, order in zip(taken, orders, strict=True))
    assert all(len(items) == part for parts in taken for items in parts)
    for step in range(more):
        items = [
            item for parts in taken for chunk in parts[step * accumulate : (step + 1) * accumulate] for item in chunk
        ]
        assert sorted(items) == list(range((first_step + step) * batch, (first_step + step + 1) * batch))


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 6))
def test_a_batch_divides_evenly_or_not_at_all(batch: int, world_size: int, accumulate: int) -> None:
    run = TrainingSettings(batch_size=batch, gradient_accumulation=accumulate)
    if batch % (world_size * accumulate):
        with pytest.raises(SettingsError, match=f"batch_size {batch} does not divide into {world_size} proc"):
            run.shares(world_size)
    else:
        share, part = run.shares(world_size)
        assert (share * world_size, part * accumulate) == (batch, share)


# --- average, settings -----------------------------------------------------------------------------


def test_checkpoints_hold_the_average(straight: Path) -> None:
    """The weights that a run hands out are the plain formula's, from the initial ones on."""
    name = "unet.conv_out.weight"
    expected = Music2Latent.from_config("tiny", 42).state_dict()[name].double()
    for step, folder in enumerate(list_checkpoints(straight)):
        raw = load_file(folder / "training.safetensors")["model." + name].double()
        decay = (1 + step) / (10 + step)
        expected = decay * expected + (1 - decay) * raw
        average = load_file(folder / "model.safetensors")[name].double()
        assert float((average - raw).abs().max()) > 0
        torch.testing.assert_close(average, expected, rtol=1e-5, atol=1e-9)
    handed_out = Music2Latent.from_pretrained(straight / "step-00000006", device="cpu")
    assert torch.equal(handed_out.state_dict()[name].double(), average)


@hypothesis_settings(max_examples=50)
@given(
    st.builds(
        TrainingSettings,
        data=st.lists(st.text(max_size=8), max_size=3).map(tuple),
        steps=st.integers(1, 10**9),
        seed=st.integers(0, 2**31),
        learning_rate=st.floats(1e-5, 1.0),
        final_learning_rate=st.floats(0, 1e-5),
        ema_decay=st.floats(0, 0.999999),
        density=st.sampled_from(["grid", "lognormal"]),
        init=st.none() | st.text(max_size=5),
    )
)
def test_settings_survive_json(run: TrainingSettings) -> None:
    assert from_dict(json.loads(json.dumps(run.to_dict()))) == run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"learning_rate": math.nan}, "learning_rate must be positive, not nan"),
        ({"final_learning_rate": 1.0}, r"final_learning_rate must lie in 0 … learning_rate \(0.0001\), not 1.0"),
        ({"ema_decay": 1.0}, r"ema_decay must lie in \[0, 1\), not 1.0"),
        ({"initial_delta_t": 1.0}, "initial_delta_t must be below 1, not 1.0"),
        ({"final_exponent": math.inf}, "final_exponent must be positive, not inf"),
        ({"autoencoder_rate": -1.0}, "autoencoder_rate must not be negative, is -1.0"),
        ({"beta2": 1.0}, r"beta2 must lie in \[0, 1\), not 1.0"),
        ({"seed": -1}, "seed must not be negative, is -1"),
        ({"silence_rms": math.nan}, "silence_rms must not be negative, is nan"),
        ({"precision": "half"}, "precision must be one of float32, bfloat16, float16, not 'half'"),
        ({"density": "flat"}, "density must be one of grid, lognormal, not 'flat'"),
        ({"weighting": "none"}, "weighting must be one of gap, output, not 'none'"),
        ({"optimizer": "sgd"}, "optimizer must be one of radam, muon, not 'sgd'"),
        ({"direct_share": 1.5}, r"direct_share must lie in \[0, 1\], not 1.5"),
        ({"band_weight": -1.0}, "band_weight must not be negative, is -1.0"),
        ({"level_weight": -1.0}, "level_weight must not be negative, is -1.0"),
        ({"spectrum_weight": -1.0}, "spectrum_weight must not be negative, is -1.0"),
        ({"autoencoder_steps": -1}, "autoencoder_steps must not be negative, is -1"),
        ({"autoencoder_steps": 9, "steps": 9}, "autoencoder_steps must be fewer than the 9 steps, not 9"),
    ],
)
def test_settings_that_make_no_sense_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TrainingSettings(**change)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="unknown training setting 'sede'; did you mean 'seed'"):
        from_dict({"sede": 3})


def test_what_the_model_or_the_device_cannot_do_is_named(data: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="crop_frames must be a multiple of 8, not 12"):
        Trainer(tiny(data, crop_frames=12), tmp_path, device="cpu")
    with pytest.raises(SettingsError, match="float16 needs a CUDA device, not cpu: use bfloat16"):
        Trainer(tiny(data, precision="float16"), tmp_path, device="cpu")


# --- stopping in time -----------------------------------------------------------------------------------------


def failure(run: Path) -> dict[str, object]:
    return json.loads((run / "failure.json").read_text())


def test_nan_weights_stop_the_run_and_spare_the_checkpoint(data: tuple[str, str], tmp_path: Path) -> None:
    trainer = train(tiny(data), tmp_path, until=2)
    good = {path: path.read_bytes() for path in list_checkpoints(tmp_path)[-1].iterdir()}
    with torch.no_grad():
        trainer.state.model.encoder.conv_out.bias[0] = math.nan
    with pytest.raises(TrainingStopped, match=r"step 2: the loss is not finite \(nan\); .*step-00000002; batch"):
        trainer.train(checkpoint_every=2, quiet=True)
    report = failure(tmp_path)
    assert (report["step"], report["loss"], report["checkpoint"]) == (2, "nan", "step-00000002")
    # The batch named is the one that step 2 draws.
    drawn = [loop.Crops(trainer.corpora, trainer.settings, create_config("tiny"))[item]["origin"] for item in (4, 5)]
    assert report["batch"] == drawn
    assert all("channel" in origin and "s " in origin for origin in drawn)
    assert {path: path.read_bytes() for path in list_checkpoints(tmp_path)[-1].iterdir()} == good
    assert train(tiny(data), tmp_path).state.step == 6  # and the run goes on from there


def test_an_exploding_loss_stops_the_run_also_after_resuming(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MEMORY", 3)
    train(tiny(data, steps=20), tmp_path, until=4)
    trainer = Trainer(tiny(data, steps=20), tmp_path, device="cpu")  # remembers the losses before the stop
    assert list(trainer.state.recent) == [line["loss"] for line in log_lines(tmp_path)[-3:]]
    with torch.no_grad():
        trainer.state.model.unet.conv_out.bias += 1e6
    with pytest.raises(TrainingStopped, match="step 4: the loss is over 50 x the last median"):
        trainer.train(quiet=True)
    assert failure(tmp_path)["checkpoint"] == "step-00000004"


@pytest.mark.parametrize("workers", [0, 1])
def test_nan_audio_stops_the_run_and_is_named(workers: int, tmp_path: Path) -> None:
    import soundfile

    path = noise_file(tmp_path / "data" / "bad.wav")
    audio, rate = soundfile.read(path)
    run = tmp_path / "run"
    settings = tiny((str(tmp_path / "data"),))
    train(settings, run, until=2)
    audio[::5000] = np.nan
    soundfile.write(path, audio, rate, subtype="FLOAT")
    others = set(multiprocessing.active_children())
    with pytest.raises(TrainingStopped, match=r"step 2: .*no crop at .* s: .*bad.wav holds .* non-finite"):
        train(settings, run, workers=workers)
    assert set(multiprocessing.active_children()) <= others  # the readers were told to end
    assert "bad.wav" in str(failure(run)["what"])
    assert list_checkpoints(run)[-1].name == "step-00000002"


# --- fine-tuning ----------------------------------------------------------------------------------------------


def test_fine_tuning_starts_from_the_checkpoint(data: tuple[str, str], moved: str, tmp_path: Path) -> None:
    half = Music2Latent.from_pretrained(moved, device="cpu", dtype="float16")
    half.save_pretrained(tmp_path / "shipped")
    trainer = Trainer(tiny(data, init=str(tmp_path / "shipped")), tmp_path / "run", device="cpu")
    for (name, ours), theirs in zip(trainer.state.model.state_dict().items(), half.state_dict().values(), strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs.float()), name
    assert train(tiny(data, init=str(tmp_path / "shipped")), tmp_path / "run").state.step == 6


def test_fine_tuning_the_published_format(
    data: tuple[str, str], moved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The published format carries no config; let it stand for the tiny one.
    monkeypatch.setattr(m2l.io.checkpoints, "create_config", lambda name: create_config("tiny"))
    state = Music2Latent.from_pretrained(moved, device="cpu").state_dict()
    theirs = {name: state[ours] for name, ours in key_map(create_config("tiny")).items()}
    torch.save({"gen_state_dict": theirs, "it": np.float64(1.0)}, tmp_path / "music2latent.pt")
    settings = tiny(data, steps=2)
    from_published = tiny(data, steps=2, init=str(tmp_path / "music2latent.pt"))
    from_ours = tiny(data, steps=2, init=moved)
    runs = [tmp_path / name for name in ("published", "ours", "scratch")]
    for run, chosen in zip(runs, (from_published, from_ours, settings), strict=True):
        train(chosen, run)
    assert_same_run(runs[0], runs[1])
    assert log_lines(runs[0]) != log_lines(runs[2])
