"""Representations of the user's own: a class, a folder of features, a HEAR module, an autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.autoencoders.names import import_user_module, own_module
from benchmarks.datasets.base import Clip
from benchmarks.fingerprint import file_digest
from probes.representations.base import FEATURES, RepresentationSpec, mono_at


class _Adapted:
    """A user's object that has `extract` but gives an array, or lacks a spec."""

    def __init__(self, inner: Any, name: str) -> None:
        self.inner = inner
        given = getattr(inner, "spec", None)
        if isinstance(given, RepresentationSpec):
            self.spec = given
        else:
            rate = getattr(inner, "sample_rate", None)
            training = tuple(getattr(inner, "training_datasets", ()))
            version = str(getattr(inner, "version", "1"))
            self.spec = RepresentationSpec(
                name, rate, training_datasets=training, source=name, version=version
            )

    def extract(self, audio: np.ndarray, sample_rate: int) -> Mapping[str, np.ndarray]:
        if self.spec.sample_rate is not None:
            audio, sample_rate = (
                mono_at(audio, sample_rate, self.spec.sample_rate)[None],
                self.spec.sample_rate,
            )
        found = self.inner.extract(audio, sample_rate)
        if isinstance(found, Mapping):
            return found
        return {FEATURES: np.atleast_2d(np.asarray(found, dtype=np.float32))}


def adapt(made: Any, name: str) -> Any:
    """A user's object as a representation.

    It needs `extract(audio (channels, samples), sample_rate)` that returns (n_frames, dim), (dim,) or a
    mapping of such. Attributes `sample_rate` (audio then arrives mono at that rate), `training_datasets`
    and `version` are respected; a `spec` of type `RepresentationSpec` replaces them.

    Raises:
        TypeError: no method `extract`.
    """
    if not callable(getattr(made, "extract", None)):
        raise TypeError(f"{name} made a {type(made).__name__}, which has no method 'extract'")
    return _Adapted(made, name)


class FeatureFolder:
    """Features computed elsewhere: one .npy per clip, (dim,) or (n_frames, dim).

    Files are looked for by clip id (`ID.npy`), and by the audio file's path below the data set's folder, as
    mir_ref names them (`Family/Instrument/…/NOTE.npy`).

    Args:
        folder: the folder.
        training: data sets the features' model has seen.
    """

    def __init__(self, folder: str, training: tuple[str, ...] = ()) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder of features {self.folder}")
        self.spec = RepresentationSpec(
            name=f"npy:{self.folder.name}",
            sample_rate=None,
            training_datasets=training,
            source="features computed elsewhere",
        )

    @cached_property
    def _by_stem(self) -> dict[str, Path]:
        return {path.stem: path for path in sorted(self.folder.rglob("*.npy"))}

    def path(self, clip: Clip) -> Path:
        """The clip's feature file.

        Raises:
            FileNotFoundError: there is none.
        """
        for stem in (clip.id, Path(clip.source).stem):
            if stem in self._by_stem:
                return self._by_stem[stem]
        raise FileNotFoundError(f"no file {clip.id}.npy or {Path(clip.source).stem}.npy in {self.folder}")

    def digest(self, clip: Clip) -> str:
        """sha256 of the clip's feature file: part of the content key, as the audio is not."""
        return file_digest(self.path(clip))

    def lookup(self, clip: Clip) -> Mapping[str, np.ndarray]:
        """The clip's features, (n_frames, dim).

        Raises:
            FileNotFoundError: there is no file for the clip.
            ValueError: the file holds no 1-D or 2-D array of numbers.
        """
        path = self.path(clip)
        values = np.load(path, allow_pickle=False)
        if values.ndim not in (1, 2) or values.dtype.kind not in "fiu" or 0 in values.shape:
            raise ValueError(f"{path}: array of shape {values.shape} and type {values.dtype}")
        return {FEATURES: np.atleast_2d(values).astype(np.float32)}


class HearModule:
    """A module with HEAR 2021's functions `load_model`, `get_scene_embeddings`, `get_timestamp_embeddings`.

    Outputs `features` (the scene embedding, one frame) and, if the module has them, `timestamps`.

    Args:
        target: `module` or `module:path of the weights`.
        training: data sets the model has seen.

    Raises:
        TypeError: the module lacks one of the functions or the model lacks `sample_rate`.
    """

    def __init__(self, target: str, training: tuple[str, ...] = ()) -> None:
        name, _, weights = target.partition(":")
        self.module = import_user_module(own_module(f"{name}:load_model")[0])
        for function in ("load_model", "get_scene_embeddings"):
            if not callable(getattr(self.module, function, None)):
                raise TypeError(f"module {name!r} has no function {function!r} of the HEAR API")
        self.model = self.module.load_model(weights)
        if not hasattr(self.model, "sample_rate"):
            raise TypeError(f"the model of {name!r} has no 'sample_rate'")
        self._stamped = callable(getattr(self.module, "get_timestamp_embeddings", None))
        self.spec = RepresentationSpec(
            name=f"hear:{name}",
            sample_rate=int(self.model.sample_rate),
            outputs=(FEATURES, "timestamps") if self._stamped else (FEATURES,),
            training_datasets=training,
            weights=file_digest(weights) if weights and Path(weights).is_file() else None,
            source=target,
        )

    def extract(self, audio: np.ndarray, sample_rate: int) -> Mapping[str, np.ndarray]:
        """See `Representation.extract`; the module gets a (1, samples) tensor at its own rate."""
        import torch

        sounds = torch.from_numpy(mono_at(audio, sample_rate, int(self.model.sample_rate)))[None]
        with torch.no_grad():
            scene = torch.as_tensor(self.module.get_scene_embeddings(sounds, self.model))
            outputs = {FEATURES: scene.float().cpu().numpy()}
            if self._stamped:
                frames, _ = self.module.get_timestamp_embeddings(sounds, self.model)
                outputs["timestamps"] = torch.as_tensor(frames)[0].float().cpu().numpy()
        return outputs


class AutoencoderFeatures:
    """Any system of `benchmarks.autoencoders` that has `features(audio, sample_rate) -> (dim, frames)`.

    Args:
        name: the system's name.
        options: passed to it.

    Raises:
        TypeError: the system has no `features`.
    """

    def __init__(self, name: str, **options: Any) -> None:
        from benchmarks.autoencoders import create_autoencoder

        self.system: Any = create_autoencoder(name, **options)
        if not callable(getattr(self.system, "features", None)):
            raise TypeError(f"autoencoder {name!r} has no method 'features'")
        spec = self.system.spec
        self.spec = RepresentationSpec(
            name=f"autoencoder:{name}",
            sample_rate=spec.sample_rate,
            training_datasets=tuple(spec.training_datasets),
            weights=spec.weights_digest,
            licence=spec.licence,
            source=spec.source,
            options=spec.to_dict(),
        )

    def extract(self, audio: np.ndarray, sample_rate: int) -> Mapping[str, np.ndarray]:
        """See `Representation.extract`; several channels are averaged first."""
        mono = audio.mean(axis=0, keepdims=True, dtype=np.float32)
        return {FEATURES: np.asarray(self.system.features(mono, sample_rate), dtype=np.float32).T}
