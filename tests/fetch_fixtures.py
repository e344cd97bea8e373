"""Fixtures that the tests of fetching share; a module names this file as a plugin."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fetch_helpers import BY_HAND, DOWNLOADED, NAMES, served
from http_helpers import Server, serving_files
from musiccaps_helpers import VIDEOS, Box
from paper_data import Mini

from benchmarks.fetch import transfer
from benchmarks.fetch.corpora.clips import Finished
from benchmarks.fetch.corpora.musiccaps import Tools
from benchmarks.fetch.download import download

_ENVIRONMENT = (
    "M2L_OFFLINE", "HF_HUB_OFFLINE", "M2L_DATA", "M2L_FETCH_MIRROR", "http_proxy", "HTTP_PROXY", "all_proxy",
)  # fmt: skip


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine's owner applies."""
    for name in _ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server(online: None) -> Iterator[Server]:
    """A server on this machine, which all files are asked of by its own address."""
    with serving_files() as state:
        yield state


@pytest.fixture
def mirror(server: Server, monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> Server:
    """The same server as the mirror of all addresses; its faults are those of single paths."""
    server.faulty = set()
    monkeypatch.setenv("M2L_FETCH_MIRROR", server.url)
    monkeypatch.setattr(transfer, "download", functools.partial(download, pause=waits.append))
    return server


@pytest.fixture(params=DOWNLOADED)
def mini(request: pytest.FixtureRequest, mirror: Server, monkeypatch: pytest.MonkeyPatch) -> Mini:
    """Those that we download."""
    return served(request.param, mirror, monkeypatch)


@pytest.fixture(params=NAMES)
def each(request: pytest.FixtureRequest, mirror: Server, monkeypatch: pytest.MonkeyPatch) -> Mini:
    """All of them."""
    return served(request.param, mirror, monkeypatch)


@pytest.fixture(params=BY_HAND)
def by_hand(request: pytest.FixtureRequest, mirror: Server, monkeypatch: pytest.MonkeyPatch) -> Mini:
    """Those that their publishers' scripts download."""
    return served(request.param, mirror, monkeypatch)


@pytest.fixture
def box(online: None, tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
def quick(box: Box, monkeypatch: pytest.MonkeyPatch) -> Box:
    """The same, with the fake called without a process of its own for most of the tests."""

    def runner(command: Sequence[str], timeout: float) -> Finished:
        with open(box.log, "a") as log:
            log.write(json.dumps(list(command[1:])) + "\n")
        ytid = command[-1].split("watch?v=")[1]
        video = VIDEOS[ytid]
        if isinstance(video, str):
            if video != "FLAKY":
                return Finished(1, f"ERROR: [youtube] {ytid}: {video}\n")
            video = (5, 60.0, 48000)
        start, seconds, rate = video
        n = round((min(seconds, start + 10) - start) * rate)
        if n > 0:
            path = Path(command[command.index("--output") + 1].replace("%(ext)s", "wav"))
            soundfile.write(path, np.full((n, 2), 0.1), rate, subtype="PCM_16")
        return Finished(0, "")

    original = box.get

    def get(how: Tools | None = None, **options: object) -> dict[str, object]:
        return original(how or Tools(runner, ["yt-dlp"], pause=lambda seconds: None, complete=False), **options)

    box.get = get  # type: ignore[method-assign]
    return box
