"""`m2l-bench fetch` in a world of stand-ins: everything arrives, whatever is killed, cut, busy, wrong or away."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import World
from world.data import build
from world.servers import TOKEN

pytestmark = pytest.mark.slow

DATA = ("tinysol", "beatport", "magnatagatune", "musiccaps")
LATER = "1 clips failed and may succeed when it is run again"
FETCH = [sys.executable, "-m", "benchmarks", "fetch"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with the paper's data, and small files in place of some weights."""
    root = tmp_path_factory.mktemp("world")
    build(root)
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for name, paths in {
        "musika": ("enc.h5", "enc2.h5", "dec2.h5", "dec.h5"),
        "dac-44khz": ("config.json", "model.safetensors"),
        "stable-audio-vae": ("vae/config.json", "vae/diffusion_pytorch_model.safetensors"),
        "music2latent": ("music2latent.pt",),
        "codicodec": ("codicodec.pt",),
        "vggish": ("vggish-10086976.pth",),
        "lyra-v2": tuple(
            f"lyra/model_coeffs/{stem}.tflite" for stem in ("soundstream_encoder", "quantizer", "lyragan")
        ),
    }.items():
        for path in paths:
            data = random.Random(f"{name}/{path}").randbytes(300 if path.endswith("json") else 400_000)
            file = root / "weights" / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            rows.setdefault(name, {})[path] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (root / "weights" / "stand_ins.json").write_text(json.dumps(rows))
    return root


@pytest.fixture
def world(root: Path, tmp_path: Path) -> Iterator[World]:
    with World(root) as world:
        world.variables |= {"M2L_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hf")}
        yield world


@pytest.fixture(scope="module")
def undisturbed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a fetch of all data leaves where nothing goes wrong."""
    cache = tmp_path_factory.mktemp("undisturbed")
    with World(root) as world:
        world.variables |= {"M2L_CACHE": str(cache)}
        rows = fetch(world, *DATA)
    assert [row["failed"] for row in rows.values()] == [
        [],
        [],
        [],
        ["1 clips failed and may succeed when it is run again"],
    ]
    return tree(cache)


def fetch(world: World, *arguments: str, **variables: str) -> dict[str, dict[str, Any]]:
    """Rows of `m2l-bench fetch … --json` by name."""
    done = subprocess.run(
        [*FETCH, *arguments, "--json"], env=world.env | variables, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode in (0, 3), done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)}


def tree(cache: Path) -> dict[str, str]:
    """Every file that a fetch has left, with its sha256; locks hold the number of a process."""
    files = sorted(path for path in cache.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(cache).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ---- data -------------------------------------------------------------------------------------------


def test_the_data_of_the_paper_arrives_as_published(world: World, undisturbed: dict[str, str]) -> None:
    found = fetch(world, *DATA)
    assert found["musiccaps"]["statuses"] == {"ok": 8, "gone": 2, "wrong length": 1, "failed": 1}
    assert tree(Path(world.variables["M2L_CACHE"])) == undisturbed
    checked = fetch(world, "verify", *DATA)
    assert {name: row["failed"] for name, row in checked.items()} == {name: [] for name in DATA}
    # A second fetch asks for what failed only.
    for host in world.hosts.values():
        host.requests.clear()
    again = fetch(world, *DATA)
    assert [row["fetched"] for row in again.values()] == [0, 0, 0, 0]
    assert not any(host.requests for host in world.hosts.values())


def test_killed_at_random_moments_it_ends_in_the_same_bytes(world: World, undisturbed: dict[str, str]) -> None:
    draw, cache = random.Random(int(os.environ.get("M2L_TEST_SEED", "0"))), Path(world.variables["M2L_CACHE"])
    killed = 0
    while killed < 10:
        run = subprocess.Popen(
            [*FETCH, *DATA], env=world.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            run.wait(draw.uniform(0.5, 20.0))
            shutil.rmtree(cache)  # it was faster than the kills: from the start
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            killed += 1
    fetch(world, *DATA)
    assert tree(cache) == undisturbed


@pytest.mark.parametrize("fault", ["5xx", "busy", "cut", "wrong"])
def test_each_server_fails_once(world: World, undisturbed: dict[str, str], fault: str) -> None:
    hosts = ("zenodo.org", "mirg.city.ac.uk", "huggingface.co")
    for host in hosts:
        world.fail(host, fault)
    rows = fetch(world, *DATA)
    assert not any(world.hosts[host].faults for host in hosts)  # each had its fault
    for row in rows.values():
        for message in row["failed"]:
            assert "run again" in message or "checksum" in message, message
    if any(row["failed"] for row in rows.values()):
        fetch(world, *DATA)
    assert tree(Path(world.variables["M2L_CACHE"])) == undisturbed


def test_a_flaky_mirror_stands_in_for_a_host_that_is_away(world: World, undisturbed: dict[str, str]) -> None:
    world.fail("mirg.city.ac.uk", "down")
    assert fetch(world, "magnatagatune")["magnatagatune"]["failed"] == []
    found = tree(Path(world.variables["M2L_CACHE"]))
    assert found == {path: digest for path, digest in undisturbed.items() if path.startswith("data/magnatagatune/")}


def test_one_data_set_absent_leaves_the_others(world: World, undisturbed: dict[str, str]) -> None:
    world.fail("zenodo.org", "down")
    world.fail("raw.githubusercontent.com", "down")
    rows = fetch(world, *DATA)
    for name in ("tinysol", "beatport"):
        assert "is there a network?" in rows[name]["failed"][0]
    cache = Path(world.variables["M2L_CACHE"])
    others = {path: digest for path, digest in undisturbed.items() if "tinysol" not in path and "beatport" not in path}
    found = {path: digest for path, digest in tree(cache).items() if "tinysol" not in path and "beatport" not in path}
    assert found == others


# ---- weights ----------------------------------------------------------------------------------------


def test_weights_come_from_the_hub_and_from_releases(world: World, root: Path) -> None:
    names = ("musika", "dac-44khz", "vggish", "lyra-v2", "codicodec", "music2latent")
    rows = fetch(world, *names, "--accept-license")
    for name in names:
        assert rows[name]["failed"] == []
        files = {row["path"].rpartition("/")[2]: row for row in rows[name]["files"]}
        place = Path(rows[name]["dest"])
        for file in (root / "weights" / name).rglob("*.*"):
            found = place if place.is_file() else place / file.name
            assert found.read_bytes() == file.read_bytes()
            assert files[file.name]["size"] == file.stat().st_size
    assert {row["summary"] for row in fetch(world, *names).values()} == {"already present"}


@pytest.mark.parametrize("fault", ["5xx", "busy", "cut"])
def test_each_server_of_weights_fails_once(world: World, fault: str) -> None:
    hosts = ("huggingface.co", "cdn-lfs.huggingface.co", "release-assets.githubusercontent.com",
             "raw.githubusercontent.com")  # fmt: skip
    for host in hosts:
        world.fail(host, fault)
    rows = fetch(world, "musika", "vggish", "lyra-v2")
    assert {name: row["failed"] for name, row in rows.items()} == {name: [] for name in rows}
    assert not any(world.hosts[host].faults for host in hosts)


def test_wrong_bytes_are_refused_and_fetched_anew(world: World) -> None:
    world.fail("cdn-lfs.huggingface.co", "wrong", "wrong")  # the hub's files are fetched twice
    world.fail("release-assets.githubusercontent.com", "wrong")
    rows = fetch(world, "musika", "vggish")
    for row in rows.values():
        assert row["summary"] == "not fetched"
        assert "sha256" in row["failed"][0].lower()
    world.fail("cdn-lfs.huggingface.co", "wrong")
    assert {row["summary"] for row in fetch(world, "musika", "vggish").values()} == {"fetched"}


def test_what_stands_in_the_way_is_said_and_the_rest_arrives(world: World) -> None:
    rows = fetch(world, "music2latent", "stable-audio-vae", "musika")
    assert "--accept-license" in rows["music2latent"]["failed"][0]
    assert rows["musika"]["failed"] == []
    rows = fetch(world, "stable-audio-vae", "--accept-license")
    assert "hf auth login" in rows["stable-audio-vae"]["failed"][0]
    rows = fetch(world, "stable-audio-vae", "--accept-license", HF_TOKEN="hf_stranger")
    assert "accept its terms" in rows["stable-audio-vae"]["failed"][0]
    assert fetch(world, "stable-audio-vae", "--accept-license", HF_TOKEN=TOKEN)["stable-audio-vae"]["failed"] == []


# ---- what is not there is said in its cell --------------------------------------------------------------

SUITE = """
title = "A paper of one minute"
seed = 0
[data]
dataset = "musiccaps"
[table2]
systems = ["musika", "music2latent", "noise-20db", "identity"]
metrics = ["si_sdr", "fad:vggish"]
[table1]
tasks = ["magnatagatune", "tinysol-pitch"]
representations = ["musika", "mfcc", "chance"]
seeds = 1
"""


def test_a_corrupt_weight_a_refused_license_and_absent_data_cost_their_cells_only(world: World, tmp_path: Path) -> None:
    world.fail("zenodo.org", "down")
    rows = fetch(world, "musiccaps", "magnatagatune", "tinysol", "musika", "vggish", "music2latent")
    assert [name for name, row in rows.items() if row["fetched"] == 0] == ["tinysol", "music2latent"]
    # One bit of a good file, as on a bad disk: name, size and place stay those of the one that was verified.
    for weight in (Path(rows["musika"]["dest"], "enc2.h5"), Path(rows["vggish"]["dest"])):
        content = bytearray(weight.read_bytes())
        content[len(content) // 2] ^= 1
        weight.resolve().write_bytes(content)
    (tmp_path / "minute.toml").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "tables", "--suite", str(tmp_path / "minute.toml"),
         "--results", str(tmp_path / "results"), "--executor", "serial"],
        env=world.env, capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    cells = {
        (row["name"], key): cell
        for name in ("table1", "table2")
        for row in json.loads(next((tmp_path / "results").rglob(f"{name}*.json")).read_text())["rows"]
        for key, cell in row["cells"].items()
    }
    for row, key in (("noise-20db", "si_sdr"), ("identity", "si_sdr"), ("mfcc", "magnatagatune/roc_auc"),
                     ("chance", "magnatagatune/roc_auc")):  # fmt: skip
        assert cells[row, key]["value"] is not None, cells[row, key]
    for (row, key), words in {
        ("musika", "si_sdr"): "sha256",
        ("musika", "magnatagatune/roc_auc"): "sha256",
        ("identity", "fad:vggish"): "sha256",
        ("music2latent", "si_sdr"): "--accept-license",
        ("mfcc", "tinysol-pitch/f1_micro"): "m2l-bench fetch tinysol",
    }.items():
        assert cells[row, key]["value"] is None
        assert words in cells[row, key]["reason"]
    # What was damaged is fetched anew.
    assert {row["summary"] for row in fetch(world, "musika", "vggish").values()} == {"fetched"}
