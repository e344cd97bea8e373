"""Where results go: beside the committed ones in m2l's own checkout, and what a run says about those."""

from __future__ import annotations

import errno
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_helpers import tiny_toml, write_clips

from benchmarks.cli.main import main
from benchmarks.gate.judge import compare
from benchmarks.gate.policy import spread_tolerance
from benchmarks.gate.record import baseline_text, read_baseline
from benchmarks.gate.reproduction import reproduction_lines
from benchmarks.gate.results import read_results
from benchmarks.store import processor
from benchmarks.store.store import Result, Store
from benchmarks.tables.places import place_of

GOLDEN = Path(__file__).resolve().parent / "golden" / "results" / "synthetic"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in a repository of its own, with a measured and pinned reference of the suite `tiny`."""
    folder = tmp_path_factory.mktemp("checkout")
    write_clips(folder / "clips", count=3)
    tiny_toml(folder, Path("clips"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("M2L_CACHE", str(folder / "cache"))
        assert tables() == 0
        assert main(["gate", "--suite", "tiny.toml", "--update"]) == 0
        (folder / "pyproject.toml").write_text('[project]\nname = "m2l"\n')
        (folder / ".gitignore").write_text("/results/local/\n/cache/\n")
        git("init", "-q")
        git("add", "-A")
        git("-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "all")
    return folder


@pytest.fixture
def checkout(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    return tmp_path


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def tables(*options: str) -> int:
    return main(["tables", "--suite", "tiny.toml", "--executor", "serial", "--quiet", *options])


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Rewrite a JSON file with every number changed."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        return change(value) if isinstance(value, float) else value

    path.write_text(json.dumps(walk(json.loads(path.read_text()))))


def test_a_run_in_the_checkout_leaves_the_reference_alone_and_says_what_it_reproduces(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tables() == 0
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == "reproduces results/tiny: 6 of 6 cells within tolerance"  # 3 scores, 3 ratios
    assert git("status", "--porcelain") == ""
    local = checkout / "results" / "local" / "tiny"
    assert (local / "table2.json").read_bytes() == (checkout / "results" / "tiny" / "table2.json").read_bytes()
    table = json.loads((local / "table2.json").read_text())
    for row in table["rows"]:
        if row["name"] == "opus-16k":
            row["cells"]["si_sdr"]["value"] -= 1.0
    table["scores"]["si_sdr"]["opus-16k"] = {k: v - 1 for k, v in table["scores"]["si_sdr"]["opus-16k"].items()}
    (local / "table2.json").write_text(json.dumps(table))
    lines = reproduction_lines(checkout / "results" / "tiny", local, ["table2"])
    assert lines[0] == "reproduces results/tiny: 5 of 6 cells within tolerance".replace(
        "results/tiny", str(checkout / "results" / "tiny")
    )
    assert "opus-16k: SI-SDR changed by -1.000" in lines[1]
    # The gate judges what was measured, by the committed baseline.
    assert main(["gate", "--suite", "tiny.toml"]) == 1
    assert main(["gate", "--suite", "tiny.toml", "--results", "results"]) == 0
    assert tables("--limit", "2") == 0
    assert "reproduces" not in capsys.readouterr().err  # other clips


def test_only_refresh_rewrites_the_reference(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkout / "results" / "tiny" / "table2.json"
    path.write_text(path.read_text().replace("Table 2", "Table 2, of an older version"))
    assert tables() == 0
    assert "older version" in path.read_text()
    assert main(["gate", "--suite", "tiny.toml", "--update"]) == 0
    assert "m2l-bench tables --suite tiny.toml --refresh" in capsys.readouterr().err
    assert tables("--refresh") == 0
    assert "older version" not in path.read_text()
    assert tables("--results", "elsewhere", "--refresh") == 2
    assert "elsewhere/tiny is written anyway" in capsys.readouterr().err


def test_everybody_else_has_one_folder(checkout: Path) -> None:
    assert place_of(None, "tiny").in_checkout
    assert not place_of("results", "tiny").in_checkout
    assert not place_of(None, "another").in_checkout  # nothing is pinned
    (checkout / "pyproject.toml").write_text('[project]\nname = "my-codec"\n')
    assert place_of(None, "tiny").measured == Path("results/tiny")
    (checkout / "pyproject.toml").unlink()
    assert not place_of(None, "tiny").in_checkout


def test_last_digits_of_committed_results_change_no_verdict(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "synthetic")
    rng = random.Random(0)
    for path in sorted((tmp_path / "synthetic").glob("*.json")):
        edit(path, lambda value: value * (1 + rng.uniform(-1e-12, 1e-12)))
    assert main(["gate", "--results", str(tmp_path), "--strict"]) == 0
    lines = reproduction_lines(GOLDEN, tmp_path / "synthetic", ["table1", "table2", "table3", "figure2"])
    count = lines[0].split(": ")[1].split(" ")
    assert count[0] == count[2]
    assert len(lines) == 1


def test_the_gate_covers_tables_1_and_3_and_figure_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = read_baseline(GOLDEN / "baseline.json")
    assert set(baseline.others) == {"table1", "table3", "figure2"}
    assert baseline_text(baseline) == (GOLDEN / "baseline.json").read_text()
    shutil.copytree(GOLDEN, tmp_path / "synthetic")

    def lower(table: str, row: str, column: str, by: float) -> None:
        path = tmp_path / "synthetic" / f"{table}.json"
        record = json.loads(path.read_text())
        if table == "figure2":
            record["curves"][row][column][0]["value"] -= by
        for found in record.get("rows", ()):
            if found["name"] == row:
                found["cells"][column]["value"] -= by
        path.write_text(json.dumps(record))

    key = "synthetic-pitch/f1_micro"
    seeds = baseline.others["table1"].cells[key]["mel"].seeds
    # The fixture names no processor: its own scores are compared as if they came from another one.
    allowed = spread_tolerance(seeds, baseline.others["table1"].cells[key]["mel"].n, seeds)
    assert 0.3 < allowed < 10
    lower("table1", "mel", key, 0.9 * allowed)
    lower("figure2", "music2latent-mini", "si_sdr", 0.09)
    assert main(["gate", "--results", str(tmp_path)]) == 0
    capsys.readouterr()
    lower("table1", "mel", key, 0.2 * allowed)
    lower("figure2", "music2latent-mini", "si_sdr", 0.02)
    assert main(["gate", "--results", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "gate: worse: mel: Table 1 Synthetic pitch class micro F1 changed by -" in err
    assert "gate: worse: music2latent-mini@1: Figure 2 SI-SDR changed by -0.110" in err
    assert err.count("worse") == 2
    assert main(["gate", "--results", str(tmp_path), "--only", "3"]) == 0
    (tmp_path / "synthetic" / "table3.json").unlink()
    assert main(["gate", "--results", str(tmp_path), "--only", "3"]) == 3
    assert "Table 3 SI-SDR (pinned -11.60): the table is not among the results" in capsys.readouterr().err


def test_a_baseline_of_table_2_alone_still_gates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(GOLDEN, tmp_path / "synthetic")
    path = tmp_path / "synthetic" / "baseline.json"
    record = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("table1", "table3", "figure2")}
    path.write_text(json.dumps(record))
    assert main(["gate", "--results", str(tmp_path)]) == 0
    assert "Table 1 is not pinned" in capsys.readouterr().out


def test_another_processor_is_named_and_given_a_wider_tolerance(tmp_path: Path) -> None:
    """libopus of another processor moved a distance by 2.1 %: that is no regression there, and is one here."""
    pinned, now = read_baseline(GOLDEN / "baseline.json"), read_results(GOLDEN)
    here = {"model": "A", "vectors": "avx2", "cores": 4}

    def judged(other: dict[str, Any] | None, share: float) -> tuple[dict[str, int], str]:
        cell = now.cells["fad:musicnn-msd@3s"]["opus-16k"]
        assert cell.value is not None
        from dataclasses import replace

        worse = replace(
            cell, value=cell.value * (1 + share), replicates=tuple(x * (1 + share) for x in cell.replicates)
        )
        cells = {**now.cells, "fad:musicnn-msd@3s": {**now.cells["fad:musicnn-msd@3s"], "opus-16k": worse}}
        about = {**now.about, **({"processor": other} if other else {})}
        before = replace(pinned, about={**pinned.about, "processor": here}, others={})
        report = compare(before, replace(now, cells=cells, about=about, others={}), strict=True)
        return report.counts, " ".join(report.notes)

    assert judged({**here, "cores": 64}, 0.021)[0]["worse"] == 1
    counts, notes = judged({"model": "B", "vectors": "avx512", "cores": 4}, 0.021)
    assert counts["worse"] == 0
    assert "measured on B (avx512), pinned on A (avx2): a likely cause of small changes" in notes
    assert judged({"model": "B", "vectors": "avx512", "cores": 4}, 0.05)[0]["worse"] == 1
    assert judged(None, 0.021)[0]["worse"] == 0


def test_tables_record_the_processor(checkout: Path) -> None:
    record = json.loads((checkout / "results" / "tiny" / "table2.json").read_text())
    found = record["provenance"]["processor"]
    assert found == processor.processor()
    assert found["model"]
    assert found["cores"] >= 1
    baseline = json.loads((checkout / "results" / "tiny" / "baseline.json").read_text())
    assert baseline["about"]["processor"] == found


def test_a_probe_s_tolerance_comes_from_its_seeds() -> None:
    assert spread_tolerance([50.0, 52.0, 51.0, 49.0, 53.0], 1000) == pytest.approx(
        2 * 1.5811 * (2 / 5) ** 0.5, rel=1e-3
    )
    assert spread_tolerance([60.0] * 5, 40) == 0.5  # one item of one seed
    assert spread_tolerance([60.0] * 5, 0) == 0.1  # nothing is trained: the last digit of the table


def test_a_probe_trained_on_another_processor_is_compared_by_the_spread_of_both() -> None:
    """Scores of one probe of this suite on an AMD EPYC and on an Intel Xeon."""
    here, there = [17.9, 19.4, 20.4, 19.8, 20.8], [26.6, 21.4, 20.4, 19.8, 26.8]
    pooled = (np.var(here, ddof=1) + np.var(there, ddof=1)) / 2
    assert spread_tolerance(here, 62, there) == pytest.approx(5.041 * np.sqrt(pooled * 2 / 5), rel=1e-3)
    assert spread_tolerance(there, 62, here) > np.mean(there) - np.mean(here) > spread_tolerance(here, 62)


def full_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A store on a disk that is full after so many results."""
    put, left = Store.put, [count]

    def limited(self: Store, key: str, result: Result) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, key, result)

    monkeypatch.setattr(Store, "put", limited)


@pytest.mark.parametrize("count", [0, 12])
def test_a_failed_run_keeps_complete_results_and_the_gate_judges_what_it_left(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    folder = checkout / "results" / "local" / "tiny"
    assert tables() == 0
    before = (folder / "table2.json").read_bytes()
    with monkeypatch.context() as patch:
        full_after(patch, count)
        assert tables("--store", "fresh") in (1, 3)  # 3: the planted fault lies in no file of ours
    assert "table2.json is kept: this run failed and lacks" in capsys.readouterr().err
    assert (folder / "table2.json").read_bytes() == before
    assert (folder / "table2.incomplete.json").is_file()
    assert main(["gate", "--suite", "tiny.toml"]) == 3
    assert "gate: missing: opus-16k: SI-SDR" in capsys.readouterr().err
    assert tables("--store", "fresh") == 0
    assert not list(folder.glob("*.incomplete.*"))
    assert main(["gate", "--suite", "tiny.toml"]) == 0


def test_a_store_that_is_no_store_is_one_line(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (checkout / "results" / "tiny" / "table2.json").read_bytes()
    (checkout / "afile").write_text("")
    capsys.readouterr()
    assert tables("--results", "results", "--store", "afile") in (2, 3)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "afile" in line
    assert (checkout / "results" / "tiny" / "table2.json").read_bytes() == before


def test_cells_without_a_standard_error_do_not_loosen_the_test_of_the_others() -> None:
    """Probes that moved within their tolerance are no rejections in Holm's sense: p-values stay what they were."""
    from dataclasses import replace

    baseline, now = read_baseline(GOLDEN / "baseline.json"), read_results(GOLDEN)
    scores = {
        clip: value - 0.2 * (i % 3) for i, (clip, value) in enumerate(now.cells["si_sdr"]["mp3-64k"].scores.items())
    }
    cell = replace(now.cells["si_sdr"]["mp3-64k"], scores=scores)
    cells = {**now.cells, "si_sdr": {**now.cells["si_sdr"], "mp3-64k": cell}}
    probes = now.others["table1"]
    lower = {
        metric: {name: replace(c, value=None if c.value is None else c.value - 0.05) for name, c in rows.items()}
        for metric, rows in probes.cells.items()
    }
    moved = replace(now, cells=cells, others={**now.others, "table1": replace(probes, cells=lower)})

    def p_of(current: Any, only: list[str] | None) -> float:
        found = compare(baseline, current, only=only).verdicts
        return next(item.p for item in found if (item.metric, item.system) == ("si_sdr", "mp3-64k"))

    assert 0 < p_of(moved, ["table2"]) < 1
    assert p_of(moved, ["table2", "table1"]) == p_of(moved, ["table2"])
