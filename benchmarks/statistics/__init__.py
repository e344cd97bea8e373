"""Intervals, paired comparisons, corrections for many of them, and distances between corpora."""
