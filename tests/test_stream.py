"""`model.stream()`: blocks of any size give what the whole gives, at any rate and number of channels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_graphs import TINY, tiny_model

from m2l.audio import AudioError
from m2l.streaming.long import Windowing
from m2l.streaming.stream import Stream

#: Latents per window: the shortest allowed, so that short audio has several.
WINDOW = 65
MODEL = tiny_model()
MODEL.WINDOW_LATENTS = WINDOW  # type: ignore[misc] - of this object alone
RATE = TINY.sample_rate


def audio_of(channels: int, samples: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((channels, samples)).astype(np.float32)


def in_blocks(call: Any, whole: np.ndarray, cuts: list[int]) -> np.ndarray:
    edges = [0, *sorted(cuts), whole.shape[-1]]
    made = [
        call(whole[..., a:b], last=b == edges[-1] and i == len(edges) - 2) for i, (a, b) in enumerate(pairwise(edges))
    ]
    return np.concatenate(made, axis=-1)


@given(st.integers(1, 260), st.lists(st.floats(0, 1), max_size=6), st.integers(1, 2))
@settings(max_examples=6, deadline=None)
def test_blocks_of_any_size_give_the_latents_and_the_audio_of_the_whole(
    n_latents: int, cuts: list[float], channels: int
) -> None:
    audio = audio_of(channels, n_latents * TINY.downsampling_ratio - 77)
    stream = MODEL.stream(channels=channels, seed=3)
    latents = MODEL.encode(audio)
    np.testing.assert_array_equal(in_blocks(stream.encode, audio, [int(x * audio.shape[1]) for x in cuts]), latents)
    wanted = MODEL.decode(latents, seed=3)
    found = in_blocks(stream.decode, latents, [int(x * latents.shape[-1]) for x in cuts])
    np.testing.assert_array_equal(found, wanted)


def copies(cuts: list[int], channels: int = 2) -> Stream:
    """A stream with a network that copies: a latent is the sample that it stands for, and 8 samples are their latent.

    Latents are 8 samples apart, and the padding is 3.
    """
    config = TINY.replace(
        hop_length=1, downsampling=((2, 2), (1, 4)), channel_mults=(1,) * 3, unet_blocks=(1,) * 3,
        autoencoder_blocks=(1,) * 3, attention=(False,) * 3, latent_dim=1,
    )  # fmt: skip
    assert (config.downsampling_ratio, config.lead_samples) == (8, 3)

    def encode(audio: torch.Tensor) -> torch.Tensor:
        return audio[:, None, : audio.shape[1] - 3 : 8]

    def decode(latents: torch.Tensor, noise: Callable[[int], torch.Tensor]) -> torch.Tensor:
        assert noise(0).shape == (len(latents), 1)
        cuts.append(latents.shape[-1])
        return torch.nn.functional.pad(latents[:, 0].repeat_interleave(8, -1), (0, 3))

    return Stream(encode, decode, lambda item, *place: torch.ones(1, 1), Windowing(config, WINDOW), RATE, channels)


def test_blocks_go_through_a_network_that_copies_without_the_padding() -> None:
    """Latent i is sample 8 i - 3, of which there is none in front; three go in front of the audio and three behind."""
    signal = np.arange(1.0, 2 * 1603 + 1, dtype=np.float32).reshape(2, 1603) / 3300
    padded = np.pad(signal, ((0, 0), (3, 0)))
    for edges in ([], [1, 2, 900, 901], [97 * 8, 98 * 8, 131 * 8 - 1]):
        windows: list[int] = []
        stream = copies(windows)
        latents = in_blocks(stream.encode, signal, edges)
        np.testing.assert_allclose(latents[:, 0], padded[:, : 8 * latents.shape[-1] : 8], rtol=1e-6)
        assert latents.shape == (2, 1, stream.config.n_latents(1603))
        audio = in_blocks(stream.decode, latents, [edge // 8 for edge in edges])
        whole = np.repeat(latents[:, 0], 8, axis=1)
        np.testing.assert_allclose(audio, whole[:, 3:], rtol=1e-6)
        assert set(windows) == {WINDOW}


def test_audio_stays_within_full_scale() -> None:
    found = copies([]).decode(np.array([[[1.5, 0.5, 0.25]], [[-1.5, -0.5, 0.25]]], np.float32), last=True)
    assert found[:, ::8].tolist() == [[1.0, 0.5, 0.25], [-1.0, -0.5, 0.25]]


def test_a_window_is_out_as_soon_as_the_one_after_it_is_known() -> None:
    """Windows of 65 share 32: the second ends at 98, and the first then up to the middle of what they share, less 4."""
    stream = copies([], channels=1)
    assert stream.encode(np.zeros((1, 98 * 8 - 1), np.float32)).shape[-1] == 0
    assert stream.encode(np.zeros((1, 1), np.float32)).shape[-1] == 45
    assert stream.decode(np.zeros((1, 1, 97), np.float32)).shape[-1] == 0
    assert stream.decode(np.zeros((1, 1, 1), np.float32)).shape[-1] == 45 * 8 - 3
    # The third ends at 131.
    assert stream.decode(np.zeros((1, 1, 32), np.float32)).shape[-1] == 0
    assert stream.decode(np.zeros((1, 1, 1), np.float32)).shape[-1] == 33 * 8
    with pytest.raises(ValueError, match=r"latents must be \(1, 1, 'l'\), not \(2, 1, 3\)"):
        stream.decode(np.zeros((2, 1, 3), np.float32))


def test_what_comes_out_lags_by_less_than_two_windows() -> None:
    stream, ratio = MODEL.stream(), TINY.downsampling_ratio
    audio = audio_of(1, 300 * ratio)
    out = 0
    for start in range(0, 300 * ratio, 10 * ratio):
        out += stream.encode(audio[:, start : start + 10 * ratio]).shape[-1]
        assert start // ratio + 10 - out <= 2 * WINDOW
    assert out > 150


def test_other_rates_are_resampled_as_in_one_piece() -> None:
    audio = audio_of(2, 3 * RATE // 2)
    stream = MODEL.stream(48000, channels=2)
    latents = in_blocks(stream.encode, audio, [1, 5, 20001, 40000])
    wanted = MODEL.encode(audio, 48000)
    np.testing.assert_allclose(latents, wanted, atol=1e-4)
    found = in_blocks(stream.decode, wanted, [7, 100])
    whole = MODEL.decode(wanted, sample_rate=48000)
    assert found.shape == whole.shape
    np.testing.assert_allclose(found, whole, atol=1e-5)


def test_an_end_starts_anew_after_its_last_block_and_torch_gives_torch() -> None:
    stream = MODEL.stream(seed=1)
    audio = audio_of(1, 5000)[0]
    first = stream.encode(audio, last=True)
    np.testing.assert_array_equal(first, stream.encode(audio, last=True))
    assert isinstance(stream.encode(torch.from_numpy(audio), last=True), torch.Tensor)
    assert stream.encode(np.zeros((1, 0), np.float32)).shape == (1, TINY.latent_dim, 0)
    assert stream.decode(first[..., :0]).shape == (1, 0)


def test_several_steps_are_those_of_decode() -> None:
    latents = MODEL.encode(audio_of(1, 100 * TINY.downsampling_ratio))
    stream = MODEL.stream(n_steps=2, seed=5)
    np.testing.assert_array_equal(in_blocks(stream.decode, latents, [80]), MODEL.decode(latents, n_steps=2, seed=5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.encode(np.zeros((3, 10), np.float32)), r"shape \(3, 10\); this stream has 1 channel"),
        (lambda s: s.encode(np.full((1, 10), np.nan, np.float32)), "finite"),
        (lambda s: s.encode(np.zeros((1, 0), np.float32), last=True), "without any audio"),
    ],
)
def test_wrong_audio_is_named(call: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        call(MODEL.stream())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MODEL.stream(channels=0), "channels must be at least 1, not 0"),
        (lambda: MODEL.stream(window=10).encode(audio_of(1, 9), last=True), "window of 10 latents is too short"),
        (lambda: MODEL.stream().decode(np.zeros((1, 3, 4), np.float32)), r"not \(1, 3, 4\)"),
        (
            lambda: MODEL.stream().decode(np.zeros((1, TINY.latent_dim, 0), np.float32), last=True),
            "without any latents",
        ),
    ],
)
def test_wrong_use_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
