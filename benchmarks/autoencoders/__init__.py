"""Systems under test: protocol, lazy registry, one adapter per file."""

from __future__ import annotations

from typing import Any

from benchmarks.autoencoders.base import Autoencoder, AutoencoderSpec
from benchmarks.autoencoders.names import KINDS
from benchmarks.registry import Registry, load_target
from benchmarks.store.own_code import import_own, split_label
from benchmarks.user_code import is_first_party

__all__ = ["AUTOENCODERS", "Autoencoder", "AutoencoderSpec", "create_autoencoder", "list_autoencoders"]

AUTOENCODERS = Registry("autoencoder", entry_point_group="m2l.autoencoders")
AUTOENCODERS.register("identity", "benchmarks.autoencoders.controls:Identity")
AUTOENCODERS.register_family("noise-{}db", "benchmarks.autoencoders.controls:NoiseAtSnr", "snr_db", 20)
AUTOENCODERS.register_family("mp3-{}k", "benchmarks.autoencoders.codecs:mp3", "kbits", 64, 128)
AUTOENCODERS.register_family("vorbis-{}k", "benchmarks.autoencoders.codecs:vorbis", "kbits", 64, 96)
AUTOENCODERS.register_family("opus-{}k", "benchmarks.autoencoders.codecs:opus", "kbits", 16, 96)
AUTOENCODERS.register("mel-griffinlim", "benchmarks.autoencoders.griffinlim:MelGriffinLim")
AUTOENCODERS.register("music2latent", "benchmarks.autoencoders.music2latent:Published")
AUTOENCODERS.register("music2latent-mini", "benchmarks.autoencoders.music2latent:Mini")
AUTOENCODERS.register("music2latent-random", "benchmarks.autoencoders.music2latent:RandomInit")
AUTOENCODERS.register("musika", "benchmarks.autoencoders.musika:Musika")
AUTOENCODERS.register("latmusic", "benchmarks.autoencoders.latmusic:latmusic")
AUTOENCODERS.register("mousai-v2", "benchmarks.autoencoders.mousai:MousaiV2")
AUTOENCODERS.register("mousai-v3", "benchmarks.autoencoders.mousai:MousaiV3")
AUTOENCODERS.register("dac-44khz", "benchmarks.autoencoders.dac:Dac")
AUTOENCODERS.register_family("dac-44khz-{}q", "benchmarks.autoencoders.dac:Dac", "n_codebooks")
AUTOENCODERS.register("codicodec", "benchmarks.autoencoders.codicodec:CoDiCodec")
AUTOENCODERS.register("stable-audio-vae", "benchmarks.autoencoders.diffusers_vae:StableAudioVae")
AUTOENCODERS.register("ace-step-vae", "benchmarks.autoencoders.diffusers_vae:AceStepVae")
AUTOENCODERS.register("ear-vae", "benchmarks.autoencoders.ear_vae:EarVae")
AUTOENCODERS.register("same-s", "benchmarks.autoencoders.same:SameS")
AUTOENCODERS.register("same-l", "benchmarks.autoencoders.same:SameL")
AUTOENCODERS.register("kvae-audio", "benchmarks.autoencoders.diffusers_vae:KvaeAudio")
AUTOENCODERS.register("encodec-48khz", "benchmarks.autoencoders.encodec:Encodec")
AUTOENCODERS.register_family("encodec-48khz-{}k", "benchmarks.autoencoders.encodec:Encodec", "bandwidth")
AUTOENCODERS.register("snac-44khz", "benchmarks.autoencoders.snac:Snac")
AUTOENCODERS.register("xcodec2", "benchmarks.autoencoders.xcodec2:Xcodec2")
AUTOENCODERS.register_family("lyra-{}k", "benchmarks.autoencoders.lyra:lyra", "kbits", 3.2, 6, 9.2)
AUTOENCODERS.register("mimi", "benchmarks.autoencoders.mimi:Mimi")
AUTOENCODERS.register_family("mimi-{}q", "benchmarks.autoencoders.mimi:Mimi", "n_codebooks")


def create_autoencoder(name: str, **options: Any) -> Autoencoder:
    """The system called `name`.

    Args:
        name: a registered name, or a form with a number of your choice (`opus-24k`, `noise-30db`, `dac-44khz-3q`
            for three codebooks; see `list_forms`); `music2latent:PATH` for a checkpoint of your own,
            `external:DIR` for a folder of reconstructions, `external-command:TEMPLATE` for a program,
            `module:Class` or `FILE.py:Class` for a class of your own; each may have `LABEL=` in front.
        **options: passed to the adapter.

    Raises:
        UnknownNameError: no system has that name; the message gives the nearest.
        FileNotFoundError: its weights are not on this machine; the message gives the command that gets them.
        ImportError: an optional package is not installed.
        AutoencoderError: a class of your own lacks something.
        ValueError: the number in a name, or an option, is one that the system does not have; says which it has.
    """
    label, target = split_label(name)
    kind, colon, argument = target.partition(":")
    if colon and kind in KINDS:
        factory, parameter = KINDS[kind]
        named = {} if label is None else {"name": label}
        return load_target(factory)(**{parameter: argument}, **named, **options)  # type: ignore[no-any-return]

    from benchmarks.autoencoders.own.adapted import complete, controlled

    own = own_target(name)
    if own is None:
        factory = import_own(target) if colon else AUTOENCODERS.load(target)
        return complete(factory(**options), target, label)
    factory = import_own(own)
    with controlled(0):  # weights drawn at random are then the same in every process
        made = factory(**options)
    return complete(made, target, label)


def own_target(name: str) -> str | None:
    """The `module:Class` or `FILE.py:Class` behind a name whose code is not of this project; else None.

    Raises:
        UnknownNameError: no such name.
    """
    target = split_label(name)[1]
    kind, colon, _ = target.partition(":")
    if colon and kind in KINDS:
        return None
    target = target if colon else AUTOENCODERS.target(target)
    return None if is_first_party(target) else target


def list_autoencoders() -> list[str]:
    """Registered names, sorted; nothing is imported."""
    return AUTOENCODERS.names()


def list_forms() -> list[str]:
    """Forms of names that take a number, N: "opus-Nk" stands for `opus-24k` and all others."""
    return [form.format("N") for form in AUTOENCODERS.forms()]
