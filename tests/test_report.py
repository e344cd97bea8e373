"""The report as files: complete, closed in itself, the same bytes every time, and honest about what is absent."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
import soundfile as sf
from report_helpers import cache_at, make_report, measured_suite

from benchmarks.cli.main import main
from benchmarks.harness.executors import make_executor
from benchmarks.harness.run import RunOptions
from benchmarks.report.aggregates import AggregateError, read_aggregates
from benchmarks.report.listening import Listening, ListeningOptions, build_listening
from benchmarks.report.site import render
from benchmarks.store.store import Store
from benchmarks.suite import load_suite

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with results and store, and the suite file."""
    folder = tmp_path_factory.mktemp("report")
    return folder, measured_suite(folder)


@pytest.fixture(scope="module")
def built(measured: tuple[Path, Path]) -> Path:
    """A report with four of six clips."""
    folder, suite = measured
    assert make_report(folder, suite, folder / "report", "--clips", "4") == 0
    return folder / "report"


class Links(HTMLParser):
    """Addresses and ids of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.addresses += [value for name in ("href", "src", "data-script") if (value := found.get(name))]
        self.ids += [value for value in [found.get("id")] if value]
        if tag == "script":
            self.scripts.append(found)


def pages_of(folder: Path) -> dict[Path, Links]:
    return {path: Links(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}


def test_every_link_leads_to_a_file_of_the_folder(built: Path) -> None:
    pages = pages_of(built)
    assert {"index.html", "listen.html", "provenance.html"} <= {path.name for path in pages}
    assert (built / "systems" / "opus-16k.html").is_file()
    for path, links in pages.items():
        assert len(links.ids) == len(set(links.ids)), f"{path.name}: an id twice"
        for address in links.addresses:
            parts = urlparse(address)
            assert not parts.scheme, f"{path.name} links to {address}"
            assert not parts.netloc, f"{path.name} links to {address}"
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name} links to {address}"
            if parts.fragment and target in pages:
                assert parts.fragment in pages[target].ids, f"{path.name} links to {address}"


def test_nothing_a_page_from_disk_may_not_do(built: Path) -> None:
    for links in pages_of(built).values():
        for script in links.scripts:
            assert script.get("type") in (None, "application/json")  # modules do not load from disk
    for path in [*built.rglob("*.js"), *built.rglob("*.css")]:
        if path.parent.name == "static":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"https?://|fetch\(|XMLHttpRequest|@import|import\(", text), path.name


def test_the_same_results_give_the_same_bytes(measured: tuple[Path, Path], built: Path) -> None:
    folder, suite = measured
    assert make_report(folder, suite, folder / "again", "--clips", "4") == 0
    first = {path.relative_to(built): path.read_bytes() for path in built.rglob("*") if path.is_file()}
    again = folder / "again"
    second = {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()}
    assert first == second


def test_audio_of_the_page_is_the_audio_that_was_scored(measured: tuple[Path, Path], built: Path) -> None:
    folder, _ = measured
    listing = (built / "listen.html").read_text(encoding="utf-8")
    scripts = sorted((built / "audio").glob("*.js"))
    assert len(scripts) == 4
    for path in scripts:
        found = re.fullmatch(r"m2lAudio\((.*)\);\n", path.read_text(), re.DOTALL)
        assert found is not None
        packed = json.loads(found[1])
        assert packed["tracks"]["identity"] == "_original"  # bit for bit the same: stored once
        decoded = {
            name: sf.read(io.BytesIO(base64.b64decode(data)))[0]
            for name, data in packed["tracks"].items()
            if name != "identity"
        }
        names = re.search(rf'id="{path.stem}".*?class="small source">(clip\d)\.wav', listing, re.DOTALL)
        assert names is not None
        original = sf.read(folder / "clips" / f"{names[1]}.wav")[0]
        for name, audio in decoded.items():
            assert abs(len(audio) - len(original)) <= 1152, name  # one MP3 frame
            n = min(len(audio), len(original))
            # The codecs of the page and of the system keep the place of every sample.
            cross = np.fft.irfft(np.fft.rfft(audio[:n], 2 * n) * np.conj(np.fft.rfft(original[:n], 2 * n)))
            assert int(np.argmax(cross)) in (0, 1, 2 * n - 1), name


def test_listening_page_says_scores_and_why(built: Path) -> None:
    text = (built / "listen.html").read_text(encoding="utf-8")
    table = json.loads((built / "data" / "table2.json").read_text())
    assert "lowest SI-SDR of 6 clips" in text
    assert "highest SI-SDR of 6 clips" in text
    shown = 0
    for name in re.findall(r'class="small source">(clip\d\.wav)', text):
        value = table["scores"]["si_sdr"]["opus-16k"][name]
        assert f"<dd>{value:.2f}</dd>".replace("-", "−") in text
        shown += 1
    assert shown == 4
    assert "The SI-SDR of 12 of 12 reconstructions was checked against the table" in text


def test_audio_that_is_not_what_was_scored_is_marked(measured: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = measured
    results = tmp_path / "results" / "tiny"
    shutil.copytree(folder / "results" / "tiny", results)
    record = json.loads((results / "table2.json").read_text())
    scores = record["scores"]["si_sdr"]["opus-16k"]
    record["scores"]["si_sdr"]["opus-16k"] = {clip: value - 1.0 for clip, value in scores.items()}
    (results / "table2.json").write_text(json.dumps(record))
    made = _listen(folder, results, clips=3)
    assert (made.checked, made.unequal) == (9, 3)
    marked = [track.notes for clip in made.clips for track in clip.tracks if track.key == "opus-16k"]
    assert all(any("the table says" in note for note in notes) for notes in marked)


def _listen(folder: Path, results: Path, clips: int = 2, suite: Path | None = None) -> Listening:
    found = read_aggregates(results)
    with cache_at(folder / "cache"), make_executor("serial") as executor:
        return build_listening(
            found,
            load_suite(suite or folder / "tiny.toml"),
            Store(),
            executor,
            RunOptions(quiet=True),
            ListeningOptions(clips),
        )


def test_stereo_clips_are_heard_in_stereo(tmp_path: Path) -> None:
    """The audio is that of the stereo view, held to the table by the SI-SDR of the side; a mono clip's by its own."""
    rng = np.random.default_rng(0)
    (tmp_path / "clips").mkdir()
    for index, channels in enumerate((2, 1)):
        noise = np.cumsum(rng.standard_normal((30000, channels)), axis=0)
        sf.write(tmp_path / "clips" / f"clip{index}.wav", 0.3 * noise / np.abs(noise).max(), 24000, subtype="FLOAT")
    (tmp_path / "tiny.toml").write_text(
        f'[data]\ndataset = "folder"\nchannels = "stereo"\n[data.options]\npath = "{tmp_path / "clips"}"\n'
        '[table2]\nsystems = ["noise-20db"]\nmetrics = ["si_sdr", "si_sdr:side"]\n'
    )
    with cache_at(tmp_path / "cache"):
        options = ["--results", str(tmp_path / "results"), "--executor", "serial", "--quiet"]
        assert main(["tables", "--suite", str(tmp_path / "tiny.toml"), *options]) == 0
    made = _listen(tmp_path, next(tmp_path.glob("results/**/table2.json")).parent)
    assert made.stereo
    assert (made.checked, made.unequal) == (2, 0)
    for clip in made.clips:
        packed = json.loads(made.files[clip.script].decode().removeprefix("m2lAudio(").removesuffix(");\n"))
        shapes = {sf.read(io.BytesIO(base64.b64decode(data)))[0].shape[1:] for data in packed["tracks"].values()}
        assert shapes == ({(2,)} if clip.name == "clip0.wav" else {()})


def test_weights_that_were_not_measured_are_not_heard(measured: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = measured
    results = tmp_path / "results" / "tiny"
    shutil.copytree(folder / "results" / "tiny", results)
    record = json.loads((results / "table2.json").read_text())
    for row in record["rows"]:
        if row["name"] == "opus-16k":
            row["metadata"]["weights_sha256"] = "0" * 64
    (results / "table2.json").write_text(json.dumps(record))
    made = _listen(folder, results)
    assert ("opus-16k", "the weights here are not those that were measured") in made.missing
    assert all(track.key != "opus-16k" for clip in made.clips for track in clip.tracks)


def test_without_the_clips_the_numbers_are_still_shown(
    measured: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, suite = measured
    moved = tmp_path / "moved"
    shutil.copytree(folder / "clips", moved)
    gone = suite.read_text().replace(str(folder / "clips"), str(tmp_path / "nowhere"))
    other = tmp_path / "tiny.toml"
    other.write_text(gone)
    results = tmp_path / "results" / "tiny"
    shutil.copytree(folder / "results" / "tiny", results)
    assert make_report(tmp_path, other, tmp_path / "out") == 0
    assert "The clips are not on the machine that made this report" in capsys.readouterr().out
    assert "No audio." in (tmp_path / "out" / "listen.html").read_text(encoding="utf-8")
    assert "opus-16k" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_other_clips_than_those_scored_are_not_played(measured: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = measured
    results = tmp_path / "results" / "tiny"
    shutil.copytree(folder / "results" / "tiny", results)
    clips = tmp_path / "clips"
    shutil.copytree(folder / "clips", clips)
    audio, rate = sf.read(clips / "clip0.wav")
    sf.write(clips / "clip0.wav", 0.5 * audio, rate, subtype="FLOAT")
    other = tmp_path / "tiny.toml"
    other.write_text((folder / "tiny.toml").read_text().replace(str(folder / "clips"), str(clips)))
    made = _listen(tmp_path, results, suite=other)
    assert not made.clips
    assert "are not those that were scored" in made.reason


def test_tables_made_with_a_limit_can_be_heard(measured: tuple[Path, Path], tmp_path: Path) -> None:
    from benchmarks.cli.main import main

    folder, suite = measured
    results = tmp_path / "results"
    arguments = ["tables", "--suite", str(suite), "--results", str(results), "--limit", "3", "--quiet"]
    with cache_at(folder / "cache"):
        assert main([*arguments, "--executor", "serial"]) == 0
    made = _listen(folder, results / "tiny", clips=12)
    assert len(made.clips) == made.n_clips == 3


def test_a_suite_of_one_s_own_shows_its_own_parts_and_published_figures_only_if_it_asks(
    measured: tuple[Path, Path], built: Path, tmp_path: Path
) -> None:
    text = (built / "index.html").read_text(encoding="utf-8")
    assert 'id="table2-table"' in text
    assert "Figure 2" not in text
    assert "Table 3" not in text
    assert "ublished" not in text
    folder, suite = measured
    asking = tmp_path / "tiny.toml"
    asking.write_text(
        "published = true\n" + suite.read_text() + '[table3]\nrows = { x = "identity" }\nmetrics = ["si_sdr"]\n'
    )
    shutil.copytree(folder / "results", tmp_path / "results")
    assert make_report(tmp_path, asking, tmp_path / "out", "--audio", "none") == 0
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "results/tiny/table3.json</code> does not exist" in text
    assert "--only 3" in text
    assert "1.665" in text  # the published ablation


def test_the_title_of_a_suite_keeps_its_case(measured: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = measured
    results = tmp_path / "results" / "tiny"
    shutil.copytree(folder / "results" / "tiny", results)
    record = json.loads((results / "table2.json").read_text())
    record["provenance"]["suite"]["title"] = "iPhone clips, MusicCaps"
    (results / "table2.json").write_text(json.dumps(record))
    site = render(read_aggregates(results), Listening(reason="none"), [])
    for name in ("index.html", "listen.html", "provenance.html"):
        assert "iPhone clips, MusicCaps" in re.sub("<title>.*</title>", "", site.files[name].decode())


def test_names_from_outside_cannot_become_markup(measured: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = measured
    results = tmp_path / "results" / "tiny"
    shutil.copytree(folder / "results" / "tiny", results)
    evil = '</script><script>alert("x")</script>'
    text = (results / "table2.json").read_text()
    record = json.loads(text.replace('"opus-16k"', json.dumps(evil)))
    record["rows"][0]["note"] = "<img src=x onerror=alert(1)>"
    (results / "table2.json").write_text(json.dumps(record))
    site = render(read_aggregates(results), Listening(reason="<b>none</b>"), ["m2l-bench <x>"])
    for name in site.pages:
        page = site.files[name].decode()
        assert evil not in page
        assert "<img src=x" not in page
        assert "<b>none</b>" not in page
    # Every script element of the page is one of ours, and its JSON is whole.
    index = site.files["index.html"].decode()
    data = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', index, re.DOTALL)
    assert any(evil in json.loads(part) for part in data)


def test_results_of_all_tables_make_a_report() -> None:
    found = read_aggregates(Path(__file__).resolve().parent / "golden" / "results" / "synthetic")
    site = render(found, Listening(reason="not asked for"), [])
    index = site.files["index.html"].decode()
    assert site.pages[0] == "index.html"
    for table in found.tables.values():
        for row in table.rows:
            assert (row.title or row.name) in index.replace("&#39;", "'")
            for cell in row.cells.values():
                if cell.reason not in (None, "-"):
                    assert str(cell.reason)[:20] in index.replace("&#39;", "'")
    assert "NaN" not in index
    assert ">None<" not in index


def test_errors_name_what_is_wrong(
    measured: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, suite = measured
    assert make_report(tmp_path, suite, tmp_path / "out") == 3
    assert f"m2l-bench tables --suite {suite} --results {tmp_path / 'results'}" in capsys.readouterr().err
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    assert make_report(folder, suite, precious) == 2
    assert "not a report" in capsys.readouterr().err
    assert (precious / "thesis.txt").read_text() == "years of work"
    assert make_report(folder, suite, tmp_path / "out", "--clips", "none") == 2
    broken = tmp_path / "results" / "tiny"
    broken.mkdir(parents=True)
    (broken / "table2.json").write_text('{"name": "table2"')
    with pytest.raises(AggregateError, match=r"table2\.json: not valid JSON"):
        read_aggregates(broken)
    (broken / "table2.json").write_text('{"name": "table2"}')
    with pytest.raises(AggregateError, match=r"table2\.json: key 'rows' is missing"):
        read_aggregates(broken)


def test_a_report_replaces_an_older_one_and_leaves_nothing_beside(measured: tuple[Path, Path], tmp_path: Path) -> None:
    folder, suite = measured
    output = tmp_path / "out"
    assert make_report(folder, suite, output, "--clips", "1") == 0
    assert (output / "audio" / "clip-01.js").is_file()
    assert make_report(folder, suite, output, "--audio", "none") == 0
    assert not (output / "audio").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_json_for_machines(measured: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, suite = measured
    assert make_report(folder, suite, tmp_path / "out", "--clips", "2", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert record["files"] == len(written)
    assert record["bytes"] == sum(path.stat().st_size for path in written)
    assert record["tracks_unequal"] == 0


def test_tables_end_with_the_command_of_the_report(
    measured: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.cli.main import main

    folder, suite = measured
    results = str(tmp_path / "results")
    with cache_at(folder / "cache"):
        assert main(["tables", "--suite", str(suite), "--results", results, "--executor", "serial"]) == 0
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == f"to look and listen: m2l-bench report --suite {suite} --results {results}"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom benchmarks.cli.main import main\n"
        "assert main(['report', '--help']) == 0\n"
        "assert not {'torch', 'jinja2', 'soundfile', 'scipy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "--clips" in done.stdout
