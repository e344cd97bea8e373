# %% [markdown]
# # Compare your autoencoder
#
# Your autoencoder is an object with `encode` and `decode`. This one is as simple as can be: it drops to 16 kHz, rounds
# the samples to a few bits after a µ-law, and packs them. Latents that are bytes have a bit rate, which is measured.

# %%
import zlib

import matplotlib.pyplot as plt
import numpy as np

import benchmarks


class Rounds:
    """µ-law with `bits` bits a sample at 16 kHz."""

    spec = {"sample_rate": 16_000, "channels": "mono", "bitrate": 0.0}  # noqa: RUF012

    def __init__(self, bits):
        self.top = 2 ** (bits - 1) - 1

    def encode(self, audio):
        bent = np.sign(audio) * np.log1p(255 * abs(audio)) / np.log(256)
        return zlib.compress(np.round(np.clip(bent, -1, 1) * self.top).astype(np.int8).tobytes())

    def decode(self, latents):
        bent = np.frombuffer(zlib.decompress(latents), np.int8) / self.top
        return np.sign(bent) * (256 ** abs(bent) - 1) / 255


# %% [markdown]
# `evaluate` measures what the store lacks, beside baselines of the suite, and returns data frames. Three settings of
# one codec are a dictionary label → object. Only four clips here, so that this page is quick.

# %%
mine = {f"{bits} bits": Rounds(bits) for bits in (3, 5, 8)}
codecs = ["opus-16k", "mp3-64k", "vorbis-64k", "opus-96k"]
found = benchmarks.evaluate(mine, metrics=["si_sdr", "lsd"], against=codecs, limit=4, quiet=True)
print(found.table.round(2).to_string())

# %% [markdown]
# With intervals, notes, and the best of each column:

# %%
print(found)

# %% [markdown]
# Quality against rate is the picture that codecs are judged by: up and to the left is better.

# %%
cells = found.cells.pivot(index="system", columns="column", values="value").astype(float)
low = found.cells.pivot(index="system", columns="column", values="low").astype(float)["si_sdr"]
high = found.cells.pivot(index="system", columns="column", values="high").astype(float)["si_sdr"]
figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
for name, row in cells.iterrows():
    color = "tab:red" if name in mine else "tab:blue"
    error = [[row.si_sdr - low[name]], [high[name] - row.si_sdr]]
    axis.errorbar(row.bitrate, row.si_sdr, error, fmt="o", color=color, capsize=3)
    axis.annotate(name, (row.bitrate, row.si_sdr), xytext=(5, 5), textcoords="offset points")
axis.set(xlabel="bit rate (kbit/s)", ylabel="SI-SDR (dB)", title="four clips; bars are 95 % intervals")

# %% [markdown]
# Are the differences more than chance? Every two systems are compared on the same clips; `p_adjusted` counts all pairs.

# %%
pairs = found.comparisons
print(pairs[(pairs.metric == "si_sdr") & pairs.b.isin(mine)][["a", "b", "difference", "low", "high", "significant"]])

# %% [markdown]
# The scores of clips say where a codec fails. `found.report("report")` writes all of this as a page to listen to.

# %%
print(found.scores[found.scores.metric == "si_sdr"].pivot(index="clip", columns="system", values="value").round(1))
