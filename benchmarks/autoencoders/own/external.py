"""`external:DIR`: reconstructions made elsewhere, a file per clip, no code.

Traps handled here: files at another rate or of another length than the clip (reported, not stretched),
clips without a file and files without a clip (reported), and two files for one clip (refused). A constant
delay is not undone: SI-SDR is defined sample by sample, so a decoder that shifts its output is measured so.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.autoencoders.base import AutoencoderSpec
from benchmarks.autoencoders.own.adapted import with_channels
from benchmarks.datasets.audio_files import AUDIO_SUFFIXES, read_excerpt
from benchmarks.datasets.clip_files import Matches, as_text, match
from m2l.audio import fit_length, resample
from m2l.io.folders import Found, find_files

#: Codecs pad or drop part of a frame: up to this many seconds more or less are cut or filled with silence.
TOLERANCE = 0.1


class External:
    """A folder of reconstructions.

    A clip's file is one with the clip's own id, in subfolders or not, or the one `m2l-bench export-clips` names, with
    any suffix of an audio file (see `benchmarks.datasets.clip_files`). Links to folders are followed.

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
        if not self.files.files:
            raise FileNotFoundError(f"no audio file in {path!r} (looked for {' '.join(AUDIO_SUFFIXES)})")

    @cached_property
    def files(self) -> Found:
        """The audio files, and what was left out."""
        return find_files(self.path, AUDIO_SUFFIXES)

    def matches(self, clip_ids: Iterable[str]) -> Matches:
        """Which file belongs to which of all clips of a data set."""
        return match(clip_ids, self._by_name)

    def path_of(self, file: str) -> Path:
        """Where a file of `matches` is."""
        return self._by_name.get(file, self.path / file)

    @cached_property
    def _by_name(self) -> Mapping[str, Path]:
        return {as_text(file.relative_to(self.path).as_posix()): file for file in self.files.files}

    def reconstruction(self, file: str, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """A file of the folder, as float32 of the shape and rate of the clip it belongs to.

        Raises:
            ValueError: unreadable, or of another rate or length; the message is the reason the tables count.
        """
        path = self.path_of(file)
        try:
            output, rate = read_excerpt(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"unreadable: {str(error).replace(str(path), 'the file')}") from error
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
    output: np.ndarray, rate: int, audio: np.ndarray, sample_rate: int, tolerance: float, may_resample: bool
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
    output = with_channels(resample(output, rate, sample_rate, exact=False), audio.shape[0])
    return np.ascontiguousarray(fit_length(output, audio.shape[1]), dtype=np.float32)


def wav_bytes(audio: np.ndarray, sample_rate: int) -> bytes:
    """A WAV file of float32 samples, bit for bit those of `(channels, samples)`; the same bytes every time.

    libsndfile would put the time of day into it (PEAK chunk).
    """
    from scipy.io import wavfile

    buffer = io.BytesIO()
    wavfile.write(buffer, sample_rate, np.ascontiguousarray(audio.T, dtype=np.float32))
    return buffer.getvalue()
