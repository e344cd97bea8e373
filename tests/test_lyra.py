"""Lyra v2: framing, codebooks and state around a stand-in for its models; marked `shared`, the models themselves."""

from __future__ import annotations

import importlib.machinery
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.autoencoders import create_autoencoder
from benchmarks.autoencoders.lyra import FRAME, RATES, Lyra
from benchmarks.metrics.si_sdr import si_sdr
from benchmarks.weights.find import WeightsNotFoundError
from benchmarks.weights.table import WEIGHTS
from m2l.audio import resample


class Interpreter:
    """Models that carry state: the encoder adds up levels, the decoder plays its feature plus its number of calls."""

    def __init__(self, model_path: str, num_threads: int) -> None:
        self.kind, self.calls = Path(model_path).stem, 0

    def allocate_tensors(self) -> None: ...

    def get_input_details(self) -> list[dict[str, int]]:
        return [{"index": 0}]

    get_output_details = get_input_details

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        self.value = value

    def invoke(self) -> None:
        self.calls += 1

    def get_tensor(self, index: int) -> np.ndarray:
        if self.kind == "soundstream_encoder":
            assert self.value.shape == (1, FRAME)
            return np.full((1, 1, 64), 15 * self.value.mean(), dtype=np.float32)
        return np.full((1, FRAME), self.value.mean() + 0.001 * self.calls, dtype=np.float32)

    def get_signature_runner(self, name: str) -> Any:
        def encode(input_frames: np.ndarray, num_quantizers: np.int32) -> dict[str, np.ndarray]:
            return {"output_0": np.full((46, 1, 1), round(float(input_frames.mean())), dtype=np.int32)}

        def decode(encoding_indices: np.ndarray) -> dict[str, np.ndarray]:
            assert encoding_indices.shape == (46, 1, 1)
            used = encoding_indices[encoding_indices >= 0]
            return {"output_0": np.full((1, 1, 64), len(used) / 100, dtype=np.float32)}

        return {"encode": encode, "decode": decode}[name]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files with the models' names, and a stand-in for the package that runs them."""
    package, module = types.ModuleType("ai_edge_litert"), types.ModuleType("ai_edge_litert.interpreter")
    package.__spec__ = importlib.machinery.ModuleSpec("ai_edge_litert", None)
    module.Interpreter = Interpreter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ai_edge_litert", package)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    for file in WEIGHTS["lyra-v2"].files:
        (tmp_path / file.basename).write_bytes(b"model")
    return tmp_path


@pytest.mark.parametrize("bitrate", RATES)
def test_codes_have_the_named_rate(models: Path, bitrate: int) -> None:
    system = Lyra(bitrate, str(models))
    codes = system.encode(np.full((2, 16000), 0.5, dtype=np.float32), 16000)
    assert codes.indices.shape == (2, 50, RATES[bitrate])
    assert codes.bitrate == 2 * bitrate
    audio = system.decode(codes, length=16000, sample_rate=16000)
    assert audio.shape == (2, 16000)
    assert audio[0, 0] == pytest.approx(RATES[bitrate] / 100 + 0.001), "codebooks beyond the rate are marked unused"


def test_every_channel_and_clip_begins_anew(models: Path) -> None:
    system = Lyra(9200, str(models))
    audio = np.full((2, 3200), 0.5, dtype=np.float32)
    first = system.reconstruct(audio, 16000)
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(first, system.reconstruct(audio, 16000))
    assert first[0, -1] - first[0, 0] == pytest.approx(0.009, abs=1e-6), "within a clip, state goes from frame to frame"


@pytest.mark.parametrize(("rate", "samples"), [(44100, 44101), (48000, 100), (8000, 8000)])
def test_shape_and_rate_are_those_of_the_input(models: Path, rate: int, samples: int) -> None:
    audio = np.full((1, samples), 0.1, dtype=np.float32)
    assert Lyra(3200, str(models)).reconstruct(audio, rate).shape == audio.shape


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    with pytest.raises(ValueError, match="3200, 6000, 9200 bits per second, not 4000"):
        Lyra(4000, str(models))
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "empty"))
    with pytest.raises(WeightsNotFoundError, match="m2l-bench fetch lyra-v2"):
        create_autoencoder("lyra-9.2k")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"m2l\[lyra\]"):
        create_autoencoder("lyra-9.2k")


@pytest.mark.shared
@pytest.mark.slow
def test_the_real_models_code_speech() -> None:
    """Aligned to the sample, and better with more bits: 5.1, 7.5 and 8.4 dB on Lyra's own sample."""
    pytest.importorskip("ai_edge_litert")
    data = Path(os.environ["M2L_DATA"])
    soundfile = pytest.importorskip("soundfile")
    audio, rate = soundfile.read(sorted((data / "speech").glob("*.ogg"))[0], dtype="float32", always_2d=True)
    wide = np.ascontiguousarray(audio.T)
    target = resample(resample(wide, rate, 16000), 16000, rate)[:, : wide.shape[1]]
    scores = []
    for name in ("lyra-3.2k", "lyra-6k", "lyra-9.2k"):
        system = create_autoencoder(name, weights=str(data / "weights/lyra-v2"))
        output = system.reconstruct(wide, rate)[:, : target.shape[1]]
        scores.append(si_sdr(output, target))
    assert scores == sorted(scores)
    assert scores[-1] > 1
    np.testing.assert_array_equal(output, system.reconstruct(wide, rate)[:, : target.shape[1]])
