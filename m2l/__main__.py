"""`python -m m2l`: the command line."""

import sys

from m2l.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
