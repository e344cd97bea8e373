"""Build a world, serve it, or run a command in it."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import threading
from pathlib import Path

from .data import build
from .stage import World

sys.path.append(str(Path(__file__).resolve().parent.parent))  # where the helpers of the tests lie


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.world", description=__doc__)
    parser.add_argument("action", choices=["build", "serve", "run"])
    parser.add_argument("root", type=Path)
    parser.add_argument("--fault", action="append", default=[], metavar="HOST:KIND", help="one fault of a server")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.action == "build":
        build(given.root)
        return 0
    with World(given.root) as world:
        for fault in given.fault:
            host, _, kind = fault.partition(":")
            world.fail(host, kind)
        if given.action == "run":
            command = given.command[1:] if given.command[:1] == ["--"] else given.command
            return subprocess.run(command, env=world.env, check=False).returncode
        for name, value in world.variables.items():
            print(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
