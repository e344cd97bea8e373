"""Digests: of JSON-like values, of code, and of the libraries a number depends on.

A content key must change whenever a number could: when the code that computes it changes, its options,
its weights, its audio, or a numerical library. Code is digested as its syntax tree without docstrings, so
that comments and formatting leave results valid, and through its imports within this project, so that a
change in the model's STFT reaches every cell that used it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from m2l.io.atomic import write_atomic
from m2l.io.cache import cache_dir

_ROOT = Path(__file__).resolve().parents[2]
_FIRST_PARTY = ("m2l", "benchmarks", "probes")

#: Plumbing that finds, keeps or moves things and computes no number: a change here leaves results valid. Which files
#: and weights were used is in a key by their digests.
_NEUTRAL = frozenset(
    {
        "benchmarks.registry",
        "benchmarks.user_code",
        "benchmarks.store",
        "benchmarks.store.files",
        "benchmarks.store.fingerprint",
        "benchmarks.store.held",
        "benchmarks.store.object_digest",
        "benchmarks.store.own_code",
        "benchmarks.store.processor",
        "benchmarks.store.reads",
        "benchmarks.store.remembered",
        "benchmarks.store.store",
        "benchmarks.harness.units",
        # Names, titles and the gate's tolerances; what decides a value is part of its key.
        "benchmarks.metrics.base",
        "benchmarks.metrics.registry",
        "benchmarks.evaluation.own_plan",
        "benchmarks.evaluation.trial",
        "benchmarks.weights.find",
        "benchmarks.weights.table",
        "m2l.io.atomic",
        "m2l.io.cache",
        "m2l.io.digest",
        "m2l.io.json_files",
        "m2l.names",
    }
)

#: Libraries whose version can change a number.
_LIBRARIES = ("numpy", "scipy", "torch", "soundfile", "soxr", "numba", "scikit-learn", "transformers")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces, and exact floats; the form that is hashed.

    Raises:
        TypeError: the value holds something that is not JSON (arrays, objects, sets).
        ValueError: the value holds NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    numpy = sys.modules.get("numpy")  # no value is of its types before it is imported
    if numpy and isinstance(value, numpy.generic):
        return value.item()
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} {value!r} cannot be part of a content key")


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def derive_seed(seed: int, *parts: str) -> int:
    """A 63-bit seed from a run's seed and names, so that order and workers never change the noise."""
    text = "/".join((str(int(seed)), *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def code_digest(*modules: str) -> str:
    """Digest of the named modules and of all modules of this project that they import, transitively.

    Raises:
        ModuleNotFoundError: a named module has no source file.
    """
    return _code_digest(tuple(sorted(set(modules))))


def module_digest(name: str) -> str:
    """Digest of one module's code, without what it imports."""
    path = _source(name)
    if path is None:
        raise ModuleNotFoundError(f"no source file for module {name!r}", name=name)
    return _parse(name, path)[0]


@cache
def _code_digest(modules: tuple[str, ...]) -> str:
    seen: dict[str, str] = {}
    queue = list(modules)
    while queue:
        name = queue.pop()
        if name in seen or name in _NEUTRAL:
            continue
        path = _source(name)
        if path is None:
            raise ModuleNotFoundError(f"no source file for module {name!r}", name=name)
        seen[name], imported = _parse(name, path)
        queue += [other for other in imported if _source(other) is not None]
    _keep_parsed()
    return digest(seen)


@cache
def _parse(name: str, path: Path) -> tuple[str, tuple[str, ...]]:
    """Digest of one module's code, and the modules of this project it imports."""
    source = path.read_bytes()
    how = f"{name} {path.name} {sys.version_info[:2]} {_own_digest()} "
    key = hashlib.sha256(how.encode() + source).hexdigest()
    known = _parsed()
    kept = known.get(name)
    if not (isinstance(kept, list) and len(kept) == 3 and kept[0] == key):
        tree = ast.parse(source)
        imported = _import_statements(tree, name, is_package=path.name == "__init__.py")
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[0] if node.body else None
                value = first.value if isinstance(first, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    node.body = node.body[1:]
        known[name] = [key, hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imported]
        _unwritten.add(name)
    _, code, statements = known[name]
    return code, tuple(sorted(set(_imports(statements))))


#: Modules whose syntax tree was digested by this process and is not in the cache folder yet.
_unwritten: set[str] = set()


@cache
def _own_digest() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


@cache
def _parsed() -> dict[str, list[Any]]:
    """Module -> digest of its source, digest of its syntax tree, imports: as earlier processes found them."""
    try:
        found = json.loads(_parsed_file().read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _parsed_file() -> Path:
    return cache_dir() / "code-digests.json"


def _keep_parsed() -> None:
    """Save what this process found; parsing some hundred modules takes most of a second."""
    if not _unwritten:
        return
    _unwritten.clear()
    with suppress(OSError):
        _parsed_file().parent.mkdir(parents=True, exist_ok=True)
        write_atomic(_parsed_file(), json.dumps(_parsed()).encode())


def absolute_base(node: ast.ImportFrom, name: str, is_package: bool) -> str:
    """The module that `from … import` in module `name` means, dots resolved; "" for dots that lead nowhere."""
    base = node.module or ""
    if not node.level:
        return base
    parts = name.split(".")
    parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*parts, base] if base else parts)


def _import_statements(tree: ast.AST, name: str, is_package: bool) -> list[list[str]]:
    """Of each import of this project: a module, and the names that are imported from it (modules or not)."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [[alias.name] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute_base(node, name, is_package)
            found.append([base, *(f"{base}.{alias.name}" for alias in node.names)])
    return [names for names in found if names[0].split(".")[0] in _FIRST_PARTY]


def _imports(statements: Iterable[list[str]]) -> Iterable[str]:
    """`from package import module` names a module; `from module import thing` does not."""
    for names in statements:
        yield from names[1:] if any(_source(other) is not None for other in names[1:]) else names


@cache
def _source(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] in _FIRST_PARTY:
        base = _ROOT.joinpath(*parts)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """Versions of the numerical libraries (and of libsndfile, which holds the codecs)."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    import soundfile

    found["libsndfile"] = soundfile.__libsndfile_version__
    return found
