"""How results become text: numbers, JSON, Markdown and LaTeX tables, and files written only when they change.

Nothing here loads pandas: the gate and the dry run use it too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m2l.io.atomic import write_atomic

#: Shown in place of a number that does not exist.
ABSENT = "–"

#: What LaTeX reads as a command, or sets as another character, and how it is written instead.
_LATEX = str.maketrans(
    {
        **{plain: rf"\{plain}" for plain in "&%#_{}$"},
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "\\": r"\textbackslash{}",
        "|": r"\textbar{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "∞": r"$\infty$",
        "`": None,  # Markdown's code marks
    }
)


def number_text(
    value: float | None, digits: int, *, signed: bool = False, figures: int | None = None, absent: str = ABSENT
) -> str:
    """A number for people.

    Args:
        value: None and NaN are shown as `absent`, infinities as "∞" and "-∞".
        digits: decimals.
        signed: write the plus sign of positive numbers, and no sign before a zero.
        figures: at most this many significant figures, as far as decimals can be spared.
        absent: text of a missing number.

    >>> number_text(1.234, 2), number_text(None, 2), number_text(0.001, 2, signed=True)
    ('1.23', '–', '0.00')
    """
    if value is None or math.isnan(value):
        return absent
    if math.isinf(value):
        return "-∞" if value < 0 else "+∞" if signed else "∞"
    if figures is not None:
        digits = max(0, min(digits, figures - len(str(int(abs(value))))))
    if not signed:
        return f"{value:.{digits}f}"
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0.0 else text


def interval_text(low: float | None, high: float | None, digits: int, *, signed: bool = False) -> str:
    """` [low, high]` with a leading space; empty unless both ends are finite."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f" [{number_text(low, digits, signed=signed)}, {number_text(high, digits, signed=signed)}]"


def significant(value: float, digits: int) -> float:
    """`value` rounded to so many significant digits."""
    return float(f"{value:.{digits}g}")


def finite(value: Any) -> Any:
    """JSON has no NaN or infinity: NaN becomes null, infinities become the strings "inf" and "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def read_number(value: Any) -> float | None:
    """A number that `finite` wrote; null is None.

    Raises:
        TypeError, ValueError, OverflowError: it is something else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or (isinstance(value, str) and value not in ("inf", "-inf")):
        raise ValueError(f"{value!r} is not a number")
    found = float(value)
    return None if math.isnan(found) else found


def json_text(record: Any) -> str:
    """The text of a JSON file: sorted keys, two spaces, a line break at the end; see `finite`."""
    return json.dumps(finite(record), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def lines_of_json(value: Any, levels: int, indent: int = 0) -> str:
    """JSON with sorted keys, one line per entry of the outer `levels` of dictionaries, compact below."""
    if levels == 0 or not isinstance(value, Mapping) or not value:
        return json.dumps(finite(value), sort_keys=True, ensure_ascii=False, allow_nan=False)
    pad = " " * (indent + 1)
    lines = [
        f"{pad}{json.dumps(str(key), ensure_ascii=False)}: {lines_of_json(value[key], levels - 1, indent + 1)}"
        for key in sorted(value, key=str)
    ]
    return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"


def one_line(text: str) -> str:
    """Line breaks of any kind become spaces: the csv module leaves a bare carriage return unquoted."""
    return " ".join(text.split())


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns padded to line up in a terminal."""
    # A bar or a line break in a name would begin another cell or end the table.
    table = [[one_line(cell).replace("|", r"\|") for cell in line] for line in (header, *rows)]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*table, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in table]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def latex_text(text: str) -> str:
    """Plain text as LaTeX sets it, on one line; two hyphens stay two and make no dash."""
    return re.sub("-(?=-)", "-{}", one_line(text).translate(_LATEX))


def write_if_changed(path: Path, text: str) -> bool:
    """Write `text` unless the file already holds it; returns whether it wrote."""
    try:
        if path.read_bytes() == text.encode():
            return False
    except FileNotFoundError:
        pass
    write_atomic(path, text)
    return True
