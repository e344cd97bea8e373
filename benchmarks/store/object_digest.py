"""Digest of an object in memory: its code and all it holds, or what of it cannot be seen.

A class in a file is known by the file. An object that a notebook made has no file: its class may be a cell that was
edited and run again, its weights may have been trained since. So the object itself is walked: what this project or an
installed package defines counts by its name and version, everything else by value, down to the bytecode of functions,
the global names that they use, and the numbers of arrays and tensors. The walk is the same in every session.

Whatever has no visible contents (an open file, a lock, a session of another library) is listed in `Seen.opaque`.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import logging
import sys
import threading
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.store.fingerprint import code_digest
from benchmarks.store.own_code import own_digest
from benchmarks.user_code import is_first_party, is_own_file

#: Members of a class that say nothing of what it does.
_IGNORED = frozenset({
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
    "__abstractmethods__", "_abc_impl", "__annotations__", "__annotate_func__", "__annotations_cache__",
    "__parameters__", "__orig_bases__", "__slotnames__",
})  # fmt: skip
_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, range, slice, type(...), type(NotImplemented))


#: What decides no result.
_NO_CONTENTS = (logging.Logger, type(threading.Lock()), type(threading.RLock()))


@dataclass
class Seen:
    """What a walk found.

    Attributes:
        digest: sha256 of all that could be seen.
        opaque: names of the parts that have no visible contents; empty if the digest covers everything.
    """

    digest: str = ""
    opaque: list[str] = field(default_factory=list)


def object_digest(value: Any) -> Seen:
    """Walk an object; objects with equal digests and nothing opaque behave alike."""
    walk = _Walk()
    try:
        walk.visit(value, type(value).__name__)
    except RecursionError:
        walk.opaque.append(f"{type(value).__name__} (nested too deeply)")
    return Seen(walk.sha.hexdigest(), walk.opaque)


class _Walk:
    def __init__(self) -> None:
        self.sha = hashlib.sha256()
        self.opaque: list[str] = []
        self.met: dict[int, int] = {}
        self.kept: list[Any] = []  # so that no id is given to a second object
        self.modules: dict[str, str] = {}

    def note(self, *words: object) -> None:
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            self.sha.update(len(data).to_bytes(8, "big") + data)

    def visit(self, value: Any, name: str) -> None:
        """Add a value; `name` is how a reader finds it."""
        if isinstance(value, _PLAIN) and type(value) in _PLAIN:
            self.note(type(value).__name__, repr(value))
            return
        if id(value) in self.met:
            self.note("again", self.met[id(value)])
            return
        self.met[id(value)] = len(self.met)
        self.kept.append(value)
        if _is_array(value):
            self.note("array", value.shape, value.dtype, value.tobytes())
        elif _is_tensor(value):
            self._tensor(value, name)
        elif isinstance(value, types.CodeType):
            self._code(value, name)
        elif isinstance(value, types.FunctionType):
            self._function(value, name)
        elif isinstance(value, types.ModuleType):
            self._module(value.__name__)
        elif isinstance(value, type):
            self._class(value, name)
        elif isinstance(value, types.MethodType):
            self.visit(value.__func__, name)
            self.visit(value.__self__, name)
        elif type(value) in (list, tuple):
            self.note(type(value).__name__, len(value))
            for number, item in enumerate(value):
                self.visit(item, f"{name}[{number}]")
        elif type(value) in (set, frozenset):
            self.note(type(value).__name__, *sorted(object_digest(item).digest for item in value))
            self.opaque += [part for item in value for part in object_digest(item).opaque]
        elif type(value) in (dict, types.MappingProxyType):
            self._items(value.items(), name)
        elif isinstance(value, _NO_CONTENTS):
            self.note(type(value).__name__)
        elif isinstance(value, functools.cached_property):
            self.visit(value.func, name)
        else:
            self._instance(value, name)

    def _items(self, items: Iterable[tuple[Any, Any]], name: str) -> None:
        self.note("items")
        for key, item in items:
            self.visit(key, f"{name}[key]")
            self.visit(item, f"{name}.{key}" if isinstance(key, str) else f"{name}[{key!r:.20}]")
        self.note("end")

    def _tensor(self, value: Any, name: str) -> None:
        import torch

        self.note("tensor", tuple(value.shape), value.dtype, value.requires_grad)
        try:
            plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous().flatten()
            self.note(plain.view(torch.uint8).numpy().tobytes())
        except (RuntimeError, TypeError, NotImplementedError):  # lazy, on no device, or of a kind of its own
            self.opaque.append(name)

    def _code(self, code: types.CodeType, name: str) -> None:
        """Bytecode without file names and line numbers: a cell that is run again unchanged is the same code."""
        self.note("code", code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_flags)
        for constant in code.co_consts:
            self.visit(constant, name)

    def _function(self, function: types.FunctionType, name: str) -> None:
        if not self._counts_by_value(function.__module__):
            self._module(function.__module__)
            self.note(function.__qualname__)
            if not function.__closure__:
                return
        else:
            self._module(function.__module__)
            self.visit(function.__code__, name)
            for used in sorted(_global_names(function.__code__)):
                if used in function.__globals__:
                    self.note("global", used)
                    self._global(function.__globals__[used], used, function.__code__)
        self.visit((function.__defaults__, function.__kwdefaults__), f"{name} (defaults)")
        for cell in function.__closure__ or ():
            try:
                self.visit(cell.cell_contents, f"{name} (closure)")
            except ValueError:  # not bound yet
                self.note("empty")
        members = {key: item for key, item in vars(function).items() if key != "__wrapped__"}
        self._items(sorted(members.items()), name)
        self.visit(getattr(function, "__wrapped__", None), name)

    def _global(self, value: Any, name: str, code: types.CodeType) -> None:
        """A global of a function; of a user's module also those of its names that the function may use."""
        self.visit(value, name)
        if isinstance(value, types.ModuleType) and self._counts_by_value(value.__name__):
            for used in sorted(_attribute_names(code) & vars(value).keys()):
                self.visit(vars(value)[used], f"{name}.{used}")

    def _class(self, kind: type, name: str) -> None:
        self.note("class", kind.__qualname__)
        self._module(kind.__module__)
        if not self._counts_by_value(kind.__module__):
            return
        self.visit(type(kind), name)
        self.visit(kind.__bases__, name)
        members = {key: item for key, item in vars(kind).items() if key not in _IGNORED}
        for key, item in sorted(members.items()):
            self.note(key)
            self._member(item, f"{kind.__name__}.{key}")

    def _member(self, item: Any, name: str) -> None:
        if isinstance(item, (staticmethod, classmethod)):
            self.note(type(item).__name__)
            self.visit(item.__func__, name)
        elif isinstance(item, property):
            self.visit((item.fget, item.fset, item.fdel), name)
        elif isinstance(item, (types.MemberDescriptorType, types.GetSetDescriptorType)):
            self.note("slot")
        else:
            self.visit(item, name)

    def _instance(self, value: Any, name: str) -> None:
        """Anything else: its class and what it would be copied from."""
        self.visit(type(value), name)
        if (inner := getattr(value, "__wrapped__", None)) is not None:  # a cached function
            self.visit(inner, name)
            return
        if isinstance(value, (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)):
            self.note(getattr(value, "__module__", ""), value.__qualname__)
            owner = getattr(value, "__self__", None)
            self.visit(None if isinstance(owner, types.ModuleType) else owner, name)
            return
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # whatever a class of the user's raises: it has no contents to see
            self.opaque.append(name)
            return
        if isinstance(reduced, str):
            self.note(reduced)
            return
        parts: tuple[Any, ...] = (*reduced, None, None, None)
        function, arguments, state, items, pairs = parts[:5]
        self.visit(function, name)
        self.visit(tuple(arguments), name)
        if isinstance(state, dict):
            self._items(state.items(), name)
        else:
            self.visit(state, name)
        self.visit(list(items) if items is not None else None, name)
        self._items(pairs if pairs is not None else (), name)

    def _module(self, module: Any) -> None:
        """A module by its code, if it is this project's or the user's, else by the version of its package."""
        module = module if isinstance(module, str) else "builtins"  # a compiled class may have a slot of that name
        if module not in self.modules:
            self.modules[module] = ""
            try:
                self.modules[module] = self._version(module)
            except (ModuleNotFoundError, ValueError):
                self.opaque.append(f"module {module}")
        self.note("module", module, self.modules[module])

    def _version(self, module: str) -> str:
        if module == "__main__":  # what is used of it is walked
            return ""
        if is_first_party(module):
            return code_digest(module)
        if self._counts_by_value(module):
            return own_digest(module)
        top = sys.modules.get(module.partition(".")[0])
        return str(getattr(top, "__version__", ""))

    @staticmethod
    def _counts_by_value(module: Any) -> bool:
        """Whether what a module defines may change without a version: a notebook's, a file of the user's."""
        if module is None:  # of code without a module
            return True
        if not isinstance(module, str) or is_first_party(module):
            return False
        if module == "__main__":
            return True
        loaded = sys.modules.get(module)
        if loaded is None:
            return True
        file = getattr(loaded, "__file__", None)
        return is_own_file(file) if file else getattr(loaded, "__spec__", None) is None


def _is_array(value: Any) -> bool:
    """Whether it is an array of numbers; no value is of numpy's types before that is imported."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) and not value.dtype.hasobject


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code and that of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _global_names(code: types.CodeType) -> set[str]:
    """Global names that a function, and those within it, look up."""
    return {
        str(step.argval)
        for part in _codes(code)
        for step in dis.get_instructions(part)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }


def _attribute_names(code: types.CodeType) -> set[str]:
    """Names of globals and attributes that a function, and those within it, look up."""
    return {name for part in _codes(code) for name in part.co_names}
