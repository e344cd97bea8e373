"""The published neural networks in full: parameters, listings, latents and probed layers, on the meta device."""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from typing import Any

import pytest
import torch
from neural_helpers import NEURAL, adapter, clip, perturbed

from benchmarks.autoencoders import AUTOENCODERS
from benchmarks.autoencoders.networks.mousai import MousaiNet, published_names
from benchmarks.autoencoders.networks.snac import SnacNet
from benchmarks.weights.table import WEIGHTS
from probes.representations import list_representations

#: Parameters, entries of the state dict, and the first 16 digits of the sha256 of its listing ("name (shape)"
#: lines) as read from the original packages; None where no listing is on record.
PUBLISHED: dict[str, tuple[int, int, str | None]] = {
    "dac-44khz": (76_620_777, 223, None),
    "encodec-48khz": (14_856_294, 224, "8860d0993ab8cc38"),
    "mimi": (79_308_609, 350, None),
    "musika": (4_790_336 + 3_984_960 + 6_639_303 + 12_673_291, 82, None),
    "mousai-v3": (86_270_688, 383 + 2, None),
    "mousai-v2": (185_107_872, 430, None),
    "stable-audio-vae": (156_112_514, 365, "0ed1a2627ec0d238"),
    "ace-step-vae": (168_695_426, 365, None),
    "ear-vae": (147_856_386, 386, None),
    "snac-44khz": (54_546_338, 286, "4896b22675990cc8"),
    "xcodec2": (629_281_706, 811, None),
    "same-l": (852_127_072, 447, "741722f7ed2620ee"),
    "same-s": (108_244_528, 231, None),
    "kvae-audio": (166_871_218, 308, None),
}


def listing(model: torch.nn.Module) -> str:
    lines = [f"{key} {tuple(value.shape)}" for key, value in model.state_dict().items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.filterwarnings("ignore")
def test_full_network_has_the_published_parameters(name: str) -> None:
    cls = adapter(name)
    with torch.device("meta"):
        model = cls.build(cls.config())
    n_parameters, entries, digest = PUBLISHED[name]
    assert sum(parameter.numel() for parameter in model.parameters()) == n_parameters == cls.n_parameters
    assert len(model.state_dict()) == entries
    assert digest is None or listing(model) == digest


@pytest.mark.parametrize(
    ("name", "latents", "features"),
    [
        ("musika", (1, 64), 768),
        ("mousai-v3", (1, 32), 512),
        ("mousai-v2", (1, 32), 512),
        ("dac-44khz", (1, 9), 1024),
        ("stable-audio-vae", (1, 64), 2048),
        ("ace-step-vae", (1, 64), 2048),
        ("ear-vae", (1, 64), 2048),
        ("snac-44khz", (1, 15), 1024),
        ("same-s", (1, 256), 768),
        ("same-l", (1, 256), 1536),
        ("kvae-audio", (1, 64), 2048),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_full_network_gives_the_published_latents_and_features(
    name: str, latents: tuple[int, int], features: int
) -> None:
    cls = adapter(name)
    system = cls(random_seed=0)
    with torch.device("meta"):
        system.__dict__["model"] = cls.build(cls.config()).eval()
    samples = 1 << 18 if name.startswith("mousai") else 24 * cls.multiple * (1 if cls.multiple > 1 else 4096)
    audio = torch.empty(1, 2 if cls.channels == "stereo" else 1, samples, device="meta")
    found = next(iter(system._encode(audio).values()))
    assert tuple(found.shape[:2]) == latents
    frames = samples / cls.sample_rate * cls.latent_rate
    # Musika's clip begins with three hops of silence and is coded in blocks of four latents.
    assert found.shape[2] == frames + (4 if name == "musika" else 0)
    assert tuple(system._features(audio).shape[:2]) == (1, features)


@pytest.mark.slow
def test_codicodec_has_the_published_listing() -> None:
    cls = adapter("codicodec")
    model = cls.build(cls.config())  # its quantizer computes with values, so not on the meta device
    assert sum(parameter.numel() for parameter in model.parameters()) == 148_533_388 == cls.n_parameters
    assert len(model.state_dict()) == 546
    assert listing(model) == "5e3ce717dc982046"


@pytest.mark.parametrize(
    ("name", "rate", "ratio"),
    [
        ("musika", 44100 / 4096, 64),
        ("mousai-v3", 93.75, 32),
        ("mousai-v2", 46.875, 64),
        ("codicodec", 48000 / 4096, 128),
        ("stable-audio-vae", 44100 / 2048, 64),
        ("ace-step-vae", 25, 60),
        ("ear-vae", 44100 / 1024, 32),
        ("same-s", 44100 / 4096, 32),
        ("same-l", 44100 / 4096, 32),
        ("kvae-audio", 50, 15),
    ],
)
def test_ratio_is_numbers_in_per_number_out(name: str, rate: float, ratio: float) -> None:
    cls = AUTOENCODERS.load(name)
    waveforms = 2 if cls.channels == "stereo" else 1
    assert cls.latent_rate == pytest.approx(rate)
    assert cls.sample_rate * waveforms / (cls.latent_rate * cls.latent_dim) == pytest.approx(ratio)
    assert cls.compression_ratio == ratio


@pytest.mark.parametrize("name", NEURAL)
def test_every_system_has_weights_on_record(name: str) -> None:
    source = WEIGHTS[name]
    assert source.license
    assert source.files
    assert name in list_representations()


def wave(name: str, like: torch.Tensor, size: float) -> torch.Tensor:
    """Values of a weight that follow from its published name."""
    ramp = torch.arange(like.numel()) * 0.37 + zlib.crc32(name.encode()) % 1000
    return size * ramp.sin().reshape(like.shape)


class Mix(torch.nn.Module):
    """A layer in which every token sees every other, recognisably."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.strength * x.mean(dim=1, keepdim=True) ** 2


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("latents", [4, 5])
@pytest.mark.filterwarnings("ignore")
def test_same_s_attends_to_pairs_of_latents_shifted_halfway(side: str, latents: int) -> None:
    cls = adapter("same-s")
    torch.manual_seed(0)
    block = getattr(cls.build(cls.config(True)), side).blocks[0]
    block.transformers = torch.nn.ModuleList([Mix(0.5), Mix(0.25)])
    block.new_tokens.data.normal_()
    stride, encoding = block.stride, side == "encoder"
    x = torch.randn(1, block.in_channels, latents * (stride if encoding else 1))

    # The same with loops: a segment per latent; pairs (0, 1), (2, 3), ...; then, with the first and the last
    # segment repeated, pairs (0, 0), (1, 2), ..., (n, n).
    whole = latents + latents % 2
    padded = torch.nn.functional.pad(x, (0, whole * (stride if encoding else 1) - x.shape[2]))
    rows = (block.mapping(padded) if encoding else padded)[0].T
    learned = block.new_tokens[0].expand(1 if encoding else stride, -1)
    size = stride if encoding else 1
    segments = [torch.cat([rows[i * size : (i + 1) * size], learned]) for i in range(whole)]

    def pairs(items: list[torch.Tensor], layer: torch.nn.Module) -> list[torch.Tensor]:
        found = []
        for first, second in zip(items[::2], items[1::2], strict=True):
            found += layer(torch.cat([first, second])[None])[0].chunk(2)
        return found

    segments = pairs(segments, block.transformers[0])
    segments = pairs([segments[0], *segments, segments[-1]], block.transformers[1])[1:-1]
    made = torch.cat([segment[-len(learned) :] for segment in segments]).T[None]
    expected = made if encoding else block.mapping(made)
    found = block(x)
    assert found.shape[2] == (latents if encoding else latents * stride)
    torch.testing.assert_close(found, expected[..., : found.shape[2]])


# ---- Moûsai: what no shape of a weight shows ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["mousai-v2", "mousai-v3"])
def test_mousais_latents_join_at_their_own_rate(name: str) -> None:
    config = adapter(name).config()
    encoder, unet = config["encoder"], config["unet"]
    samples = unet["stride"] * math.prod(unet["factors"][: unet["inject_depth"] + 1])
    assert samples == encoder["hop"] * math.prod(encoder["factors"]), "samples per vector of the latents"


def test_mousai_v2_computes_what_its_authors_packages_compute() -> None:
    """A small network of v2's kind, stride 64 included, with weights that follow from their published names.

    Expected values: audio-diffusion-pytorch 0.1.3, a-unet 0.0.16 and audio-encoders-pytorch 0.0.22 with the same
    weights (DiffusionAE, LTPlugin(UNetV0, num_filters=4, window_length=64, stride=64), ME1d), 3 steps.
    """
    net = MousaiNet(
        encoder={
            "front": "magnitude", "n_fft": 63, "hop": 32, "latent": 4,
            "channels": 16, "factors": [2, 2], "n_blocks": [1, 2],
        },
        unet={
            "channels": [8, 16, 16], "factors": [1, 2, 2], "items": [1, 1, 2], "inject_depth": 1,
            "modulation": 16, "filters": 4, "window": 64, "stride": 64,
        },
    )  # fmt: skip
    own = net.state_dict()
    for key, names in published_names(net).items():
        if not key.startswith("encoder.front"):
            own[key].copy_(wave(names[0], own[key], 0.2))
    time = torch.arange(2 * 4096).reshape(1, 2, 4096)
    with torch.no_grad():
        latents = net.encoder(0.3 * (time * 0.05).sin())
        audio = net.sample((time * 1.7).sin(), latents, 3)
    assert latents.shape == (1, 4, 32)
    assert latents.flatten()[:4].tolist() == pytest.approx([-0.215772, -0.173777, -0.161563, -0.160830], abs=2e-5)
    assert audio.flatten()[[0, 1000, 5000, 8000]].tolist() == pytest.approx(
        [-1.976961, 1.634401, 2.586760, -2.369785], abs=2e-4
    )


# ---- εar-VAE and SNAC: our networks against those of their authors ------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_ear_vae_has_the_published_names_and_shapes() -> None:
    """The authors' `EAR_VAE` with the published configuration, on the meta device."""
    cls = adapter("ear-vae")
    from benchmarks.autoencoders.networks.ear_vae import published_shapes

    with torch.device("meta"):
        shapes = published_shapes(cls.build(cls.config()))  # type: ignore[arg-type]
    lines = [f"{key} {shape}" for key, shape in sorted(shapes.items())]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == "14cfb2d820788c45"


@pytest.mark.filterwarnings("ignore")
def test_ear_vae_computes_what_its_authors_code_computes() -> None:
    """Expected values: `EAR_VAE` of the authors' repository (15a804b) with the same weights, means decoded."""
    cls = adapter("ear-vae")
    from benchmarks.autoencoders.networks.ear_vae import from_published, published_shapes

    net: Any = cls.build(cls.config() | {"multiples": [1, 1, 1, 1, 1]})
    state = {}
    for name, shape in published_shapes(net).items():
        first = re.sub(r"layers\.2\.(alpha|beta)$", r"layers.0.\1", name)  # one activation under two names
        state[name] = torch.zeros(shape) if "norm.beta" in name else wave(first, torch.empty(shape), 0.4)
    state["transformers.rotary_pos_emb.inv_freq"] = net.transformers.rotary_pos_emb.inv_freq
    net.load_state_dict(from_published(state, net))
    time = torch.arange(2 * 8192).reshape(1, 2, 8192)
    with torch.no_grad():
        latents = net.encode(0.3 * (time * 0.31).sin() + 0.2 * (time * 0.0173).cos())
        audio = net.decode(latents)
    assert latents.shape == (1, 64, 8)
    assert latents.flatten()[:4].tolist() == pytest.approx([0.103006, 0.093426, 0.053722, 0.053646], abs=2e-6)
    assert audio.flatten()[[0, 1000, 5000, 16000]].tolist() == pytest.approx(
        [0.258980, 0.250147, 0.250152, -0.302549], abs=1e-5
    )


def test_snac_computes_what_the_package_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the package `snac` 1.2.1: the same codes, and audio within 2e-6, its noise drawn from our generator."""
    snac = pytest.importorskip("snac")
    config = adapter("snac-44khz").config(True)
    torch.manual_seed(0)
    theirs = perturbed(snac.SNAC(sampling_rate=44100, noise=True, depthwise=True, **config).eval())
    ours = SnacNet(**config).eval()
    ours.load_state_dict(theirs.state_dict())
    audio = torch.from_numpy(clip(1, 3 * 12288, 44100))[None]
    generator, draw = torch.Generator().manual_seed(5), torch.randn
    with torch.no_grad():
        codes = ours.encode(audio)
        made = ours.decode(codes, torch.Generator().manual_seed(5))
        expected = theirs.encode(audio)
        monkeypatch.setattr(torch, "randn", lambda size, **options: draw(size, generator=generator))
        torch.testing.assert_close(made, theirs.decode(expected), atol=2e-6, rtol=0)
    for rows, level in zip(codes.split([1, 2, 4, 8], dim=1), expected, strict=True):
        assert torch.equal(rows.transpose(1, 2).flatten(1), level)


def test_snac_with_weights_drawn_by_name() -> None:
    """Expected values: the package `snac` 1.2.1 with the same weights and the same noise."""
    net = SnacNet(**adapter("snac-44khz").config(True)).eval()
    for name, value in net.state_dict().items():
        if name.endswith(("bias", "alpha", "original0")):
            gain = 0.5 if name.startswith("decoder") else 1.0
            value.fill_(0.0 if name.endswith("bias") else gain if name.endswith("original0") else 1.0)
        elif not name.endswith(("inv_freq", "norm.weight")):
            draws = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            value.copy_(0.2 * torch.randn(value.shape, generator=draws))
    audio = (torch.arange(12288, dtype=torch.float64).reshape(1, 1, -1) ** 2 * 2e-5).sin().float()
    with torch.no_grad():
        codes = net.encode(audio)
        made = net.decode(codes, torch.Generator().manual_seed(5))
    assert codes.shape == (1, 15, 4)
    assert codes[0, :, 0].tolist() == [0, 1, 10, 0, 11, 7, 0, 7, 10, 5, 0, 12, 13, 2, 14]
    assert codes[0, :, 3].tolist() == [14, 11, 15, 9, 12, 7, 6, 9, 13, 13, 11, 4, 11, 11, 11]
    assert made.flatten()[[0, 1000, 5000, 12000]].tolist() == pytest.approx(
        [0.0023852, -0.0217945, 0.0409100, 0.0176032], abs=2e-5
    )
