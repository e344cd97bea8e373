"""Files of several streams, of unknown length, and cut short: read to their end, or refused by name."""

from __future__ import annotations

import io
import json
import logging
import os
import random
import struct
import time
import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from m2l.audio import AudioError
from m2l.cli.main import main
from m2l.io import containers
from m2l.io.blocks import read_audio
from m2l.io.sound import audio_info

RATE = 48_000
#: suffix -> libsndfile's options of a writer
KINDS = {
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "rf64": {"format": "RF64", "subtype": "PCM_16"},
    "w64": {"format": "W64", "subtype": "PCM_16"},
    "aiff": {"format": "AIFF", "subtype": "PCM_16"},
    "au": {"format": "AU", "subtype": "PCM_16"},
    "caf": {"format": "CAF", "subtype": "PCM_16"},
    "flac": {"format": "FLAC"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3", "bitrate_mode": "VARIABLE"},
}
STREAMS = ("flac", "ogg", "opus", "mp3")
ID3V1 = b"TAG" + bytes(125)
ID3V2 = b"ID3\x03\0\0\0\0\x02\x00" + bytes(256)


@cache
def made(kind: str, seconds: float = 1.0, seed: int = 0, rate: int = RATE, channels: int = 1) -> bytes:
    """A file of quiet noise, a sum of slow and fast parts so that lossy frames differ in size."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * rate)
    swell = np.linspace(0.01, 0.2, samples)[:, None]
    audio = (swell * rng.standard_normal((samples, channels))).astype(np.float32)
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate, channels, **KINDS[kind]) as file:
        for start in range(0, samples, 16_384):
            file.write(audio[start : start + 16_384])
    return out.getvalue()


def without_count(mp3: bytes) -> bytes:
    """An MP3 without the frame that counts the others."""
    second = mp3.index(mp3[:2], 4)
    assert b"Xing" in mp3[:second] or b"Info" in mp3[:second]
    return mp3[second:]


def flac_claiming(content: bytes, samples: int) -> bytes:
    """A FLAC file with another number of samples in its header; 0 is "unknown"."""
    high = content[21] & 0xF0 | samples >> 32
    return content[:21] + bytes([high]) + struct.pack(">I", samples & 0xFFFFFFFF) + content[26:]


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def read(folder: Path, name: str, content: bytes, **options: object) -> np.ndarray:
    """The samples of a file of this content, which its information agrees with."""
    path = put(folder, name, content)
    audio, _ = read_audio(path, **options)
    assert audio_info(path, **options).frames in (audio.shape[1], None)
    return audio


# --- joined streams ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("seconds", [(1.0, 0.6), (0.6, 1.0), (1.0, 1.0), (0.3, 0.3, 0.3)], ids=str)
def test_joined_streams_are_read_to_their_end(tmp_path, kind: str, seconds: tuple[float, ...]) -> None:
    parts = [made(kind, length, seed) for seed, length in enumerate(seconds)]
    alone = [read(tmp_path, f"one.{kind}", part) for part in parts]
    path = put(tmp_path, f"joined.{kind}", b"".join(parts))
    whole = np.concatenate(alone, axis=1)
    audio, rate = read_audio(path)
    assert rate == RATE
    assert np.array_equal(audio, whole)
    assert audio_info(path).frames == whole.shape[1]
    # From and to anywhere, in each of the parts and over their seams.
    for start in (0, alone[0].shape[1] - 100, alone[0].shape[1], whole.shape[1] - 5_000):
        assert read_audio(path, start, 4_000)[0].shape == (1, 4_000)
        if kind != "mp3":  # where decoding begins changes the first samples of an MP3's excerpt
            np.testing.assert_allclose(read_audio(path, start, 4_000)[0], whole[:, start : start + 4_000], atol=1e-3)


@pytest.mark.parametrize("kind", STREAMS)
def test_the_same_file_twice_is_twice_as_long(tmp_path, kind: str) -> None:
    content = made(kind)
    once = read(tmp_path, f"a.{kind}", content).shape[1]
    assert read(tmp_path, f"aa.{kind}", 2 * content).shape[1] == 2 * once


def test_a_large_flac_is_known_to_be_one_stream_or_several(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("m2l.io.container_streams._SCAN_BYTES", 1)
    content = made("flac", 12.0, channels=2)
    assert len(content) > 2**20
    sizes = []
    at = containers.Source.at
    monkeypatch.setattr(
        containers.Source, "at", lambda self, position, count: sizes.append(count) or at(self, position, count)
    )
    assert len(containers.examine(put(tmp_path, "one.flac", content)).parts) == 1
    assert max(sizes) < 2**18
    for joined in (2 * content, content + made("flac", 0.2, channels=2), made("flac", 0.2, channels=2) + content):
        assert len(containers.examine(put(tmp_path, "two.flac", joined)).parts) == 2


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("other", [{"rate": 24_000}, {"channels": 2}], ids=str)
def test_joined_streams_of_different_kinds_are_refused(tmp_path, kind: str, other: dict) -> None:
    path = put(tmp_path, f"a.{kind}", made(kind, 0.5) + made(kind, 0.5, **other))
    if (kind, other) == ("opus", {"rate": 24_000}):  # always decoded at 48 kHz
        pytest.skip("the decoder makes them one kind")
    with pytest.raises(AudioError, match=r"a\.\w+ joins streams of different kinds: .*Hz with . channels and"):
        read_audio(path)


@pytest.mark.parametrize("kind", ["rf64", "w64", "au", "caf", "wav", "aiff"])
def test_a_file_joined_to_one_that_cannot_continue_is_not_left_unread(tmp_path, kind: str) -> None:
    with pytest.raises(AudioError, match=r"is followed by a second file|is not readable audio"):
        read_audio(put(tmp_path, f"a.{kind}", made(kind) + made(kind, 0.5)))


def test_mp3_streams_with_tags_between_them_and_without_counts(tmp_path) -> None:
    first, second = made("mp3", 1.0), made("mp3", 0.6, 1)
    for joined in (first + ID3V1 + ID3V2 + second, ID3V2 + first + second + ID3V1, first + bytes(2_000) + second):
        assert read(tmp_path, "a.mp3", joined).shape[1] == round(1.6 * RATE)
    # What frames hold beyond the sound is only known where they are counted: two frames a stream, at most.
    for joined in (
        without_count(first) + without_count(second),
        without_count(first) + second,
        first + without_count(second),
        without_count(first) + ID3V1 + ID3V2 + without_count(second),
        without_count(first) + bytes(5_000) + without_count(second),
    ):
        assert 0 <= read(tmp_path, "a.mp3", joined).shape[1] - 1.6 * RATE < 4 * 1152


# --- unknown lengths --------------------------------------------------------------------------------------------------


def test_flac_of_unknown_length(tmp_path, capsys) -> None:
    content = made("flac", 2.0)
    whole = read(tmp_path, "a.flac", content)
    streamed = flac_claiming(content, 0)
    assert np.array_equal(read(tmp_path, "b.flac", streamed), whole)
    assert np.array_equal(read(tmp_path, "b.flac", streamed + ID3V1), whole)
    assert np.array_equal(read_audio(tmp_path / "b.flac", 50_000, 10_000)[0], whole[:, 50_000:60_000])
    assert main(["info", str(tmp_path / "b.flac")]) == 0
    assert "frames       96000" in capsys.readouterr().out
    assert read(tmp_path, "c.flac", streamed + content).shape == (1, 4 * RATE)
    with pytest.raises(AudioError, match="ends inside a frame, after"):
        read_audio(put(tmp_path, "d.flac", streamed[:-1_000]))


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 2**31, 0x7FFFF000])
@pytest.mark.parametrize("riff", [0, 0xFFFFFFFF])
def test_wav_written_to_a_pipe(tmp_path, caplog, size: int, riff: int) -> None:
    content = bytearray(made("wav", 0.1))
    content[4:8], content[40:44] = struct.pack("<I", riff), struct.pack("<I", size)
    assert read(tmp_path, "a.wav", bytes(content)).shape == (1, 4_800)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["au", "caf", "w64", "rf64"])
@pytest.mark.parametrize("size", [b"\xff", b"\0"], ids=["unknown", "never filled in"])
def test_other_containers_written_to_a_pipe(tmp_path, kind: str, size: bytes) -> None:
    content = bytearray(made(kind, 0.1))
    name = {"rf64": b"ds64", "caf": b"data", "w64": b"data", "au": b".snd"}[kind]
    at = content.rindex(name) + {"rf64": 16, "caf": 4, "w64": 16, "au": 8}[kind]
    count = 4 if kind == "au" else 8
    content[at : at + count] = count * size
    assert read(tmp_path, f"a.{kind}", bytes(content)).shape == (1, 4_800)


def test_an_mp3_of_one_bit_rate_without_count_is_as_long_as_its_frames(tmp_path) -> None:
    """libsndfile guesses: 1,477,000 samples of 1,470,000, or 15,000 of 98,000."""
    out = io.BytesIO()
    audio = np.random.default_rng(0).uniform(-0.1, 0.1, 20 * 44_100)
    soundfile.write(out, audio, 44_100, format="MP3", bitrate_mode="CONSTANT", compression_level=0.9)
    made = read(tmp_path, "a.mp3", out.getvalue())
    assert 0 <= made.shape[1] - audio.size < 3 * 1152
    part, _ = read_audio(tmp_path / "a.mp3", 500_000, 40_000)
    assert np.abs(part - made[:, 500_000:540_000])[:, 3_000:].max() < 1e-3


@pytest.mark.parametrize("tag", ["VBRI", "Xing without a count"])
def test_counts_that_the_decoder_does_not_take(tmp_path, tag: str) -> None:
    content = made("mp3", 2.0)
    frames = without_count(content)
    size = len(content) - len(frames)
    if tag == "VBRI":
        head = content[:4] + bytes(32) + b"VBRI" + struct.pack(">3H2I", 1, 0, 75, len(content), 85)
    else:
        head = content[:21] + b"Xing" + bytes(4)
    for joined in (head.ljust(size, b"\0") + frames, 2 * (head.ljust(size, b"\0") + frames)):
        missing = read(tmp_path, "a.mp3", joined).shape[1] - len(joined) // len(content) * 2.0 * RATE
        assert 0 <= missing < 4 * 1152
    if tag == "VBRI":
        with pytest.raises(AudioError, match=r"announces 97920 samples, but only \d+ are present"):
            read_audio(put(tmp_path, "b.mp3", (head.ljust(size, b"\0") + frames)[:-3_000]))


# --- cut short --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [None, 0], ids=["counted", "uncounted"])
def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path, kind: str, count: int | None) -> None:
    content = made(kind, 1.0, channels=2)
    if count is not None:
        if kind not in ("mp3", "flac"):
            pytest.skip("has but one way to say its length")
        content = without_count(content) if kind == "mp3" else flac_claiming(content, 0)
    whole = read(tmp_path, f"a.{kind}", content)
    random.seed(kind)
    for length in [len(content) - 1, len(content) // 2, *random.sample(range(len(content)), 10)]:
        path = put(tmp_path, f"cut.{kind}", content[:length])
        try:
            audio, _ = read_audio(path)
        except AudioError:
            with pytest.raises(AudioError, match=rf"cut\.{kind} "):
                read_audio(path)
        else:
            # By chance between two frames, which nothing tells without a count.
            assert np.array_equal(audio, whole) or (count is not None and audio.shape[1] % 1152 in (0, 623))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_of_a_cut_file_is_read_when_asked_for(tmp_path, kind: str, caplog) -> None:
    content = made(kind, 3.0)
    path = put(tmp_path, f"a.{kind}", content[: int(0.7 * len(content))])
    with pytest.raises(
        AudioError, match=r"a\.\w+ is cut short: (its header announces \d+ (bytes|samples).* \d+ are present|it ends)"
    ):
        read_audio(path)
    with caplog.at_level(logging.WARNING, "m2l"):
        audio, _ = read_audio(path, incomplete=True)
    assert "cut short" in caplog.text
    assert 0.4 < audio.shape[1] / (3.0 * RATE) < 0.9
    assert audio_info(path, incomplete=True).frames in (audio.shape[1], None)


@pytest.mark.parametrize("kind", STREAMS)
def test_a_cut_in_the_last_of_joined_streams(tmp_path, kind: str) -> None:
    path = put(tmp_path, f"a.{kind}", made(kind) + made(kind, 2.0, 1)[:-3_000])
    with pytest.raises(AudioError, match=r"is cut short: .*part 2 of 2"):
        read_audio(path, 0, 1_000)


def test_an_ogg_file_without_the_mark_of_its_end(tmp_path) -> None:
    content = made("ogg", 3.0)
    last = content.rindex(b"OggS")
    with pytest.raises(AudioError, match=r"ends after \d+ samples, without a page that marks the end"):
        read_audio(put(tmp_path, "a.ogg", content[:last]))
    damaged = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(AudioError, match=rf"a page of it at byte {last} is missing or fails its checksum"):
        read_audio(put(tmp_path, "b.ogg", damaged))
    pages = [page for page in content.split(b"OggS") if page]
    without_one = b"".join(b"OggS" + page for page in pages[:3] + pages[4:])
    with pytest.raises(AudioError, match="a page of it at byte"):
        read_audio(put(tmp_path, "c.ogg", without_one))


def test_aiff_with_another_count_than_its_audio(tmp_path, caplog) -> None:
    content = made("aiff")
    at = content.index(b"COMM") + 10
    more, fewer = (content[:at] + struct.pack(">I", count) + content[at + 4 :] for count in (60_000, 10_000))
    with pytest.raises(AudioError, match="announces 60000 samples, but only 48000 are present"):
        read_audio(put(tmp_path, "a.aiff", more))
    read(tmp_path, "b.aiff", fewer)
    assert "announces 10000 samples in its header but holds 48000" in caplog.text


def test_a_header_that_claims_more_than_any_memory_holds(tmp_path) -> None:
    """2^36 - 1 samples are 256 GiB."""
    path = put(tmp_path, "a.flac", flac_claiming(made("flac", 2.0), 2**36 - 1))
    tracemalloc.start()
    with pytest.raises(AudioError, match="announces 68719476735 samples, but only 96000 are present"):
        read_audio(path)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_what_does_no_harm_is_not_refused(tmp_path, caplog) -> None:
    ape = bytes(64) + b"APETAGEX" + struct.pack("<IIII", 2000, 64 + 32, 1, 0) + bytes(8)
    chunk = b"LIST" + struct.pack("<I", 5) + b"INFOx"
    for kind, tail in [
        *(("mp3", tail) for tail in (ID3V1, ape, ape + ID3V1, bytes(1_000), bytes(50_000), b"x" * 200)),
        *(("wav", tail) for tail in (chunk + b"\0", chunk, chunk[:-1], b"\0", ID3V1, bytes(100))),
        *((kind, ID3V1) for kind in KINDS),
    ]:
        content = made(kind)
        whole = read(tmp_path, f"a.{kind}", content)
        assert np.array_equal(read(tmp_path, f"a.{kind}", content + tail), whole), (kind, tail[:16])
    assert np.array_equal(read(tmp_path, "a.mp3", ID3V2 + made("mp3")), read(tmp_path, "b.mp3", made("mp3")))
    assert not caplog.records


def test_junk_is_not_searched_for_ever(tmp_path) -> None:
    began = time.process_time()
    for junk in (b"\xff" * 3_000_000, b"\xff\xfb\x94\0\0" * 600_000):
        audio = read(tmp_path, "a.mp3", made("mp3") + junk)
        assert audio.shape[1] == RATE
    assert time.process_time() - began < 5


def test_a_pipe_is_refused_before_it_is_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="not a regular file"):
        read_audio(tmp_path / "a.wav")


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line_refuses_what_is_cut_and_reads_it_when_asked_for(tmp_path, capsys) -> None:
    pytest.importorskip("torch")
    (tmp_path / "in").mkdir()
    put(tmp_path / "in", "whole.flac", made("flac", 0.5) + made("flac", 0.5, 1))
    put(tmp_path / "in", "cut.wav", made("wav")[:-40_000])
    run = ["encode", str(tmp_path / "in"), "--checkpoint", "random:tiny", "--json", "-o", str(tmp_path / "out")]
    assert main(run) == 1
    files = {Path(one["input"]).name: one for one in json.loads(capsys.readouterr().out)["files"]}
    assert files["whole.flac"]["audio_seconds"] == 1.0
    assert (
        "is cut short: its header announces 96000 bytes of audio, but only 56000 are present"
        in files["cut.wav"]["error"]
    )
    assert main([*run, "--incomplete"]) == 0
    out, said = capsys.readouterr()
    files = {Path(one["input"]).name: one for one in json.loads(out)["files"]}
    assert files["cut.wav"]["audio_seconds"] == pytest.approx(28_000 / RATE)
    assert "cut short" in files["cut.wav"]["fault"]
    assert files["whole.flac"]["fault"] is None
    assert "1 of 2 inputs were cut short" in said
