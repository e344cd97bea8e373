"""Music2Latent: the encoder features that the paper probes, and the latents beside them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import m2l
from benchmarks.store.fingerprint import digest
from m2l.audio import to_mono
from m2l.io.checkpoint_files import find_checkpoint, read_card
from m2l.io.digest import file_sha256
from probes.representations.base import FEATURES, RepresentationSpec

SOURCE = "m2l"
_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
#: What the published checkpoint was trained on (Sec. 5.1). DNS-4's clean speech holds VCTK and VocalSet.
PUBLISHED_DATA = ("mtg-jamendo", "dns-challenge-4", "vctk", "vocalset")


class Music2LatentRepresentation:
    """Outputs `features` (n_frames, channels x bins; 8,192 in the paper) and `latents` (n_frames, 64).

    Both come from one pass of the encoder at 44.1 kHz, mono, about 10.8 frames per second. `features` is the
    map after the encoder's last 2-D level and its normalization, before the bottleneck.

    Args:
        spec: the record; its `weights` is the digest of what `load` loads.
        load: makes the model.
    """

    def __init__(self, spec: RepresentationSpec, load: Any) -> None:
        self._spec, self._load = spec, load

    @property
    def spec(self) -> RepresentationSpec:
        return self._spec

    @cached_property
    def model(self) -> m2l.Music2Latent:
        """The model, loaded at first use."""
        return self._load()

    def extract(self, audio: np.ndarray, sample_rate: int) -> Mapping[str, np.ndarray]:
        """See `Representation.extract`."""
        import torch

        features = self.model.features(to_mono(audio), sample_rate)[0]
        with torch.no_grad():
            items = torch.from_numpy(features)[None].to(self.model.device, self.model.dtype)
            latents = self.model.encoder.latents(items)[0].float().cpu().numpy()
        latents = latents / self.model.config.latent_scale
        return {FEATURES: features.T, "latents": latents.T}


def _spec(name: str, weights: str, training: tuple[str, ...], **options: Any) -> RepresentationSpec:
    return RepresentationSpec(
        name=name,
        sample_rate=44100,
        outputs=(FEATURES, "latents"),
        training_datasets=training,
        weights=weights,
        license=options.pop("license", ""),
        source=options.pop("source", SOURCE),
        options=options,
    )


def checkpoint(
    path: str, name: str | None = None, training: tuple[str, ...] = (), device: str = "cpu", license: str = ""
) -> Music2LatentRepresentation:
    """A trained checkpoint, by path or by a name that `m2l.Music2Latent.from_pretrained` knows.

    Raises:
        WeightsNotFoundError: it is not on this machine; says how to get it.
        FileNotFoundError: a folder without weights.
    """
    found = Path(find_checkpoint(path))
    files = sorted(found.iterdir()) if found.is_dir() else [found, found.with_name("config.json")]
    wanted = [f for f in files if f.is_file() and (f.suffix in _WEIGHTS or f.name == "config.json")]
    if not any(file.suffix in _WEIGHTS for file in wanted):
        raise FileNotFoundError(f"{found} holds no checkpoint ({' or '.join(sorted(_WEIGHTS))})")
    weights = digest({file.name: file_sha256(file) for file in wanted})

    def load() -> m2l.Music2Latent:
        return m2l.Music2Latent.from_pretrained(path, device=device)

    return Music2LatentRepresentation(_spec(name or f"music2latent:{path}", weights, training, license=license), load)


def published(device: str = "cpu") -> Music2LatentRepresentation:
    """The authors' checkpoint (CC BY-NC 4.0); 8,192-d features."""
    return checkpoint("SonyCSLParis/music2latent", "music2latent", PUBLISHED_DATA, device, license="CC BY-NC 4.0")


def mini(device: str = "cpu") -> Music2LatentRepresentation:
    """The small checkpoint that ships; 2,048-d features."""
    return checkpoint("mini", "music2latent-mini", _card_data("mini"), device, license="Apache-2.0")


def _card_data(name: str) -> tuple[str, ...]:
    """`training_datasets` of a shipped checkpoint's model card, if it says so."""
    data = read_card(find_checkpoint(name)).get("training_datasets")
    return tuple(map(str, data)) if isinstance(data, list) else ()


def loaded(model: m2l.Music2Latent, name: str) -> Music2LatentRepresentation:
    """A model that is in memory already."""
    return Music2LatentRepresentation(_spec(name, model.digest(), (), license=model.license), lambda: model)


def random_init(config: str = "mini", seed: int = 0, device: str = "cpu") -> Music2LatentRepresentation:
    """The architecture with random weights: the floor that says what training adds."""

    def load() -> m2l.Music2Latent:
        return m2l.Music2Latent.from_config(config, seed=seed).to(device)

    spec = _spec("music2latent-random", f"random:{config}:{seed}", (), config=config, seed=seed)
    return Music2LatentRepresentation(spec, load)
