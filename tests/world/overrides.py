"""A world's sizes, digests and counts in place of the published ones, in every Python process of its environment.

The product has no switch for this: nothing that a user sets can weaken a checksum. A world's environment puts
`ROOT/site/sitecustomize.py` on Python's path, which calls `install`, and each table is changed as it is imported. The
code that compares is the product's.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

_SITE = '''"""Written by tests.world.overrides: this process expects the files of a world."""

from world.overrides import install

install({root!r})
'''


def write_site(root: Path) -> None:
    """Write the module that Python imports as it starts."""
    site = root / "site"
    site.mkdir(parents=True, exist_ok=True)
    (site / "sitecustomize.py").write_text(_SITE.format(root=str(root)))


def install(root: str) -> None:
    """Change the tables of this process as they are imported."""
    sys.meta_path.insert(0, _Finder(Path(root)))


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the other finders find a module, and changes it after it has run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in CHANGES:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                self._wrap(spec.loader, CHANGES[name])
                return spec
        return None

    def _wrap(self, loader: Any, change: Callable[[ModuleType, Path], None]) -> None:
        run = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            change(module, self.root)

        loader.exec_module = exec_module


def _counts(root: Path) -> dict[str, Any]:
    return json.loads((root / "counts.json").read_text())


def _weights(module: ModuleType, root: Path) -> None:
    from world.published import stand_ins

    for name, rows in stand_ins(root).items():
        source = module.WEIGHTS[name]
        files = tuple(
            replace(file, **rows[file.path], git=None, no_digest="") if file.path in rows else file
            for file in source.files
        )
        module.WEIGHTS[name] = replace(source, files=files)


def _catalog(module: ModuleType, root: Path) -> None:
    """Sizes, digests and counts of the data sets that the world has."""
    from m2l.io.digest import file_digest

    def stand_in(item: Any) -> Any:
        for url in item.urls:
            parts = urlsplit(url)
            file = root / "web" / parts.netloc / unquote(parts.path).strip("/")
            if file.is_file():
                algorithm = (item.expected.digest or "").partition(":")[0]
                digest = f"{algorithm}:{file_digest(file, algorithm)}" if algorithm else None
                size = None if item.expected.size is None else file.stat().st_size
                return replace(item, expected=replace(item.expected, size=size, digest=digest))
        return item

    counts = _counts(root)
    module.MTT_CLIPS = counts["magnatagatune"]["clips"]
    for name, row in counts["corpora"].items():
        corpus = module.CORPORA[name]
        changed = replace(
            corpus,
            items=tuple(map(stand_in, corpus.items)),
            archives=lambda folder, listed=corpus.archives: [
                replace(archive, parts=tuple(map(stand_in, archive.parts))) for archive in listed(folder)
            ],
            count=row["files"],
            transfer_bytes=row["bytes"] if corpus.transfer_bytes else None,
            unpacked_bytes=row["bytes"] if corpus.unpacked_bytes else None,
        )
        module.CORPORA[name] = changed
        setattr(module, name.upper(), changed)


def _musiccaps_list(module: ModuleType, root: Path) -> None:
    counts = _counts(root)["musiccaps"]
    module.CLIPS, module.SEGMENTS_SHA256 = counts["clips"], counts["segments"]
    module.EVALUATION = counts["evaluation"]


def _musiccaps_fetch(module: ModuleType, root: Path) -> None:
    module._BUSY_SECONDS = 0.2  # nobody waits for a stand-in


def _magnatagatune(module: ModuleType, root: Path) -> None:
    counts = _counts(root)["magnatagatune"]
    module.stored().update(ids=counts["ids"], won_counts=counts["won"])
    module.ALL_COUNTS = counts["all"]


def _beatport(module: ModuleType, root: Path) -> None:
    module.stored().update(_counts(root)["beatport"])


def _tinysol(module: ModuleType, root: Path) -> None:
    module.FOLD_COUNTS = {int(fold): count for fold, count in _counts(root)["tinysol"]["folds"].items()}


def _suites(module: ModuleType, root: Path) -> None:
    """Suites of the world's own under the shipped names, for a play with few systems."""
    if (root / "suites").is_dir():
        module.FOLDER = root / "suites"


#: Module -> what is changed in it, as it is imported.
CHANGES: dict[str, Callable[[ModuleType, Path], None]] = {
    "benchmarks.weights.table": _weights,
    "benchmarks.fetch.corpora.catalog": _catalog,
    "benchmarks.datasets.musiccaps": _musiccaps_list,
    "benchmarks.fetch.corpora.musiccaps": _musiccaps_fetch,
    "benchmarks.suite": _suites,
    "probes.tasks.magnatagatune": _magnatagatune,
    "probes.tasks.beatport": _beatport,
    "probes.tasks.tinysol": _tinysol,
}
