"""Windows over a signal, the cross-fades that join them, and the noise of a place, by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m2l import create_config
from m2l.io.blocks import ItemReader
from m2l.streaming.long import Timeline, Windowing, decode_long, encode_long, in_batches
from m2l.streaming.noise import latent_noise, noise_source, seeded_noise, start_noise
from m2l.streaming.windows import CONTEXT_LATENTS, OVERLAP_LATENTS, RAMP_LATENTS, Window, join_windows, plan_windows

#: 1024 bins, 8 frames a latent.
SMALL = create_config("tiny")

# --- the plan -------------------------------------------------------------------------------------------------


@given(st.integers(1, 2000), st.integers(2 * OVERLAP_LATENTS + 1, 400))
def test_windows_cover_everything_and_fade_only_where_both_have_context(total: int, size: int) -> None:
    asked: list[int] = []

    def known(n: int) -> int:
        asked.append(n)
        return min(n, total)

    windows = list(plan_windows(known, size))
    assert windows[0].start == 0
    assert windows[-1].stop == total
    assert windows[0].fade_in is None
    assert windows[-1].fade_out is None
    for window in windows:
        assert window.stop - window.start == min(size, total)
    for before, after in itertools.pairwise(windows):
        assert before.start < after.start <= before.stop - OVERLAP_LATENTS
        assert before.fade_out == after.fade_in
        begin, end = after.fade_in
        assert end - begin == RAMP_LATENTS
        assert begin - after.start >= CONTEXT_LATENTS
        assert before.stop - end >= CONTEXT_LATENTS
        assert before.fade_in is None or before.fade_in[1] <= begin
    # Reading ahead is bounded: nothing beyond the window after next is asked for at a time.
    assert max(b - a for a, b in zip([0, *asked], asked, strict=False)) <= size


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(2 * OVERLAP_LATENTS + 1, 200), st.sampled_from([1, 3]), st.integers(0, 3))
def test_joining_slices_of_a_signal_gives_the_signal(total: int, size: int, unit: int, extra: int) -> None:
    signal = torch.randn(2, total * unit + extra, generator=torch.Generator().manual_seed(total))
    parts = (
        (window, signal[:, window.start * unit : window.stop * unit + extra])
        for window in plan_windows(lambda n: min(n, total), size)
    )
    assert torch.allclose(torch.cat(list(join_windows(parts, unit)), dim=-1), signal, atol=1e-6)


def test_windows_too_short_for_their_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="window of 64 latents is too short for an overlap of 32; use over 64"):
        list(plan_windows(lambda n: min(n, 1000), 64))


def test_overlaps_are_those_of_the_text() -> None:
    """8 latents of 4,096 samples are 0.74 s, 12 are 1.1 s."""
    assert (RAMP_LATENTS, CONTEXT_LATENTS, OVERLAP_LATENTS) == (8, 12, 32)
    assert [round(n * 4096 / 44_100, 2) for n in (RAMP_LATENTS, CONTEXT_LATENTS)] == [0.74, 1.11]


def test_a_plan_by_hand() -> None:
    """Windows of 70: the next begins where it shares 32, the last reaches further back; fades lie in the middle."""
    assert list(plan_windows(lambda n: min(n, 70), 70)) == [Window(0, 70)]
    assert list(plan_windows(lambda n: min(n, 71), 70)) == [
        Window(0, 70, None, (31, 39)),
        Window(1, 71, (31, 39), None),
    ]
    assert list(plan_windows(lambda n: min(n, 120), 70)) == [
        Window(0, 70, None, (50, 58)),
        Window(38, 108, (50, 58), (75, 83)),
        Window(50, 120, (75, 83), None),
    ]
    assert list(plan_windows(lambda n: min(n, 11), 9, overlap=4)) == [
        Window(0, 9, None, (1, 9)),
        Window(2, 11, (1, 9), None),
    ]


def test_a_fade_is_half_a_cosine() -> None:
    """From ones to zeros and back over 2 latents of 2 places, sampled at the middles of the places."""
    windows = [Window(0, 6, None, (3, 5)), Window(2, 8, (3, 5), (5, 7)), Window(4, 10, (5, 7), None)]
    signals = [torch.full((1, 12), level) for level in (1.0, 0.0, 1.0)]
    found = list(join_windows(zip(windows, signals, strict=True), unit=2))
    ramp = [(1 - np.cos(np.pi * x)) / 2 for x in (0.125, 0.375, 0.625, 0.875)]
    expected = [[1.0] * 6, [1 - x for x in ramp], [], ramp, [1.0] * 6]
    assert [piece.shape for piece in found] == [(1, len(part)) for part in expected]
    for piece, part in zip(found, expected, strict=True):
        assert piece[0].tolist() == pytest.approx(part, abs=1e-6)
    halved = list(join_windows(zip(windows, (signal[:, ::2] for signal in signals), strict=True)))
    assert [piece.shape[-1] for piece in halved] == [3, 2, 0, 2, 3]


# --- any length, with stand-ins for the networks ---------------------------------------------------------------

RATIO, LEAD = SMALL.downsampling_ratio, SMALL.lead_samples


@pytest.mark.parametrize(("batch", "calls"), [(1, [1] * 8), (3, [2] * 4), (4, [4, 4]), (9, [8])])
def test_encoding_window_by_window(batch: int, calls: list[int]) -> None:
    """150 latents of 2 channels in windows of 70, each latent the first sample under it: four windows."""
    samples = 150 * RATIO - LEAD - 77
    audio = np.random.default_rng(0).uniform(-1, 1, (2, samples)).astype(np.float32)
    sizes: list[tuple[int, ...]] = []
    seen: list[float] = []

    def encode(x: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(x.shape))
        return x[:, :-LEAD].unflatten(1, (-1, RATIO))[:, None, :, 0]

    cut = Windowing(SMALL, 70, batch)
    pieces = list(encode_long(encode, ItemReader(audio, 44_100), cut, seen.append))
    total = SMALL.n_latents(samples)
    padded = np.pad(audio, [(0, 0), (LEAD, total * RATIO)])
    np.testing.assert_allclose(torch.cat(pieces, -1)[:, 0], padded[:, : total * RATIO : RATIO], atol=1e-6)
    assert sizes == [(items, 70 * RATIO + LEAD) for items in calls]
    ends = np.cumsum([piece.shape[-1] for piece in pieces])
    assert seen == pytest.approx([min(end * RATIO, samples) / 44_100 for end in ends])
    assert len(list(encode_long(encode, ItemReader(audio, 44_100), cut))) == len(pieces)
    with pytest.raises(ValueError, match="the model needs 44100 Hz, the reader gives 48000 Hz"):
        next(encode_long(encode, ItemReader(audio, 48_000), cut))


@pytest.mark.parametrize(("batch", "calls"), [(1, [1] * 8), (4, [4, 4])])
def test_decoding_window_by_window(batch: int, calls: list[int]) -> None:
    """The audio of 150 latents of 2 channels, each held for its stretch; noise is asked for by place and step."""
    latents = torch.rand(2, 3, 150, generator=torch.Generator().manual_seed(0))
    sizes: list[int] = []
    places: list[tuple[int, int, int, int]] = []
    seen: list[float] = []

    def noise(item: int, first: int, count: int, step: int) -> torch.Tensor:
        places.append((item, first, count, step))
        return torch.full((1, 2, 1, count), float(item))

    def decode(given: torch.Tensor, noise_of: Callable[[int], torch.Tensor]) -> torch.Tensor:
        sizes.append(len(given))
        assert noise_of(2).shape == (len(given), 2, 1, 70)
        held = given[:, 0].repeat_interleave(RATIO, dim=1)
        return torch.nn.functional.pad(held, (0, LEAD))

    cut = Windowing(SMALL, 70, batch)
    pieces = list(decode_long(decode, lambda a, b: latents[..., a:b], 150, noise, cut, seen.append))
    expected = torch.nn.functional.pad(latents[:, 0].repeat_interleave(RATIO, dim=1), (0, LEAD))
    torch.testing.assert_close(torch.cat(pieces, -1), expected)
    assert sizes == calls
    assert places == [(item, start, 70, 2) for start in (0, 38, 76, 80) for item in (0, 1)]
    ends = np.cumsum([piece.shape[-1] for piece in pieces])
    assert seen == pytest.approx([end / 44_100 for end in ends])


def test_no_more_is_read_than_is_asked_for() -> None:
    """Ten latents' samples and one more, after the padding of three hops in front."""
    audio = np.arange(10 * RATIO + 1, dtype=np.float32)[None]
    reader = ItemReader(audio, 44_100)
    timeline = Timeline(SMALL, reader)
    for asked, there in ((2, 2), (5, 5), (4, 5)):
        assert timeline.known(asked) == asked
        assert (timeline.samples, timeline.ended) == (there * RATIO, False)
    total = SMALL.n_latents(audio.shape[1])
    assert timeline.known(99) == total
    assert (timeline.samples, timeline.ended) == (audio.shape[1], True)
    padded = np.pad(audio[0], (LEAD, 99 * RATIO))
    for start, stop in ((0, 3), (2, total)):
        [found] = timeline.segment(Window(start, stop)).numpy()
        np.testing.assert_array_equal(found, padded[start * RATIO : stop * RATIO + LEAD])
    assert Windowing(SMALL, 70).batch == 1


def test_batches_halve_until_the_device_holds_them() -> None:
    tried: list[tuple[int, int]] = []

    def call(most: int, chosen: slice) -> torch.Tensor:
        tried.append((chosen.start, chosen.stop))
        if chosen.stop - chosen.start > most:
            raise torch.OutOfMemoryError("full")
        return torch.arange(10.0)[chosen][:5]

    found = in_batches(partial(call, 2), 5, 8)
    assert tried == [(0, 8), (0, 4), (0, 2), (2, 4), (4, 6)]
    assert found.tolist() == [0, 1, 2, 3, 4, 5]
    tried.clear()
    with pytest.raises(torch.OutOfMemoryError):
        in_batches(partial(call, 0), 5, 3)
    assert tried == [(0, 3), (0, 1)]


# --- noise ----------------------------------------------------------------------------------------------------


def normals(seed: int, item: int, step: int, latent: int) -> np.ndarray:
    """The stream of one place, (2, n_bins, 8), as NumPy draws it."""
    key = np.random.SeedSequence([seed, item, step, latent])
    return np.random.Generator(np.random.SFC64(key)).standard_normal((2, SMALL.n_bins, 8), dtype=np.float32)


def test_noise_is_that_of_its_place() -> None:
    found = latent_noise(SMALL, seed=3, n_items=2, n_latents=2, first_latent=5, first_item=1, step=4)
    assert found.shape == (2, 2, SMALL.n_bins, 16)
    for item, latent in itertools.product(range(2), range(2)):
        place = found[item, :, :, 8 * latent : 8 * latent + 8]
        np.testing.assert_array_equal(place, normals(3, 1 + item, 4, 5 + latent))
    np.testing.assert_array_equal(latent_noise(SMALL, seed=0, n_items=1, n_latents=1)[0], normals(0, 0, 0, 0))
    np.testing.assert_array_equal(seeded_noise(SMALL, 3)(1, 5, 1, 4), normals(3, 1, 4, 5)[None])
    with pytest.raises(ValueError, match="seed must not be negative, is -1"):
        latent_noise(SMALL, seed=-1, n_items=1, n_latents=1)


def test_the_noise_of_a_decode() -> None:
    """Of a seed, 0 unless given; channels share it two by two; a start of one's own is the noise of step 0 alone."""
    plain, paired = noise_source(SMALL), noise_source(SMALL, seed=7, channels=2)
    np.testing.assert_array_equal(plain(1, 2, 1, 0)[0], normals(0, 1, 0, 2))
    for item in range(4):
        np.testing.assert_array_equal(paired(item, 2, 1, 1)[0], normals(7, item // 2, 1, 2))
    start = torch.arange(3.0).reshape(3, 1, 1, 1) + torch.arange(32.0)
    given_start = noise_source(SMALL, seed=7, start=start, channels=2)
    assert torch.equal(given_start(1, 2, 1, 0), start[1:2, ..., 16:24])
    assert torch.equal(given_start(2, 0, 3, 0), start[2:3, ..., :24])
    np.testing.assert_array_equal(given_start(2, 2, 1, 1)[0], normals(7, 1, 1, 2))


def test_a_generator_gives_the_seed() -> None:
    drawn = noise_source(SMALL, seed=7, generator=torch.Generator().manual_seed(4))
    seed = int(torch.randint(2**63 - 1, (), generator=torch.Generator().manual_seed(4)))
    np.testing.assert_array_equal(drawn(0, 0, 1, 0)[0], normals(seed, 0, 0, 0))


def test_a_start_of_ones_own_is_checked() -> None:
    """Two items of three latents: 24 frames."""
    noise = np.zeros((2, 2, SMALL.n_bins, 24), np.float64)
    noise[0, 0, 0, 0] = 1.5
    found = start_noise(SMALL, noise, 2, 3)
    assert (found.dtype, float(found[0, 0, 0, 0])) == (torch.float32, 1.5)
    for wrong in (noise[:1], noise[:, :1], noise[:, :, 1:], noise[..., :16]):
        with pytest.raises(ValueError, match=r"noise must have shape \(2, 2, 1024, 24\) for these latents, not \("):
            start_noise(SMALL, wrong, 2, 3)
    with pytest.raises(ValueError, match="noise"):
        start_noise(SMALL, np.full(noise.shape, np.nan), 2, 3)
