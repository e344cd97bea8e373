"""Names to lazily imported things: `"module:attr"` targets, entry points, and errors that help.

Listing a registry imports nothing; creating an entry imports only its own module.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
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


def parameters_of(factory: Any) -> set[str]:
    """Names of the arguments that a factory takes; a class that passes `**kwargs` on takes those of its bases, too."""
    if isinstance(factory, partial):
        return parameters_of(factory.func)
    if not isinstance(factory, type):
        return set(inspect.signature(factory).parameters)
    found: set[str] = set()
    for kind in factory.__mro__:
        if "__init__" not in vars(kind):
            continue
        parameters = inspect.signature(vars(kind)["__init__"]).parameters
        found |= set(parameters)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return found


@dataclass(frozen=True)
class Family:
    """Names that differ in a number: "opus-24k" and "opus-96k" are of the family "opus-{}k".

    Whether a number makes sense is for the factory to say, which knows its limits.

    Attributes:
        form: the names, with "{}" for the number.
        target: `"module:attr"` of the factory.
        argument: the factory's parameter that the number is given to.
    """

    form: str
    target: str
    argument: str

    def number(self, name: str) -> int | float | None:
        """The number in a name of this family; None for another name, and for a number not in its shortest form."""
        before, after = self.form.split("{}")
        text = name[len(before) : len(name) - len(after)]
        if not (name == before + text + after and _shortest(text) == text):
            return None
        return float(text) if "." in text else int(text)

    def meant(self, name: str) -> list[str]:
        """The name that something like "Opus16", "opus-016k" or "opus_16_kbps" was meant to be; else nothing."""
        before = self.form.split("{}")[0].rstrip("-")
        found = re.match(rf"{re.escape(before)}[-_ ]?(\d+(?:\.\d+)?)", name[:100], re.IGNORECASE)
        text = _shortest(found[1]) if found else None
        return [] if text is None else [self.form.format(text)]


def _shortest(text: str) -> str | None:
    """A decimal number in its shortest form; None for what is none, or has more than six digits."""
    if not re.fullmatch(r"-?\d{1,6}(\.\d{1,6})?", text):
        return None
    shortest = f"{float(text):g}"
    return None if "e" in shortest else shortest


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
        self._families: list[Family] = []
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

    def register_family(self, form: str, target: str, argument: str, *common: int | float) -> None:
        """Add the names of a form such as "opus-{}k", for any number; those of `common` numbers are listed.

        Args:
            form: the name with "{}" for the number.
            target: `"module:attr"` of the factory.
            argument: its parameter that the number is given to.
            *common: numbers whose names are listed.
        """
        self._families.append(Family(form, target, argument))
        for number in common:
            self.register(form.format(number), target)

    def forms(self) -> list[str]:
        """Forms of names with a number, as in "opus-{}k"."""
        return sorted(family.form for family in self._families)

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported."""
        return sorted({*self._targets, *self._entry_points()})

    def __contains__(self, name: object) -> bool:
        return name in self._targets or name in self._entry_points() or self._member(str(name)) is not None

    def target(self, name: str) -> str:
        """The `"module:attr"` behind a name.

        Raises:
            UnknownNameError: no such name.
        """
        target = self._targets.get(name) or self._entry_points().get(name)
        if target is not None:
            return target
        member = self._member(name)
        if member is None:
            meant = [one for family in self._families for one in family.meant(name)]
            raise UnknownNameError(self.kind, name, meant or self.names())
        return member[0].target

    def load(self, name: str) -> Any:
        """Import and return the factory behind a name."""
        made, member = load_target(self.target(name)), self._member(name)
        return made if member is None else partial(made, **{member[0].argument: member[1]})

    def create(self, name: str, /, **options: Any) -> Any:
        """Call the factory behind a name with `options`."""
        return self.load(name)(**options)

    def _member(self, name: str) -> tuple[Family, int | float] | None:
        """The family that a name belongs to, and its number."""
        for family in self._families:
            number = family.number(name)
            if number is not None:
                return family, number
        return None

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
