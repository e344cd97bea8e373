"""`python -m benchmarks.cli`."""

import sys

from benchmarks.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
