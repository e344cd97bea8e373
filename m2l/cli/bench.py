"""The entry point of `m2l-bench`: it makes sure that `benchmarks` and `probes` are this project's packages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from m2l.launch import launch


def main() -> int:
    """Run the command line of the benchmark; exit code 3 when a folder of the user's hides its packages."""
    home = Path(__file__).resolve().parents[2]
    for package in ("benchmarks", "probes"):
        spec = importlib.util.find_spec(package)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is not None and origin.parent.parent != home:
            print(
                f"m2l-bench: {origin.parent} hides the benchmark's own package {package!r}, because its folder comes "
                "first on Python's path. Take it off PYTHONPATH, rename the folder, or run m2l-bench elsewhere; code "
                "that needs it can run in a process of its own: "
                "m2l-bench compare --command 'mine=python codec.py {input} {output}'",
                file=sys.stderr,
            )
            return 3
    return launch("m2l-bench", "benchmarks.cli.main")


if __name__ == "__main__":
    sys.exit(main())
