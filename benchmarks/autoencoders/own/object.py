"""`object:NUMBER`: an autoencoder that exists in this process, such as one that a notebook has made."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from benchmarks.autoencoders.base import Autoencoder, AutoencoderSpec
from benchmarks.autoencoders.music2latent import Loaded
from benchmarks.autoencoders.own.adapted import (
    Adapted,
    AdaptedWithFeatures,
    AutoencoderError,
    call,
    controlled,
    spec_of,
)
from benchmarks.store.held import held, is_own_model
from m2l.audio import as_channels_first, fit_length

#: Classes that say nothing of their rate, and what it is: the interface of the published package, and ours.
_KNOWN = {key: {"sample_rate": 44100} for key in [("m2l", "EncoderDecoder"), ("music2latent", "EncoderDecoder")]}


class Reconstructing:
    """An object that has `reconstruct` alone, with its spec beside it; the object stays as it is."""

    def __init__(self, inner: Any, spec: AutoencoderSpec) -> None:
        self.inner, self.spec = inner, spec

    def reconstruct(
        self, audio: np.ndarray, sample_rate: int, *, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """What the object returns for `(channels, samples)` at a clip's own rate, as float32; a longer end is cut."""
        steps = {} if n_steps is None else {"n_steps": n_steps}
        with controlled(seed):
            output = call(self.inner.reconstruct, audio.copy(), sample_rate=sample_rate, seed=seed, **steps)
        array = as_channels_first(output, f"output of {self.spec.name}")
        array = array[0] if array.ndim == 3 and array.shape[0] == 1 else array
        return fit_length(array, audio.shape[1]) if array.shape[-1] > audio.shape[1] else array


def held_autoencoder(number: str, name: str | None = None) -> Autoencoder:
    """The object behind a number as the benchmark needs it.

    Raises:
        LookupError: this process does not hold it.
        AutoencoderError: it lacks something; the message names it.
    """
    found = held(number)
    value, label = found.value, name or found.label
    given = getattr(value, "spec", None)
    if is_own_model(value):
        return Loaded(value, label)
    if isinstance(given, AutoencoderSpec) and callable(getattr(value, "reconstruct", None)):
        return value  # type: ignore[no-any-return]
    kind = type(value)
    known = _KNOWN.get((kind.__module__.partition(".")[0], kind.__name__))
    spec = spec_of(value, label, found.spec or (known if given is None else None))
    has = {
        method for method in ("encode", "decode", "features", "reconstruct") if callable(getattr(value, method, None))
    }
    if {"encode", "decode"} <= has:
        return AdaptedWithFeatures(value, spec) if "features" in has else Adapted(value, spec)
    if "reconstruct" in has:
        return cast(Autoencoder, Reconstructing(value, spec))  # nothing asks it for latents
    lacking = " and no method ".join(sorted({"encode", "decode"} - has))
    raise AutoencoderError(
        f"{label} ({kind.__name__}) has no method {lacking}; an object to evaluate has encode(audio) and "
        "decode(latents), or reconstruct(audio, sample_rate)"
    )
