"""The command line `m2l`: `python -m m2l.cli` is the same."""
