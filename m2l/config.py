"""The one description of a model: a frozen dataclass, named presets, TOML overlay, JSON round trip.

The presets carry the paper's names: `paper` is the published model (Sec. 4.4), `table3-*` are the rows of
Table 3. The small ones share its layout at a fraction of its cost.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2l.names import did_you_mean

#: Prefix of names of untrained models: only these are ever random.
RANDOM = "random:"


class ConfigError(ValueError):
    """A configuration that describes no model; the message names the field and the value."""


@dataclass(frozen=True)
class Music2LatentConfig:
    """Everything that shapes the network, its input and its noise levels.

    Lengths of the per-level tuples must agree: `L` levels have `L - 1` downsamplings between them.
    Downsampling factors are (frequency, time) pairs, in encoder order.
    """

    name: str = "paper"

    # Audio and representation (Sec. 4.1, Eq. 5). beta is 0.35 in the paper and 0.34 in the published weights.
    sample_rate: int = 44_100
    hop_length: int = 512
    alpha: float = 0.65
    beta: float = 0.34

    # Noise levels and preconditioning (Eq. 2, 14; constants of iCT [6], which the paper follows).
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    rho: float = 7.0
    p_mean: float = -1.1
    p_std: float = 2.0

    # Network (Sec. 4.4).
    base_channels: int = 64
    channel_mults: tuple[int, ...] = (1, 2, 4, 4, 4)
    unet_blocks: tuple[int, ...] = (2, 2, 2, 2, 2)
    autoencoder_blocks: tuple[int, ...] = (1, 1, 1, 1, 1)
    attention: tuple[bool, ...] = (False, False, True, True, True)
    attention_heads: int = 4
    downsampling: tuple[tuple[int, int], ...] = ((4, 1), (2, 2), (2, 2), (2, 2))
    frequency_scaling: bool = True
    cond_channels: int = 256
    bottleneck_channels: int = 512
    bottleneck_blocks: int = 4
    latent_dim: int = 64

    #: Latents are handed out divided by this, to have about unit variance: 0.06 for the published weights.
    latent_scale: float = 0.06

    def __post_init__(self) -> None:
        # JSON and TOML know lists only.
        for field in ("channel_mults", "unet_blocks", "autoencoder_blocks", "attention"):
            object.__setattr__(self, field, _tuple(field, getattr(self, field)))
        pairs = _tuple("downsampling", self.downsampling)
        object.__setattr__(self, "downsampling", tuple(_tuple("downsampling", pair) for pair in pairs))
        for field, (least, most) in _BOUNDS.items():
            _check_numbers(field, getattr(self, field), least, most)
        self._validate()

    def _validate(self) -> None:
        if not isinstance(self.name, str) or len(self.name) > 200:
            raise ConfigError(f"name must be a text of up to 200 characters, not {_short(self.name)}")
        levels = len(self.channel_mults)
        for field in ("unet_blocks", "autoencoder_blocks", "attention"):
            if len(getattr(self, field)) != levels:
                raise ConfigError(
                    f"{field} has {len(getattr(self, field))} entries but channel_mults names {levels} levels"
                )
        if len(self.downsampling) != levels - 1:
            raise ConfigError(f"downsampling has {len(self.downsampling)} entries; {levels} levels need {levels - 1}")
        if sum(self.unet_blocks) + sum(self.autoencoder_blocks) > _MAX_BLOCKS:
            raise ConfigError(f"unet_blocks and autoencoder_blocks name more than {_MAX_BLOCKS} blocks")
        if max(self.channels) > _MAX_CHANNELS:
            raise ConfigError(
                f"base_channels times channel_mults is {max(self.channels)}; at most {_MAX_CHANNELS} channels"
            )
        if self.downsampling_ratio > _MAX_RATIO:
            raise ConfigError(f"a latent covers {self.downsampling_ratio} samples; at most {_MAX_RATIO}")
        if self.cond_channels % 2:
            raise ConfigError(f"cond_channels must be even and at least 4, not {self.cond_channels}")
        if not 0 < self.sigma_min < self.sigma_max:
            raise ConfigError(f"need 0 < sigma_min < sigma_max, not {self.sigma_min} and {self.sigma_max}")
        if self.n_bins % self.frequency_downsampling:
            raise ConfigError(f"{self.n_bins} frequency bins do not divide by {self.frequency_downsampling}")
        for channels, attends in zip(self.channels, self.attention, strict=True):
            if attends and channels % self.attention_heads:
                raise ConfigError(f"{channels} channels do not divide into {self.attention_heads} attention heads")
        for value in (self.frequency_scaling, *self.attention):
            if not isinstance(value, bool):
                raise ConfigError(f"frequency_scaling and attention are true or false, not {_short(value)}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level, from the input down."""
        return tuple(self.base_channels * mult for mult in self.channel_mults)

    @property
    def n_fft(self) -> int:
        """Window and FFT length: 4 hops (Sec. 4.4)."""
        return 4 * self.hop_length

    @property
    def n_bins(self) -> int:
        """Frequency bins of the representation: the Nyquist bin is dropped, which leaves n_fft / 2."""
        return 2 * self.hop_length

    @property
    def frequency_downsampling(self) -> int:
        """Product of the frequency factors (32 in the paper)."""
        return _product(factor for factor, _ in self.downsampling)

    @property
    def time_downsampling(self) -> int:
        """Product of the time factors: STFT frames per latent (8 in the paper)."""
        return _product(factor for _, factor in self.downsampling)

    @property
    def downsampling_ratio(self) -> int:
        """Samples per latent vector (4096 in the paper)."""
        return self.hop_length * self.time_downsampling

    @property
    def lead_samples(self) -> int:
        """Padding in front of the audio: 3 hops, which fewer than 4 STFT windows would cover."""
        return self.n_fft - self.hop_length

    def n_latents(self, n_samples: int) -> int:
        """Latents that cover `n_samples` samples at the model's rate: ceil((n_samples + 3 hops) / 4096)."""
        return -(-(n_samples + self.lead_samples) // self.downsampling_ratio)

    @property
    def compression_ratio(self) -> float:
        """Samples per latent number (64 in the paper)."""
        return self.downsampling_ratio / self.latent_dim

    @property
    def latent_rate(self) -> float:
        """Latent vectors per second (10.77 Hz at 44.1 kHz)."""
        return self.sample_rate / self.downsampling_ratio

    @property
    def feature_dim(self) -> int:
        """Size of the encoder feature that Table 1 probes: deepest channels x remaining bins (8192)."""
        return self.channels[-1] * (self.n_bins // self.frequency_downsampling)

    def replace(self, **changes: Any) -> Music2LatentConfig:
        """A copy with fields changed; an unknown field raises `ConfigError`."""
        return from_dict({**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in the form JSON gives back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def to_json(self) -> str:
        """Indented JSON, one field a line, as saved beside the weights."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


#: Field -> least and greatest value; of whole numbers unless a bound is a float. A config is data from anywhere: it
#: must not make building or running a model take for ever, or more memory than there is.
_BOUNDS: dict[str, tuple[float, float]] = {
    "sample_rate": (100, 3_072_000),
    "hop_length": (1, 65_536),
    "alpha": (1e-6, 1.0),
    "beta": (1e-6, 1e6),
    "sigma_min": (1e-9, 1e9),
    "sigma_max": (1e-9, 1e9),
    "sigma_data": (1e-9, 1e9),
    "rho": (1e-3, 1e3),
    "p_mean": (-1e3, 1e3),
    "p_std": (1e-6, 1e3),
    "base_channels": (1, 16_384),
    "channel_mults": (1, 1_024),
    "unet_blocks": (0, 100),
    "autoencoder_blocks": (0, 100),
    "attention_heads": (1, 1_024),
    "downsampling": (1, 64),
    "cond_channels": (4, 16_384),
    "bottleneck_channels": (1, 16_384),
    "bottleneck_blocks": (0, 100),
    "latent_dim": (1, 16_384),
    "latent_scale": (1e-9, 1e9),
}
_MAX_LEVELS, _MAX_BLOCKS, _MAX_CHANNELS, _MAX_RATIO = 16, 400, 16_384, 2**20


def _tuple(field: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{field} must be a list, not {_short(value)}")
    if len(value) > _MAX_LEVELS:
        raise ConfigError(f"{field} has {len(value)} entries; at most {_MAX_LEVELS} levels")
    return tuple(value)


def _check_numbers(field: str, value: Any, least: float, most: float) -> None:
    if field == "downsampling" and any(len(pair) != 2 for pair in value):
        raise ConfigError("downsampling must be pairs of factors: frequency, time")
    values = value if isinstance(value, tuple) else (value,)
    for one in (number for part in values for number in (part if isinstance(part, tuple) else (part,))):
        whole = isinstance(least, int)
        if isinstance(one, bool) or not isinstance(one, int if whole else (int, float)):
            raise ConfigError(f"{field} must be a {'whole ' if whole else ''}number, not {_short(one)}")
        if not least <= one <= most:  # False for NaN too
            raise ConfigError(f"{field} must be {least:g} … {most:g}, not {_short(one)}")


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _product(factors: Any) -> int:
    result = 1
    for factor in factors:
        result *= factor
    return result


_FIELDS = {field.name for field in dataclasses.fields(Music2LatentConfig)}


def from_dict(values: dict[str, Any]) -> Music2LatentConfig:
    """The config with these fields, defaults for the rest.

    Raises:
        ConfigError: for a field that does not exist (the nearest name is given) or a value that fits none.
    """
    for key in values:
        if key not in _FIELDS:
            hint = did_you_mean(str(key), _FIELDS, "help(m2l.config.Music2LatentConfig) lists those known")
            raise ConfigError(f"unknown config field {_short(key)}; {hint}")
    try:
        return Music2LatentConfig(**values)
    except ConfigError:
        raise
    except (TypeError, AttributeError, ValueError) as error:
        raise ConfigError(f"bad config value: {error}") from error


def from_json(text: str) -> Music2LatentConfig:
    """Inverse of `Music2LatentConfig.to_json`.

    Raises:
        ConfigError: for a text that is no JSON object, or describes no model.
    """
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ConfigError("config is nested too deeply") from error
    except ValueError as error:
        raise ConfigError(f"config is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"config must be a JSON object, not {type(values).__name__}")
    return from_dict(values)


_PAPER = Music2LatentConfig()

# Table 3 of the paper: the base model has neither attention nor frequency scaling, and a last multiplier of 5
# makes up for the parameters that attention had (Sec. 5.4).
_TABLE3_BASE = _PAPER.replace(
    name="table3-base", channel_mults=(1, 2, 4, 4, 5), attention=(False,) * 5, frequency_scaling=False
)
_TABLE3_ATTENTION = _PAPER.replace(name="table3-attention", frequency_scaling=False)
_TABLE3_SCALING = _PAPER.replace(name="table3-scaling")

_SMALL = {"cond_channels": 128, "bottleneck_channels": 256, "unet_blocks": (1, 1, 2, 2, 2)}

# Models that two CPU cores can train. The top level (1024 bins) holds next to no weights, but its maps are most of
# a step's memory traffic: so it is narrow, and only the UNet has blocks there. (Without those blocks it does not even
# learn to pass its input on.) Attention costs more than it holds at 128 bins, and stays at the two deepest levels. A
# short run cannot wait for high noise to come up by chance: half of its levels lie above 1 (p_mean), where the
# latents matter most.
_MINI = _PAPER.replace(
    name="mini",
    p_mean=0.5,
    base_channels=4,
    channel_mults=(1, 4, 8, 12, 16),
    unet_blocks=(1, 1, 1, 1, 1),
    autoencoder_blocks=(0, 1, 1, 1, 1),
    attention=(False, False, False, True, True),
    cond_channels=64,
    bottleneck_channels=192,
    bottleneck_blocks=2,
)
# Table 3's three rows with a narrower bottleneck; the base model's last multiplier makes up, as in the paper, for
# the parameters of the attention it lacks.
_TABLE3_MINI = _MINI.replace(name="table3-mini-scaling", bottleneck_channels=128)

_PRESETS: dict[str, Music2LatentConfig] = {
    "paper": _PAPER,
    "table3-base": _TABLE3_BASE,
    "table3-attention": _TABLE3_ATTENTION,
    "table3-scaling": _TABLE3_SCALING,
    # The paper's layout at half its width. The top level (1024 bins) holds few weights but most of the
    # activations, so it gets one block where the paper has two.
    "small": _PAPER.replace(name="small", base_channels=32, **_SMALL),
    "mini": _MINI,
    "table3-mini-base": _TABLE3_MINI.replace(
        name="table3-mini-base", channel_mults=(1, 4, 8, 12, 17), attention=(False,) * 5, frequency_scaling=False
    ),
    "table3-mini-attention": _TABLE3_MINI.replace(name="table3-mini-attention", frequency_scaling=False),
    "table3-mini-scaling": _TABLE3_MINI,
    # For tests and smoke runs: every kind of layer, almost no weights.
    "tiny": _PAPER.replace(
        name="tiny",
        base_channels=4,
        channel_mults=(1, 1, 2, 2, 2),
        unet_blocks=(1, 1, 1, 1, 1),
        cond_channels=16,
        bottleneck_channels=32,
        bottleneck_blocks=1,
    ),
}


def list_configs() -> list[str]:
    """Names of the presets."""
    return list(_PRESETS)


def create_config(name: str, overlay: str | Path | dict[str, Any] | None = None) -> Music2LatentConfig:
    """The preset `name`, with a TOML file's (or a dict's) fields laid over it.

    Raises:
        ConfigError: for an unknown preset (the nearest name is given), a field that does not exist, or a
            file that is not TOML.
        OSError: if the file cannot be read.
    """
    if name not in _PRESETS:
        raise ConfigError(f"unknown preset {name!r}; {did_you_mean(name, _PRESETS)}")
    config = _PRESETS[name]
    if overlay is None:
        return config
    if not isinstance(overlay, dict):
        path = Path(overlay)
        try:
            overlay = tomllib.loads(path.read_text(encoding="utf-8"))
        except RecursionError as error:
            raise ConfigError(f"{path} is nested too deeply") from error
        except ValueError as error:  # no TOML, or no text
            raise ConfigError(f"{path} is not TOML: {error}") from error
    return config.replace(**overlay)
