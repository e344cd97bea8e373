"""ONNX graphs: torch's numbers for every length and batch, and what is said where they cannot be made."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m2l.cli.main import main
from m2l.config import create_config
from m2l.graphs import DecoderGraph, EncoderGraph, GraphError, export_graphs
from m2l.model import Music2Latent
from m2l.representation import representation_to_waveform, waveform_to_representation

TINY = create_config("mini").replace(
    hop_length=64,
    base_channels=4,
    channel_mults=[1, 2, 2],
    downsampling=[[4, 1], [2, 2]],
    attention=[False, False, True],
    unet_blocks=[1, 1, 1],
    autoencoder_blocks=[1, 1, 1],
    bottleneck_channels=16,
    cond_channels=16,
    latent_dim=8,
    attention_heads=2,
)


def tiny_model() -> Music2Latent:
    """Random weights everywhere: those that start at zero would hide mistakes."""
    model = Music2Latent.from_config(TINY, seed=0).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Music2Latent, Path, dict[str, Any]]:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model, folder = tiny_model(), tmp_path_factory.mktemp("graphs")
    return model, folder, export_graphs(model, folder / "new", say=lambda line: None)


def test_the_graphs_modules_are_the_model() -> None:
    """The transforms as convolutions, against those by FFT, and the networks around them."""
    model = tiny_model()
    encoder, decoder = EncoderGraph(model), DecoderGraph(model)
    (audio,) = encoder.example(2, 3)
    wanted = model.encode_representation(waveform_to_representation(audio, TINY))
    torch.testing.assert_close(encoder(audio), wanted, atol=1e-4, rtol=1e-4)
    latents, noise = decoder.example(2, 3)
    wanted = representation_to_waveform(model.decode_representation(latents, noise), TINY)
    torch.testing.assert_close(decoder(latents, noise), wanted, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("items", "length"), [(1, 1), (3, 4), (2, 19)])
def test_the_graphs_give_torchs_numbers(exported: Any, items: int, length: int) -> None:
    import onnxruntime

    model, folder, found = exported
    for name, graph in (("encoder", EncoderGraph(model)), ("decoder", DecoderGraph(model))):
        given = graph.example(items, length)
        wanted = graph(*given).numpy()
        session = onnxruntime.InferenceSession(folder / "new" / f"{name}.onnx", providers=["CPUExecutionProvider"])
        fed = {put.name: x.numpy() for put, x in zip(session.get_inputs(), given, strict=True)}
        np.testing.assert_allclose(session.run(None, fed)[0], wanted, atol=1e-4 * np.abs(wanted).max())
        assert found[name]["bytes"] == (folder / "new" / f"{name}.onnx").stat().st_size
        assert found[name]["difference"] < 1e-4


@pytest.mark.slow
def test_graphs_decode_what_the_model_encodes(exported: Any) -> None:
    """`encode` and the graph agree on audio padded as the docstring says."""
    import onnxruntime

    model, folder, _ = exported
    audio = 0.1 * np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    wanted = model.encode(audio)
    samples = wanted.shape[-1] * TINY.downsampling_ratio + TINY.lead_samples
    padded = np.pad(audio, (TINY.lead_samples, samples - len(audio) - TINY.lead_samples))
    session = onnxruntime.InferenceSession(folder / "new" / "encoder.onnx")
    np.testing.assert_allclose(session.run(None, {"audio": padded[None]})[0][0], wanted, atol=1e-3)


@pytest.mark.slow
def test_export_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    tiny_model().save_pretrained(tmp_path / "tiny")
    assert main(["export", str(tmp_path / "tiny"), "--format", "onnx", "-o", str(tmp_path / "graphs")]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"encoder", "decoder"}
    assert sorted(path.name for path in (tmp_path / "graphs").iterdir()) == [
        "config.json",
        "decoder.onnx",
        "encoder.onnx",
    ]


def test_a_missing_package_and_a_model_in_half_precision_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="bfloat16"):
        export_graphs(tiny_model().to(torch.bfloat16), tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GraphError, match=r"onnx is not installed: pip install 'm2l\[onnx\]'"):
        export_graphs(tiny_model(), tmp_path)
    assert main(["export", "random:mini", "--format", "onnx", "-o", str(tmp_path / "x")]) == 3
    assert main(["export", "mini", "--format", "onnx", "--license", "MIT", "-o", str(tmp_path / "x")]) == 2
    assert "leave out the options of the card" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_graph_with_other_numbers_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("m2l.graphs._trace", lambda graph, path: Path(path).write_bytes(b"graph"))
    monkeypatch.setattr("m2l.graphs._compare", lambda graph, path: {"difference": 2e-4})
    with pytest.raises(GraphError, match=r"encoder: the graph is 2.0e-04 off torch's numbers"):
        export_graphs(tiny_model(), tmp_path / "graphs")
    assert [path.name for path in (tmp_path / "graphs").iterdir()] == ["config.json"]
