"""`m2l info`: a description of checkpoints, latents files and audio files."""

from __future__ import annotations

import dataclasses
import os
from json import dumps
from typing import Annotated, Any

from cyclopts import Parameter

from m2l.audio import AudioError
from m2l.cli.common import CHECKPOINT_HELP, FAILED, FINE, MISSING, PICKLED, MissingError, fail, load_model, path
from m2l.cli.jobs import AUDIO_SUFFIXES, check_input
from m2l.config import RANDOM
from m2l.io.latents import SUFFIX, LatentsError, LatentsReader, is_latents
from m2l.io.sound import audio_info

_HELP = f"latents file, audio file, or checkpoint: {CHECKPOINT_HELP}"


def info(
    targets: Annotated[list[str], path("TARGET", name="TARGET", help=_HELP)],
    /,
    *,
    json: Annotated[bool, Parameter(help="print one JSON list")] = False,
) -> int:
    """Describe checkpoints, latents files and audio files."""
    code = FINE
    described: list[dict[str, Any]] = []
    for target in targets:
        try:
            described.append(describe(target))
        except (AudioError, LatentsError, OSError) as error:
            code = max(code, fail(error, FAILED))
        except MissingError as error:
            code = max(code, fail(error, MISSING))
    if json:
        print(dumps(described, indent=2))
    elif described:
        print("\n\n".join(_lines(one) for one in described))
    return code


def describe(target: str) -> dict[str, Any]:
    """Metadata of one target, the kind of which follows from its name and content.

    Raises:
        AudioError, LatentsError, OSError: for a file that is damaged or unreadable.
        MissingError: if it is neither a file nor a checkpoint.
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
        raise MissingError(f"{target} is not a checkpoint, latents file or audio file") from error
    return {"kind": "audio", **dataclasses.asdict(sound), "duration": sound.duration}


def _checkpoint(target: str) -> dict[str, Any]:
    model, _ = load_model(target, device="cpu")
    kind = "untrained model" if target.startswith(RANDOM) else "checkpoint"
    return {"kind": kind, "name": target, **model.describe()}


def _lines(facts: dict[str, Any]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"{key:<{width}}  {_text(value)}" for key, value in facts.items())


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
