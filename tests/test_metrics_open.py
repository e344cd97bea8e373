"""A metric or an embedder from outside: a short file works in comparisons, suites and the gate, and leaves no trace."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from harness_helpers import run_tests, tiny_suite, write_clips
from joblib.externals.loky import get_reusable_executor

from benchmarks.cli.main import main
from benchmarks.metrics.base import PairMetric
from benchmarks.metrics.registry import METRICS, list_metrics, parse_metric
from benchmarks.registry import UnknownNameError
from benchmarks.suite import SuiteError, load_suite, parse_columns
from benchmarks.user_code import UserCodeError

#: The whole file of a user's metric.
PLAIN = """
import numpy as np

def distance(preds, target, sample_rate):
    "Largest difference of two samples."
    return float(np.abs(preds - target).max())

distance.higher_is_better = False
distance.tolerance = 0.25
"""

EMBEDDER = """
import numpy as np

class Loudness:
    sample_rate = 8000

    def embed(self, audio):
        frames = audio[: len(audio) // 800 * 800].reshape(-1, 800)
        return np.stack([np.abs(frames).mean(axis=1), frames.std(axis=1)], axis=1)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with clips, where commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    write_clips(tmp_path / "clips", 6)
    yield tmp_path
    get_reusable_executor().shutdown(wait=True)  # its workers would stay in this folder


def module(place: Path, text: str) -> str:
    """The file under a name that no other test has: modules are imported once per process."""
    name = f"open_{abs(hash(str(place))) % 10**8}"
    (place / f"{name}.py").write_text(text)
    return name


def suite_file(place: Path, metrics: list[str], systems: str = '"identity", "noise-20db"') -> Path:
    path = place / "mine.toml"
    path.write_text(
        f'[data]\ndataset = "folder"\noptions = {{ path = "{place / "clips"}" }}\nunit_clips = 3\n'
        f"[table2]\nsystems = [{systems}]\nmetrics = {json.dumps(metrics)}\n"
        "[statistics]\nresamples = 200\n"
    )
    return path


def tables(place: Path, metrics: list[str], *more: str) -> dict:
    suite_file(place, metrics, *more)
    command = ["tables", "--suite", "mine.toml", "--results", "out", "--executor", "serial", "--quiet"]
    assert main(command) == 0
    found: dict = json.loads((place / "out" / "mine" / "table2.json").read_text())
    return found


def test_a_function_of_ten_lines_is_a_column_of_a_comparison(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = module(place, PLAIN)
    suite_file(place, ["si_sdr"])
    command = ["compare", "opus-16k", "--against", "mp3-64k", "--suite", "mine.toml"]
    command += ["--metrics", f"si_sdr,{name}.py:distance"]
    assert main([*command, "--executor", "serial", "--quiet", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    column = next(item for item in found["columns"] if item["key"] == f"{name}:distance")
    assert column["title"] == "distance"
    assert column["higher_is_better"] is False
    assert column["note"] == "Largest difference of two samples."
    best = next(item for item in found["best"] if item["column"] == f"{name}:distance")
    assert best["names"]
    assert {row["cells"][f"{name}:distance"]["n"] for row in found["rows"]} == {6}


def test_it_works_in_a_suite_on_several_workers_and_is_kept(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = module(place, PLAIN)
    suite_file(place, [f"{name}.py:distance", f"peak={name}.py:distance"])
    command = ["tables", "--suite", "mine.toml", "--results", "out", "--executor", "loky", "--workers", "2"]
    assert main(command) == 0
    record = json.loads((place / "out" / "mine" / "table2.json").read_text())
    assert [c["key"] for c in record["columns"][:2]] == [f"{name}:distance", "peak"]
    cells = {row["name"]: row["cells"] for row in record["rows"]}
    assert cells["identity"]["peak"]["value"] == 0.0
    assert cells["noise-20db"]["peak"]["value"] == cells["noise-20db"][f"{name}:distance"]["value"] > 0.0
    assert str(place) not in json.dumps(record["columns"])
    capsys.readouterr()
    assert main([*command, "--dry-run"]) == 0
    assert "0 would run" in capsys.readouterr().out


def test_the_gate_takes_its_direction_and_tolerance(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = module(place, PLAIN)
    tables(place, [f"{name}.py:distance"])
    gate = ["gate", "--suite", "mine.toml", "--results", "out"]
    assert main([*gate, "--update"]) == 0
    assert main(gate) == 0
    path = place / "out" / "mine" / "table2.json"
    text = path.read_text()

    def moved(change: float) -> int:
        record = json.loads(text)
        for row in record["rows"]:
            row["cells"][f"{name}:distance"]["value"] += change
            scores = record["scores"][f"{name}:distance"][row["name"]]
            record["scores"][f"{name}:distance"][row["name"]] = {k: v + change for k, v in scores.items()}
        path.write_text(json.dumps(record))
        return main(gate)

    assert moved(0.2) == 0  # within the tolerance that the file declares
    assert moved(-0.3) == 0  # lower is better
    capsys.readouterr()
    assert moved(0.3) == 1
    assert "distance changed by +0.3" in capsys.readouterr().err
    assert main([*gate, "--tolerance", f"{name}:distance=0.5"]) == 0


def test_removed_again_nothing_of_it_remains(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = module(place, PLAIN)
    before = tables(place, ["si_sdr"])
    tables(place, ["si_sdr", f"{name}.py:distance"])
    gate = ["gate", "--suite", "mine.toml", "--results", "out"]
    assert main([*gate, "--update"]) == 0
    (place / f"{name}.py").unlink()
    assert tables(place, ["si_sdr"]) == before
    names = [*list_metrics(), *METRICS.names()]
    assert not any("open_" in item for item in names)
    capsys.readouterr()
    assert main(gate) == 3  # what is pinned is missed, in words
    assert "the results have no such metric" in capsys.readouterr().err
    assert main([*gate, "--update"]) == 0
    assert name not in (place / "out" / "mine" / "baseline.json").read_text()
    assert main(gate) == 0


def test_values_are_measured_anew_when_the_file_or_what_it_reads_changes(place: Path) -> None:
    text = PLAIN.replace("return float(", 'return float(open("scale.txt").read()) * float(')
    (place / "scale.txt").write_text("1")
    name = module(place, text)
    metric = [f"x={name}.py:distance"]

    def value() -> float:
        rows = tables(place, metric)["rows"]
        return next(float(row["cells"]["x"]["value"]) for row in rows if row["name"] == "noise-20db")

    first = value()
    (place / "scale.txt").write_text("2")
    assert value() == pytest.approx(2 * first)
    (place / f"{name}.py").write_text(text.replace("return float(", "return 2 * float("))
    assert value() == pytest.approx(4 * first)


def test_an_error_in_it_names_file_line_and_clip(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = module(place, "def broken(preds, target, sample_rate):\n    return {}['value']\n")
    suite_file(place, ["si_sdr"])
    command = ["compare", "opus-16k", "--suite", "mine.toml", "--metrics", f"{name}.py:broken", "--quiet"]
    assert main([*command, "--executor", "serial"]) == 2
    assert f"{name}.py:2 in broken, clip clip0.wav: KeyError: 'value'" in capsys.readouterr().err
    module(place, "def broken(preds, target, sample_rate):\n    return 'loud'\n")
    assert main([*command, "--executor", "serial"]) == 2
    assert "returned str 'loud', expected a number" in capsys.readouterr().err


def test_an_embedder_class_gives_distances_of_corpora(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = module(place, EMBEDDER)
    before = tables(place, ["si_sdr"])
    record = tables(place, ["si_sdr", f"fad:{name}.py:Loudness", f"kad:{name}.py:Loudness"])
    keys = [column["key"] for column in record["columns"][:3]]
    assert keys == ["si_sdr", f"fad:{name}:Loudness", f"kad:{name}:Loudness"]
    assert [column["title"] for column in record["columns"][1:3]] == ["FAD_Loudness", "KAD_Loudness"]
    cells = {row["name"]: row["cells"] for row in record["rows"]}
    assert cells["identity"][keys[1]]["value"] == 0.0
    assert cells["noise-20db"][keys[1]]["value"] > 0.0
    gate = ["gate", "--suite", "mine.toml", "--results", "out"]
    assert main([*gate, "--update"]) == 0
    assert main(gate) == 0
    (place / f"{name}.py").unlink()
    assert tables(place, ["si_sdr"]) == before
    capsys.readouterr()


def test_a_decorator_a_class_and_a_metric_object_declare_the_same(place: Path) -> None:
    name = module(
        place,
        "from benchmarks.metrics import PairMetric, metric\n"
        "@metric(unit='dB', digits=1, worst=-3.0, version=2)\n"
        "def decorated(preds, target, sample_rate):\n    return 1.0, None\n"
        "class Made:\n"
        "    unit, digits, worst, version = 'dB', 1, -3.0, '2'\n"
        "    def __call__(self, preds, target, sample_rate):\n        return 1.0\n"
        "WHOLE = PairMetric(name='whole', title='Whole', function=decorated, unit='dB', digits=1, worst=-3.0)\n",
    )
    found = parse_columns([f"{name}:decorated", f"{name}:Made", f"{name}:WHOLE"])
    for metric in found:
        assert isinstance(metric, PairMetric)
        assert (metric.unit, metric.digits, metric.worst) == ("dB", 1, -3.0)
        again = pickle.loads(pickle.dumps(metric))
        assert (again.name, again.spec, again.own) == (metric.name, metric.spec, metric.own)
        assert metric.own
    assert "no direction declared: higher counts as better" in found[0].note
    assert found[0].higher_is_better
    assert found[0].tolerance == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("f.higher_is_better = 'no'", "higher_is_better is 'no', expected bool"),
        ("f.tolerance = -1", "tolerance is -1"),
        ("f.digits = 400", "digits is 400"),
        ("f = 3", "int is no function of"),
    ],
)
def test_a_wrong_declaration_is_named(place: Path, line: str, said: str) -> None:
    name = module(place, f"def f(preds, target, sample_rate):\n    return 0.0\n{line}\n")
    with pytest.raises(UserCodeError, match=said):
        parse_metric(f"{name}.py:f")


def test_unknown_names_get_the_nearest_or_a_short_list(place: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'si_sdr'"):
        parse_metric("sisdr")
    with pytest.raises(UnknownNameError, match="did you mean 'visqol'"):
        parse_metric("vsqol:f")
    with pytest.raises(UnknownNameError, match="needs an embedder, as in fad:vggish"):
        parse_metric("fad")
    with pytest.raises(UnknownNameError) as caught:
        parse_metric("zzzz")
    assert len(str(caught.value)) < 250
    assert "FILE.py:function" in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.py"):
        parse_metric("nowhere.py:f")
    with pytest.raises(SuiteError, match=r"key table2\.metrics: unknown metric 'sisdr'"):
        tiny_suite(place / "clips", table2={"systems": ["identity"], "metrics": ["sisdr"]})
    with pytest.raises(SuiteError, match="two metrics are called 'si_sdr'"):
        load_suite(suite_file(place, ["si_sdr", "si_sdr=visqol"]))


def test_an_entry_point_adds_a_metric(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = module(place, PLAIN)
    monkeypatch.setattr(METRICS, "_from_entry_points", {"peak": f"{name}:distance"})
    assert "peak" in list_metrics()
    metric = parse_metric("peak")
    assert (metric.name, metric.title, metric.higher_is_better) == ("peak", "peak", False)
    preds = np.ones((1, 4), dtype=np.float32)
    assert isinstance(metric, PairMetric)
    assert metric.function(preds, 0 * preds, 8000) == 1.0


def test_the_template_of_a_metric_passes_its_test_and_is_a_column(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"open_{abs(hash(str(place))) % 10**8}"
    assert main(["new-metric", name]) == 0
    captured = capsys.readouterr()
    code, test = (Path(line) for line in captured.out.split())
    assert f"m2l-bench compare music2latent-mini --metrics {code}:{name}" in captured.err
    assert "my_metric" not in code.read_text() + test.read_text()
    returncode, output = run_tests(test, capsys)
    assert returncode == 0, output
    assert "4 passed" in output
    cells = {row["name"]: row["cells"] for row in tables(place, [f"{name}.py:{name}"])["rows"]}
    assert cells["identity"][f"{name}:{name}"]["value"] == 0.0
    assert cells["noise-20db"][f"{name}:{name}"]["value"] > 1.0
    assert main(["new-metric", name]) == 2
    assert "already exists (--overwrite replaces it)" in capsys.readouterr().err
