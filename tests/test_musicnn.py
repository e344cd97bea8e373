"""MusiCNN: the tensor-bundle reader, equality with the original graph, patches, the embedder."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_weights import GOLDEN, notes

from benchmarks.embedders import ShortClipError, create_embedder
from benchmarks.embedders.musicnn import MusiCNN, MusiCNNOutput, load_musicnn, patches, torch_state
from benchmarks.embedders.tf_bundle import BundleError, read_bundle, read_index
from benchmarks.weights.find import find_weight, has_weight
from m2l.io.torch_files import CheckpointError

available, why_not = has_weight("musicnn-msd")
needs_weights = pytest.mark.skipif(not available, reason=why_not)


# The reader, against a writer of the same format.


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries: list[tuple[bytes, bytes]], restart_every: int = 3) -> bytes:
    out, restarts, previous = b"", [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % restart_every == 0:
            restarts.append(len(out))
        else:
            shared = next((j for j, (a, b) in enumerate(zip(previous, key, strict=False)) if a != b), 0)
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        previous = key
    return out + b"".join(struct.pack("<I", r) for r in [*restarts, len(restarts)])


def write_bundle(folder: Path, tensors: dict[str, np.ndarray], per_block: int = 4) -> None:
    """A tensor bundle as TensorFlow lays it out, checksums left zero."""
    data, entries = b"", [(b"", field(1, 1))]
    for name in sorted(tensors):
        value = tensors[name]
        dtype = {"f4": 1, "f8": 2, "i8": 9}[value.dtype.str[1:]]
        shape = b"".join(field(2, field(1, size) if size else b"") for size in value.shape)
        message = field(1, dtype) + (field(2, shape) if shape else b"")
        message += (field(4, len(data)) if data else b"") + field(5, value.nbytes)
        entries.append((name.encode(), message + varint(6 << 3 | 5) + bytes(4)))
        data += value.tobytes()
    table, index = b"", []
    for start in range(0, len(entries), per_block):
        part = block(entries[start : start + per_block])
        index.append(
            (entries[min(start + per_block, len(entries)) - 1][0] + b"~", varint(len(table)) + varint(len(part)))
        )
        table += part + bytes(5)
    empty = block([])
    handles = varint(len(table)) + varint(len(empty))
    table += empty + bytes(5)
    part = block(index)
    handles += varint(len(table)) + varint(len(part))
    table += part + bytes(5) + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    folder.joinpath(".index").write_bytes(table)
    folder.joinpath(".data-00000-of-00001").write_bytes(data)


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(names, st.lists(st.integers(0, 5), max_size=4), max_size=20), st.integers(1, 7))
def test_bundles_round_trip(tmp_path_factory: pytest.TempPathFactory, shapes: dict, per_block: int) -> None:
    folder = tmp_path_factory.mktemp("bundle")
    rng = np.random.default_rng(0)
    dtypes = [np.float32, np.float64, np.int64]
    tensors = {n: (9 * rng.standard_normal(s)).astype(dtypes[len(s) % 3]) for n, s in shapes.items()}
    write_bundle(folder, tensors, per_block)
    found = read_bundle(folder)
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert np.array_equal(found[name], value)


def test_what_is_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="magic number"):
        read_index(b"x" * 100)
    write_bundle(tmp_path, {"a": np.ones(3, np.float32), "b": np.ones((2, 2), np.float32)})
    index, data = tmp_path / ".index", tmp_path / ".data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(BundleError, match=r"b: 16 bytes at 12 do not fit \(2, 2\)"):
        read_bundle(tmp_path)
    data.write_bytes(whole)
    table = bytearray(index.read_bytes())
    table[-48:-40] = b"\x7f" * 8  # handles of blocks that cannot be
    with pytest.raises(BundleError):
        read_index(bytes(table))
    data.unlink()
    with pytest.raises(FileNotFoundError):
        read_bundle(tmp_path)


# The network


@pytest.fixture(scope="module")
def network() -> MusiCNN:
    return load_musicnn(find_weight("musicnn-msd"))


@pytest.fixture(scope="module")
def output(network: MusiCNN) -> MusiCNNOutput:
    """Outputs on the input of the oracle."""
    x = np.random.RandomState(0).rand(3, 187, 96) * 3
    return network(torch.from_numpy(x.astype(np.float32)))


@needs_weights
def test_equals_the_original_graph(output: MusiCNNOutput) -> None:
    """Golden values: the wheel's own TensorFlow graph, run in TensorFlow 2.21."""
    golden = np.load(GOLDEN / "musicnn.npz")
    pairs = {"penultimate": output.penultimate, "logits": output.logits, "activations": output.logits.sigmoid()}
    for name, ours in pairs.items():
        assert np.abs(ours.numpy() - golden[name]).max() < 1e-5, name
    pooled = output.pooled.reshape(3, 753, 2)[:, ::16].numpy()
    # Intermediate values reach 72 and come from sums of 3900 products: float32 leaves 1e-5 of them.
    np.testing.assert_allclose(pooled[..., 0], golden["pooled_max"], rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(pooled[..., 1], golden["pooled_mean"], rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(output.frontend[:, ::40, ::8].numpy(), golden["frontend"], rtol=2e-5, atol=1e-5)


@needs_weights
def test_dense_layer_equals_the_original_graph(output: MusiCNNOutput) -> None:
    """model/dense/BiasAdd, the point that probes and FAD use."""
    wanted = [-0.146753, 1.397674, -0.828829, 6.236972, -0.319701, 7.718194]
    assert output.dense[0, :6].tolist() == pytest.approx(wanted, abs=1e-5)
    assert output.dense.mean().item() == pytest.approx(-0.061659, abs=1e-5)
    assert output.dense.std().item() == pytest.approx(5.360749, abs=1e-4)


@needs_weights
@pytest.mark.shared
def test_equals_every_value_of_the_oracle(network: MusiCNN) -> None:
    folder = os.environ.get("M2L_ORACLE")
    if not folder:
        pytest.skip("M2L_ORACLE is not set")
    oracle = np.load(Path(folder) / "musicnn_reference.npz")
    output = network(torch.from_numpy(oracle["x"]))
    pairs = {
        "model_batch_normalization_10_batchnorm_add_1": output.penultimate,
        "model_dense_1_BiasAdd": output.logits,
        "model_Sigmoid": output.logits.sigmoid(),
    }
    for name, ours in pairs.items():
        assert np.abs(ours.numpy() - oracle[name]).max() < 1e-5, name


@needs_weights
def test_a_bundle_that_is_not_musicnn_is_named() -> None:
    bundle = read_bundle(find_weight("musicnn-msd"))
    model = MusiCNN()
    # 787,159 trained parameters, and means and variances of 2,460 normalized channels.
    assert sum(value.numel() for value in torch_state(bundle, model).values()) == 787_159 + 2 * 2_460
    broken = {name: value for name, value in bundle.items() if name != "dense/kernel"}
    broken["conv2d/bias"] = np.ones(3, np.float32)
    broken["extra"] = np.ones(1, np.float32)
    message = r"missing 1: dense/kernel; unknown 1: extra; shapes differ: 1: conv2d/bias is \(3,\), published \(204,\)"
    with pytest.raises(CheckpointError, match=message):
        torch_state(broken, model)


# Patches and the embedder


@pytest.mark.parametrize(
    ("frames", "hop", "count"), [(187, 93, 1), (279, 93, 1), (280, 93, 2), (626, 93, 5), (626, 187, 3)]
)
def test_patches_are_cut_and_the_rest_dropped(frames: int, hop: int, count: int) -> None:
    mel = torch.arange(frames * 96.0).reshape(frames, 96)
    found = patches(mel, hop)
    assert found.shape == (count, 187, 96)
    for i in range(count):
        assert torch.equal(found[i], mel[i * hop : i * hop + 187])


@pytest.mark.parametrize("frames", [1, 60, 186])
def test_short_clips_repeat_to_one_patch(frames: int) -> None:
    mel = torch.randn(frames, 96, generator=torch.Generator().manual_seed(0))
    found = patches(mel, 93)
    assert found.shape == (1, 187, 96)
    assert all(torch.equal(found[0, i], mel[i % frames]) for i in range(187))


@needs_weights
def test_embedder_gives_one_vector_per_patch() -> None:
    embedder = create_embedder("musicnn-msd", device="cpu")
    clips = [notes(16000, 4.6), notes(16000, 1.0, seed=1)]
    long, short = embedder.embed_batch(clips)
    assert (long.shape, short.shape) == ((2, 200), (1, 200))
    assert np.array_equal(embedder.embed(clips[0]), long)
    assert create_embedder("musicnn-msd@3s").embed(clips[0]) == pytest.approx(long[:1], abs=1e-5)
    assert embedder.spec["weights_sha256"] == create_embedder("musicnn-msd@3s").spec["weights_sha256"]
    assert embedder.spec["hop"] == "1.488 s (93 frames)"
    with pytest.raises(ShortClipError):
        embedder.embed(np.zeros(0, np.float32))
