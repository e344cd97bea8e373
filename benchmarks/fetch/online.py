"""Whether every address that `fetch` knows still answers, and with the size that our tables state: one HEAD each."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.fetch.corpora.catalog import BEATPORT, CORPORA, TINYSOL
from benchmarks.fetch.corpora.musiccaps import LIST_URLS, NAME
from benchmarks.fetch.download import NoConnectionError, offline
from benchmarks.fetch.sources import SOURCES
from benchmarks.fetch.transfer import Item, human, mirrored, remote_size
from benchmarks.fetch.weights import stated_by_origin
from benchmarks.weights.table import WEIGHTS

#: Corpora whose archives have fixed addresses; the lists of the others are files of their own.
_FIXED = (BEATPORT, TINYSOL, CORPORA["magnatagatune"])


@dataclass(frozen=True)
class Answer:
    """What one address said.

    Attributes:
        name: as in `m2l-bench fetch NAME`.
        address: URL, or origin and file of a hub.
        expected: bytes by our tables; None where no exact size is published.
        stated: bytes that the server states; None if it states none or does not answer.
        problem: empty if all is well.
    """

    name: str
    address: str
    expected: int | None
    stated: int | None
    problem: str

    def __str__(self) -> str:
        return f"{self.problem or 'fine':40} {human(self.stated):>12}  {self.name}: {self.address}"


def ask_all(names: Iterable[str] = (), jobs: int = 8) -> list[Answer]:
    """Ask for every address of these names (default: all), several at a time; in the order of the tables.

    Raises:
        NoConnectionError: downloads are switched off, or no address at all could be reached.
    """
    if variable := offline():
        raise NoConnectionError(f"downloads are switched off ({variable} is set)")
    chosen = set(names)
    asked = [task for task in (*_weights(), *_data()) if not chosen or task[0] in chosen]
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        found = list(tqdm(pool.map(_ask, asked), total=len(asked), desc="addresses", file=sys.stderr, leave=False))
    if found and all(answer.problem.endswith("is there a network?") for answer in found):
        raise NoConnectionError(found[0].problem)
    return found


def records_of(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """Plain dictionaries, for JSON."""
    return [asdict(answer) for answer in answers]


#: Name, address, expected size, and a function that gives the size which the server states.
_Task = tuple[str, str, "int | None", Any]


def _weights() -> list[_Task]:
    return [
        (source.name, f"{source.origin}/{file.path}", file.size, lambda s=source, f=file: stated_by_origin(s, f)[0])
        for source in WEIGHTS.values()
        if source.kind != "wheel"
        for file in source.files
    ]


def _data() -> list[_Task]:
    items: list[tuple[str, Item]] = [(name, item) for name, source in SOURCES.items() for item in source.items()]
    items += [(corpus.name, item) for corpus in CORPORA.values() for item in corpus.items]
    for corpus in _FIXED:
        # Their lists of archives do not depend on the folder.
        items += [(corpus.name, part) for archive in corpus.archives(Path()) for part in archive.parts]
    tasks = [
        (name, url, item.expected.size, lambda u=url: remote_size(mirrored(u)))
        for name, item in items
        for url in item.urls
    ]
    return [*tasks, *((NAME, url, None, lambda u=url: remote_size(mirrored(u))) for url in LIST_URLS)]


def _ask(task: _Task) -> Answer:
    name, address, expected, ask = task
    try:
        stated = ask()
    except (OSError, ValueError) as error:
        return Answer(name, address, expected, None, str(error).splitlines()[0])
    wrong = expected is not None and stated is not None and stated != expected
    return Answer(name, address, expected, stated, f"{stated} bytes, expected {expected}" if wrong else "")
