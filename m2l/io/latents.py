"""The latents file: one safetensors tensor, and metadata that says all that decoding needs.

Tensor `latents` is (channels, latent_dim, L), float32 (float16 is read too). The header's metadata holds the
fields of `LatentsInfo` as strings, beside `format` and `format_version`. Nothing here needs torch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from m2l.audio import AudioError, check_sample_rate
from m2l.io.atomic import write_atomic

if TYPE_CHECKING:
    from m2l.config import Music2LatentConfig

FORMAT = "m2l-latents"
FORMAT_VERSION = "1"
TENSOR = "latents"
#: Suffix of latents files.
SUFFIX = ".safetensors"
# Hostile headers: no audio is longer (about 80 years at 44.1 kHz) or has more channels.
_MAX_COUNT = 2**47


class LatentsError(ValueError):
    """A latents file that cannot be read, or does not fit the model; names the file and the value."""


@dataclass(frozen=True)
class LatentsInfo:
    """Metadata of a latents file."""

    channels: int
    latent_dim: int
    n_latents: int
    #: Of the audio that was encoded: rate in Hz and samples per channel.
    sample_rate: int
    samples: int
    model_sample_rate: int
    downsampling_ratio: int
    #: Config name, how to find the weights again, and their `Music2Latent.digest()`.
    model: str
    checkpoint: str
    digest: str
    source: str

    @property
    def duration(self) -> float:
        """Seconds of audio."""
        return self.samples / self.sample_rate

    def check_model(self, config: Music2LatentConfig, name: str) -> None:
        """Raise `LatentsError` unless these latents have the shape that `config` decodes."""
        for field, ours in (
            ("latent_dim", config.latent_dim),
            ("model_sample_rate", config.sample_rate),
            ("downsampling_ratio", config.downsampling_ratio),
        ):
            theirs = getattr(self, field)
            if theirs != ours:
                raise LatentsError(f"{name} has {field} {theirs}, the model {config.name!r} has {ours}")


_INTEGERS = {field.name for field in dataclasses.fields(LatentsInfo) if field.type == "int"}


def write_latents(path: str | os.PathLike[str], latents: np.ndarray, info: LatentsInfo) -> None:
    """Write a latents file, beside and renamed.

    Args:
        path: target.
        latents: (channels, latent_dim, L) finite floats.
        info: its metadata.

    Raises:
        LatentsError: if array and metadata disagree, or the array is not finite.
        OSError: if it cannot be written.
    """
    if latents.shape != (info.channels, info.latent_dim, info.n_latents):
        raise LatentsError(f"latents have shape {latents.shape}, the metadata says {info}")
    if not np.isfinite(latents).all():
        raise LatentsError(f"latents for {os.fspath(path)} hold NaN or infinite values")
    metadata = {key: str(value) for key, value in dataclasses.asdict(info).items()}
    # Names that are not valid UTF-8 do not fit into JSON.
    metadata = {key: value.encode("utf-8", "replace").decode() for key, value in metadata.items()}
    metadata.update(format=FORMAT, format_version=FORMAT_VERSION)
    write_atomic(path, _serialize(np.ascontiguousarray(latents, "<f4"), metadata), parents=False)


def _serialize(latents: np.ndarray, metadata: dict[str, str]) -> bytes:
    """A safetensors file, its header in a fixed order: the library's is random, so equal latents would differ."""
    tensor = {"dtype": "F32", "shape": latents.shape, "data_offsets": (0, latents.nbytes)}
    header = json.dumps({"__metadata__": metadata, TENSOR: tensor}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + latents.tobytes()


def read_latents(path: str | os.PathLike[str]) -> tuple[np.ndarray, LatentsInfo]:
    """The whole file: (channels, latent_dim, L) float32, and its metadata. Raises as `LatentsReader`."""
    with LatentsReader(path) as reader:
        return reader.read(0, reader.info.n_latents), reader.info


def is_latents(path: str | os.PathLike[str]) -> bool:
    """Whether the file is safetensors with our format mark (it may still be damaged)."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with safe_open(os.fspath(path), framework="numpy") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError, ValueError):
        return False


class LatentsReader:
    """Reads stretches of a latents file without loading the rest; a context manager.

    Raises:
        OSError: if the file does not exist or cannot be opened.
        LatentsError: if it is damaged, no latents file, of a newer version, or its metadata contradict its data.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._name = os.fspath(path)
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):  # opening a pipe may wait for ever
            raise LatentsError(f"{self._name} is not a regular file (a pipe or device)")
        with open(path, "rb"):  # the operating system's own error, where it has one
            pass
        try:
            self._file = safe_open(self._name, framework="numpy")
        except (SafetensorError, OSError, ValueError) as error:
            raise LatentsError(f"{self._name} is not a readable latents file: {error}") from error
        metadata = self._file.metadata() or {}
        if metadata.get("format") != FORMAT or TENSOR not in self._file.keys():  # noqa: SIM118 - not a dict
            raise LatentsError(f"{self._name} is safetensors, but not a latents file ('m2l encode' makes those)")
        if metadata.get("format_version") != FORMAT_VERSION:
            raise LatentsError(
                f"{self._name} has format version {metadata.get('format_version')!r}; this m2l reads {FORMAT_VERSION}"
            )
        self.info = _parse(metadata, self._name)
        self._slice = self._file.get_slice(TENSOR)
        self._check()

    def _check(self) -> None:
        info = self.info
        shape, dtype = tuple(self._slice.get_shape()), self._slice.get_dtype()
        if dtype not in ("F32", "F16"):
            raise LatentsError(f"{self._name} holds {dtype} latents; expected F32 or F16")
        if shape != (info.channels, info.latent_dim, info.n_latents):
            raise LatentsError(
                f"{self._name} holds latents of shape {shape}, its metadata say "
                f"{(info.channels, info.latent_dim, info.n_latents)}"
            )
        # n_latents covers the audio at the model's rate and its padding; a sample more or less by rounding.
        covered = info.n_latents * info.downsampling_ratio
        needed = info.samples * info.model_sample_rate / info.sample_rate
        if needed > covered + 1 or covered - needed > 2 * info.downsampling_ratio:
            raise LatentsError(
                f"{self._name}: {info.n_latents} latents do not match {info.samples} samples at {info.sample_rate} Hz"
            )

    def read(self, start: int, stop: int) -> np.ndarray:
        """(channels, latent_dim, stop - start) float32.

        Raises:
            LatentsError: if they hold NaN or infinite values.
        """
        part = np.asarray(self._slice[:, :, start:stop], dtype=np.float32)
        if not np.isfinite(part).all():
            raise LatentsError(f"{self._name} holds NaN or infinite latents between {start} and {stop}")
        return part

    def __enter__(self) -> LatentsReader:
        self._file.__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._file.__exit__(*exc_info)


def _parse(metadata: dict[str, str], name: str) -> LatentsInfo:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(LatentsInfo):
        text = metadata.get(field.name)
        if text is None:
            raise LatentsError(f"{name} lacks the metadata field {field.name!r}")
        if field.name in _INTEGERS:
            if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) <= _MAX_COUNT):
                raise LatentsError(f"{name}: metadata field {field.name!r} is {text[:40]!r}, not a positive count")
            values[field.name] = int(text[:20])
        else:
            values[field.name] = text
    try:
        check_sample_rate(values["sample_rate"])
        check_sample_rate(values["model_sample_rate"])
    except AudioError as error:
        raise LatentsError(f"{name}: {error}") from error
    return LatentsInfo(**values)
