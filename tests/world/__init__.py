"""A world on this machine: the paper's data and weights in published form, on servers that speak as the real ones.

`with World(root) as world:` starts the servers on 127.0.0.1; a command in the environment `world.env` meets only them.
From the repository's root:

    python -m tests.world build ROOT              the data (the weights: tests/world/published_weights.py)
    python -m tests.world serve ROOT              the servers, and the variables to export, until Ctrl-C
    python -m tests.world run ROOT -- COMMAND     one command in this world

Below ROOT:

    web/HOST/PATH        data as published; `tests.world.data` writes it
    weights/NAME/PATH    weights by the name and path of the table; stand_ins.json has their sizes and digests
    wheels/FILE          wheels of the package index
    bin                  stand-ins of yt-dlp, ffmpeg and node
    site                 what makes the tables expect this world's files (`tests.world.overrides`)
    counts.json          counts and lists of this world's data, in place of the published ones
    videos.json          what the stand-in of yt-dlp finds
    suites/NAME.toml     suites in place of the shipped ones, if there is such a folder
    cache, hf, results   of the commands
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .stage import World

__all__ = ["World"]


def __getattr__(name: str) -> Any:
    # Imported late: `overrides` has to come before every table that it changes.
    if name == "World":
        from .stage import World

        return World
    raise AttributeError(name)
