"""Probing of representations with small MLPs: Table 1 of the paper."""
