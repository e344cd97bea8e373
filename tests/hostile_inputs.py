"""Inputs that no one should have, made on demand: arrays, files, latents files and checkpoints.

Each maker returns or writes one input; the tables say what must come of it: "ok" (a right result) or "error" (a
`ValueError` or `OSError` of ours that names the trouble).
"""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors.numpy import save

RATE = 44_100


def sound(channels: int = 1, samples: int = 2_000) -> np.ndarray:
    return (0.3 * np.random.default_rng(0).standard_normal((channels, samples))).astype(np.float32)


def poisoned(value: float, channels: int = 1) -> np.ndarray:
    audio = sound(channels)
    audio[-1, 777] = value
    return audio


#: name -> (array, what becomes of it)
ARRAYS: dict[str, tuple[Any, str]] = {
    "one sample": (np.float32([0.5]), "ok"),
    "one sample, stereo": (np.zeros((2, 1), np.float32), "ok"),
    "two samples": (np.float32([0.5, -0.5]), "ok"),
    "50 ms": (sound(1, 2205), "ok"),
    "silence": (np.zeros((2, 3000), np.float32), "ok"),
    "constant": (np.full((1, 3000), 0.7, np.float32), "ok"),
    "clipped": (np.clip(50 * sound(), -1, 1), "ok"),
    "overshooting": (3 * sound(), "ok"),
    "smallest floats": (np.full((1, 3000), 1e-45, np.float32), "ok"),
    "click": (np.eye(1, 3000, 1500, dtype=np.float32), "ok"),
    "int16": ((sound() * 32767).astype(np.int16), "ok"),
    "int16 extremes": (np.tile(np.int16([-32768, 32767]), 1000), "ok"),
    "int32": ((sound() * 2**31 * 0.3).astype(np.int32), "ok"),
    "int8": ((sound() * 100).astype(np.int8), "ok"),
    "uint8": ((sound().clip(-1, 1) * 100 + 128).astype(np.uint8), "ok"),
    "float16": (sound().astype(np.float16), "ok"),
    "float64": (sound().astype(np.float64), "ok"),
    "big endian": (sound().astype(">f4"), "ok"),
    "not contiguous": (sound(4)[::2, ::2], "ok"),
    "Fortran order": (np.asfortranarray(sound(2)), "ok"),
    "reversed": (sound()[:, ::-1], "ok"),
    "read-only": (np.frombuffer(sound().tobytes(), np.float32), "ok"),
    "list": (sound()[0, :200].tolist(), "ok"),
    "list of whole numbers": ([0, 1, 0, -1] * 50, "ok"),
    "torch": (torch.from_numpy(sound(2)), "ok"),
    "torch bfloat16": (torch.from_numpy(sound(2)).bfloat16(), "ok"),
    "torch with gradient": (torch.from_numpy(sound()).requires_grad_(), "ok"),
    "torch int16": (torch.from_numpy((sound() * 32767).astype(np.int16)), "ok"),
    "batch": (np.stack([sound(2), -sound(2)]), "ok"),
    "eight channels": (sound(8), "ok"),
    "32 channels": (sound(32, 600), "ok"),
    "empty": (np.zeros(0, np.float32), "error"),
    "empty stereo": (np.zeros((2, 0), np.float32), "error"),
    "no channels": (np.zeros((0, 100), np.float32), "error"),
    "empty batch": (np.zeros((0, 2, 100), np.float32), "error"),
    "empty list": ([], "error"),
    "empty torch": (torch.zeros(2, 0), "error"),
    "scalar": (np.float32(0.5), "error"),
    "number": (0.5, "error"),
    "four axes": (np.zeros((1, 1, 1, 100), np.float32), "error"),
    "NaN": (poisoned(np.nan), "error"),
    "NaN in channel 2": (poisoned(np.nan, 2), "error"),
    "infinity": (poisoned(np.inf), "error"),
    "minus infinity": (poisoned(-np.inf), "error"),
    "all NaN": (np.full(1000, np.nan), "error"),
    "float64 beyond float32": (np.full(1000, 1e300), "error"),
    "huge": (poisoned(3e38), "error"),
    "int16 values as floats": (sound() * 32767, "error"),
    "samples by channels": (sound(2).T, "error"),
    "samples by one channel": (sound(1).T, "error"),
    "batch of samples by channels": (np.stack([sound(2).T] * 2), "error"),
    "torch NaN": (torch.full((2, 100), float("nan")), "error"),
    "complex": (sound().astype(np.complex64), "error"),
    "torch complex": (torch.zeros(2, 100, dtype=torch.complex64), "error"),
    "bool": (np.ones(1000, bool), "error"),
    "int64": (np.ones(1000, np.int64), "error"),
    "uint16": (np.ones(1000, np.uint16), "error"),
    "strings": (np.array(["a", "b"]), "error"),
    "objects": (np.array([None, 1.0], object), "error"),
    "dates": (np.array(["2026-01-01"], "datetime64[D]"), "error"),
    "ragged": ([[0.0, 0.1], [0.2]], "error"),
    "None": (None, "error"),
    "text": ("song", "error"),
    "bytes": (b"\x00\x01", "error"),
    "dict": ({"audio": 1}, "error"),
}

#: sample rate -> what becomes of it
RATES: dict[Any, str] = {
    8_000: "ok",
    11_025: "ok",
    48_000: "ok",
    44_100.0: "ok",
    np.int64(96_000): "ok",
    192_000: "ok",
    0: "error",
    -44_100: "error",
    2: "error",
    10**9: "error",
    10**400: "error",
    44_100.5: "error",
    float("nan"): "error",
    float("inf"): "error",
    "44100": "error",
    True: "error",
    (44_100,): "error",
}


# --- audio files ------------------------------------------------------------------------------------------------


def _wav(
    path: Path, audio: np.ndarray | None = None, rate: int = RATE, subtype: str = "PCM_16", **kw: Any
) -> bytearray:
    data = sound(2) if audio is None else audio
    soundfile.write(os.fsencode(path), data.T, rate, **{"format": "WAV", "subtype": subtype, **kw})
    return bytearray(path.read_bytes())


def _patched(offset: int, replacement: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        content = _wav(path)
        content[offset : offset + len(replacement)] = replacement
        path.write_bytes(content)

    return make


def _cut(share: float, kind: str = "WAV") -> Callable[[Path], None]:
    def make(path: Path) -> None:
        subtype = {"WAV": "PCM_16", "FLAC": "PCM_16", "OGG": "VORBIS", "MP3": "MPEG_LAYER_III", "AIFF": "PCM_16"}[kind]
        content = _wav(path, sound(2, 30_000), subtype=subtype, format=kind)
        path.write_bytes(content[: int(len(content) * share)])

    return make


def _written(**options: Any) -> Callable[[Path], None]:
    return lambda path: (_wav(path, **options), None)[1]


def _content(content: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(content), None)[1]


def _flipped(path: Path) -> None:
    content = _wav(path, sound(2, 30_000), format="FLAC")
    for position in range(2_000, len(content), 500):
        content[position] ^= 0xFF
    path.write_bytes(content)


#: file name -> (maker, what becomes of it)
FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "good.wav": (_written(), "ok"),
    "one sample.wav": (_written(audio=sound(1, 1)), "ok"),
    "8 kHz.wav": (_written(rate=8_000), "ok"),
    "192 kHz.wav": (_written(rate=192_000), "ok"),
    "8 channels.wav": (_written(audio=sound(8)), "ok"),
    "silence.wav": (_written(audio=np.zeros((2, 2000), np.float32)), "ok"),
    "8 bit.wav": (_written(subtype="PCM_U8"), "ok"),
    "24 bit.wav": (_written(subtype="PCM_24"), "ok"),
    "double.wav": (_written(subtype="DOUBLE"), "ok"),
    "mu-law.wav": (_written(subtype="ULAW"), "ok"),
    "adpcm.wav": (_written(subtype="IMA_ADPCM"), "ok"),
    "over full scale.wav": (_written(audio=4 * sound(2), subtype="FLOAT"), "ok"),
    "flac inside.wav": (_written(format="FLAC"), "ok"),
    "wav inside.mp3": (_written(format="WAV"), "ok"),
    "no suffix": (_written(format="WAV"), "ok"),
    "UPPER.WAV": (_written(), "ok"),
    "ünïcode 音楽 🎵.wav": (_written(), "ok"),
    "new\nline.wav": (_written(), "ok"),
    "-dash.wav": (_written(), "ok"),
    os.fsdecode(b"latin1-\xe9.wav"): (_written(format="WAV"), "ok"),
    "n" * 240 + ".wav": (_written(), "ok"),
    "data size unknown.wav": (_patched(40, struct.pack("<I", 0xFFFFFFFF)), "ok"),
    "data size too large.wav": (_patched(40, struct.pack("<I", 10**6)), "error"),
    "riff size zero.wav": (_patched(4, b"\0\0\0\0"), "ok"),
    "riff size wrong.wav": (_patched(4, struct.pack("<I", 7)), "ok"),
    "cut at half.wav": (_cut(0.5), "error"),
    "cut at half.ogg": (_cut(0.5, "OGG"), "error"),
    "cut at half.aiff": (_cut(0.5, "AIFF"), "error"),
    "cut at half.flac": (_cut(0.5, "FLAC"), "error"),
    "cut at half.mp3": (_cut(0.5, "MP3"), "error"),
    "damaged inside.flac": (_flipped, "error"),
    "zero bytes.wav": (_content(b""), "error"),
    "zero bytes.mp3": (_content(b""), "error"),
    "one byte.wav": (_content(b"R"), "error"),
    "header only.wav": (_content(b"RIFF\x24\0\0\0WAVE"), "error"),
    "no samples.wav": (_written(audio=np.zeros((2, 0), np.float32)), "error"),
    "no samples.flac": (_written(audio=np.zeros((2, 0), np.float32), format="FLAC"), "error"),
    "cut in its header.wav": (_cut(0.0003), "error"),
    "rate zero.wav": (_patched(24, b"\0\0\0\0"), "error"),
    "rate of gigahertz.wav": (_patched(24, struct.pack("<I", 2**31 - 1)), "error"),
    "rate 1 Hz.wav": (_patched(24, struct.pack("<I", 1)), "error"),
    "no channels.wav": (_patched(22, b"\0\0"), "error"),
    "60000 channels.wav": (_patched(22, struct.pack("<H", 60_000)), "error"),
    "unknown codec.wav": (_patched(20, struct.pack("<H", 0x7777)), "error"),
    "not riff.wav": (_patched(0, b"JUNK"), "error"),
    "text.wav": (_content(b"This is a text file, not a sound.\n" * 100), "error"),
    "page.mp3": (_content(b"<html><body>404</body></html>" * 50), "error"),
    "noise.flac": (_content(np.random.default_rng(0).bytes(20_000)), "error"),
    "zeros.ogg": (_content(bytes(20_000)), "error"),
    "picture.wav": (_content(b"\x89PNG\r\n\x1a\n" + bytes(500)), "error"),
    "zip.wav": (_content(b"PK\x03\x04" + bytes(500)), "error"),
    "NaN.wav": (_written(audio=poisoned(np.nan, 2), subtype="FLOAT"), "error"),
    "infinity.wav": (_written(audio=poisoned(np.inf, 2), subtype="DOUBLE"), "error"),
    "int16 as float.wav": (_written(audio=sound(2) * 32767, subtype="FLOAT"), "error"),
    "folder.wav": (lambda path: path.mkdir(), "error"),
    "missing.wav": (lambda path: None, "error"),
    "dangling link.wav": (lambda path: path.symlink_to("nowhere.wav"), "error"),
    "link to itself.wav": (lambda path: path.symlink_to(path), "error"),
}


# --- latents files -----------------------------------------------------------------------------------------------

_GOOD = {
    "format": "m2l-latents",
    "format_version": "1",
    "channels": "1",
    "latent_dim": "64",
    "n_latents": "3",
    "sample_rate": "44100",
    "samples": "9000",
    "model_sample_rate": "44100",
    "downsampling_ratio": "4096",
    "model": "tiny",
    "checkpoint": "random:tiny",
    "digest": "",
    "source": "a.wav",
}


def latents_file(shape: tuple[int, ...] = (1, 64, 3), dtype: str = "f4", fill: float = 0.1, **changes: Any) -> bytes:
    """Bytes of a latents file; `changes` replace metadata, None removes a field."""
    metadata = {key: value for key, value in {**_GOOD, **changes}.items() if value is not None}
    return save({"latents": np.full(shape, fill, dtype)}, metadata)


def _header(text: bytes, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + rest


#: name -> (content, what becomes of it)
LATENTS: dict[str, tuple[bytes, str]] = {
    "good": (latents_file(), "ok"),
    "half precision": (latents_file(dtype="f2"), "ok"),
    "another rate": (latents_file(sample_rate="22050", samples="4500"), "ok"),
    "silly values": (latents_file(fill=1e30), "ok"),
    "two axes": (latents_file((64, 3)), "error"),
    "four axes": (latents_file((1, 1, 64, 3)), "error"),
    "wrong channels": (latents_file((2, 64, 3)), "error"),
    "wrong dimension": (latents_file((1, 32, 3)), "error"),
    "dimension of another model": (latents_file((1, 32, 3), latent_dim="32"), "error"),
    "too few": (latents_file((1, 64, 2), n_latents="2"), "error"),
    "too many": (latents_file((1, 64, 30), n_latents="30"), "error"),
    "none": (latents_file((1, 64, 0), n_latents="0"), "error"),
    "no channel": (latents_file((0, 64, 3), channels="0"), "error"),
    "double precision": (latents_file(dtype="f8"), "error"),
    "integers": (latents_file(dtype="i4", fill=1), "error"),
    "NaN": (latents_file(fill=np.nan), "error"),
    "infinity": (latents_file(fill=np.inf), "error"),
    "rate zero": (latents_file(sample_rate="0"), "error"),
    "rate huge": (latents_file(sample_rate="99999999999"), "error"),
    "rate text": (latents_file(sample_rate="fast"), "error"),
    "samples negative": (latents_file(samples="-5"), "error"),
    "samples huge": (latents_file(samples="9" * 5000), "error"),
    "samples a billion": (latents_file(samples="1000000000"), "error"),
    "unicode digits": (latents_file(samples="９０００"), "error"),
    "ratio of another model": (latents_file((1, 64, 6), n_latents="6", downsampling_ratio="2048"), "error"),
    "newer version": (latents_file(format_version="2"), "error"),
    "another format": (latents_file(format="pt"), "error"),
    "no metadata": (save({"latents": np.zeros((1, 64, 3), np.float32)}), "error"),
    "no samples field": (latents_file(samples=None), "error"),
    "no checkpoint": (latents_file(checkpoint=""), "error"),
    "missing checkpoint": (latents_file(checkpoint="/nowhere/model"), "error"),
    "other tensor": (save({"weights": np.zeros((1, 64, 3), np.float32)}, _GOOD), "error"),
    "empty": (b"", "error"),
    "eight bytes": (bytes(8), "error"),
    "cut in its data": (latents_file()[:-100], "error"),
    "cut in its header": (latents_file()[:60], "error"),
    "bytes after the end": (latents_file() + b"more", "error"),
    "header beyond the file": (struct.pack("<Q", 2**62) + b"{}", "error"),
    "header no JSON": (_header(b"not json"), "error"),
    "header a list": (_header(b"[1, 2]"), "error"),
    "offsets outside": (
        _header(json.dumps({"latents": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()),
        "error",
    ),
    "a pickle": (pickle.dumps({"latents": [1]}), "error"),
    "text": (b"latents\n" * 50, "error"),
}


# --- checkpoints --------------------------------------------------------------------------------------------------


class Payload:
    """Unpickling this runs code: it leaves a file behind that a test looks for."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.system, (f"touch '{self.mark}'",))


def checkpoints(good: Path, folder: Path) -> dict[str, Path]:
    """Damaged and malicious checkpoints in `folder`; `good` is a saved tiny model. All must be refused."""
    weights = good / "model.safetensors"
    content, config = weights.read_bytes(), (good / "config.json").read_text()
    mark = folder / "CODE WAS RUN"
    made: dict[str, Path] = {}

    def add(name: str, weights: bytes | None, config: str | None = config) -> None:
        path = folder / name
        path.mkdir()
        if weights is not None:
            (path / "model.safetensors").write_bytes(weights)
        if config is not None:
            (path / "config.json").write_text(config)
        made[name] = path

    def add_file(name: str, content: bytes) -> None:
        made[name] = folder / name
        made[name].write_bytes(content)

    def changed(**fields: Any) -> str:
        return json.dumps({**json.loads(config), **fields})

    size = struct.unpack("<Q", content[:8])[0]
    bad = np.frombuffer(content[8 + size : 8 + size + 4], np.float32).copy()
    bad[:] = np.nan
    add("empty folder", None, None)
    add("config alone", None)
    add("empty weights", b"")
    add("cut weights", content[: len(content) // 2])
    add("zeroed header", bytes(len(content)))
    add("text for weights", b"weights" * 100)
    add("pickle named safetensors", pickle.dumps(Payload(mark)))
    add("NaN weight", content[: 8 + size] + bad.tobytes() + content[12 + size :])
    add("config no JSON", content, "{")
    add("config a list", content, "[]")
    add("config with unknown field", content, changed(base_chanels=4))
    add("config of another size", content, changed(base_channels=8))
    add("config with a text", content, changed(base_channels="wide"))
    add("config negative", content, changed(base_channels=-4))
    add("config zero hop", content, changed(hop_length=0))
    add("config without levels", content, changed(channel_mults=[]))
    add("config nested", content, changed(channel_mults={"a": 1}))
    add("config null", content, changed(downsampling=None))
    add_file("malicious.pt", pickle.dumps({"gen_state_dict": Payload(mark)}))
    torch.save({"gen_state_dict": {}, "run": Payload(mark)}, folder / "malicious zip.pt")
    made["malicious zip.pt"] = folder / "malicious zip.pt"
    for name, value in {
        "no state dict.pt": {"weights": 1},
        "empty state dict.pt": {"gen_state_dict": {}},
        "a list.pt": [1, 2],
        "other weights.pt": {"gen_state_dict": {"conv.weight": torch.zeros(3)}},
        "numbers for tensors.pt": {"gen_state_dict": {"conv_inp.weight": 1}},
    }.items():
        torch.save(value, folder / name)
        made[name] = folder / name
    add_file("empty.pt", b"")
    add_file("text.pt", b"hello")
    add_file("cut.pt", (folder / "other weights.pt").read_bytes()[:300])
    add_file("model.onnx", b"onnx")
    add_file("no config.safetensors", save({"a": np.zeros(3, np.float32)}))
    return made
