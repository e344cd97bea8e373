"""Pages of the tutorials: `python docs/tutorial_pages.py [NAME…]` runs the scripts of docs/tutorials and writes, beside
each, a page with its text, code, output and pictures (docs/images/tutorials). The scripts are also notebooks for any
editor that knows `# %%`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
FOLDER, PICTURES = HERE / "tutorials", HERE / "images" / "tutorials"
_CELL = re.compile(r"^# %%(?: \[markdown\])?\n", re.M)


class Cell(NamedTuple):
    """A part of a script: text in Markdown, or code."""

    text: str
    markdown: bool


def cells_of(script: str) -> list[Cell]:
    """The cells of a percent script."""
    starts = [*_CELL.finditer(script)]
    ends = [*(found.start() for found in starts[1:]), len(script)]
    cells = []
    for found, end in zip(starts, ends, strict=True):
        text, markdown = script[found.end() : end].strip(), "[markdown]" in found[0]
        if markdown:
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.splitlines())
        cells.append(Cell(text, markdown))
    return cells


def page_of(name: str, pictures: Path) -> str:
    """Run a tutorial in an empty folder; returns its page, and writes its pictures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names: dict[str, object] = {"__name__": "__main__"}
    parts, count, before = [], 0, Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            for cell in cells_of((FOLDER / f"{name}.py").read_text(encoding="utf-8")):
                if cell.markdown:
                    parts.append(cell.text)
                    continue
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(cell.text, f"{name}.py", "exec"), names)
                parts.append(f"``` {{ .python }}\n{cell.text}\n```")
                if text := printed.getvalue().strip("\n"):
                    parts.append(f"```text\n{text}\n```")
                for number in pyplot.get_fignums():
                    count += 1
                    pictures.mkdir(parents=True, exist_ok=True)
                    save(pyplot.figure(number), pictures / f"{name}-{count}.png")
                    parts.append(f"![{name}, picture {count}](../images/tutorials/{name}-{count}.png)")
                pyplot.close("all")
        finally:
            os.chdir(before)
    return "\n\n".join(parts) + "\n"


def save(figure: Any, path: Path) -> None:
    """Write a figure with few colors: a spectrogram is then a third of its size."""
    from PIL import Image

    figure.savefig(path, dpi=80)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


def main(names: list[str]) -> None:
    """Write the pages of the tutorials named; of all without a name."""
    for name in names or sorted(path.stem for path in FOLDER.glob("*.py")):
        (FOLDER / f"{name}.md").write_text(page_of(name, PICTURES), encoding="utf-8")
        print(FOLDER / f"{name}.md")


if __name__ == "__main__":
    main(sys.argv[1:])
