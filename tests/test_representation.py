"""The amplitude-compressed spectrogram and its inverse, against NumPy's transforms written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from m2l import create_config
from m2l.representation import (
    n_frames,
    n_samples,
    overlap_add,
    representation_to_waveform,
    synthesis_window,
    waveform_to_representation,
    window,
)

PAPER = create_config("paper")  # beta 0.34, alpha 0.65, windows of 2048 every 512


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(shape)


def compressed(audio: np.ndarray) -> np.ndarray:
    """Eq. 5 of each frame: (channels, n_bins, T) complex, in float64."""
    transform = ShortTimeFFT(hann(2048, sym=False), 512, fs=1.0, phase_shift=None)
    frames = (audio.shape[-1] - 2048) // 512 + 1
    spectrum = transform.stft(audio, p0=2, p1=2 + frames)[..., :1024, :]  # slice 2 is centered on sample 1024
    return 0.34 * np.abs(spectrum) ** 0.65 * np.exp(1j * np.angle(spectrum))


@pytest.mark.parametrize("extra", [0, 511])
def test_the_representation_is_eq_5_on_scipys_stft(extra: int) -> None:
    audio = noise(3, 2, 2048 + 4 * 512 + extra)
    found = waveform_to_representation(torch.from_numpy(audio), PAPER)
    expected = compressed(audio)
    assert found.dtype == torch.float32
    assert found.shape == (3, 2, 2, 1024, 5)
    assert found.is_contiguous()
    np.testing.assert_allclose(found[:, :, 0], expected.real, atol=2e-5)
    np.testing.assert_allclose(found[:, :, 1], expected.imag, atol=2e-5)


def test_the_waveform_is_the_weighted_overlap_of_numpys_frames() -> None:
    """|c| = (|r| / beta)^(1 / alpha), no energy at Nyquist; frames times w / sum w^2, where four overlap 3 / 2."""
    rng = np.random.default_rng(0)
    parts = 0.3 * rng.standard_normal((2, 1024, 6))
    value = parts[0] + 1j * parts[1]
    spectrum = (np.abs(value) / 0.34) ** (1 / 0.65) * np.exp(1j * np.angle(value))
    frames = np.fft.irfft(np.concatenate([spectrum, np.zeros((1, 6))]), axis=0).T * hann(2048, sym=False) / 1.5
    expected = np.zeros(2048 + 5 * 512)
    for index, frame in enumerate(frames):
        expected[index * 512 : index * 512 + 2048] += frame
    found = representation_to_waveform(torch.from_numpy(parts)[None], PAPER)
    assert found.dtype == torch.float32
    assert found.shape == (1, len(expected))
    assert np.abs(expected).max() < 1
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    loud = representation_to_waveform(20 * torch.from_numpy(parts)[None], PAPER)  # 100 times the level
    np.testing.assert_allclose(loud[0], np.clip(20 ** (1 / 0.65) * expected, -1, 1), atol=1e-4)
    assert (float(loud.min()), float(loud.max())) == (-1.0, 1.0)


@pytest.mark.parametrize("level", [1.0, 1e-6, 1e-12])
def test_the_inverse_inverts_at_any_level(level: float) -> None:
    time = np.arange(2048 + 7 * 512)
    audio = level * 0.5 * np.sin(0.05 * time)
    x = torch.from_numpy(audio)
    back = representation_to_waveform(waveform_to_representation(x, PAPER), PAPER)
    np.testing.assert_allclose(back[1536:-1536], audio[1536:-1536], atol=1e-4 * level)


def test_exact_zeros_stay_zero_and_have_a_finite_gradient() -> None:
    silent = torch.zeros(1, 4096, requires_grad=True)
    spectrum = waveform_to_representation(silent, PAPER)
    assert not bool(spectrum.any())
    flat = torch.zeros(1, 2, 1024, 4, requires_grad=True)
    audio = representation_to_waveform(flat, PAPER)
    assert not bool(audio.any())
    (spectrum.sum() + audio.sum()).backward()
    assert silent.grad is not None
    assert flat.grad is not None
    assert bool(silent.grad.isfinite().all())
    assert bool(flat.grad.isfinite().all())


def test_kept_windows_serve_inference_and_training() -> None:
    """What the first call keeps may have been made in inference mode; the next one's gradients go through it."""
    window.cache_clear()
    synthesis_window.cache_clear()
    audio = torch.from_numpy(noise(1, 4096))
    with torch.inference_mode():
        representation_to_waveform(waveform_to_representation(audio, PAPER), PAPER)
    scale = torch.ones((), requires_grad=True)
    energy = representation_to_waveform(waveform_to_representation(scale * audio, PAPER), PAPER).square().sum()
    energy.backward()
    assert scale.grad is not None
    assert float(scale.grad) == pytest.approx(
        2 * float(energy.detach()), rel=1e-4
    )  # the energy goes with the square of a scale


def test_numbers_of_frames_and_samples() -> None:
    assert [n_frames(n, PAPER) for n in (0, 100, 2047, 2048, 2559, 2560, 34_303, 34_304)] == [0, 0, 0, 1, 1, 2, 63, 64]
    assert [n_samples(n, PAPER) for n in (1, 2, 64)] == [2048, 2560, 34_304]


def test_one_window_is_the_shortest_audio() -> None:
    assert waveform_to_representation(torch.zeros(2048), PAPER).shape == (2, 1024, 1)
    with pytest.raises(ValueError, match=r"waveform of 2047 samples is shorter than one window \(2048\)"):
        waveform_to_representation(torch.zeros(2, 3, 2047), PAPER)


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.integers(1, 2))
def test_overlap_add_by_the_sample(count: int, segments: int, hop: int, channels: int) -> None:
    frames = np.random.default_rng(0).integers(0, 9, (channels, count, segments * hop)).astype(np.float32)
    expected = np.zeros((channels, hop * (count - 1) + segments * hop), np.float32)
    for channel, row in enumerate(frames):
        for index, frame in enumerate(row):
            for offset, value in enumerate(frame):
                expected[channel, index * hop + offset] += value
    np.testing.assert_array_equal(overlap_add(torch.from_numpy(frames), hop), expected)
