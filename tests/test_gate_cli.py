"""`m2l-bench gate` on results that were really measured: exit codes, files, and pinning."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from harness_helpers import tiny_toml, write_clips

from benchmarks.cli.main import main
from benchmarks.gate.record import RecordError, baseline_text, read_baseline
from benchmarks.gate.results import read_results

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny.toml`, `clips/` and `results/tiny/`, measured with SI-SDR and a distance."""
    folder = tmp_path_factory.mktemp("gate")
    write_clips(folder / "clips", count=6, seconds=3.2)
    toml = tiny_toml(folder, folder / "clips")
    toml.write_text(toml.read_text().replace('["si_sdr"]', '["si_sdr", "fad:musicnn-msd@3s"]'))
    command = ["tables", "--suite", str(toml), "--store", str(folder / "store"), "--executor", "serial"]
    assert main([*command, "--results", str(folder / "results"), "--quiet"]) == 0
    return folder


@pytest.fixture
def place(measured: Path, tmp_path: Path) -> Path:
    """A copy of the results that a test may change, pinned."""
    shutil.copytree(measured / "results", tmp_path / "results")
    shutil.copy(measured / "tiny.toml", tmp_path)
    assert gate(tmp_path, "--update") == 0
    return tmp_path


def gate(place: Path, *options: str) -> int:
    return main(["gate", "--suite", str(place / "tiny.toml"), "--results", str(place / "results"), *options])


def change_table(place: Path, old: str, change: float) -> None:
    """Shift the SI-SDR of all clips of a system, as a worse build would."""
    path = place / "results" / "tiny" / "table2.json"
    table = json.loads(path.read_text())
    scores = table["scores"]["si_sdr"][old]
    table["scores"]["si_sdr"][old] = {clip: value + change for clip, value in scores.items()}
    for row in table["rows"]:
        if row["name"] == old:
            row["cells"]["si_sdr"]["value"] += change
    path.write_text(json.dumps(table))


def test_measured_results_pass_their_own_baseline(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert gate(place) == 0
    out, err = capsys.readouterr()
    expected = 6 if "FAD_musicnn" in out else 3  # the embedder's weights may not be installed
    assert f"green ({expected} same)" in out
    assert err == ""


def test_worse_is_1_and_every_output_says_so(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change_table(place, "opus-16k", -1.5)
    summary = place / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert gate(place, "--junit", str(place / "gate.xml")) == 1
    out, err = capsys.readouterr()
    assert "gate: worse: opus-16k: SI-SDR changed by -1.500" in err
    assert "on 6 clips; most on clip" in err
    assert "**worse**" in out
    assert summary.read_text() == "before\n" + out + "\n"
    suite = ElementTree.parse(place / "gate.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("failures"), suite.get("errors")) == ("1", "0")
    assert gate(place, "--json") == 1
    record = json.loads(capsys.readouterr().out)
    assert (record["status"], record["counts"]["worse"]) == (1, 1)
    assert gate(place, "--tolerance", "si_sdr=2") == 0


def test_missing_is_3_and_worse_goes_before_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "results" / "tiny" / "table2.json"
    table = json.loads(path.read_text())
    table["rows"] = [row for row in table["rows"] if row["name"] != "noise-20db"]
    path.write_text(json.dumps(table))
    assert gate(place) == 3
    assert "gate: missing: noise-20db: SI-SDR (pinned 2" in capsys.readouterr().err
    change_table(place, "opus-16k", -1.5)
    assert gate(place) == 1


def test_replicates_of_another_run_do_not_count(place: Path) -> None:
    path = place / "results" / "tiny" / "table2.replicates.json"
    if not path.is_file():
        pytest.skip("the embedder's weights are not installed")
    replicates = json.loads(path.read_text())
    for cell in replicates["cells"]["fad:musicnn-msd@3s"].values():
        cell["value"] += 1.0
    path.write_text(json.dumps(replicates))
    assert gate(place) == 3
    path.unlink()
    assert gate(place) == 3
    path.write_text("{}")
    assert gate(place) == 2


def test_update_prints_what_it_changes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_table(place, "opus-16k", 1.5)
    capsys.readouterr()
    assert gate(place, "--update", "--tolerance", "si_sdr=0.3") == 0
    out = capsys.readouterr().out
    assert "- opus-16k SI-SDR: " in out
    assert "(better)" in out
    assert gate(place) == 0
    path = place / "results" / "tiny" / "baseline.json"
    assert read_baseline(path).tolerances == {"si_sdr": 0.3}
    assert gate(place, "--update", "--system", "opus-16k") == 0
    out = capsys.readouterr().out
    assert "no longer pinned: identity SI-SDR (100.00)" in out
    assert read_baseline(path).tolerances == {"si_sdr": 0.3}  # kept
    assert {system for _, system in read_baseline(path).measured} == {"opus-16k"}
    assert gate(place) == 0


def test_a_baseline_survives_its_file(place: Path) -> None:
    path = place / "results" / "tiny" / "baseline.json"
    pinned = read_baseline(path)
    assert baseline_text(pinned) == path.read_text()
    current = read_results(path.parent)
    assert pinned.measured == list(current.measured)
    for metric, system in pinned.measured:
        assert pinned.cells[metric][system].scores == current.cells[metric][system].scores
        assert pinned.cells[metric][system].replicates == current.cells[metric][system].replicates
        assert pinned.cells[metric][system].clips == current.cells[metric][system].clips


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--system", "identity"], 2, "--system chooses what --update pins"),
        (["--update", "--system", "dac"], 2, "system 'dac' was not measured; measured: identity, noise-20db"),
        (["--tolerance", "sisdr=1"], 2, "did you mean 'si_sdr'?"),
        (["--alpha", "0.9"], 2, "alpha=0.9"),
        (["--baseline", "nowhere.json"], 3, "no baseline nowhere.json; pin the results with"),
        (["--results", "nowhere", "--update"], 3, "no results in nowhere"),
    ],
)
def test_wrong_usage_is_2_and_absent_files_3(
    place: Path, arguments: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(place, *arguments) == status
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"format": 1}', '{"format": 99}', "\x00"])
def test_a_damaged_baseline_is_an_error_that_names_it(place: Path, damage: str) -> None:
    path = place / "results" / "tiny" / "baseline.json"
    path.write_text(damage)
    with pytest.raises(RecordError, match=r"baseline\.json"):
        read_baseline(path)
    assert gate(place) == 2


def test_a_baseline_of_an_earlier_format_names_the_command_that_pins_anew(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place / "results" / "tiny" / "baseline.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "format": 1, "tolerances": {"si_sdr": 0.3}}))
    capsys.readouterr()
    assert gate(place) == 2
    err = capsys.readouterr().err
    assert f"{path}: baseline format 1, this version reads 2; pin the results anew with: m2l-bench gate" in err
    assert err.rstrip().endswith("--update")
    assert gate(place, "--update") == 0
    assert read_baseline(path).tolerances == {"si_sdr": 0.3}  # kept, as from a baseline of this format
    assert gate(place) == 0


def test_groups_of_a_folders_table_reach_the_verdict(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six clips of three tracks: read from the results, kept by the baseline, said by the verdict."""
    shutil.copytree(measured / "results", tmp_path / "results")
    shutil.copy(measured / "tiny.toml", tmp_path)
    path = tmp_path / "results" / "tiny" / "table2.json"
    table = json.loads(path.read_text())
    clips = list(next(iter(table["scores"]["si_sdr"].values())))
    groups = {clip: f"track{number // 2}" for number, clip in enumerate(clips)}
    path.write_text(json.dumps({**table, "groups": groups}))
    assert gate(tmp_path, "--update") == 0
    assert read_baseline(path.parent / "baseline.json").groups == groups
    change_table(tmp_path, "opus-16k", -9.0)
    capsys.readouterr()
    assert gate(tmp_path) == 1
    assert "on 6 clips of 3 groups" in capsys.readouterr().err


def test_cut_scores_are_noticed(place: Path) -> None:
    path = place / "results" / "tiny" / "baseline.json"
    record = json.loads(path.read_text())
    record["cells"]["si_sdr"]["identity"]["scores"].pop()
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match="damaged baseline"):
        read_baseline(path)


def test_the_gate_loads_no_torch(place: Path) -> None:
    code = (
        "import sys\nfrom benchmarks.cli.main import main\n"
        "for words in (['gate', '--help'], ['history', '--help'], ['gate', *sys.argv[1:]]):\n"
        "    assert main(words) == 0\n"
        "heavy = {'torch', 'transformers', 'numba', 'matplotlib', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = [sys.executable, "-c", code, "--suite", str(place / "tiny.toml"), "--results", str(place / "results")]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
