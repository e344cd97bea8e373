"""Table 2 of the open suite in the README: `python docs/readme.py` writes it anew from results/open/table2.md."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README, TABLE = ROOT / "README.md", ROOT / "results" / "open" / "table2.md"
#: Published rows of this source stand beside the measured ones: the paper that is rebuilt.
SOURCE = "Music2Latent ("
_BLOCK = re.compile(r"(?<=<!-- table2:open -->\n).*?(?=<!-- /table2:open -->)", re.DOTALL)


def selection(markdown: str) -> str:
    """The measured table with its numbered notes, and what the paper published, of a table's Markdown."""
    measured, published = markdown.split("Published figures", 1)
    own = [line for line in measured.splitlines() if line.startswith(("|", "["))]
    first_note = next((place for place, line in enumerate(own) if line.startswith("[")), len(own))
    source, *rest = published[published.index(f"\n{SOURCE}") :].strip().splitlines()
    theirs = [line for line in itertools.takewhile(lambda line: not line or line.startswith("|"), rest) if line]
    caption = measured.split("\n", 1)[0].lstrip("# ")
    return "\n".join([caption, "", *own[:first_note], "", *own[first_note:], "", source, "", *theirs, ""])


def updated(readme: str, markdown: str) -> str:
    """The README with the table in place of the one that it holds."""
    return _BLOCK.sub(lambda _: selection(markdown), readme)


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8"), TABLE.read_text(encoding="utf-8")), encoding="utf-8")
