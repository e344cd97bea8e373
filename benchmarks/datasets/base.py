"""Clips and data sets: the common form in which the harness and the probes read audio from any source.

A `Clip` has labels and a digest that changes whenever its samples would, and loads the samples only when asked,
so that a list of thousands of clips costs nothing and travels to any worker process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from m2l.audio import AudioError, check_audio

Audio = npt.NDArray[np.float32]


class DataNotFoundError(FileNotFoundError):
    """A data set is not on this machine; the message says where we looked and how to get it."""


class ClipError(ValueError):
    """A clip cannot be read; the message names the file and the fault."""


@runtime_checkable
class Loader(Protocol):
    """Whatever produces a clip's samples. Loaders are picklable: clips are sent to worker processes."""

    def __call__(self) -> tuple[npt.NDArray[Any], int]:
        """Return samples (channels, samples) and the sample rate in Hz."""
        ...


@dataclass(frozen=True)
class Clip:
    """One piece of audio and its metadata.

    Attributes:
        id: Unique within the data set, stable between versions of it.
        dataset: Name of the data set.
        digest: Hex digest that changes whenever the samples would.
        labels: All annotations of the clip (plain JSON types).
        source: Where the audio comes from, for people: a file, `github:OWNER/REPO@COMMIT:PATH`, a seed.
        loader: Produces the samples.
        split: `train`, `valid`, `test`, a fold name, or None where the data set has no splits.
        seconds: Length where it is known without loading.
        license: License of this clip's audio, where it differs within the data set.
        group: What clips that are not independent of each other share (a track, an artist): resampling keeps them
            together. Empty: the clip is its own group. Results hold it, content keys of audio do not.
    """

    id: str
    dataset: str
    digest: str
    labels: Mapping[str, Any] = field(hash=False)
    source: str
    loader: Loader = field(compare=False, repr=False)
    split: str | None = None
    seconds: float | None = None
    license: str | None = None
    group: str = ""

    @property
    def cluster(self) -> str:
        """The group, or the clip's own id where it has none."""
        return self.group or self.id

    def load(self) -> tuple[Audio, int]:
        """Read or render the samples.

        Returns:
            float32 audio `(channels, samples)` in about [-1, 1], and its sample rate in Hz.

        Raises:
            ClipError: The audio is unreadable, empty, has NaN or infinite samples or an impossible rate.
                Short, silent, many-channel and low-rate audio is returned: the metric decides whether it
                can be measured.
            FileNotFoundError: The file does not exist.
        """
        audio, sample_rate = self.loader()
        try:
            return check_audio(audio, sample_rate, f"clip {self.id!r} of {self.dataset!r}"), int(sample_rate)
        except AudioError as error:
            raise ClipError(str(error)) from None


@dataclass(frozen=True)
class PublishedSize:
    """How large a data set is when it is complete, for plans without the data.

    Attributes:
        data: Name of the data set.
        clips: Number of clips.
        seconds: Length of each.
        source: Who says so.
        command: What gets it.
    """

    data: str
    clips: int
    seconds: float
    source: str
    command: str

    def stand_ins(self) -> list[Clip]:
        """Clips without audio, as many as the data set has."""
        return [
            Clip(f"{self.data}-{i}", self.data, "", {}, "stand-in", _no_audio, seconds=self.seconds)
            for i in range(self.clips)
        ]

    def describe(self, error: object) -> str:
        """Why the data is missing, how large it is said to be, and what gets it."""
        text = str(error)
        hint = "" if self.command in text else f" To get it: {self.command}"
        return f"{text}. Planned with its published size ({self.source}).{hint}"


def _no_audio() -> tuple[npt.NDArray[Any], int]:
    raise DataNotFoundError("a stand-in has no audio")


@runtime_checkable
class Dataset(Protocol):
    """A named, versioned list of clips.

    A class may state `published: PublishedSize`, with which a dry run plans where the data is missing, and
    `group_name`, the word for its groups of clips ("track"), with which captions count them.
    """

    name: str
    version: str
    license: str
    citation: str

    def clips(self, split: str | None = None) -> list[Clip]:
        """List the clips in a fixed order, of one split or (None) of the data set's default selection.

        Raises:
            ValueError: The split does not exist.
            DataNotFoundError: The data is not on this machine.
        """
        ...


@dataclass(frozen=True)
class Beginning:
    """Loads the first `seconds` of what another loader produces."""

    loader: Loader
    seconds: float

    def __call__(self) -> tuple[npt.NDArray[Any], int]:
        audio, sample_rate = self.loader()
        return audio[:, : round(self.seconds * sample_rate)], sample_rate

    @property
    def path(self) -> str | None:
        """The file behind it, if there is one."""
        return getattr(self.loader, "path", None)


def shortened(clips: Sequence[Clip], seconds: float) -> list[Clip]:
    """Clips cut to their first `seconds` (0: whole), under digests of their own; shorter ones stay as they are."""
    return [
        clip
        if not seconds or (clip.seconds is not None and clip.seconds <= seconds)
        else replace(
            clip,
            digest=digest_of("beginning", clip.digest, seconds),
            loader=Beginning(clip.loader, seconds),
            seconds=seconds,
        )
        for clip in clips
    ]


def digest_of(*parts: Any) -> str:
    """Hash JSON-serializable parts into a hex digest (sha256), the same on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def dataset_digest(clips: Sequence[Clip]) -> str:
    """Hash what a result over these clips depends on: ids, sample digests, splits and labels, in order."""
    return digest_of([[clip.id, clip.digest, clip.split, dict(clip.labels)] for clip in clips])


def check_split(split: str | None, splits: Sequence[str], dataset: str) -> None:
    """Raise a ValueError that names the known splits unless `split` is one of them, "all" or None."""
    if split not in (None, "all", *splits):
        raise ValueError(f"data set {dataset!r} has no split {split!r} (splits: {', '.join([*splits, 'all'])})")


def select_split(clips: Sequence[Clip], split: str | None, splits: Sequence[str], dataset: str) -> list[Clip]:
    """Keep the clips of one split; None and "all" keep all of them.

    Raises:
        ValueError: The split does not exist.
    """
    check_split(split, splits, dataset)
    return [clip for clip in clips if split in (None, "all", clip.split)]


#: Cross-validation folds as splits, as TinySOL (and sets in its shape) use them.
N_FOLDS = 5
#: The single split of mir_ref: fold 0 validates, fold 1 tests, the rest trains.
SPLIT_OF_FOLD = ("valid", "test", "train", "train", "train")
FOLD_NAMES = tuple(f"fold{i}" for i in range(N_FOLDS))


def select_fold(clips: Sequence[Clip], split: str | None, dataset: str) -> list[Clip]:
    """Keep a split: `train`, `valid`, `test`, or one fold by name (`fold0` … `fold4`).

    Clips carry their fold in `labels["fold"]`.

    Raises:
        ValueError: The split does not exist.
    """
    check_split(split, ("train", "valid", "test", *FOLD_NAMES), dataset)
    if split in FOLD_NAMES:
        return [clip for clip in clips if clip.labels["fold"] == FOLD_NAMES.index(str(split))]
    return [clip for clip in clips if split in (None, "all", clip.split)]
