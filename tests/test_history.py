"""`m2l-bench history`: one line per commit, in order, and a drawing with the same bytes every time."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.cli.main import main
from benchmarks.gate.history import Entry, draw, merged, read_history, select, to_markdown, write_history
from benchmarks.gate.record import RecordError


def entry(index: int, value: float | str = 1.0, **changes: object) -> Entry:
    cells = {"si_sdr": {"codec": {"value": value, "low": 0.5, "high": 1.5, "n": 4}}}
    made = Entry(
        f"{index:040x}", f"2024-01-{index + 1:02d}T00:00:00+00:00", "tiny", False, "0.1.0", "abc", cells,
        {"si_sdr": "SI-SDR"},
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_file_holds_one_line_per_commit_in_order(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    assert read_history(path) == []
    write_history(path, merged([entry(2), entry(0)], [entry(1), entry(2, 9.0)]))
    found = read_history(path)
    assert [item.commit[-1] for item in found] == ["0", "1", "2"]
    assert found[2].value("si_sdr", "codec") == 9.0
    assert len(path.read_text().splitlines()) == 3
    assert merged(found, [entry(2, 5.0)], replace=False)[2].value("si_sdr", "codec") == 9.0


def test_dates_are_compared_as_moments() -> None:
    early = entry(0, date="2024-01-01T12:00:00+05:00")
    late = entry(1, date="2024-01-01T08:00:00Z")
    assert merged([late], [early]) == [early, late]
    with pytest.raises(RecordError, match="'yesterday' is not ISO 8601"):
        merged([entry(0, date="yesterday")], [])


@pytest.mark.parametrize("line", ["{", "{}", '{"commit": "a"}', "[1]"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history.jsonl"
    write_history(path, [entry(0)])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(RecordError, match="line 2"):
        read_history(path)


def test_table_shows_the_last_commits_and_marks_what_does_not_compare() -> None:
    entries = [entry(i, float(i), dirty=i == 8) for i in range(8)]
    entries += [entry(8, "inf", dirty=True, clips_sha256="other")]
    text = to_markdown(entries, select(entries, None, None), columns=3)
    assert "9 commits" in text
    assert "| codec  | SI-SDR | 6 " in text
    assert "∞" in text
    assert "00000000*" in text
    assert "Other clips from here on" in text
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


def test_command_records_under_head_once(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert history(repository) == 0
    assert history(repository, "--system", "opus-16k", "--metric", "si_sdr") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("| opus-16k | SI-SDR | 1")
    path = repository / "results" / "synthetic" / "history.jsonl"
    (only,) = read_history(path)
    assert not only.dirty  # the results themselves do not count
    assert (repository / "results" / "synthetic" / "history.svg").is_file()
    (repository / "code.py").write_text("2")
    assert history(repository, "--json") == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["dirty"] is True


def test_backfill_takes_in_what_earlier_commits_hold(repository: Path) -> None:
    path = repository / "results" / "synthetic" / "table2.json"
    first = json.loads(path.read_text())
    table = json.loads(path.read_text())
    for row in table["rows"]:
        if row["name"] == "opus-16k":
            row["cells"]["si_sdr"]["value"] = 3.0
    path.write_text(json.dumps(table))
    commit(repository, "worse")
    assert history(repository, "--backfill") == 0
    entries = read_history(repository / "results" / "synthetic" / "history.jsonl")
    values = {item.value("si_sdr", "opus-16k") for item in entries}
    before = next(row for row in first["rows"] if row["name"] == "opus-16k")["cells"]["si_sdr"]["value"]
    assert values == {before, 3.0}


def test_without_git_a_name_and_a_date_are_needed(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(repository / ".git")
    assert history(repository) == 2
    assert "git log: fatal" in capsys.readouterr().err
    assert history(repository, "--commit", "v1") == 2
    assert history(repository, "--commit", "v1", "--date", "2024-05-01T12:00:00Z") == 0
    assert history(repository, "--no-record") == 0
    with pytest.raises(SystemExit):
        history(repository, "--last", "0")
    (repository / "results" / "synthetic" / "table2.json").unlink()
    assert history(repository) == 3
    assert "run m2l-bench tables --suite synthetic --results" in capsys.readouterr().err
