"""Completing a user's autoencoder: it has `spec`, `encode` and `decode`, and the rest is done here.

What is done for it: resampling to its rate and back (soxr HQ), the channel policy of its spec, exactly the
input's length, a seed for every random generator in sight, no gradients, torch tensors as results. Methods
are called with those of `sample_rate`, `length`, `seed` and `n_steps` that they declare.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.autoencoders.base import CHANNEL_POLICIES, Autoencoder, AutoencoderSpec
from benchmarks.store.fingerprint import derive_seed
from m2l.audio import as_channels_first, check_audio, fit_length, resample, to_mono
from m2l.io.digest import file_sha256
from m2l.names import did_you_mean

#: A decoder may drop this much of a clip's end (its last frame); more is an error, not padded with silence.
MISSING_SECONDS = 0.5


class AutoencoderError(ValueError):
    """A class that cannot be used as an autoencoder; the message says what it lacks."""


@dataclass(frozen=True)
class Encoded:
    """What `Adapted.encode` returns.

    Attributes:
        items: the system's own latents, one for each time it ran (per channel, or once).
        samples: length of the audio that was encoded, at the system's rate.
        sample_rate: the system's rate.
        channels: of the clip, before the channel policy.
    """

    items: tuple[Any, ...]
    samples: int
    sample_rate: int
    channels: int

    @property
    def bitrate(self) -> float | None:
        """Bits per second where the latents are byte strings; else None."""
        if not all(isinstance(item, bytes) for item in self.items):
            return None
        return 8.0 * sum(len(item) for item in self.items) * self.sample_rate / self.samples


def complete(system: Any, name: str, label: str | None = None) -> Autoencoder:
    """The system as the benchmark needs it: unchanged if it has `reconstruct`, else wrapped in `Adapted`.

    Args:
        system: an object with `spec`, `encode` and `decode`, or with `spec` and `reconstruct`.
        name: how it was asked for, for messages and as its default name.
        label: what the tables call it.

    Raises:
        AutoencoderError: methods are missing, or its spec is not one.
        FileNotFoundError: the spec names weights that are not there.
    """
    if isinstance(system, type):
        raise AutoencoderError(f"{name!r} is a class, not an instance (a factory must return an object)")
    whole = callable(getattr(system, "reconstruct", None))
    lacking = [] if whole else [m for m in ("encode", "decode") if not callable(getattr(system, m, None))]
    if lacking:
        raise AutoencoderError(
            f"{name!r} ({type(system).__name__}) has no method {' and no method '.join(lacking)}; an autoencoder "
            "has spec, encode(audio, sample_rate) and decode(latents)"
        )
    spec = spec_of(system, label or name)
    if whole:
        if not isinstance(getattr(system, "spec", None), AutoencoderSpec):
            system.spec = spec
        return system  # type: ignore[no-any-return]
    kind = AdaptedWithFeatures if callable(getattr(system, "features", None)) else Adapted
    return kind(system, spec)


def spec_of(system: Any, name: str, given: Any = None) -> AutoencoderSpec:
    """The spec of a user's system, which may be a dictionary; without one, attributes `sample_rate` and `channels`.

    A dictionary has the fields of `AutoencoderSpec`, all optional but `sample_rate` (None: takes any rate),
    and `weights`: a file or several whose sha256 becomes part of the content key.

    Args:
        system: the system.
        name: how it was asked for, for messages and as its default name.
        given: a spec in place of its own.

    Raises:
        AutoencoderError: no spec, an unknown field, or a wrong value; the message names it.
        FileNotFoundError: the weights do not exist.
    """
    given = given or getattr(system, "spec", None)
    if isinstance(given, AutoencoderSpec):
        return given
    if given is None and isinstance(getattr(system, "sample_rate", None), int):
        given = {"sample_rate": system.sample_rate}
        if isinstance(channels := getattr(system, "channels", None), str):
            given["channels"] = channels
    if not isinstance(given, Mapping):
        raise AutoencoderError(
            f"{name!r}: spec is {given!r}; give an AutoencoderSpec, or a dictionary such as "
            '{"sample_rate": 44100, "channels": "mono"}'
        )
    values = dict(given)
    fields = [*(field.name for field in dataclasses.fields(AutoencoderSpec)), "weights"]
    for key in values:
        if key not in fields:
            raise AutoencoderError(f"{name!r}: unknown key {key!r} in spec; {did_you_mean(str(key), fields)}")
    if "sample_rate" not in values:
        raise AutoencoderError(f"{name!r}: spec has no 'sample_rate' (in Hz; None if any rate is fine)")
    rate = values["sample_rate"]
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int) or rate <= 0):
        raise AutoencoderError(f"{name!r}: sample_rate is {rate!r}, expected a whole number of Hz or None")
    values.setdefault("channels", "per_channel")
    if values["channels"] not in CHANNEL_POLICIES:
        raise AutoencoderError(
            f"{name!r}: channels is {values['channels']!r}, expected one of {', '.join(CHANNEL_POLICIES)}"
        )
    if (weights := values.pop("weights", None)) is not None:
        values["weights_digest"] = _weights_digest(weights, system, name)
    if values.get("n_parameters") is None and callable(getattr(system, "parameters", None)):
        values["n_parameters"] = sum(int(parameter.numel()) for parameter in system.parameters())
    values["training_datasets"] = tuple(values.get("training_datasets", ()))
    return AutoencoderSpec(**{"name": name, **values})


def _weights_digest(weights: Any, system: Any, name: str) -> str:
    """sha256 of the file, or of the files' digests; relative paths start beside the class, then here."""
    paths = [weights] if isinstance(weights, (str, Path)) else list(weights)
    module = sys.modules.get(type(system).__module__)
    beside = Path(getattr(module, "__file__", None) or ".").resolve().parent
    digests = []
    for given in paths:
        path = Path(given).expanduser()
        found = next((place for place in (beside / path, path) if place.is_file()), None)
        if found is None:
            raise FileNotFoundError(f"weights of {name!r} not found: no file {str(given)!r}")
        digests.append(file_sha256(found))
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


class Adapted:
    """The whole protocol around a system that gives `encode(audio, …)` and `decode(latents, …)`.

    Its `encode` is given float32 `(channels, samples)` at the rate of its spec: one channel under the policies
    "mono" and "per_channel", two under "stereo". Its `decode` returns `(samples,)`, `(channels, samples)` or
    `(1, channels, samples)`, as floats in [-1, 1] or PCM integers, numpy or torch.
    """

    def __init__(self, system: Any, spec: AutoencoderSpec) -> None:
        self.system, self.spec = system, spec

    def encode(self, audio: np.ndarray, sample_rate: int) -> Encoded:
        """The system's latents of `(channels, samples)` audio at any rate.

        Raises:
            ValueError: more than two channels for a stereo system, or audio that is none.
        """
        inputs, rate = self._inputs(audio, sample_rate)
        items = []
        for item in inputs:
            with controlled(0):  # encoding is the same whoever calls it: sampling encoders get one fixed seed
                items.append(call(self.system.encode, item, sample_rate=rate))
        channels = 1 if np.ndim(audio) == 1 else np.shape(audio)[0]
        return Encoded(tuple(items), inputs[0].shape[1], rate, channels)

    def decode(
        self, latents: Encoded, *, length: int, sample_rate: int, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """Audio `(channels, length)` at `sample_rate`, with the channels of the clip that was encoded."""
        outputs = []
        rate = latents.sample_rate
        steps = n_steps if n_steps is not None else self.spec.n_steps
        step_options = {} if steps is None else {"n_steps": steps}  # else its own default holds
        for index, item in enumerate(latents.items):
            own = seed if index == 0 else derive_seed(seed, f"channel {index}")
            with controlled(own):
                output = call(
                    self.system.decode, item, length=latents.samples, sample_rate=rate, seed=own, **step_options
                )
            outputs.append(self._output(output, latents))
        joined = with_channels(np.concatenate(outputs), latents.channels)
        return np.ascontiguousarray(fit_length(resample(joined, rate, sample_rate, exact=False), length))

    def reconstruct(
        self, audio: np.ndarray, sample_rate: int, *, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """Encode and decode: float32 of exactly the input's shape, at the input's rate."""
        audio = check_audio(audio, sample_rate)
        latents = self.encode(audio, sample_rate)
        return self.decode(latents, length=audio.shape[1], sample_rate=sample_rate, seed=seed, n_steps=n_steps)

    def _inputs(self, audio: np.ndarray, sample_rate: int) -> tuple[list[np.ndarray], int]:
        """What the system is run on, one array per run, and its rate."""
        audio = check_audio(audio, sample_rate)
        rate = self.spec.sample_rate or sample_rate
        if self.spec.channels == "mono":
            audio = to_mono(audio)
        elif self.spec.channels == "stereo":
            if audio.shape[0] > 2:
                raise ValueError(f"{audio.shape[0]} channels: {self.spec.name} takes one or two")
            audio = with_channels(audio, 2)
        audio = resample(audio, sample_rate, rate, exact=False)
        runs = [audio] if self.spec.channels == "stereo" else [channel[None] for channel in audio]
        # A copy each: a system that works in place must not change the caller's clip.
        return [np.array(run, dtype=np.float32) for run in runs], rate

    def _output(self, output: Any, latents: Encoded) -> np.ndarray:
        """One run's output as float32 `(channels, samples)` of the encoded length."""
        array = as_channels_first(output, f"output of {self.spec.name}")
        if array.ndim == 3:
            if array.shape[0] != 1:
                raise ValueError(f"decode returned a batch of {array.shape[0]}, expected one item")
            array = array[0]
        missing = (latents.samples - array.shape[1]) / latents.sample_rate
        if missing > MISSING_SECONDS:
            raise ValueError(
                f"decode returned {array.shape[1] / latents.sample_rate:.2f} s for "
                f"{latents.samples / latents.sample_rate:.2f} s of audio (at {latents.sample_rate} Hz)"
            )
        return fit_length(with_channels(array, 2 if self.spec.channels == "stereo" else 1), latents.samples)


class AdaptedWithFeatures(Adapted):
    """`Adapted` for a system that has `features`, so that it is also a row of Table 1."""

    def features(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """The system's features `(dim, frames)`, averaged over the runs where there are several channels.

        Raises:
            ValueError: features of another form.
        """
        inputs, rate = self._inputs(audio, sample_rate)
        found = []
        for item in inputs:
            with controlled(0):
                features = call(self.system.features, item, sample_rate=rate)
            array = np.asarray(to_numpy(features), dtype=np.float32)
            array = array[0] if array.ndim == 3 and array.shape[0] == 1 else array
            if array.ndim != 2:
                raise ValueError(f"features of {self.spec.name} have shape {array.shape}, not (dim, frames)")
            found.append(array)
        return np.asarray(np.mean(found, axis=0, dtype=np.float32))


def with_channels(audio: np.ndarray, channels: int) -> np.ndarray:
    """`(n, samples)` as `(channels, samples)`: one channel is repeated, several are averaged into one.

    Raises:
        ValueError: neither number is 1 and they differ.
    """
    if audio.shape[0] == channels:
        return audio
    if audio.shape[0] == 1:
        return np.repeat(audio, channels, axis=0)
    if channels == 1:
        return to_mono(audio)
    raise ValueError(f"output has {audio.shape[0]} channels, the clip {channels}")


def call(method: Callable[..., Any], first: Any, **offered: Any) -> Any:
    """Call a method with those of the offered arguments that it declares."""
    accepted = _accepted(method, tuple(offered))
    return method(first, **{name: offered[name] for name in accepted})


def _accepted(method: Callable[..., Any], names: Sequence[str]) -> Sequence[str]:
    parameters = inspect.signature(method).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return names
    positional_only = inspect.Parameter.POSITIONAL_ONLY
    return [name for name in names if name in parameters and parameters[name].kind is not positional_only]


@contextlib.contextmanager
def controlled(seed: int) -> Iterator[None]:
    """Seed the global generators (and give them back their state), and switch gradients off.

    A system that takes `seed` needs none of this; one that calls `torch.randn` or `np.random.randn` becomes
    repeatable by it.
    """
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        torch = sys.modules.get("torch")
        if torch is None:
            yield
            return
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed % 2**63)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


def to_numpy(value: Any) -> Any:
    """A tensor as an array; anything else as it is."""
    return value.detach().float().cpu().resolve_neg().numpy() if hasattr(value, "detach") else value
