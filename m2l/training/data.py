"""Random crops of audio files at their own sample rate, the same for the same (seed, step, item).

The reference draws each crop from a corpus chosen with equal probability, at the file's native rate (44.1 or
48 kHz, never resampled), from one of the first two channels, and draws again when its RMS is below 0.001. No
other augmentation. All of an item's randomness comes from (seed, step, item): workers, restarts and the number of
processes change nothing. A place that cannot be read is drawn again, too, and counted.

Nothing is left out of a corpus silently: `Corpus.left_out` says what and why.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from m2l.audio import AudioError
from m2l.config import Music2LatentConfig
from m2l.consistency import sample_t
from m2l.io.blocks import read_audio
from m2l.io.folders import OTHER_AUDIO, find_files
from m2l.io.sound import FORMATS, audio_info
from m2l.representation import n_samples
from m2l.training.settings import SettingsError, TrainingSettings

#: Sample rates of training audio: others would need resampling, or would shift all pitches.
NATIVE_RATES = (44_100, 48_000)
#: Draws of one crop before its corpus is given up.
MAX_DRAWS = 100
#: Bytes of the longest manifest: more is some other kind of file.
MAX_MANIFEST = 2**29


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
    """Files that are drawn from with one weight; each file is as likely as the next.

    `left_out` holds what was found and cannot be drawn from: reason -> paths.
    """

    name: str
    weight: float
    stretches: tuple[Stretch, ...]
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Audio in all."""
        return sum((part.stop - part.start) / part.sample_rate for part in self.stretches)

    @property
    def files(self) -> int:
        """Files that crops come from."""
        return len({part.path for part in self.stretches})

    @property
    def complaint(self) -> str | None:
        """What was left out and why, in one line with a file of each kind; None if nothing was."""
        count = sum(map(len, self.left_out.values()))
        if not count:
            return None
        examples = ", ".join(Path(paths[0]).name for _, paths in sorted(self.left_out.items()))
        return (
            f"{self.name}: {self.files} of {self.files + count} files are used; left out: "
            f"{_reasons(self.left_out)} (such as {examples})"
        )

    def describe(self) -> dict[str, Any]:
        """Name, weight, files, hours and rates, and how many files were left out for which reason."""
        facts = {
            "name": self.name,
            "weight": self.weight,
            "files": self.files,
            "hours": round(self.seconds / 3600, 3),
            "sample_rates": sorted({part.sample_rate for part in self.stretches}),
        }
        left_out = {reason: len(paths) for reason, paths in sorted(self.left_out.items())}
        return {**facts, "left_out": left_out} if left_out else facts


def open_corpus(spec: str, crop_samples: int, split: str = "train", own: Path | None = None) -> Corpus:
    """The corpus that `PATH[=WEIGHT]` names.

    Args:
        spec: a folder (all audio below it, links followed), an audio file, or a manifest: CSV with a header, or JSON
            lines, with a column `path` and optionally `split`, and `start` with or without `seconds` for the part to
            use. Paths in it are relative to the manifest's folder or to the one above.
        crop_samples: files shorter than this are left out, as are rates other than 44.1 and 48 kHz.
        split: rows used, where the manifest has a column `split`.
        own: the run's folder; audio that a validation wrote there is no training data.

    Raises:
        DataError: for a path that does not exist, a weight that is not a positive number, or no usable audio; the
            message counts what was left out and why.
    """
    path, weight = _path_and_weight(spec)
    left_out: dict[str, list[str]] = {}
    try:
        rows = _rows(path, split, left_out)
    except OSError as error:
        raise DataError(f"training data at {str(path)!r}: {error.strerror or error}") from error
    inside = None if own is None else os.path.realpath(own) + os.sep
    stretches: list[Stretch] = []
    for row in rows:
        if inside and path.is_dir() and os.path.realpath(row["path"]).startswith(inside):
            left_out.setdefault("in the run's own folder", []).append(str(row["path"]))
            continue
        found = _stretch(row, crop_samples)
        if isinstance(found, Stretch):
            stretches.append(found)
        else:
            left_out.setdefault(found, []).append(str(row["path"]))
    if not stretches:
        raise DataError(f"no usable audio in {str(path)!r}: {_reasons(left_out) or 'it holds no audio files'}")
    return Corpus(spec, weight, tuple(stretches), left_out)


def _reasons(left_out: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{len(paths)} {reason}" for reason, paths in sorted(left_out.items()))


def _rows(path: Path, split: str, left_out: dict[str, list[str]]) -> list[dict[str, Any]]:
    if path.is_dir():
        found = find_files(path)
        left_out.update({reason: [str(one) for one in paths] for reason, paths in found.left_out.items()})
        return [{"path": one} for one in found.files]
    if not path.exists():
        raise DataError(f"no training data at {str(path)!r}")
    if not path.is_file():
        raise DataError(f"training data at {str(path)!r}: not a regular file (a pipe or device)")
    if path.suffix.lower() in FORMATS:
        return [{"path": path}]
    return _manifest_rows(path, split)


def _path_and_weight(spec: str) -> tuple[Path, float]:
    whole = Path(os.path.expanduser(spec))
    if spec.strip() and os.path.lexists(whole):  # a path may hold a "=" itself
        return whole, 1.0
    path, equals, text = spec.rpartition("=")
    try:
        weight = float(text) if equals else 1.0
    except ValueError:
        return whole, 1.0
    if not 0 < weight < float("inf"):
        raise DataError(f"weight of {path!r} must be a positive number, not {text}")
    if not (path if equals else spec).strip():  # would be the current folder
        raise DataError(f"training data {spec!r} names no path")
    return Path(os.path.expanduser(path)) if equals else whole, weight


def _manifest_rows(path: Path, split: str) -> list[dict[str, Any]]:
    if path.suffix.lower() in OTHER_AUDIO:
        raise DataError(f"{str(path)!r} is not a manifest, and {path.suffix} is not a readable audio format")
    if path.stat().st_size > MAX_MANIFEST:
        raise DataError(f"{str(path)!r} is not a manifest: it has {path.stat().st_size} bytes")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() in (".jsonl", ".json"):
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = list(csv.DictReader(text.splitlines()))
        if not rows:
            raise ValueError("it has no rows")
        if not all(isinstance(row, dict) and row.get("path") and isinstance(row["path"], str) for row in rows):
            raise ValueError("it needs a 'path' in every row")
    except (ValueError, TypeError, csv.Error, RecursionError) as error:
        raise DataError(f"{str(path)!r} is not a manifest: {error}") from error
    if any("split" in row for row in rows):
        splits = sorted({str(row.get("split")) for row in rows})
        rows = [row for row in rows if row.get("split") == split]
        if not rows:
            raise DataError(f"{str(path)!r} has no rows of split {split!r}; its splits: {', '.join(splits)}")
    for row in rows:
        below, above = path.parent / row["path"], path.parent.parent / row["path"]
        row["path"] = below if below.exists() or not above.exists() else above
        if not row["path"].is_file():
            what = "what is not a file" if row["path"].exists() else "a file that is not there"
            raise DataError(f"{str(path)!r} names {what}: {str(below)!r}")
    return rows


def _stretch(row: dict[str, Any], crop_samples: int) -> Stretch | str:
    """The usable stretch, or the reason why there is none."""
    try:
        info = audio_info(row["path"])
    except (AudioError, OSError) as error:
        return "cut short" if "cut short" in str(error) else "unreadable"
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
        """The crop, its noise and its origin: `waveform` (samples,), `noise` (2, n_bins, T), `origin` text.

        `unreadable` holds (path, what was wrong) of each draw before it that could not be read.
        """
        step, index = divmod(item, self.settings.batch_size)
        random = _random(self.settings.seed, step, index + 1)
        unreadable: list[tuple[str, str]] = []
        crop, origin = self._crop(random, unreadable)
        seed = int(random.integers(2**63))
        noise = torch.randn(
            (2, self.config.n_bins, self.settings.crop_frames), generator=torch.Generator().manual_seed(seed)
        )
        return {"waveform": torch.from_numpy(crop), "noise": noise, "origin": origin, "unreadable": unreadable}

    def _crop(self, random: np.random.Generator, unreadable: list[tuple[str, str]]) -> tuple[np.ndarray, str]:
        corpus = self.corpora[min(int(np.searchsorted(self._edges, random.random())), len(self.corpora) - 1)]
        for _ in range(MAX_DRAWS):
            part = corpus.stretches[int(random.integers(len(corpus.stretches)))]
            start = part.start + int(random.integers(part.stop - part.start - self.samples + 1))
            channel = int(random.integers(min(part.channels, 2)))
            try:
                audio, rate = read_audio(part.path, start, self.samples)
                if rate != part.sample_rate or len(audio) <= channel:
                    raise AudioError(f"{part.path} has changed since the run was started")
            except (AudioError, OSError) as error:
                unreadable.append((part.path, f"no crop at {start / part.sample_rate:.3f} s: {error}"))
                continue
            crop = np.ascontiguousarray(audio[channel])
            if len(crop) == self.samples and float(np.sqrt(np.mean(crop**2))) >= self.settings.silence_rms:
                return crop, f"{part.path} @{start / part.sample_rate:.3f}s channel {channel}"
        if unreadable:
            raise DataError(
                f"{corpus.name!r}: {len(unreadable)} of {MAX_DRAWS} draws in a row could not be read: "
                f"{unreadable[-1][1]}"
            )
        raise DataError(f"{corpus.name!r}: {MAX_DRAWS} crops in a row were below RMS {self.settings.silence_rms}")


def crop_samples(settings: TrainingSettings, config: Music2LatentConfig) -> int:
    """Length of a crop: 34,304 samples for 64 frames."""
    return n_samples(settings.crop_frames, config)


class StepOrder(Sampler[list[int]]):
    """This process's items of each step, one accumulated part after the other, from `first_step` on.

    Part `a` of rank `r` takes every item of the batch once over all (r, a), whatever their numbers.
    """

    def __init__(self, settings: TrainingSettings, first_step: int, rank: int = 0, world_size: int = 1) -> None:
        self.settings, self.first_step, self.rank, self.world_size = settings, first_step, rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        share, part = self.settings.shares(self.world_size)
        for step in range(self.first_step, self.settings.steps):
            first = step * self.settings.batch_size + self.rank * share
            for offset in range(0, share, part):
                yield list(range(first + offset, first + offset + part))

    def __len__(self) -> int:
        return (self.settings.steps - self.first_step) * self.settings.gradient_accumulation


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: stacked tensors, the list of origins, and what could not be read on the way."""
    return {
        "waveform": torch.stack([item["waveform"] for item in items]),
        "noise": torch.stack([item["noise"] for item in items]),
        "origin": [item["origin"] for item in items],
        "unreadable": [fault for item in items for fault in item["unreadable"]],
    }


def times_of(step: int, settings: TrainingSettings, config: Music2LatentConfig) -> Tensor:
    """The whole batch's times t_{i+1} of a step, (batch_size,), drawn from (seed, step)."""
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
