"""Representations by name: `create_representation("music2latent-mini").extract(audio, 44100)`."""

from __future__ import annotations

import inspect
from typing import Any

from benchmarks.autoencoders import own_target as own_autoencoder
from benchmarks.autoencoders.own.adapted import controlled
from benchmarks.errors import UsageError
from benchmarks.evaluation.systems import accepts_device as system_accepts_device
from benchmarks.registry import Registry, load_target
from benchmarks.store.held import PREFIX, held
from benchmarks.store.own_code import import_own, split_label
from benchmarks.user_code import is_first_party
from probes.representations.base import FEATURES, Representation, RepresentationSpec

__all__ = [
    "FEATURES",
    "REPRESENTATIONS",
    "Representation",
    "RepresentationSpec",
    "create_representation",
    "list_representations",
    "row_name",
    "split_name",
]

REPRESENTATIONS = Registry("representation", entry_point_group="m2l.representations")
REPRESENTATIONS.register("music2latent", "probes.representations.music2latent:published")
REPRESENTATIONS.register("music2latent-mini", "probes.representations.music2latent:mini")
REPRESENTATIONS.register("music2latent-random", "probes.representations.music2latent:random_init")
REPRESENTATIONS.register("musicnn-msd", "probes.representations.embedder:musicnn")
REPRESENTATIONS.register("mtt-musicnn", "probes.representations.embedder:musicnn_mtt")
REPRESENTATIONS.register("vggish", "probes.representations.embedder:vggish")
REPRESENTATIONS.register("crepe", "probes.representations.crepe:CrepeRepresentation")
REPRESENTATIONS.register("clmr", "probes.representations.clmr:CLMR")
REPRESENTATIONS.register("mert-v1-95m", "probes.representations.mert:MERT")
REPRESENTATIONS.register("handcrafted", "probes.representations.handcrafted:Handcrafted")
REPRESENTATIONS.register("musika", "probes.representations.autoencoders:musika")
REPRESENTATIONS.register("mousai-v2", "probes.representations.autoencoders:mousai_v2")
REPRESENTATIONS.register("mousai-v3", "probes.representations.autoencoders:mousai_v3")
REPRESENTATIONS.register("dac-44khz", "probes.representations.autoencoders:dac_44khz")
REPRESENTATIONS.register("codicodec", "probes.representations.autoencoders:codicodec")
REPRESENTATIONS.register("stable-audio-vae", "probes.representations.autoencoders:stable_audio_vae")
REPRESENTATIONS.register("ace-step-vae", "probes.representations.autoencoders:ace_step_vae")
REPRESENTATIONS.register("ear-vae", "probes.representations.autoencoders:ear_vae")
REPRESENTATIONS.register("same-s", "probes.representations.autoencoders:same_s")
REPRESENTATIONS.register("same-l", "probes.representations.autoencoders:same_l")
REPRESENTATIONS.register("kvae-audio", "probes.representations.autoencoders:kvae_audio")
REPRESENTATIONS.register("encodec-48khz", "probes.representations.autoencoders:encodec_48khz")
REPRESENTATIONS.register("mimi", "probes.representations.autoencoders:mimi")
REPRESENTATIONS.register("snac-44khz", "probes.representations.autoencoders:snac_44khz")
REPRESENTATIONS.register("xcodec2", "probes.representations.autoencoders:xcodec2")
REPRESENTATIONS.register("latmusic", "benchmarks.autoencoders.latmusic:latmusic")

#: Rows of Table 1 that are one output of a representation with several.
ALIASES = {"mel": "handcrafted@mel", "mfcc": "handcrafted@mfcc", "chroma": "handcrafted@chroma"}


def split_name(name: str) -> tuple[str, str | None]:
    """`"music2latent-mini@latents"` -> name and output (None: the default one), without label or alias."""
    name = split_label(name)[1]
    name, _, output = ALIASES.get(name, name).partition("@")
    return name, output or None


def row_name(name: str) -> str:
    """What tables call a representation: its label, or its name with the output."""
    label, target = split_label(name)
    if label is not None:
        return label
    number, _, output = target.removeprefix(PREFIX).partition("@")
    return held(number).label + (f"@{output}" if output else "") if target.startswith(PREFIX) else target


def create_representation(name: str, **options: Any) -> Representation:
    """Make a representation; weights are found now and loaded at the first `extract`.

    Args:
        name: a registered name; `module:Class` or `FILE.py:Class` of your own; `npy:FOLDER` of feature files;
            `hear:MODULE[:WEIGHTS]` for a module with HEAR's three functions; `autoencoder:NAME` for any
            system of `benchmarks.autoencoders` that has `features` or latents; `music2latent:PATH` for a checkpoint.
            Each may have `LABEL=` in front.
        **options: passed to the factory.

    Raises:
        UnknownNameError: no such name; the message gives the nearest.
        WeightsNotFoundError: weights are missing; the message says how to get them.
        TypeError: what `module:Class` makes has no `extract`.
        UsageError: nothing before or after the colon.
    """
    name, _ = split_name(name)
    head, colon, argument = name.partition(":")
    own = own_target(name)
    if own is not None and head not in _PREFIXES:
        factory = import_own(own)
        with controlled(0):  # weights drawn at random are then the same in every process
            made = factory(**options)
        made = load_target("probes.representations.user:adapt")(made, name) if colon else made
    elif not colon:
        made = REPRESENTATIONS.create(name, **options)
    elif head in _PREFIXES:
        made = load_target(_PREFIXES[head])(argument, **options)
    else:
        made = load_target("probes.representations.user:adapt")(import_own(name)(**options), name)
    if not hasattr(made, "extract") and not hasattr(made, "lookup"):
        raise TypeError(f"representation {name!r} has no method 'extract' (see probes.representations.base)")
    return made


def accepts_device(name: str) -> bool:
    """Whether a representation can be told where to run."""
    name, _ = split_name(name)
    head, colon, argument = name.partition(":")
    if colon and head == "autoencoder":
        return system_accepts_device(argument)
    factory = REPRESENTATIONS.load(name) if not colon else load_target(_PREFIXES.get(head, name))
    try:
        return "device" in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # no signature
        return False


_PREFIXES = {
    "npy": "probes.representations.user:FeatureFolder",
    "hear": "probes.representations.user:HearModule",
    "autoencoder": "probes.representations.user:AutoencoderFeatures",
    "music2latent": "probes.representations.music2latent:checkpoint",
    "object": "probes.representations.object:held_representation",
}


def own_target(name: str) -> str | None:
    """The `module:Class`, `FILE.py:Class` or (HEAR) `module:` behind a name whose code is not of this project.

    Raises:
        UnknownNameError: no such name.
        UsageError: nothing before or after the colon.
    """
    name, _ = split_name(name)
    head, colon, argument = name.partition(":")
    if colon and not (head and argument):
        raise UsageError(f"representation {name!r}: something must stand on both sides of the colon")
    if not colon:
        target = REPRESENTATIONS.target(name)
    elif head == "autoencoder":
        return own_autoencoder(argument)
    elif head == "hear":
        target = f"{argument.partition(':')[0]}:"
    elif head in _PREFIXES:
        return None
    else:
        target = name
    return None if is_first_party(target) else target


def list_representations() -> list[str]:
    """Registered names and aliases, sorted; nothing is imported."""
    return sorted({*REPRESENTATIONS.names(), *ALIASES})
