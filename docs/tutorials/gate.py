# %% [markdown]
# # Gate a regression
#
# A codec is measured once, and its results are pinned. From then on a gate says whether a change made it worse: clip by
# clip, beyond tolerance and beyond chance. This is what a CI job runs; here the commands are called from Python.

# %%
import contextlib
import io
from pathlib import Path

import matplotlib.pyplot as plt

import benchmarks
from benchmarks.cli.main import main as m2l_bench

Path("codec.py").write_text("""
import numpy as np
from scipy.signal import istft, stft

KEEP = 32

class Codec:
    spec = {"sample_rate": 44_100, "channels": "mono"}
    def encode(self, audio):
        bins = stft(audio, nperseg=2048)[2]
        return np.where(abs(bins) >= np.sort(abs(bins), axis=1)[:, -KEEP, None], bins, 0)
    def decode(self, latents):
        return istft(latents)[1]
""")
Path("suite.toml").write_text("""
name = "mine"
[data]
dataset = "synthetic"
options = { size = 12, seconds = 2.0 }
[table2]
systems = ["codec.py:Codec"]
metrics = ["si_sdr", "lsd"]
""")
options = ["--suite", "suite.toml", "--results", "results"]


def measure():
    """m2l-bench tables, without the table that it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return m2l_bench(["tables", *options, "--quiet"])


# %% [markdown]
# Measure and pin. `results/mine/baseline.json` belongs into your repository.

# %%
print("tables:", measure())
print("pin:", m2l_bench(["gate", *options, "--update"]))

# %% [markdown]
# Nothing has changed: the gate passes, with exit code 0.

# %%
before = benchmarks.load_scores("suite.toml", "results")
print("gate:", m2l_bench(["gate", *options]))

# %% [markdown]
# A change that looks harmless: 24 bins in place of 32. The class's file is part of what its results are kept under, so
# `tables` measures it again; the gate names what is worse, and by how much. Its exit code is 1, which fails the job.

# %%
Path("codec.py").write_text(Path("codec.py").read_text().replace("KEEP = 32", "KEEP = 24"))
print("tables:", measure())
print("gate:", m2l_bench(["gate", *options]))

# %% [markdown]
# All clips lost some quality, and none collapsed:

# %%
after = benchmarks.load_scores("suite.toml", "results")
figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
for scores, label in ((before, "32 bins"), (after, "24 bins")):
    values = scores[scores.metric == "si_sdr"].sort_values("clip").value
    axis.plot(range(len(values)), values, "o", label=label)
axis.set(xlabel="clip", ylabel="SI-SDR (dB)")
axis.legend()

# %% [markdown]
# [Your CI](../guides/ci.md) has a workflow to copy.
