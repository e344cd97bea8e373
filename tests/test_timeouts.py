"""Nothing waits for ever: every program that is run and every address that is opened has a time limit."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Calls that wait for another process or machine, by the end of their name.
WAITING = (
    "subprocess.run",
    "subprocess.check_output",
    "subprocess.call",
    "subprocess.check_call",
    "urlopen",
    "communicate",
)


def unlimited(source: str) -> list[str]:
    """Calls without a `timeout`, as "line: name"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and not any(keyword.arg == "timeout" for keyword in node.keywords):
            name = ast.unparse(node.func)
            if any(name == waiting or name.endswith(f".{waiting}") for waiting in WAITING):
                found.append(f"{node.lineno}: {name}")
    return found


def test_the_check_sees_a_call_without_a_limit() -> None:
    assert unlimited("import subprocess\nsubprocess.run(['git'])\n") == ["2: subprocess.run"]
    assert unlimited("urllib.request.urlopen(x, timeout=3)") == []


@pytest.mark.parametrize("package", ["m2l", "benchmarks", "probes"])
def test_every_wait_has_a_limit(package: str) -> None:
    found = {
        str(path.relative_to(ROOT)): calls
        for path in sorted((ROOT / package).rglob("*.py"))
        if (calls := unlimited(path.read_text(encoding="utf-8")))
    }
    assert found == {}
