"""`python -m probes …` is `m2l-bench probe …`."""

import sys

from benchmarks.cli.main import main

sys.exit(main(["probe", *sys.argv[1:]]))
