"""Objects that a caller passes in: held in this process under a number, so that names can stand for them.

`object:3` is then a system or a representation like any other. Only this process has the object, so units that use it
run here (`Unit.local`). Its content key is what `object_digest` sees of it at the time it is passed in.
"""

from __future__ import annotations

import itertools
import re
import weakref
from dataclasses import dataclass
from typing import Any

from benchmarks.store.fingerprint import code_digest, digest
from benchmarks.store.object_digest import object_digest

#: What stands before the number.
PREFIX = "object:"


@dataclass(eq=False)
class Held:
    """An object under a name.

    Attributes:
        value: the object.
        label: what tables call it.
        number: its number in this process.
        digest: of its code and contents.
        opaque: parts that the digest cannot see; with any, results are not kept.
        spec: in place of the object's own.
    """

    value: Any
    label: str
    number: int
    digest: str
    opaque: tuple[str, ...] = ()
    spec: Any = None

    @property
    def name(self) -> str:
        """The name that stands for it, with its label."""
        return f"{self.label}={PREFIX}{self.number}"

    @property
    def remark(self) -> str:
        """Why results are not kept; empty if they are."""
        if not self.opaque:
            return ""
        parts = ", ".join(self.opaque[:3]) + (", …" if len(self.opaque) > 3 else "")
        return (
            f"{self.label}: what {parts} holds cannot be seen, so its results are measured anew by every call; a "
            "'version' in its spec that you change with it lets them be kept"
        )


#: Those that somebody still uses.
_held: weakref.WeakValueDictionary[str, Held] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


def hold(value: Any, label: str = "", spec: Any = None) -> Held:
    """Give an object a name for as long as the answer is referred to.

    Args:
        value: an instance.
        label: what tables call it; default the name of its class.
        spec: what it does not say of itself, such as `{"sample_rate": 44100}`.

    Raises:
        TypeError: a class in place of an instance, or None.
    """
    if isinstance(value, type):
        raise TypeError(f"{value.__name__} is a class; pass an instance, such as {value.__name__}()")
    if value is None:
        raise TypeError("None is neither a name nor an object to evaluate")
    seen: tuple[str, tuple[str, ...]]
    if is_own_model(value):
        seen = digest([value.digest(), str(value.dtype), code_digest("m2l.model")]), ()
    else:
        found = object_digest(value)
        seen = found.digest, tuple(dict.fromkeys(found.opaque))
    made = Held(value, safe_label(label or type(value).__name__), next(_numbers), *seen, spec)
    _held[str(made.number)] = made
    return made


def held(number: str) -> Held:
    """The object behind `object:NUMBER`.

    Raises:
        LookupError: this process does not hold it.
    """
    try:
        return _held[number]
    except KeyError:
        raise LookupError(f"object {number} is held by the process that evaluates it, not by this one") from None


def safe_label(text: str) -> str:
    """A text as a label: letters, digits and a few signs."""
    return re.sub(r"[^\w.+@-]+", " ", text).strip() or "object"


def is_own_model(value: Any) -> bool:
    """Whether it is a `Music2Latent`, which knows its digest."""
    return type(value).__module__ == "m2l.model" and callable(getattr(value, "digest", None))
