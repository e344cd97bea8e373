# %% [markdown]
# # Probe a representation
#
# What do latents know of the music? A small network, the probe, is trained to tell something of a clip from them alone.
# Here: the pitch class of single notes, and which of fourteen rendered instruments plays.

# %%
import matplotlib.pyplot as plt
import numpy as np

import m2l
import probes


class Chroma:
    """Energy of the twelve pitch classes: it should know the pitch, and nothing of the instrument."""

    def extract(self, audio, sample_rate):
        size = 4096
        frames = audio.mean(axis=0)[: audio.shape[1] // size * size].reshape(-1, size) * np.hanning(size)
        spectrum = abs(np.fft.rfft(frames, 4 * size))
        hertz = np.fft.rfftfreq(4 * size, 1 / sample_rate)
        used = (hertz > 60) & (hertz < 5000)
        pitch = np.round(12 * np.log2(hertz[used] / 440)).astype(int) % 12
        return np.stack([spectrum[:, used][:, pitch == k].mean(axis=1) for k in range(12)], axis=1)


# %% [markdown]
# `extract` gets audio `(channels, samples)` and returns `(frames, dim)`; the mean over time is probed. An autoencoder
# with `features` or latents is a representation as it is: `mini` gives two rows.

# %%
found = probes.evaluate(
    {"my chroma": Chroma(), "mini": m2l.load("mini")},
    tasks=["synthetic-pitch", "synthetic-instrument"],
    seeds=2,
    limit=60,
    quiet=True,
)
print(found.table.round(1).to_string())

# %% [markdown]
# Figures are percent. Sixty notes are few to learn the instruments from: every row is near chance there until `limit`
# is left away. Intervals count instruments for pitch (all notes of one instrument share its timbre):

# %%
cells = found.cells
print(cells[cells.column == "synthetic-pitch/f1_micro"][["system", "value", "low", "high", "n"]].round(1).to_string())

# %% [markdown]
# Every prediction of every test item is kept, so that any other figure can be made of them: a confusion matrix.

# %%
shown = found.predictions.query("task == 'synthetic-pitch' and seed == 0")
figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for axis, name in zip(axes, ["my chroma", "mini@latents"], strict=True):
    rows = shown[shown.system == name]
    guess = rows.loc[rows.groupby("clip").prediction.idxmax()].set_index("clip").label
    truth = rows[rows.target == 1].set_index("clip").label
    labels = list(dict.fromkeys(rows.label))
    counts = np.zeros((len(labels), len(labels)), int)
    for clip in truth.index:
        counts[labels.index(truth[clip]), labels.index(guess[clip])] += 1
    axis.imshow(counts, cmap="Blues")
    axis.set(title=name, xlabel="predicted", ylabel="played")
    axis.set_xticks(range(len(labels)), labels)
    axis.set_yticks(range(len(labels)), labels)

# %% [markdown]
# Your own data is a task without code: `tasks="folder:PATH"`, a folder of audio with a table of labels. The tasks of
# the literature are listed under [Tasks](../guides/tasks.md).
