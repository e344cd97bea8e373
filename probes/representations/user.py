"""Representations of the user's own: a class, a folder of features, a HEAR module, an autoencoder."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.autoencoders import create_autoencoder
from benchmarks.autoencoders.names import label_of
from benchmarks.autoencoders.own.adapted import Adapted, Encoded, to_numpy
from benchmarks.datasets.base import Clip
from benchmarks.datasets.clip_files import nfc, without_suffix
from benchmarks.errors import UsageError
from benchmarks.store.own_code import import_user_module, own_module
from m2l.io.digest import file_sha256
from m2l.io.folders import find_files
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
            self.spec = RepresentationSpec(name, rate, training_datasets=training, source=name, version=version)

    def extract(self, audio: np.ndarray, sample_rate: int) -> Mapping[str, np.ndarray]:
        if self.spec.sample_rate is not None:
            audio, sample_rate = (mono_at(audio, sample_rate, self.spec.sample_rate)[None], self.spec.sample_rate)
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


class AmbiguousFileError(ValueError):
    """Several files for one clip, or one file for several clips; the message names them."""


class FeatureFolder:
    """Features computed elsewhere: one .npy per clip, (dim,) or (n_frames, dim).

    A clip's file is `ID.npy`; or it lies where the clip's audio does below the data set's folder, as mir_ref has it
    (`Family/Instrument/…/NOTE.npy`); or it has the clip's name in some folder. Links to folders are followed.

    Args:
        folder: the folder.
        training: data sets the features' model has seen.
    """

    def __init__(self, folder: str, training: tuple[str, ...] = ()) -> None:
        self.folder = Path(folder).expanduser()
        if not folder or not self.folder.is_dir():
            raise FileNotFoundError(f"no folder of features {folder!r}")
        self.spec = RepresentationSpec(
            name=f"npy:{self.folder.name}",
            sample_rate=None,
            training_datasets=training,
            source="features computed elsewhere",
        )

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Paths in the folder without suffix, by their last part in composed Unicode."""
        found: dict[str, list[str]] = {}
        for path in find_files(self.folder, (".npy",)).files:
            inner = path.relative_to(self.folder).as_posix().removesuffix(path.suffix)
            found.setdefault(nfc(inner.rpartition("/")[2]), []).append(path.relative_to(self.folder).as_posix())
        return found

    def path(self, clip: Clip) -> Path:
        """The clip's feature file.

        Raises:
            FileNotFoundError: there is none.
            AmbiguousFileError: there are several.
        """
        track = Path(getattr(clip.loader, "path", clip.source)).as_posix()
        own = [clip.id, without_suffix(clip.id), without_suffix(track)]
        names = [name.rpartition("/")[2] for name in own]
        files = list(dict.fromkeys(file for name in names for file in self._by_name.get(nfc(name), ())))
        if not files:
            raise FileNotFoundError(f"no file {clip.id}.npy or {names[-1]}.npy in {self.folder}")
        stems = {file: Path(file).with_suffix("").as_posix() for file in files}
        ways = (
            lambda stem: stem == clip.id,
            lambda stem: nfc(stem) == nfc(clip.id),
            lambda stem: nfc(stem) == nfc(own[1]),
            lambda stem: "/" in stem and f"/{nfc(own[2])}".endswith(f"/{nfc(stem)}"),
            lambda stem: True,
        )
        for way in ways:
            if chosen := [file for file in files if way(stems[file])]:
                break
        if len(chosen) > 1:
            raise AmbiguousFileError(f"{len(chosen)} files for clip {clip.id!r} in {self.folder}: {', '.join(chosen)}")
        return self.folder / chosen[0]

    def check(self, clips: Sequence[Clip]) -> str | None:
        """Why the folder cannot be taken for the features of `clips`: it is not clear which file is whose."""
        owners: dict[Path, str] = {}
        for clip in clips:
            try:
                path = self.path(clip)
            except FileNotFoundError:
                continue  # counted as missing
            except AmbiguousFileError as error:
                return str(error)
            if path in owners:
                return f"{path} may belong to clips {owners[path]!r} and {clip.id!r}"
            owners[path] = clip.id
        if clips and not owners:
            return f"{self.folder} has no file for any of {len(clips)} clips, such as {clips[0].id}.npy"
        return None

    def digest(self, clip: Clip) -> str:
        """sha256 of the clip's feature file: part of the content key, as the audio is not."""
        return file_sha256(self.path(clip))

    def lookup(self, clip: Clip) -> Mapping[str, np.ndarray]:
        """The clip's features, (n_frames, dim).

        Raises:
            FileNotFoundError: there is no file for the clip.
            ValueError: the file holds no 1-D or 2-D array of numbers.
        """
        path = self.path(clip)
        try:
            # mapped: a header that claims more than the file holds is an error, and allocates nothing
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: not an array of numbers ({error})") from error
        if not isinstance(values, np.ndarray):
            raise ValueError(f"{path}: several arrays in one file, expected one")
        if values.ndim not in (1, 2) or values.dtype.kind not in "fiu" or 0 in values.shape:
            raise ValueError(f"{path}: array of shape {values.shape} and type {values.dtype}")
        return {FEATURES: np.atleast_2d(np.array(values))}


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
            weights=file_sha256(weights) if weights and Path(weights).is_file() else None,
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


class NoFeaturesError(UsageError, TypeError):
    """An autoencoder that gives no features."""


#: Name of the second output of an autoencoder: what its decoder is given.
LATENTS = "latents"


class AutoencoderFeatures:
    """Any system of `benchmarks.autoencoders` with `features(audio, sample_rate) -> (dim, frames)`, or latents.

    The latents of a user's class are an output, too, as far as `encode` returns (dim, frames).

    Args:
        name: the system's name.
        options: passed to it.

    Raises:
        NoFeaturesError: the system has no `features`, and gives no latents either.
    """

    #: `features` gives (dim, frames), the order of latents.
    transposed = True

    def __init__(self, name: str, **options: Any) -> None:
        self.system: Any = create_autoencoder(name, **options)
        self._name = name
        outputs = [FEATURES] if callable(getattr(self.system, "features", None)) else []
        outputs += [LATENTS] if isinstance(self.system, Adapted) else []
        if not outputs:
            raise NoFeaturesError(f"autoencoder {name!r} has no method 'features'")
        spec = self.system.spec
        self.spec = RepresentationSpec(
            name=f"autoencoder:{label_of(name)}",
            sample_rate=spec.sample_rate,
            outputs=tuple(outputs),
            training_datasets=tuple(spec.training_datasets),
            weights=spec.weights_digest,
            license=spec.license,
            source=spec.source,
            options=spec.to_dict(),
        )

    def extract(self, audio: np.ndarray, sample_rate: int) -> Mapping[str, np.ndarray]:
        """See `Representation.extract`; several channels are averaged first."""
        mono = audio.mean(axis=0, keepdims=True, dtype=np.float32)
        found = {}
        if FEATURES in self.spec.outputs:
            found[FEATURES] = np.asarray(self.system.features(mono, sample_rate), dtype=np.float32).T
        if LATENTS in self.spec.outputs:
            latents = self._latents(mono, sample_rate)
            if latents is not None:
                found[LATENTS] = latents.T
        return found

    def _latents(self, mono: np.ndarray, sample_rate: int) -> np.ndarray | None:
        """(dim, frames), averaged over the channels of a system that has several; None beside features.

        Raises:
            ValueError: an autoencoder without features encodes to something else.
        """
        encoded = self.system.encode(mono, sample_rate)
        items = [to_numpy(item) for item in (encoded.items if isinstance(encoded, Encoded) else encoded)]
        arrays = [item[0] if np.ndim(item) == 3 and len(item) == 1 else item for item in items]
        if any(getattr(array, "ndim", 0) != 2 or array.dtype.kind not in "fiu" for array in arrays):
            if FEATURES in self.spec.outputs:
                return None
            shown = getattr(items[0], "shape", type(items[0]).__name__)
            raise ValueError(f"encode of {label_of(self._name)} returns {shown}; latents to probe are (dim, frames)")
        return np.asarray(np.mean(np.stack(arrays), axis=0, dtype=np.float64), np.float32)
