"""Audio arrays and files: one convention in, everything else scaled exactly or refused by name."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from m2l.audio import AudioError, as_channels_first, fit_length, resample, resampled_length
from m2l.io.atomic import write_atomic, written_beside
from m2l.io.blocks import AudioReader, PushReader, audio_writer, read_audio, write_audio
from m2l.io.sound import FORMATS, audio_info, output_format

RATE = 44_100


def noise(channels: int, samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((channels, samples))).astype(np.float32)


def sine(frequency: float, rate: int, seconds: float) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)[None]


def read_all(reader, size: int) -> np.ndarray:
    blocks = []
    while (block := reader.read(size)).shape[1]:
        blocks.append(block)
    return np.concatenate(blocks, axis=1)


# --- arrays -------------------------------------------------------------------------------------------------


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=12),
        elements=st.floats(-1, 1, width=32),
    )
)
def test_floats_keep_their_values_and_gain_only_a_channel_axis(array: np.ndarray) -> None:
    out = as_channels_first(array)
    assert out.dtype == np.float32
    assert out.shape == (array.shape if array.ndim > 1 else (1, *array.shape))
    assert np.array_equal(out.ravel(), array.ravel())


@pytest.mark.parametrize(
    ("dtype", "low", "zero", "high"),
    [
        ("int16", -(2**15), 0, 2**15 - 1),
        ("int32", -(2**31), 0, 2**31 - 1),
        ("int8", -128, 0, 127),
        ("uint8", 0, 128, 255),
    ],
)
def test_integer_samples_are_scaled_to_full_scale(dtype: str, low: int, zero: int, high: int) -> None:
    out = as_channels_first(np.array([low, zero, high], dtype))
    assert out[0, 0] == -1.0
    assert out[0, 1] == 0.0
    assert 0.99 < out[0, 2] <= 1.0


def test_int16_agrees_with_what_a_file_of_the_same_samples_reads_as(tmp_path) -> None:
    samples = np.random.default_rng(1).integers(-(2**15), 2**15, 1000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="PCM_16")
    assert np.array_equal(read_audio(tmp_path / "a.wav")[0], as_channels_first(samples))


def test_torch_tensors_of_any_float_kind_are_taken() -> None:
    torch = pytest.importorskip("torch")
    values = torch.linspace(-1, 1, 9)
    for tensor in (values, values.double(), values.bfloat16(), values.half(), values.clone().requires_grad_()):
        out = as_channels_first(tensor)
        assert out.dtype == np.float32
        assert np.allclose(out[0], values.numpy(), atol=0.01)
    assert as_channels_first((values * 32767).short()).max() <= 1.0


def test_channels_last_is_refused_with_the_remedy() -> None:
    with pytest.raises(AudioError, match=r"\(44100, 2\).*transpose"):
        as_channels_first(np.zeros((44_100, 2), np.float32))
    assert as_channels_first(np.zeros((32, 8), np.float32)).shape == (32, 8)  # 32 channels of 8 samples may be


def test_the_first_bad_sample_is_named() -> None:
    audio = np.zeros((2, 100), np.float32)
    audio[1, 42] = np.nan
    audio[1, 50] = np.inf
    with pytest.raises(AudioError, match=r"2 non-finite values, the first \(nan\) at channel 1, sample 42"):
        as_channels_first(audio)


def test_integers_stored_as_floats_are_recognized() -> None:
    with pytest.raises(AudioError, match="12345"):
        as_channels_first(np.array([0.0, 12_345.0]))
    assert as_channels_first(np.array([0.0, 1.7])).max() == np.float32(1.7)  # overshoot is not


# --- resampling -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 5000),
    st.sampled_from([8000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000]),
    st.sampled_from([8000, 44_100, 48_000]),
)
def test_resampled_length_is_what_it_says_and_goes_back(samples: int, rate: int, other: int) -> None:
    out = resample(noise(2, samples), rate, other)
    assert out.shape == (2, resampled_length(samples, rate, other))
    assert abs(out.shape[1] - samples * other / rate) <= max(0.5, 1 - samples * other / rate)


@pytest.mark.parametrize(("rate", "other"), [(8000, 44_100), (48_000, 44_100), (44_100, 22_050), (192_000, 44_100)])
def test_resampling_keeps_a_tone(rate: int, other: int) -> None:
    out, expected = resample(sine(440, rate, 0.5), rate, other), sine(440, other, 0.5)
    middle = slice(other // 10, -other // 10)
    assert np.abs(out - expected)[:, middle].max() < 2e-3


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 70_000), st.lists(st.integers(1, 20_000), min_size=1, max_size=5))
def test_resampling_does_not_depend_on_the_blocks(samples: int, sizes: list[int]) -> None:
    audio, reader = noise(2, samples), PushReader(48_000, RATE, 2)
    blocks, start = [], 0
    while start < samples:
        size = sizes[len(blocks) % len(sizes)]
        reader.push(audio[:, start : start + size], last=start + size >= samples)
        blocks.append(reader.read(min(reader.available, size)))
        start += size
    blocks.append(reader.read(reader.available))
    assert np.array_equal(np.concatenate(blocks, axis=1), resample(audio, 48_000, RATE))
    assert reader.source_samples == samples


# --- files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_every_format_keeps_rate_channels_and_length(tmp_path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    audio = 0.5 * np.concatenate([sine(440, 48_000, 0.5), sine(660, 48_000, 0.5)])
    write_audio(path, audio, 48_000)
    back, rate = read_audio(path)
    assert rate == 48_000
    assert back.shape == audio.shape
    error = np.abs(back - audio)[:, 4_000:-4_000].max()  # Opus is a poor friend of abrupt edges
    lossy = FORMATS[suffix][1] in ("VORBIS", "OPUS", "MPEG_LAYER_III")
    assert error < (0.1 if lossy else 2e-7)
    info = audio_info(path)
    assert (info.sample_rate, info.channels, info.frames) == (48_000, 2, 24_000)
    assert info.duration == 0.5


def test_a_minute_of_stereo_vorbis_is_written_in_blocks(tmp_path) -> None:
    write_audio(tmp_path / "a.ogg", np.zeros((2, 60 * RATE), np.float32), RATE)
    assert audio_info(tmp_path / "a.ogg").frames == 60 * RATE


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 9_999), st.integers(-1, 12_000))
def test_a_part_of_a_file_is_that_slice(tmp_path_factory, start: int, frames: int) -> None:
    path = tmp_path_factory.getbasetemp() / "part.wav"
    audio = noise(2, 10_000)
    if not path.exists():
        write_audio(path, audio, RATE)
    part, _ = read_audio(path, start, frames)
    assert np.array_equal(part, audio[:, start:] if frames < 0 else audio[:, start : start + frames])


@settings(deadline=None, max_examples=10)
@given(st.integers(1000, 200_000))
def test_reader_blocks_join_to_the_file(tmp_path_factory, size: int) -> None:
    path = tmp_path_factory.getbasetemp() / "blocks.flac"
    audio = noise(2, 150_000)
    if not path.exists():
        write_audio(path, audio, RATE, subtype="PCM_16")
    with AudioReader(path) as reader:
        assert reader.expected_samples == 150_000
        joined = read_all(reader, size)
    assert np.array_equal(joined, read_audio(path)[0])
    assert reader.source_samples == 150_000


def test_writer_resamples_to_an_exact_length(tmp_path) -> None:
    for frames in (1, 999, 22_050, 30_000):
        with audio_writer(tmp_path / "a.wav", 22_050, 1, frames=frames, source_rate=RATE) as writer:
            for _ in range(10):
                writer.write(noise(1, 4410))
        assert audio_info(tmp_path / "a.wav").frames == frames


def test_integer_formats_clip_and_do_not_wrap(tmp_path) -> None:
    write_audio(tmp_path / "a.wav", np.array([[1.5, -1.5]], np.float32), RATE, subtype="PCM_16")
    back, _ = read_audio(tmp_path / "a.wav")
    assert back[0, 0] > 0.99
    assert back[0, 1] == -1.0


def test_wav_beyond_its_own_counter_becomes_rf64() -> None:
    assert output_format("a.wav", None, 3e9)[0] == "WAV"
    assert output_format("a.wav", None, 5e9)[0] == "RF64"


@pytest.mark.parametrize("size", [0xFFFFFFFF, 2**31])
def test_wav_streamed_to_a_pipe_has_no_length_and_reads_silently(tmp_path, caplog, size: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1, 1000).T, RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", size)
    path.write_bytes(content)
    assert read_audio(path)[0].shape == (1, 1000)
    assert not caplog.records


def test_fit_length_cuts_and_pads() -> None:
    assert fit_length(np.ones((2, 5)), 3).shape == (2, 3)
    assert np.array_equal(fit_length(np.ones(2), 4), [1, 1, 0, 0])


# --- whole or absent ------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path) -> None:
    target = tmp_path / "a.wav"
    write_audio(target, noise(1, 100), RATE)
    before = target.read_bytes()

    def interrupted() -> None:
        with audio_writer(target, RATE, 1) as writer:
            writer.write(noise(1, 5000))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.wav"]


def test_leftovers_of_killed_processes_are_removed_by_the_next_write(tmp_path) -> None:
    killed = (
        "import os, sys; from m2l.io.atomic import written_beside\n"
        "with written_beside(sys.argv[1]) as partial: partial.write_bytes(b'half'); os.kill(os.getpid(), 9)"
    )
    for name in ("a.bin", "b.bin"):
        subprocess.run([sys.executable, "-c", killed, str(tmp_path / name)], check=False)
        (half,) = os.listdir(tmp_path)  # the second removes what the first left
    with written_beside(tmp_path / "c.bin") as partial:
        partial.write_bytes(b"x")
        pid, start, number = partial.stem.split("-")[2:]
        reused = tmp_path / partial.name.replace(f"-{start}-", f"-{int(start) - 1}-")
        reused.write_bytes(b"of a process that had this one's id before")
        foreign = tmp_path / f".m2l-00000000-{pid}-{start}-{number}.part"
        foreign.write_bytes(b"of another machine")
        write_atomic(tmp_path / "a.bin", b"whole")
        assert sorted(os.listdir(tmp_path)) == sorted([foreign.name, "a.bin", partial.name])
    assert half not in os.listdir(tmp_path)
    assert (tmp_path / "c.bin").read_bytes() == b"x"


def test_a_symlink_is_followed_and_kept(tmp_path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.wav"
    link.symlink_to(tmp_path / "real" / "b.wav")
    write_audio(link, noise(1, 100), RATE)
    assert link.is_symlink()
    assert audio_info(tmp_path / "real" / "b.wav").frames == 100
