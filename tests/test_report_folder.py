"""The folder of a report: replaced only where it is one, only its own files, and never half."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from report_helpers import cache_at, measured_suite

from benchmarks.cli.main import main
from benchmarks.report import folder as module
from benchmarks.report.folder import MARKER, check_target, marker_of, write

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "results"


def site(**files: str) -> dict[str, bytes]:
    """The files of a report; "__" in a name stands for a folder."""
    found = {name.replace("__", "/") + ".html": text.encode() for name, text in files.items()}
    return {**found, MARKER: marker_of(found, {"suite": "tiny"})}


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MARKER
    }


@pytest.mark.parametrize(
    "marker",
    [
        '{"pytest": "results"}',
        "",
        "[]",
        '{"kind": "m2l report"}',
        '{"kind": "m2l report", "files": ["index.html"]}',
        '{"kind": "m2l report", "made_by": "m2l 0.1.0", "files": {"../outside.txt": "0"}}',
        '{"kind": "m2l report", "made_by": "m2l 0.1.0", "files": {"/etc/hostname": "0"}}',
        '{"suite": "tiny", "made_by": "m2l 0.1.0", "results": {}}',
        "[" * 100_000,
    ],
)
def test_a_folder_of_somebody_else_is_refused_by_name(tmp_path: Path, marker: str) -> None:
    mine = tmp_path / "mine"
    (mine / "src").mkdir(parents=True)
    (mine / "src" / "thesis.tex").write_text("years")
    (mine / MARKER).write_text(marker)
    (tmp_path / "outside.txt").write_text("outside")
    with pytest.raises(FileExistsError, match="mine"):
        write(site(index="new"), mine)
    assert (mine / "src" / "thesis.tex").read_text() == "years"
    assert (tmp_path / "outside.txt").read_text() == "outside"


def test_the_command_refuses_and_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / MARKER).write_text('{"pytest": "results"}')
    assert main(["report", "--results", str(GOLDEN), "-o", str(mine), "--audio", "none"]) == 2
    assert "mine is not empty and is not a report: choose another folder with -o" in capsys.readouterr().err
    afile = tmp_path / "afile"
    afile.write_text("")
    assert main(["report", "--results", str(GOLDEN), "-o", str(afile / "deep"), "--audio", "none"]) == 2
    assert "afile is a file" in capsys.readouterr().err


def test_only_the_listed_files_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(site(index="old", systems__a="a"), out)
    (out / "notes.txt").write_text("mine")
    (out / "systems" / "notes.txt").write_text("mine too")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("far")
    (out / "link").symlink_to(tmp_path / "elsewhere")
    write(site(index="new", listen="b"), out)
    assert tree(out) == {"index.html": "new", "listen.html": "b", "notes.txt": "mine", "systems/notes.txt": "mine too"}
    assert (out / "link" / "a.txt").read_text() == "far"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "out"]


def test_a_copied_marker_gives_nothing_away(tmp_path: Path) -> None:
    """A genuine marker in a folder of other things: files of its names that it did not write stop the command."""
    out, mine = tmp_path / "out", tmp_path / "mine"
    write(site(index="old"), out)
    mine.mkdir()
    shutil.copy(out / MARKER, mine)
    (mine / "index.html").write_text("my own page")
    with pytest.raises(FileExistsError, match=r"index\.html was changed since the report was made"):
        check_target(mine)
    (mine / "index.html").unlink()
    (mine / "listen.html").write_text("my own page")
    with pytest.raises(FileExistsError, match=r"listen\.html does not belong to the report"):
        write(site(index="new", listen="b"), mine)
    assert (mine / "listen.html").read_text() == "my own page"


def test_a_link_to_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(site(index="old"), tmp_path / "link")
    write(site(index="new"), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert tree(tmp_path / "real") == {"index.html": "new"}


KILLED = """
import os, sys
from pathlib import Path
from benchmarks.report import folder
swap, here, count = sys.argv[1] == "swap", Path(sys.argv[2]), int(sys.argv[3])
sys.path.insert(0, str(Path(sys.argv[4])))
from test_report_folder import site
if not swap:
    folder._swap = lambda first, second: False
rename, seen = os.rename, [0]
def killed(*names):
    seen[0] += 1
    if seen[0] == count:
        os._exit(9)
    return rename(*names)
os.rename = killed
real = folder._swap
def swapped(first, second):
    seen[0] += 1
    if seen[0] == count:
        os._exit(9)
    done = real(first, second)
    seen[0] += 1
    if seen[0] == count:
        os._exit(9)
    return done
folder._swap = swapped
folder.write(site(index="new"), here / "out")
"""


@pytest.mark.parametrize(("way", "count"), [("swap", 1), ("swap", 2), ("renames", 1), ("renames", 3), ("renames", 4)])
def test_a_kill_leaves_one_whole_report_and_the_next_run_tidies_up(tmp_path: Path, way: str, count: int) -> None:
    out = tmp_path / "out"
    write(site(index="old"), out)
    (out / "notes.txt").write_text("mine")
    command = [sys.executable, "-c", KILLED, way, str(tmp_path), str(count), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    if way == "swap":  # where the system can swap, the folder is there at every moment
        assert tree(out) in ({"index.html": "old", "notes.txt": "mine"}, {"index.html": "new", "notes.txt": "mine"})
    module._recover(out)
    assert tree(out) in ({"index.html": "old", "notes.txt": "mine"}, {"index.html": "new", "notes.txt": "mine"})
    write(site(index="newer"), out)
    assert tree(out) == {"index.html": "newer", "notes.txt": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    write(site(index="old"), out)
    monkeypatch.setattr(module, "_exchange", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write(site(index="new"), out)
    assert tree(out) == {"index.html": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"dataset": "subprocess:Popen", "options": {"args": ["touch", "RAN"]}}},
        {"data": {"dataset": "folder", "options": {"path": "/etc"}}},
        {"table2": {"systems": ["external-command:touch RAN"], "metrics": ["si_sdr"]}},
        {"table2": {"systems": ["evil.py:Codec"], "metrics": ["si_sdr"]}},
    ],
)
@pytest.mark.parametrize("named", ["x", "synthetic"])
def test_results_name_nothing_that_is_run_or_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], named: str
) -> None:
    """Somebody else's results: their suite, their rows and their links are text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('RAN', 'w')\nclass Codec:\n    spec = {}\n")
    secret = tmp_path / "secret.json"
    secret.write_text('{"secret": 1}')
    folder = tmp_path / "r" / named
    shutil.copytree(GOLDEN / "synthetic", folder)
    path = folder / "table2.json"
    record = json.loads(path.read_text())
    record["provenance"]["suite"] |= change
    systems = change.get("table2", {"systems": ["external-command:touch RAN"]})["systems"]  # type: ignore[index]
    record["rows"][0]["name"] = systems[0]
    path.write_text(json.dumps(record))
    (folder / "cost.json").symlink_to(secret)
    with cache_at(tmp_path / "cache"):
        # A shipped suite's own clips may be played: none of its weights are asked for here.
        audio = ["--clips", "1", "--executor", "serial", "--quiet"] if named == "x" else ["--audio", "none"]
        assert main(["report", "--suite", named, "--results", "r", "-o", "out", *audio]) == 0
        assert main(["gate", "--suite", "synthetic", "--results", "r"]) == 3
    assert not (tmp_path / "RAN").exists()
    assert not (tmp_path / "out" / "data" / "cost.json").exists()


def test_rows_that_the_suite_does_not_name_are_not_heard(tmp_path: Path) -> None:
    suite = measured_suite(tmp_path)
    path = tmp_path / "results" / "tiny" / "table2.json"
    record = json.loads(path.read_text().replace("opus-16k", "external-command:touch RAN"))
    path.write_text(json.dumps(record))
    with cache_at(tmp_path / "cache"):
        arguments = ["report", "--suite", str(suite), "--results", str(tmp_path / "results"), "-o", str(tmp_path / "o")]
        assert main([*arguments, "--clips", "1", "--executor", "serial", "--quiet"]) == 0
    page = (tmp_path / "o" / "listen.html").read_text()
    assert "the suite has no such system" in page
    assert not (tmp_path / "RAN").exists()


def test_commands_of_the_page_work_as_they_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Boxes of what is not measured name the suite as it was given; a table that it does not have has no place."""
    import html
    import re
    import shlex

    suite = measured_suite(tmp_path, count=2)
    suite.write_text(suite.read_text() + '[table3]\nmetrics = ["si_sdr"]\nrows = { "a" = "noise-20db" }\n')
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    same = ["--suite", str(suite), "--results", str(tmp_path / "results")]
    assert main(["report", *same, "-o", str(tmp_path / "o"), "--audio", "none"]) == 0
    page = (tmp_path / "o" / "index.html").read_text()
    commands = [html.unescape(text) for text in re.findall(r"<pre[^>]*><code>(m2l-bench .*?)</code></pre>", page)]
    assert [command[-8:] for command in commands] == ["--only 3"]
    assert 'id="table1"' not in page
    words = shlex.split(commands[0])
    assert main([*words[1:], "--executor", "serial", "--quiet"]) == 0
    assert main(["gate", *same]) == 3
    hint = capsys.readouterr().err.split("pin the results with: ")[1].splitlines()[0]
    assert main(shlex.split(hint)[1:]) == 0
    assert main(["gate", *same]) == 0
