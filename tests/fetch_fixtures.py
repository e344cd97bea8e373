"""What the tests of fetching share: servers with faults, miniatures of data sets on them, and what must hold."""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_helpers import Server, serving_files
from paper_data import Mini, miniature

from benchmarks.cli.main import main
from benchmarks.datasets.records import HIDDEN, read_records
from benchmarks.fetch import transfer
from benchmarks.fetch.corpora.fetcher import TRAINING_LIST
from benchmarks.fetch.download import download

DOWNLOADED = ("tinysol", "beatport", "magnatagatune")
BY_HAND = ("mtg-jamendo", "dns4")  # downloaded by their publishers' own scripts
NAMES = (*DOWNLOADED, *BY_HAND)
PINNED = ("tinysol", "beatport", "mtg-jamendo")  # whose archives have published checksums
_ENVIRONMENT = (
    "M2L_OFFLINE", "HF_HUB_OFFLINE", "M2L_DATA", "M2L_FETCH_MIRROR", "http_proxy", "HTTP_PROXY", "all_proxy",
)  # fmt: skip


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server on this machine, which all files are asked of by its own address."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # nobody pulls the plug here
    for name in _ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    with serving_files() as state:
        yield state


@pytest.fixture
def mirror(server: Server, monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> Server:
    """The same server as the mirror of all addresses; its faults are those of single paths."""
    server.faulty = set()
    monkeypatch.setenv("M2L_FETCH_MIRROR", server.url)
    monkeypatch.setattr(transfer, "download", functools.partial(download, pause=waits.append))
    return server


def served(name: str, mirror: Server, monkeypatch: pytest.MonkeyPatch) -> Mini:
    made = miniature(name, monkeypatch)
    mirror.files.update(made.served)
    mirror.faulty.update(made.archives)
    return made


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


def data_of(folder: Path) -> dict[str, bytes]:
    """All files that a loader could take for data."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and HIDDEN not in path.relative_to(folder).parts and path.name != TRAINING_LIST
    }


def get(mini: Mini, root: Path, *more: str) -> int:
    return main(["fetch", mini.corpus.name, "--data", str(root), *more])


def get_all(mini: Mini, root: Path, *more: str) -> int:
    """Fetch a data set, after its publisher's script has done its part where it has one."""
    if mini.by_hand:
        more = ("--from", str(mini.download_by_hand(root / "by hand")), *more)
    return get(mini, root, *more)


def nothing_wrong_is_there(mini: Mini, root: Path) -> None:
    """Whatever is there is a whole published file; a record means that its archive is complete."""
    folder = root / mini.corpus.folder
    for path, data in data_of(folder).items():
        assert data == mini.files[path], path
    for path, member in read_records(folder).items():
        assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == member.sha256


def is_complete(mini: Mini, root: Path) -> None:
    folder = root / mini.corpus.folder
    assert data_of(folder) == mini.files
    assert set(read_records(folder)) == set(mini.files) - {item.path for item in mini.corpus.items}
    assert not list((folder / HIDDEN).rglob("*.part"))
    assert {path.name for path in (folder / HIDDEN).iterdir()} == {"records"}
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o7111 == 0 for path in folder.rglob("*") if path.is_file())
