"""What `m2l-bench fetch` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Options of a fetch.

    Attributes:
        data: Root of the data. By default, the folder that has the data set already, else the cache.
        source: Existing copy to adopt: a folder with archives or with unpacked files.
        only: Archives (or clips) to take: their name matches or contains one of these. Empty takes all.
        jobs: Files transferred at the same time.
        overwrite: Fetch even what is present.
        dry_run: Only report what would be transferred.
        keep_archives: Keep archives after unpacking them.
        accept_license: Accept the licenses of weights that restrict their use.
        limit: MusicCaps: stop once so many clips are here (0: all).
        again: MusicCaps: retry clips that were gone, private or blocked.
        yt_dlp: MusicCaps: further options for yt-dlp, in one string.
        soundfont: SoundFont that `open-notes` is rendered from.
    """

    data: Path | None = None
    source: Path | None = None
    only: tuple[str, ...] = ()
    jobs: int = 4
    overwrite: bool = False
    dry_run: bool = False
    keep_archives: bool = False
    accept_license: bool = False
    limit: int = 0
    again: bool = False
    yt_dlp: str = ""
    soundfont: str | None = None
