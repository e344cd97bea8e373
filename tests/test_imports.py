"""The rules of the house hold (`import_rules`), a planted breach of each is seen, and light commands stay light."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from import_rules import PACKAGES, RULES, Tree, count_targets

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(ROOT)


@pytest.mark.parametrize("rule", RULES)
def test_rules_hold(tree: Tree, rule: str) -> None:
    assert RULES[rule](tree) == []


def test_targets_are_found(tree: Tree) -> None:
    assert count_targets(tree) > 100


#: Rule -> (file, what is put in place of what, what the breach says). Nothing to replace: the line is appended.
PLANTED = {
    "an import upward": (
        "upward_imports", "benchmarks/registry.py", "", "from benchmarks.cli import main",
        "upward benchmarks.registry -> benchmarks.cli",
    ),
    "a lazy import upward": (
        "upward_imports", "benchmarks/metrics/frechet.py", "",
        "def late():\n    import benchmarks.evaluation.plan",
        "upward benchmarks.metrics.frechet -> benchmarks.evaluation.plan",
    ),
    "another package above": (
        "upward_imports", "m2l/config.py", "",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from probes.metrics import x",
        "upward m2l.config -> probes.metrics",
    ),
    "a place that no layer lists": (
        "upward_imports", "benchmarks/helpers.py", "", "x = 1", "layer benchmarks.helpers is in no layer",
    ),
    "a lazy circle": (
        "circles", "benchmarks/weights/table.py", "",
        "def late():\n    from benchmarks.weights.find import find_weight",
        "circle benchmarks.weights.find benchmarks.weights.table",
    ),
    "a circle of types": (
        "circles", "m2l/config.py", "",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from m2l.representation import x",
        "circle m2l.config m2l.representation",
    ),
    "an import in a function": (
        "lazy_imports", "benchmarks/metrics/si_sdr.py", "", "def late():\n    from m2l.arrays import x",
        "lazy benchmarks.metrics.si_sdr -> m2l.arrays",
    ),
    "too many at the root": (
        "crowded_root", "benchmarks/more1.py benchmarks/more2.py benchmarks/more3.py", "", "x = 1",
        "crowded benchmarks:",
    ),
    "a target that is gone": (
        "dangling_targets", "benchmarks/tables/table.py", "", 'GONE = "benchmarks.suite:gone"',
        "target benchmarks.tables.table: benchmarks.suite:gone does not exist",
    ),
    "a module that is gone": (
        "dangling_modules", "benchmarks/tables/table.py", "", 'GONE = "benchmarks.sweet"',
        "module benchmarks.tables.table: benchmarks.sweet does not exist",
    ),
    "a stale neutral name": (
        "stale_neutral_names", "benchmarks/store/fingerprint.py", "benchmarks.harness.units",
        "benchmarks.work", "neutral benchmarks.work does not exist",
    ),
    "data in no wheel": (
        "unpacked_data", "benchmarks/gate/limits.json", "", "{}", "data benchmarks/gate/limits.json is in no wheel",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("*.safetensors", "*.pyc"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize("name", PLANTED)
def test_planted_breaches_are_seen(copy: Path, name: str) -> None:
    rule, files, old, new, breach = PLANTED[name]
    paths = [copy / file for file in files.split()]
    before = {path: path.read_text() if path.exists() else None for path in paths}
    try:
        for path, text in before.items():
            path.write_text(text.replace(old, new) if text and old else f"{text or ''}\n{new}\n")
        assert any(breach in line for line in RULES[rule](Tree(copy)))
    finally:
        for path, text in before.items():
            path.unlink() if text is None else path.write_text(text)


def test_nobody_imports_what_breaks_on_a_cpu_torch(tree: Tree) -> None:
    for name in tree.files:
        assert not tree.heads(name) & {"torchaudio", "torchvision", "librosa"}, name


HEAVY = {"torch", "transformers", "numba", "matplotlib", "pandas", "sklearn"}
#: numpy and asyncio alone take as long as all the rest of the lightest commands.
HEAVIER = HEAVY | {"numpy", "scipy", "soxr", "soundfile", "asyncio", "fsspec"}


@pytest.mark.parametrize(
    ("heavy", "commands"),
    [
        (HEAVIER, ["--help", "list", "list embedders --json"]),
        (HEAVY, ["tables --help", "speed --help", "doctor --help", "tables --dry-run"]),
    ],
    ids=["lightest", "light"],
)
def test_light_commands_load_no_torch(heavy: set[str], commands: list[str]) -> None:
    code = (
        "import sys\n"
        "from benchmarks.cli.main import main\n"
        f"for command in {commands}:\n"
        "    assert main(command.split()) == 0, command\n"
        f"    assert not {heavy} & set(sys.modules), (command, {heavy} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_of_every_command_is_light_and_names_no_module() -> None:
    code = (
        "import sys\n"
        "from benchmarks.cli.main import COMMANDS, main\n"
        "groups = {'speed': ('model', 'memory', 'visqol', 'frechet', 'si-sdr', 'probe', 'train'),\n"
        "          'probe': ('run', 'table', 'list', 'import-mir-ref', 'export-mir-ref')}\n"
        "for name in COMMANDS:\n"
        "    for words in [(name,), *((name, part) for part in groups.get(name, ()))]:\n"
        "        assert main([*words, '--help']) == 0, words\n"
        "        heavy = {'torch', 'transformers', 'numba', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "        assert not heavy, (words, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"\b(?:benchmarks|probes|m2l)\.\w+|_parser|argv", done.stdout) == []


def test_the_architecture_page_names_what_exists() -> None:
    """Every file and folder of its tree and of its sentences."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`((?:m2l|benchmarks|probes)/[\w/.]+)`", page))
    folders: list[str] = []
    for line in page.split("```")[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        words = re.split(r" {2,}", line.strip())[0].split()
        named |= {"".join(folders[:depth]) + word for word in words if "<" not in word}
        folders[depth:] = [words[-1]] if words and words[-1].endswith("/") else []
    assert len(named) > 60
    assert [name for name in sorted(named) if not (ROOT / name.replace("test_*.py", "")).exists()] == []
    places = {f"{package}/{path.name}" for package in ("m2l", "benchmarks", "probes")
              for path in (ROOT / package).iterdir() if (path / "__init__.py").exists()}  # fmt: skip
    assert [place for place in sorted(places) if f"{place}/" not in named] == []
