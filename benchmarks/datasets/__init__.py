"""Data sets by name: `create_dataset("synthetic", size=24).clips()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.registry import Registry, load_target

if TYPE_CHECKING:
    from benchmarks.datasets.base import Clip, ClipError, DataNotFoundError, Dataset, PublishedSize, dataset_digest

__all__ = [
    "DATASETS",
    "Clip",
    "ClipError",
    "DataNotFoundError",
    "Dataset",
    "PublishedSize",
    "create_dataset",
    "dataset_digest",
    "list_datasets",
    "published_size",
]


def __getattr__(name: str) -> Any:
    """The classes of `base` at their first use: listing names imports no numpy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load_target(f"benchmarks.datasets.base:{name}")


DATASETS = Registry("data set", entry_point_group="m2l.datasets")
DATASETS.register("synthetic", "benchmarks.datasets.synthetic.clips:SyntheticClips")
DATASETS.register("synthetic-tags", "benchmarks.datasets.synthetic.clips:SyntheticTags")
DATASETS.register("synthetic-keys", "benchmarks.datasets.synthetic.clips:SyntheticKeys")
DATASETS.register("synthetic-notes", "benchmarks.datasets.synthetic.notes:SyntheticNotes")
DATASETS.register("tones", "benchmarks.datasets.tones:SteadyTones")
DATASETS.register("open", "benchmarks.datasets.open_data:OpenMusic")
DATASETS.register("open-speech", "benchmarks.datasets.open_data:OpenSpeech")
DATASETS.register("open-notes", "benchmarks.datasets.open_notes:OpenNotes")
DATASETS.register("musiccaps", "benchmarks.datasets.musiccaps:MusicCaps")
DATASETS.register("mtg-jamendo", "benchmarks.datasets.training_corpora:MTGJamendo")
DATASETS.register("dns4", "benchmarks.datasets.training_corpora:DNS4Clean")
DATASETS.register("folder", "benchmarks.datasets.folder:FolderDataset")


def create_dataset(name: str, /, **options: Any) -> Dataset:
    """Make a data set; nothing is downloaded, and audio is read or rendered only by `Clip.load`.

    Args:
        name: One of `list_datasets()`, or `module:Class` of your own.
        **options: Passed to the data set's constructor.

    Raises:
        UnknownNameError: No such name; the message gives the nearest one.
    """
    factory = load_target(name) if ":" in name else DATASETS.load(name)
    dataset: Dataset = factory(**options)
    return dataset


def list_datasets() -> list[str]:
    """Return the names of all data sets, without importing any of them."""
    return list(DATASETS.names())


def published_size(name: str) -> PublishedSize | None:
    """Return the size that a data set states (`published` of its class); None for one that states none."""
    if ":" not in name and name not in DATASETS.names():
        return None
    found: PublishedSize | None = getattr(load_target(name) if ":" in name else DATASETS.load(name), "published", None)
    return found
