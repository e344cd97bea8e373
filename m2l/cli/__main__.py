"""`python -m m2l.cli`."""

import sys

from m2l.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
