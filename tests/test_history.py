"""`m2l-bench history`: the results of each commit, in order, and a drawing with the same bytes every time."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.cli.main import main
from benchmarks.gate.history import Entry, draw, read_history, select, to_markdown
from benchmarks.gate.record import RecordError


def entry(index: int, value: float | str = 1.0, **changes: object) -> Entry:
    cells = {"si_sdr": {"codec": {"value": value, "low": 0.5, "high": 1.5, "n": 4}}}
    made = Entry(
        f"{index:040x}", f"2024-01-{index + 1:02d}T00:00:00+00:00", "tiny", False, "0.1.0", "abc", cells,
        {"si_sdr": {"title": "SI-SDR", "digits": 2}},
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def test_table_shows_the_last_commits_and_marks_what_does_not_compare() -> None:
    entries = [entry(i, float(i)) for i in range(8)]
    entries += [entry(8, "inf", uncommitted=True, clips_sha256="other")]
    text = to_markdown(entries, select(entries, None, None), columns=3)
    assert "9 commits" in text
    assert "| codec  | SI-SDR | 6.00 " in text
    assert "∞" in text
    assert "00000000*" in text
    assert "The clips changed" in text
    with pytest.raises(RecordError, match="no system 'dac' in the history; known: codec"):
        select(entries, None, ["dac"])


@pytest.mark.parametrize("count", [1, 30])
def test_drawing_is_svg_and_repeats(count: int) -> None:
    entries = [entry(i % 28, float(i), commit=f"{i:040x}") for i in range(count)]
    entries.append(entry(5, "inf", commit="f" * 40, clips_sha256="other"))
    series = select(entries, None, None)
    svg = draw(entries, series)
    assert svg == draw(entries, series)
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert svg.count("line2d") > 3


def commit(folder: Path, message: str) -> str:
    def git(*arguments: str) -> str:
        base = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
        return subprocess.run([*base, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    if not (folder / ".git").exists():
        git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", message)
    return git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with results of the synthetic suite."""
    source = Path(__file__).resolve().parent / "golden" / "results" / "synthetic" / "table2.json"
    folder = tmp_path / "results" / "synthetic"
    folder.mkdir(parents=True)
    shutil.copy(source, folder)
    (tmp_path / "code.py").write_text("1")
    commit(tmp_path, "first")
    return tmp_path


def history(place: Path, *options: str) -> int:
    return main(["history", "--results", str(place / "results"), *options])


def change(place: Path, value: float) -> None:
    """Another result of one cell."""
    path = place / "results" / "synthetic" / "table2.json"
    table = json.loads(path.read_text())
    next(row for row in table["rows"] if row["name"] == "opus-16k")["cells"]["si_sdr"]["value"] = value
    path.write_text(json.dumps(table))


def test_each_commit_that_changed_the_results_is_an_entry(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = repository / "results" / "synthetic"
    (first,) = read_history(folder, folder, 60)
    change(repository, 3.0)
    second = commit(repository, "worse")
    (repository / "code.py").write_text("2")
    commit(repository, "nothing measured")
    entries = read_history(folder, folder, 60)
    assert [item.commit for item in entries] == [first.commit, second]
    assert [item.value("si_sdr", "opus-16k") for item in entries][1] == 3.0
    assert not any(item.uncommitted for item in entries)
    assert [item.commit for item in read_history(folder, folder, 1)] == [second]
    assert history(repository, "--system", "opus-16k", "--metric", "si_sdr") == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("| opus-16k | SI-SDR | ")
    assert line.endswith("| 3.00                |")
    assert (folder / "history.svg").is_file()


def test_what_was_measured_since_comes_last_with_a_mark(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(repository, 4.0)
    assert history(repository) == 0
    assert "not committed" in capsys.readouterr().out
    assert history(repository, "--json", "-o", str(repository / "trend.svg")) == 0
    committed, now = json.loads(capsys.readouterr().out)
    assert (committed["uncommitted"], now["uncommitted"]) == (False, True)
    assert now["cells"]["si_sdr"]["opus-16k"]["value"] == 4.0
    assert (repository / "trend.svg").is_file()


def test_a_subject_that_is_a_hash_names_the_measured_commit(repository: Path) -> None:
    change(repository, 3.0)
    commit(repository, "f" * 40)
    folder = repository / "results" / "synthetic"
    assert read_history(folder, folder, 60)[-1].commit == "f" * 40


def test_a_damaged_table_is_skipped_in_the_past_and_an_error_now(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = repository / "results" / "synthetic" / "table2.json"
    good = path.read_text()
    path.write_text('{"rows": 3}')
    commit(repository, "damaged")
    assert history(repository) == 2
    assert "not a table" in capsys.readouterr().err
    path.write_text(good)
    commit(repository, "repaired")
    assert history(repository) == 0
    assert "2 commits" in capsys.readouterr().out


def test_without_git_or_results_the_command_says_so(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert history(repository, "--last", "0") == 2
    assert history(repository, "--system", "dac") == 2
    assert "no system 'dac' in the history" in capsys.readouterr().err
    shutil.rmtree(repository / ".git")
    assert history(repository) == 2
    assert "git log: fatal" in capsys.readouterr().err
    shutil.rmtree(repository / "results")
    assert history(repository) == 3
    assert "run m2l-bench tables --suite synthetic --results" in capsys.readouterr().err
