"""Our cache folder, and the model hub's own cache with the published weights; nothing here downloads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import platformdirs

#: Hub repository of the published weights, their license, the file in it, and the commit that is fetched.
HUB_NAME = "SonyCSLParis/music2latent"
HUB_LICENSE = "CC BY-NC 4.0"
HUB_FILE = "music2latent.pt"
HUB_COMMIT = "dfe05b5c770118a742047b29297cad0d93072250"


def cache_dir() -> Path:
    """The cache folder: `M2L_CACHE`, else `XDG_CACHE_HOME/m2l`, else the platform's own (`~/.cache/m2l` on Linux).

    Raises:
        FileNotFoundError: none of them is set, and the user has no home folder.
    """
    try:
        if explicit := os.environ.get("M2L_CACHE"):
            folder = explicit
        elif base := os.environ.get("XDG_CACHE_HOME"):
            folder = os.path.join(base, "m2l")
        else:
            folder = platformdirs.user_cache_dir("m2l", appauthor=False)
        return Path(folder).expanduser()
    except RuntimeError:
        raise FileNotFoundError("this user has no home folder for caches: set M2L_CACHE to a writable folder") from None


def in_hub_cache(repository: str, path: str, revisions: Iterable[str]) -> Path | None:
    """A file in the hub's cache (HF_HOME is respected) at the first of `revisions` that has it.

    `m2l-bench fetch` stores the commit; the hub's own command without a revision stores "main".
    """
    import huggingface_hub

    for revision in revisions:
        found = huggingface_hub.try_to_load_from_cache(repository, path, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None
