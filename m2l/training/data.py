"""Random crops of audio files at their own sample rate, the same for the same (seed, step, item).

The reference draws each crop from a corpus chosen with equal probability, at the file's native rate (44.1 or
48 kHz, never resampled), from one of the first two channels, and draws again when its RMS is below 0.001. No
other augmentation. All of an item's randomness comes from (seed, step, item): workers, restarts and the number of
processes change nothing.
"""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from m2l.audio import FORMATS, AudioError, audio_info, read_audio
from m2l.config import Music2LatentConfig
from m2l.representation import n_samples
from m2l.training.settings import SettingsError, TrainingSettings

#: Sample rates of training audio: others would need resampling, or would shift all pitches.
NATIVE_RATES = (44_100, 48_000)
#: Draws of one crop before its corpus is called silent.
MAX_DRAWS = 100


class DataError(SettingsError):
    """Training data that cannot be used; the message names the path."""


@dataclass(frozen=True)
class Stretch:
    """The part of a file that crops are taken from, in samples at its own rate."""

    path: str
    sample_rate: int
    channels: int
    start: int
    stop: int


@dataclass(frozen=True)
class Corpus:
    """Files that are drawn from with one weight; each file is as likely as the next."""

    name: str
    weight: float
    stretches: tuple[Stretch, ...]

    @property
    def seconds(self) -> float:
        """Audio in all."""
        return sum((part.stop - part.start) / part.sample_rate for part in self.stretches)


def open_corpus(spec: str, crop_samples: int, split: str = "train") -> Corpus:
    """The corpus that `PATH[=WEIGHT]` names.

    Args:
        spec: a folder (all audio below it), an audio file, or a manifest: CSV with a header, or JSON lines, with a
            column `path` and optionally `split`, and `start` with or without `seconds` for the part to use. Paths
            in it are relative to the manifest's folder or to the one above.
        crop_samples: files shorter than this are left out, as are rates other than 44.1 and 48 kHz.
        split: rows used, where the manifest has a column `split`.

    Raises:
        DataError: for a path that is not there, a weight that is no positive number, or nothing usable in it; the
            message counts what was left out and why.
    """
    path, weight = _path_and_weight(spec)
    if path.is_dir():
        rows = [
            {"path": found}
            for found in sorted(path.rglob("*"))
            if found.suffix.lower() in FORMATS and not found.name.startswith(".")
        ]
    elif not path.is_file():
        raise DataError(f"no training data at {str(path)!r}")
    elif path.suffix.lower() in FORMATS:
        rows = [{"path": path}]
    else:
        rows = _manifest_rows(path, split)
    stretches: list[Stretch] = []
    left_out: dict[str, int] = {}
    for row in rows:
        found = _stretch(row, crop_samples)
        if isinstance(found, Stretch):
            stretches.append(found)
        else:
            left_out[found] = left_out.get(found, 0) + 1
    if not stretches:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        raise DataError(f"no usable audio in {str(path)!r}: {reasons or 'it holds no audio files'}")
    return Corpus(spec, weight, tuple(stretches))


def _path_and_weight(spec: str) -> tuple[Path, float]:
    if Path(spec).exists():  # a path may hold a "=" itself
        return Path(spec), 1.0
    path, equals, text = spec.rpartition("=")
    if not equals:
        return Path(spec), 1.0
    try:
        weight = float(text)
    except ValueError:
        return Path(spec), 1.0
    if not 0 < weight < float("inf"):
        raise DataError(f"weight of {path!r} must be a positive number, not {text}")
    return Path(path), weight


def _manifest_rows(path: Path, split: str) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() in (".jsonl", ".json"):
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = list(csv.DictReader(text.splitlines()))
        if not rows:
            raise ValueError("it has no rows")
        if not all(
            isinstance(row, dict) and row.get("path") and isinstance(row["path"], str) for row in rows
        ):
            raise ValueError("it needs a 'path' in every row")
    except (ValueError, TypeError) as error:
        raise DataError(f"{str(path)!r} is no manifest: {error}") from error
    if any("split" in row for row in rows):
        splits = sorted({str(row.get("split")) for row in rows})
        rows = [row for row in rows if row.get("split") == split]
        if not rows:
            raise DataError(f"{str(path)!r} has no rows of split {split!r}; its splits: {', '.join(splits)}")
    for row in rows:
        below, above = path.parent / row["path"], path.parent.parent / row["path"]
        row["path"] = below if below.exists() or not above.exists() else above
        if not row["path"].is_file():
            raise DataError(f"{str(path)!r} names a file that is not there: {str(below)!r}")
    return rows


def _stretch(row: dict[str, Any], crop_samples: int) -> Stretch | str:
    """The usable stretch, or the reason why there is none."""
    try:
        info = audio_info(row["path"])
    except (AudioError, OSError):
        return "unreadable"
    rate, frames = info.sample_rate, info.frames
    if rate not in NATIVE_RATES:
        return f"at {rate} Hz (used are 44.1 and 48 kHz)"
    if frames is None:
        return "of unknown length"
    start, stop = 0, frames
    # Without `start`, `seconds` only describes the file, and rounds its length.
    if row.get("start") not in (None, ""):
        start = round(_seconds(row, "start") * rate)
        if row.get("seconds") not in (None, ""):
            stop = min(frames, start + round(_seconds(row, "seconds") * rate))
    if stop - start < crop_samples:
        return "shorter than a crop"
    return Stretch(str(row["path"]), rate, info.channels, start, stop)


def _seconds(row: dict[str, Any], column: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < math.inf:
        raise DataError(f"{column} of {str(row['path'])!r} must be seconds, not {row[column]!r}")
    return value


class Crops(Dataset[dict[str, Any]]):
    """Item `step * batch_size + index` is crop `index` of the batch of `step`; there is no last one.

    Args:
        corpora: drawn from in proportion to their weights.
        settings: seed, batch size, crop length and silence gate.
        config: of the model.
    """

    def __init__(self, corpora: list[Corpus], settings: TrainingSettings, config: Music2LatentConfig) -> None:
        self.corpora = corpora
        self.settings = settings
        self.config = config
        self.samples = crop_samples(settings, config)
        weights = np.array([corpus.weight for corpus in corpora])
        self._edges = np.cumsum(weights / weights.sum())

    def __getitem__(self, item: int) -> dict[str, Any]:
        """The crop, its noise and its origin: `waveform` (samples,), `noise` (2, n_bins, T), `origin` text."""
        step, index = divmod(item, self.settings.batch_size)
        random = _random(self.settings.seed, step, index + 1)
        crop, origin = self._crop(random)
        seed = int(random.integers(2**63))
        noise = torch.randn(
            (2, self.config.n_bins, self.settings.crop_frames), generator=torch.Generator().manual_seed(seed)
        )
        return {"waveform": torch.from_numpy(crop), "noise": noise, "origin": origin}

    def _crop(self, random: np.random.Generator) -> tuple[np.ndarray, str]:
        corpus = self.corpora[min(int(np.searchsorted(self._edges, random.random())), len(self.corpora) - 1)]
        for _ in range(MAX_DRAWS):
            part = corpus.stretches[int(random.integers(len(corpus.stretches)))]
            start = part.start + int(random.integers(part.stop - part.start - self.samples + 1))
            channel = int(random.integers(min(part.channels, 2)))
            try:
                audio, _ = read_audio(part.path, start, self.samples)
            except (AudioError, OSError) as error:
                raise DataError(f"no crop at {start / part.sample_rate:.3f} s: {error}") from error
            crop = np.ascontiguousarray(audio[channel])
            if len(crop) == self.samples and float(np.sqrt(np.mean(crop**2))) >= self.settings.silence_rms:
                return crop, f"{part.path} @{start / part.sample_rate:.3f}s channel {channel}"
        raise DataError(
            f"{corpus.name!r}: {MAX_DRAWS} crops in a row were below RMS {self.settings.silence_rms}"
        )


def crop_samples(settings: TrainingSettings, config: Music2LatentConfig) -> int:
    """Length of a crop: 34,304 samples for 64 frames."""
    return n_samples(settings.crop_frames, config)


class StepOrder(Sampler[list[int]]):
    """This process's items of each step, one accumulated part after the other, from `first_step` on.

    Part `a` of rank `r` takes every item of the batch once over all (r, a), whatever their numbers.
    """

    def __init__(
        self, settings: TrainingSettings, first_step: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.settings, self.first_step, self.rank, self.world_size = settings, first_step, rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        share, part = self.settings.shares(self.world_size)
        for step in range(self.first_step, self.settings.steps):
            first = step * self.settings.batch_size + self.rank * share
            for offset in range(0, share, part):
                yield list(range(first + offset, first + offset + part))

    def __len__(self) -> int:
        return (self.settings.steps - self.first_step) * self.settings.accumulate


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: stacked tensors, and the list of origins."""
    return {
        "waveform": torch.stack([item["waveform"] for item in items]),
        "noise": torch.stack([item["noise"] for item in items]),
        "origin": [item["origin"] for item in items],
    }


def next_batch(batches: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """The loader's next batch.

    Raises:
        DataError: of one line, whichever process found the fault.
    """
    try:
        return next(batches)
    except DataError as error:
        # Torch's frames hold error and loader in a circle. A loader that is collected as garbage cannot tell its
        # workers any more to end, and waits for them for ten seconds.
        traceback.clear_frames(error.__traceback__)
        # A worker's has a traceback in its text, and the class before the message.
        message = str(error).strip().splitlines()[-1].removeprefix(f"{__name__}.DataError: ")
    raise DataError(message)


def start_worker(_: int) -> None:
    """Set up a process that reads audio: one thread, since more would take the trainer's, and no death of its own.

    Ctrl-C and job schedulers signal all processes of a run. The trainer must finish its step and ends its workers
    itself, so they let the first signal pass; the second is the trainer's, at its own exit.
    """
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def times_of(step: int, settings: TrainingSettings, config: Music2LatentConfig) -> Tensor:
    """The whole batch's times t_{i+1} of a step, (batch_size,), drawn from (seed, step)."""
    from m2l.consistency import sample_t

    generator = torch.Generator().manual_seed(int(_random(settings.seed, step, 0).integers(2**63)))
    density: Any = settings.density
    times = sample_t(settings.batch_size, config, density=density, generator=generator)
    # Spread over the batch, so that no process of several has them all.
    direct = round(settings.direct_share * settings.batch_size)
    if direct:
        times[torch.arange(direct) * settings.batch_size // direct] = 1.0
    return times


def _random(seed: int, step: int, stream: int) -> np.random.Generator:
    # Always three numbers: numpy takes [seed, step] and [seed, step, 0] for the same seed.
    return np.random.Generator(np.random.PCG64([seed, step, stream]))
