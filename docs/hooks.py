"""Hooks of mkdocs: the reference of the commands is what the commands themselves print."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

from cyclopts import App

from benchmarks.cli.main import make_app
from m2l.cli.main import app as m2l
from m2l.cli.plain import print_help

_MARK = re.compile(r"<!-- commands:(\S+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the help of a command line in place of the mark that names it."""
    return _MARK.sub(lambda mark: reference(mark[1]), markdown)


def reference(program: str) -> str:
    """Markdown with the help of every command of `program`, which is m2l or m2l-bench.

    Raises:
        KeyError: for another program.
    """
    app = {"m2l": m2l, "m2l-bench": make_app(summaries=False)}[program]
    return "\n\n".join(f"### {program} {' '.join(path)}\n\n```text\n{_help(app, path)}\n```" for path in _commands(app))


def _commands(app: App, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The commands that can be run, in their own order."""
    for name in app:
        if name.startswith("-"):
            continue
        inner = list(_commands(app[name], (*above, name)))
        yield from inner or [(*above, name)]


def _help(app: App, path: tuple[str, ...]) -> str:
    text = io.StringIO()
    with mock.patch.dict(os.environ, COLUMNS="80"), contextlib.redirect_stdout(text):
        print_help(app, path)
    return text.getvalue().strip()
