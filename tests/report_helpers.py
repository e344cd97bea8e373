"""A small measured suite for the tests of the report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness_helpers import tiny_toml, write_clips

from benchmarks.cli.main import main


@contextmanager
def cache_at(folder: Path) -> Iterator[None]:
    """`M2L_CACHE` for the time of the block."""
    before = os.environ.get("M2L_CACHE")
    os.environ["M2L_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["M2L_CACHE"]
        else:
            os.environ["M2L_CACHE"] = before


def measured_suite(folder: Path, *, seconds: float = 1.2, count: int = 6) -> Path:
    """Clips, suite file, store and results under `folder`; returns the suite file."""
    clips = folder / "clips"
    write_clips(clips, count=count, seconds=seconds)
    suite = tiny_toml(folder, clips)
    with cache_at(folder / "cache"):
        status = main(
            ["tables", "--suite", str(suite), "--results", str(folder / "results"), "--executor", "serial", "--quiet"]
        )
    assert status == 0
    return suite


def make_report(folder: Path, suite: Path, output: Path, *options: str) -> int:
    """Run `m2l-bench report` on a measured suite."""
    arguments = ["report", "--suite", str(suite), "--results", str(folder / "results"), "-o", str(output)]
    with cache_at(folder / "cache"):
        return main([*arguments, "--executor", "serial", "--quiet", *options])
