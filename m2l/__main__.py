"""`python -m m2l`: the command line."""

import sys

from m2l.launch import m2l

if __name__ == "__main__":
    sys.exit(m2l())
