"""The picture of the README: the report's table and listening page, light and dark.

    m2l-bench report --suite open --clips 4
    python docs/pictures.py report/open

It needs Chromium (CHROMIUM names the program) and writes docs/images/report-light.png and report-dark.png.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
#: Width and height of half a picture in pixels, and the number of colors kept: both pictures stay below 200 kB.
SIZE, COLORS = (960, 720), 48
#: The pages, and how many pixels of each are left out at the top.
PAGES = {"index.html": 465, "listen.html": 60}


def shoot(page: Path, scheme: str, top: int, target: Path) -> Image.Image:
    """A screenshot of a local page in the color scheme "light" or "dark", without its first `top` pixels."""
    subprocess.run(
        [
            os.environ.get("CHROMIUM", "chromium"), "--headless", "--no-sandbox", "--hide-scrollbars",
            f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
            f"--window-size={SIZE[0]},{SIZE[1] + top}", f"--screenshot={target}", page.resolve().as_uri(),
        ],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    return Image.open(target).convert("RGB").crop((0, top, SIZE[0], SIZE[1] + top))


def main(report: Path) -> None:
    """Put the two pages side by side, once per color scheme."""
    with tempfile.TemporaryDirectory() as folder:
        for scheme in ("light", "dark"):
            whole = Image.new("RGB", (2 * SIZE[0], SIZE[1]))
            for place, (name, top) in enumerate(PAGES.items()):
                half = shoot(report / name, scheme, top, Path(folder) / f"{scheme}-{name}.png")
                whole.paste(half, (place * SIZE[0], 0))
            target = HERE / "images" / f"report-{scheme}.png"
            target.parent.mkdir(exist_ok=True)
            whole.quantize(COLORS).save(target, optimize=True)
            print(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
