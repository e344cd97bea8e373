"""Payloads: what the function of each stage needs beside its inputs. They are pickled and sent to workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.datasets import Clip
from benchmarks.suite import Data


@dataclass(frozen=True)
class Limits:
    """Which clips are measured: `channels` ("mono" or "native"), and the least length, rate and level."""

    channels: str
    min_seconds: float
    min_sample_rate: int
    silence_rms: float

    @classmethod
    def of(cls, data: Data, *, stereo: bool = False) -> Limits:
        """The limits that a suite's [data] sets; with "stereo" channels for the view of one kind of metric.

        Args:
            stereo: of metrics that see stereo.
        """
        channels = ("native" if stereo else "mono") if data.channels == "stereo" else data.channels
        return cls(channels, data.min_seconds, data.min_sample_rate, data.silence_rms)


@dataclass(frozen=True)
class LoadJob:
    """Payload of `load`."""

    clips: tuple[Clip, ...]
    limits: Limits


@dataclass(frozen=True)
class ReconstructJob:
    """Payload of `reconstruct`: a system, its options and denoising steps; noise is seeded by (seed, clip id)."""

    name: str
    options: Mapping[str, Any]
    n_steps: int | None
    seed: int


@dataclass(frozen=True)
class ReadFilesJob:
    """Payload of `read_files`: the folder of an external system, and what its clips' files are.

    Attributes:
        folder: of the files.
        tolerance, resample: as `External` takes them.
        files: clip id -> (file, its sha256).
        refused: clip id -> why it has no file.
    """

    folder: str
    tolerance: float
    resample: bool
    files: Mapping[str, tuple[str, str]]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class EmbedJob:
    """Payload of `embed`: an embedder and its options."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: seed, number of bootstrap resamples of scores, and coverage."""

    seed: int
    resamples: int
    level: float


@dataclass(frozen=True)
class AggregateJob:
    """Payload of `aggregate_pairs` and `aggregate_corpus`.

    Attributes:
        resampling: how intervals are made.
        clip_ids: the order of the clips.
        groups: clip -> group, of clips that are not their own group.
        distance: of a corpus metric.
    """

    resampling: Resampling
    clip_ids: tuple[str, ...]
    groups: Mapping[str, str]
    distance: str = ""

    def groups_of(self, clips: Iterable[str]) -> list[str]:
        """The group of each clip."""
        return [self.groups.get(clip, clip) for clip in clips]


@dataclass(frozen=True)
class CompareJob:
    """Payload of `compare_score_units` and `compare_corpus_units`: the rows of the inputs, and clip -> group."""

    rows: tuple[str, ...]
    resampling: Resampling
    groups: Mapping[str, str]
