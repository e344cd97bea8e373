"""What the tests of fetching share: miniatures of data sets on a server, and what must hold of what was fetched."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest
from http_helpers import Server
from paper_data import Mini, miniature

from benchmarks.cli.main import main
from benchmarks.datasets.records import HIDDEN, read_records
from benchmarks.fetch.corpora.fetcher import TRAINING_LIST

DOWNLOADED = ("tinysol", "beatport", "magnatagatune")
BY_HAND = ("mtg-jamendo", "dns4")  # downloaded by their publishers' own scripts
NAMES = (*DOWNLOADED, *BY_HAND)
PINNED = ("tinysol", "beatport", "mtg-jamendo")  # whose archives have published checksums


def served(name: str, mirror: Server, monkeypatch: pytest.MonkeyPatch) -> Mini:
    made = miniature(name, monkeypatch)
    mirror.files.update(made.served)
    mirror.faulty.update(made.archives)
    return made


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
