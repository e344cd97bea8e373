"""`m2l-bench speed`: ours and the rival, side by side in one run.

Each contest is one module with `main(argv) -> int`, named here as a lazy target so that listing them
imports nothing. A contest prints a table (or `--json`) with median times, their ratio, and the error of
one result against the other: a speed without its error says nothing.
"""

from __future__ import annotations

#: flag and value on the command line -> "module:function"
CONTESTS: dict[tuple[str, str], str] = {
    ("--against", "music2latent"): "benchmarks.speed.model:main",
    ("--metric", "visqol"): "benchmarks.speed.visqol:main",
    ("--metric", "frechet"): "benchmarks.speed.frechet:main",
    ("--metric", "si_sdr"): "benchmarks.speed.si_sdr:main",
    ("--probe", ""): "probes.speed:main",
    ("--train", ""): "benchmarks.speed.train:main",
}
