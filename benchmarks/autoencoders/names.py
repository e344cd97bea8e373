"""Names of systems: `[LABEL=]NAME`, `[LABEL=]KIND:ARGUMENT` or `[LABEL=]module:Class`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from benchmarks.store.fingerprint import code_digest, digest
from benchmarks.store.held import held
from benchmarks.store.own_code import own_digest, own_module, split_label
from benchmarks.user_code import is_first_party

#: Kinds that take an argument: kind -> (target, name of the parameter the argument is given to).
KINDS = {
    "music2latent": ("benchmarks.autoencoders.music2latent:Checkpoint", "path"),
    "external": ("benchmarks.autoencoders.own.external:External", "path"),
    "object": ("benchmarks.autoencoders.own.object:held_autoencoder", "number"),
    "external-command": ("benchmarks.autoencoders.own.external_command:ExternalCommand", "template"),
}


def label_of(name: str) -> str:
    """What a table calls a system: its label, or its name without this machine's folders."""
    label, target = split_label(name)
    if label is not None:
        return label
    kind, colon, argument = target.partition(":")
    if kind == "object" and colon:
        return held(argument).label
    if kind == "external" and colon:
        return f"external:{Path(argument).expanduser().resolve().name}"
    if kind == "external-command" and colon:
        return f"external-command:{PurePath(_first_word(argument)).name}"
    path, _, attribute = target.rpartition(":")
    return f"{PurePath(path).stem}:{attribute}" if path.endswith(".py") else target


def _first_word(template: str) -> str:
    try:
        return (shlex.split(template) or [""])[0]
    except ValueError:
        return template.split(" ")[0]


def system_code(name: str, registered: str | None = None, options: Mapping[str, Any] | None = None) -> str:
    """Digest of the code behind a system, for content keys.

    Our own adapters tell two systems of one module apart in their specs; a user's class need not, so its
    name and the options it is given count as well.

    Args:
        name: the system's full name.
        registered: the `"module:attr"` that a registered name stands for.
        options: what the class is called with.
    """
    _, target = split_label(name)
    kind, _, _ = target.partition(":")
    if registered is None and kind in KINDS:
        code = code_digest(KINDS[kind][0].partition(":")[0])
        return digest([code, held(target.partition(":")[2]).digest]) if kind == "object" else code
    if registered is not None:
        module, attribute = registered.partition(":")[0], None
    else:
        module, attribute = own_module(target)
    code = (
        code_digest(module)
        if is_first_party(module)
        else digest([own_digest(module), code_digest("benchmarks.autoencoders.own.adapted")])
    )
    # Two classes of one module may have equal specs and give different audio.
    return code if attribute is None else digest([code, attribute])
