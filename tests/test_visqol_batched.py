"""The stages of ViSQOL's torch back end, one by one: SciPy's filters, plain sums, and the compiled path."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import visqol_plain as plain

from benchmarks.metrics.visqol import batched
from benchmarks.metrics.visqol.core import TooShortError, frames_at, prepare, score
from benchmarks.metrics.visqol.gammatone import band_rms, make_filter_bank, to_decibels
from benchmarks.metrics.visqol.mapper import Features, speech_mos
from benchmarks.metrics.visqol.modes import SPEECH
from benchmarks.metrics.visqol.nsim import apply_floors
from benchmarks.metrics.visqol.patches import Piece
from benchmarks.metrics.visqol.search import match_patches

CPU = torch.device("cpu")
RATE = 16_000
BANK = make_filter_bank(RATE, 21, 8_000.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tensor(x: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x))


@pytest.mark.parametrize(("device", "budget"), [("cpu", 32 << 20), ("cuda", 512 << 20), ("meta", 128 << 20)])
def test_work_is_cut_to_a_budget(device: str, budget: int) -> None:
    def chunks(count: int, bytes_each: int) -> list[tuple[int, int]]:
        return [(part.start, part.stop) for part in batched._chunks(count, bytes_each, torch.device(device))]

    assert chunks(5, budget // 2) == [(0, 2), (2, 4), (4, 5)]
    assert chunks(5, budget // 2 + 1) == [(i, i + 1) for i in range(5)]
    assert chunks(2, 2 * budget) == [(0, 1), (1, 2)]
    assert chunks(3, 1) == [(0, 3)]
    assert chunks(0, 1) == []


def test_filters_and_decibels(monkeypatch: pytest.MonkeyPatch) -> None:
    signal = rng().standard_normal(3_000)
    filters = batched._Filters(BANK, CPU)
    frames = filters.frames(tensor(signal.astype(np.float32)))
    assert frames.shape == (6, 1_280)
    for budget in (32 << 20, 1):
        monkeypatch.setitem(batched._BUDGET, "cpu", budget)
        np.testing.assert_allclose(filters.band_rms(frames).numpy().T, band_rms(signal, BANK), rtol=1e-4)
    found = batched._decibels(tensor([0.0, 1.0, 0.01])).tolist()
    assert found == pytest.approx([10 * math.log10(np.finfo(float).eps), 0.0, -20.0])


@pytest.mark.parametrize("widths", [(5, 5), (5, 7), (6, 4)])
def test_floors(widths: tuple[int, int]) -> None:
    a, b = (60 * rng(i).random((4, n)) - 70 for i, n in enumerate(widths))
    a[0, 1], b[2, 0] = np.nan, -300.0
    found = batched._floors(tensor(a)[None], tensor(b)[None])
    for mine, wanted in zip(found, apply_floors(a, b), strict=True):
        assert mine[0].numpy() == pytest.approx(wanted)
    stacked = batched._floors(tensor(np.stack([a, a - 5])), tensor(np.stack([b, b - 5])))
    assert stacked[0][1].numpy() == pytest.approx(apply_floors(a - 5, b - 5)[0])


def test_windows_statistics_and_similarity() -> None:
    a, b = 40 * rng(1).random((2, 5, 7)), 40 * rng(2).random((2, 5, 7))
    for x, y, smooth in zip(a, b, batched._smooth(tensor(a)), strict=True):
        assert smooth.numpy() == pytest.approx(plain.smooth(x))
        mean, deviation = batched._statistics(tensor(x))
        variance = plain.smooth(x * x) - plain.smooth(x) ** 2
        assert mean.numpy() == pytest.approx(plain.smooth(x))
        assert deviation.numpy() == pytest.approx(np.sign(variance) * np.sqrt(np.abs(variance)))
        pair = tensor(x), tensor(y)
        assert batched._similarity(*pair, *map(batched._statistics, pair)).numpy() == pytest.approx(plain.nsim(x, y))
    flat = np.full((5, 7), 3.0), np.full((5, 7), 3.1)  # where C1 and C3 decide
    pair = tensor(flat[0]), tensor(flat[1])
    assert batched._similarity(*pair, *map(batched._statistics, pair)).numpy() == pytest.approx(plain.nsim(*flat))
    dim = 0.02 * rng(3).random((5, 7)), 0.02 * rng(4).random((5, 7))
    pair = tensor(dim[0]), tensor(dim[1])
    assert batched._similarity(*pair, *map(batched._statistics, pair)).numpy() == pytest.approx(plain.nsim(*dim))


@pytest.mark.parametrize("budget", [32 << 20, 1])
@pytest.mark.parametrize(("moved", "n_preds"), [(0, 40), (4, 44), (5, 45), (-4, 36), (0, 14), (0, 5)])
def test_the_search_finds_what_the_compiled_one_finds(
    monkeypatch: pytest.MonkeyPatch, moved: int, n_preds: int, budget: int
) -> None:
    """Patches of four frames, looked for up to four frames away."""
    monkeypatch.setattr(batched, "SEARCH_RADIUS_PATCHES", 1)
    monkeypatch.setitem(batched._BUDGET, "cpu", budget)
    target = 40 * rng(5).random((6, 40))
    preds = np.concatenate([40 * rng(6).random((6, max(moved, 0))), target[:, max(-moved, 0) :]], axis=1)[:, :n_preds]
    starts = np.array([5, 9, 13, 30])
    reference = SimpleNamespace(mode=SimpleNamespace(patch_frames=4), starts=starts)
    found = batched._match(tensor(target), tensor(preds), reference)  # type: ignore[arg-type]
    wanted = match_patches(target, preds, starts, 4, 4)
    assert found.offsets.tolist() == wanted.offsets.tolist()
    assert found.lost.tolist() == wanted.lost.tolist()
    assert (found.starts.tolist(), found.n_dropped) == (wanted.starts.tolist(), wanted.n_dropped)
    if abs(moved) <= 4 and n_preds > 30:
        assert (found.offsets - starts)[~found.lost].tolist() == [moved] * int((~found.lost).sum())


def test_nothing_to_search() -> None:
    reference = SimpleNamespace(mode=SimpleNamespace(patch_frames=4), starts=np.array([5]))
    with pytest.raises(TooShortError, match=r"any reference patch \(2 frames\)"):
        batched._match(torch.ones(6, 40), torch.ones(6, 2), reference)  # type: ignore[arg-type]


@pytest.mark.parametrize("budget", [32 << 20, 1])
def test_envelopes_and_lags(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    monkeypatch.setitem(batched._BUDGET, "cpu", budget)
    short = np.array([1.0, -3.0, 5.0], dtype=np.float32)
    assert batched._envelopes([tensor(short)], 5).tolist() == [[1.0, 9.0, 9.0, 0.0, 0.0]]  # mean 1
    clicks = [np.where(rng(i).random(400) < 0.05, 1.0, 0.0).astype(np.float32) for i in range(5)]
    moves = (0, 7, -30, 150, -250)
    pairs = [(x, plain.shifted(x, -lag)) for x, lag in zip(clicks, moves, strict=True)]
    pairs.append((clicks[0], clicks[0][:300]))
    lags = batched._lags([tensor(a) for a, _ in pairs], [tensor(b) for _, b in pairs])
    assert lags.tolist() == [plain.lag_of(a, b) for a, b in pairs] == [0, 7, -30, 150, 0, 0]


def test_frames_are_taken_from_the_grid_or_computed() -> None:
    signal = rng(7).standard_normal(8_000)
    known = to_decibels(band_rms(signal, BANK)).T.copy()
    single, hop = tensor(signal.astype(np.float32)), BANK.hop
    frames = batched._Frames(batched._Filters(BANK, CPU))
    marked = tensor(known + 100.0)
    last = known.shape[1] - 3
    wanted = [(hop, 0), (last * hop, 0), (hop + 5, 0), (2 * hop, 40), (0, 1)]
    found = frames.gather([(single, marked, start, zeros) for start, zeros in wanted], 3).numpy()
    assert found[0] == pytest.approx(known[:, 1:4] + 100.0)
    assert found[1] == pytest.approx(known[:, last:] + 100.0)
    assert found[2] == pytest.approx(frames_at(signal, known, BANK, hop + 5, 3), abs=1e-3)
    for row, zeros in ((3, 40), (4, 1)):
        begin = wanted[row][0]
        padded = np.concatenate([np.zeros(zeros), signal[begin : begin + 3 * hop + 1_280]])
        assert found[row] == pytest.approx(to_decibels(band_rms(padded, BANK, n_frames=3)).T, abs=1e-3)
    beyond = frames.gather([(single, marked[:, :5], 3 * hop, 0)], 3).numpy()
    assert beyond[0] == pytest.approx(known[:, 3:6], abs=1e-3)
    pieces = [Piece(0, n, 0, 0, m, (0.0, 0.0, 0.0, 0.0)) for n, m in ((1_700, 1_900), (1_700, 1_930), (100, 99))]
    assert [batched._frame_counts(BANK, piece) for piece in pieces] == [{2}, set(), {0}]


def voice(samples: int, seed: int) -> np.ndarray:
    """Bursts, loud enough for speech mode."""
    noise = rng(seed).standard_normal(samples)
    return 0.25 * noise * np.exp(-((np.arange(samples) % 2_500) / 900))


A, B = voice(12_000, 0), voice(16_000, 1)
PAIRS = [
    (A, A + 0.02 * rng(2).standard_normal(12_000)),
    (A, np.concatenate([np.zeros(300), 0.5 * A + 0.01 * rng(4).standard_normal(12_000)])),
    (B, B[200:] + 0.01 * rng(5).standard_normal(15_800)),
    (B, np.where(np.abs(np.arange(16_000) - 9_000) < 2_500, 0.0, B)),
    (B, voice(16_000, 3)),
    (B, B[:11_000]),
    (A, np.concatenate([A[:6_000], A[6_040:]])),
]


def mapper(features: Features) -> float:
    return speech_mos(features.nsim) + features.deviation.mean() + 0.01 * features.energy.mean()


@pytest.mark.parametrize("at_once", [64, 3])
def test_pairs_score_as_the_compiled_path_scores_them(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(batched, "_PAIRS_AT_ONCE", at_once)
    short = A[:9_000]
    found = batched.score_pairs([*PAIRS, (short, short), (A, A[:500])], RATE, SPEECH, mapper, "cpu")
    references = {id(target): prepare(target, RATE, SPEECH) for target, _ in PAIRS}
    for (target, preds), result in zip(PAIRS, found, strict=False):
        wanted = score(references[id(target)], preds, mapper)
        assert not isinstance(result, TooShortError)
        assert result.moslqo == pytest.approx(wanted.moslqo, abs=1e-4)
        assert result.band_nsim == pytest.approx(wanted.band_nsim, abs=1e-4)
        assert (result.lag, result.dropped_share, result.lost_share) == (
            wanted.lag, wanted.dropped_share, wanted.lost_share
        )  # fmt: skip
        assert result.patch_times == pytest.approx(wanted.patch_times)
    assert "ViSQOL needs at least 10240" in str(found[-2])
    assert "preds has 500 samples after alignment; one window has 1280" in str(found[-1])
