"""Rules of a run by hand: its settings, the share of a process, what stops it, and what its log and validation say."""

from __future__ import annotations

import json
import math
import signal
from collections import Counter, deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from m2l import Music2Latent, create_config
from m2l.io.checkpoint_files import SHIPPED
from m2l.layers import Upsample
from m2l.training import TrainingSettings, initialize, log, stops, validation
from m2l.training.data import Stretch, crop_samples
from m2l.training.distributed import World
from m2l.training.initialize import check_fits, freeze_unused, latent_path, scale_latent_path
from m2l.training.log import RunLog
from m2l.training.settings import RECIPES, SettingsError, with_recipe
from m2l.training.stops import Unreadable, complaint_about, report_failure, stopping

# --- settings -----------------------------------------------------------------------------------------------------


def test_the_reference_trainings_settings() -> None:
    """Sec. 5.1 of the paper; warm-ups, silence gate, seed and float16 are the published code's. No terms of our own."""
    run = TrainingSettings()
    assert (run.preset, run.optimizer, run.batch_size, run.steps) == ("paper", "radam", 16, 800_000)
    assert (run.learning_rate, run.final_learning_rate, run.warmup_steps) == (1e-4, 1e-6, 10_000)
    assert (run.ema_decay, run.beta2, run.initial_delta_t, run.final_exponent) == (0.9999, 0.999, 0.1, 3.0)
    assert crop_samples(run, create_config("paper")) == 34_304
    assert (run.silence_rms, run.seed, run.precision, run.split) == (0.001, 42, "float16", "train")
    assert (run.density, run.weighting, run.autoencoder_rate, run.gradient_accumulation) == ("grid", "gap", 1.0, 1)
    ours = (run.band_weight, run.level_weight, run.spectrum_weight, run.direct_share, run.autoencoder_steps)
    assert ours == (0.0, 0.0, 0.0, 0.0, 0)
    assert (run.lsuv, run.compile, run.init, run.loss_spike) == (False, False, None, 50.0)
    # Table 3 was trained for a quarter of the steps (Sec. 5.4), for the rest alike.
    assert [RECIPES[f"table3-{row}"] for row in ("base", "attention", "scaling")] == [{"steps": 200_000}] * 3


@pytest.mark.parametrize(
    ("name", "least", "below"),
    [
        ("steps", 1, 0),
        ("batch_size", 1, 0),
        ("warmup_steps", 0, -1),
        ("silence_rms", 0.0, -1e-9),
        ("beta2", 0.0, -1e-9),
        ("direct_share", 0.0, -1e-9),
        ("final_learning_rate", 0.0, -1e-9),
        ("learning_rate", 1e-6, 0.0),
        ("initial_delta_t", 1e-9, 0.0),
    ],
)
def test_the_least_that_a_setting_may_be(name: str, least: float, below: float) -> None:
    assert getattr(TrainingSettings(**{name: least}), name) == least  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=name):
        TrainingSettings(**{name: below})  # type: ignore[arg-type]


def test_the_most_that_a_setting_may_be() -> None:
    most = TrainingSettings(direct_share=1.0, learning_rate=0.5, final_learning_rate=0.5, steps=9, autoencoder_steps=8)
    assert (most.direct_share, most.final_learning_rate, most.autoencoder_steps) == (1.0, 0.5, 8)
    with pytest.raises(SettingsError, match="autoencoder_steps must be fewer than the 9 steps, not 9"):
        TrainingSettings(steps=9, autoencoder_steps=9)
    with pytest.raises(SettingsError, match="direct_share"):
        TrainingSettings(direct_share=1.001)
    for name in ("beta2", "ema_decay", "initial_delta_t"):
        with pytest.raises(SettingsError, match=name):
            TrainingSettings(**{name: 1.0})  # type: ignore[arg-type]


def test_a_step_is_counted_in_its_stage() -> None:
    run = TrainingSettings(steps=10, autoencoder_steps=3)
    assert [run.stage(step) for step in (0, 2, 3, 9)] == [(0, 3), (2, 3), (0, 7), (6, 7)]
    assert TrainingSettings(steps=10).stage(9) == (9, 10)


def test_the_share_of_a_process_and_of_a_part() -> None:
    assert TrainingSettings(batch_size=12, gradient_accumulation=3).shares(2) == (6, 2)
    assert TrainingSettings(batch_size=12, gradient_accumulation=3).shares(1) == (12, 4)
    with pytest.raises(SettingsError, match="batch_size 12 does not divide into 4 processes x 2 accumulated parts"):
        TrainingSettings(batch_size=12, gradient_accumulation=2).shares(4)


def test_a_recipes_first_stage_keeps_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "short", {"steps": 90, "autoencoder_steps": 60, "lsuv": True})
    assert with_recipe("short", {}) == {"steps": 90, "autoencoder_steps": 60, "lsuv": True}
    assert with_recipe("short", {"steps": 20})["autoencoder_steps"] == 13  # of 20 x 60 / 90, rounded down
    assert with_recipe("short", {"steps": 20, "autoencoder_steps": 2})["autoencoder_steps"] == 2
    assert with_recipe("short", {"steps": 0})["autoencoder_steps"] == 0
    assert with_recipe("short", {"steps": -9})["autoencoder_steps"] == 0  # the complaint is about the steps
    assert with_recipe("short", {"init": "x"}) == {"steps": 90, "lsuv": True, "init": "x"}
    assert with_recipe("unheard", {"seed": 1}) == {"seed": 1}


@pytest.mark.parametrize("row", ["base", "attention", "scaling"])
def test_the_ablations_that_ship_were_trained_by_their_recipe(row: str) -> None:
    card = SHIPPED / f"table3-mini-{row}" / "card.json"
    if not card.is_file():
        pytest.skip("the ablations do not ship")
    assert json.loads(card.read_text(encoding="utf-8"))["settings"].items() >= RECIPES[f"table3-mini-{row}"].items()


def test_what_a_model_can_be_trained_with() -> None:
    tiny = create_config("tiny")  # 4 channels at the finest level, 8 frames a latent
    check_fits(TrainingSettings(crop_frames=16, autoencoder_steps=1, spectrum_weight=1.0), tiny)
    fewer = tiny.replace(attention=(False,) * 5)
    check_fits(TrainingSettings(autoencoder_steps=1), fewer.replace(base_channels=3))
    for changes in ({"autoencoder_steps": 1}, {"spectrum_weight": 0.5}):
        with pytest.raises(SettingsError, match=f"{next(iter(changes))} needs 3 channels at the finest level, not 2"):
            check_fits(TrainingSettings(**changes), fewer.replace(base_channels=2))  # type: ignore[arg-type]
    check_fits(TrainingSettings(), fewer.replace(base_channels=2))


# --- initial weights ----------------------------------------------------------------------------------------------


def test_weights_to_start_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset's by the seed, or a checkpoint's in memory of their own; one of a run is verified first."""
    model = torch.nn.Linear(3, 2)
    before = [(parameter.data_ptr(), parameter.tolist()) for parameter in model.parameters()]
    calls: list[Any] = []
    sources = SimpleNamespace(
        from_config=lambda preset, seed: (preset, seed),
        from_pretrained=lambda init, device: calls.append((init, device)) or model,
    )
    monkeypatch.setattr(initialize, "Music2Latent", sources)
    monkeypatch.setattr(initialize, "verify_checkpoint", calls.append)
    assert initialize.initial_model(TrainingSettings(preset="tiny", seed=5)) == ("tiny", 5)
    settings = TrainingSettings(init=str(tmp_path))
    assert initialize.initial_model(settings) is model
    assert calls == [(str(tmp_path), "cpu")]
    (tmp_path / initialize.STEP_FILE).touch()
    initialize.initial_model(settings)
    assert calls == [(str(tmp_path), "cpu"), tmp_path, (str(tmp_path), "cpu")]
    for parameter, (place, values) in zip(model.parameters(), before, strict=True):
        assert parameter.data_ptr() != place
        assert parameter.tolist() == values


def test_lsuv_gives_each_convolution_of_the_latents_unit_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channel means 0 and one variance of 1, by outputs measured anew, with the same directions of weights."""
    config = create_config("tiny").replace(
        hop_length=32, channel_mults=(1, 2), unet_blocks=(1, 1), autoencoder_blocks=(1, 1), attention=(False, True),
        downsampling=((4, 2),), bottleneck_channels=8, cond_channels=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Music2Latent(config).eval()
    with torch.no_grad():
        for parameter in model.unet.parameters():
            parameter.add_(0.1)
    path = latent_path(model)
    convs: list[Any] = [one.conv if isinstance(one, Upsample) else one for one in path]
    before = [conv.weight.clone() for conv in convs]
    outputs: dict[int, torch.Tensor] = {}
    for index, module in enumerate(path):
        module.register_forward_hook(lambda _m, _i, out, index=index: outputs.update({index: out}))
    x = torch.randn(2, 2, 64, 8, generator=torch.Generator().manual_seed(0))
    scale_latent_path(model, x)
    assert model.training
    outputs.clear()
    with torch.no_grad():
        model.decoder(model.encoder(x))
    assert len(outputs) == 5
    for index, out in outputs.items():
        means = out.transpose(0, 1).flatten(1).double().mean(1)
        assert float(means.abs().max()) < 1e-3
        assert float(out.double().std()) == pytest.approx(1.0, abs=1e-3)
        ratio = (convs[index].weight / before[index]).detach()
        np.testing.assert_allclose(ratio, float(ratio.flatten()[0]), rtol=1e-4)
    # What the UNet takes from the maps starts at nothing.
    still = {name for name, p in model.unet.named_parameters() if not p.any()}
    assert still == {name for name, _ in model.unet.named_parameters() if "cross" in name}
    # Of a constant the mean goes, and nothing is divided by a spread of 0.
    conv = convs[0]
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.fill_(3.0)
    monkeypatch.setattr(initialize, "latent_path", lambda model: path[:1])
    scale_latent_path(model, x)
    assert not conv.weight.any()
    assert not conv.bias.any()


def test_the_idle_projections_of_the_decoder_are_not_trained() -> None:
    model = Music2Latent.from_config("tiny", 0)
    freeze_unused(model)
    idle = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert idle
    assert idle == {
        name for name, _ in model.named_parameters() if name.startswith("decoder.bottleneck") and ".condition." in name
    }


# --- processes ----------------------------------------------------------------------------------------------------


def test_values_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    values: list[Any] = []
    monkeypatch.setattr(World, "gather", lambda self, value: [value, *values])
    world = World(1, 3, 0)
    values[:] = [2.0, 6.0]
    assert (world.mean(1.0), world.max(1.0), world.max(7.0)) == (3.0, 6.0, 7.0)
    values[:] = [math.nan, 6.0]
    assert math.isnan(world.max(9.0))
    assert math.isnan(world.mean(9.0))
    values[:] = [0.0, 0.0]
    assert (world.any(True), world.any(False), world.is_main, World().is_main) == (True, False, False, True)


# --- what ends a run ----------------------------------------------------------------------------------------------


def test_a_loss_is_judged_by_the_median_of_enough_before_it() -> None:
    recent: deque[float] = deque([1.0, 2.0], maxlen=3)
    assert complaint_about(1000.0, recent, 5.0) is None, "two are too few"
    assert complaint_about(10.0, recent, 5.0) is None, "five times the median of 2 is not over it"
    assert list(recent) == [2.0, 1000.0, 10.0]
    assert complaint_about(50.1, recent, 5.0) == "the loss is over 5 x the last median 10"
    for bad in (math.nan, math.inf):
        assert complaint_about(bad, recent, 5.0) == "the loss is not finite"
    assert list(recent) == [2.0, 1000.0, 10.0]


def test_a_quarter_of_a_hundred_draws_may_be_unreadable() -> None:
    tally = Unreadable(Counter())
    assert tally.add([("a", "bad")] * 25, crops=74) is None, "25 of 99 are more, and too early to judge"
    assert tally.add([], crops=10) is None, "nothing new"
    assert tally.add([("b", "bad")], crops=78) is None, "26 of 104 are a quarter"
    assert tally.add([("c", "worse")] * 2, crops=82) == (
        "28 draws could not be read (a 25, c 2, b 1), more than 25% of 110"
    )
    assert tally.counts == {"a": 25, "b": 1}, "the step is not taken"
    assert Unreadable(Counter(a=1)).add([("b", "bad")] * 99, crops=0) is not None, "100 draws are enough to judge"
    assert str(Unreadable(Counter(a=1, b=5, c=3, d=2))) == "11 draws could not be read (b 5, c 3, d 2, 1 other files)"
    assert str(Unreadable(Counter(a=1, b=5, c=3))) == "9 draws could not be read (b 5, c 3, a 1)"


def test_ten_unreadable_files_are_named_as_they_turn_up() -> None:
    tally, said, written = Unreadable(Counter()), [], []
    log: Any = SimpleNamespace(write=written.append)
    named = [f"{name} is bad; another place is drawn" for name in "abcdefghij"]
    more = "more files cannot be read; log.jsonl names them"
    for step, names, expected in ((3, "abcdefghi", named[:9]), (4, "jkab", [*named, more]), (5, "lk", [*named, more])):
        tally.add([(name, f"{name} is bad") for name in names], crops=1000)
        tally.tell(log, step, said.append)
        assert said == expected
    assert [entry["unreadable"] for entry in written] == list("abcdefghijkl")
    assert written[-1] == {"step": 5, "unreadable": "l", "reason": "l is bad"}


def test_a_signal_stops_and_a_second_one_at_once() -> None:
    run: Any = SimpleNamespace(stop_requested=False)
    before = signal.getsignal(signal.SIGTERM)
    with stopping(run) as received:
        assert not run.stop_requested
        signal.raise_signal(signal.SIGTERM)
        assert (run.stop_requested, received) == (True, [signal.SIGTERM])
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_failure_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stops, "list_checkpoints", lambda run: [run / "step-1", run / "step-2", run / "step-3"])
    text = report_failure(tmp_path, 2, 7, "the loss is bad", ["a.wav", "b.wav"], 1 / 3)
    last = tmp_path / "step-3"
    assert text == f"step 7: the loss is bad (0.333333); the last checkpoint is {last}; batch: a.wav; b.wav"
    report = {"step": 7, "what": "the loss is bad", "loss": str(1 / 3), "batch": ["a.wav", "b.wav"], "rank": 2}
    assert json.loads((tmp_path / "failure-2.json").read_text()) == {**report, "checkpoint": "step-3"}
    monkeypatch.setattr(stops, "list_checkpoints", lambda run: [])
    assert report_failure(tmp_path, 0, 7, "worse", [], None) == "step 7: worse; the last checkpoint is none"
    report = {"step": 7, "what": "worse", "loss": None, "batch": [], "rank": 0, "checkpoint": None}
    assert (tmp_path / "failure.json").read_text() == json.dumps(report, indent=2) + "\n"
    assert report_failure(tmp_path / "gone", 0, 7, "worse", [], None).startswith("step 7")
    assert not (tmp_path / "gone").exists()


# --- what the log and validation say ------------------------------------------------------------------------------


def test_the_log_counts_crops_and_seconds_by_its_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of steps since the last line, and on from the seconds of the last line kept."""
    (tmp_path / "log.jsonl").write_text('{"step": 1, "seconds": 30.0}\n{"step": 3, "seconds": 99}\n{"step": 2}\n')
    clock = iter([100.0, 104.0, 105.0])
    monkeypatch.setattr(log.time, "perf_counter", lambda: next(clock))
    with RunLog(tmp_path, 2) as run:
        run.step(3, {"loss": 1.0}, 8, write=False)
        run.step(4, {"loss": 2.0}, 8, write=True)
        run.step(5, {"loss": 3.0}, 8, write=True)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[:2] == [{"step": 1, "seconds": 30.0}, {"step": 2}]
    assert lines[2:] == [
        {"step": 4, "loss": 2.0, "crops_per_second": 4.0, "seconds": 34.0},
        {"step": 5, "loss": 3.0, "crops_per_second": 8.0, "seconds": 35.0},
    ]


def test_the_logs_si_sdr_by_hand() -> None:
    """Half the target, offsets, and an error at right angles of a tenth of the amplitude of what is left: 20 dB."""
    phase = 2 * np.pi * np.arange(1000) / 100
    target = np.sin(phase)
    assert validation.si_sdr(0.5 * target + 0.05 * np.cos(phase) + 0.3, target - 0.2) == pytest.approx(20.0)
    assert validation.si_sdr(target, target) == 100.0
    for constant in (0.25, 0.3, np.float32(0.3)):  # of the last two the mean is off by a rounding
        assert validation.si_sdr(np.full(1000, constant), target) == -100.0
    assert validation.si_sdr(np.cos(phase), target) == -100.0
    assert validation.si_sdr(np.zeros(1000), np.zeros(1000)) == pytest.approx(0.0)
    # Where target and output have the energy 2^-52 that is added everywhere: (2^-52 + 2^-52) / 2^-52.
    faint = 2.0**-27 * np.array([1.0, -1.0, 1.0, -1.0])
    assert validation.si_sdr(faint, faint) == pytest.approx(10 * math.log10(2))


@pytest.fixture
def held_out(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A corpus of stretches, what is asked of it and written, and the installed metrics."""
    seen = SimpleNamespace(stretches=[], complaint=None, opened=[], read=[], written=[], points=[], seeds=[])
    time = np.arange(1000) / 10

    def read_audio(path: str, start: int, length: int) -> tuple[np.ndarray, int]:
        seen.read.append((path, start, length))
        return np.stack([3 * np.sin(time[:length]), np.sin(time[:length])]), 100 if path < "8" else 200

    def reconstruct(mono: np.ndarray, rate: int, seed: int) -> np.ndarray:
        seen.seeds.append(seed)
        np.testing.assert_allclose(mono, 2 * np.sin(time[: len(mono)]))
        return mono if seed else np.zeros_like(mono)

    seen.model = SimpleNamespace(reconstruct=reconstruct)
    monkeypatch.setattr(validation, "open_corpus", lambda *arguments: seen.opened.append(arguments) or seen)
    monkeypatch.setattr(validation, "entry_points", lambda group: seen.points)
    monkeypatch.setattr(validation, "read_audio", read_audio)
    monkeypatch.setattr(validation, "write_audio", lambda path, *rest, **more: seen.written.append(path.name))
    return seen


def stretches(count: int, length: int = 3000) -> list[Stretch]:
    return [Stretch(f"{n}.wav", 100, 2, 50, 50 + length) for n in range(count)]


def test_validation_takes_the_middle_of_clips_spread_over_the_corpus(held_out: Any, tmp_path: Path) -> None:
    """Of 9 files 3: the first, the fifth and the last; at most 10 s of each."""
    held_out.stretches = [*stretches(8), Stretch("8.wav", 100, 2, 50, 451)]
    validate = validation.Validation("held", tmp_path / "run" / "validation", clips=3, quiet=True)
    assert held_out.opened == [("held", 4096, "validation", tmp_path / "run")]
    for step in (7, 7):
        facts = validate(held_out.model, step)
        assert facts == {"validation_si_sdr": pytest.approx((-100 + 100 + 100) / 3)}
    # 1000 samples from (50 + 3050 - 1000) / 2; the last has 401.
    assert held_out.read[:3] == [("0.wav", 1050, 1000), ("4.wav", 1050, 1000), ("8.wav", 50, 401)]
    assert held_out.seeds[:3] == [0, 1, 2]
    assert held_out.written[:4] == ["00-0.wav", "00-0.wav", "01-4.wav", "01-4.wav"]
    assert (tmp_path / "run" / "validation" / "step-00000007").is_dir()


def test_validation_takes_eight_clips_or_each_once(held_out: Any, tmp_path: Path) -> None:
    for count, chosen in ((2, [0, 1]), (15, [0, 2, 4, 6, 8, 10, 12, 14])):
        held_out.stretches = stretches(count)
        found = validation.Validation("held", tmp_path / "v", quiet=True).stretches
        assert [part.path for part in found] == [f"{n}.wav" for n in chosen]


def test_validation_has_the_installed_metrics_where_clips_have_one_rate(
    held_out: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out.stretches = [Stretch(f"7{'a' * 250}.wav", 100, 2, 0, 500)]
    held_out.complaint = "one file is too short"
    validation.Validation("held", tmp_path / "v")
    said = capsys.readouterr().err
    assert "m2l: validation: one file is too short" in said
    assert "SI-SDR alone" in said

    def metric(originals: list[np.ndarray], results: list[np.ndarray], rate: int) -> dict[str, float]:
        return {"clips": len(originals), "length": len(results[0]), "rate": rate}

    held_out.points = [SimpleNamespace(load=lambda: metric)]
    facts = validation.Validation("held", tmp_path / "v")(held_out.model, 1)
    assert "SI-SDR alone" not in capsys.readouterr().err
    assert facts == {
        "validation_si_sdr": -100.0, "validation_clips": 1, "validation_length": 500, "validation_rate": 100,
    }  # fmt: skip
    assert held_out.written[0] == f"00-7{'a' * 199}.wav"
    held_out.stretches = stretches(9)
    assert list(validation.Validation("held", tmp_path / "v")(held_out.model, 1)) == ["validation_si_sdr"]
