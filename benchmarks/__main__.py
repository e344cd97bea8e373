"""`python -m benchmarks`: the same as `m2l-bench`."""

import sys

from m2l.launch import launch

if __name__ == "__main__":
    sys.exit(launch("m2l-bench", "benchmarks.cli.main"))
