"""The start of a command line: Ctrl-C while its modules are still being imported ends in one line, too."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

_INTERRUPTED = 130


def launch(program: str, module: str, arguments: Sequence[str] | None = None) -> int:
    """Run `main(arguments)` of a module; returns its exit code.

    Args:
        program: what messages call it.
        module: name of the module, which is imported now.
        arguments: those of the process if None.
    """
    try:
        return int(import_module(module).main(arguments))
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return _INTERRUPTED


def m2l() -> int:
    """The console script `m2l`."""
    return launch("m2l", "m2l.cli.main")
