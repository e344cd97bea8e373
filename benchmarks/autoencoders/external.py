"""`external:DIR`: reconstructions made elsewhere, a file per clip, no code.

Traps handled here: files at another rate or of another length than the clip (reported, not stretched),
clips without a file and files without a clip (reported), and two files for one clip (refused). A constant
delay is not undone: SI-SDR is defined sample by sample, so a decoder that shifts its output is measured so.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from benchmarks.audio import fit_length, resample
from benchmarks.autoencoders.adapted import with_channels
from benchmarks.autoencoders.base import AutoencoderSpec
from benchmarks.datasets.audio_files import AUDIO_SUFFIXES, read_excerpt
from benchmarks.weights import file_sha256

#: Codecs pad or drop part of a frame: up to this many seconds more or less are cut or filled with silence.
TOLERANCE = 0.1

_UNSAFE = re.compile(r"[^\w.@+=,-]+", re.ASCII)


def file_stem(clip_id: str) -> str:
    """File name, without suffix, that `m2l-bench export-clips` gives a clip: folders become `__`."""
    parts = [_UNSAFE.sub("_", part) for part in clip_id.split("/")]
    return "__".join(parts).lstrip(".") or "_"


def _short(clip_id: str) -> str:
    """The id without a suffix of audio files: `song.flac` -> `song`."""
    path = PurePosixPath(clip_id)
    return str(path.with_suffix("")) if path.suffix.lower() in AUDIO_SUFFIXES else clip_id


def export_stems(clip_ids: Iterable[str]) -> dict[str, str]:
    """Clip id -> file name without suffix; ids that differ only in theirs (`a.wav`, `a.ogg`) keep them.

    Raises:
        ValueError: two ids have one file name all the same.
    """
    ids = list(clip_ids)
    short = {clip_id: file_stem(_short(clip_id)) for clip_id in ids}
    full = {clip_id: file_stem(clip_id) for clip_id in ids}
    shared = set(_clashes(short))
    mixed = {clip_id: (full if stem.lower() in shared else short)[clip_id] for clip_id, stem in short.items()}
    if not _clashes(mixed):
        return mixed
    for clashing in _clashes(full).values():
        first, second = clashing[:2]
        raise ValueError(f"clips {first!r} and {second!r} would have one file name, {full[first]!r}")
    return full


def _clashes(stems: Mapping[str, str]) -> dict[str, list[str]]:
    """File names, in small letters as some file systems see them, that several ids have."""
    found: dict[str, list[str]] = {}
    for clip_id, stem in stems.items():
        found.setdefault(stem.lower(), []).append(clip_id)
    return {stem: ids for stem, ids in found.items() if len(ids) > 1}


class External:
    """A folder of reconstructions.

    A clip's file is the one `m2l-bench export-clips` names, or one with the clip's own id, in subfolders or
    not, with any suffix of an audio file.

    Args:
        path: the folder.
        name: what the tables call the system.
        tolerance: how many seconds a file may be longer or shorter than its clip; it is cut, or filled with
            silence.
        resample: whether files at another rate than their clip are resampled; otherwise they are reported.

    Raises:
        FileNotFoundError: no such folder, or no audio file in it.
    """

    def __init__(
        self, path: str, name: str | None = None, *, tolerance: float = TOLERANCE, resample: bool = False
    ) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_dir():
            raise FileNotFoundError(f"no folder {path!r} with reconstructions")
        if tolerance < 0:
            raise ValueError(f"tolerance is {tolerance}, expected at least 0 seconds")
        self.tolerance, self.resample = float(tolerance), bool(resample)
        self.spec = AutoencoderSpec(
            name=name or self.path.resolve().name,
            sample_rate=None,
            channels="stereo",
            source=f"files made elsewhere ({self.path.resolve().name})",
            options={"tolerance": self.tolerance, "resample": self.resample},
        )
        if not self.files:
            raise FileNotFoundError(f"no audio file in {path!r} (looked for {' '.join(AUDIO_SUFFIXES)})")

    @cached_property
    def files(self) -> Mapping[str, tuple[Path, ...]]:
        """Audio files by their path in the folder without suffix."""
        found: dict[str, list[Path]] = {}
        for file in sorted(self.path.rglob("*")):
            if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file() and not file.name.startswith("."):
                found.setdefault(file.relative_to(self.path).with_suffix("").as_posix(), []).append(file)
        return {stem: tuple(files) for stem, files in found.items()}

    def find(self, clip_id: str) -> tuple[Path, ...]:
        """The files of a clip: none, one, or (ambiguous) several."""
        for stem in (file_stem(clip_id), file_stem(_short(clip_id)), clip_id, _short(clip_id)):
            if stem in self.files:
                return self.files[stem]
        return ()

    def identity(self, clip_id: str) -> list[str]:
        """What enters the content key for a clip: the digests of its files."""
        return [file_sha256(path) for path in self.find(clip_id)]

    def unmatched(self, clip_ids: Iterable[str]) -> list[str]:
        """Files that belong to none of the clips, relative to the folder."""
        used = {path for clip_id in clip_ids for path in self.find(clip_id)}
        return [
            path.relative_to(self.path).as_posix()
            for paths in self.files.values()
            for path in paths
            if path not in used
        ]

    def reconstruction(self, clip_id: str, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """A clip's file, as float32 of the clip's shape and rate.

        Raises:
            ValueError: no file, several, unreadable, or of another rate or length; the message is the reason
                the tables count.
        """
        paths = self.find(clip_id)
        if not paths:
            raise ValueError("no file for the clip")
        if len(paths) > 1:
            raise ValueError(f"{len(paths)} files for the clip ({', '.join(path.suffix for path in paths)})")
        try:
            output, rate = read_excerpt(paths[0])
        except (OSError, ValueError) as error:
            raise ValueError(f"unreadable: {str(error).replace(str(paths[0]), 'the file')}") from error
        return fitted(output, rate, audio, sample_rate, self.tolerance, self.resample)

    def encode(self, audio: np.ndarray, sample_rate: int) -> Any:
        """There is nothing to encode with.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.spec.name}: files made elsewhere cannot encode audio")

    def decode(
        self, latents: Any, *, length: int, sample_rate: int, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """There is nothing to decode.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.spec.name}: files made elsewhere cannot decode latents")

    def reconstruct(
        self, audio: np.ndarray, sample_rate: int, *, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """Files belong to clips, not to audio: see `reconstruction`.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.spec.name}: files made elsewhere exist for the clips of a suite only")


def fitted(
    output: np.ndarray,
    rate: int,
    audio: np.ndarray,
    sample_rate: int,
    tolerance: float,
    may_resample: bool,
) -> np.ndarray:
    """`output` in the shape and rate of the clip it stands for.

    Raises:
        ValueError: another rate and `may_resample` is false, a length off by more than `tolerance` seconds,
            samples that are not finite, or a number of channels that is neither the clip's nor one.
    """
    if rate != sample_rate and not may_resample:
        raise ValueError(f"file at {rate} Hz, clip at {sample_rate} Hz (option resample=true takes it)")
    if not np.isfinite(output).all():
        raise ValueError("samples that are not finite")
    excess = output.shape[1] / rate - audio.shape[1] / sample_rate
    if abs(excess) > tolerance:
        what = "longer" if excess > 0 else "shorter"
        raise ValueError(f"{what} than the clip by more than {tolerance:g} s")
    output = with_channels(resample(output, rate, sample_rate), audio.shape[0])
    return np.ascontiguousarray(fit_length(output, audio.shape[1]), dtype=np.float32)


def wav_bytes(audio: np.ndarray, sample_rate: int) -> bytes:
    """A WAV file of float32 samples, bit for bit those of `(channels, samples)`; the same bytes every time.

    libsndfile would put the time of day into it (PEAK chunk).
    """
    from scipy.io import wavfile

    buffer = io.BytesIO()
    wavfile.write(buffer, sample_rate, np.ascontiguousarray(audio.T, dtype=np.float32))
    return buffer.getvalue()
