"""`python -m probes …` is `m2l-bench probe …`."""

import sys

from m2l.launch import launch

if __name__ == "__main__":
    sys.exit(launch("m2l-bench", "benchmarks.cli.main", ["probe", *sys.argv[1:]]))
