"""A thousand damaged audio files of each kind: our own errors, or samples; never less than a file holds in silence."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from test_audio_streams import KINDS, made

from m2l.audio import AudioError
from m2l.io.blocks import read_audio
from m2l.io.sound import audio_info

COUNT = 1_000
#: Of any one file.
MAX_SECONDS = 10.0
MAX_BYTES = 2**30
#: Bytes of a file that a change of its header falls into.
_HEAD = 200
#: A block of a decoder.
_BLOCK = 8_192


def mutate(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A damaged copy, and how: "cut" is one that ends early, and "joined" one with something behind it."""
    data = bytearray(content)
    how = rng.choice(["cut", "cut", "flip", "flip", "header", "header", "remove", "insert", "zero", "joined"])
    at = rng.randrange(1, len(data))
    if how == "cut":
        del data[at:]
    elif how == "flip":
        for _ in range(rng.choice([1, 1, 10, 100])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "header":
        for _ in range(rng.choice([1, 2, 8])):
            data[rng.randrange(min(_HEAD, len(data)))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    elif how == "remove":
        del data[at : at + rng.choice([1, 4, 100, 5_000])]
    elif how == "insert":
        data[at:at] = rng.randbytes(rng.choice([1, 4, 100, 5_000]))
    elif how == "zero":
        data[at : at + 500] = bytes(len(data[at : at + 500]))
    else:
        data += rng.choice([content, content[: len(content) // 2], rng.randbytes(3_000), bytes(3_000)])
    return bytes(data), how


def run(kind: str, folder: Path, count: int) -> list[str]:
    """The complaints about `count` damaged files."""
    rng = random.Random(kind)
    originals = [made(kind, seconds, channels=channels) for seconds, channels in ((1.0, 1), (2.0, 2))]
    path = folder / f"a.{kind}"
    wholes = []
    for content in originals:
        path.write_bytes(content)
        wholes.append(read_audio(path)[0])
    complaints = []
    for number in range(count):
        which = rng.randrange(len(originals))
        content, how = mutate(originals[which], rng)
        path.unlink()  # another file each time
        path.write_bytes(content)
        began = time.monotonic()
        try:
            audio, _ = read_audio(path)
            told = audio_info(path).frames
        except AudioError as error:
            if path.name not in str(error):
                complaints.append(f"{number} {how}: error without a name: {error}")
        except Exception as error:  # whatever comes is a finding
            complaints.append(f"{number} {how}: {error!r}")
        else:
            whole = wholes[which]
            if how in ("cut", "joined") and audio.shape[1] < whole.shape[1]:
                complaints.append(f"{number} {how}: {audio.shape[1]} samples of {whole.shape[1]} without a word")
            elif how == "cut" and not np.array_equal(audio, whole):
                complaints.append(f"{number} {how}: other samples")
            if told is not None and abs(told - audio.shape[1]) > _BLOCK:
                complaints.append(f"{number} {how}: {told} samples announced, {audio.shape[1]} came")
        if time.monotonic() - began > MAX_SECONDS:
            complaints.append(f"{number} {how}: took {time.monotonic() - began:.1f} s")
    return complaints


@pytest.fixture
def bounded_memory():
    """No more than a gigabyte on top of what is taken: an allocation beyond it is a `MemoryError`."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MAX_BYTES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [25, pytest.param(COUNT, marks=pytest.mark.slow)])
def test_damaged_files(tmp_path, bounded_memory, kind: str, count: int) -> None:
    complaints = run(kind, tmp_path, count)
    assert not complaints, "\n".join(complaints)
