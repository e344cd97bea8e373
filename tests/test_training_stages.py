"""A short run's first stage, of encoder and decoder alone, and the second, of the whole model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_helpers import assert_same_run, log_lines, tiny, train

from m2l import Music2Latent
from m2l.consistency import step_size
from m2l.representation import waveform_to_representation
from m2l.training.checkpoint import list_checkpoints
from m2l.training.data import Crops
from m2l.training.losses import pseudo_huber, spectrum_loss
from m2l.training.optimizer import learning_rate

pytest_plugins = ["training_fixtures"]


def test_the_first_stage_trains_encoder_and_decoder_alone(data: tuple[str, str], tmp_path: Path) -> None:
    settings = tiny(data, steps=8, autoencoder_steps=4)
    trainer = train(settings, tmp_path, until=4, keep=9)
    initial, after = (Music2Latent.from_config("tiny", settings.seed).state_dict(), trainer.state.model.state_dict())
    moved = {name.partition(".")[0] for name in after if not torch.equal(after[name], initial[name])}
    assert moved == {"encoder", "decoder"}
    train(settings, tmp_path, keep=9)
    last = load_file(list_checkpoints(tmp_path)[-1] / "training.safetensors")
    still = [name for name in after if torch.equal(last[f"model.{name}"], after[name])]
    # Nothing feeds the decoder's noise projections, and a UNet's last layer has to move before the first ones do.
    assert all(".condition." in name or name.startswith("unet.") for name in still)
    assert "unet.conv_out.weight" not in still


def test_stopped_within_either_stage_and_between_them_is_straight(data: tuple[str, str], tmp_path: Path) -> None:
    settings = tiny(data, steps=4, autoencoder_steps=2, lsuv=True, weighting="output")
    train(settings, tmp_path / "straight")
    for stop in (1, 2, 3, 4):
        train(settings, tmp_path / "stopped", until=stop)
    assert_same_run(tmp_path / "stopped", tmp_path / "straight")


def test_each_stage_has_its_warm_up_and_cosine_and_the_second_the_step_sizes(
    data: tuple[str, str], tmp_path: Path
) -> None:
    settings = tiny(data, steps=12, autoencoder_steps=5, warmup_steps=2, initial_delta_t=0.5, final_exponent=2.0)
    train(settings, tmp_path, checkpoint_every=12)
    lines = log_lines(tmp_path)
    alone = tiny(data, steps=7, warmup_steps=2)
    assert [line["learning_rate"] for line in lines[5:]] == [learning_rate(step, alone) for step in range(7)]
    assert [line["delta_t"] for line in lines[5:]] == [step_size(step, 7, 0.5, 2.0) for step in range(7)]
    rates = [line["learning_rate"] for line in lines[:5]]
    assert rates[0] < rates[1] == max(rates) > rates[4]


def test_a_map_that_holds_the_spectrum_has_no_loss() -> None:
    x = torch.randn(2, 2, 1024, 8, generator=torch.Generator().manual_seed(0))
    drawn = torch.cat([x.square().sum(1, keepdim=True).sqrt(), x, torch.ones(2, 1, 1024, 8)], 1)

    def loss(finest: torch.Tensor) -> torch.Tensor:
        return spectrum_loss(finest, x)

    torch.testing.assert_close(loss(drawn), torch.zeros(2), rtol=0.0, atol=0.01)
    # Half of it has the right direction, its negative the opposite one.
    torch.testing.assert_close(loss(0.5 * drawn), pseudo_huber(0.5 * x, x), rtol=1e-3, atol=0.0)
    drawn[:, 1:3] *= -1
    torch.testing.assert_close(loss(drawn), 4 * x.flatten(1).norm(dim=1), rtol=1e-3, atol=0.0)


@pytest.mark.slow
def test_spectra_are_learned_in_the_first_stage(data: tuple[str, str], tmp_path: Path) -> None:
    """Of crops that it has not seen, too, and further than to silence."""
    settings = tiny(data, steps=81, autoencoder_steps=80, batch_size=2, warmup_steps=20)
    trainer = train(settings, tmp_path, until=80, checkpoint_every=80)
    model = trainer.state.model
    crops = Crops(trainer.corpora, settings, model.config)
    waveforms = torch.stack([crops[item]["waveform"] for item in range(1000, 1008)])
    representation = waveform_to_representation(waveforms, model.config)
    with torch.no_grad():
        found = spectrum_loss(model.decoder(model.encoder(representation))[0], representation)
        silence = spectrum_loss(torch.zeros(8, 4, 1024, 8), representation)
    assert bool((found < silence).all()), (found, silence)
