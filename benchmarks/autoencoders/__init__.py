"""Systems under test: protocol, lazy registry, one adapter per file."""

from __future__ import annotations

from typing import Any

from benchmarks.autoencoders.base import Autoencoder, AutoencoderSpec
from benchmarks.registry import Registry, load_target

__all__ = ["AUTOENCODERS", "Autoencoder", "AutoencoderSpec", "create_autoencoder", "list_autoencoders"]

AUTOENCODERS = Registry("autoencoder", entry_point_group="m2l.autoencoders")
AUTOENCODERS.register("identity", "benchmarks.autoencoders.identity:Identity")
AUTOENCODERS.register("noise-20db", "benchmarks.autoencoders.noise:noise_20db")
AUTOENCODERS.register("mp3-64k", "benchmarks.autoencoders.codecs:mp3_64k")
AUTOENCODERS.register("mp3-128k", "benchmarks.autoencoders.codecs:mp3_128k")
AUTOENCODERS.register("vorbis-64k", "benchmarks.autoencoders.codecs:vorbis_64k")
AUTOENCODERS.register("vorbis-96k", "benchmarks.autoencoders.codecs:vorbis_96k")
AUTOENCODERS.register("opus-16k", "benchmarks.autoencoders.codecs:opus_16k")
AUTOENCODERS.register("opus-96k", "benchmarks.autoencoders.codecs:opus_96k")
AUTOENCODERS.register("mel-griffinlim", "benchmarks.autoencoders.griffinlim:MelGriffinLim")
AUTOENCODERS.register("music2latent", "benchmarks.autoencoders.music2latent:Published")
AUTOENCODERS.register("music2latent-mini", "benchmarks.autoencoders.music2latent:Mini")
AUTOENCODERS.register("music2latent-random", "benchmarks.autoencoders.music2latent:RandomInit")


def create_autoencoder(name: str, **options: Any) -> Autoencoder:
    """The system called `name`.

    Args:
        name: a registered name, `music2latent:PATH` for a checkpoint of your own, or `module:Class`.
        **options: passed to the adapter.

    Raises:
        UnknownNameError: no such name; the message gives the nearest.
        FileNotFoundError: its weights are not there; the message gives the command that gets them.
        ImportError: an optional package is missing.
    """
    head, colon, argument = name.partition(":")
    if not colon:
        return AUTOENCODERS.create(name, **options)
    if head == "music2latent":
        return load_target("benchmarks.autoencoders.music2latent:Checkpoint")(path=argument, **options)
    return load_target(name)(**options)


def list_autoencoders() -> list[str]:
    """Registered names, sorted; nothing is imported."""
    return AUTOENCODERS.names()
