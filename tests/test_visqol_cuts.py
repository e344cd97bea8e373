"""Which samples of both signals ViSQOL compares: patches, their times and fine alignment, by hand at 100 Hz."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import visqol_plain as plain
from scipy.ndimage import convolve

from benchmarks.metrics.visqol.core import features_of, frames_at, no_details, root_mean_square, summarize
from benchmarks.metrics.visqol.gammatone import make_filter_bank
from benchmarks.metrics.visqol.lattice import _OPERATIONS
from benchmarks.metrics.visqol.mapper import speech_mos
from benchmarks.metrics.visqol.modes import AUDIO, SPEECH
from benchmarks.metrics.visqol.nsim import band_details, band_similarity
from benchmarks.metrics.visqol.patches import (
    PatchPlan,
    Piece,
    n_required_frames,
    patch_starts,
    plan_patches,
    shift,
    usable_lag,
    voice_activity,
)
from benchmarks.metrics.visqol.search import Match, scorable_patches


def test_frames_for_a_patch_and_where_patches_begin() -> None:
    assert (n_required_frames(AUDIO), n_required_frames(SPEECH)) == (45, 29)
    signal = np.zeros(1)
    starts = {45: [14], 75: [14], 76: [14, 44], 105: [14, 44], 106: [14, 44, 74]}
    assert {n: patch_starts(signal, n, 960, AUDIO).tolist() for n in starts} == starts
    # Speech: patches of 20 frames from frame 9, those with a loud frame, looked for from sample 9 on: there voice
    # begins in frame 39, the last of the second patch, and ends in the third.
    loud = np.where((np.arange(90 * 10) >= 400) & (np.arange(90 * 10) < 500), 1.0, 0.01)
    assert patch_starts(loud, 90, 10, SPEECH).tolist() == [9, 29, 49]  # the first frames always count
    assert patch_starts(loud, 28, 10, SPEECH).tolist() == []
    assert patch_starts(loud, 29, 10, SPEECH).tolist() == [9]


def test_voice_activity_is_a_level_of_a_16_bit_scale() -> None:
    """An RMS of 5000 where the largest sample is 32768; the first two frames always count."""
    level = 5000 / 32768
    frames = np.repeat([0.0, 0.0, 0.0, level + 1e-6, 0.0, 0.0, 0.0, level - 1e-6, 1.0], 10)
    expected = [True, True, False, True, True, True, False, False, True]
    assert voice_activity(frames, 0, 9, 10).tolist() == expected
    assert voice_activity(-frames + 2 * frames.max() * (np.arange(90) == 80), 0, 9, 10).tolist()[8]
    assert voice_activity(frames, 30, 3, 10).tolist() == [True, True, True]


PLAN = PatchPlan(
    target_start=np.array([100, 100]), target_stop=np.array([160, 160]), preds_start=np.array([120, 120]),
    preds_stop=np.array([180, 175]), target_seconds=np.array([1.0, 1.0]), preds_seconds=np.array([1.2, 1.2]),
    patch_seconds=0.6,
)  # fmt: skip


def test_times_before_fine_alignment() -> None:
    times = PLAN.coarse_times(np.array([False, True]))
    assert times == pytest.approx(np.array([[1.0, 1.6, 1.2, 1.8], [1.0, 1.6, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("row", "lag", "piece"),
    [
        (0, 0, Piece(100, 60, 120, 0, 60, (1.0, 1.6, 1.2, 1.8))),
        # The estimate's first four samples go, and with them the reference's last four.
        (0, -4, Piece(100, 56, 124, 0, 56, (1.0, 1.56, 1.24, 1.8))),
        # Four zeros come before it and are cut off again, with the reference beside them.
        (0, 4, Piece(104, 56, 120, 0, 56, (1.04, 1.6, 1.2, 1.76))),
        (0, 1, Piece(101, 59, 120, 0, 59, (1.01, 1.6, 1.2, 1.79))),
        # The estimate is five samples shorter.
        (1, 0, Piece(100, 55, 120, 0, 55, (1.0, 1.55, 1.2, 1.75))),
        (1, 4, Piece(100, 59, 120, 4, 59, (1.04, 1.63, 1.2, 1.79))),
        (1, 5, Piece(100, 60, 120, 5, 60, (1.05, 1.65, 1.2, 1.8))),
        (1, 6, Piece(106, 54, 120, 0, 54, (1.06, 1.6, 1.2, 1.74))),
    ],
)
def test_a_patch_is_cut_to_what_both_signals_share(row: int, lag: int, piece: Piece) -> None:
    found = PLAN.realign(row, lag, 100)
    assert found.times == pytest.approx(piece.times)
    fields = ("target_start", "n_target", "preds_start", "preds_zeros", "n_preds")
    assert [getattr(found, name) for name in fields] == [getattr(piece, name) for name in fields]


def test_patches_that_run_over_the_end_get_zeros_before_them() -> None:
    """Patches of 30 frames of 0.02 s at 100 Hz: 60 samples. The estimate has 100."""
    reference = SimpleNamespace(sample_rate=100, frame_seconds=0.02, mode=AUDIO, signal=np.zeros(140))
    preds = np.arange(100.0)
    starts, offsets = np.array([5, 10, 44, 44]), np.array([10, 21, 25, 45])
    match = Match(starts, offsets, np.array([False, False, False, True]), 0)
    plan, padded = plan_patches(match, reference, preds)
    assert plan.target_start.tolist() == [10, 20, 88, 88]
    assert plan.target_stop.tolist() == [70, 80, 139, 139]
    assert (plan.patch_seconds, plan.target_seconds[0], plan.preds_seconds[1]) == pytest.approx((0.6, 0.1, 0.42))
    # 20 to 80 fits; 42 to 102 lacks two samples, 50 to 110 ten: its 49 samples follow ten zeros; the lost one stays.
    assert plan.preds_start.tolist() == [20, 100, 159, 90]
    assert plan.preds_stop.tolist() == [80, 159, 218, 99]
    assert padded[:100].tolist() == preds.tolist()
    assert padded[100:159].tolist() == [0.0] * 2 + list(range(42, 99))
    assert padded[159:].tolist() == [0.0] * 10 + list(range(50, 99))
    one, longer = plan_patches(Match(starts[:1], np.array([20]), np.array([False]), 0), reference, np.arange(99.0))
    assert longer[99:].tolist() == [0.0, *range(40, 98)]  # a single sample is missing
    whole, same = plan_patches(Match(starts[:1], offsets[:1], np.array([False]), 0), reference, preds)
    assert same is preds
    assert one.preds_stop.tolist() == [158]
    assert whole.preds_stop.tolist() == [80]
    late, _ = plan_patches(Match(starts[:1], np.array([50]), np.array([True]), 0), reference, preds)
    assert late.preds_start.tolist() == [98]  # two before the end at most


def test_lags_that_are_believed_and_shifts() -> None:
    assert [usable_lag(lag, 100) for lag in (-51, -50, 0, 50, 51)] == [0, -50, 0, 50, 0]
    signal = np.array([1.0, 2.0, 3.0])
    assert [shift(signal, lag).tolist() for lag in (-1, 0, 2)] == [
        [2.0, 3.0],
        [1.0, 2.0, 3.0],
        [0.0, 0.0, 1.0, 2.0, 3.0],
    ]
    starts = np.array([14, 44, 74])
    assert [scorable_patches(starts, n, 30) for n in (59, 58, 29, 28, 0)] == [3, 2, 2, 1, 1]


def test_frames_on_the_hop_grid_are_taken_and_others_computed() -> None:
    bank = make_filter_bank(16_000, 21, 8_000.0)
    signal = np.random.default_rng(0).standard_normal(16_000)
    known = np.arange(21.0 * 10).reshape(21, 10)
    hop = bank.hop
    assert frames_at(signal, known, bank, 3 * hop, 4).tolist() == known[:, 3:7].tolist()
    assert frames_at(signal, known, bank, 6 * hop, 4).tolist() == known[:, 6:].tolist()
    computed = frames_at(signal, known, bank, 7 * hop, 4)
    assert computed.shape == (21, 4)
    assert not np.allclose(computed[:, :3], known[:, 7:])
    assert frames_at(signal, known, bank, 3 * hop + 1, 2).shape == (21, 2)
    assert root_mean_square(np.array([3.0, 4.0, 0.0, 0.0])) == 2.5


def test_patches_are_averaged_and_mapped() -> None:
    rng = np.random.default_rng(1)
    bands, details = rng.random((20, 4)), rng.random((20, 2, 4))
    times = np.stack([np.zeros(20), 0.6 + 0.02 * (np.arange(20) % 3) - 0.001, np.zeros(20), np.zeros(20)], axis=1)
    plain = features_of(bands, np.zeros((0, 2, 4)), times, 0.02)
    assert plain.nsim == pytest.approx(bands.mean(axis=0))
    assert plain.nsim10 == pytest.approx(np.sort(bands, axis=0)[:2].mean(axis=0))
    assert (plain.deviation.size, plain.energy.size) == (0, 0)
    assert features_of(bands[:3], np.zeros((0, 2, 4)), times[:3], 0.02).nsim10 == pytest.approx(bands[:3].min(axis=0))
    found = features_of(bands, details, times, 0.02)
    frames = np.array([30 + i % 3 for i in range(20)])[:, None]
    n = frames.sum()
    variance = ((frames - 1) * details[:, 0] ** 2 + frames * bands**2).sum(axis=0) - n * bands.mean(axis=0) ** 2
    assert found.deviation == pytest.approx(np.sqrt(np.maximum(variance / (n - 1), 0)))
    assert found.energy == pytest.approx(details[:, 1].mean(axis=0))
    assert no_details(5, AUDIO).shape == (0, 2, 32)
    assert no_details(5, SPEECH).shape == (5, 2, 21)
    reference = SimpleNamespace(frame_seconds=0.02, bank=SimpleNamespace(center_frequencies=np.arange(4.0)),
                                sample_rate=48_000, starts=np.arange(25))  # fmt: skip
    match = Match(np.arange(20), np.arange(20), np.arange(20) < 5, 5)
    result = summarize(reference, match, bands, no_details(0, SPEECH)[:, :, :4], times, -7, lambda features: 3.5)  # type: ignore[arg-type]
    assert (result.moslqo, result.lag, result.dropped_share, result.lost_share) == (3.5, -7, 0.2, 0.25)
    assert result.vnsim == pytest.approx(bands.mean())
    assert result.patch_nsim == pytest.approx(bands.mean(axis=1))
    poor = summarize(reference, match, 0.1 * bands, no_details(0, SPEECH)[:, :, :4], times, 0, lambda features: 3.5)  # type: ignore[arg-type]
    assert poor.moslqo == 1.0


def test_details_of_a_patch_are_those_of_its_frames() -> None:
    """SciPy's convolution, edges repeated."""
    rng = np.random.default_rng(2)
    target, preds = 40 * rng.random((3, 5)), 40 * rng.random((3, 5))

    def windowed(x: np.ndarray) -> np.ndarray:
        return convolve(x, plain.KERNEL, mode="nearest")

    r, d = windowed(target), windowed(preds)
    spreads = (windowed(target**2) - r**2) * (windowed(preds**2) - d**2)
    c1, c3 = 0.01**2, 0.03**2 / 2
    similarity = (
        (2 * r * d + c1) / (r**2 + d**2 + c1) * (windowed(target * preds) - r * d + c3) / (np.sqrt(spreads) + c3)
    )
    deviation, energy = band_details(target, preds)
    assert deviation == pytest.approx(similarity.std(axis=1, ddof=1))
    assert energy == pytest.approx(preds.mean(axis=1))
    assert band_similarity(target, preds) == pytest.approx(similarity.mean(axis=1))
    assert band_details(target[:, :1], preds[:, :1])[0].tolist() == [0.0, 0.0, 0.0]
    assert band_details(target, target)[0] == pytest.approx(np.zeros(3), abs=1e-9)


def test_similarity_of_flat_and_of_faint_patches() -> None:
    """Rounding leaves a variance below 0, and the constants decide where there is next to nothing."""
    rng = np.random.default_rng(3)
    for level in np.linspace(0.1, 40.0, 40):
        flat = np.full((3, 4), level)
        assert band_similarity(flat, flat) == pytest.approx(np.ones(3))
        assert band_similarity(flat, 0.9 * flat) == pytest.approx(plain.nsim(flat, 0.9 * flat), abs=1e-4)
    for scale in (0.02, 0.3):
        a, b = scale * rng.random((3, 5)), scale * rng.random((3, 5))
        assert band_similarity(a, b) == pytest.approx(plain.nsim(a, b))


def test_operations_of_the_lattice() -> None:
    """TensorFlow Lite's, by the numbers of its schema, written out."""
    x, y = np.array([[1.0, -2.0, 3.0]], np.float32), np.array([[4.0, 0.5, -1.0]], np.float32)
    weights, bias = np.array([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]], np.float32), np.array([10.0, 20.0], np.float32)
    results = {
        0: ([x, y], [[5.0, -1.5, 2.0]]), 18: ([x, y], [[4.0, -1.0, -3.0]]), 41: ([x, y], [[-3.0, -2.5, 4.0]]),
        19: ([x], [[1.0, 0.0, 3.0]]), 57: ([x, y], [[1.0, -2.0, -1.0]]), 101: ([x], [[1.0, 2.0, 3.0]]),
        22: ([x, np.array([3, 1])], [[1.0], [-2.0], [3.0]]), 53: ([np.array([1, 0])], [1.0, 0.0]),
        70: ([np.array([1.0, 2.0]), np.array(1)], [[1.0], [2.0]]), 71: ([x, np.abs(x)], [[True, False, True]]),
        77: ([x], [1, 3]), 94: ([np.array([2]), np.float32(7)], [7.0, 7.0]), 126: ([x, y.T], [[0.0]]),
        2: ([x, y], [[1.0, -2.0, 3.0], [4.0, 0.5, -1.0]]),
    }  # fmt: skip
    for code, (inputs, wanted) in results.items():
        assert _OPERATIONS[code](inputs, None).tolist() == wanted, code
    assert _OPERATIONS[53]([np.array([1, 0])], None).dtype == np.float32
    assert _OPERATIONS[9]([x, weights], None).tolist() == [[6.0, -2.5]]
    assert _OPERATIONS[9]([x, weights, bias], None).tolist() == [[16.0, 17.5]]

    def options(number: int) -> SimpleNamespace:
        def read(field: int, kind: str) -> int:
            assert (field, kind) == (0, "i")
            return number

        return SimpleNamespace(number=read)

    assert _OPERATIONS[2]([x, y], options(1)).tolist() == [[1.0, -2.0, 3.0, 4.0, 0.5, -1.0]]
    assert [part.tolist() for part in _OPERATIONS[49]([np.array(1), x], options(3))] == [[[1.0]], [[-2.0]], [[3.0]]]
    assert len(_OPERATIONS) == 16


def test_speech_by_the_exponential() -> None:
    """a + exp(b (x - x0)) of the mean NSIM, times what makes 1 a 5."""
    for x in (0.4, 0.8, 0.95):
        mos = -262.847869 + np.exp(0.0154302525 * (x + 361.063949))
        assert speech_mos(np.full(21, x), scaled=False) == pytest.approx(min(max(mos, 1.0), 5.0))
        assert speech_mos(np.full(21, x)) == pytest.approx(min(max(1.245063 * mos, 1.0), 5.0))
    assert speech_mos(np.ones(21)) == pytest.approx(5.0, abs=1e-4)
