"""The command line `m2l-bench`: `python -m benchmarks.cli` is the same."""
