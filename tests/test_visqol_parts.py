"""ViSQOL's parts: filter bank, alignment, search, model file, compiled kernels without a cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import visqol_plain as plain
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy.signal import correlate as scipy_correlate
from scipy.signal import sosfilt

from benchmarks.metrics.visqol.audio import as_channels, check_rate, to_mono, why_undefined, why_unmatched
from benchmarks.metrics.visqol.correlate import correlator
from benchmarks.metrics.visqol.gammatone import band_rms, make_filter_bank, to_decibels
from benchmarks.metrics.visqol.mapper import ModelFormatError, load_model, parse_libsvm, speech_mos
from benchmarks.metrics.visqol.modes import AUDIO, SPEECH
from benchmarks.metrics.visqol.nsim import apply_floors, band_similarity
from benchmarks.metrics.visqol.patches import patch_starts, shift, usable_lag, voice_activity
from benchmarks.metrics.visqol.search import best_path, match_patches
from m2l.audio import SILENCE_PEAK
from m2l.kernels.jit import jit


def test_arrays_become_channels() -> None:
    assert as_channels(np.array([0.5, -1.0]), "x").tolist() == [[0.5, -1.0]]
    assert as_channels(np.array([[16384, -32768]], dtype=np.int16), "x").tolist() == [[0.5, -1.0]]
    for shape in ((1, 1), (32, 31), (32, 3), (3, 3), (2, 3), (33, 33), (40, 40)):
        assert as_channels(np.ones(shape), "x").shape == shape
    for shape in ((3, 1), (3, 2), (33, 32), (33, 3)):
        with pytest.raises(ValueError, match=f"{shape[0]} channels of {shape[1]} samples"):
            as_channels(np.ones(shape), "x")
    for shape in ((), (2, 2, 2)):
        with pytest.raises(ValueError, match="expected"):
            as_channels(np.ones(shape), "x")
    with pytest.raises(ValueError, match="x is empty"):
        as_channels(np.ones((2, 0)), "x")
    for kind in (np.int32, np.uint8):
        with pytest.raises(ValueError, match="or int16"):
            as_channels(np.ones(3, kind), "x")
    with pytest.raises(TypeError, match="not bool"):
        as_channels(np.ones(3, bool), "x")


def test_rates_in_whole_hertz() -> None:
    assert [check_rate(rate) for rate in (1_000, 768_000, 48_000.0)] == [1_000, 768_000, 48_000]
    for rate in (999, 768_001, 44_100.5, True, "48000", None, float("nan")):
        with pytest.raises(ValueError, match="not "):
            check_rate(rate)


def test_mono_is_the_mean_and_encodecs_way_clamps_and_rounds_first() -> None:
    pair = np.array([[1.0, 0.25, -1.0], [0.5, 0.10001, -0.5]])
    assert to_mono(pair, 8_000, 8_000).tolist() == pair.mean(axis=0).tolist()
    assert to_mono(pair[:1], 8_000, 8_000) is not pair
    steps = [[round(min(max(x, -0.99), 0.99) * 32768) / 32768 for x in row] for row in pair]
    assert to_mono(pair, 8_000, 8_000, encodec_compat=True).tolist() == np.mean(steps, axis=0).tolist()
    sine = np.sin(2 * np.pi * 100 * np.arange(800) / 8_000)
    twice = to_mono(np.stack([sine, sine]), 8_000, 16_000)
    assert twice[200:-200] == pytest.approx(np.sin(2 * np.pi * 100 * np.arange(1600) / 16_000)[200:-200], abs=1e-3)
    coded = to_mono(sine[None], 8_000, 16_000, encodec_compat=True)
    assert np.abs(coded - np.clip(twice, -0.99, 0.99)).max() <= 0.5 / 32768 + 1e-12


def test_what_has_no_quality() -> None:
    assert why_undefined(np.array([[0.0, 2 * SILENCE_PEAK]]), "x") is None
    assert why_undefined(np.array([[0.0, SILENCE_PEAK]]), "x") is None
    assert why_undefined(np.array([[0.0, 0.99 * SILENCE_PEAK]]), "x") == f"x is silent (peak {0.99 * SILENCE_PEAK:g})"
    broken = np.array([[0.0, np.nan, 1.0, np.inf], [0.0, 0.0, np.nan, np.nan]])
    assert why_undefined(broken, "x") == "x has 4 non-finite samples, the first at sample 1"
    assert why_undefined(np.array([[0.5, -0.5], [-0.5, 0.5]]), "x") == "x is silent as mono: its channels cancel out"
    assert why_undefined(np.array([[0.5, -0.5], [-0.5, 0.5 - 2 * SILENCE_PEAK]]), "x") is None
    assert why_undefined(np.array([[0.5, -0.5], [-0.5, 0.5 - 1.9 * SILENCE_PEAK]]), "x") is not None
    assert why_unmatched(3_000, 2_000, 1_000) is None
    assert why_unmatched(2_000, 3_000, 1_000) is None
    assert why_unmatched(3_001, 2_000, 1_000) == "lengths differ by 1.00 s (target 3.00 s, preds 2.00 s)"
    assert why_unmatched(2_000, 4_500, 1_000) == "lengths differ by 2.50 s (target 2.00 s, preds 4.50 s)"


def test_filter_bank_has_the_published_center_frequencies() -> None:
    bank = make_filter_bank(48_000, 32)
    np.testing.assert_allclose(
        bank.center_frequencies[[0, 1, 2, -2, -1]], [50.0, 91.7, 139.7, 18_100.5, 20_844.8], atol=0.06
    )
    assert bank.n_frames(46_080) == 45
    assert bank.n_frames(3_840) == 0


@pytest.mark.parametrize(("rate", "mode"), [(48_000, AUDIO), (16_000, SPEECH), (44_100, SPEECH)])
def test_filters_have_unit_gain_at_their_center(rate: int, mode: object) -> None:
    bank = make_filter_bank(rate, mode.n_bands, mode.max_frequency)  # type: ignore[attr-defined]
    responses = bank.impulse_response(rate)
    t = np.arange(rate) / rate
    for response, f in zip(responses, bank.center_frequencies, strict=True):
        assert abs(np.sum(response * np.exp(-2j * np.pi * f * t))) == pytest.approx(1.0, abs=1e-6)


def test_band_rms_equals_filtering_each_frame() -> None:
    x = np.random.default_rng(0).standard_normal(7_000)
    bank = make_filter_bank(48_000, 32)
    np.testing.assert_allclose(to_decibels(band_rms(x, bank)).T, plain.spectrogram(x), atol=1e-10)
    later = band_rms(x, bank, start=960, n_frames=2)
    np.testing.assert_array_equal(later, band_rms(x, bank)[1:3])


def test_band_count_need_not_fill_the_lanes() -> None:
    x = np.random.default_rng(0).standard_normal(2_000)
    bank = make_filter_bank(16_000, 21, 8_000.0)
    frame = x[:1_280] * bank.window
    sections = [[1, c, 0, 1, *bank.denominator[20]] for c in bank.zeros[20]]
    expected = np.sqrt(np.mean((sosfilt(sections, frame) * bank.gain[20]) ** 2))
    assert band_rms(x, bank).shape == (3, 21)
    assert band_rms(x, bank)[0, 20] == pytest.approx(expected, rel=1e-12)


@given(seed=st.integers(0, 2**31), lag=st.integers(-300, 300), n=st.integers(1_200, 2_000))
@settings(max_examples=40, deadline=None)
def test_lag_of_a_shifted_signal(seed: int, lag: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    x = generator.choice([-1.0, 1.0], n + 600) * (generator.random(n + 600) < 0.05)
    target, preds = x[300 : 300 + n], x[300 + lag : 300 + lag + n]
    correlate = correlator(n)
    found = correlate.lag_of(correlate.spectrum(target, 0, n), preds, 0, n, n)
    assert found == lag
    aligned = shift(preds, found)
    common = slice(max(lag, 0), min(n, len(aligned)))
    np.testing.assert_array_equal(aligned[common], target[common])


@pytest.mark.parametrize("n", [1, 2, 37, 1_000, 2_049, 28_801, 60_000])
def test_correlation_at_every_lag(n: int) -> None:
    generator = np.random.default_rng(n)
    padded = generator.standard_normal((2, n + 9))
    correlate = correlator(n)
    assert correlate.capacity >= n
    envelopes = [2 * np.abs(x - x.mean()) + x.mean() for x in padded[:, 3 : 3 + n]]
    spectra = [correlate.spectrum(x, 3, 3 + n) for x in padded]
    full = scipy_correlate(*envelopes, method="fft")
    assert correlate.lag(*spectra, n) == np.argmax(full) - (n - 1)
    everywhere = np.empty((2, correlate.capacity), dtype=np.float32)
    correlate.correlation(*spectra, everywhere)
    found = np.concatenate([everywhere[1, correlate.capacity - (n - 1) :], everywhere[0, :n]])
    np.testing.assert_allclose(found / correlate.capacity, full, atol=2e-6 * full.max())


def test_correlator_pads_by_little() -> None:
    for n in (28_800, 28_801, 441_000, 480_000, 700_001, 5_000_000):
        assert n <= correlator(n).capacity <= 1.08 * n


def test_first_of_equal_lags_wins() -> None:
    # Symmetric about its middle, so that the correlation is even: lags -30 and 30 are equal.
    x = np.zeros(200)
    x[[70, 100, 130]] = [1.0, 1e-9, 1.0]
    y = np.zeros(200)
    y[100] = 1.0
    correlate = correlator(200)
    assert correlate.lag_of(correlate.spectrum(y, 0, 200), x, 0, 200, 200) == -30


def test_far_lags_are_not_believed() -> None:
    assert [usable_lag(lag, 101) for lag in (-51, -50, 0, 50, 51)] == [0, -50, 0, 50, 0]


def brute_force_path(table: np.ndarray) -> float:
    """Best sum of similarities over increasing offsets, where patches after the first may be lost."""
    n_patches, n_offsets = table.shape

    def best(p: int, last: int) -> float:
        if p == n_patches:
            return 0.0
        taken = [table[p, o] + best(p + 1, o) for o in range(last + 1, n_offsets)]
        lost = [best(p + 1, last)] if p > 0 else []
        return max([*taken, *lost], default=-np.inf)

    return best(0, -1)


@given(st_numpy.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(4, 7)), elements=st.floats(0, 1)))
@settings(max_examples=60, deadline=None)
def test_path_is_the_best_one(table: np.ndarray) -> None:
    starts = np.arange(len(table), dtype=np.int64)
    offsets, lost = best_path(table, starts, 100)
    kept = offsets[~lost]
    assert np.all(np.diff(kept) > 0)
    assert np.sum(table[np.arange(len(table)), offsets][~lost]) == pytest.approx(brute_force_path(table))


def test_search_finds_where_the_patches_went() -> None:
    generator = np.random.default_rng(0)
    target = 40 * generator.random((32, 150))
    moved = np.concatenate([40 * generator.random((32, 7)), target[:, :70], target[:, 75:]], axis=1)
    match = match_patches(target, moved, np.array([14, 44, 84]), 30, 1_800)
    assert list(match.offsets[[0, 2]]) == [21, 86]
    assert not match.lost.any()
    assert match.n_dropped == 0


def test_search_radius_is_respected() -> None:
    generator = np.random.default_rng(0)
    target = 40 * generator.random((32, 200))
    moved = np.concatenate([40 * generator.random((32, 50)), target[:, :150]], axis=1)
    starts = np.array([14, 44])
    near = match_patches(target, moved, starts, 30, 10)
    assert np.all(np.abs(near.offsets - starts) <= 10)
    assert list(match_patches(target, moved, starts, 30, 60).offsets) == [64, 94]


def test_nothing_to_match() -> None:
    with pytest.raises(ValueError, match="2 frames"):
        match_patches(np.ones((32, 90)), np.ones((32, 2)), np.array([44]), 30, 1_800)


@given(st.integers(0, 2**31), st.integers(3, 40))
@settings(max_examples=40, deadline=None)
def test_similarity_is_bounded_and_reflexive(seed: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = 40 * generator.random((32, n)), 40 * generator.random((32, n))
    np.testing.assert_allclose(band_similarity(a, a), 1.0, atol=1e-9)
    np.testing.assert_allclose(band_similarity(a, b), plain.nsim(a, b), atol=1e-10)
    np.testing.assert_allclose(band_similarity(a, b), band_similarity(b, a), atol=1e-12)
    assert np.all(band_similarity(a, b) <= 1.0 + 1e-9)


def test_floors_turn_nan_into_silence() -> None:
    a = np.full((4, 3), -20.0)
    b = np.array([[np.nan, -10.0, -200.0]] * 4)
    a[0] = -90.0
    floored_a, floored_b = apply_floors(a, b)
    np.testing.assert_array_equal(floored_a[0], [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(floored_b[0], [0.0, 35.0, 0.0])
    assert np.isnan(b[0, 0])
    assert a[0, 0] == -90.0


def test_voice_activity_waits_for_three_silent_frames() -> None:
    level = np.repeat([1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0], 10)
    np.testing.assert_array_equal(voice_activity(level, 0, 7, 10), [True, True, True, True, False, True, True])
    np.testing.assert_array_equal(patch_starts(np.zeros(1), 45, 960, AUDIO), [14])
    np.testing.assert_array_equal(patch_starts(np.zeros(1), 105, 960, AUDIO), [14, 44])


MODEL = "svm_type nu_svr\nkernel_type rbf\ngamma 0.5\nnr_class 2\ntotal_sv 2\nrho -3\nSV\n1 1:1 2:1\n-0.5 2:0.5\n"


def test_model_file_is_read_and_evaluated() -> None:
    model = parse_libsvm(MODEL, 2, "model")
    x = np.array([0.2, 0.4])
    expected = np.exp(-0.5 * (0.64 + 0.36)) - 0.5 * np.exp(-0.5 * (0.04 + 0.01)) + 3
    assert model.predict(x) == pytest.approx(expected)
    assert parse_libsvm(MODEL.replace("rho -3", "rho -30"), 2, "model").predict(x) == 5.0
    assert parse_libsvm(MODEL.replace("rho -3", "rho 30"), 2, "model").predict(x) == 1.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("svm_type", "type", "not a libsvm text model"),
        ("nu_svr", "c_svc", "'c_svc'"),
        ("rbf", "linear", "'linear'"),
        ("total_sv 2", "total_sv 3", "2 of 3"),
        ("2:0.5", "3:0.5", "feature 3"),
        ("2:0.5", "0:0.5", "feature 0"),
        ("2:0.5", "2:x", "damaged"),
        ("gamma 0.5\n", "", "damaged"),
    ],
)
def test_model_files_that_are_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "model.txt"
    path.write_text(MODEL.replace(old, new))
    with pytest.raises(ModelFormatError, match=message):
        load_model(path, 2)


def test_model_file_that_is_binary_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    with pytest.raises(FileNotFoundError, match=r"model\.txt"):
        load_model(path)
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ModelFormatError, match="not a text file"):
        load_model(path)


def test_speech_mapping_is_clamped_and_rises() -> None:
    grid = [speech_mos(np.full(21, x)) for x in np.linspace(-1, 1.2, 45)]
    assert grid == sorted(grid)
    assert (grid[0], grid[-1]) == (1.0, 5.0)


def test_kernels_compile_where_no_cache_can_be_written() -> None:
    # Code that is in no file has no place for numba's cache, like a read-only installation.
    names: dict[str, object] = {}
    exec("def double(x):\n    return 2 * x\n", names)
    with pytest.warns(UserWarning, match="compiling double in every process"):
        double = jit()(names["double"])  # type: ignore[arg-type]
    assert double(21) == 42
