"""ViSQOL against a plain implementation, its policy about what cannot be scored, and its errors."""

from __future__ import annotations

import csv
import json
import math
import os
import pickle
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import visqol_plain as plain

from benchmarks.metrics.visqol.api import SPEC, ViSQOL, higher_is_better, visqol
from benchmarks.metrics.visqol.core import TooShortError, prepare, score
from benchmarks.metrics.visqol.lattice import Lattice, load_lattice
from benchmarks.metrics.visqol.mapper import Features, ModelFormatError
from benchmarks.metrics.visqol.modes import AUDIO
from benchmarks.weights.find import WeightsNotFoundError, find_weight, has_weight

RATE = 48_000
needs_lattice = pytest.mark.skipif(not has_weight("visqol-lattice")[0], reason=has_weight("visqol-lattice")[1])
needs_model = pytest.mark.skipif(not has_weight("visqol-svr")[0], reason=has_weight("visqol-svr")[1])


@cache
def music(seconds: float, seed: int = 0) -> np.ndarray:
    """Decaying tones with noisy attacks: transients to align, bands with and without energy."""
    generator = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    x = 0.001 * generator.standard_normal(len(t))
    for onset in np.arange(0.0, seconds, 0.2):
        after = np.maximum(t - onset, 0.0)
        pitch = 110.0 * 2 ** (generator.integers(0, 40) / 12)
        tone = sum(np.sin(2 * np.pi * pitch * h * after) / h for h in (1, 2, 3, 5))
        x += (t >= onset) * np.exp(-6 * after) * (0.2 * tone + 0.1 * generator.standard_normal(len(t)))
    return x / np.abs(x).max() * 0.7


def noisy(x: np.ndarray, level: float = 0.01, seed: int = 1) -> np.ndarray:
    return x + level * np.random.default_rng(seed).standard_normal(len(x))


CASES = {
    "noise": lambda: (music(1.6), noisy(music(1.6))),
    "delayed": lambda: (music(1.6), np.concatenate([np.zeros(777), noisy(music(1.6))])),
    "ahead": lambda: (music(1.6), noisy(music(1.6))[500:]),
    "shorter": lambda: (music(2.4), noisy(music(2.4))[: int(1.5 * RATE)]),
    "drifting": lambda: (music(2.0), np.interp(np.arange(0, 2.0 * RATE - 1, 1.0007), np.arange(2 * RATE), music(2.0))),
    "another": lambda: (music(1.3), music(1.3, seed=9)),
    "gap": lambda: (music(2.4), np.where(np.abs(np.arange(int(2.4 * RATE)) - 60_000) < 6_000, 0.0, music(2.4))),
}


GOLDEN = json.loads((Path(__file__).parent / "golden" / "visqol_synthetic.json").read_text())["moslqo"]


@pytest.mark.parametrize("name", CASES)
def test_equals_the_plain_implementation(name: str) -> None:
    target, preds = CASES[name]()
    expected = plain.band_nsim(preds, target)
    result = score(prepare(target, RATE, AUDIO), preds, lambda features: float(features.nsim.mean()))
    np.testing.assert_allclose(result.band_nsim, expected, rtol=0, atol=1e-9)
    assert result.vnsim == pytest.approx(expected.mean(), abs=1e-9)


@needs_model
@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_equals_another_implementation(name: str) -> None:
    target, preds = CASES[name]()
    assert visqol(preds, target, RATE).moslqo == pytest.approx(GOLDEN[name], abs=1e-7)


@needs_model
def test_a_perfect_match_gets_googles_ceiling() -> None:
    x = music(1.5)
    result = visqol(x, x, RATE)
    assert result.moslqo == pytest.approx(4.7321012530, abs=1e-9)
    assert result.lag == 0
    assert result.dropped_share == result.lost_share == 0.0
    np.testing.assert_allclose(result.patch_nsim, 1.0, atol=1e-12)
    assert result.patch_band_nsim.shape == (result.n_patches, 32)
    assert result.center_frequencies[0] == pytest.approx(50.0)


@needs_model
def test_worse_audio_scores_worse() -> None:
    x = music(1.5)
    scores = [visqol(noisy(x, level), x, RATE).moslqo for level in (0.0, 0.001, 0.01, 0.1, 1.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < scores[0] - 1
    assert higher_is_better


@needs_model
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 96_000])
def test_other_rates_are_resampled(rate: int) -> None:
    import soxr

    x = music(1.6)
    target, preds = soxr.resample(x, RATE, rate), soxr.resample(noisy(x), RATE, rate)
    result = visqol(preds, target, rate)
    at_48k = visqol(soxr.resample(preds, rate, RATE), soxr.resample(target, rate, RATE), RATE)
    assert result.sample_rate == RATE
    assert result.moslqo == pytest.approx(at_48k.moslqo, abs=0.02)


@needs_model
def test_channels_dtypes_and_tensors_agree() -> None:
    torch = pytest.importorskip("torch")
    x = np.round(music(1.3) * 32767) / 32768
    y = np.round(np.clip(noisy(x), -0.99, 0.99) * 32767) / 32768
    expected = visqol(y, x, RATE).moslqo
    stereo = np.stack([y, y])
    for preds in (y[None], stereo, y.astype(np.float32), (y * 32768).astype(np.int16), torch.tensor(stereo)):
        assert visqol(preds, x, RATE).moslqo == pytest.approx(expected, abs=1e-6)
    assert visqol(np.stack([2 * y, 0 * y]), x, RATE).moslqo == pytest.approx(expected, abs=1e-9)


@needs_model
def test_encodec_compat_clamps_and_rounds() -> None:
    x, loud = music(1.3), 2.0 * music(1.3)
    by_hand = np.round(np.clip(loud, -0.99, 0.99) * 32768) / 32768
    target = np.round(np.clip(x, -0.99, 0.99) * 32768) / 32768
    result = visqol(loud, x, RATE, encodec_compat=True)
    assert result.moslqo == pytest.approx(visqol(by_hand, target, RATE).moslqo, abs=1e-12)
    assert result.moslqo < visqol(loud, x, RATE).moslqo


SILENCE = np.zeros(int(1.5 * RATE))
X = music(1.5)
BROKEN = np.where(np.arange(len(X)) == 1234, np.nan, X)


@pytest.mark.parametrize(
    ("preds", "target", "reason"),
    [
        (X, SILENCE, "target is silent"),
        (SILENCE, X, "preds is silent"),
        (1e-9 * X, X, "preds is silent"),
        (SILENCE, SILENCE, "target is silent"),
        (np.stack([X, -X]), X, "channels cancel out"),
        (BROKEN, X, "preds has 1 non-finite samples, the first at sample 1234"),
        (X, np.where(np.isnan(BROKEN), np.inf, X), "target has 1 non-finite"),
        (X[:20_000], X[:20_000], "at least 46080"),
        (X[:1], X[:1], "at least 46080"),
        (np.tile(X, 2), X, "lengths differ by 1.50 s"),
    ],
)
def test_no_score_is_made_up(preds: np.ndarray, target: np.ndarray, reason: str) -> None:
    result = visqol(preds, target, RATE)
    assert math.isnan(result.moslqo)
    assert reason in (result.reason or "")
    assert result.as_dict()["moslqo"] is None


@needs_model
def test_strict_cpp_says_what_the_cpp_says() -> None:
    # From Google's C++: a silent estimate 1.0, a silent reference or both "perfect".
    assert visqol(SILENCE, X, RATE, strict_cpp=True).moslqo == 1.0
    assert visqol(X, SILENCE, RATE, strict_cpp=True).moslqo == pytest.approx(4.7321012530, abs=1e-9)
    assert visqol(SILENCE, SILENCE, RATE, strict_cpp=True).moslqo == pytest.approx(4.7321012530, abs=1e-9)
    assert math.isfinite(visqol(BROKEN, X, RATE, strict_cpp=True).moslqo)
    with pytest.raises(TooShortError, match="46080"):
        visqol(X[:40_000], X[:40_000], RATE, strict_cpp=True)
    metric = ViSQOL(strict_cpp=True)
    with pytest.raises(ValueError, match="44100"):
        metric.score(X, metric.reference(X, RATE), 44_100)


@needs_model
def test_shortest_signal_is_scored() -> None:
    x = music(1.0)[:46_080]
    assert visqol(noisy(x), x, RATE).n_patches == 1
    assert math.isnan(visqol(noisy(x), x[:-1], RATE).moslqo)


@needs_model
def test_estimate_that_ends_early_reports_dropped_patches() -> None:
    # The reference's patches begin at frames 14, 44, 74 and 104; this estimate has 88 frames, and a patch
    # may begin 15 frames after its end at most.
    x = music(2.8)
    result = visqol(x[: int(1.83 * RATE)], x, RATE)
    assert result.dropped_share == 0.25
    assert result.n_patches == 3
    assert result.moslqo > 1.0


@pytest.mark.parametrize(
    ("audio", "error", "message"),
    [
        (np.zeros((RATE, 2)), ValueError, "pass its transpose"),
        (np.zeros((1, 1, RATE)), ValueError, r"\(1, 1, 48000\)"),
        (np.zeros((2, 0)), ValueError, "empty"),
        (np.zeros(RATE, dtype=np.int32), ValueError, "int32"),
        (np.array(["a"]), TypeError, "numbers"),
    ],
)
def test_arrays_that_are_no_audio(audio: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        visqol(X, audio, RATE)


@pytest.mark.parametrize("rate", [0, -48_000, 44_100.5, "48000", float("nan")])
def test_rates_that_are_none(rate: object) -> None:
    with pytest.raises(ValueError, match="sample_rate"):
        visqol(X, X, rate)  # type: ignore[arg-type]


def test_unknown_options() -> None:
    with pytest.raises(ValueError, match="video"):
        ViSQOL("video")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="jax"):
        ViSQOL(backend="jax")  # type: ignore[arg-type]


def test_missing_model_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match="m2l-bench fetch visqol-svr"):
        visqol(X, X, RATE, model=tmp_path / "none.txt")


@needs_model
def test_spec_names_what_decides_the_number() -> None:
    spec = ViSQOL().spec()
    assert spec.items() >= SPEC.items()
    assert len(spec["model"]) == 64
    assert "speech_model" not in spec
    assert ViSQOL("speech", speech_model="exponential").spec()["model"] is None
    assert ViSQOL(encodec_compat=True).spec() != spec


@needs_model
def test_prepared_reference_survives_pickling() -> None:
    metric = pickle.loads(pickle.dumps(ViSQOL()))
    reference = metric.reference(X, RATE)
    assert metric.score(noisy(X), reference).moslqo > 1.0
    packed = pickle.dumps(reference)
    assert len(packed) < 4 * X.nbytes  # not what scoring has added
    again = pickle.loads(packed)
    assert metric.score(noisy(X), again).moslqo == metric.score(noisy(X), reference).moslqo


@needs_model
def test_loud_offset_between_batches_and_references() -> None:
    metric = ViSQOL()
    with pytest.raises(ValueError, match="2 estimates but 1 references"):
        metric.score_batch([X, X], [metric.reference(X, RATE)])


def syllables(seconds: int = 3) -> np.ndarray:
    """Noise in bursts, (samples,) at 16 kHz."""
    generator = np.random.default_rng(0)
    n = seconds * 16_000
    bursts = np.repeat(generator.random(n // 4_000) > 0.4, 4_000)
    return np.convolve(generator.standard_normal(n), np.ones(8) / 8, "same") * bursts


def test_exponential_speech_mode() -> None:
    voice, generator = syllables(), np.random.default_rng(1)
    exponential = ViSQOL("speech", speech_model="exponential")
    reference = exponential.reference(voice, 16_000)
    assert exponential.score(voice, reference).moslqo == pytest.approx(5.0, abs=1e-6)
    unscaled = ViSQOL("speech", speech_model="exponential", scaled_speech=False)
    assert unscaled.score(voice, unscaled.reference(voice, 16_000)).moslqo == pytest.approx(4.01586, abs=1e-5)
    worse = exponential.score(noisy(voice, 0.1), reference)
    assert 1.0 <= worse.moslqo < 4.5
    assert len(worse.band_nsim) == 21
    # Pauses are left out: fewer patches than 20-frame stretches.
    quiet = np.concatenate([voice, 1e-4 * generator.standard_normal(len(voice))])
    found = visqol(quiet, quiet, 16_000, mode="speech", speech_model="exponential")
    assert found.n_patches < len(quiet) // (20 * 320) - 1


@needs_lattice
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_speech_mode_is_the_lattice_by_default(backend: str) -> None:
    voice = syllables()
    metric = ViSQOL("speech", backend=backend)  # type: ignore[arg-type]
    reference = metric.reference(voice, 16_000)
    scores = [metric.score(noisy(voice, level), reference).moslqo for level in (0.0, 0.02, 0.2)]
    assert 4.2 < scores[0] < 4.7  # a listener does not give a perfect copy a 5
    assert scores[0] > scores[1] > scores[2] >= 1.0
    exponential = ViSQOL("speech", speech_model="exponential")
    assert scores[2] != exponential.score(noisy(voice, 0.2), exponential.reference(voice, 16_000)).moslqo
    assert metric.spec()["speech_model"] == "lattice"
    assert len(metric.spec()["model"]) == 64


@needs_lattice
def test_lattice_equals_the_published_runtime() -> None:
    """Scores of the model's own runtime (ai-edge-litert 2.3) for features that are a formula."""
    lattice = load_lattice(find_weight("visqol-lattice"))
    band = np.linspace(0.0, 1.0, 21)
    expected = {1.0: 4.436738, 0.95: 4.147180, 0.9: 3.753391, 0.8: 2.197681, 0.6: 1.0}
    for q, mos in expected.items():
        lost = 1.0 - q
        features = Features(
            q - 0.1 * lost * band, q - 0.3 * lost * (1 + band), 0.5 * lost + 0.05 * band, 30 - 20 * band
        )
        assert lattice.predict(features) == pytest.approx(mos, abs=1e-5)


def test_other_files_are_no_lattice_model(tmp_path: Path) -> None:
    for content, why in ((b"svm_type nu_svr", "not a TensorFlow Lite"), (b"\x18\0\0\0TFL3" + b"\xff" * 40, "damaged")):
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        with pytest.raises(ModelFormatError, match=why):
            ViSQOL("speech", model=path).spec()
    with pytest.raises(ValueError, match="'lattice' or 'exponential', not 'polynomial'"):
        ViSQOL("speech", speech_model="polynomial")  # type: ignore[arg-type]


@needs_lattice
def test_a_damaged_lattice_model_is_refused(tmp_path: Path) -> None:
    """Cut anywhere, or with bytes of its tables changed: another score or `ModelFormatError`, nothing else."""
    data = bytearray(find_weight("visqol-lattice").read_bytes())
    generator = np.random.default_rng(0)
    for end in generator.integers(0, len(data), 20):
        with pytest.raises(ModelFormatError):
            Lattice(bytes(data[:end]), "cut")


def oracle() -> Path:
    root = os.environ.get("M2L_ORACLE")
    if not root:
        pytest.skip("M2L_ORACLE is not set: the folder with Google's pairs (visqol/expected.csv)")
    return Path(root) / "visqol"


def _mono_pair(folder: Path, row: dict[str, str]) -> tuple[np.ndarray, np.ndarray, int]:
    target, rate = soundfile.read(folder / row["reference"], always_2d=True)
    preds, _ = soundfile.read(folder / row["degraded"], always_2d=True)
    return preds.T, target.T, rate


@pytest.mark.shared
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_googles_scores(backend: str) -> None:
    folder = oracle()
    metric = ViSQOL(strict_cpp=True, backend=backend, model=folder / "libsvm_nu_svr_model.txt")  # type: ignore[arg-type]
    with open(folder / "expected.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    for row in rows:
        preds, target, rate = _mono_pair(folder, row)
        error = abs(metric.score(preds, metric.reference(target, rate)).moslqo - float(row["moslqo"]))
        exact = backend == "numba" and "conformance" in row["source"]
        assert error <= (1e-9 if exact else 1e-5), f"{row['degraded']}: off by {error}"


@pytest.mark.shared
def test_googles_speech_scores() -> None:
    folder = oracle()
    target, rate = soundfile.read(folder / "CA01_01.flac")
    preds, _ = soundfile.read(folder / "transcoded_CA01_01.flac")
    music, music_rate = soundfile.read(folder / "guitar48_stereo.flac", always_2d=True)
    exponential = ViSQOL("speech", strict_cpp=True, speech_model="exponential")
    unscaled = ViSQOL("speech", strict_cpp=True, speech_model="exponential", scaled_speech=False)
    for metric, mos in ((exponential, 3.374505555111911), (unscaled, 4.015861169223797)):
        estimate = preds if metric is exponential else target
        assert metric.score(estimate, metric.reference(target, rate)).moslqo == pytest.approx(mos, abs=1e-9)
    other = exponential.score(target, exponential.reference(music.T, music_rate))
    assert other.moslqo == pytest.approx(1.269675546824064, abs=1e-9)


@pytest.mark.shared
@needs_lattice
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_googles_lattice_scores(backend: str) -> None:
    folder = oracle()
    speech, rate = soundfile.read(folder / "CA01_01.flac")
    transcoded, _ = soundfile.read(folder / "transcoded_CA01_01.flac")
    music, _ = soundfile.read(folder / "guitar48_stereo.flac", always_2d=True)
    rows = (
        (speech, transcoded, 3.3129234313964844),
        (speech, speech, 4.505550384521484),
        (music.T, speech, 1.4982070922851562),
    )
    metric = ViSQOL("speech", strict_cpp=True, backend=backend)  # type: ignore[arg-type]
    for target, preds, mos in rows:
        assert metric.score(preds, metric.reference(target, rate)).moslqo == pytest.approx(mos, abs=1e-5)
