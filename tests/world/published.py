"""Which file of a world answers which address."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path

from benchmarks.weights.table import WEIGHTS, WeightSource
from m2l.io.digest import file_digest

#: Repositories that need an account whose owner has accepted their terms.
GATED = ("stabilityai/stable-audio-open-1.0",)
#: Former name of a repository -> its name.
MOVED = {"SonyCSLParis/codicodec": "SonyCSLParis/CoDiCodec"}


@dataclass(frozen=True)
class OnHub:
    """What an address of the hub stands for; `error` is code, X-Error-Code and X-Error-Message."""

    repository: str = ""
    commit: str = ""
    file: Path | None = None
    gated: bool = False
    moved: str | None = None
    error: tuple[int, str, str] | None = None


class Published:
    """The files of a world by address.

    Args:
        root: of the world.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._digests: dict[tuple[Path, str, int], str] = {}
        self._lock = threading.Lock()

    def page(self, host: str, path: str) -> Path | None:
        """A page of a host of data, or None."""
        file = self.root / "web" / host / path.strip("/")
        return file if ".." not in path and file.is_file() else None

    def folder(self, host: str, path: str) -> list[Path]:
        """The files of a folder of a host, sorted."""
        folder = self.root / "web" / host / path.strip("/")
        return sorted(file for file in folder.glob("*") if file.is_file())

    def asset(self, path: str) -> Path | None:
        """`/OWNER/NAME/releases/download/TAG/FILE`."""
        owner, name, *rest = path.strip("/").split("/")
        return self._weight("github", f"{owner}/{name}", rest[2], "/".join(rest[3:])) if len(rest) > 3 else None

    def raw(self, host: str, path: str) -> Path | None:
        """`/OWNER/NAME/COMMIT/PATH`: data, else weights that lie in a repository."""
        owner, name, commit, *rest = path.strip("/").split("/")
        return self.page(host, path) or self._weight("repository", f"{owner}/{name}", commit, "/".join(rest))

    def on_hub(self, path: str) -> OnHub:
        """`/[datasets/]OWNER/NAME/{resolve|raw}/REVISION/FILE`."""
        parts = path.strip("/").split("/")
        data = parts[0] == "datasets"
        owner, name, _, revision, *rest = [*parts[data:], *[""] * 5]
        repository, inner = f"{owner}/{name}", "/".join(part for part in rest if part)
        if repository in MOVED:
            return OnHub(moved=path.replace(repository, MOVED[repository], 1))
        if data:
            file = self.page("huggingface.co", path)
            return OnHub(repository, revision, file, error=None if file else (404, "EntryNotFound", "Entry not found"))
        sources = [s for s in WEIGHTS.values() if s.kind == "hub" and s.location[0] == repository]
        if not sources:
            # To someone without an account, the hub does not tell missing from private.
            return OnHub(error=(401, "RepoNotFound", "Repository not found"))
        commit = sources[0].location[1]
        if revision not in (commit, "main"):
            return OnHub(repository, error=(404, "RevisionNotFound", f"Invalid rev id: {revision}"))
        found = next((f for s in sources if (f := self._file(s, inner)) is not None), None)
        commit = commit if len(commit) == 40 else hashlib.sha1(repository.encode()).hexdigest()
        error = None if found else (404, "EntryNotFound", "Entry not found")
        return OnHub(repository, commit, found, repository in GATED, error=error)

    def _weight(self, kind: str, repository: str, revision: str, path: str) -> Path | None:
        sources = [s for s in WEIGHTS.values() if s.kind == kind and s.location == (repository, revision)]
        return next((file for s in sources if (file := self._file(s, path)) is not None), None)

    def _file(self, source: WeightSource, path: str) -> Path | None:
        file = self.root / "weights" / source.name / path
        return file if path in {f.path for f in source.files} and file.is_file() else None

    def wheels(self) -> list[Path]:
        """Files of the package index."""
        return sorted((self.root / "wheels").glob("*.whl"))

    def digest(self, file: Path, algorithm: str) -> str:
        """`sha256`, `md5`, or `git` for the name that git gives a file's content."""
        key = (file, algorithm, file.stat().st_mtime_ns)
        with self._lock:
            if key not in self._digests:
                self._digests[key] = self._stated(file, algorithm) or _digest(file, algorithm)
            return self._digests[key]

    def _stated(self, file: Path, algorithm: str) -> str | None:
        """The digest of a large file as noted when it was written."""
        try:
            name, _, path = file.relative_to(self.root / "weights").as_posix().partition("/")
        except ValueError:
            return None
        return stand_ins(self.root).get(name, {}).get(path, {}).get(algorithm)

    def by_digest(self, sha256: str) -> Path | None:
        """A large file of the hub."""
        for name, files in stand_ins(self.root).items():
            for path, row in files.items():
                if row["sha256"] == sha256:
                    return self.root / "weights" / name / path
        return None

    def pointer(self, file: Path) -> str:
        """What git holds in place of a large file."""
        sha256, size = self.digest(file, "sha256"), file.stat().st_size
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"


def stand_ins(root: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Sizes and sha256 of the weights of a world: name -> path -> row; empty without weights."""
    path = root / "weights" / "stand_ins.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _digest(file: Path, algorithm: str) -> str:
    if algorithm != "git":
        return file_digest(file, algorithm)
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
