"""Damaged weights, configs, cards and latents files by the thousand: documented errors, little memory, no waiting."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import struct
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hostile_inputs import latents_file  # noqa: E402

from m2l import CheckpointError, Music2Latent  # noqa: E402
from m2l.cli.main import main  # noqa: E402
from m2l.config import ConfigError, create_config, from_dict, from_json  # noqa: E402
from m2l.io.checkpoint_files import read_card, read_metadata  # noqa: E402
from m2l.io.checkpoints import Checkpoint, check_weights  # noqa: E402
from m2l.io.latents import LatentsError, LatentsReader  # noqa: E402
from m2l.io.published import key_map, read_published  # noqa: E402
from m2l.io.torch_files import read_pickled  # noqa: E402

CONFIG = create_config("tiny")
#: Values that no field of a config has, or that make a model of absurd size.
ODD_VALUES: list[Any] = [
    0, -1, 3, 7, 10**8, 10**30, 1e8, float("nan"), float("inf"), "x", "", None, True, [], [1] * 5, [[1, 1]] * 4, {},
    "9" * 5000, 2**63, [10**9] * 5, [[64, 64]] * 4, [True] * 5, [100] * 5, 16_384, 0.5, -0.5, 1e-300, 1e300,
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Music2Latent:
    return Music2Latent.from_config("tiny")


@pytest.fixture(scope="module")
def good(model: Music2Latent, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Undamaged files of each kind."""
    folder = tmp_path_factory.mktemp("good")
    model.save_pretrained(folder)
    names = {ours: theirs for theirs, ours in key_map(CONFIG).items()}
    state = {names[key]: tensor for key, tensor in model.state_dict().items()}
    torch.save({"gen_state_dict": state, "it": np.float64(3)}, folder / "published.pt")
    card = {"name": "tiny", "license": "CC0-1.0", "training_datasets": ["a", "b"], "metrics": {"si_sdr": 1.5}}
    return {
        "model.safetensors": (folder / "model.safetensors").read_bytes(),
        "config.json": (folder / "config.json").read_bytes(),
        "published.pt": (folder / "published.pt").read_bytes(),
        "card.json": json.dumps(card, indent=2).encode(),
        "latents.safetensors": latents_file(),
    }


# --- mutations ------------------------------------------------------------------------------------------------


def mutated(content: bytes, chance: random.Random) -> bytes:
    """`content` with some bytes flipped, cut, repeated or made absurd, mostly where headers are."""
    made = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        place = chance.randrange(min(len(made), chance.choice([64, 4096, len(made)])))
        if chance.random() < 0.2:
            place = len(made) - 1 - chance.randrange(min(len(made), 2000))
        kind = chance.randrange(7)
        if kind == 0:
            made[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            made[place] = chance.randrange(256)
        elif kind == 2:
            del made[place : place + chance.choice([1, 4, 100])]
        elif kind == 3:
            made[place:place] = chance.randbytes(chance.choice([1, 4, 50]))
        elif kind == 4:
            made[place : place + 8] = chance.choice([b"\xff" * 8, bytes(8), struct.pack("<Q", 2**62)])
        elif kind == 5:
            del made[place:]
        else:
            digits = [i for i in range(max(0, place - 200), min(len(made), place + 200)) if chr(made[i]).isdigit()]
            if digits:
                digit = chance.choice(digits)
                made[digit : digit + 1] = chance.choice([b"99999999", b"0", b"-1", b"1e9", b"9" * 400])
        made = made or bytearray(b"x")
    return bytes(made)


def with_other_pickle(archive: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A .pt file with a changed pickle and right checksums, as an attacker would make it."""
    source, made = zipfile.ZipFile(io.BytesIO(archive)), io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            target.writestr(entry.filename, change(content) if entry.filename.endswith("data.pkl") else content)
    return made.getvalue()


def damaged(kind: str, good: dict[str, bytes], chance: random.Random) -> bytes:
    if kind == "pickle in published.pt":
        return with_other_pickle(good["published.pt"], lambda content: mutated(content, chance))
    if kind == "values in config.json":
        values = json.loads(good["config.json"])
        for _ in range(chance.choice([1, 1, 2, 4])):
            values[chance.choice(list(values))] = chance.choice(ODD_VALUES)
        return json.dumps(values).encode()
    return mutated(good[kind], chance)


def load(kind: str, content: bytes, folder: Path, good: dict[str, bytes], model: Music2Latent) -> None:
    """Read one damaged file as its users do."""
    name = kind.rpartition(" ")[2]
    for other in ("model.safetensors", "config.json"):
        (folder / other).write_bytes(content if other == name else good[other])
    path = folder / name
    path.write_bytes(content)
    if name in ("model.safetensors", "config.json"):
        read_metadata(folder / "model.safetensors")
        Music2Latent.from_pretrained(folder, device="cpu")
    elif name == "published.pt":
        check_weights(Checkpoint(name, CONFIG, read_published(path, CONFIG)), model.state_dict())
    elif name == "card.json":
        read_card(folder)
    else:
        with LatentsReader(path) as reader:
            reader.read(0, reader.info.n_latents)


def memory() -> int:
    """The most that this process has asked for so far, touched or not, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmPeak")]
        return 1024 * int(peak)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


KINDS = ["model.safetensors", "config.json", "values in config.json", "published.pt", "pickle in published.pt",
         "card.json", "latents.safetensors"]  # fmt: skip


def campaign(kind: str, number: int, folder: Path, good: dict[str, bytes], model: Music2Latent) -> Counter[str]:
    """Read `number` damaged files; returns how often each thing became of them."""
    load(kind, good[kind.rpartition(" ")[2]], folder, good, model)
    before, became = memory(), Counter[str]()
    for index in range(number):
        content = damaged(kind, good, random.Random(f"{kind} {index}"))
        began = time.monotonic()
        try:
            load(kind, content, folder, good, model)
            became["fine"] += 1
        except (CheckpointError, ConfigError, LatentsError) as error:
            became["refused"] += 1
            said = str(error)
            assert 10 <= len(said) < 800, (index, said)
            assert "\n" not in said, (index, said)
        assert time.monotonic() - began < 10, index
        assert memory() - before < 10**9, index
    return became


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_of_each_kind(kind: str, tmp_path: Path, good: dict[str, bytes], model: Music2Latent) -> None:
    became = campaign(kind, 25, tmp_path, good, model)
    assert became["refused"] >= 10, became


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_of_each_kind(kind: str, tmp_path: Path, good: dict[str, bytes], model: Music2Latent) -> None:
    became = campaign(kind, 1000, tmp_path, good, model)
    assert became["refused"] >= 500, became


@pytest.mark.slow
def test_a_thousand_on_the_command_line(
    tmp_path: Path, good: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("model.safetensors", "values in config.json", "pickle in published.pt", "latents.safetensors"):
        for index in range(250):
            folder, name = tmp_path / f"{index % 10}", kind.rpartition(" ")[2]
            folder.mkdir(exist_ok=True)
            for other in ("model.safetensors", "config.json"):
                (folder / other).write_bytes(good[other])
            (folder / name).write_bytes(damaged(kind, good, random.Random(f"{kind} {index}")))
            code = main(["info", str(folder / name if "json" not in name else folder)])
            said = capsys.readouterr().err
            assert code in (0, 1, 3), (kind, index)
            assert (code == 0) == (not said), (kind, index)
            assert said.count("\n") <= 1, (kind, index, said)


# --- single cases ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bottleneck_blocks": 10**8}, "bottleneck_blocks must be 0 … 100, not 100000000"),
        ({"bottleneck_blocks": 1e8}, "bottleneck_blocks must be a whole number, not 100000000.0"),
        ({"unet_blocks": [100] * 5}, "more than 400 blocks"),
        ({"channel_mults": [1] * 1000}, "channel_mults has 1000 entries"),
        ({"channel_mults": "12222"}, "channel_mults must be a list, not '12222'"),
        ({"base_channels": 10**30}, "base_channels must be 1 … 16384, not a number of 100 bits"),
        ({"attention_heads": 0}, "attention_heads must be 1 …"),
        ({"downsampling": [[4, 1], [2, 2], [2, 2], [2, 2, 2]]}, "downsampling must be pairs"),
        ({"downsampling": [[0, 1], [2, 2], [2, 2], [2, 2]]}, "downsampling must be 1 … 64, not 0"),
        ({"downsampling": [[4, 64], [2, 64], [2, 2], [2, 2]]}, "a latent covers 8388608 samples"),
        ({"rho": 0}, "rho must be"),
        ({"beta": float("nan")}, "beta must be"),
        ({"sigma_max": float("inf")}, "sigma_max must be"),
        ({"attention": [1, 0, 0, 0, 0]}, "true or false, not 1"),
        ({"name": ["tiny"]}, "name must be a text"),
        ({"sample_rate": True}, "sample_rate must be a whole number, not True"),
        ({"x" * 5000: 1}, "unknown config field"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_values_that_no_model_has(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict({**CONFIG.to_dict(), **values})
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "null", '{"hop_length": ' + "9" * 5000 + "}", ""])
def test_texts_that_are_no_config(text: str) -> None:
    with pytest.raises(ConfigError, match="config"):
        from_json(text)


@pytest.mark.parametrize("content", [b"\xff\xfe{", b"[" * 100_000, b"[1]", b"{", b" " * 2**21])
def test_cards_that_are_none(tmp_path: Path, content: bytes) -> None:
    assert read_card(tmp_path) == {}
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"card\.json"):
        read_card(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe{", b" " * 2**21, b"[" * 100_000])
def test_configs_that_are_no_text(tmp_path: Path, good: dict[str, bytes], content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(good["model.safetensors"])
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config"):
        Music2Latent.from_pretrained(tmp_path)


@pytest.mark.parametrize("size", [2**62, 2**64 - 1, 2**40, 2**31])
def test_headers_that_claim_too_much(tmp_path: Path, size: int) -> None:
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", size) + b"{}" * 100)
    for read in (read_metadata, Music2Latent.from_pretrained):
        with pytest.raises(CheckpointError, match=f"claims {size} bytes"):
            read(tmp_path / "model.safetensors")


def test_archives_that_claim_too_much(tmp_path: Path) -> None:
    path, saved = tmp_path / "x.pt", io.BytesIO()
    torch.save({"gen_state_dict": {"a": torch.zeros(1000)}}, saved)
    before = memory()

    def refused(content: bytes, why: str) -> None:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=why):
            read_pickled(path)
        assert memory() - before < 10**9

    assert saved.getvalue().count(b"M\xe8\x03") == 2
    for number in (b"J\xff\xff\xff\x7f", b"\x8a\x08\0\0\0\0\0\x01\0\0"):  # 2^31 - 1 and 2^40 elements
        refused(
            with_other_pickle(saved.getvalue(), lambda text, n=number: text.replace(b"M\xe8\x03", n)),
            "does not match expected size",
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(10**7))
    refused(packed.getvalue(), "entries are compressed")
    old = io.BytesIO()  # the form before zip archives, where sizes are only claims
    torch.save({"a": torch.zeros(10)}, old, _use_new_zipfile_serialization=False)
    refused(old.getvalue(), "not an archive of torch.save")


@pytest.mark.parametrize("kind", ["sparse", "meta", "integers", "float8", "text"])
def test_tensors_that_are_no_weights(kind: str) -> None:
    values: dict[str, Any] = {
        "sparse": torch.zeros(3).to_sparse(),
        "meta": torch.zeros(3, device="meta"),
        "integers": torch.zeros(3, dtype=torch.int32),
        "float8": torch.zeros(3).to(torch.float8_e4m3fn),
        "text": "abc",
    }
    with pytest.raises(CheckpointError, match=r"'w' (holds|is no plain tensor)"):
        check_weights(Checkpoint("file", CONFIG, {"w": values[kind]}), {"w": torch.zeros(3)})


def test_names_that_are_not_utf8(tmp_path: Path, good: dict[str, bytes]) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "published.pt"):
        (folder / name).write_bytes(good[name])
    assert Music2Latent.from_pretrained(folder).config == CONFIG
    assert read_published(folder / "published.pt", CONFIG)
    (folder / "z.safetensors").write_bytes(latents_file())
    with LatentsReader(folder / "z.safetensors") as reader:
        assert reader.read(0, 3).shape == (1, 64, 3)
