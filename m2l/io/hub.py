"""Where the published weights are on the model hub, and the hub's own cache; nothing here downloads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

#: Hub repository of the published weights (CC BY-NC 4.0), the file in it, and the commit that is fetched.
HUB_NAME = "SonyCSLParis/music2latent"
HUB_FILE = "music2latent.pt"
HUB_COMMIT = "dfe05b5c770118a742047b29297cad0d93072250"


def in_hub_cache(repository: str, path: str, revisions: Iterable[str]) -> Path | None:
    """A file in the hub's cache (HF_HOME is respected) at the first of `revisions` that has it.

    A commit is what `m2l-bench fetch` leaves, "main" what the hub's own command leaves without a revision.
    """
    import huggingface_hub

    for revision in revisions:
        found = huggingface_hub.try_to_load_from_cache(repository, path, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None
