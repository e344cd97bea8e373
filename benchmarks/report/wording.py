"""How the report writes numbers, intervals and absences."""

from __future__ import annotations

import math

from benchmarks.tables.text import number_text

#: Reason of cells to which the notion does not apply (a codec has no latents).
NOT_APPLICABLE = "-"


def show(value: float, digits: int) -> str:
    """A number with a true minus sign and at most five significant figures; more are not readable.

    >>> show(-3.846, 2), show(1167.4319, 3), show(math.inf, 2)
    ('−3.85', '1167.4', '∞')
    """
    text = number_text(value, digits, figures=5)
    return (text if text.strip("-0.") else text.lstrip("-")).replace("-", "−")


def interval(low: float | None, high: float | None, digits: int) -> str:
    """ "[low, high]"; empty unless both ends are finite."""
    if low is None or high is None or math.isinf(low) or math.isinf(high):
        return ""
    return f"[{show(low, digits)}, {show(high, digits)}]"


def count(n: int, singular: str, plural: str | None = None) -> str:
    """ "1 clip", "42 clips"."""
    return f"{n:,} {singular if n == 1 else plural or singular + 's'}".replace(",", "\u202f")


def ordinal(n: int) -> str:
    """ "1st", "2nd", "11th"."""
    suffix = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def clock(seconds: float) -> str:
    """ "0:07", "3:25"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
