"""What is recorded of published weights: their origin, files, license and digests.

An origin names a source, not an address: `hub:OWNER/NAME@COMMIT` on the model hub (a full commit where one is
published), `github:OWNER/NAME@TAG` for a release asset, `repository:OWNER/NAME@COMMIT` for files of a repository,
`wheel:NAME==VERSION` for a Python package that carries the files.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightFile:
    """One file of a set of weights.

    Attributes:
        path: inside its origin.
        size: exact, in bytes; None where no public page states it.
        sha256: None where none is published.
        about: rounded size in bytes, where there is no exact one.
        no_digest: why there is no sha256.
        git: the name that git gives the content, which hubs publish for small files.
    """

    path: str
    size: int | None = None
    sha256: str | None = None
    about: int | None = None
    no_digest: str = ""
    git: str | None = None

    @property
    def planned_size(self) -> int:
        """Bytes to plan with: exact where they are known."""
        return self.size or self.about or 0

    @property
    def basename(self) -> str:
        """File name without folders."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class WeightSource:
    """A set of weights: one file, or several that belong together."""

    name: str
    origin: str
    files: tuple[WeightFile, ...]
    license: str
    used_for: str

    @property
    def kind(self) -> str:
        """`hub`, `github` (a release), `repository` or `wheel`."""
        return self.origin.partition(":")[0]

    @property
    def location(self) -> tuple[str, str]:
        """(owner/name or package, revision, tag or version)."""
        place = self.origin.partition(":")[2]
        separator = "==" if self.kind == "wheel" else "@"
        name, _, version = place.partition(separator)
        return name, version
