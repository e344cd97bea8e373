"""Settings of the whole test run."""

from __future__ import annotations

import gc
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import settings
from tqdm import tqdm

# The models of the tests are tiny: a second thread only waits for the first, here and in the subprocesses.
for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):  # numba's start tells torch's OpenMP its own number
    os.environ.setdefault(name, "1")
# The tests of downloads talk to a server of their own, whatever the machine's owner forbids.
for name in ("HF_HUB_OFFLINE", "M2L_OFFLINE"):
    os.environ.pop(name, None)

# Nobody pulls the plug here, and a run of ten clips waits for the disk some forty times.
os.fsync = lambda fd: None

# Tests fork trainers and kill them: with tqdm's own lock, which forked processes share, one that dies while it draws
# its bar would leave every later bar of this process waiting for ever.
tqdm.set_lock(threading.RLock())
tqdm.monitor_interval = 0

#: Set in the interpreter that runs a test marked `forks`.
_NEW_INTERPRETER = "M2L_TEST_FORKS"

# Deadlines test the machine, not the code.
settings.register_profile("m2l", deadline=None)
settings.load_profile("m2l")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests may take an hour; the others fail after the time that pyproject.toml gives them.

    The first of a module's tests marked `forks` waits for all of them, each of which has that time.
    """
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(3600))
        elif item.get_closest_marker("forks") and _NEW_INTERPRETER not in os.environ:
            item.add_marker(pytest.mark.timeout(1200))


def pytest_collection_finish() -> None:
    """What the imports made stays to the end: no collection of garbage need look through its millions of objects."""
    gc.collect()
    gc.freeze()


#: What the codecs have written, by samples and options.
_coded: dict[bytes, bytes] = {}


@pytest.fixture(scope="module", autouse=True)
def _clips_are_coded_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """The modules that measure the tiny suite code its six clips hundreds of times, and Opus takes 60 ms for each."""
    if not {"tiny_suite", "tiny_toml", "measured_suite"} & vars(request.module).keys():
        yield
        return
    from benchmarks.autoencoders import codecs

    write = codecs._write

    def remembered(audio: np.ndarray, rate: int, **options: Any) -> bytes:
        how = repr((audio.shape, rate, sorted(options.items()))).encode()
        key = hashlib.sha256(how + audio.tobytes()).digest()
        if key not in _coded:
            _coded[key] = write(audio, rate, **options)
        return _coded[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codecs, "_write", remembered)
        yield


@pytest.fixture(scope="module", autouse=True)
def _untrained_models_are_made_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """The modules whose commands run an untrained model have hundreds of them: each would build the same one."""
    if getattr(request.module, "TINY", None) != ["--checkpoint", "random:tiny"]:
        yield
        return
    from m2l.cli import convert

    load = convert.load_model
    made: dict[tuple[Any, ...], Any] = {}

    def remembered(*arguments: Any) -> Any:
        if not arguments[0].startswith("random:"):
            return load(*arguments)
        if arguments not in made:
            made[arguments] = load(*arguments)
        return made[arguments]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "load_model", remembered)
        yield


#: What became of tests that ran in a new interpreter: the report of those that failed, else "".
_reports: dict[str, str] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tests marked `forks` run in a new interpreter, those of a module in the same one.

    A child forked off a process with several threads can wait forever for what one of them held, and other tests
    leave threads behind (clusters in this process, pools, servers).
    """
    if pyfuncitem.get_closest_marker("forks") is None or _NEW_INTERPRETER in os.environ:
        return None
    if pyfuncitem.nodeid not in _reports:
        module = [item for item in pyfuncitem.session.items if item.path == pyfuncitem.path]
        _reports.update(_run_anew([item for item in module if item.get_closest_marker("forks")]))
    if report := _reports.pop(pyfuncitem.nodeid):
        pytest.fail(report, pytrace=False)
    return True


def _run_anew(items: list[pytest.Item]) -> dict[str, str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=", "-q"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "report.xml"
        done = subprocess.run(
            [*command, f"--junitxml={path}", *(item.nodeid for item in items)],
            env=environment | {_NEW_INTERPRETER: "1"}, cwd=items[0].config.rootpath,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1000, check=False,
        )  # fmt: skip
        cases = ElementTree.parse(path).iter("testcase") if path.exists() else ()
        passed = {case.get("name") for case in cases if case.find("failure") is None and case.find("error") is None}
    return {item.nodeid: "" if item.name in passed else done.stdout for item in items}
