"""The clips that a suite measures, or stand-ins for them where a dry run lacks the data."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.datasets import Clip, Dataset, PublishedSize, create_dataset, published_size
from benchmarks.datasets.base import shortened
from benchmarks.datasets.groups import describe, group_name, groups_of, spread
from benchmarks.harness.run import RunOptions
from benchmarks.registry import UnknownNameError
from benchmarks.store.fingerprint import digest
from benchmarks.suite import Suite, SuiteError

_UNKNOWN_SECONDS = 10.0


class SuiteClips:
    """The clips of one suite.

    Args:
        suite: whose [data] to read.
        options: limit, and whether it is a dry run.
        n_clips: use so many clips (0: all), spread over their groups: the first clip of each of the first groups.

    Attributes:
        stand_in: the missing data set's published size, where its clips stand in for it.
        missing: why the data set is missing, in that case.

    Raises:
        DataNotFoundError: the data set is not available (when `clips` is first used).
        SuiteError: the data set refuses the suite's options or split.
    """

    def __init__(self, suite: Suite, options: RunOptions, n_clips: int = 0) -> None:
        self.suite, self.options, self.n_clips = suite, options, n_clips
        self.stand_in: PublishedSize | None = None
        self.missing: FileNotFoundError | None = None

    @cached_property
    def all_clips(self) -> list[Clip]:
        """The clips of the data set's split, before any limit."""
        try:
            return self._dataset.clips(self.suite.data.split or None)
        except (TypeError, ValueError) as error:
            if isinstance(error, UnknownNameError):
                raise
            raise SuiteError(f"[data]: {error}") from error
        except FileNotFoundError as error:
            self.stand_in = published_size(self.data_name) if self.options.dry_run else None
            if self.stand_in is None:
                raise
            self.missing = error
            return self.stand_in.stand_ins()

    @property
    def data_name(self) -> str:
        """What the data set is called; a folder goes by its own name."""
        data = self.suite.data
        return data.dataset if data.dataset != "folder" else Path(str(data.options.get("path", "folder"))).name

    @cached_property
    def clips(self) -> list[Clip]:
        """The clips of this plan, in the data set's order."""
        return spread(self.suite_clips, self.n_clips) if self.n_clips else self.suite_clips

    @cached_property
    def suite_clips(self) -> list[Clip]:
        """The clips that the suite and the run's limit leave, cut to the run's seconds."""
        limits = [limit for limit in (self.suite.data.limit, self.options.limit) if limit]
        clips = self.all_clips[: min(limits)] if limits else self.all_clips
        return shortened(clips, self.options.seconds)

    @cached_property
    def _dataset(self) -> Dataset:
        options = {name: _expand(value) for name, value in self.suite.data.options.items()}
        return create_dataset(self.suite.data.dataset, **options)

    @property
    def coverage(self) -> str | None:
        """How much of its data set is available, where that is not all: clips that were removed, files left out."""
        if self.stand_in is not None:
            return None
        say = getattr(self._dataset, "coverage", None)
        return (say() or None) if say else None

    @cached_property
    def all_clip_ids(self) -> tuple[str, ...]:
        """Ids of all clips of the data set, of every split if it can list them; files are matched with all of them."""
        found = [clip.id for clip in self.all_clips]
        if self.suite.data.split and self.stand_in is None:
            # a data set may not know the word, or not have all of its data
            with suppress(ValueError, TypeError, OSError):
                found += [clip.id for clip in self._dataset.clips("all")]
        return tuple(dict.fromkeys(found))

    @cached_property
    def clip_ids(self) -> tuple[str, ...]:
        return tuple(clip.id for clip in self.clips)

    @cached_property
    def groups(self) -> dict[str, str]:
        """Clip id -> group, of those clips that are not their own group."""
        return groups_of(self.clips)

    @property
    def group_name(self) -> str:
        """What the data set calls a group of clips; a stand-in's clips have none."""
        return "group" if self.stand_in is not None else group_name(self._dataset)

    @property
    def description(self) -> str:
        """How many clips there are, as in "42 clips of 18 tracks by 11 artists"; and how, if not the first ones."""
        text = describe(self.clips, self.group_name)
        text += f", the first {self.options.seconds:g} s of each" if self.options.seconds else ""
        if self.clips == self.suite_clips[: len(self.clips)]:
            return text
        if len({clip.cluster for clip in self.clips}) == len(self.clips):
            return f"{text}, the first of each of {len(self.clips)} {self.group_name}s"
        return f"{text}, spread over all {self.group_name}s"

    @cached_property
    def manifest_digest(self) -> str:
        """Digest of the ids and audio digests of all clips."""
        return digest([[clip.id, clip.digest] for clip in self.clips])

    @cached_property
    def seconds(self) -> float:
        """Audio of all clips, in seconds (10 for a clip of unknown length)."""
        return seconds_of(self.clips)


def seconds_of(clips: Iterable[Clip]) -> float:
    """Audio of clips, in seconds (10 for a clip of unknown length)."""
    return sum(clip.seconds or _UNKNOWN_SECONDS for clip in clips)


def _expand(value: Any) -> Any:
    """Environment variables in strings: a suite can say `$M2L_DATA/musiccaps`."""
    return os.path.expandvars(value) if isinstance(value, str) else value
