"""A user's own modules: how they are named, imported anew after an edit, and digested for content keys.

Everything here is plumbing: it finds code and computes no number.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.registry import load_target
from benchmarks.store.fingerprint import absolute_base, code_digest, digest
from benchmarks.store.reads import forget, recording
from benchmarks.user_code import (
    FIRST_PARTY,
    ClashError,
    add_own_package,
    check_clash,
    clash_hint,
    is_first_party,
    is_own_file,
)
from m2l.io.digest import file_sha256

_Labeled = re.compile(r"^([\w.+@-]+(?: [\w.+@-]+)*)=(.+)$", re.DOTALL)


def split_label(name: str) -> tuple[str | None, str]:
    """`"mine=external:DIR"` -> `("mine", "external:DIR")`; without a label `(None, name)`."""
    found = _Labeled.match(name)
    return (found[1], found[2]) if found else (None, name)


def import_own(target: str) -> Any:
    """The factory behind `module:Class` or `FILE.py:Class`; a module may lie in the current folder.

    Raises:
        ImportError: the module does not import, or lacks the attribute.
        FileNotFoundError: the file does not exist.
    """
    module, attribute = own_module(target)
    import_user_module(module)
    return load_target(f"{module}:{attribute}")


def import_user_module(module: str) -> Any:
    """Import a module of the user's, anew if its code changed since; what it reads meanwhile is noted.

    Raises:
        ImportError: it does not import.
        ClashError: it is looked for within one of this project's packages.
    """
    if not is_first_party(module):
        top = _origin(module.partition(".")[0])
        if top is not None:
            add_own_package(top)
        _drop_edited(module)
    there = module in sys.modules and module in _imported
    try:
        with recording():
            found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if is_first_party(module) and is_first_party(error.name or ""):
            raise ClashError(f"{error}. {clash_hint(module.partition('.')[0])}", name=error.name) from error
        raise
    if not is_first_party(module) and not there:
        _remember_sources(module)
    return found


#: Imported modules of users -> their files and those they import, by module, with the digests at that time.
_imported: dict[str, dict[str, tuple[Path, str]]] = {}


def _remember_sources(module: str) -> None:
    with contextlib.suppress(ModuleNotFoundError):  # made in memory
        sources = own_sources(module)[0].items()
        found = {name: (path, _content(path)) for name, path in sources if is_own_file(str(path))}
        _imported[module] = {name: item for name, item in found.items() if name in sys.modules}


def _drop_edited(module: str) -> None:
    """Forget an imported module if one of its files was edited, so that it is imported as in a new process."""
    sources = _imported.get(module, {})
    if any(_content(path) != then for path, then in sources.values()):
        forget(str(path) for path, _ in sources.values())
        for name, (path, _) in sources.items():
            sys.modules.pop(name, None)
            # Python would take it for that of the edited file, if that has the same size and second.
            with contextlib.suppress(OSError):
                os.unlink(importlib.util.cache_from_source(path))
        importlib.invalidate_caches()


def _content(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:
        return "absent"


def own_module(target: str) -> tuple[str, str]:
    """Module and attribute of a target, after making the module's folder importable.

    Raises:
        FileNotFoundError: the target names a file that does not exist.
        ImportError: another module of the file's name is imported already, or the folder holds a package of the
            name of one of ours.
        ValueError: not of the form `module:attribute`.
    """
    place, colon, attribute = target.rpartition(":")
    if not (place and colon and attribute):
        raise ValueError(f"target {target!r} is not of the form 'package.module:attribute'")
    if place.endswith(".py"):
        path = Path(place).expanduser().resolve()
        if not path.is_file():
            raise FileNotFoundError(f"no file {place!r} (of {target!r})")
        _make_importable(path.parent)
        found = importlib.util.find_spec(path.stem)
        if found is None or found.origin is None or Path(found.origin).resolve() != path:
            where = found.origin if found else "nothing"
            raise ImportError(f"{place!r}: the name {path.stem!r} belongs to {where}; rename the file")
        return path.stem, attribute
    top = place.partition(".")[0]
    here = Path.cwd()
    if not is_first_party(top) and ((here / f"{top}.py").is_file() or (here / top).is_dir()):
        _make_importable(here)  # a console script does not have the current folder on its path
    return place, attribute


def _make_importable(folder: Path) -> None:
    check_clash(folder)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()


def own_digest(module: str) -> str:
    """Digest of a module outside this project and of what it imports from its own package or folder.

    Modules of this project that it imports count with all they import. Other installed packages do not
    count; a spec's `version` covers them.

    Raises:
        ModuleNotFoundError: the module does not exist.
    """
    seen, ours = own_sources(module)
    digests = {name: source_digest(path) for name, path in seen.items()}
    return digest([digests, code_digest(*ours) if ours else ""])


def own_sources(module: str) -> tuple[dict[str, Path], set[str]]:
    """Files of a module and of what it imports from its own package or folder, and modules of this project.

    Raises:
        ModuleNotFoundError: the module does not exist.
    """
    origin = _origin(module)
    if origin is None:
        raise ModuleNotFoundError(f"no source file for module {module!r}", name=module)
    installed = {"site-packages", "dist-packages"} & set(origin.parts)
    folder = None if installed or "." in module else origin.parent
    top = module.partition(".")[0]
    seen: dict[str, Path] = {}
    ours: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        path = _origin(name)
        if name in seen or path is None:
            continue
        if is_first_party(name):
            ours.add(name)
        elif name.partition(".")[0] == top or (folder is not None and folder in path.parents):
            seen[name] = path
            if path.suffix == ".py":
                with contextlib.suppress(SyntaxError):  # of a file that is not imported after all
                    tree = ast.parse(path.read_bytes(), filename=str(path))
                    queue += _imported_by(tree, name, is_package=path.name == "__init__.py")
    return seen, ours


def source_digest(path: Path) -> str:
    """Digest of a source file without its comments and formatting; of any other file's bytes."""
    if path.suffix == ".py":
        with contextlib.suppress(SyntaxError):
            return hashlib.sha256(ast.dump(ast.parse(path.read_bytes())).encode()).hexdigest()
    return file_sha256(path)


def _origin(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or spec.origin in (None, "built-in", "frozen"):
        return None
    return Path(str(spec.origin))


def _imported_by(tree: ast.AST, name: str, is_package: bool) -> Iterator[str]:
    """Names that may be modules: of `import a.b`, and both of `from a import b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute_base(node, name, is_package)
            if base:
                yield base
                # Only names that can be modules: looking into a package that is not ours would import it.
                own = base.partition(".")[0] in (name.partition(".")[0], *FIRST_PARTY)
                yield from (f"{base}.{alias.name}" for alias in node.names if own)
