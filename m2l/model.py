"""`Music2Latent`: audio in, latents out, and back in one step."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor, nn

from m2l import consistency
from m2l.arrays import channels_last, default_device, float_tensor, like, torch_dtype, without_gradients
from m2l.audio import as_channels_first, fit_length, resample
from m2l.config import Music2LatentConfig, create_config
from m2l.decoder import Decoder
from m2l.description import as_html, as_text, describe
from m2l.encoder import Encoder
from m2l.io import checkpoint_files, checkpoints
from m2l.io.blocks import BlockReader, ItemReader, samples_of
from m2l.kernels.memory import Pool
from m2l.layers import constructing
from m2l.representation import representation_to_waveform, waveform_to_representation
from m2l.streaming.long import Decode, Encode, Progress, Windowing, decode_long, encode_long
from m2l.streaming.noise import NoiseSource, noise_source, seeded_noise, start_noise
from m2l.streaming.stream import Stream
from m2l.unet import UNet

Array = TypeVar("Array", np.ndarray, Tensor)


class Music2Latent(nn.Module):
    """A consistency autoencoder for music: 44.1 kHz audio <-> 64-dimensional latents at about 11 Hz.

    Each channel of the audio is an item of its own. Audio comes as numpy array or torch tensor, 1-D, (channels,
    samples) or (batch, channels, samples), at any rate, and goes back in the same kind and shape; the path of an audio
    file stands for its samples, as numpy array (channels, samples), and its rate. The samples are padded by 3 hops in
    front and as needed behind, so that all are covered by whole windows and none is lost.

    These methods run without gradients, and warn when an input asks for one. With gradients, for audio
    (items, samples) and latents (items, 64, L):

        latents = model.encoder(waveform_to_representation(audio, model.config)) / model.config.latent_scale
        maps = model.decoder(latents * model.config.latent_scale)
        audio = representation_to_waveform(consistency.sample(model.unet, maps, noise, model.config), model.config)

    with the functions of `m2l.representation` and `m2l.consistency`; whole multiples of 8 frames, no padding. Training
    calls the three networks through `m2l.training.losses.consistency_loss`.
    """

    #: Signals of up to this many latents (30 s) are processed whole; longer ones in overlapping windows.
    WINDOW_LATENTS = 324
    #: Items per network call on an accelerator.
    BATCH_ITEMS = 8

    def __init__(self, config: Music2LatentConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.unet = UNet(config)
        #: Name or path of the weights, as it was given; empty if there are none.
        self.source = ""
        self._place: Path | None = None
        # Memory of large feature maps on a CPU, kept between calls and freed with the model.
        self._pool = Pool()

    # --- making, loading, saving --------------------------------------------------------------------------

    @classmethod
    def from_config(cls, config: Music2LatentConfig | str, seed: int = 0) -> Music2Latent:
        """A model with random weights: reproducible from `seed`, and leaving torch's global generator alone.

        Args:
            config: a config or a preset's name.
            seed: seed of the initialization.
        """
        if isinstance(config, str):
            config = create_config(config)
        with constructing(seed):
            return channels_last(cls(config)).eval()

    @classmethod
    @torch.inference_mode(False)
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] = "mini",
        revision: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> Music2Latent:
        """A model with trained weights. Never downloads.

        Args:
            name_or_path: a shipped checkpoint's name, a folder with `model.safetensors` and `config.json`, a
                safetensors file, a `.pt` file in the published format, or `SonyCSLParis/music2latent`.
            revision: revision of the hub repository, for a hub name.
            device: where to put the model; CUDA if available, else the CPU.
            dtype: precision of the network: "float32" (default), "bfloat16" or "float16". The STFT and the consistency
                preconditioning stay in float32.

        Raises:
            WeightsNotFoundError: if the weights are not on this machine; says what to run.
            CheckpointError: if the file is damaged, unsafe, or does not fit its config.
        """
        place = checkpoint_files.find_checkpoint(name_or_path, revision)
        checkpoint = checkpoints.read_checkpoint(place)
        with constructing(None):
            model = cls(checkpoint.config)
        checkpoints.check_weights(checkpoint, model.state_dict())
        target = torch_dtype(dtype)
        weights = {key: value.to(target) for key, value in checkpoint.weights.items()}
        model.load_state_dict(weights, assign=True)
        model.source, model._place = os.fspath(name_or_path), place.absolute()
        return channels_last(model).eval().to(default_device(device))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `model.safetensors` and `config.json` into `folder`, each beside and renamed."""
        checkpoints.write_checkpoint(Path(folder), self.config, self.state_dict())

    def digest(self) -> str:
        """sha256 over config, names and weights: what a result depends on."""
        state = hashlib.sha256(self.config.to_json().encode())
        for name, tensor in sorted(self.state_dict().items()):
            state.update(name.encode())
            flat = tensor.detach().cpu().clone(memory_format=torch.contiguous_format).flatten()
            state.update(flat.view(torch.uint8).numpy())
        return state.hexdigest()

    @property
    def license(self) -> str:
        """License of the weights, from the card beside them, which is read now: no result depends on it."""
        return "" if self._place is None else checkpoint_files.license_of(self.source, self._place)

    def describe(self) -> dict[str, Any]:
        """What the model is: preset, parameters, rates, license and digest, as `m2l info` prints them."""
        parameters = sum(parameter.numel() for parameter in self.parameters())
        digest = "none" if self.device.type == "meta" else self.digest()
        return describe(self.config, weights=self.source, license=self.license, parameters=parameters, digest=digest)

    def __repr__(self) -> str:
        return as_text(type(self).__name__, self.describe(), f"{self.dtype} on {self.device}")

    def _repr_html_(self) -> str:
        return as_html(type(self).__name__, self.describe(), f"{self.dtype} on {self.device}")

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network."""
        return self.encoder.conv_in.weight.dtype

    # --- representations: one call, one window ------------------------------------------------------------

    @without_gradients
    def features_representation(self, representation: Tensor) -> Tensor:
        """(B, 2, n_bins, T), T a multiple of 8 -> features (B, 8192, T / 8) float32."""
        with self._pool.lending():
            return self.encoder.features(representation.to(self.device, self.dtype)).float()

    @without_gradients
    def encode_representation(self, representation: Tensor) -> Tensor:
        """(B, 2, n_bins, T), T a multiple of 8 -> latents (B, 64, T / 8) float32, divided by `latent_scale`."""
        with self._pool.lending():
            return self.encoder(representation.to(self.device, self.dtype)).float() / self.config.latent_scale

    @without_gradients
    def decode_representation(self, latents: Tensor, noise: Tensor, *, n_steps: int = 1, renoise: Any = None) -> Tensor:
        """Latents and unit noise -> representation, by `consistency.sample`.

        Args:
            latents: (B, 64, L), as `encode_representation` returns them.
            noise: (B, 2, n_bins, 8 L) of unit variance.
            n_steps: denoising steps.
            renoise: noise of the later steps, see `consistency.sample`.

        Returns:
            (B, 2, n_bins, 8 L) float32.
        """
        with self._pool.lending():
            maps = self.decoder((latents.to(self.device) * self.config.latent_scale).to(self.dtype))
            noise = noise.to(self.device)
            return consistency.sample(self.unet, maps, noise, self.config, n_steps=n_steps, renoise=renoise)

    def forward(
        self,
        latents: Tensor,
        x: Tensor,
        sigma: float | Tensor | None = None,
        pyramid_latents: list[Tensor] | None = None,
    ) -> Tensor:
        """The consistency function f (Eq. 10), called as the published network is; differentiable.

        Args:
            latents: (B, 64, L) in (-1, 1), not divided by `latent_scale`; or representations like `x`, to be encoded.
            x: (B, 2, n_bins, 8 L) noisy representations.
            sigma: their noise level, one number or (B,); sigma_max if None.
            pyramid_latents: `decoder(latents)`, if it is already computed.

        Returns:
            (B, 2, n_bins, 8 L) float32.
        """
        if pyramid_latents is None:
            pyramid_latents = self.decoder(self.encoder(latents) if latents.shape == x.shape else latents)
        level = torch.ones(len(x), dtype=torch.float32, device=x.device)
        level = level * (self.config.sigma_max if sigma is None else sigma)
        return consistency.denoise(self.unet, x, level, pyramid_latents, self.config)

    # --- blocks: any length at constant memory ------------------------------------------------------------

    def n_latents(self, n_samples: int) -> int:
        """Latents that cover `n_samples` samples at the model's rate: ceil((n_samples + 3 hops) / 4096)."""
        return self.config.n_latents(n_samples)

    @property
    def batch_items(self) -> int:
        """Items per network call. On a CPU a batch only costs memory."""
        return 1 if self.device.type == "cpu" else self.BATCH_ITEMS

    def _windowing(self, window: int | None) -> Windowing:
        return Windowing(self.config, window or self.WINDOW_LATENTS, self.batch_items)

    def encode_blocks(
        self,
        reader: BlockReader,
        *,
        network: Callable[[Tensor], Tensor] | None = None,
        window: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Tensor]:
        """Latents of a source of any length, piece by piece; see `m2l.streaming.long.encode_long`.

        Args:
            reader: blocks of audio at the model's rate.
            network: representation -> (B, dim, L); `encode_representation` if None.
            window: latents per window; `WINDOW_LATENTS` if None.
            progress: called with the seconds done.

        Yields:
            (channels, dim, l) float32 on the CPU.
        """
        return encode_long(self._network(network), reader, self._windowing(window), progress)

    def decode_blocks(
        self,
        read: Callable[[int, int], Tensor],
        n_latents: int,
        *,
        n_steps: int = 1,
        seed: int = 0,
        noise: NoiseSource | None = None,
        window: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Tensor]:
        """Audio of latents of any length, piece by piece; see `m2l.streaming.long.decode_long`.

        Args:
            read: `read(start, stop)` gives (channels, latent_dim, stop - start) latents.
            n_latents: how many there are.
            n_steps: denoising steps.
            seed: seed of the noise.
            noise: the noise itself, in place of a seed.
            window: latents per window; `WINDOW_LATENTS` if None.
            progress: called with the seconds done.

        Yields:
            (channels, samples) float32 on the CPU, in [-1, 1]; the first 3 hops of all are the encoder's padding.
        """
        source = seeded_noise(self.config, seed) if noise is None else noise
        return decode_long(self._generator(n_steps), read, n_latents, source, self._windowing(window), progress)

    def stream(
        self,
        sample_rate: int | None = None,
        channels: int = 1,
        *,
        window: int | None = None,
        n_steps: int = 1,
        seed: int = 0,
    ) -> Stream:
        """Encode or decode in blocks as they come: `stream.encode(block)`, `stream.decode(latents)`, `last=True` ends.

        Args:
            sample_rate: of the blocks of audio; the model's own if None.
            channels: of the blocks.
            window: latents per window, at least 65; `WINDOW_LATENTS` if None. What comes out lags behind by up to two.
            n_steps: denoising steps of the decoder.
            seed: of the decoder's noise.

        Returns:
            Two ends, which give what `encode` and `decode` give of the whole (with their default window).
        """
        cut, rate = self._windowing(window), sample_rate or self.config.sample_rate
        return Stream(self._network(), self._generator(n_steps), seeded_noise(self.config, seed), cut, rate, channels)

    def _network(self, network: Callable[[Tensor], Tensor] | None = None) -> Encode:
        run = network or self.encode_representation
        return lambda audio: run(waveform_to_representation(audio.to(self.device), self.config))

    def _generator(self, n_steps: int) -> Decode:
        def decode(latents: Tensor, noise: Callable[[int], Tensor]) -> Tensor:
            representation = self.decode_representation(
                latents, noise(0), n_steps=n_steps, renoise=lambda x, step: noise(step).to(x.device)
            )
            return representation_to_waveform(representation, self.config)

        return decode

    # --- audio --------------------------------------------------------------------------------------------

    @overload
    def encode(self, audio: Array, sample_rate: int | None = None) -> Array: ...

    @overload
    def encode(self, audio: str | os.PathLike[str]) -> np.ndarray: ...

    @without_gradients
    def encode(self, audio: Any, sample_rate: int | None = None) -> Any:
        """Audio -> latents.

        Args:
            audio: (…, samples), see the class; or the path of an audio file, which is read as a whole (for files of
                hours there is `m2l.audio_files.encode_file`).
            sample_rate: its rate in Hz; the model's own (44.1 kHz) if None. A file has its own.

        Returns:
            (…, 64, L), L = `n_latents(samples at the model's rate)`; of about unit variance (tanh latents / 0.06 for
            the published weights, in +-1 / 0.06).

        Raises:
            AudioError: for audio that is empty, not finite, or oddly shaped, and for a file that is no audio or comes
                with a `sample_rate`.
            OSError: for a file that cannot be opened.
        """
        return self._analyze(audio, sample_rate, self.encode_representation)

    @without_gradients
    def features(self, audio: Any, sample_rate: int | None = None) -> Any:
        """Audio -> the encoder features that Table 1 probes, (…, 8192, L); not scaled. See `encode`."""
        return self._analyze(audio, sample_rate, self.features_representation)

    def _analyze(self, audio: Any, sample_rate: int | None, network: Callable[[Tensor], Tensor]) -> Any:
        # To float32 items (channels of all clips) at the model's rate.
        audio, sample_rate = samples_of(audio, sample_rate)
        array = as_channels_first(audio)
        leading = () if np.ndim(audio) == 1 else array.shape[:-1]
        rate = self.config.sample_rate if sample_rate is None else sample_rate
        array = resample(array, rate, self.config.sample_rate)
        # Through the network, in windows if it is long.
        reader = ItemReader(array.reshape(-1, array.shape[-1]), self.config.sample_rate)
        out = torch.cat(list(self.encode_blocks(reader, network=network)), dim=-1)
        return like(audio, out.reshape(*leading, *out.shape[1:]))

    @without_gradients
    def decode(
        self,
        latents: Array,
        length: int | None = None,
        *,
        sample_rate: int | None = None,
        n_steps: int = 1,
        seed: int = 0,
        generator: torch.Generator | None = None,
        noise: Tensor | np.ndarray | None = None,
        shared_noise: bool = False,
    ) -> Array:
        """Latents -> audio.

        Args:
            latents: (…, 64, L) as `encode` returns them.
            length: samples to return at `sample_rate`; if None, all that the latents cover.
            sample_rate: rate of the result; the model's own if None.
            n_steps: denoising steps; one is the paper's choice.
            seed: seed of the noise, which depends on (seed, item, position) alone. Same seed, same audio.
            generator: source of the seed instead: one whole number is drawn from it for all items, steps and lengths.
            noise: unit-variance start noise (items, 2, n_bins, 8 L) instead; later steps use the seed or generator.
            shared_noise: draw one noise for all channels of a clip, so that equal channels stay equal (dual mono
                stays mono); each channel has its own otherwise.

        Returns:
            (…, length) float32 in [-1, 1].

        Raises:
            ValueError: for latents or noise of a wrong shape, or not finite.
        """
        # Check the latents, and the noise if it is given.
        config = self.config
        tensor = float_tensor(latents, "latents")
        if tensor.dim() < 2 or tensor.shape[-2] != config.latent_dim or 0 in tensor.shape:
            raise ValueError(f"latents must be (…, {config.latent_dim}, L) with L > 0, not {tuple(tensor.shape)}")
        if length is not None and length < 1:
            raise ValueError(f"length must be at least 1 sample, not {length}")
        items, n_latents = tensor.reshape(-1, *tensor.shape[-2:]), tensor.shape[-1]
        start = None if noise is None else start_noise(config, noise, len(items), n_latents)

        # To audio, in windows if it is long, without the encoder's padding in front.
        channels = tensor.shape[-3] if shared_noise and tensor.dim() > 2 else 1
        source = noise_source(config, seed=seed, generator=generator, start=start, channels=channels)
        pieces = self.decode_blocks(lambda a, b: items[..., a:b], n_latents, n_steps=n_steps, noise=source)
        audio = torch.cat(list(pieces), dim=-1)[:, config.lead_samples : n_latents * config.downsampling_ratio]

        # To the rate and length asked for. Resampling overshoots a little at full scale.
        rate = config.sample_rate if sample_rate is None else sample_rate
        array = resample(audio.numpy(), config.sample_rate, rate)
        if length is not None:
            array = fit_length(array, length)
        array = np.clip(array, -1.0, 1.0)
        return like(latents, torch.from_numpy(array).reshape(*tensor.shape[:-2], -1))

    @without_gradients
    def reconstruct(self, audio: Any, sample_rate: int | None = None, *, n_steps: int = 1, seed: int = 0) -> Any:
        """`decode(encode(audio))` at the input's rate, kind and shape: exactly as many samples come back."""
        audio, sample_rate = samples_of(audio, sample_rate)
        samples = as_channels_first(audio).shape[-1]
        latents = self.encode(audio, sample_rate)
        return self.decode(latents, samples, sample_rate=sample_rate, n_steps=n_steps, seed=seed)
