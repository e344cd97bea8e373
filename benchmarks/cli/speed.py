"""`m2l-bench speed`: hands over to one contest of `benchmarks.speed`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence

from benchmarks.registry import load_target
from benchmarks.speed import CONTESTS

_HELP = """usage: m2l-bench speed CONTEST [options of the contest]

Ours and the rival side by side in one run: median times, their ratio, and the error of one result against
the other. Contests (each takes --help):
"""


def main(argv: Sequence[str]) -> int:
    """Run the contest named by the first one or two arguments; returns its exit code."""
    arguments = list(argv)
    for (flag, value), target in CONTESTS.items():
        named = [flag, value] if value else [flag]
        if arguments[: len(named)] == named or arguments[:1] == [f"{flag}={value}"]:
            used = len(named) if arguments[: len(named)] == named else 1
            return int(load_target(target)(arguments[used:]))
    names = [" ".join(part for part in key if part) for key in CONTESTS]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP + "".join(f"  m2l-bench speed {name}\n" for name in names), end="")
        return 0 if arguments else 2
    asked = " ".join(arguments[:2])
    near = difflib.get_close_matches(asked, names, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    print(f"m2l-bench speed: no contest {asked!r}; {hint}", file=sys.stderr)
    return 2
