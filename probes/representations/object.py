"""`object:NUMBER`: a representation, or an autoencoder, that exists in this process."""

from __future__ import annotations

from typing import Any

from benchmarks.store.held import PREFIX, held, is_own_model
from probes.representations.music2latent import loaded
from probes.representations.user import AutoencoderFeatures, adapt


def held_representation(number: str) -> Any:
    """The object behind a number: with `extract` a representation, else an autoencoder's features and latents.

    Raises:
        LookupError: this process does not hold it.
        AutoencoderError: it has none of `extract`, `features` and `encode`.
    """
    found = held(number)
    if callable(getattr(found.value, "extract", None)):
        return adapt(found.value, found.label)
    if is_own_model(found.value):
        return loaded(found.value, found.label)
    return AutoencoderFeatures(PREFIX + number)
