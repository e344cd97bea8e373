"""Errors of a user's own code: told by file, line and clip, before anything is measured, and never kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness_helpers import tiny_suite, tiny_toml, write_clips

from benchmarks.cli.main import main
from benchmarks.compare.systems import compare
from benchmarks.embedders import base as embedders
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions
from benchmarks.store.store import Store
from m2l.cli.bench import main as bench_main

CODEC = """{top}
import os

class Mine:
    spec = {{"sample_rate": None, "channels": "mono"}}

    def __init__(self):
        {init}

    def encode(self, audio):
        {encode}
        return 0.5 * audio

    def decode(self, latents):
        {decode}
        return latents + 0.01 * latents[:, ::-1]
"""

REPRESENTATION = """{top}
import numpy as np

class Mine:
    def __init__(self):
        {init}

    def extract(self, audio, rate):
        {encode}
        return np.abs(audio[:, :64]).mean(axis=0)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    write_clips(tmp_path / "clips", 4)
    tiny_toml(tmp_path, tmp_path / "clips")
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("uc_", "benchmarks.uc_")):
            del sys.modules[name]


def write(place: Path, text: str = CODEC, **parts: str) -> str:
    """A user's file with these lines in it; a module's name is used once per process."""
    name = f"uc_{place.name.replace('-', '_')}.py"
    lines = {part: parts.get(part, "" if part == "top" else "pass") for part in ("top", "init", "encode", "decode")}
    (place / name).write_text(text.format(**lines))
    return name


def run(*arguments: str, executor: str = "serial") -> int:
    return main(["compare", *arguments, "--suite", "tiny.toml", "--executor", executor, "--quiet"])


def measured(place: Path) -> list[str]:
    return list(Store(place / "cache" / "store").keys())


BROKEN = {
    "key": ({"encode": "{}['latents']"}, "{file}:11 in encode, clip clip0.wav: KeyError: 'latents'", 2),
    "name": ({"decode": "undefined"}, "{file}:15 in decode, clip clip0.wav: NameError", 2),
    "value": ({"encode": "raise ValueError('too short')"}, "{file}:11 in encode, clip clip0.wav: ValueError: too", 2),
    "init": ({"init": "[][3]"}, "{file}:8 in __init__: IndexError: list index", 2),
    "no weights": ({"init": "open('w.bin')"}, "{file}:8 in __init__: FileNotFoundError: [Errno 2]", 3),
    "syntax": ({"top": "def broken(:"}, "{file}:1: SyntaxError: ", 2),
    "import": ({"top": "import no_such_package"}, "{file}:1: ModuleNotFoundError: No module named 'no_such_", 3),
    "import raises": ({"top": "1 / 0"}, "{file}:1: ZeroDivisionError: division by zero", 2),
    "exit at import": ({"top": "import sys; sys.exit(0)"}, "{file}:1: SystemExit: the code called sys.exit(0)", 2),
    "exit": ({"encode": "raise SystemExit(7)"}, "{file}:11 in encode, clip clip0.wav: SystemExit: the code", 2),
    "memory": ({"encode": "raise MemoryError"}, "{file}:11 in encode, clip clip0.wav: MemoryError", 3),
    "disk": ({"decode": "raise OSError(28, 'No space left')"}, "{file}:15 in decode, clip clip0.wav: OSError", 3),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_class_is_told_before_anything_is_measured(
    place: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    parts, message, status = BROKEN[fault]
    file = write(place, **{"encode": "pass", **parts})
    assert run(f"{file}:Mine", "--json") == status
    captured = capsys.readouterr()
    assert message.format(file=file) in captured.err.replace("{}", "")
    assert "Traceback" not in captured.err
    assert not captured.out
    assert measured(place) == []
    assert run(f"{file}:Mine", "-v") == status
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["nowhere.py:Mine"], "no file 'nowhere.py'", 3),
        (["uc_nowhere:Mine"], "uc_nowhere", 3),
        (["--external", "x=nowhere"], "no folder 'nowhere'", 3),
        (["--command", "x=no-such-program {input} {output}"], "no program 'no-such-program'", 3),
        (["--command", f"x={sys.executable} -S -c 'import sys; sys.exit(\"bad flag\")' {{input}} {{output}}"],
         "clip clip0.wav: RuntimeError: the command failed (exit status 1): bad flag", 2),
    ],
)  # fmt: skip
def test_what_is_not_there_or_does_not_run_is_told_first(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, status: int
) -> None:
    assert run(*arguments) == status
    assert message in capsys.readouterr().err
    assert measured(place) == []


def test_tables_stop_for_a_broken_class_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(place, encode="1 / 0")
    text = (place / "tiny.toml").read_text().replace('"identity"', f'"identity", "{file}:Mine"')
    (place / "tiny.toml").write_text(text)
    assert main(["tables", "--suite", "tiny.toml", "--executor", "serial", "--quiet"]) == 2
    assert f"{file}:11 in encode, clip clip0.wav: ZeroDivisionError" in capsys.readouterr().err
    assert measured(place) == []


def test_errors_of_a_data_set_of_ones_own_are_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "uc_data.py").write_text("class Data:\n    def clips(self, split=None):\n        return {}['train']\n")
    text = (place / "tiny.toml").read_text().replace('dataset = "folder"', 'dataset = "uc_data:Data"')
    (place / "tiny.toml").write_text("\n".join(x for x in text.splitlines() if not x.startswith("options")))
    sys.path.insert(0, str(place))
    assert run("noise-20db") == 2
    err = capsys.readouterr().err
    assert "uc_data.py:3 in clips: KeyError: 'train'" in err
    assert "Traceback" not in err


def test_a_class_that_refuses_the_first_clip_is_measured(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once = "if os.environ.pop('UC_ONCE', None) or os.environ.pop('UC_TWICE', None): raise ValueError('too quiet')"
    file = write(place, encode=once)
    os.environ["UC_ONCE"] = "1"
    assert run(f"{file}:Mine", "--json") == 0
    assert "too quiet" not in capsys.readouterr().err


LATE = "if os.path.exists('fault') and abs(audio).max() < 0.05: "


def late_clip(place: Path) -> None:
    """A quiet clip after those that are tried."""
    import numpy as np
    import soundfile as sf

    sf.write(place / "clips" / "z.wav", 0.01 * np.random.default_rng(0).standard_normal(20_000), 16_000, "FLOAT")


@pytest.mark.parametrize(
    "error", ["RuntimeError('CUDA out of memory. Tried 2 GiB')", "OSError(5, 'I/O')", "MemoryError"]
)
def test_a_failure_of_the_machine_is_never_stored(place: Path, capsys: pytest.CaptureFixture[str], error: str) -> None:
    late_clip(place)
    file = write(place, encode=f"{LATE}raise {error}")
    (place / "fault").write_text("")
    assert run(f"{file}:Mine", "--json") == 3
    captured = capsys.readouterr()
    assert f"{file}:11 in encode, clip z.wav: {error.partition('(')[0]}" in captured.err
    assert "Traceback" not in captured.err
    (place / "fault").unlink()
    assert run(f"{file}:Mine", "--json") == 0
    row = next(row for row in json.loads(capsys.readouterr().out)["rows"] if row["name"].endswith("Mine"))
    assert row["cells"]["si_sdr"]["n"] == 5


def test_failures_of_a_class_are_tried_again_and_a_fixed_one_runs_alone(place: Path) -> None:
    late_clip(place)
    (place / "fault").write_text("")
    file = write(place, encode=LATE + "{}['latents']")
    store = Store(place / "store")

    def again(resamples: int = 200) -> tuple[int, int, dict[str, int]]:
        suite = tiny_suite(place / "clips", statistics={"resamples": resamples})
        planner = Planner(suite, RunOptions(quiet=True))
        found = compare(planner, store, SerialExecutor(), [f"mine={file}:Mine"])
        cell = next(row for row in found.table.rows if row.name == "mine").cells["si_sdr"]
        return found.report.computed, cell.n or 0, dict(cell.failures)

    everything, n, failures = again()
    assert n == 4
    assert failures == {f"{file}:11 in encode: KeyError: 'latents'": 1}
    own, n, _ = again()  # the unit with the failure, its score, the mean, the metadata, the comparison of all rows
    assert (own, n) == (5, 4)
    assert again(100)[1] == 4
    (place / "fault").unlink()
    assert again() == (5, 5, {})
    assert again(100)[1:] == (5, {})  # what the successful run did not ask for is not older than it
    assert again()[0] == 0
    write(place, encode="audio = 2 * audio")
    fixed, n, _ = again()
    assert (fixed, n) == (3 + 3 + 3, 5)  # its own units, and none of a baseline
    assert everything > 2 * fixed


LOUD = (
    "import subprocess, sys; print('python says'); os.write(1, b'C says'); "
    "subprocess.run([sys.executable, '-S', '-c', 'print(\"a program says\")'])"
)


@pytest.mark.parametrize("executor", ["serial", "loky"])
def test_what_a_class_prints_leaves_json_alone(place: Path, executor: str) -> None:
    file = write(place, top="print('imported')", init="print('constructed')", encode=LOUD)
    command = [sys.executable, "-m", "benchmarks.cli", "compare", f"{file}:Mine", "--suite", "tiny.toml", "--json"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [*command, "--executor", executor, "--workers", "2", "--against", "identity"],
        capture_output=True, text=True, env=env, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["new"]
    for said in ("imported", "constructed", "python says", "C says", "a program says"):
        assert said in done.stderr


def test_a_folder_called_as_our_package_is_explained(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("benchmarks", "probes"):
        (place / package).mkdir()
        (place / package / "uc_inner.py").write_text("X = 1\n")
    # a class below such a folder, and one that imports from it
    for name in ("benchmarks.uc_inner:Mine", f"{write(place, top='from benchmarks.uc_inner import X')}:Mine"):
        assert run(name) == 3
        err = capsys.readouterr().err
        assert "belongs to the installed benchmark" in err
        assert "--command" in err
        assert "Traceback" not in err
    command = ["probe", "run", "--task", "synthetic-pitch", "--representation", "probes.uc_inner:Mine", "--quiet"]
    assert main([*command, "--executor", "serial"]) == 3
    assert "belongs to the installed benchmark" in capsys.readouterr().err
    (place / "probes" / "__init__.py").write_text("")  # now workers would import it for ours
    assert run(f"{write(place)}:Mine") == 3
    err = capsys.readouterr().err
    assert "holds a Python package 'probes'" in err
    assert "--command" in err
    assert measured(place) == []
    hidden = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "probes"}
    for name in hidden:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(place), *sys.path])  # PYTHONPATH=.
    assert bench_main() == 3
    assert "hides the benchmark's own package 'probes'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "form"),
    [*((fault, "{m}.py:Mine") for fault in ("init", "no weights", "syntax", "exit")), ("key", "{m}:Mine")],
)
def test_a_broken_representation_is_told_the_same_way(
    place: Path, capsys: pytest.CaptureFixture[str], fault: str, form: str
) -> None:
    parts, message, status = BROKEN[fault]
    file = write(place, REPRESENTATION, **parts)
    name = form.format(m=file.removesuffix(".py"))
    command = ["probe", "run", "--task", "synthetic-pitch", "--representation", name, "--quiet"]
    assert main([*command, "--executor", "serial", "--seeds", "1", "--json"]) == status
    captured = capsys.readouterr()
    assert message.rpartition(": ")[2].format() in captured.err
    assert captured.err.startswith(f"m2l-bench: {file}:")
    assert "Traceback" not in captured.err
    assert not captured.out
    assert measured(place) == []


def test_a_hear_module_lies_in_the_current_folder_and_its_errors_are_told(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "uc_hear.py").write_text(
        "class M:\n    sample_rate = 8000\ndef load_model(path=''):\n    return M()\n"
        "def get_scene_embeddings(audio, model):\n    return {}['scene']\n"
    )
    command = ["probe", "run", "--task", "synthetic-pitch", "--representation", "hear:uc_hear", "--quiet"]
    assert main([*command, "--executor", "serial", "--seeds", "1"]) == 2
    assert "uc_hear.py:6 in get_scene_embeddings, clip " in capsys.readouterr().err


def test_an_embedder_from_elsewhere_that_breaks_is_told_first(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "uc_embedder.py").write_text(
        "from benchmarks.embedders import EmbedderEntry\n"
        "class Emb:\n    entry = EmbedderEntry('Mine', 8000, 2, '', 'all', 'none', 'none')\n"
        "    name, sample_rate, dim, spec = 'mine', 8000, 2, {}\n"
        "    def __init__(self, name, weights, device):\n        pass\n"
        "    def embed(self, audio):\n        return {}['vector']\n"
    )
    monkeypatch.setattr(embedders._registry, "_from_entry_points", {"mine": "uc_embedder:Emb"})
    assert run("noise-20db", "--metrics", "fad:mine") == 2
    assert "uc_embedder.py:8 in embed, clip clip0.wav: KeyError: 'vector'" in capsys.readouterr().err
    assert measured(place) == []
