"""What a user's code reads is part of its key: an edited file never keeps the old numbers."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile as sf
import torch
from harness_helpers import tiny_suite, write_clips
from safetensors.torch import save_file

from benchmarks.embedders import base as embedders
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.executors import make_executor
from benchmarks.harness.run import RunOptions
from benchmarks.harness.units import execute
from benchmarks.metrics.registry import parse_metric
from benchmarks.store.store import Store
from benchmarks.tables.paper import build_table2
from benchmarks.tables.table import TableResult
from probes.features import FeaturePlan

CODEC = """
import glob, json, os, pickle
import numpy as np
{imports}

class Mine:
    spec = {{"sample_rate": None, "channels": "mono"}}

    def __init__(self):
        self.step = None
        {init}

    def encode(self, audio):
        {use}
        return audio

    def decode(self, latents):
        return latents
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    write_clips(tmp_path / "clips", 4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("stale_"):
            del sys.modules[name]


def codec(place: Path, init: str = "pass", use: str = "pass", imports: str = "") -> str:
    """Write a codec with these lines in it; a module's name is used once per process."""
    name = f"stale_{place.name.replace('-', '_')}"
    (place / f"{name}.py").write_text(CODEC.format(init=init, use=use, imports=imports))
    return f"{name}.py:Mine"


def key(place: Path, name: str, store: Store | None = None, **options: Any) -> str:
    planner = Planner(tiny_suite(place / "clips"), RunOptions(quiet=True))
    planner.store = store
    row = planner.system(name, **options)
    assert row.reason is None, row.reason
    assert row.error is None, row.error
    return row.units[0].key


def _torch(path: Path, value: float) -> None:
    torch.save({"w": torch.full((4,), value)}, path)


def _safetensors(path: Path, value: float) -> None:
    save_file({"w": torch.full((4,), value)}, path)


def _h5(path: Path, value: float) -> None:
    with h5py.File(path, "w") as file:
        file["w"] = np.full(4, value)


def _npy(path: Path, value: float) -> None:
    with open(path, "wb") as file:
        np.save(file, np.full(4, value))


def _pickle(path: Path, value: float) -> None:
    path.write_bytes(pickle.dumps({"w": value}))


def _text(path: Path, value: float) -> None:
    path.write_text(json.dumps({"w": value}))


def _sqlite(path: Path, value: float) -> None:
    with contextlib.closing(sqlite3.connect(path)) as base:
        base.execute("create table if not exists t (w real)")
        base.execute("delete from t")
        base.execute("insert into t values (?)", (value,))
        base.commit()


def _sound(path: Path, value: float) -> None:
    sf.write(path, np.full(100, value / 4), 8_000, format="WAV")


def _script(path: Path, value: float) -> None:
    torch.jit.trace(torch.nn.Hardtanh(-value, value), torch.zeros(1)).save(path)  # no parameters


WAYS: dict[str, tuple[Callable[[Path, float], None], str, str]] = {
    "torch.load": (_torch, "import torch", "self.step = float(torch.load('w.bin')['w'][0])"),
    "torch mmap": (_torch, "import torch", "self.step = float(torch.load('w.bin', mmap=True)['w'][0])"),
    "safetensors": (
        _safetensors,
        "from safetensors.torch import load_file",
        "self.step = float(load_file('w.bin')['w'][0])",
    ),
    "safe_open": (
        _safetensors,
        "from safetensors import safe_open",
        "self.step = float(safe_open('w.bin', 'np').get_tensor('w')[0])",
    ),
    "h5py": (_h5, "import h5py", "self.step = float(h5py.File('w.bin', 'r')['w'][0])"),
    "numpy": (_npy, "", "self.step = float(np.load('w.bin')[0])"),
    "memmap": (_npy, "", "self.step = float(np.load('w.bin', mmap_mode='r')[0])"),
    "pickle": (_pickle, "", "self.step = pickle.load(open('w.bin', 'rb'))['w']"),
    "json": (_text, "", "self.step = json.load(open('w.bin'))['w']"),
    "os.open": (_text, "", "self.step = os.read(os.open('w.bin', os.O_RDONLY), 99)"),
    "sqlite": (
        _sqlite,
        "import sqlite3",
        "self.step = sqlite3.connect('w.bin').execute('select w from t').fetchone()[0]",
    ),
    "soundfile": (_sound, "import soundfile", "self.step = float(soundfile.read('w.bin')[0][0])"),
    "torch.jit": (_script, "import torch", "self.step = float(torch.jit.load('w.bin')(torch.ones(1) * 9))"),
    "loader": (_text, "", "self.step = float(__loader__.get_data(os.path.abspath('w.bin'))[6:9])"),
    "pathlib": (_text, "from pathlib import Path", "self.step = Path('w.bin').read_text()"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    ("way", "moment"),
    [*((way, "init") for way in WAYS), *((way, "use") for way in ("torch.load", "safetensors", "json"))],
)
def test_an_undeclared_file_is_in_the_key(place: Path, way: str, moment: str) -> None:
    write, imports, line = WAYS[way]
    name = codec(place, imports=imports, **{moment: line})
    write(place / "w.bin", 1.0)
    before = (place / "w.bin").read_bytes()
    first = key(place, name)
    assert key(place, name) == first
    write(place / "w.bin", 2.0)
    assert key(place, name) != first
    (place / "w.bin").write_bytes(before)
    os.utime(place / "w.bin", (1, 1))
    assert key(place, name) == first  # by its contents, not by its time


def test_a_file_read_at_import_or_remembered_by_a_loader_stays_in_the_key(place: Path) -> None:
    lines = "import functools\nTABLE = open('table.txt').read()\n"
    lines += "@functools.cache\ndef load():\n    return open('w.bin').read()\n"
    (place / "table.txt").write_text("1")
    (place / "w.bin").write_text("1")
    name = codec(place, init="load()", imports=lines)
    keys = [key(place, name), key(place, name)]
    assert keys[0] == keys[1]
    for file in ("table.txt", "w.bin"):  # neither is opened again in this process
        (place / file).write_text("2")
        keys.append(key(place, name))
    assert len(set(keys)) == 3


def test_helpers_configurations_listings_and_the_environment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = place / f"stale_helper_{place.name}.py"
    helper.write_text("def load(path):\n    return open(path).read()\n")
    init = f"import importlib; self.s = importlib.import_module('stale_helper_{place.name}').load(os.environ['W'])"
    name = codec(place, init=init, use="self.files = glob.glob('bank/*')")
    (place / "bank").mkdir()
    (place / "a.txt").write_text("a")
    (place / "b.txt").write_text("b")
    monkeypatch.setenv("W", "a.txt")
    keys = [key(place, name)]
    assert key(place, name) == keys[0]
    monkeypatch.setenv("W", "b.txt")
    keys.append(key(place, name))
    (place / "bank" / "new").write_text("")
    keys.append(key(place, name))
    helper.write_text("def load(path):\n    return open(path).read() + '!'\n")  # no import statement leads there
    keys.append(key(place, name))
    assert len(set(keys)) == 4


def test_what_the_code_writes_and_what_it_finds_absent(place: Path) -> None:
    lines = "open('log.txt', 'a').write('x'); open('scratch', 'w').write('1'); open('scratch').read()"
    name = codec(place, use=lines, init="self.s = open('better.txt').read() if os.access('no', 0) else 1")
    first = key(place, name)
    assert key(place, name) == first
    optional = "\n        try: self.s = open('extra.txt').read()\n        except OSError: self.s = 1"
    (place / "two").mkdir()
    name = codec(place / "two", init=optional)
    os.chdir(place / "two")
    before = key(place, name)
    (place / "two" / "extra.txt").write_text("x")
    assert key(place, name) != before


def test_parameters_count_however_they_came(place: Path) -> None:
    imports = "import torch\nimport ctypes"
    # C's own fopen is invisible; what it brought is not.
    init = (
        "libc = ctypes.CDLL(None); libc.fopen.restype = ctypes.c_void_p; "
        "f = libc.fopen(b'w.bin', b'rb'); b = ctypes.create_string_buffer(8); "
        "libc.fread(b, 1, 8, ctypes.c_void_p(f)); libc.fclose(ctypes.c_void_p(f)); "
        "self.net = torch.nn.Linear(1, 1); self.net.weight.data.fill_(float(b.value))"
    )
    name = codec(place, init=init, imports=imports)
    (place / "w.bin").write_bytes(b"1.0")
    first = key(place, name)
    assert key(place, name) == first
    (place / "w.bin").write_bytes(b"2.0")
    assert key(place, name) != first


def test_random_weights_are_the_same_in_every_process(place: Path) -> None:
    name = codec(place, init="self.net = torch.nn.Linear(8, 8)", imports="import torch")
    assert key(place, name) == key(place, name)


def table(place: Path, store: Store, *systems: str, executor: str = "serial") -> TableResult:
    suite = tiny_suite(place / "clips", table2={"systems": ["identity", *systems]})
    with make_executor(executor, workers=2) as pool:
        return build_table2(suite, store, pool, RunOptions(quiet=True))


def values(made: tuple[TableResult, Any]) -> tuple[float, int]:
    cell = made[0].rows[1].cells["si_sdr"]
    assert cell.value is not None, cell.reason
    return cell.value, made[1].computed


@pytest.mark.parametrize("executor", ["serial", "loky"])
def test_a_file_opened_at_a_later_clip_is_noticed_from_then_on(place: Path, executor: str) -> None:
    use = (
        "self.n = getattr(self, 'n', 0) + 1\n        "
        "gain = float(open('late.txt').read()) if abs(audio).max() < 0.3 else 1.0\n        "
        "audio = audio * 0.5 + gain * np.roll(audio, 1, axis=-1)"
    )
    quiet = 0.05 * np.random.default_rng(0).standard_normal(20_000)
    sf.write(place / "clips" / "z.wav", quiet, 16_000, subtype="FLOAT")  # the last clip, so not one that is tried
    (place / "late.txt").write_text("1.0")
    name, store = codec(place, use=use), Store(place / "store")
    first, _ = values(table(place, store, name, executor=executor))
    again, _ = values(table(place, store, name, executor=executor))  # with the file in its key
    assert again == first
    assert values(table(place, store, name, executor=executor)) == (first, 0)
    (place / "late.txt").write_text("9.0")
    changed, computed = values(table(place, store, name, executor=executor))
    assert changed != first
    assert computed > 0


def test_workers_that_live_on_follow_the_caller_to_another_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = values(table(place, Store(place / "store"), codec(place), executor="loky"))
    (other := place / "other").mkdir()
    monkeypatch.chdir(other)
    (other / "gain.txt").write_text("0.5")
    name = codec(other, use="audio = audio * float(open('gain.txt').read()) + np.roll(audio, 1, axis=-1)")
    assert values(table(place, Store(place / "store"), name, executor="loky"))[0] < first


def test_a_file_that_changes_under_a_run_fails_its_units(place: Path) -> None:
    use = "open('w.bin').read(); os.access('go', 0) and os.access('next', 0) and os.replace('next', 'w.bin')"
    (place / "w.bin").write_text("1")
    (place / "next").write_text("2")
    name, store = codec(place, use=use), Store(place / "store")
    suite = tiny_suite(place / "clips", table2={"systems": ["identity", name]})
    planner = Planner(suite, RunOptions(quiet=True))
    unit = planner.system(name).units[0]
    (place / "go").write_text("")
    done = execute(unit, str(place / "store"))
    assert "w.bin changed during the run" in str(done.error)
    assert not store.has(unit.key)


def test_what_a_program_reads_is_unknown_so_its_results_are_not_kept(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = place / "gain.py"
    script.write_text("import shutil, sys; float(open('gain.txt').read()); shutil.copy(sys.argv[1], sys.argv[2])")
    (place / "gain.txt").write_text("1")
    name = f"p=external-command:{sys.executable} -S -E {script} {{input}} {{output}}"
    store = Store(place / "store")
    _, computed = values(table(place, store, name))
    assert "what a program reads cannot be seen" in capsys.readouterr().err
    _, again = values(table(place, store, name))
    assert 0 < again < computed  # its own units, no baseline's
    capsys.readouterr()
    suite = tiny_suite(
        place / "clips", table2={"systems": ["identity", name], "system_options": {name: {"version": "1.2"}}}
    )
    kept = [build_table2(suite, store, make_executor("serial"), RunOptions(quiet=True))[1].computed for _ in "ab"]
    assert kept[0] > 0
    assert kept[1] == 0
    assert "cannot be seen" not in capsys.readouterr().err


def test_a_class_that_starts_programs_says_so(place: Path) -> None:
    name = codec(place, use="import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', 'print(1)'])")
    planner = Planner(tiny_suite(place / "clips"), RunOptions())
    row = planner.system(name)
    assert "what a program reads cannot be seen" in str(row.remark)
    assert not row.units[0].watch.keep  # type: ignore[union-attr]


REPRESENTATION = """
import numpy as np
from {helper} import scale

class Mine:
    sample_rate = 8000

    def extract(self, audio, rate):
        return scale(np.abs(audio[:, :64]).mean(axis=0))

class M:
    sample_rate = 8000

def load_model(path=""):
    return M()

def get_scene_embeddings(audio, model):
    return audio[:, :64] * scale(1.0)
"""


@pytest.mark.parametrize("form", ["{m}.py:Mine", "hear:{m}", "autoencoder:{m}:Codec"])
def test_an_edit_behind_a_representation_is_a_new_key(place: Path, form: str) -> None:
    module = f"stale_r_{place.name.replace('-', '_')}"
    helper = place / f"{module}_helper.py"
    helper.write_text("def scale(x):\n    return x * float(open('r.txt').read())\n")
    (place / "r.txt").write_text("1")
    codec_class = (
        "\nclass Codec:\n    spec = {'sample_rate': 8000, 'channels': 'mono'}\n"
        "    def encode(self, audio): return audio\n    def decode(self, latents): return latents\n"
        "    def features(self, audio): return scale(audio[:, :64])\n"
    )
    (place / f"{module}.py").write_text(REPRESENTATION.format(helper=helper.stem) + codec_class)
    name = form.format(m=module)  # found in the current folder, as `compare` finds it

    def identity() -> str:
        return json.dumps(FeaturePlan(name).identity(), sort_keys=True)

    found = [identity()]
    assert identity() == found[0]
    (place / "r.txt").write_text("2")
    found.append(identity())
    helper.write_text("def scale(x):\n    return x + float(open('r.txt').read())\n")
    found.append(identity())
    assert len(set(found)) == 3


def test_an_edited_class_is_imported_anew_in_the_same_process(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a second, too, in which Python takes the bytecode of a file of the same size for that of this one."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    name, store = codec(place, use="audio = 0.5 * audio + 0.4 * np.roll(audio, 1)"), Store(place / "store")
    path, second_of_the_edit = place / name.partition(":")[0], 1_700_000_000 * 10**9
    os.utime(path, ns=(0, second_of_the_edit))
    first, _ = values(table(place, store, name))
    codec(place, use="audio = 0.5 * audio + 0.1 * np.roll(audio, 1)")
    os.utime(path, ns=(0, second_of_the_edit + 1))
    second, _ = values(table(place, store, name))
    assert first is not None
    assert second is not None
    assert second > first + 3


EMBEDDER = """
import numpy as np
from benchmarks.embedders import EmbedderEntry

class Emb:
    entry = EmbedderEntry("Mine", 8000, 2, "", "all", "none", "none")
    name, sample_rate, dim = "mine", 8000, 2
    spec = {"window": "all"}

    def __init__(self, name, weights, device):
        pass

    def embed(self, audio):
        scale = float(open("e.txt").read())
        return scale * np.array([[np.abs(audio).mean(), np.abs(np.diff(audio)).mean()]], dtype="float32")

    def embed_batch(self, clips):
        return [self.embed(clip) for clip in clips]
"""


def test_an_embedder_from_elsewhere_is_keyed_by_what_it_reads(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"stale_e_{place.name.replace('-', '_')}"
    (place / f"{module}.py").write_text(EMBEDDER)
    (place / "e.txt").write_text("1")
    monkeypatch.setattr(embedders._registry, "_from_entry_points", {"mine": f"{module}:Emb"})
    suite = tiny_suite(place / "clips", table2={"systems": ["identity"], "metrics": ["fad:mine"]})

    def units() -> list[str]:
        planner = Planner(suite, RunOptions())
        cell = planner.cell(planner.system("identity"), parse_metric("fad:mine"))
        assert cell.unit is not None, cell
        return [unit.key for unit in cell.unit.inputs]

    first = units()
    assert units() == first
    (place / "e.txt").write_text("2")
    assert units() != first
