"""A model as two ONNX graphs, audio to latents and back, of any length and batch; needs the extra `onnx`.

    encoder.onnx    audio (batch, samples)                          -> latents (batch, latent_dim, length)
    decoder.onnx    latents, noise (batch, 2, n_bins, 8 length)     -> audio (batch, samples)

`samples` is 4,096 length + 3 hops, at the model's rate: pad audio by 3 hops in front, as `Music2Latent.encode` does,
and with zeros behind. Noise has unit variance; the decoder takes one step, as the paper does. Long signals need
windows.

ONNX has no complex numbers, so both transforms are convolutions with the windowed sines and cosines of the bins,
which each graph holds (16 MB for an FFT of 2,048). The graphs come from torch's exporter by tracing: the one by
`torch.export` takes twenty times as long for the same graph, and needs a further package.
"""

from __future__ import annotations

import importlib.util
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2l import consistency
from m2l.config import Music2LatentConfig
from m2l.io.atomic import write_atomic, written_beside
from m2l.model import Music2Latent
from m2l.representation import n_samples, synthesis_window, window

#: Largest difference from torch that an exported graph may have, as a share of the largest value in torch's.
TOLERANCE = 1e-4
_OPSET = 17
#: Latents and items of the example that is traced, and of those that the graphs are tried on.
_EXAMPLE, _TRIALS = (1, 2), ((1, 2), (2, 7), (1, 27))


class GraphError(RuntimeError):
    """A model cannot be exported here: packages are missing, or a graph does not give torch's numbers."""


def export_graphs(model: Music2Latent, folder: Path, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Write `encoder.onnx`, `decoder.onnx` and `config.json`; every graph is run beside torch before it is kept.

    Args:
        model: in float32, on the CPU.
        folder: made if need be.
        say: called with a line before each graph.

    Returns:
        By graph: its bytes, the largest difference from torch relative to the largest value, and the milliseconds that
        10 s of audio take in onnxruntime and in torch, with one thread.

    Raises:
        GraphError: onnx or onnxruntime is not installed, or a graph's numbers are not torch's.
        ValueError: a model of another precision.
    """
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise GraphError(f"{package} is not installed: pip install 'm2l[onnx]'")
    if model.dtype != torch.float32 or model.device.type != "cpu":
        raise ValueError(f"the model must be in float32 on the CPU, not {model.dtype} on {model.device}")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "config.json", model.config.to_json().encode())
    found: dict[str, Any] = {}
    for name, graph in (("encoder", EncoderGraph(model)), ("decoder", DecoderGraph(model))):
        say(f"{name}: writing the graph, and running it beside torch")
        with written_beside(folder / f"{name}.onnx") as beside:
            _trace(graph.eval(), beside)
            found[name] = {"bytes": Path(beside).stat().st_size, **_compare(graph, beside)}
            if found[name]["difference"] > TOLERANCE:
                raise GraphError(f"{name}: the graph is {found[name]['difference']:.1e} off torch's numbers")
    return found


class EncoderGraph(nn.Module):
    """Audio (B, samples) -> latents (B, latent_dim, L), as `Music2Latent.encode` scales them."""

    bins: Tensor
    inputs: ClassVar[dict[str, dict[int, str]]] = {"audio": {0: "batch", 1: "samples"}}
    output = ("latents", {0: "batch", 2: "length"})

    def __init__(self, model: Music2Latent) -> None:
        super().__init__()
        self.config, self.encoder = model.config, model.encoder
        self.register_buffer("bins", _sinusoids(model.config) * window(model.config.n_fft, model.device))

    def forward(self, audio: Tensor) -> Tensor:
        config = self.config
        spectrum = F.conv1d(audio[:, None], self.bins[:, None], stride=config.hop_length)
        parts = spectrum.reshape(spectrum.shape[0], 2, config.n_bins, spectrum.shape[2])
        power = parts.square().sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        return self.encoder(parts * (config.beta * power.pow((config.alpha - 1) / 2))) / config.latent_scale

    def example(self, items: int, length: int) -> tuple[Tensor, ...]:
        """Decaying notes with a little noise, for so many latents."""
        samples = n_samples(length * self.config.time_downsampling, self.config)
        time = torch.arange(samples) / self.config.sample_rate
        pitches = 110 * 2 ** (torch.arange(items)[:, None] * 5 / 12)
        notes = sum(torch.sin(2 * math.pi * k * pitches * time) / k for k in range(1, 5))
        noise = torch.randn(items, samples, generator=torch.Generator().manual_seed(0))
        return (0.1 * notes * torch.exp(-3 * (time % 0.4)) + 0.002 * noise,)


class DecoderGraph(nn.Module):
    """Latents (B, latent_dim, L) and unit noise (B, 2, n_bins, T) -> audio (B, samples), in one step."""

    bins: Tensor
    inputs: ClassVar[dict[str, dict[int, str]]] = {
        "latents": {0: "batch", 2: "length"},
        "noise": {0: "batch", 3: "frames"},
    }
    output = ("audio", {0: "batch", 1: "samples"})

    def __init__(self, model: Music2Latent) -> None:
        super().__init__()
        config = model.config
        self.config, self.decoder, self.unet = config, model.decoder, model.unet
        # The inverse of a real transform: all bins but the first stand for their mirror images too.
        share = torch.full((2, config.n_bins, 1), 2.0 / config.n_fft)
        share[:, 0] /= 2
        bins = (
            _sinusoids(config) * share.flatten(0, 1) * synthesis_window(config.n_fft, config.hop_length, model.device)
        )
        self.register_buffer("bins", bins)

    def forward(self, latents: Tensor, noise: Tensor) -> Tensor:
        config = self.config
        maps = self.decoder(latents * config.latent_scale)
        level = noise.new_full((1,), config.sigma_max).expand(noise.shape[0])
        made = consistency.denoise(self.unet, config.sigma_max * noise, level, maps, config) / config.beta
        power = made.square().sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        spectrum = (made * power.pow((1 / config.alpha - 1) / 2)).flatten(1, 2)
        return F.conv_transpose1d(spectrum, self.bins[:, None], stride=config.hop_length)[:, 0].clamp(-1.0, 1.0)

    def example(self, items: int, length: int) -> tuple[Tensor, ...]:
        """Latents and noise of a normal distribution."""
        config, generator = self.config, torch.Generator().manual_seed(0)
        shape = (items, 2, config.n_bins, length * config.time_downsampling)
        latents = torch.randn(items, config.latent_dim, length, generator=generator)
        return latents, torch.randn(shape, generator=generator)


def _sinusoids(config: Music2LatentConfig) -> Tensor:
    """(2 n_bins, n_fft): cosines, then minus sines, of all bins; angles in float64."""
    angle = torch.arange(config.n_bins)[:, None] * torch.arange(config.n_fft) % config.n_fft
    radians = angle.double() * (2 * math.pi / config.n_fft)
    return torch.cat([radians.cos(), -radians.sin()]).float()


@torch.no_grad()
def _trace(graph: Any, path: Any) -> None:
    name, axes = graph.output
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tests that are the same for every size
        torch.onnx.export(
            graph,
            graph.example(*_EXAMPLE),
            str(path),
            input_names=list(graph.inputs),
            output_names=[name],
            dynamic_axes=graph.inputs | {name: axes},
            opset_version=_OPSET,
            dynamo=False,
        )


@torch.no_grad()
def _compare(graph: Any, path: Any) -> dict[str, float]:
    """The largest relative difference over several lengths and batches, and what 10 s cost on either side."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(given: tuple[Tensor, ...]) -> Tensor:
        fed = {name: x.numpy() for name, x in zip(graph.inputs, given, strict=True)}
        return torch.from_numpy(session.run(None, fed)[0])

    worst = 0.0
    for trial in _TRIALS:
        given = graph.example(*trial)
        wanted = graph(*given)
        worst = max(worst, float((run(given) - wanted).abs().max() / wanted.abs().max()))
    ten = graph.example(1, math.ceil(10 * graph.config.latent_rate))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = {"onnxruntime_ms": _milliseconds(lambda: run(ten)), "torch_ms": _milliseconds(lambda: graph(*ten))}
    finally:
        torch.set_num_threads(threads)
    return {"difference": worst, **times}


def _milliseconds(call: Callable[[], Any]) -> float:
    """The faster of two calls, after one that is not timed."""
    call()
    found = []
    for _ in range(2):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return round(1000 * min(found), 1)
