"""Audio files block by block, at constant memory, resampled on the way in and out."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
import soxr

from m2l.audio import AudioError, as_channels_first, check_sample_rate, check_values, resampled_length
from m2l.io.atomic import written_beside
from m2l.io.sound import BLOCK_FRAMES, SoundFile, open_sound, output_format, reason_of, sound_info, sound_name

log = logging.getLogger("m2l")


class BlockReader(Protocol):
    """A source of audio blocks at one sample rate."""

    sample_rate: int
    channels: int
    #: Rate and number of the samples before resampling; the number is final once `read` has come to the end.
    source_rate: int
    source_samples: int
    #: What `source_samples` will come to, where that is known beforehand.
    expected_samples: int | None

    def read(self, samples: int) -> np.ndarray:
        """The next (channels, samples) float32; fewer at the end, none after it."""


class Resampler:
    """soxr as a stream: the same output as in one piece, whatever the blocks."""

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        self.rates = (rate_in, rate_out)
        self.samples_in = 0
        self.samples_out = 0
        # A stream a channel, for soxr interleaves and limits their number.
        self._streams = [] if rate_in == rate_out else [_soxr_stream(rate_in, rate_out) for _ in range(channels)]

    def push(self, block: np.ndarray, last: bool) -> np.ndarray:
        self.samples_in += block.shape[1]
        if self._streams:
            rows = [
                stream.resample_chunk(np.ascontiguousarray(row), last=last)
                for stream, row in zip(self._streams, block, strict=True)
            ]
            block = np.stack(rows) if rows[0].size else np.zeros((len(rows), 0), np.float32)
        if last and self.samples_in:
            # soxr may end a sample early or late.
            missing = resampled_length(self.samples_in, *self.rates) - self.samples_out - block.shape[1]
            block = np.pad(block, ((0, 0), (0, missing))) if missing > 0 else block[:, : block.shape[1] + missing]
        self.samples_out += block.shape[1]
        return block


def _soxr_stream(rate_in: int, rate_out: int) -> soxr.ResampleStream:
    return soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ")


class _Blocks:
    """The part that readers share: take source blocks until enough has come out of the resampler."""

    def __init__(self, rate_in: int, rate_out: int | None, channels: int) -> None:
        self.source_rate = rate_in
        self.sample_rate = rate_in if rate_out is None else check_sample_rate(rate_out)
        self.channels = channels
        self.source_samples = 0
        self._resampler = Resampler(rate_in, self.sample_rate, channels)
        self._pending: np.ndarray = np.zeros((channels, 0), np.float32)
        self._taken = 0
        self._ended = False

    def _next_source_block(self) -> np.ndarray:
        raise NotImplementedError

    def read(self, samples: int) -> np.ndarray:
        """The next (channels, samples) float32; fewer at the end, none after it.

        Raises:
            AudioError: if the source turns out to be damaged, truncated, empty or not finite.
        """
        ready = [self._pending[:, self._taken :]]
        count = ready[0].shape[1]
        if count < samples and not self._ended:
            while count < samples and not self._ended:
                block = self._next_source_block()
                self._ended = block.shape[1] == 0
                self.source_samples += block.shape[1]
                made = self._resampler.push(block, last=self._ended)
                ready.append(made)
                count += made.shape[1]
            self._pending, self._taken = np.concatenate(ready, axis=1), 0
        begin = self._taken
        self._taken = min(begin + samples, self._pending.shape[1])
        # A copy: a view would keep all that is pending alive.
        return self._pending[:, begin : self._taken].copy()


class PushReader(_Blocks):
    """Blocks that are handed in as they come, resampled to `rate_out`; `read` gives no more than is `available`.

    Args:
        rate_in: of the blocks, in Hz.
        rate_out: of what is read.
        channels: of the blocks.
    """

    expected_samples: int | None = None

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        super().__init__(check_sample_rate(rate_in), rate_out, channels)

    def push(self, block: np.ndarray, last: bool) -> None:
        """Take in (channels, n) float32.

        Raises:
            AudioError: samples that are not finite, or none at all when it was the last.
        """
        check_values(block, "the block")
        self.source_samples += block.shape[1]
        if last and not self.source_samples:
            raise AudioError("the stream ends without any audio")
        made = self._resampler.push(block, last=last)
        self._pending, self._taken = np.concatenate([self._pending[:, self._taken :], made], axis=1), 0
        self._ended = last

    @property
    def available(self) -> int:
        """Samples that can be read now."""
        return self._pending.shape[1] - self._taken

    def _next_source_block(self) -> np.ndarray:
        raise AudioError("more was read of a stream than has been handed in")


class AudioReader(_Blocks):
    """Reads a file in blocks, resampled to `sample_rate` where one is given.

    Streams that are joined in the file are read one after the other.

    Args:
        path: anything libsndfile reads.
        sample_rate: rate of the blocks in Hz; the file's own if None.
        start: first frame, at the file's own rate.
        incomplete: read what exists of a file that is cut short, with a warning, instead of refusing it.

    Attributes:
        fault: what is missing of a file read with `incomplete`; None where nothing is known to be.

    Raises:
        OSError: if the file does not exist, is a folder, or cannot be opened.
        AudioError: if it is no audio, holds no samples, is cut short, or ends before `start`.
    """

    def __init__(
        self, path: str | os.PathLike[str], sample_rate: int | None = None, start: int = 0, incomplete: bool = False
    ) -> None:
        self._path = os.fspath(path)
        self._file = SoundFile(path, incomplete)
        try:
            self.fault = self._file.fault
            self.info = self._file.info
            super().__init__(self.info.sample_rate, sample_rate, self.info.channels)
            total = self.info.frames
            if total == 0:
                raise AudioError(f"{self._path} holds no audio samples")
            if start < 0 or (total is not None and start >= total):
                raise AudioError(f"start {start} is outside {self._path}, which has {total} samples a channel")
            self.expected_samples = None if total is None else total - start
            if start:
                self._file.seek(start)
            self._start = start
            for word in (self._file.fault, self._file.note):
                if word is not None:
                    log.warning("%s %s", self._path, word)
        except BaseException:
            self._file.close()
            raise

    def _next_source_block(self) -> np.ndarray:
        block = self._file.read()
        if block.shape[1] == 0 and self.source_samples == 0:
            raise AudioError(f"{self._path} holds no audio samples")
        if self._file.fault != self.fault:  # found while decoding
            self.fault = self._file.fault
            log.warning("%s %s", self._path, self.fault)
        check_values(block, self._path, self._start + self.source_samples)
        return block

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()


class ItemReader:
    """The same interface over an array (items, samples) that is already checked and at the right rate, in Hz."""

    def __init__(self, items: np.ndarray, sample_rate: int) -> None:
        self.sample_rate = self.source_rate = sample_rate
        self.channels = len(items)
        self.source_samples = 0
        self.expected_samples: int | None = items.shape[1]
        self._items = items

    def read(self, samples: int) -> np.ndarray:
        """The next (items, samples); fewer at the end, none after it."""
        block = self._items[:, self.source_samples : self.source_samples + samples]
        self.source_samples += block.shape[1]
        return block


def read_audio(
    path: str | os.PathLike[str], start: int = 0, frames: int = -1, *, incomplete: bool = False
) -> tuple[np.ndarray, int]:
    """Read a file, or a part of it.

    Args:
        path: anything libsndfile reads (WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF, CAF, …).
        start: first frame, in the file's own rate.
        frames: how many; -1 for all that follow. Fewer come back where the file ends earlier.
        incomplete: read what exists of a file that is cut short, with a warning, instead of refusing it.

    Returns:
        float32 (channels, samples) and the file's sample rate.

    Raises:
        OSError: if it does not exist, is a folder, or cannot be opened.
        AudioError: not audio, damaged, shorter than its header says, empty, beyond its end, or not finite.
    """
    with AudioReader(path, start=start, incomplete=incomplete) as reader:
        wanted = frames if frames >= 0 else None
        blocks: list[np.ndarray] = []
        while wanted is None or wanted > 0:
            block = reader.read(BLOCK_FRAMES if wanted is None else min(wanted, BLOCK_FRAMES))
            if not block.shape[1]:
                break
            blocks.append(block)
            wanted = None if wanted is None else wanted - block.shape[1]
        audio = np.concatenate(blocks, axis=1) if blocks else np.zeros((reader.channels, 0), np.float32)
        return audio, reader.sample_rate


def samples_of(audio: Any, sample_rate: int | None) -> tuple[Any, int | None]:
    """The samples and rate of a file if `audio` is a path, else both as they are.

    Raises:
        OSError, AudioError: see `read_audio`; also for a path with a rate, since a file has its own.
    """
    if not isinstance(audio, (str, os.PathLike)):
        return audio, sample_rate
    if sample_rate is not None:
        raise AudioError(f"{os.fspath(audio)} has a sample rate of its own; sample_rate is for arrays")
    return read_audio(audio)


def _write_error(path: Path, reason: str) -> OSError:
    """libsndfile's failed write with the cause that it does not tell."""
    if shutil.disk_usage(path.parent).free < 2**20:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return OSError(errno.EIO, reason)


class AudioWriter:
    """The blocks of an open file; made by `audio_writer`."""

    def __init__(
        self,
        path: Path,
        file: soundfile.SoundFile,
        sample_rate: int,
        channels: int,
        frames: int | None,
        source_rate: int,
        clip: bool,
    ) -> None:
        self._path = path
        self._clip = clip
        self.sample_rate = sample_rate
        self.channels = channels
        self.frames_written = 0
        self._file = file
        self._frames = frames
        self._resampler = Resampler(source_rate, sample_rate, channels)

    def write(self, block: np.ndarray) -> None:
        """Append (channels, samples) float32; what exceeds [-1, 1] is clipped by integer formats.

        Raises:
            OSError: if the disk is full or the file may not grow.
        """
        self._append(self._resampler.push(block, last=False))

    def _append(self, block: np.ndarray) -> None:
        if self._frames is not None:
            block = block[:, : self._frames - self.frames_written]
        if self._clip:
            block = block.clip(-1.0, 1.0)
        for start in range(0, block.shape[1], BLOCK_FRAMES):
            part = np.ascontiguousarray(block[:, start : start + BLOCK_FRAMES].T, np.float32)
            try:
                self._file.write(part)
            # soundfile asserts that libsndfile wrote as much as it was given.
            except (soundfile.SoundFileError, RuntimeError, AssertionError) as error:
                raise _write_error(self._path, reason_of(error)) from error
        self.frames_written += block.shape[1]

    def _finish(self) -> None:
        if self._resampler.samples_in:
            self._append(self._resampler.push(np.zeros((self.channels, 0), np.float32), last=True))
        while self._frames is not None and self.frames_written < self._frames:
            missing = min(self._frames - self.frames_written, BLOCK_FRAMES)
            self._append(np.zeros((self.channels, missing), np.float32))


@contextmanager
def audio_writer(
    path: str | os.PathLike[str],
    sample_rate: int,
    channels: int,
    *,
    frames: int | None = None,
    source_rate: int | None = None,
    subtype: str | None = None,
    clip: bool = False,
) -> Iterator[AudioWriter]:
    """Write a file in blocks, whole or not at all.

    Args:
        path: target; the suffix chooses the format (`m2l.io.sound.FORMATS`).
        sample_rate: rate of the file in Hz.
        channels: number of channels.
        frames: exact length of the file in samples; longer input is cut, shorter is padded with zeros.
            None takes the blocks as they come.
        source_rate: rate of the blocks given to `write`, resampled to `sample_rate`; the same if None.
        subtype: libsndfile's sample format instead of the default.
        clip: cut off what exceeds [-1, 1] after resampling; integer formats do so anyway.

    Yields:
        The writer. The file takes its name when the block ends well, and leaves no trace otherwise.

    Raises:
        OSError: if the target cannot be written; the message names it.
        AudioError: for a suffix, rate or channel count that the format does not have.
    """
    rate = check_sample_rate(sample_rate)
    kind = output_format(path, subtype, 8.0 * channels * (frames or 0))
    with written_beside(path) as partial:
        # Made by us first: the operating system's error says more than libsndfile's "System error".
        with open(partial, "wb"):
            pass
        try:
            file = soundfile.SoundFile(sound_name(partial), "w", rate, channels, kind[1], format=kind[0])
        except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
            if "System error" in str(error):
                raise _write_error(partial, reason_of(error)) from error
            raise AudioError(
                f"cannot write {os.fspath(path)} as {'/'.join(kind)} with {channels} channels at "
                f"{rate} Hz: {reason_of(error)}"
            ) from error
        with file:
            blocks_rate = check_sample_rate(source_rate or rate)
            writer = AudioWriter(partial, file, rate, channels, frames, blocks_rate, clip)
            yield writer
            writer._finish()
        # libsndfile says nothing when its last bytes did not fit on the disk.
        with open_sound(partial) as written:
            kept = sound_info(written, path).frames
        if kept is None or (kept < writer.frames_written and kind[0] != "MP3"):
            raise OSError(errno.EIO, f"only {kept} of {writer.frames_written} samples were kept (is the disk full?)")


def write_audio(path: str | os.PathLike[str], audio: np.ndarray, rate: int, *, subtype: str | None = None) -> None:
    """Write a file whole or not at all; the suffix chooses the format.

    Args:
        path: target; see `FORMATS`. WAV is 32-bit float by default, so it reads back bit for bit.
        audio: any shape `as_channels_first` takes, without a batch axis.
        rate: sample rate in Hz.
        subtype: libsndfile's name of a sample format, such as "PCM_16", instead of the default.

    Raises:
        OSError: if it cannot be written (no folder, no permission, disk full); no partial file is left.
        AudioError: for audio that is refused, or a suffix, rate or channel count the format does not have.
    """
    array = as_channels_first(audio)
    if array.ndim != 2:
        raise AudioError(f"a file holds (channels, samples), not shape {array.shape}")
    with audio_writer(path, rate, array.shape[0], frames=array.shape[1], subtype=subtype) as writer:
        writer.write(array)
