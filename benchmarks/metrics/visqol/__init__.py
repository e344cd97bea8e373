"""ViSQOL (Chinen et al., "ViSQOL v3", 2020): virtual speech and audio quality, 1 to 5."""

from benchmarks.metrics.visqol.api import ViSQOL, visqol

__all__ = ["ViSQOL", "visqol"]
