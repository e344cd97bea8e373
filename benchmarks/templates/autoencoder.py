"""MyCodec: an autoencoder for m2l-bench.

As it stands it is a working, if simple, codec: it keeps the KEEP loudest bins of every frame of a short-time
Fourier transform. Replace `encode` and `decode` with your model; the benchmark does the rest (resampling to
your rate and back, channels, exact lengths, seeds).

    pytest test_my_codec.py                                   # the contract
    m2l-bench compare my_codec.py:MyCodec                     # its row beside the baselines
    m2l-bench compare my_codec.py:MyCodec --suite open        # on real music
"""

from __future__ import annotations

import numpy as np
from scipy.signal import istft, stft

FRAME, KEEP = 2048, 32


class MyCodec:
    """Construct cheaply: load a large model at the first clip (see `encode`), not in `__init__`.

    Options of `__init__` can be set with `--option my_codec.py:MyCodec.keep=16`; one called `device` is given
    the value of `--device`.
    """

    def __init__(self, keep: int = KEEP) -> None:
        self.keep = keep
        # Results are kept under the code, the options of `__init__` and this spec: when any of them changes, the
        # system is measured anew.
        self.spec = {
            # Hz. Your `encode` is given audio at this rate. None: it takes any rate.
            "sample_rate": 44_100,
            # "mono": clips are folded first; "per_channel": run once per channel; "stereo": two channels.
            "channels": "mono",
            # -- all below is optional
            # What the tables show: latent vectors per second, numbers per vector, numbers in per number out.
            "latent_rate": 44_100 / (FRAME // 2),
            "latent_dim": 2 * keep,
            "compression_ratio": (FRAME // 2) / (2 * keep),
            # Anything else that changes the output, for the record.
            "options": {"keep": keep},
            # A file of weights, or a list of them: their sha256 is recorded, and new weights are measured anew.
            # "weights": "my_codec.safetensors",
            # "n_steps": 1,        # denoising steps; `decode` may take `n_steps`
            # "bitrate": 16_000.0,  # for bit streams: let `encode` return bytes, and the true rate is measured
            # "source": "https://…", "license": "MIT", "training_datasets": ["fma"],
        }

    def encode(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """Latents of float32 audio `(channels, samples)` in [-1, 1]: anything your `decode` takes.

        A torch model would go `torch.from_numpy(audio)`; gradients are off, and tensors may be returned.
        """
        bins = stft(audio, fs=sample_rate, nperseg=FRAME)[2]
        floor = np.sort(np.abs(bins), axis=-2)[..., -self.keep, None, :]
        return np.where(np.abs(bins) >= floor, bins, 0)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Audio `(channels, samples)` at the rate of `spec`, starting where the input started.

        Longer than the input is fine (it is cut), and so is up to half a second less. Declare any of `length`,
        `sample_rate`, `seed` and `n_steps` as parameters to be given them: draw all noise from `seed`.
        """
        return istft(latents, nperseg=FRAME)[1]

    def features(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """Optional, `(dim, frames)`: makes the autoencoder a row of Table 1, too.

        m2l-bench probe run --task synthetic-pitch --representation autoencoder:my_codec.py:MyCodec
        """
        return np.abs(self.encode(audio, sample_rate))[0]
