"""The rules of the house as functions over a tree of sources; each returns what breaks its rule, as lines of text.

Nothing is imported: the sources are read as syntax trees, so a rule can be tried on a changed copy of the tree.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = ("m2l", "benchmarks", "probes")

#: The places of each package from the bottom to the top: a place imports from its own layer and those below.
LAYERS = {
    "m2l": [
        "config audio kernels names processes arrays launch",
        "io representation layers description",
        "encoder decoder unet streaming",
        "consistency",
        "model",
        "training audio_files encoder_decoder graphs inference loading __init__",
        "cli __main__",
    ],
    "benchmarks": [
        "errors registry user_code store",
        "weights harness",
        "datasets",
        "embedders",
        "metrics",
        "suite",
        "fetch autoencoders statistics speed",
        "evaluation",
        "tables",
        "compare gate latents report status __init__",
        "paper",
        "cli templates __main__",
    ],
}
#: What the modules of a package may import of the other packages.
FOREIGN = {"m2l": (), "benchmarks": ("m2l",), "probes": ("m2l", "benchmarks")}
#: Most modules at the root of `benchmarks`, `__init__` and `__main__` not counted.
ROOT_MODULES = 6
#: Modules outside `cli/` that import modules of ours inside functions, and why they have to.
LAZY_EXCEPTIONS = dict.fromkeys(
    (f"benchmarks.autoencoders.{name}" for name in ("codicodec", "ear_vae", "mousai", "musika", "same", "snac")),
    "constructing an adapter loads no torch, which its network's module does",
) | {"benchmarks.autoencoders": "listing names loads no numpy, which the adapter of a user's class does"}
#: The only places outside `probes` that name its functions, as strings.
ABOVE_PROBES = ("benchmarks.cli", "benchmarks.tables", "pyproject")
_TARGET = re.compile(r"(?:m2l|benchmarks|probes)(?:\.\w+)*:[A-Za-z_][\w.]*")
#: Groups of entry points have names of the form of a module's.
_GROUPS = re.compile(r"m2l\.(?:autoencoders|embedders|datasets|metrics|tables|tasks|representations|validation)")


@dataclass(frozen=True)
class Import:
    """`importer` imports the module `imported`; `lazily` inside a function."""

    importer: str
    imported: str
    lazily: bool


class Tree:
    """The sources of the three packages below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {
            _module_name(path.relative_to(root)): path
            for package in PACKAGES
            for path in sorted((root / package).rglob("*.py"))
        }
        self.trees = {name: _parsed(path.read_bytes()) for name, path in self.files.items()}
        self.imports = [found for name in self.files for found in self._imports(name)]

    def __contains__(self, module: str) -> bool:
        return module in self.files

    def has_attribute(self, module: str, attribute: str) -> bool:
        """Whether a module's own lines bind the name, or a submodule has it."""
        return f"{module}.{attribute}" in self or attribute in _bound(self.trees[module])

    def heads(self, module: str) -> set[str]:
        """First parts of the names of all that a module imports."""
        nodes = [node for node, _ in _import_nodes(self.trees[module])]
        return {name.split(".")[0] for node in nodes for name in self._targets(node, module, False)}

    def _imports(self, name: str) -> Iterator[Import]:
        is_package = self.files[name].name == "__init__.py"
        for node, lazily in _import_nodes(self.trees[name]):
            for target in self._targets(node, name, is_package):
                if target.split(".")[0] in PACKAGES:
                    yield Import(name, self._module_of(target), lazily)

    def _targets(self, node: ast.AST, name: str, is_package: bool) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            return [f"{base}.{alias.name}" for alias in node.names]
        assert isinstance(node, ast.Call)  # import_module("…")
        value = node.args[0]
        return [value.value] if isinstance(value, ast.Constant) and isinstance(value.value, str) else []

    def _module_of(self, target: str) -> str:
        """The longest beginning of `target` that is a module."""
        while target not in self and "." in target:
            target = target.rpartition(".")[0]
        return target


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _parsed(source: bytes) -> ast.Module:
    return ast.parse(source)


@cache
def _import_nodes(tree: ast.Module) -> list[tuple[ast.AST, bool]]:
    return list(_walked(tree, False))


@cache
def _texts(tree: ast.Module) -> list[str]:
    nodes = ast.walk(tree)
    return [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def _walked(node: ast.AST, lazily: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, lazily
        elif isinstance(child, ast.Call) and child.args:
            called = child.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name == "import_module":
                yield child, lazily
        inner = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from _walked(child, lazily or inner)


def _bound(tree: ast.Module) -> set[str]:
    """Names that a module binds at its top level, also below `if` and `try`."""
    found: set[str] = set()
    queue: list[ast.AST] = list(tree.body)
    while queue:
        node = queue.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        else:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            queue += ast.iter_child_nodes(node)
    return found


def _place(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def _layer(module: str) -> int | None:
    """Height of a module in its package; None if the package has no layers or the place is unknown."""
    layers = LAYERS.get(module.split(".")[0], [])
    return next((height for height, places in enumerate(layers) if _place(module) in places.split()), None)


def upward_imports(tree: Tree) -> list[str]:
    """Imports of a higher layer or of a package above, and modules that no layer lists."""
    wrong = set()
    for name in tree.files:
        if name.split(".")[0] in LAYERS and _layer(name) is None:
            wrong.add(f"layer {name} is in no layer")
    for found in tree.imports:
        here, there = found.importer.split(".")[0], found.imported.split(".")[0]
        if here != there:
            # command lines share their options; nothing else imports one
            between_commands = _place(found.importer) == "cli"
            up = there not in FOREIGN[here] or (_place(found.imported) == "cli" and not between_commands)
        else:
            up = (_layer(found.importer) or 0) < (_layer(found.imported) or 0)
        if up:
            wrong.add(f"upward {found.importer} -> {found.imported}")
    return sorted(wrong)


def circles(tree: Tree) -> list[str]:
    """Groups of modules that import each other, imports in functions and for type checkers included."""
    after: dict[str, set[str]] = {name: set() for name in tree.files}
    for found in tree.imports:
        after[found.importer].add(found.imported)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        queue = list(after.get(start, ()))
        while queue:
            if (name := queue.pop()) not in seen:
                seen.add(name)
                queue += after.get(name, ())
        return seen

    reach = {name: reached(name) for name in after}
    groups = {
        tuple(sorted({other for other in reach[name] if name in reach.get(other, ())} | {name}))
        for name in after
        if name in reach[name]
    }
    return sorted(f"circle {' '.join(group)}" for group in groups)


def lazy_imports(tree: Tree) -> list[str]:
    """Imports of our own modules inside functions, where no command line, registry or exception has them."""
    found = set()
    for one in tree.imports:
        parts = one.importer.split(".")
        if one.lazily and "cli" not in parts and parts[-1] != "registry" and one.importer not in LAZY_EXCEPTIONS:
            found.add(f"lazy {one.importer} -> {one.imported}")
    return sorted(found)


def crowded_root(tree: Tree) -> list[str]:
    """More than six modules at the root of `benchmarks`."""
    names = sorted(
        name
        for name, path in tree.files.items()
        if name.count(".") == 1 and name.startswith("benchmarks.") and path.name[:2] != "__"
    )
    return [f"crowded benchmarks: {', '.join(names)}"] if len(names) > ROOT_MODULES else []


def dangling_targets(tree: Tree) -> list[str]:
    """Strings "module:attribute" that name nothing, and those of `benchmarks` that name `probes` elsewhere."""
    wrong = []
    for name, text in _strings(tree):
        if not _TARGET.fullmatch(text):
            continue
        module, _, attribute = text.partition(":")
        if module not in tree or not tree.has_attribute(module, attribute.split(".")[0]):
            wrong.append(f"target {name}: {text} does not exist")
        own = name.split(".")[0]
        if module.startswith("probes") and own != "probes" and not name.startswith(ABOVE_PROBES):
            wrong.append(f"target {name}: {text} is above it")
    return wrong


def count_targets(tree: Tree) -> int:
    """Number of strings "module:attribute"."""
    return sum(_TARGET.fullmatch(text) is not None for _, text in _strings(tree))


def dangling_modules(tree: Tree) -> list[str]:
    """Strings with the name of a module that does not exist."""
    return [
        f"module {name}: {text} does not exist"
        for name, text in _strings(tree)
        if re.fullmatch(r"(?:m2l|benchmarks|probes)(?:\.[A-Za-z_]\w*)+", text)
        and text not in tree
        and not _GROUPS.fullmatch(text)
        and not text.endswith((".toml", ".json", ".py"))
    ]


def _strings(tree: Tree) -> Iterator[tuple[str, str]]:
    scripts = _settings(tree)["project"]["scripts"]
    yield from (("pyproject", target) for target in scripts.values())
    for name, source in tree.trees.items():
        yield from ((name, text) for text in _texts(source))


def _settings(tree: Tree) -> dict[str, Any]:
    return tomllib.loads((tree.root / "pyproject.toml").read_text(encoding="utf-8"))


def stale_neutral_names(tree: Tree) -> list[str]:
    """Names in `fingerprint._NEUTRAL` that are no modules."""
    for node in tree.trees["benchmarks.store.fingerprint"].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_NEUTRAL":
            names = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
            return [f"neutral {name} does not exist" for name in names if name not in tree]
    return ["neutral: benchmarks.store.fingerprint has no _NEUTRAL"]


def unpacked_data(tree: Tree) -> list[str]:
    """Globs of `package-data` that match no file, and files beside the modules that no glob matches."""
    globs = _settings(tree)["tool"]["setuptools"]["package-data"]
    wrong = []
    for package in PACKAGES:
        packed: set[Path] = set()
        for pattern in globs.get(package, ()):
            found = {path for path in (tree.root / package).glob(pattern) if path.is_file()}
            packed |= found
            if not found:
                wrong.append(f"data {package}: {pattern} matches nothing")
        for path in (tree.root / package).rglob("*"):
            cached = "__pycache__" in path.parts
            if path.is_file() and not cached and path.suffix != ".py" and path not in packed:
                wrong.append(f"data {path.relative_to(tree.root)} is in no wheel")
    return wrong


RULES = {
    rule.__name__: rule
    for rule in (
        upward_imports,
        circles,
        lazy_imports,
        crowded_root,
        dangling_targets,
        dangling_modules,
        stale_neutral_names,
        unpacked_data,
    )
}
