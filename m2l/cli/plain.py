"""Command lines made with cyclopts, in plain text: help in two columns, errors as one line, no boxes, little color."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, TextIO

from cyclopts import App, Parameter
from cyclopts.exceptions import CycloptsError, MissingArgumentError, UnknownCommandError

from m2l.names import did_you_mean


def whole(least: float = -math.inf, most: float = math.inf) -> Callable[[Any, Sequence[Any]], int]:
    """A converter for whole numbers within bounds; cyclopts itself would round 1.5 to 2."""

    def convert(_: Any, tokens: Sequence[Any]) -> int:
        text = tokens[0].value.strip()
        if not re.fullmatch(r"[+-]?[0-9]{1,4000}", text, re.ASCII):
            raise ValueError(f"{text[:40]!r} is not a whole number")
        if not least <= int(text) <= most:
            bounds = f"at least {least}" if most == math.inf else f"{least} … {most}"
            raise ValueError(f"must be {bounds}, not {text[:40]}")
        return int(text)

    return convert


#: A whole number.
Whole = Annotated[int, Parameter(converter=whole(), metavar="N")]

#: Columns of option names before their help, and the widest line of help.
_NAMES, _WIDEST = 30, 110
_STYLES = {"bold": "1", "red": "31"}


def new_app(name: str, help: str, **more: Any) -> App:
    """A command line, or a group of commands below one, that returns what its commands return.

    Args:
        name: as it is typed.
        help: what it does; the first line is shown in the list of commands.
        more: further arguments of `cyclopts.App`.
    """
    return App(
        name=name,
        help=help,
        help_formatter=_Columns(),
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_env_var=False, allow_repeating=True),
        group_parameters="Options",
        result_action="return_value",
        print_error=False,
        exit_on_error=False,
        **more,
    )


def usage_message(error: CycloptsError) -> str:
    """A wrong command line in one line, with the nearest name of a mistyped command or option."""
    if isinstance(error, UnknownCommandError) and error.unused_tokens and error.app is not None:
        # cyclopts' own message would import every command to see which of them are hidden
        name = error.unused_tokens[0]
        known = [command for command in error.app if command.startswith("-") == name.startswith("-")]
        return f"unknown {'option' if name.startswith('-') else 'command'} {name!r}; {did_you_mean(name, known)}"
    if isinstance(error, MissingArgumentError) and error.app is not None:
        # A mistyped option is the likely reason why another one is missing.
        known = [name for argument in error.app.assemble_argument_collection() for name in argument.names]
        for token in error.unused_tokens or ():
            name = token.partition("=")[0]
            if name.startswith("--") and name != "--" and name not in known:
                return f"unknown option {name!r}; {did_you_mean(name, known)}"
    return " ".join(str(error).split())


def styled(text: str, style: Literal["bold", "red"], stream: TextIO) -> str:
    """The text in a style if `stream` is a terminal and the environment variable NO_COLOR is not set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty()
    return text if plain else f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


class _Columns:
    """cyclopts' help as two aligned columns, printed to stdout like any other text."""

    def __call__(self, console: object, options: object, panel: Any) -> None:
        if not panel.entries:
            return
        print("\n" + styled(f"{panel.title}:", "bold", sys.stdout))
        for entry in panel.entries:
            self._show(entry, commands=panel.format == "command")

    def render_usage(self, console: object, options: object, usage: Any) -> None:
        """Print the line of usage."""
        print(f"usage: {_plain(usage).strip()}")

    def render_description(self, console: object, options: object, description: Any) -> None:
        """Print what a command does: paragraphs are wrapped, indented lines are kept."""
        for paragraph in _plain(description).strip().split("\n\n"):
            lines = paragraph.splitlines()
            kept = any(line.startswith(" ") for line in lines)
            print("", *(lines if kept else textwrap.wrap(paragraph, _width())), sep="\n")

    def _show(self, entry: Any, *, commands: bool) -> None:
        names = [*entry.positive_shorts, *entry.positive_names, *entry.negative_names]
        if entry.positional_label:
            names = [entry.positional_label]
        label = "  " + ", ".join(names)
        if entry.metavar and not entry.positional_label:
            label += f" {entry.metavar}"
        text = _plain(entry.description).strip()
        if commands:
            text = text.splitlines()[0].removesuffix(".") if text else ""
        if entry.choices:
            text += f" [{', '.join(entry.choices)}]"
        if entry.required:
            text += " (required)"
        elif entry.default not in (None, "", '""', "False", "[]", "()", "None"):
            text += f" (default: {entry.default})"
        lines = textwrap.wrap(text.strip(), max(_width() - _NAMES, 20)) or [""]
        if len(label) > _NAMES - 2:
            print(label)
            label = ""
        for line in lines:
            print(f"{label:{_NAMES}}{line}".rstrip())
            label = ""


def _plain(text: Any) -> str:
    text = getattr(text, "primary_renderable", text)
    return "" if text is None else str(getattr(text, "plain", text))


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _WIDEST)


def print_help(app: App, tokens: Iterable[str] = ()) -> None:
    """Print the help of a command line."""
    app.help_print(list(tokens))
    sys.stdout.flush()
