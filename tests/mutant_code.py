"""Puts an edited source into a module that others have imported; see `mutants.py`."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

PACKAGES = ("m2l", "benchmarks", "probes")
_OF_THE_CLASS = {"__doc__", "__module__", "__slots__", "__abstractmethods__", "_abc_impl"}


def put_into(module: ModuleType, source: str) -> None:
    """Executes `source` in a module; its functions and classes stay the objects that others imported, with new code.

    Modules that took another value of it, such as a constant, are executed anew: it may be a default of theirs.
    """
    before = dict(vars(module))
    classes: dict[type, type] = {}
    dependents: dict[str, ModuleType] = {}
    exec(compile(source, str(module.__file__), "exec", dont_inherit=True), vars(module))
    for name, new in list(vars(module).items()):
        old = before.get(name)
        if name.startswith("__") or old is None or old is new:
            continue
        if getattr(old, "__module__", None) == module.__name__ and _renew(old, new):
            setattr(module, name, old)
            if isinstance(old, type):
                classes[new] = old
            continue
        for item in (new, *(new.values() if isinstance(new, dict) else ())):
            if type(item) in classes:
                object.__setattr__(item, "__class__", classes[type(item)])
        for other in list(sys.modules.values()):
            if getattr(other, "__dict__", {}).get(name) is old and (module.__name__, name) in _imports(other):
                setattr(other, name, new)
                dependents[other.__name__] = other
    for name, other in dependents.items():
        if name.partition(".")[0] in PACKAGES:
            put_into(other, Path(str(other.__file__)).read_text())


def _imports(module: ModuleType) -> Iterator[tuple[str, str]]:
    """What a module takes of others; two modules may have a private constant of one name and value each."""
    source = Path(str(module.__file__)).read_text() if getattr(module, "__file__", None) else ""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name) for alias in node.names)


def _renew(old: Any, new: Any) -> bool:
    """Gives a function or class the code of its new version; False for any other object."""
    if isinstance(old, functools._lru_cache_wrapper):
        old.cache_clear()
        return _renew(old.__wrapped__, new.__wrapped__)
    if isinstance(old, FunctionType):
        if hasattr(old, "__wrapped__"):
            return _renew(old.__wrapped__, new.__wrapped__)
        old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
        return True
    if isinstance(old, type):
        for name, value in list(vars(new).items()):
            if isinstance(value, FunctionType) and "__class__" in value.__code__.co_freevars:
                _renew(vars(old)[name], value)  # its super() must keep the old class
            elif name not in _OF_THE_CLASS and not isinstance(value, (MemberDescriptorType, GetSetDescriptorType)):
                type.__setattr__(old, name, value)
        return True
    return False
