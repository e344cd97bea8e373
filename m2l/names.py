"""What a mistyped name was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Up to `n` of the `known` names that `name` may be a misspelling of, in whatever case, the nearest first.

    Those that are much further off than the nearest one are left out.
    """
    name, lower = name[:100].lower(), {one.lower(): one for one in sorted(known)}
    for best in difflib.get_close_matches(name, lower, n=1, cutoff=0.5):
        cutoff = max(0.5, difflib.SequenceMatcher(None, best, name).ratio() - 0.15)
        return [lower[near] for near in difflib.get_close_matches(name, lower, n=n, cutoff=cutoff)]
    return []


def did_you_mean(name: str, known: Iterable[str], summary: str = "") -> str:
    """ "did you mean 'x'?", or where nothing is near `summary` (default: the list of all names)."""
    known = sorted(known)
    if near := nearest(name, known):
        return f"did you mean {' or '.join(map(repr, near))}?"
    return summary or f"known: {', '.join(known)}"
