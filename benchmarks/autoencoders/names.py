"""How a system is named: `[LABEL=]NAME`, `[LABEL=]KIND:ARGUMENT` or `[LABEL=]module:Class`.

Everything here is plumbing: it finds things and computes no number.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from benchmarks.fingerprint import absolute_base, code_digest, digest, file_digest
from benchmarks.registry import load_target

#: Kinds that take an argument: kind -> (target, name of the parameter the argument is given to).
KINDS = {
    "music2latent": ("benchmarks.autoencoders.music2latent:Checkpoint", "path"),
    "external": ("benchmarks.autoencoders.external:External", "path"),
    "external-command": ("benchmarks.autoencoders.external_command:ExternalCommand", "template"),
}

_LABELLED = re.compile(r"^([\w.+@-]+(?: [\w.+@-]+)*)=(.+)$", re.DOTALL)
_FIRST_PARTY = ("m2l", "benchmarks", "probes")


def split_label(name: str) -> tuple[str | None, str]:
    """`"mine=external:DIR"` -> `("mine", "external:DIR")`; without a label `(None, name)`."""
    found = _LABELLED.match(name)
    return (found[1], found[2]) if found else (None, name)


def label_of(name: str) -> str:
    """What a table calls a system: its label, or its name without this machine's folders."""
    label, target = split_label(name)
    if label is not None:
        return label
    kind, colon, argument = target.partition(":")
    if kind == "external" and colon:
        return f"external:{Path(argument).expanduser().resolve().name}"
    if kind == "external-command" and colon:
        return f"external-command:{PurePath(_first_word(argument)).name}"
    path, _, attribute = target.rpartition(":")
    return f"{PurePath(path).stem}:{attribute}" if path.endswith(".py") else target


def _first_word(template: str) -> str:
    try:
        return (shlex.split(template) or [""])[0]
    except ValueError:
        return template.split(" ")[0]


def is_own(target: str) -> bool:
    """Whether a name without its label is `module:Class` or `FILE.py:Class`."""
    kind, colon, _ = target.partition(":")
    return bool(colon) and kind not in KINDS


def import_own(target: str) -> Any:
    """The factory behind `module:Class` or `FILE.py:Class`; a module may lie in the current folder.

    Raises:
        ImportError: the module does not import, or lacks the attribute.
        FileNotFoundError: there is no such file.
    """
    module, attribute = own_module(target)
    return load_target(f"{module}:{attribute}")


def own_module(target: str) -> tuple[str, str]:
    """Module and attribute of a target, after making the module's folder importable.

    Raises:
        FileNotFoundError: the target names a file that is not there.
        ImportError: another module of the file's name is imported already.
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
    if (here / f"{top}.py").is_file() or (here / top / "__init__.py").is_file():
        _make_importable(here)  # a console script does not have the current folder on its path
    return place, attribute


def _make_importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()


def system_code(name: str, registered: str | None = None, options: Mapping[str, Any] | None = None) -> str:
    """Digest of the code behind a system, for content keys.

    Our own adapters tell two systems of one module apart in their specs; a stranger's class need not, so its
    name and the options it is given count as well.

    Args:
        name: the system's full name.
        registered: the `"module:attr"` that a registered name stands for.
        options: what the class is called with.
    """
    _, target = split_label(name)
    kind, _, _ = target.partition(":")
    if registered is None and kind in KINDS:
        return code_digest(KINDS[kind][0].partition(":")[0])
    if registered is not None:
        module, attribute = registered.partition(":")[0], None
    else:
        module, attribute = own_module(target)
    code = (
        code_digest(module)
        if module.partition(".")[0] in _FIRST_PARTY
        else digest([own_digest(module), code_digest("benchmarks.autoencoders.adapted")])
    )
    # Two classes of one module may have equal specs and give different audio.
    return code if attribute is None else digest([code, attribute])


def own_digest(module: str) -> str:
    """Digest of a module outside this project and of what it imports from its own package or folder.

    Modules of this project that it imports count with all they import. Other installed packages do not
    count; a spec's `version` is there for them.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    origin = _origin(module)
    if origin is None:
        raise ModuleNotFoundError(f"no source file for module {module!r}", name=module)
    installed = {"site-packages", "dist-packages"} & set(origin.parts)
    folder = None if installed or "." in module else origin.parent
    top = module.partition(".")[0]
    seen: dict[str, str] = {}
    ours: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        path = _origin(name)
        if name in seen or path is None:
            continue
        if name.partition(".")[0] in _FIRST_PARTY:
            ours.add(name)
        elif name.partition(".")[0] == top or (folder is not None and folder in path.parents):
            if path.suffix != ".py":
                seen[name] = file_digest(path)
                continue
            tree = ast.parse(path.read_bytes())
            seen[name] = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
            queue += _imported(tree, name, is_package=path.name == "__init__.py")
    return digest([seen, code_digest(*ours) if ours else ""])


def _origin(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or spec.origin in (None, "built-in", "frozen"):
        return None
    return Path(str(spec.origin))


def _imported(tree: ast.AST, name: str, is_package: bool) -> Iterator[str]:
    """Names that may be modules: of `import a.b`, and both of `from a import b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute_base(node, name, is_package)
            if base:
                yield base
                # Only names that can be modules: looking into a package that is not ours would import it.
                own = base.partition(".")[0] in (name.partition(".")[0], *_FIRST_PARTY)
                yield from (f"{base}.{alias.name}" for alias in node.names if own)
