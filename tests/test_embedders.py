"""VGGish and CLAP: front ends, strict loading, outputs equal to the original implementations, windows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_weights import GOLDEN, notes, published_listing, write_clap, write_vggish

from benchmarks.embedders import (
    Embedder,
    ShortClipError,
    create_embedder,
    embedder_entry,
    embedder_spec,
    embedder_status,
    list_embedders,
)
from benchmarks.embedders.clap import (
    WINDOW,
    audio_state,
    clap_mel_matrix,
    fit_window,
    published_shapes,
    sliding_windows,
)
from benchmarks.embedders.frontends import clap_log_mel, musicnn_log_mel, vggish_log_mel
from benchmarks.embedders.vggish import published_shapes as vggish_shapes
from benchmarks.registry import UnknownNameError
from benchmarks.weights.find import WeightsNotFoundError
from benchmarks.weights.table import CLAP_TOWERS
from m2l.io.torch_files import CheckpointError, read_pickled

CLAP = "clap-630k-audioset-best@file"


@pytest.fixture(scope="module")
def vggish_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vggish(tmp_path_factory.mktemp("weights") / "vggish.pth")


@pytest.fixture(scope="module")
def clap_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clap(tmp_path_factory.mktemp("weights") / "clap.pt", "HTSAT-tiny")


# Front ends, against direct implementations: loops over frames and bands, float64.


def frames_of(audio: np.ndarray, length: int, hop: int) -> list[np.ndarray]:
    return [audio[i : i + length] for i in range(0, len(audio) - length + 1, hop)]


def hann(length: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def triangle(x: float, left: float, center: float, right: float) -> float:
    if left < x <= center:
        return (x - left) / (center - left)
    return (right - x) / (right - center) if center < x < right else 0.0


def slaney_hz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def slaney_mel(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)


def slaney_bank(rate: int, n_fft: int, bands: int, low: float, high: float) -> np.ndarray:
    edges = [slaney_hz(m) for m in np.linspace(slaney_mel(low), slaney_mel(high), bands + 2)]
    bank = np.zeros((n_fft // 2 + 1, bands))
    for k in range(len(bank)):
        for b in range(bands):
            height = 2 / (edges[b + 2] - edges[b])
            bank[k, b] = height * triangle(k * rate / n_fft, *edges[b : b + 3])
    return bank


def direct_vggish(audio: np.ndarray) -> np.ndarray:
    def mel(hz: float) -> float:
        return 1127 * np.log(1 + hz / 700)

    edges = np.linspace(mel(125), mel(7500), 66)
    bank = np.zeros((257, 64))
    for k in range(1, 257):
        for b in range(64):
            bank[k, b] = triangle(mel(k * 16000 / 512), *edges[b : b + 3])
    windowed = [frame * hann(400) for frame in frames_of(audio.astype(np.float64), 400, 160)]
    return np.log(np.array([np.abs(np.fft.rfft(frame, 512)) @ bank for frame in windowed]) + 0.01)


def direct_musicnn(audio: np.ndarray) -> np.ndarray:
    padded = np.pad(audio.astype(np.float64), 256)
    bank = slaney_bank(16000, 512, 96, 0, 8000)
    power = [np.abs(np.fft.rfft(frame * hann(512))) ** 2 for frame in frames_of(padded, 512, 256)]
    return np.log10(10000 * (np.array(power) @ bank) + 1)


def direct_clap(audio: np.ndarray) -> np.ndarray:
    padded = np.pad(audio.astype(np.float64), 512, mode="reflect")
    bank = slaney_bank(48000, 1024, 64, 50, 14000).astype(np.float32)
    power = [np.abs(np.fft.rfft(frame * hann(1024))) ** 2 for frame in frames_of(padded, 1024, 480)]
    return 10 * np.log10(np.maximum(np.array(power) @ bank.astype(np.float64), 1e-10))


def signals(rate: int) -> dict[str, np.ndarray]:
    time = np.arange(rate * 2) / rate
    return {
        "notes": notes(rate, 2.0),
        "noise": np.random.default_rng(0).standard_normal(2 * rate).astype(np.float32),
        "silence": np.zeros(2 * rate, np.float32),
        "loud sine": (0.99 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32),
    }


@pytest.mark.parametrize("signal", ["notes", "noise", "silence", "loud sine"])
@pytest.mark.parametrize(
    ("rate", "front_end", "direct", "db"),
    [
        (16000, vggish_log_mel(), direct_vggish, 20 / np.log(10)),
        (16000, musicnn_log_mel(), direct_musicnn, 10.0),
        (48000, clap_log_mel(torch.from_numpy(clap_mel_matrix())), direct_clap, 1.0),
    ],
    ids=["vggish", "musicnn", "clap"],
)
def test_front_end_within_1e_4_db_of_a_direct_one(rate, front_end, direct, db: float, signal: str) -> None:
    audio = signals(rate)[signal]
    ours, wanted = front_end(torch.from_numpy(audio)).numpy(), direct(audio)
    assert ours.shape == wanted.shape
    assert db * np.abs(ours - wanted).max() < 1e-4


# Strict loading


def test_published_listings_are_complete() -> None:
    listing = published_listing()
    for tower in ("HTSAT-tiny", "HTSAT-base"):
        assert published_shapes(tower) == listing[tower]
    pca = {"pproc.pca_eigen_vectors", "pproc.pca_means"}
    assert vggish_shapes() == {key: shape for key, shape in listing["VGGish"].items() if key not in pca}
    with pytest.raises(ValueError, match="HTSAT-huge"):
        published_shapes("HTSAT-huge")


@pytest.mark.parametrize("pca", [False, True])
def test_vggish_loads_with_and_without_the_pca_entries(tmp_path: Path, pca: bool) -> None:
    embedder = create_embedder("vggish", weights=write_vggish(tmp_path / "v.pth", pca))
    assert embedder.embed(notes(16000, 1.0)).shape == (1, 128)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio_branch__norm__weight": None}, "missing 1: audio_branch.norm.weight"),
        ({"audio_branch__norm__wait": torch.ones(3)}, "unknown 1: audio_branch.norm.wait"),
        ({"audio_projection__2__bias": torch.ones(3)}, r"audio_projection.2.bias is \(3,\), published \(512,\)"),
        (
            {"audio_branch__layers__0__blocks__0__attn__relative_position_index": torch.zeros(64, 64)},
            "relative positions are numbered differently",
        ),
        (
            {"audio_branch__spectrogram_extractor__stft__conv_real__weight": torch.ones(513, 1, 1024)},
            r"stft\.conv_real\.weight holds other values than those that are computed",
        ),
        (
            {"audio_branch__layers__1__blocks__1__attn_mask": torch.zeros(16, 64, 64)},
            r"layers\.1\.blocks\.1\.attn_mask holds other values",
        ),
    ],
)
def test_clap_names_what_differs(tmp_path: Path, changes: dict, message: str) -> None:
    embedder = create_embedder(CLAP, weights=write_clap(tmp_path / "c.pt", "HTSAT-tiny", **changes))
    with pytest.raises(CheckpointError, match=message):
        embedder.embed(notes(48000, 1.0))


def test_the_wrong_tower_is_refused(clap_file: Path) -> None:
    embedder = create_embedder("clap-music_audioset_epoch_15_esc_90.14@file", weights=clap_file)
    with pytest.raises(CheckpointError, match=r"missing \d+: audio_branch.layers.2.blocks.6"):
        embedder.embed(notes(48000, 1.0))


def test_vggish_names_what_differs(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.ones(64, 1, 3, 3)}, tmp_path / "v.pth")
    with pytest.raises(CheckpointError, match=r"missing 17: features.0.bias, .* and 9 more"):
        create_embedder("vggish", weights=tmp_path / "v.pth").embed(notes(16000, 1.0))


class Payload:
    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(Payload.target),))

    target: Path


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    Payload.target = tmp_path / "was here"
    torch.save({"state_dict": {}, "epoch": Payload()}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match=r"bad\.pt"):
        read_pickled(tmp_path / "bad.pt", any_form=True)
    assert not Payload.target.exists()
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match=r"text\.pt"):
        read_pickled(tmp_path / "text.pt", any_form=True)
    with pytest.raises(CheckpointError, match="no state dict"):
        audio_state([1, 2], "a list")


# Outputs


def test_vggish_equals_torchvggish(vggish_file: Path) -> None:
    """Golden values by torchvggish 0.2 on the same weights (tests/golden/make_embeddings.py)."""
    wanted = np.load(GOLDEN / "embeddings.npz")["vggish"]
    embedder = create_embedder("vggish", weights=vggish_file)
    # Values up to 1 in float32, whose last digits are the processor's.
    assert embedder.embed(notes(16000, 3.0)) == pytest.approx(wanted, abs=5e-6)
    assert np.abs(embedder.embed(notes(16000, 3.0, seed=1)) - wanted).max() > 1e-3


@pytest.mark.parametrize("tower", ["HTSAT-tiny", pytest.param("HTSAT-base", marks=pytest.mark.slow)])
def test_clap_equals_laion_clap(tmp_path: Path, tower: str) -> None:
    """Golden values by laion-clap 1.1.7's HTSAT on the same weights (tests/golden/make_embeddings.py)."""
    wanted = np.load(GOLDEN / "embeddings.npz")[tower]
    stem = next(stem for stem, size in CLAP_TOWERS.items() if size == tower)
    embedder = create_embedder(f"clap-{stem}@file", weights=write_clap(tmp_path / "c.pt", tower))
    embedding = embedder.embed(notes(48000, 10.0))
    assert embedding.shape == (1, 512)
    assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-6)
    assert embedding[0] == pytest.approx(wanted, abs=1e-5)
    assert np.abs(embedder.embed(notes(48000, 10.0, seed=1))[0] - wanted).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "rate"), [("vggish", 16000), (CLAP, 48000), ("clap-630k-audioset-best@10s-1s", 48000)]
)
def test_embeddings_are_deterministic_and_independent_of_the_batch(
    name: str, rate: int, vggish_file: Path, clap_file: Path
) -> None:
    embedder = create_embedder(name, weights=vggish_file if name == "vggish" else clap_file, device="cpu")
    assert isinstance(embedder, Embedder)
    clips = [notes(rate, seconds, seed=i) for i, seconds in enumerate((1.0, 1.2))]
    together = embedder.embed_batch(clips)
    embedder.close()
    for clip, embedding in zip(clips, together, strict=True):
        assert embedding.dtype == np.float32
        assert embedding.shape[1] == embedder.dim
        assert np.array_equal(embedder.embed(clip), embedding)


# Windows


@pytest.mark.parametrize(("samples", "windows"), [(15600, 1), (30959, 1), (30960, 2), (160000, 10)])
def test_vggish_drops_the_incomplete_window(vggish_file: Path, samples: int, windows: int) -> None:
    embedder = create_embedder("vggish", weights=vggish_file)
    assert embedder._windows(torch.zeros(samples)).shape == (windows, 96, 64)  # type: ignore[attr-defined]


def test_clips_that_cannot_be_embedded_say_why(vggish_file: Path, clap_file: Path) -> None:
    vggish = create_embedder("vggish", weights=vggish_file)
    with pytest.raises(ShortClipError, match=r"0.975 s is too short|0.970 s is too short"):
        vggish.embed(np.zeros(15520, np.float32))
    for embedder in (vggish, create_embedder(CLAP, weights=clap_file)):
        with pytest.raises(ShortClipError, match="no samples"):
            embedder.embed(np.zeros(0, np.float32))
        with pytest.raises(ValueError, match="non-finite sample at 3"):
            embedder.embed(np.array([0, 0, 0, np.nan] * 9000, np.float32))
        with pytest.raises(ValueError, match=r"\(2, 99\)"):
            embedder.embed(np.zeros((2, 99), np.float32))


def test_clap_window_of_short_and_long_clips() -> None:
    short = torch.arange(1.0, 200_001.0)
    window = fit_window(short)
    assert len(window) == WINDOW
    assert torch.equal(window[:200_000], short)
    assert torch.equal(window[200_000:400_000], short)
    assert not window[400_000:].any()
    long = torch.arange(WINDOW + 1000.0)
    assert torch.equal(fit_window(long), long[500:-500])
    assert torch.equal(fit_window(long[:WINDOW]), long[:WINDOW])


def test_clap_sliding_windows_are_quantized_and_zero_padded() -> None:
    audio = torch.from_numpy(notes(48000, 10.0))
    windows = sliding_windows(audio)
    assert len(windows) == 10  # a 10 s clip gives ten, nine of them padded
    assert all(len(window) == WINDOW for window in windows)
    steps = windows[0].double() * 32767
    assert torch.allclose(steps, steps.round(), atol=1e-2)
    assert (windows[0] - audio).abs().max() < 1 / 32767
    assert torch.equal(windows[3][: WINDOW - 3 * 48000], windows[0][3 * 48000 :])
    assert not windows[3][WINDOW - 3 * 48000 :].any()
    assert len(sliding_windows(audio[:100])) == 1


# Registry


def test_every_checkpoint_has_both_windowings_and_names_that_say_so() -> None:
    names = list_embedders()
    for stem in CLAP_TOWERS:
        assert {f"clap-{stem}@file", f"clap-{stem}@10s-1s"} <= set(names)
        assert "hop 1 s" in embedder_entry(f"clap-{stem}@10s-1s").title
    assert {"vggish", "musicnn-msd", "vggish[frechet-audio-distance]"} <= set(names)
    with pytest.raises(UnknownNameError, match="did you mean 'vggish'"):
        create_embedder("vgish")


def test_missing_weights_say_where_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(WeightsNotFoundError, match="m2l-bench fetch vggish"):
        create_embedder("vggish")
    available, reason = embedder_status("vggish")
    assert not available
    assert "vggish-10086976.pth" in reason
    assert "m2l-bench fetch vggish" in reason


def test_spec_changes_with_the_weights_and_the_window(tmp_path: Path, clap_file: Path) -> None:
    spec = embedder_spec(CLAP, clap_file)
    assert create_embedder(CLAP, weights=clap_file).spec == spec
    assert spec["window"] == "10 s, one per file"
    other = write_clap(tmp_path / "other.pt", "HTSAT-tiny", audio_projection__2__bias=torch.ones(512))
    assert embedder_spec(CLAP, other)["weights_sha256"] != spec["weights_sha256"]
    windows = embedder_spec("clap-630k-audioset-best@10s-1s", clap_file)
    assert windows["weights_sha256"] == spec["weights_sha256"]
    assert windows != spec


def test_listing_and_status_do_not_import_torch() -> None:
    code = (
        "import sys; from benchmarks.embedders import *;"
        "[embedder_status(name) for name in list_embedders()];"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Back ends


def test_a_back_end_says_which_command_builds_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2L_PARITY", str(tmp_path / "none"))
    for name in ("vggish[frechet-audio-distance]", f"{CLAP}[laion-clap]"):
        available, reason = embedder_status(name)
        assert not available
        assert reason.endswith("make parity")
        assert str(tmp_path) not in reason


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "rate"), [("vggish", 16000), (CLAP, 48000)])
def test_a_gpu_gives_the_same_embeddings(name: str, rate: int, vggish_file: Path, clap_file: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    path = vggish_file if name == "vggish" else clap_file
    clips = [notes(rate, 3.0), notes(rate, 1.2, seed=1)]
    on_cpu, on_gpu = (create_embedder(name, path, device).embed_batch(clips) for device in ("cpu", "cuda"))
    for a, b in zip(on_cpu, on_gpu, strict=True):
        assert a == pytest.approx(b, abs=1e-4)
