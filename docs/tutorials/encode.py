# %% [markdown]
# # Encode, look at and listen to latents
#
# Music2Latent turns audio into about eleven vectors of 64 numbers a second, and back. `mini` is the small checkpoint
# that ships: a demonstration, not the paper's model.

# %%
import matplotlib.pyplot as plt
import numpy as np
import soundfile

import m2l
from benchmarks.datasets import create_dataset

clip = create_dataset("synthetic", size=1, seconds=5.0).clips()[0]
audio, rate = clip.load()
model = m2l.load("mini")
print(model)

# %% [markdown]
# Audio is an array `(channels, samples)` at any rate. `decode` draws noise, so that a seed makes it repeatable.

# %%
latents = model.encode(audio, rate)
decoded = model.decode(latents, length=audio.shape[-1], sample_rate=rate, seed=0)
print("audio", audio.shape, "latents", latents.shape, "decoded", decoded.shape)
print(f"{audio.size / latents.size:.0f} samples for each number of the latents")

# %% [markdown]
# The spectrograms of both: what the model keeps, and what it loses.


# %%
def spectrogram(axis, sound, title):
    axis.specgram(sound[0], NFFT=2048, noverlap=1536, Fs=rate, vmin=-140, vmax=-40)
    axis.set(title=title, xlabel="time (s)", ylabel="frequency (Hz)")


figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
spectrogram(axes[0], audio, "original")
spectrogram(axes[1], decoded, "decoded from the latents")

# %% [markdown]
# The latents themselves: one row per dimension, one column per frame; their deviation is about 1. Most dimensions hold
# through the clip; where a chord begins, at 1.8 and 3.6 s (frames 19 and 39), many change at once.

# %%
figure, axis = plt.subplots(figsize=(9, 3.2), layout="constrained")
image = axis.imshow(latents[0], aspect="auto", origin="lower", cmap="RdBu", interpolation="nearest")
axis.set(title="latents", xlabel="frame", ylabel="dimension")
figure.colorbar(image)
print("mean", latents.mean().round(3), "deviation", latents.std().round(3))

# %% [markdown]
# Listen: write both to files, or in a notebook `IPython.display.Audio(decoded, rate=rate)`.

# %%
soundfile.write("original.wav", audio.T, rate)
soundfile.write("decoded.wav", np.clip(decoded, -1, 1).T, rate)

# %% [markdown]
# Halfway between the latents of two sounds lies a sound, too: that is what one trains generators on.

# %%
other = model.encode(create_dataset("synthetic", size=2, seconds=5.0).clips()[1].load()[0], rate)
between = model.decode((latents + other) / 2, length=audio.shape[-1], sample_rate=rate, seed=0)
figure, axis = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
spectrogram(axis, between, "halfway to another clip")
