"""A system beside a suite's baselines, over checkpoints, over ablations."""
