"""The tutorials run, quickly, and their pages show the code that is run."""

from __future__ import annotations

import importlib.util
import re
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "tutorials"
NAMES = ["compare", "encode", "gate", "probe"]


@pytest.fixture(scope="module")
def pages() -> Any:
    spec = importlib.util.spec_from_file_location("tutorial_pages", ROOT / "docs" / "tutorial_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cells_of_a_percent_script(pages: Any) -> None:
    script = "# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\nx = 1\n\n\n# %% [markdown]\n# End.\n"
    found = pages.cells_of(script)
    assert [(cell.text, cell.markdown) for cell in found] == [
        ("# Title\n\nText.", True), ("x = 1", False), ("End.", True)
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_the_text_and_the_code_of_its_script(name: str, pages: Any) -> None:
    page = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    cells = pages.cells_of((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    assert len(cells) > 6
    place = 0
    for cell in cells:
        place = page.index(cell.text, place)  # all of them, in their order
    pictures = re.findall(r"\]\(\.\./images/tutorials/([\w.-]+)\)", page)
    assert pictures
    files = (ROOT / "docs" / "images" / "tutorials").glob(f"{name}-*.png")
    assert sorted(path.name for path in files) == sorted(pictures)


def test_every_script_has_a_page() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_runs_in_less_than_two_minutes(
    name: str, pages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    start = time.process_time()
    page = pages.page_of(name, tmp_path / "pictures")
    assert time.process_time() - start < 120
    committed = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    assert page.count("```text") == committed.count("```text")  # processors differ in the last digits of the rest
    assert page.count("![") == committed.count("![") == len(list((tmp_path / "pictures").iterdir()))
