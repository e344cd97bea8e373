"""`python -m m2l.cli`."""

import sys

from m2l.launch import m2l

if __name__ == "__main__":
    sys.exit(m2l())
