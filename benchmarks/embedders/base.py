"""The interface of embedders, their registry, and whether each can run here. Imports no model, no torch and no numpy.

A name carries everything that changes the number: `clap-music_audioset_epoch_15_esc_90.14@10s-1s` is that
LAION checkpoint on 10 s windows with a hop of 1 s; a name in square brackets is another package's
implementation of the same thing.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from benchmarks.embedders.own import declared_rate, make_embedder
from benchmarks.embedders.parity import parity_missing, parity_versions
from benchmarks.registry import Registry
from benchmarks.store.own_code import import_own
from benchmarks.user_code import is_first_party
from benchmarks.weights.find import has_weight, weight_digest
from benchmarks.weights.table import CLAP_TOWERS

if TYPE_CHECKING:
    import numpy as np


class ShortClipError(ValueError):
    """A clip is too short (or empty) to give one embedding; the harness reports it as a row."""


@runtime_checkable
class Embedder(Protocol):
    """A model from mono audio to one embedding per window.

    Attributes:
        name: registered name.
        sample_rate: Hz; callers resample before `embed`.
        dim: size of an embedding.
    """

    name: str
    sample_rate: int
    dim: int

    @property
    def spec(self) -> dict[str, Any]:
        """What decides the numbers: weights digest, window, hop, policies. JSON-ready; part of content keys."""
        ...

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """(samples,) float32 mono at `sample_rate` -> (n_windows, dim) float32, n_windows >= 1.

        Raises:
            ShortClipError: too short for one window.
            ValueError: not mono, or non-finite samples.
        """
        ...

    def embed_batch(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        """`embed` of each clip; faster on a GPU."""
        ...

    def close(self) -> None:
        """Free the model's memory; the next `embed` loads it again."""
        ...


class EmbedderStatus(NamedTuple):
    """Whether an embedder can run here; if not, the reason and the command that helps."""

    available: bool
    reason: str


@dataclass(frozen=True)
class EmbedderEntry:
    """Properties of an embedder that are known without importing it.

    Attributes:
        title: for table headings: model, window, hop.
        sample_rate: Hz.
        dim: size of an embedding.
        weight: its weights in `benchmarks.weights.table`; "" for an embedder from elsewhere that finds its own.
        window: what one embedding covers, in words.
        hop: distance of successive windows, in words.
        policy: what happens to clips shorter or longer than the window.
        options: keyword arguments of the class.
        original: whether the original tool runs it, in the environment that `make parity` builds.
    """

    title: str
    sample_rate: int
    dim: int
    weight: str
    window: str
    hop: str
    policy: str
    options: dict[str, Any] = field(default_factory=dict)
    original: bool = False


_registry = Registry("embedder", entry_point_group="m2l.embedders")
_entries: dict[str, EmbedderEntry] = {}


def register_embedder(name: str, target: str, entry: EmbedderEntry) -> None:
    """Add an embedder.

    Args:
        target: `"module:Class"`, called with `name`, `weights`, `device` and the entry's options. An entry
            point of group `m2l.embedders` does the same; its class may carry the entry as attribute `entry`.
    """
    _registry.register(name, target)
    _entries[name] = entry


def list_embedders() -> list[str]:
    """All names, sorted."""
    return _registry.names()


def embedder_label(name: str) -> str:
    """What a table calls an embedder: its name without this machine's folders."""
    place, colon, attribute = name.rpartition(":")
    return f"{PurePath(place).stem}:{attribute}" if colon and place.endswith(".py") else name


def embedder_entry(name: str) -> EmbedderEntry:
    """Properties of an embedder; only one from outside this project is imported for them.

    Raises:
        UnknownNameError: no embedder has that name; the message gives the nearest.
    """
    if name in _entries:
        return _entries[name]
    kind, label = _load(name), embedder_label(name)
    if isinstance(declared := getattr(kind, "entry", None), EmbedderEntry):
        return declared
    own = "as its class does"
    return EmbedderEntry(label, declared_rate(kind, label), int(getattr(kind, "dim", 0)), "", own, own, own)


def _load(name: str) -> Any:
    """The class behind a name; what one from elsewhere reads at its import is noted."""
    target = own_target(name)
    return _registry.load(name) if target is None else import_own(target)


def own_target(name: str) -> str | None:
    """The `module:Class` or `FILE.py:Class` of an embedder whose code is not of this project; else None.

    Raises:
        UnknownNameError: no embedder has that name.
    """
    target = name if ":" in name else _registry.target(name)
    return None if is_first_party(target) else target


def create_embedder(name: str, weights: str | os.PathLike[str] | None = None, device: str | None = None) -> Embedder:
    """Make an embedder. Its weights are found now and loaded at the first `embed`.

    Args:
        name: see `list_embedders`; `FILE.py:Class` or `module:Class` for a class of your own.
        weights: path of the weights instead of the look-up of `benchmarks.weights.find`.
        device: torch device; default CUDA if available.

    Raises:
        UnknownNameError: no embedder has that name.
        WeightsNotFoundError: the weights are not on this machine; the message says how to get them.
        ImportError: a package that it needs does not import.
    """
    kind, options = _load(name), {"weights": weights, "device": device, **embedder_entry(name).options}
    if own_target(name) is not None:
        return make_embedder(kind, embedder_label(name), options)
    embedder: Embedder = kind(name=name, **options)
    return embedder


def embedder_spec(name: str, weights: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """What decides an embedder's numbers, without loading it (the weights are hashed).

    Raises:
        UnknownNameError: no embedder has that name.
        WeightsNotFoundError: the weights are not on this machine.
    """
    entry = embedder_entry(name)
    return {
        "name": embedder_label(name),
        "target": _registry.target(name) if name in _registry else embedder_label(name),
        "sample_rate": entry.sample_rate,
        "dim": entry.dim,
        "window": entry.window,
        "hop": entry.hop,
        "policy": entry.policy,
        "options": entry.options,
        "weights": entry.weight,
        "weights_sha256": weight_digest(entry.weight, weights) if entry.weight else None,
        **({"packages": parity_versions()} if entry.original else {}),
    }


def embedder_status(name: str, weights: str | os.PathLike[str] | None = None) -> EmbedderStatus:
    """Whether an embedder can run here, and if not why and what to do. Imports neither it nor torch.

    Raises:
        UnknownNameError: no embedder has that name.
    """
    entry = embedder_entry(name)
    if entry.original and (reason := parity_missing()):
        return EmbedderStatus(False, reason)
    return EmbedderStatus(*has_weight(entry.weight, weights)) if entry.weight else EmbedderStatus(True, "")


def _register_all() -> None:
    vggish = EmbedderEntry(
        title="VGGish (0.96 s)",
        sample_rate=16000,
        dim=128,
        weight="vggish",
        window="0.96 s (96 frames of 10 ms)",
        hop="0.96 s",
        policy="incomplete last window dropped; clips under 0.975 s are an error; no PCA, no final ReLU",
    )
    register_embedder("vggish", "benchmarks.embedders.vggish:VGGishEmbedder", vggish)
    register_embedder(
        "vggish[frechet-audio-distance]",
        "benchmarks.embedders.backends:OriginalTool",
        _with(vggish, title="VGGish by frechet-audio-distance", options={"model": "vggish"}, original=True),
    )
    for data, hop in itertools.product(("msd", "mtt"), (93, 187)):
        register_embedder(
            f"musicnn-{data}" if hop == 93 else f"musicnn-{data}@3s",
            "benchmarks.embedders.musicnn:MusiCNNEmbedder",
            EmbedderEntry(
                title=f"MusiCNN-{data.upper()} ({'3 s, hop 1.5 s' if hop == 93 else '3 s'})",
                sample_rate=16000,
                dim=200,
                weight=f"musicnn-{data}",
                window="2.992 s (187 frames of 16 ms)",
                hop=f"{hop * 0.016:g} s ({hop} frames)",
                policy="incomplete last window dropped; shorter clips repeat their spectrogram to one window; "
                "output of the first dense layer before ReLU and batch normalization (model/dense/BiasAdd)",
                options={"hop_frames": hop},
            ),
        )
    register_embedder(
        "cdpam-acoustic",
        "benchmarks.embedders.cdpam:CdpamEmbedder",
        EmbedderEntry(
            title="CDPAM, acoustic half (1 s)",
            sample_rate=22050,
            dim=512,
            weight="cdpam",
            window="1 s",
            hop="1 s",
            policy="as fadtk: samples rounded to 16 bit, unit length, what is left at the end is a window",
        ),
    )
    for stem, tower in CLAP_TOWERS.items():
        _register_clap(stem, tower)


def _register_clap(stem: str, tower: str) -> None:
    whole = EmbedderEntry(
        title=f"CLAP {stem} (per file)",
        sample_rate=48000,
        dim=512,
        weight=f"clap-{stem}",
        window="10 s, one per file",
        hop="none",
        policy="as frechet-audio-distance: shorter clips are repeated as often as they fit, then zero-padded; "
        "of longer clips the middle 10 s are taken (there: a random 10 s)",
        options={"tower": tower, "mode": "file"},
    )
    register_embedder(f"clap-{stem}@file", "benchmarks.embedders.clap:ClapEmbedder", whole)
    register_embedder(
        f"clap-{stem}@10s-1s",
        "benchmarks.embedders.clap:ClapEmbedder",
        _with(
            whole,
            title=f"CLAP {stem} (10 s, hop 1 s)",
            window="10 s",
            hop="1 s",
            policy="as fadtk: samples rounded to 16 bit, windows past the end zero-padded",
            options={"tower": tower, "mode": "windows"},
        ),
    )
    register_embedder(
        f"clap-{stem}@file[laion-clap]",
        "benchmarks.embedders.backends:OriginalTool",
        _with(whole, title=f"CLAP {stem} (per file) by laion-clap", options={"model": stem}, original=True),
    )


def _with(entry: EmbedderEntry, **changes: Any) -> EmbedderEntry:
    return EmbedderEntry(**{**entry.__dict__, **changes})


_register_all()
