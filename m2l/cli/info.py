"""`m2l info`: what a checkpoint, a latents file or an audio file is."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from typing import Any

from m2l.audio import AudioError, audio_info
from m2l.cli.common import PICKLED, RANDOM, load_model
from m2l.cli.errors import FAILED, FINE, MISSING, MissingError, fail
from m2l.cli.jobs import AUDIO_SUFFIXES
from m2l.cli.pipes import check_input
from m2l.io.latents import SUFFIX, LatentsError, LatentsReader, is_latents


def run_info(args: argparse.Namespace) -> int:
    """Describe every target; returns the exit code."""
    code = FINE
    described: list[dict[str, Any]] = []
    for target in args.targets:
        try:
            described.append(describe(target))
        except (AudioError, LatentsError, OSError) as error:
            code = max(code, fail(error, FAILED))
        except MissingError as error:
            code = max(code, fail(error, MISSING))
    if args.json:
        print(json.dumps(described, indent=2))
    elif described:
        print("\n\n".join(_lines(one) for one in described))
    return code


def describe(target: str) -> dict[str, Any]:
    """Facts about one target, the kind of which is found out from its name and content.

    Raises:
        AudioError, LatentsError, OSError: for a file that is damaged or unreadable.
        MissingError: if it is neither a file here nor a checkpoint's name.
    """
    suffix = os.path.splitext(target)[1].lower()
    if os.path.isfile(target):
        if is_latents(target):
            with LatentsReader(target) as reader:
                info = reader.info
            return {"kind": "latents", "path": target, **dataclasses.asdict(info), "duration": info.duration}
        if suffix not in (SUFFIX, *PICKLED):
            return _audio(target, known=suffix in AUDIO_SUFFIXES)
    elif os.path.exists(target) and not os.path.isdir(target):
        check_input(target)
        raise MissingError(f"{target} is a pipe; m2l info needs a file")
    elif suffix in AUDIO_SUFFIXES and not os.path.isdir(target):
        raise MissingError(f"no such file: {target}")
    return _checkpoint(target)


def _audio(target: str, known: bool) -> dict[str, Any]:
    try:
        sound = audio_info(target)
    except AudioError as error:
        if known:
            raise
        raise MissingError(f"{target} is no checkpoint, latents file or audio") from error
    return {"kind": "audio", **dataclasses.asdict(sound), "duration": sound.duration}


def _checkpoint(target: str) -> dict[str, Any]:
    model, digest = load_model(target, device="cpu")
    config = model.config
    return {
        "kind": "untrained model" if target.startswith(RANDOM) else "checkpoint",
        "name": target,
        "preset": config.name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sample_rate": config.sample_rate,
        "latent_dim": config.latent_dim,
        "latent_rate": config.latent_rate,
        "downsampling_ratio": config.downsampling_ratio,
        "compression_ratio": config.compression_ratio,
        "latent_scale": config.latent_scale,
        "feature_dim": config.feature_dim,
        "digest": digest,
    }


def _lines(facts: dict[str, Any]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"{key:<{width}}  {_text(value)}" for key, value in facts.items())


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
