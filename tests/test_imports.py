"""Imports run one way (probes -> benchmarks -> m2l), and light commands stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {"m2l": {"m2l"}, "benchmarks": {"m2l", "benchmarks"}, "probes": {"m2l", "benchmarks", "probes"}}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_run_one_way(package: str) -> None:
    wrong = []
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        for name in _imports(path):
            first = name.split(".")[0]
            if first in ALLOWED and first not in ALLOWED[package]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_nobody_imports_what_breaks_on_a_cpu_torch() -> None:
    for package in ALLOWED:
        for path in (ROOT / package).rglob("*.py"):
            heads = {name.split(".")[0] for name in _imports(path)}
            assert not heads & {"torchaudio", "torchvision", "librosa"}, path


LIGHT = ["--help", "list", "list embedders --json", "tables --help", "speed --help", "doctor --help"]


@pytest.mark.parametrize("command", LIGHT)
def test_light_commands_load_no_torch(command: str) -> None:
    code = (
        "import sys\n"
        "from benchmarks.cli.main import main\n"
        "try:\n    status = main(sys.argv[1:])\n"
        "except SystemExit as end:\n    status = end.code\n"
        "heavy = {'torch', 'transformers', 'numba', 'matplotlib', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
