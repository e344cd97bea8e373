"""`python -m benchmarks`: the same as `m2l-bench`."""

import sys

from benchmarks.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
