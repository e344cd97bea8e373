"""Probing of representations with small MLPs: Table 1 of the paper."""

import m2l  # noqa: F401  (what it does after a fork holds for torch here, too)
