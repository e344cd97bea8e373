"""Reconstructions made elsewhere: folders of files, and programs run per clip."""

from __future__ import annotations

import csv
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from harness_helpers import RATE, tiny_suite, tiny_toml, write_clips

from benchmarks.autoencoders import create_autoencoder
from benchmarks.autoencoders.own.external import External
from benchmarks.cli.main import main
from benchmarks.evaluation.measure import Measured, measure
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions
from benchmarks.store.store import Store
from benchmarks.suite import Suite, SuiteError, parse_columns


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    write_clips(tmp_path / "clips", 5)
    return tiny_suite(tmp_path / "clips")


def run(suite: Suite, store: Path, name: str, **options: Any) -> Measured:
    planner = Planner(suite, RunOptions(quiet=True))
    given_options = {name: options} if options else None
    return measure(
        planner, Store(store), SerialExecutor(), [(name, None)], parse_columns(["si_sdr"]), given_options, compare=False
    )


def reasons(measured: Measured) -> dict[str, int]:
    return dict(next(iter(measured.cells.values())).failures)


# -- folders


def test_exported_clips_come_back_bit_for_bit(suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = tiny_toml(tmp_path, tmp_path / "clips")
    sf.write(tmp_path / "clips" / "silent.wav", np.zeros(RATE * 2), RATE)
    command = ["export-clips", "--suite", str(toml), "-o", str(tmp_path / "out"), "--executor", "serial"]
    command += ["--store", str(tmp_path / "store"), "--quiet", "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["written"], found["kept"], found["left_out"]) == (5, 0, {"silent": 1})
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 5
    with open(tmp_path / "out" / "clips.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"clip{i}.wav" for i in range(5)]
    assert {row["sample_rate"] for row in rows} == {str(RATE)}
    measured = run(suite, tmp_path / "store", f"mine=external:{tmp_path / 'out'}")
    cell = measured.cells["mine", "si_sdr"]
    assert (cell.n, cell.value, dict(cell.failures)) == (5, 100.0, {"silent": 1})


def edited(source: Path, folder: Path) -> None:
    """One file of each fault, and two that are fine."""
    folder.mkdir()
    audio, rate = sf.read(source / "clip0.wav", dtype="float32")
    half = 0.5 * audio + 0.01
    sf.write(folder / "clip0.flac", half, rate)  # another format
    sf.write(folder / "clip1.wav", np.pad(sf.read(source / "clip1.wav")[0], (0, 300)), rate)  # 19 ms longer
    sf.write(folder / "clip2.wav", half, 48_000)
    sf.write(folder / "clip3.wav", half[: rate // 2], rate)
    (folder / "notes.wav").write_bytes(b"not audio")


def test_faults_of_files_are_counted_by_reason(suite: Suite, tmp_path: Path) -> None:
    edited(tmp_path / "clips", tmp_path / "mine")
    name = f"mine=external:{tmp_path / 'mine'}"
    measured = run(suite, tmp_path / "store", name)
    assert measured.cells["mine", "si_sdr"].n == 2
    assert reasons(measured) == {
        "file at 48000 Hz, clip at 16000 Hz (option resample=true takes it)": 1,
        "shorter than the clip by more than 0.1 s": 1,
        "no file for the clip": 1,
    }
    found = External(str(tmp_path / "mine")).matches([f"clip{i}.wav" for i in range(5)])
    assert found.strays == ("notes.wav",)
    # A row is measured anew when a file comes, changes or goes, and only its units are.
    (tmp_path / "mine" / "clip4.wav").write_bytes((tmp_path / "clips" / "clip4.wav").read_bytes())
    measured = run(suite, tmp_path / "store", name)
    assert measured.cells["mine", "si_sdr"].n == 3
    assert measured.report.computed == 4  # one unit each of reconstruct and score, and two aggregates
    (tmp_path / "mine" / "clip4.wav").unlink()
    measured = run(suite, tmp_path / "store", name)
    assert (measured.cells["mine", "si_sdr"].n, measured.report.computed) == (2, 0)
    # Options
    loose = run(suite, tmp_path / "store", name, tolerance=0.75, resample=True)
    assert loose.cells["mine", "si_sdr"].n == 3  # one is 0.7 s short, the one at 48 kHz 0.8 s
    assert reasons(loose) == {"shorter than the clip by more than 0.75 s": 1, "no file for the clip": 1}


def test_resampled_and_folded_on_request(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    time_axis = np.arange(48_000) / 48_000
    stereo = np.stack([np.sin(2 * np.pi * 300 * time_axis), 0.1 * rng.standard_normal(48_000)], axis=1)
    sf.write(tmp_path / "x.wav", stereo, 48_000, subtype="FLOAT")
    clip = np.zeros((1, 16_000), np.float32)
    system = External(str(tmp_path), resample=True)
    output = system.reconstruction("x.wav", clip, 16_000)
    assert output.shape == clip.shape
    expected = 0.5 * np.sin(2 * np.pi * 300 * np.arange(16_000) / 16_000)
    assert np.corrcoef(output[0], expected)[0, 1] > 0.99
    with pytest.raises(ValueError, match="file at 48000 Hz"):
        External(str(tmp_path)).reconstruction("x.wav", clip, 16_000)


def test_ambiguous_and_damaged_files_are_refused(tmp_path: Path) -> None:
    clip = np.zeros((1, RATE), np.float32)
    for suffix in ("wav", "flac"):
        sf.write(tmp_path / f"x.{suffix}", clip[0], RATE)
    (tmp_path / "y.wav").write_bytes(b"RIFF but no more")
    sf.write(tmp_path / "z.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    system = External(str(tmp_path))
    assert system.matches(["x", "y", "z"]).refused == {"x": "2 files for the clip (x.flac, x.wav)"}
    for file, message in (("y.wav", "unreadable: the file"), ("z.wav", "non-finite")):
        with pytest.raises(ValueError, match=message):
            system.reconstruction(file, clip, RATE)


def test_files_in_subfolders_and_with_the_clips_own_names(tmp_path: Path) -> None:
    clip = np.zeros((1, RATE), np.float32)
    for file in ("a/one.wav", "b/two.ogg@10.wav", "c__three.ogg.wav"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        sf.write(tmp_path / file, clip[0], RATE)
    found = External(str(tmp_path)).matches(["a/one.flac", "b/two.ogg@10", "c/three.ogg"])
    assert found.files == {
        "a/one.flac": "a/one.wav",
        "b/two.ogg@10": "b/two.ogg@10.wav",
        "c/three.ogg": "c__three.ogg.wav",
    }
    assert found.strays == ()


def test_links_are_followed_and_broken_ones_said(
    suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for clip in ("clip0.wav", "clip1.wav"):
        (mine / clip).symlink_to(tmp_path / "clips" / clip)
    (mine / "part").symlink_to(mine, target_is_directory=True)
    (mine / "clip2.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "clips" / "artist").mkdir()
    (tmp_path / "clips" / "clip3.wav").rename(tmp_path / "clips" / "artist" / "clip3.wav")
    (mine / "artist").symlink_to(tmp_path / "clips" / "artist", target_is_directory=True)
    for clip in (tmp_path / "clips").glob("clip[4-9].wav"):
        clip.unlink()
    (tmp_path / "clips" / "clip2.wav").unlink()
    toml = str(tiny_toml(tmp_path, tmp_path / "clips"))
    command = ["compare", "--external", f"mine={mine}", "--against", "identity", "--metrics", "si_sdr"]
    how = ["--suite", toml, "--executor", "serial", "--store", str(tmp_path / "store"), "--quiet", "--json"]
    assert main([*command, *how]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["scores"]["si_sdr"]["mine"]) == {"clip0.wav", "clip1.wav", "artist/clip3.wav"}
    assert any("left out 1 broken link" in line for line in found["warnings"])


def test_folders_that_are_not_there_are_reasons(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, message in (("nowhere", "no folder"), ("empty", "no audio file")):
        measured = run(suite, tmp_path / "store", f"mine=external:{tmp_path / folder}")
        assert message in str(measured.cells["mine", "si_sdr"].reason)


def test_a_file_that_changes_during_the_run_fails_its_unit(suite: Suite, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    edited(tmp_path / "clips", folder)
    row = Planner(suite, RunOptions()).system(f"external:{folder}")
    sf.write(folder / "clip1.wav", np.zeros(RATE), RATE)
    from benchmarks.harness.units import execute

    unit = next(unit for unit in row.units if "clip1.wav" in unit.spec["files"])
    done = execute(unit, str(tmp_path / "store"))
    assert "changed during the run" in str(done.error)


# -- programs

SCRIPT = """
import sys, time, wave
mode, source, target = sys.argv[1:4]
data = open(source, "rb").read()
if mode == "fail":
    print("first line", file=sys.stderr)
    print("no such preset", file=sys.stderr)
    sys.exit(3)
if mode == "hang":
    time.sleep(60)
if mode != "nothing":
    open(target, "wb").write(b"no audio" if mode == "garbage" else data)
if len(sys.argv) > 4:
    open(sys.argv[4], "wb").write(bytes(1000))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "codec.py"
    path.write_text(SCRIPT)
    return path


def command(script: Path, mode: str, more: str = "") -> str:
    words = [sys.executable, "-S", "-E", str(script), mode, "{input}", "{output}"]
    return "external-command:" + " ".join(shlex.quote(word) for word in words) + more


def audio(channels: int = 1, rate: int = RATE) -> np.ndarray:
    return 0.3 * np.random.default_rng(0).standard_normal((channels, rate)).astype(np.float32)


def test_a_program_is_given_the_clip_and_its_output_comes_back(script: Path) -> None:
    system = create_autoencoder(command(script, "copy"))
    for channels in (1, 2):
        clip = audio(channels)
        np.testing.assert_array_equal(system.reconstruct(clip, RATE), clip)
    assert system.spec.weights_digest is not None


def test_the_rate_of_a_program_is_its_own(script: Path) -> None:
    system = create_autoencoder(command(script, "copy"), sample_rate=8_000, channels="mono")
    time_axis = np.arange(RATE) / RATE
    clip = 0.3 * np.sin(2 * np.pi * np.array([[300], [500]]) * time_axis).astype(np.float32)
    output = system.reconstruct(clip, RATE)
    assert output.shape == clip.shape
    np.testing.assert_allclose(output[0], clip.mean(axis=0), atol=0.02)


def test_the_size_of_the_latents_is_the_bit_rate(script: Path) -> None:
    system = create_autoencoder(command(script, "copy", " {latents}"))
    clip = audio(rate=2 * RATE)
    encoded = system.encode(clip, RATE)
    assert encoded.bitrate == pytest.approx(8 * 1000 / 2)
    np.testing.assert_array_equal(system.decode(encoded, length=2 * RATE, sample_rate=RATE), clip)


def test_the_seed_reaches_the_program(tmp_path: Path) -> None:
    script = tmp_path / "seed.py"
    script.write_text(
        "import sys, shutil; shutil.copy(sys.argv[1], sys.argv[2]); open(sys.argv[4], 'w').write(sys.argv[3])"
    )
    words = f"{sys.executable} -S {script} {{input}} {{output}} {{seed}} {tmp_path / 'seen'}"
    create_autoencoder(f"external-command:{words}").reconstruct(audio(), RATE, seed=2**40 + 5)
    assert (tmp_path / "seen").read_text() == "5"


def test_failures_of_a_program_are_reasons_of_its_clips(suite: Suite, script: Path, tmp_path: Path) -> None:
    expected = {
        "fail": "the command failed (exit status 3): no such preset",
        "nothing": "the command succeeded and wrote no {output}",
        "garbage": "{output}: cannot be decoded",
    }
    for mode, message in expected.items():
        found = reasons(run(suite, tmp_path / "store", "x=" + command(script, mode)))
        assert list(found.values()) == [5]
        assert next(iter(found)).startswith(message), found


def test_a_program_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    script = tmp_path / "hang.py"
    script.write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(started)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    words = f"{sys.executable} -S {script} {{input}} {{output}}"
    system = create_autoencoder(f"external-command:{words}", timeout=3)
    with pytest.raises(RuntimeError, match=r"ended after 3 s"):
        system.reconstruct(audio(), RATE)
    child = int(started.read_text())
    for _ in range(100):
        try:
            os.kill(child, 0)
            gone = Path(f"/proc/{child}/stat").read_text().split(")")[-1].split()[0] == "Z"
        except (ProcessLookupError, FileNotFoundError):
            gone = True
        if gone:
            break
        time.sleep(0.05)
    assert gone


def test_our_environment_stays_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/our/venv")
    monkeypatch.setenv("PYTHONPATH", "/our/lib")
    monkeypatch.setenv("PATH", f"/our/venv/bin{os.pathsep}{os.environ['PATH']}")
    script = tmp_path / "env.py"
    script.write_text(
        "import os, sys, shutil; shutil.copy(sys.argv[1], sys.argv[2])\n"
        "wrong = [v for v in ('VIRTUAL_ENV', 'PYTHONPATH') if v in os.environ]\n"
        "sys.exit(f'{wrong}' if wrong or '/our' in os.environ['PATH'] else 0)"
    )
    words = f"{sys.executable} -S {script} {{input}} {{output}}"
    create_autoencoder(f"external-command:{words}").reconstruct(audio(), RATE)


def test_the_template_and_the_files_it_names_are_in_the_key(suite: Suite, script: Path) -> None:
    planner = Planner(suite, RunOptions())

    def key(name: str, **options: Any) -> str:
        return planner.system(name, **options).units[0].key

    keys = [key(command(script, "copy")), key(command(script, "other"))]
    keys += [key(command(script, "copy"), timeout=5), key(command(script, "copy"), version=2)]
    assert key("label=" + command(script, "copy")) == keys[0]
    script.write_text(SCRIPT + "\n# changed\n")
    keys.append(key(command(script, "copy")))
    assert len(set(keys)) == 5


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("prog {input}", r"no \{output\}"),
        ("prog {output}", r"no \{input\}"),
        ("prog 'x {input} {output}", "quotation"),
        ("prog {input} {output} {latents} {seed}", "do not go together"),
    ],
)
def test_a_wrong_template_is_named(suite: Suite, template: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        Planner(suite, RunOptions()).system(f"external-command:{template}")


def test_a_program_that_is_not_there_is_a_reason(suite: Suite) -> None:
    row = Planner(suite, RunOptions()).system("external-command:no-such-codec {input} {output}")
    assert row.reason is not None
    assert "no program 'no-such-codec'" in row.reason
