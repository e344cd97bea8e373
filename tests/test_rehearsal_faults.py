"""`m2l-bench paper` in a world where things go wrong, with few and small systems in the place of the paper's.

Killed, refused once by every server, without a data set, with a damaged file or a license that nobody accepted: what
can be measured is the same bytes as without trouble, and every other cell says why it is empty. The whole suite, once,
is `test_rehearsal_paper.py`; what a fetch alone leaves is `test_rehearsal_fetch.py`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import World
from world.data import build
from world.published_weights import write_weights

from benchmarks.errors import MISSING

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

#: Every kind of unit, server and file of the paper suite, and no network that takes long. Music2Latent's license is not
#: accepted, so that its file is never read.
SUITE = """
title = "MusicCaps, as in the paper"
[data]
dataset = "musiccaps"
channels = "stereo"
unit_clips = 2
[table2]
systems = ["musika", "latmusic", "music2latent", "opus-16k", "identity"]
metrics = ["si_sdr", "visqol", "fad:vggish", "si_sdr:side"]
[table3]
metrics = ["fad:vggish"]
[table3.rows]
"Base Model" = "music2latent:table3-mini-base"
"+ Adaptive Freq Scaling" = "music2latent:table3-mini-scaling"
[figure2]
systems = ["music2latent-mini"]
steps = [1, 2]
metrics = ["si_sdr", "fad:vggish"]
[table1]
tasks = ["magnatagatune", "beatport", "tinysol-pitch", "tinysol-instrument"]
representations = ["musika", "music2latent", "clmr", "mfcc", "chance"]
"""
REFUSED = "music2latent"
OPTIONS = ("--limit", "3", "--seconds", "2", "--seeds", "1", "--clips", "1", "--executor", "serial")
SERVERS = (
    "huggingface.co", "cdn-lfs.huggingface.co", "zenodo.org", "mirg.city.ac.uk",
    "release-assets.githubusercontent.com",
)  # fmt: skip
#: Cells that are no measurement.
COSTS = {"n_parameters", "latent_rate", "latent_dim", "compression_ratio", "bitrate"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with all data, the suite above, and the weights that it reads."""
    root = tmp_path_factory.mktemp("world")
    build(root)
    (root / "suites").mkdir()
    (root / "suites" / "paper.toml").write_text(SUITE)
    unread = root / "weights" / REFUSED / "music2latent.pt"
    unread.parent.mkdir(parents=True)
    unread.write_bytes(random.Random(0).randbytes(100_000))
    if written := os.environ.get("M2L_REHEARSAL_WEIGHTS"):
        for name in ("musika", "clmr", "vggish"):
            (root / "weights" / name).symlink_to(Path(written, name).resolve())
    write_weights(root / "weights", ["musika", "clmr", "vggish"])
    return root


@pytest.fixture
def world(root: Path, tmp_path: Path) -> Iterator[World]:
    with World(root) as world:
        _move_to(world, tmp_path)
        yield world


def _move_to(world: World, place: Path) -> None:
    """Let the commands of a world start from nothing, in a folder of their own."""
    world.variables |= {
        "M2L_CACHE": str(place / "cache"),
        "HF_HOME": str(place / "hf"),
        "M2L_DATA": str(place / "data"),
    }


def command(place: Path) -> list[str]:
    folders = ["--data", str(place / "data"), "--results", str(place / "results"), "-o", str(place / "report")]
    return [sys.executable, "-W", "ignore", "-m", "benchmarks", "paper", *OPTIONS, *folders]


def play(world: World, place: Path) -> str:
    """Run the command to its end; returns what it said. One thing is missing always: the license."""
    done = subprocess.run(command(place), env=world.env, capture_output=True, text=True, timeout=3600)
    assert done.returncode == MISSING, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


def written(place: Path) -> dict[str, bytes]:
    """The files of the results; what they cost is another time's."""
    folder = place / "results" / "paper-rehearsal"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "cost.json"}


def cells(place: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(row, column) -> cell of all tables, without those that are no measurement; points of the figure by steps."""
    found = {}
    for name in ("table1", "table2", "table3"):
        table = json.loads((place / "results" / "paper-rehearsal" / f"{name}.json").read_text())
        measured = {column["key"] for column in table["columns"]} - COSTS
        found |= {(row["name"], key): row["cells"][key] for row in table["rows"] for key in measured}
    figure = json.loads((place / "results" / "paper-rehearsal" / "figure2.json").read_text())
    for system, curves in figure["curves"].items():
        for metric, points in curves.items():
            found |= {(f"{system}@{point['n_steps']}", metric): point for point in points}
    return found


@pytest.fixture(scope="module")
def undisturbed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The folder of a run without trouble, and the seconds it took."""
    place = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    with World(root) as world:
        _move_to(world, place)
        said = play(world, place)
    assert said.count("not fetched:") == 1
    return place, time.monotonic() - began


def test_a_license_that_nobody_accepts_costs_its_row_and_no_other(undisturbed: tuple[Path, float]) -> None:
    place, _ = undisturbed
    for (row, key), cell in cells(place).items():
        if row == REFUSED:
            assert cell["value"] is None
            assert "--accept-license" in cell["reason"], cell
        elif row == "latmusic":
            assert cell["value"] is None
        else:
            assert cell["value"] is not None, (row, key, cell)
    text = (place / "results" / "paper-rehearsal" / "published.md").read_text()
    assert "--accept-license" in text


def test_killed_at_ten_random_moments_it_ends_in_the_same_bytes(
    world: World, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    place, seconds = undisturbed
    draw, killed = random.Random(int(os.environ.get("M2L_TEST_SEED", "0"))), 0
    while killed < 10:
        run = subprocess.Popen(
            command(tmp_path), env=world.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            run.wait(draw.uniform(0.02, 0.5) * seconds)
            for folder in tmp_path.iterdir():  # it was faster than the kills: from the start
                shutil.rmtree(folder)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            killed += 1
    play(world, tmp_path)
    assert written(tmp_path) == written(place)


def test_each_server_refuses_once(world: World, undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    for host in SERVERS:
        world.fail(host, "5xx")
    said = play(world, tmp_path)
    assert not any(host.faults for host in world.hosts.values()), "each had its fault"
    if said.count("not fetched:") > 1:
        play(world, tmp_path)
    assert written(tmp_path) == written(undisturbed[0])


@pytest.fixture(scope="module")
def hampered(root: Path, undisturbed: tuple[Path, float], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with one byte of Musika's file changed on disk, as by a bad disk, and without TinySOL."""
    place = tmp_path_factory.mktemp("hampered")
    for part in ("cache/weights", "hf", "data"):
        if (undisturbed[0] / part).exists():
            shutil.copytree(undisturbed[0] / part, place / part, symlinks=True)
    shutil.rmtree(place / "data" / "tinysol")
    file = next(path for path in place.rglob("enc2.h5")).resolve()
    assert place in file.parents
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with World(root) as world:
        _move_to(world, place)
        for host in ("zenodo.org", "huggingface.co"):
            world.fail(host, "down")
        said = play(world, place)
    assert "not fetched: musika:" in said
    assert "not fetched: tinysol:" in said
    return place


def test_a_damaged_weight_costs_its_row_and_no_other(hampered: Path, undisturbed: tuple[Path, float]) -> None:
    before = cells(undisturbed[0])
    for (row, key), cell in cells(hampered).items():
        if row == "musika":
            assert cell["value"] is None
            assert "sha256" in cell["reason"] or "tinysol" in key, cell
        elif "tinysol" not in key:
            assert cell["value"] == before[row, key]["value"]


def test_a_data_set_that_is_absent_costs_its_columns_and_no_other(
    hampered: Path, undisturbed: tuple[Path, float]
) -> None:
    before = cells(undisturbed[0])
    for (row, key), cell in cells(hampered).items():
        if "tinysol" in key and row != "latmusic":
            assert cell["value"] is None
            assert "m2l-bench fetch tinysol" in cell["reason"], cell
            assert row in ("musika", REFUSED) or "is there a network?" in cell["reason"], cell
        elif row != "musika":
            assert cell["value"] == before[row, key]["value"]
