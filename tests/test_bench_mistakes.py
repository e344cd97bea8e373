"""What `m2l-bench` says to ordinary mistakes: a line that names the value, exit code 2 or 3, and no traceback."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness_helpers import tiny_toml, write_clips

from benchmarks.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "results"

#: (command line, what the message has to hold). "afile" is a file, "adir" a folder with a file in it, "tiny.toml"
#: a suite, "golden" results of the suite "synthetic"; what begins with "no" is not there.
MISTAKES = [
    ("nosuch", "nosuch"),
    ("tables --suite sinthetic", "did you mean 'synthetic'"),
    ("tables --suite nosuch/suite.toml", "nosuch/suite.toml"),
    ("tables --suite adir", "adir"),
    ("tables --suite broken.toml", "broken.toml: not valid TOML"),
    ("tables --suite utf16.toml", "utf16.toml: not valid TOML"),
    ("tables --suite unknown.toml", "unknown key table2.metric; did you mean 'metrics'"),
    ("tables --suite gone.toml --executor serial", "nowhere"),
    ("tables --suite codec.toml --executor serial", "nosuchcodec"),
    ("tables --suite metric.toml --executor serial", "si_sdrr"),
    ("tables --suite tiny.toml --results afile", "--results afile: afile is a file"),
    ("tables --suite tiny.toml --results afile/deep", "--results afile/deep: afile is a file"),
    ("tables --suite tiny.toml --store afile", "--store afile: afile is a file"),
    ("tables --suite tiny.toml --store nosuch://bucket", "nosuch"),
    ("tables --suite tiny.toml --limit -1", "limit"),
    ("tables --suite tiny.toml --workers 0", "workers"),
    ("tables --suite tiny.toml --only 4", "--only '4'"),
    ("tables --suite tiny.toml --only 1", "has no section [table1]"),
    ("tables --suite tiny.toml --refresh", "--refresh"),
    ("run --suite tiny.toml --shard 3/2", "3/2"),
    ("run --suite tiny.toml --executor threads", "threads"),
    ("status --suite nosuch.toml", "nosuch.toml"),
    ("status --suite tiny.toml --limit -3", "--limit"),
    ("status --suite tiny.toml --store afile", "afile"),
    ("report --suite tiny.toml", "no results in results/tiny"),
    ("report --results golden -o adir --audio none", "adir is not empty and is not a report"),
    ("report --results golden -o afile --audio none", "afile is a file"),
    ("report --results golden --clips none", "none"),
    ("report --results golden --workers -1", "workers"),
    ("report --suite damaged --results .", "table2.json: not valid JSON"),
    ("report --suite foreign --results .", "table2.json"),
    ("compare", "nothing to compare"),
    ("compare nosuch --suite tiny.toml --executor serial", "nosuch"),
    ("compare identity --suite tiny.toml --executor serial -o afile", "-o afile: afile is a file"),
    ("compare identity --suite tiny.toml --metrics sisdr --executor serial", "sisdr"),
    ("compare music2latent:carded --suite tiny.toml --executor serial", "carded/card.json: not valid JSON"),
    ("compare --external mine --suite tiny.toml", "--external 'mine'"),
    ("compare identity --option keep=3 --suite tiny.toml", "keep=3"),
    ("curve norun --suite tiny.toml --executor serial", "norun"),
    ("curve adir --suite tiny.toml --executor serial", "adir"),
    ("curve adir --suite tiny.toml -o afile", "-o afile: afile is a file"),
    ("ablation --suite tiny.toml", "suite 'tiny' has no [table3]"),
    ("ablation --presets nosuch --dry-run", "nosuch"),
    ("ablation --setting steps", "steps"),
    ("ablation --data nowhere --dry-run", "nowhere"),
    ("ablation --runs afile --dry-run", "--runs afile: afile is a file"),
    ("export-clips --suite tiny.toml -o afile --executor serial", "-o afile: afile is a file"),
    ("export-clips --suite tiny.toml -o taken --executor serial --quiet", "clip0.wav holds something else"),
    ("export-clips --suite tiny.toml", "-o"),
    ("new-autoencoder 3codec", "3codec"),
    ("new-autoencoder json", "json"),
    ("new-autoencoder my_codec -o afile", "afile is a file"),
    ("gate --suite tiny.toml", "m2l-bench gate --suite tiny.toml --update"),
    ("gate --suite tiny.toml --update", "m2l-bench tables --suite tiny.toml"),
    ("gate --results golden --baseline damaged/baseline.json", "damaged/baseline.json: not valid JSON"),
    ("gate --results golden --baseline foreign/baseline.json", "foreign/baseline.json"),
    ("gate --results golden --baseline old/baseline.json", "old/baseline.json: baseline format 0"),
    ("gate --results golden --junit adir", "--junit adir: this is a folder"),
    ("gate --results golden --junit afile/gate.xml", "afile/gate.xml is not written"),
    ("gate --results golden --tolerance sisdr=1", "did you mean 'si_sdr'"),
    ("gate --results golden --tolerance si_sdr=much", "'much' is not a number"),
    ("gate --results golden --alpha 2", "alpha=2"),
    ("gate --results golden --only 7", "--only '7'"),
    ("gate --results golden --update --system nosuch", "nosuch"),
    ("gate --results damaged", "no baseline"),
    ("history --suite tiny.toml", "no results in"),
    ("history --results golden", "git log: fatal: not a git repository"),
    ("history --results golden --last 0", "'0'"),
    ("speed nosuch", "nosuch"),
    ("fetch nosuch", "nosuch"),
    ("doctor --nosuch", "--nosuch"),
    ("list nosuch", "nosuch"),
    ("tabels", "did you mean 'tables'"),
    ("compare identity --agianst opus-16k", "--against"),
    ("tables --limit 1.5", "1.5"),
    ("speed viskol", "did you mean 'visqol'"),
    ("probe run --task nosuch --representation mel", "nosuch"),
    ("probe run --task synthetic-pitch --representation nosuch", "nosuch"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    write_clips(folder / "clips", count=2)
    suite = tiny_toml(folder, Path("clips")).read_text()
    (folder / "afile").write_text("")
    (folder / "adir").mkdir()
    (folder / "adir" / "something.txt").write_text("mine")
    (folder / "taken").mkdir()
    (folder / "taken" / "clip0.wav").write_text("a reconstruction")
    shutil.copytree(GOLDEN, folder / "golden")
    (folder / "carded").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / "carded" / name).symlink_to(ROOT / "m2l" / "checkpoints" / "mini" / name)
    (folder / "carded" / "card.json").write_text('{"license": ')
    variants = {
        "broken": "[data\n",
        "unknown": suite.replace("metrics =", "metric ="),
        "gone": suite.replace('"clips"', '"nowhere"'),
        "codec": suite.replace('"opus-16k"', '"nosuchcodec"'),
        "metric": suite.replace('"si_sdr"', '"si_sdrr"'),
    }
    for name, text in variants.items():
        (folder / f"{name}.toml").write_text(text)
    (folder / "utf16.toml").write_bytes(suite.encode("utf-16"))
    for name, text in {"damaged": '{"name": ', "foreign": '["somebody", "else"]', "old": '{"format": 0}'}.items():
        (folder / name).mkdir()
        for file in ("table2.json", "baseline.json"):
            (folder / name / file).write_text(text)
    return folder


def said(text: str) -> list[str]:
    """The lines of a message, without argparse's usage."""
    lines = text.strip().splitlines()
    usage = [i for i, line in enumerate(lines) if line.startswith("usage:")]
    if usage:
        end = next((i for i in range(usage[0] + 1, len(lines)) if not lines[i].startswith(" ")), len(lines))
        lines = lines[: usage[0]] + lines[end:]
    return [line for line in lines if line.strip()]


@pytest.mark.parametrize(("command", "words"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_is_a_line_and_2_or_3(
    place: Path, command: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("M2L_CACHE", str(place / "cache"))
    monkeypatch.setenv("M2L_OFFLINE", "1")
    status = main(shlex.split(command))
    out, err = capsys.readouterr()
    assert status in (2, 3), err
    assert "Traceback" not in out + err
    assert words in (err if "gone.toml" not in command else out + err)
    assert len(said(err)) <= 4, err
    assert (place / "taken" / "clip0.wav").read_text() == "a reconstruction"
    assert (place / "adir" / "something.txt").read_text() == "mine"


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command line as a person types it; `m2l-bench` is `python -m benchmarks`."""
    text = command.replace("m2l-bench", f'"{sys.executable}" -m benchmarks')
    values = {**os.environ, "PYTHONPATH": str(ROOT), "M2L_CACHE": str(folder / "cache"), **environment}
    return subprocess.run(
        ["bash", "-c", text], cwd=folder, env=values, capture_output=True, text=True, errors="replace", check=False
    )


@pytest.mark.parametrize("module", ["benchmarks", "benchmarks.cli"])
def test_exit_codes_are_the_same_under_python_m(place: Path, module: str) -> None:
    """Run as `python -m`, the module is imported a second time: its exceptions must be those that are caught."""
    done = shell(f'"{sys.executable}" -m {module} gate --results golden --alpha 2', place)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "alpha=2" in done.stderr


def test_a_terminal_that_lacks_a_letter_changes_no_verdict(place: Path) -> None:
    done = shell("m2l-bench gate --results golden", place, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["gate --results golden", "list"])
def test_a_full_disk_on_stdout_is_one_line(place: Path, command: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = shell(f"m2l-bench {command} >/dev/full", place)
    assert done.returncode == 3
    (line,) = done.stderr.strip().splitlines()
    assert "No space left on device" in line


def test_a_reader_that_goes_away_keeps_the_verdict(place: Path) -> None:
    done = shell("m2l-bench gate --results golden | true; exit ${PIPESTATUS[0]}", place)
    assert (done.returncode, done.stderr) == (0, "")
    done = shell("m2l-bench list | head -n 1; exit ${PIPESTATUS[0]}", place)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_home_one_line_names_the_variable(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("M2L_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    # without a home folder, "~" stays what it is
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(place)
    assert main(["tables", "--suite", "tiny.toml", "--executor", "serial"]) == 3
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "set M2L_CACHE to a writable folder" in line
    assert main(["tables", "--suite", "tiny.toml", "--store", "~nobody-of-this-name/x"]) == 3
    assert "home folder" in capsys.readouterr().err


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
def test_a_suite_with_a_byte_order_mark_is_read(place: Path, tmp_path: Path, mark: bytes) -> None:
    from benchmarks.suite import load_suite

    (tmp_path / "bom.toml").write_bytes(mark + (place / "tiny.toml").read_bytes())
    assert load_suite(tmp_path / "bom.toml").name == "tiny"


def test_the_gate_writes_junit_whatever_is_wrong(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xml.etree import ElementTree

    monkeypatch.chdir(place)
    mistakes = ["--suite broken.toml", "--baseline damaged/baseline.json --results golden", "--suite tiny.toml"]
    for number, options in enumerate(mistakes):
        path = tmp_path / f"{number}.xml"
        assert main(["gate", *shlex.split(options), "--junit", str(path)]) in (2, 3)
        suite = ElementTree.parse(path).getroot().find("testsuite")
        assert suite is not None
        assert suite.get("errors") == "1"
    monkeypatch.setattr("benchmarks.gate.run.compare", lambda *_, **__: {}["a fault of ours"])
    assert main(["gate", "--results", "golden", "--junit", str(tmp_path / "ours.xml")]) == 3
    assert "internal error: KeyError" in (tmp_path / "ours.xml").read_text()
