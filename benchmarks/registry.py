"""Names to lazily imported things: `"module:attr"` targets, entry points, and errors that help.

Listing a registry imports nothing; creating an entry imports only its own module.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache
from typing import Any

from m2l.names import did_you_mean, nearest


class UnknownNameError(ValueError):
    """A name that no registry entry has; the message gives the nearest matches.

    Args:
        kind: what was looked for.
        name: the name that was given.
        known: all names.
        summary: said in place of the list of all names where none is near.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], summary: str = "") -> None:
        known = list(known)
        super().__init__(f"unknown {kind} {name!r}; {did_you_mean(name, known, summary)}")
        self.kind, self.name, self.near = kind, name, nearest(name, known)


def load_target(target: str) -> Any:
    """Import `"package.module:attribute"` and return the attribute.

    Raises:
        ValueError: the target is not of that form.
        ImportError: the module does not import, or has no such attribute.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise ValueError(f"target {target!r} is not of the form 'package.module:attribute'")
    value: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise ImportError(f"module {module_name!r} has no attribute {attribute!r}") from None
    return value


class Registry:
    """Named factories of one kind.

    Args:
        kind: what an entry is, in the words of an error message ("autoencoder", "metric", ...).
        entry_point_group: installed packages that declare entry points of this group add entries.
            An entry of the suite itself wins over an entry point of the same name.
    """

    def __init__(self, kind: str, entry_point_group: str | None = None) -> None:
        self.kind = kind
        self._group = entry_point_group
        self._targets: dict[str, str] = {}
        self._from_entry_points: dict[str, str] | None = None

    def register(self, name: str, target: str) -> None:
        """Add `name`; `target` is `"module:attr"` of a class or function that makes the thing.

        Raises:
            ValueError: the name is taken by another target, or the target is malformed.
        """
        if ":" not in target:
            raise ValueError(f"target {target!r} is not of the form 'package.module:attribute'")
        if self._targets.get(name, target) != target:
            raise ValueError(f"{self.kind} {name!r} is already registered as {self._targets[name]!r}")
        self._targets[name] = target

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported."""
        return sorted({*self._targets, *self._entry_points()})

    def __contains__(self, name: object) -> bool:
        return name in self._targets or name in self._entry_points()

    def target(self, name: str) -> str:
        """The `"module:attr"` behind a name.

        Raises:
            UnknownNameError: no such name.
        """
        target = self._targets.get(name) or self._entry_points().get(name)
        if target is None:
            raise UnknownNameError(self.kind, name, self.names())
        return target

    def load(self, name: str) -> Any:
        """Import and return the factory behind a name."""
        return load_target(self.target(name))

    def create(self, name: str, /, **options: Any) -> Any:
        """Call the factory behind a name with `options`."""
        return self.load(name)(**options)

    def _entry_points(self) -> dict[str, str]:
        if self._from_entry_points is None:
            found = _installed().select(group=self._group) if self._group else ()
            self._from_entry_points = {point.name: point.value for point in found}
        return self._from_entry_points


@cache
def _installed() -> Any:
    """The entry points of all installed packages, whose files are read once."""
    from importlib.metadata import entry_points  # takes longer than all of `--help` else

    return entry_points()
