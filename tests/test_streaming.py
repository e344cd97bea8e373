"""Windows: what is joined is the whole, seams are no worse than the rest, and files never sit in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from m2l import Music2Latent, audio_files  # noqa: E402
from m2l.audio import resample  # noqa: E402
from m2l.io.blocks import ItemReader, read_audio, write_audio  # noqa: E402
from m2l.io.latents import read_latents  # noqa: E402
from m2l.io.sound import audio_info  # noqa: E402
from m2l.representation import representation_to_waveform, waveform_to_representation  # noqa: E402
from m2l.streaming.windows import OVERLAP_LATENTS, RAMP_LATENTS, plan_windows  # noqa: E402

RATE = 44_100
HOP = 4096
SHORT = 2 * OVERLAP_LATENTS + 8  # a window of 6.7 s, so that short audio has several


@pytest.fixture(scope="module")
def model() -> Music2Latent:
    """Untrained, with its zero-initialized layers filled: every part of the network has a say in the output."""
    model = Music2Latent.from_config("tiny")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def chord(seconds: float, channels: int = 1) -> np.ndarray:
    """A held chord, 4:5:6 over 50 Hz: every 20 ms alike, so whatever changes was put there by the processing."""
    time = np.arange(round(seconds * RATE)) / RATE
    tones = [np.sin(2 * np.pi * f * n * time + f) / n for f in (200, 250, 300) for n in (1, 2, 3)]
    return np.tile(0.08 * np.sum(tones, axis=0), (channels, 1)).astype(np.float32)


# --- the model in windows -------------------------------------------------------------------------------------


def test_a_network_without_global_statistics_is_unaffected_by_windows(model) -> None:
    def local(representation: torch.Tensor) -> torch.Tensor:
        return representation.mean((1, 2)).unflatten(-1, (-1, 8)).mean(-1)[:, None]

    audio = np.random.default_rng(0).standard_normal((2, 20 * RATE)).astype(np.float32) * 0.1
    lead = model.config.n_fft - model.config.hop_length
    total = model.n_latents(audio.shape[1])
    padded = torch.nn.functional.pad(torch.from_numpy(audio), (lead, total * HOP - audio.shape[1]))
    whole = local(waveform_to_representation(padded, model.config))
    pieces = list(model.encode_blocks(ItemReader(audio, RATE), network=local, window=SHORT))
    assert len(pieces) > 3
    assert torch.allclose(torch.cat(pieces, -1), whole, atol=1e-6)


def test_one_window_is_the_model_itself(model) -> None:
    audio = chord(1.0, channels=2)
    streamed = torch.cat(list(model.encode_blocks(ItemReader(audio, RATE))), -1)
    assert np.array_equal(streamed.numpy(), model.encode(audio, RATE))
    pieces = model.decode_blocks(lambda a, b: streamed[..., a:b], streamed.shape[-1], n_steps=2, seed=4)
    lead = model.config.n_fft - model.config.hop_length
    decoded = torch.cat(list(pieces), -1)[:, lead : lead + audio.shape[1]]
    assert np.array_equal(decoded.numpy(), model.decode(streamed.numpy(), audio.shape[1], n_steps=2, seed=4))


def test_long_arrays_and_files_take_the_same_way(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Music2Latent, "WINDOW_LATENTS", SHORT)
    audio = resample(chord(6.8), RATE, 48_000)
    write_audio(tmp_path / "a.wav", audio, 48_000)
    info = audio_files.encode_file(model, tmp_path / "a.wav", tmp_path / "a.safetensors")
    latents, read_back = read_latents(tmp_path / "a.safetensors")
    assert read_back == info
    assert (info.sample_rate, info.channels, info.samples) == (48_000, 1, audio.shape[1])
    assert info.digest == model.digest()
    assert np.array_equal(latents, model.encode(audio, 48_000))

    audio_files.decode_file(model, tmp_path / "a.safetensors", tmp_path / "b.wav", seed=5)
    decoded, rate = read_audio(tmp_path / "b.wav")
    assert rate == 48_000
    assert np.abs(decoded - model.decode(latents, audio.shape[1], sample_rate=48_000, seed=5)).max() < 1e-5
    shape = audio_files.reconstruct_file(model, tmp_path / "a.wav", tmp_path / "c.wav", seed=5)
    assert shape == (48_000, 1, audio.shape[1])
    assert np.array_equal(read_audio(tmp_path / "c.wav")[0], decoded)


def test_windows_in_a_batch_give_what_they_give_alone(model, monkeypatch) -> None:
    audio = chord(10.0)

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        latents = torch.cat(list(model.encode_blocks(ItemReader(audio, RATE), window=SHORT)), -1)
        pieces = model.decode_blocks(lambda a, b: latents[..., a:b], 74, window=SHORT)
        return latents, torch.cat(list(pieces), -1)

    alone = both()
    monkeypatch.setattr(Music2Latent, "batch_items", 5)
    together = both()
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


def test_batches_shrink_until_they_fit_the_device(model, monkeypatch) -> None:
    sizes: list[int] = []

    def cramped(representation: torch.Tensor) -> torch.Tensor:
        sizes.append(len(representation))
        if len(representation) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return representation.mean((1, 2)).unflatten(-1, (-1, 8)).mean(-1)[:, None]

    monkeypatch.setattr(Music2Latent, "batch_items", 8)
    audio = 0.1 * np.random.default_rng(0).standard_normal((6, RATE)).astype(np.float32)
    roomy = torch.cat([cramped(waveform_to_representation(_padded(model, row), model.config)) for row in audio])
    sizes.clear()
    pieces = torch.cat(list(model.encode_blocks(ItemReader(audio, RATE), network=cramped)), -1)
    assert sizes == [6, 4, 2, 2, 2]
    assert torch.allclose(pieces, roomy, atol=1e-6)


def _padded(model: Music2Latent, row: np.ndarray) -> torch.Tensor:
    lead = model.config.n_fft - model.config.hop_length
    total = model.n_latents(len(row))
    return torch.nn.functional.pad(torch.from_numpy(row), (lead, total * HOP - len(row)))[None]


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
@pytest.mark.parametrize("samples", [1, 400, 9_001])
def test_reconstructed_files_have_the_exact_length(model, tmp_path, rate: int, samples: int) -> None:
    write_audio(tmp_path / "a.wav", np.full((3, samples), 0.1, np.float32), rate)
    audio_files.reconstruct_file(model, tmp_path / "a.wav", tmp_path / "b.flac")
    info = audio_info(tmp_path / "b.flac")
    assert (info.frames, info.channels, info.sample_rate) == (samples, 3, rate)


def test_progress_ends_at_the_length_of_the_audio(model) -> None:
    seen: list[float] = []
    list(model.encode_blocks(ItemReader(chord(15.0), RATE), window=SHORT, progress=seen.append))
    assert len(seen) >= 3
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(15.0, abs=1e-3)


def test_a_reader_at_another_rate_is_refused(model) -> None:
    with pytest.raises(ValueError, match="48000"):
        next(model.encode_blocks(ItemReader(chord(1.0), 48_000)))


# --- seams ----------------------------------------------------------------------------------------------------


def seams(total: int, size: int) -> list[int]:
    """Sample positions of the middles of the cross-fades."""
    windows = plan_windows(lambda n: min(n, total), size)
    return [sum(window.fade_out) // 2 * HOP for window in windows if window.fade_out]


def level_steps(signal: np.ndarray, width: int) -> np.ndarray:
    """|change| of the level in dB from each stretch of `width` samples to the next."""
    frames = signal[: len(signal) // width * width].reshape(-1, width)
    return np.abs(np.diff(10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)))


def near(positions: list[int], count: int, width: int, reach: int) -> np.ndarray:
    """Which of `count` stretches of `width` samples lie within `reach` samples of a position."""
    centers = (np.arange(count) + 1) * width
    return np.min(np.abs(centers[:, None] - np.array(positions)[None]), axis=1) <= reach


def test_windows_of_different_level_join_without_step_or_jump(model, monkeypatch) -> None:
    """A decoder that plays the chord back perfectly, but for a level that differs by 1.6 dB between windows."""
    audio = chord(16.0)[0]
    config = model.config
    total = model.n_latents(len(audio))
    lead = config.n_fft - config.hop_length
    padded = torch.nn.functional.pad(torch.from_numpy(audio), (lead, total * HOP - len(audio)))
    starts = [window.start for window in plan_windows(lambda n: min(n, total), SHORT)]

    def played_back(latents, noise, *, n_steps, renoise):
        start = int(latents[0, 0, 0])
        piece = padded[None, start * HOP : (start + latents.shape[-1]) * HOP + lead]
        gain = 1.0 if starts.index(start) % 2 else 1.2**config.alpha
        return waveform_to_representation(piece, config) * gain

    monkeypatch.setattr(model, "decode_representation", played_back)
    positions = torch.arange(total, dtype=torch.float32).expand(1, config.latent_dim, total)
    joined = torch.cat(list(model.decode_blocks(lambda a, b: positions[..., a:b], total, window=SHORT)), -1)[0].numpy()
    middle = slice(2 * HOP, -2 * HOP)  # the chord's own on- and offset
    seam = [position - 2 * HOP for position in seams(total, SHORT)]
    joined = joined[middle]

    # No click: the steepest slope at a seam is that of the loudest window's own chord.
    slope = np.abs(np.diff(joined))
    at_seam = near(seam, len(slope), 1, RAMP_LATENTS * HOP // 2)
    assert slope[at_seam].max() <= slope[~at_seam].max() * 1.001

    # No jump: spread over 0.74 s, 1.6 dB come in steps that ears cannot notice (half a decibel at best).
    width = RATE // 50
    assert level_steps(audio, width).max() < 0.01
    assert level_steps(joined, width).max() < 0.15
    hard = np.concatenate([joined[: seam[0]], joined[seam[0] :] * 1.2])
    assert level_steps(hard, width).max() > 0.7  # the measure sees a cut


def test_seams_of_the_model_are_no_worse_than_the_rest(model) -> None:
    """Held chord, decoded in windows and undivided: their levels part by no more at a seam than elsewhere."""
    tensor = torch.from_numpy(model.encode(chord(16.0), RATE))
    total = tensor.shape[-1]
    whole = model.decode(tensor, seed=0)[0].numpy()
    lead = model.config.n_fft - model.config.hop_length
    pieces = model.decode_blocks(lambda a, b: tensor[..., a:b], total, window=SHORT)
    joined = torch.cat(list(pieces), -1)[0, lead : lead + len(whole)].numpy()
    positions = [position - lead for position in seams(total, SHORT)]
    assert len(positions) >= 3
    width = RATE // 10

    def drift(signal: np.ndarray) -> np.ndarray:
        """|change| from one 100 ms to the next of the level against the undivided decode, in dB."""
        size = min(len(signal), len(whole)) // width * width
        ratio = (signal[:size] ** 2).reshape(-1, width).mean(1) / (whole[:size] ** 2).reshape(-1, width).mean(1)
        return np.abs(np.diff(10 * np.log10(ratio)))

    steps = drift(joined)
    at_seam = near(positions, len(steps), width, RAMP_LATENTS * HOP // 2)
    assert steps[at_seam].max() < 0.1
    assert steps[at_seam].max() <= 1.5 * steps[~at_seam].max()

    slope = np.abs(np.diff(joined))
    at_seam = near(positions, len(slope), 1, RAMP_LATENTS * HOP // 2)
    assert slope[at_seam].max() <= 1.1 * slope[~at_seam].max()

    # The naive way, neighbors without overlap and with noise of their own, fails the same measure.
    starts = range(0, total, SHORT)
    naive = [model.decode(tensor[..., s : s + SHORT], seed=n)[0].numpy() for n, s in enumerate(starts)]
    assert drift(np.concatenate(naive)).max() > 0.5


def test_round_trip_of_the_transform_alone_survives_the_windows(model, monkeypatch) -> None:
    """With an STFT for a network, windows give back the audio itself."""
    audio = chord(15.0)
    config = model.config
    total = model.n_latents(audio.shape[1])
    lead = config.n_fft - config.hop_length
    padded = torch.nn.functional.pad(torch.from_numpy(audio), (lead, total * HOP - audio.shape[1]))

    def exact(latents, noise, *, n_steps, renoise):
        start = int(latents[0, 0, 0])
        piece = padded[:, start * HOP : (start + latents.shape[-1]) * HOP + lead]
        return waveform_to_representation(piece, config)

    monkeypatch.setattr(model, "decode_representation", exact)
    positions = torch.arange(total, dtype=torch.float32).expand(1, config.latent_dim, total)
    pieces = model.decode_blocks(lambda a, b: positions[..., a:b], total, window=SHORT)
    joined = torch.cat(list(pieces), -1).numpy()[:, lead : lead + audio.shape[1]]
    plain = representation_to_waveform(waveform_to_representation(padded, config), config).numpy()
    assert np.abs(joined - plain[:, lead : lead + audio.shape[1]]).max() < 1e-5
    assert np.abs(joined - audio).max() < 5e-4  # the Nyquist bin of the onset


# --- memory ---------------------------------------------------------------------------------------------------

_MEASURE = textwrap.dedent(
    """
    import json, resource, sys
    import torch
    torch.set_num_threads(int(sys.argv[5]))
    from m2l import Music2Latent
    from m2l import audio_files
    model = Music2Latent.from_config(sys.argv[1])
    source, latents, target = sys.argv[2:5]
    audio_files.encode_file(model, source, latents)
    audio_files.decode_file(model, latents, target)
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    """
)


def peak_megabytes(preset: str, seconds: int, folder, threads: int = 2) -> float:
    """Peak resident memory of a process that encodes and decodes `seconds` of stereo, file to file."""
    source = folder / f"{seconds}.wav"
    from m2l.io.blocks import audio_writer

    block = (0.1 * np.random.default_rng(0).standard_normal((2, RATE))).astype(np.float32)
    with audio_writer(source, RATE, 2, subtype="PCM_16") as writer:
        for _ in range(seconds):
            writer.write(block)
    paths = [str(source), str(folder / "l.safetensors"), str(folder / "out.wav")]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, preset, *paths, str(threads)], capture_output=True, text=True, check=True
    )
    assert audio_info(folder / "out.wav").frames == seconds * RATE
    for path in paths:
        os.unlink(path)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_an_hour_of_stereo_takes_no_more_memory_than_a_minute(tmp_path) -> None:
    """M2L_MEMORY_PRESET=mini measures the figure of the README; M2L_MEMORY_SECONDS shortens it."""
    preset = os.environ.get("M2L_MEMORY_PRESET", "tiny")
    seconds = int(os.environ.get("M2L_MEMORY_SECONDS", "3600"))
    minute = peak_megabytes(preset, 60, tmp_path)
    long = peak_megabytes(preset, seconds, tmp_path)
    print(f"{preset}: 60 s {minute:.0f} MB, {seconds} s {long:.0f} MB")
    assert long - minute < 200
