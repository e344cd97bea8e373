"""The benchmark that compares music autoencoders: Tables 2 and 3 and Figure 2 of the paper."""

import m2l  # noqa: F401  (what it does after a fork holds for torch here, too)
