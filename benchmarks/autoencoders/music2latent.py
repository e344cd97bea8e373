"""Music2Latent under test: the published weights, the small model that ships, any checkpoint, random weights.

Constructing an adapter reads a header and a digest; torch and the weights are loaded at the first clip.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import m2l
from benchmarks.autoencoders.base import AutoencoderSpec
from benchmarks.store.fingerprint import digest
from benchmarks.weights.find import find_weight
from m2l.audio import check_audio
from m2l.config import Music2LatentConfig, create_config
from m2l.io.checkpoint_files import read_card, read_metadata
from m2l.io.digest import file_sha256

if TYPE_CHECKING:
    from m2l.model import Music2Latent

SHIPPED = Path(m2l.__file__).resolve().parent / "checkpoints"


#: Rows of the paper's Table 3: nobody published their checkpoints.
_UNPUBLISHED = ("table3-base", "table3-attention", "table3-scaling")
_TRAIN_IT = (
    ". Nobody published it; m2l-bench ablation --full --runs RUNS trains it, for m2l-bench paper --ablation-runs RUNS"
)


class _Adapter:
    """What all Music2Latent systems share; subclasses say which weights.

    Channels are independent items for the model; a stereo clip is coded channel by channel.
    """

    def __init__(self, spec: AutoencoderSpec, device: str) -> None:
        self._spec, self.device = spec, device

    @property
    def spec(self) -> AutoencoderSpec:
        """The spec; the number of parameters is known once the model is loaded."""
        if "model" in self.__dict__ and self._spec.n_parameters is None:
            values = self._spec.to_dict() | {"n_parameters": _count(self.model)}
            self._spec = AutoencoderSpec(**values)
        return self._spec

    @cached_property
    def model(self) -> Music2Latent:
        """The loaded model."""
        return self._load().to(self.device)

    def _load(self) -> Music2Latent:
        raise NotImplementedError

    def encode(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """Latents `(channels, 64, frames)`."""
        return self.model.encode(check_audio(audio, sample_rate), sample_rate)

    def decode(
        self, latents: np.ndarray, *, length: int, sample_rate: int, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """Audio `(channels, length)`; the noise is a function of `seed`."""
        return self.model.decode(latents, length, sample_rate=sample_rate, n_steps=n_steps or 1, seed=seed)

    def reconstruct(
        self, audio: np.ndarray, sample_rate: int, *, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        audio = check_audio(audio, sample_rate)
        latents = self.encode(audio, sample_rate)
        return self.decode(latents, length=audio.shape[1], sample_rate=sample_rate, seed=seed, n_steps=n_steps)

    def features(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """The encoder's widest layer `(8192, frames)`, averaged over channels (Table 1)."""
        return self.model.features(check_audio(audio, sample_rate), sample_rate).mean(axis=0)


class Checkpoint(_Adapter):
    """A checkpoint of your own: `music2latent:PATH`.

    Args:
        path: a folder with `model.safetensors` and `config.json`, one safetensors file, a `.pt` file in the
            published form, or the name of a checkpoint that ships.
        device: where the model runs.

    Raises:
        FileNotFoundError: the path does not exist, and no shipped checkpoint has that name.
    """

    def __init__(self, path: str, device: str = "cpu", *, name: str | None = None, **metadata: Any) -> None:
        given = Path(path).expanduser()
        self.path = given if given.exists() else SHIPPED / path
        if not self.path.exists():
            shipped = sorted(item.parent.name for item in SHIPPED.glob("*/config.json"))
            raise FileNotFoundError(
                f"no checkpoint at {path!r} (checkpoints that ship: {', '.join(shipped) or 'none'})"
                + _TRAIN_IT * (path in _UNPUBLISHED)
            )
        weights = self.path / "model.safetensors" if self.path.is_dir() else self.path
        if not weights.is_file():
            raise FileNotFoundError(f"no weights at {str(weights)!r}")
        # Only loading tells what a file in the published form holds.
        config, n_parameters = read_metadata(weights) if weights.suffix == ".safetensors" else (None, None)
        metadata = {"source": f"checkpoint {self.path.name}"} | _card(self.path) | metadata
        spec = _spec(name or f"music2latent:{path}", config, n_parameters, file_sha256(weights), metadata)
        super().__init__(spec, device)

    def _load(self) -> Music2Latent:
        return m2l.Music2Latent.from_pretrained(self.path, device=self.device)


class Published(Checkpoint):
    """The weights of the paper (SonyCSLParis/music2latent, CC BY-NC 4.0), when they are on this machine.

    Raises:
        WeightsNotFoundError: they are not on this machine; the message gives the command that gets them.
    """

    def __init__(self, device: str = "cpu", path: str | None = None) -> None:
        super().__init__(
            str(find_weight("music2latent", path)),
            device,
            name="music2latent",
            source="SonyCSLParis/music2latent",
            license="CC BY-NC 4.0",
            training_datasets=("mtg-jamendo", "dns4-clean"),
        )


class Mini(Checkpoint):
    """The small model that ships with this package.

    Raises:
        FileNotFoundError: this installation has no checkpoint `mini`.
    """

    def __init__(self, device: str = "cpu") -> None:
        if not (SHIPPED / "mini" / "model.safetensors").is_file():
            raise FileNotFoundError(
                "no trained checkpoint ships with this version (m2l/checkpoints/mini); evaluate one of your own "
                "as music2latent:DIR"
            )
        super().__init__("mini", device, name="music2latent-mini")


class RandomInit(_Adapter):
    """Untrained weights: a lower bound for trained ones.

    Args:
        preset: configuration by name.
        seed: seed of the initialization.
        device: where the model runs.
    """

    def __init__(self, preset: str = "mini", seed: int = 0, device: str = "cpu") -> None:
        self.preset, self.seed = preset, int(seed)
        self.config = create_config(preset)
        identity = digest({"config": self.config.to_dict(), "seed": self.seed})
        metadata = {"source": f"random initialization of preset {preset}, seed {seed}"}
        spec = _spec("music2latent-random", self.config, None, identity, metadata)
        super().__init__(spec, device)

    def _load(self) -> Music2Latent:
        return m2l.Music2Latent.from_config(self.config, seed=self.seed)


class Loaded(_Adapter):
    """A model that is in memory already; it stays where it is.

    Args:
        model: the model.
        name: what tables call it.
    """

    def __init__(self, model: Music2Latent, name: str) -> None:
        metadata = {"source": "a model in memory", "license": model.license}
        super().__init__(_spec(name, model.config, _count(model), model.digest(), metadata), str(model.device))
        self.__dict__["model"] = model


def _spec(
    name: str,
    config: Music2LatentConfig | None,
    n_parameters: int | None,
    weights_digest: str,
    metadata: dict[str, Any],
) -> AutoencoderSpec:
    config = config or create_config("paper")
    return AutoencoderSpec(
        name=name,
        sample_rate=config.sample_rate,
        channels="per_channel",
        latent_rate=config.latent_rate,
        latent_dim=config.latent_dim,
        compression_ratio=config.compression_ratio,
        n_parameters=n_parameters,
        n_steps=1,
        weights_digest=weights_digest,
        options={"config": digest(config.to_dict())},
        **metadata,
    )


def _card(path: Path) -> dict[str, Any]:
    """License and training data from a model card beside the weights, where there is one."""
    record = read_card(path)
    metadata: dict[str, Any] = {}
    if isinstance(record.get("license"), str):
        metadata["license"] = record["license"]
    data = record.get("training_datasets")
    if isinstance(data, list):
        metadata["training_datasets"] = tuple(str(item) for item in data)
    return metadata


def _count(model: Music2Latent) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
