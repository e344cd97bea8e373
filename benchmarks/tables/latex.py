"""Text in LaTeX: names of systems hold any character."""

from __future__ import annotations

import re

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


def latex_text(text: str) -> str:
    """Plain text as LaTeX sets it, on one line; two hyphens stay two and make no dash."""
    return re.sub("-(?=-)", "-{}", " ".join(text.split()).translate(_LATEX))
