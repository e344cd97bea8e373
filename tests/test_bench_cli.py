"""`m2l-bench`: what it prints where, what it writes, and its exit codes."""

from __future__ import annotations

import json
import re
import shlex
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from harness_helpers import RATE, tiny_toml, write_clips

from benchmarks.cli.main import main


@pytest.fixture(scope="module")
def toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    write_clips(folder / "clips")
    return tiny_toml(folder, folder / "clips")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def tables(toml: Path, store: Path, results: Path, *options: object) -> int:
    fixed = ["tables", "--suite", toml, "--store", store, "--results", results, "--executor", "serial"]
    return run(*fixed, *options)


def test_tables_go_to_stdout_progress_to_stderr_files_to_results(
    toml: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tables(toml, store, tmp_path) == 0
    out, err = capsys.readouterr()
    assert out.startswith("### Table 2")
    assert "Published figures" not in out  # a suite of one's own asks for them: published = true
    assert "| real time (x)" in out
    assert "written:" in err
    assert re.search(r"^CPU time: .*score \d", err, re.MULTILINE)  # what was computed, by stage
    assert "| identity" not in err
    written = sorted(path.name for path in (tmp_path / "tiny").iterdir())
    assert written == ["cost.json", "scores.csv", "table2.csv", "table2.json", "table2.md"]
    # Times stand beside the files of tables, never in them: their bytes do not depend on how fast they were made.
    assert not [name for name in written if "real time (x)" in (tmp_path / "tiny" / name).read_text()]
    file = (tmp_path / "tiny" / "table2.md").read_text().splitlines()
    shown = dict(zip(file, out.splitlines(), strict=False))
    identity = next(line for line in file if line.startswith("| identity"))
    assert shown[identity].startswith(identity)  # and the real-time factor
    assert json.loads((tmp_path / "tiny" / "cost.json").read_text())["systems"]["opus-16k"]["real_time_factor"] > 0


@pytest.mark.parametrize("format", ["md", "csv", "json", "latex"])
def test_formats(toml: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str) -> None:
    assert tables(toml, store, tmp_path, "--format", format, "--quiet") == 0
    out = capsys.readouterr().out
    if format == "json":
        assert json.loads(out)["name"] == "table2"
    else:
        assert {"md": "| identity", "csv": "table2,tiny,identity,si_sdr", "latex": r"\toprule"}[format] in out


def test_dry_run_computes_and_writes_nothing(
    toml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    assert tables(toml, tmp_path / "store", tmp_path / "results", "--dry-run") == 0
    assert "28 would run" in capsys.readouterr().out
    mine = tmp_path / "tiny.toml"
    mine.write_text(toml.read_text().replace('"si_sdr"', '"si_sdr", "fad:vggish"'))
    assert tables(mine, tmp_path / "store", tmp_path / "results", "--dry-run") == 0
    assert "vggish: weights 'vggish' not found" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "store").exists()


def test_overwrite_never_refuses_to_change_a_result(
    toml: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tables(toml, store, tmp_path, "--quiet") == 0
    assert tables(toml, store, tmp_path, "--quiet", "--overwrite", "never") == 0
    path = tmp_path / "tiny" / "table2.json"
    before = path.read_text()
    assert tables(toml, store, tmp_path, "--quiet", "--overwrite", "never", "--limit", "3") == 1
    assert path.read_text() == before
    assert "would change" in capsys.readouterr().err


def test_cache_only_with_an_empty_store_measures_nothing(toml: Path, tmp_path: Path) -> None:
    status = tables(toml, tmp_path / "store", tmp_path / "results", "--overwrite", "cache-only", "--quiet")
    assert status == 3
    assert not (tmp_path / "results").exists()


def test_strict_turns_failed_clips_into_exit_code_1(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", count=3)
    sf.write(tmp_path / "clips" / "silent.wav", np.zeros(2 * RATE), RATE)
    toml = tiny_toml(tmp_path, tmp_path / "clips")
    assert tables(toml, tmp_path / "store", tmp_path / "results", "--quiet") == 0
    assert tables(toml, tmp_path / "store", tmp_path / "results", "--quiet", "--strict") == 1


def test_missing_data_is_exit_code_3_and_keeps_old_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = tiny_toml(tmp_path, tmp_path / "nowhere")
    old = tmp_path / "results" / "tiny" / "table2.json"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    assert tables(toml, tmp_path / "store", tmp_path / "results", "--quiet") == 3
    out, err = capsys.readouterr()
    assert "no such folder" in out
    assert "nothing could be measured" in err
    assert old.read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tables", "--suite", "sinthetic"], "did you mean 'synthetic'"),
        (["tables", "--suite", "/no/such.toml"], "does not exist"),
        (["tables", "--only", "4"], "1, 2, 3, figure2 or rate"),
        (["tables", "--limit", "-1"], "limit"),
        (["tables", "--workers", "0"], "workers"),
        (["tables", "--executor", "loky", "--address", "tcp://x:1"], "takes no address"),
        (["speed", "viskol"], "did you mean 'visqol'"),
        (["tabels"], "did you mean 'tables'"),
        (["tables", "--executor", "slurm"], "slurm"),
        (["run", "--shard", "3/3"], "3/3"),
    ],
)
def test_wrong_usage_is_exit_code_2_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_missing_table_builder_is_one_line_and_the_rest_goes_on(
    toml: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.tables import TABLES

    mine = tmp_path / "tiny.toml"
    mine.write_text(toml.read_text() + "[table1]\ntasks = ['x']\n")
    monkeypatch.setitem(TABLES._targets, "table1", "probes.not_there:build")
    assert tables(mine, store, tmp_path, "--quiet") == 0
    out, err = capsys.readouterr()
    assert "table1: this installation has no probes.not_there; left out" in err
    assert "### Table 2" in out


def test_figure_2_is_drawn_and_only_selects(
    toml: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "tiny.toml"
    figure = "[figure2]\nsystems = ['noise-20db', 'music2latent']\nmetrics = ['si_sdr']\nsteps = [1, 2]\n"
    mine.write_text(toml.read_text() + figure)
    assert tables(mine, store, tmp_path / "a", "--quiet", "--only", "figure2") == 0
    assert sorted(path.name for path in (tmp_path / "a" / "tiny").iterdir()) == ["figure2.json", "figure2.svg"]
    record = json.loads((tmp_path / "a" / "tiny" / "figure2.json").read_text())
    points = record["curves"]["noise-20db"]["si_sdr"]
    assert [point["n_steps"] for point in points] == [1, 2]
    assert all(point["low"] <= point["value"] <= point["high"] for point in points)
    assert "fetch music2latent" in record["curves"]["music2latent"]["si_sdr"][0]["reason"]
    svg = (tmp_path / "a" / "tiny" / "figure2.svg").read_bytes()
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert tables(mine, tmp_path / "fresh", tmp_path / "b", "--quiet", "--only", "2") == 0
    assert (tmp_path / "b" / "tiny" / "figure2.svg").read_bytes() == svg
    assert (tmp_path / "b" / "tiny" / "table2.json").is_file()
    assert "Figure 2" in capsys.readouterr().out


def test_table_3_evaluates_its_rows_and_names_missing_checkpoints(
    toml: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "tiny.toml"
    section = "[table3]\nmetrics = ['si_sdr']\nclips = 4\n[table3.rows]\nBase = 'noise-20db'\n"
    mine.write_text("published = true\n" + toml.read_text() + section + "'+ Attention' = 'music2latent:not-there'\n")
    assert tables(mine, store, tmp_path, "--quiet", "--only", "3") == 0
    record = json.loads((tmp_path / "tiny" / "table3.json").read_text())
    base, attention = record["rows"]
    assert (base["title"], base["cells"]["si_sdr"]["n"]) == ("Base", 4)
    assert "no checkpoint at 'not-there'" in attention["cells"]["si_sdr"]["reason"]
    out = capsys.readouterr().out
    assert "0.0537" in out  # the paper's FAD_clap, under its own heading, whatever is measured here
    assert "1.665" in out


def test_list_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "autoencoders"]) == 0
    assert "opus-96k" in capsys.readouterr().out.split()
    assert main(["list", "--json"]) == 0
    assert "synthetic" in json.loads(capsys.readouterr().out)["suites"]
    assert main([]) == 2
    assert "tables" in capsys.readouterr().out
    assert main(["speed", "--help"]) == 0
    assert "visqol" in capsys.readouterr().out
    assert main(["completion", "bash"]) == 0
    assert "new-autoencoder" in capsys.readouterr().out


def test_the_console_script_runs_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from m2l.cli.bench import main as script

    monkeypatch.setattr("sys.argv", ["m2l-bench", "list", "suites"])
    assert script() == 0
    assert "synthetic" in capsys.readouterr().out.split()


def test_doctor_says_what_each_missing_cell_needs(
    toml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("M2L_DATA", raising=False)
    assert main(["doctor", "--suite", str(toml)]) == 0
    out = capsys.readouterr().out
    assert "every cell can be measured" in out
    assert "m2l-bench fetch vggish" in out
    mine = tmp_path / "mine.toml"
    mine.write_text(toml.read_text().replace('"si_sdr"', '"si_sdr", "fad:vggish"'))
    assert main(["doctor", "--suite", str(mine), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    ((reason, cells),) = found["missing_cells"].items()
    assert "m2l-bench fetch vggish" in reason
    assert cells == [f"table2: {name} x fad:vggish" for name in ("identity", "noise-20db", "opus-16k")]
    assert found["packages"]["numpy"] == np.__version__
    assert "missing" in found["datasets"]["open"]


def test_commands_that_are_printed_work_as_they_are(
    toml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's own suite is a file: its name alone would be no suite."""
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    store = tmp_path / "a store"
    same = ["--suite", str(toml), "--store", str(store)]
    assert run("tables", *same, "--results", tmp_path / "r", "--dry-run") == 0
    hint = re.search(r"a few clips measure them: (m2l-bench run .*)", capsys.readouterr().out)
    assert hint is not None
    assert run(*shlex.split(hint[1])[1:], "--executor", "serial", "--quiet") == 0
    assert run("run", *same, "--shard", "0/1", "--executor", "serial", "--quiet") == 0
    run("status", *same)
    hint = re.search(r"units come with the tables: (m2l-bench tables .*)", capsys.readouterr().out)
    assert hint is not None
    assert run(*shlex.split(hint[1])[1:], "--results", tmp_path / "r", "--executor", "serial", "--quiet") == 0
    assert run("status", *same) == 0
