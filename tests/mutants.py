"""Mutation testing: is there an edit of the numeric code that no test notices?

    python tests/mutants.py                          all modules of mutants.toml; what did not change is not run again
    python tests/mutants.py statistics gate/judge    modules whose path holds one of these words
    python tests/mutants.py metrics --sample 40      at most so many mutants of each module, drawn with --seed
    python tests/mutants.py metrics --survivors      only what lived in the last run

Cosmic Ray's operators make the mutants. Its own runner starts an interpreter per mutant, which imports torch for
seconds. Here pytest collects once, and a fork per mutant executes the edited source in the imported module and runs the
tests that reach the edit, those that kill most first. So most mutants cost tens of milliseconds, constants, defaults
and decorated functions are mutated too, and no file is changed. The kernels of Numba run interpreted, since a compiled
caller would keep the code of before. A test that works in another process sees no edit.

Exit status: 0 every mutant is killed or listed as equivalent; 1 some survived, or a listed edit does not exist any
more. A test that fails without an edit is named and left out.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import functools
import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import parso
import pytest
from _pytest.runner import runtestprotocol
from cosmic_ray.ast import ast_nodes
from cosmic_ray.plugins import get_operator
from hypothesis import Phase, settings
from mutant_code import put_into

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "tests" / "mutants.toml"
#: Outcomes of earlier runs; git ignores the file.
OUTCOMES = ROOT / ".mutants.json"
#: Address space of a mutant's process, in bytes: an edited size shall not take the machine's memory.
_MEMORY = 2**34
#: Tests that take more CPU time than this, in seconds, are not run against mutants.
_SLOWEST = 0.5
#: Stands between a line as it is and as it is edited.
ARROW = " ==> "
#: Takes the report of a forked process; the last one counts.
Write = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Mutant:
    """One edit: `name` is the line as it stands and as it is edited."""

    path: str
    line: int
    name: str
    source: str


@dataclass
class Module:
    """A module, its test files and its mutants: the test that killed each of those run, the names of those that live.

    `pending` are to be run, and `killers` are the tests that killed mutants in the last run, which come first.
    """

    path: str
    tests: list[str]
    digest: str
    mutants: list[Mutant]
    listed: int
    killed: dict[str, str] = field(default_factory=dict)
    survived: list[str] = field(default_factory=list)
    pending: list[Mutant] = field(default_factory=list)
    killers: dict[str, str] = field(default_factory=dict)

    @property
    def imported(self) -> ModuleType:
        return importlib.import_module(self.path.removesuffix(".py").replace("/", "."))


def make_mutants(path: str, operators: list[str]) -> list[Mutant]:
    """Every edit that the operators make in a file, annotations left alone, once per line and result."""
    source = (ROOT / path).read_text()
    lines = source.splitlines(keepends=True)
    starts = [0]
    for text in lines:
        starts.append(starts[-1] + len(text))
    annotations = list(_annotations(ast.parse(source)))
    nodes = list(ast_nodes(parso.parse(source)))
    found: dict[str, Mutant] = {}
    for operator in (get_operator(f"core/{name}")() for name in operators):
        for node in nodes:
            for index, (position, _) in enumerate(list(operator.mutation_positions(node))):
                if any(first <= position < last for first, last in annotations):
                    continue
                clone = copy.copy(node)
                if hasattr(node, "children"):
                    clone.children = [copy.copy(child) for child in node.children]
                edited = operator.mutate(clone, index).get_code(include_prefix=False).strip()
                (first, left), (last, right) = node.start_pos, node.end_pos
                mutated = source[: starts[first - 1] + left] + edited + source[starts[last - 1] + right :]
                line = position[0]
                name = f"{lines[line - 1].strip()}{ARROW}{mutated.splitlines()[line - 1].strip()}"
                with contextlib.suppress(SyntaxError, ValueError):
                    compile(mutated, path, "exec", dont_inherit=True)
                    found.setdefault(name, Mutant(path, line, name, mutated))
    return sorted(found.values(), key=lambda mutant: (mutant.line, mutant.name))


def _annotations(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(tree):
        for note in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if note is not None:
                yield (note.lineno, note.col_offset), (note.end_lineno, note.end_col_offset)


class Session:
    """The pytest plugin that runs mutants in place of the tests it collected."""

    def __init__(self, modules: list[Module], jobs: int) -> None:
        self.modules, self.jobs = modules, jobs
        self.seconds: dict[str, float] = {}
        self.reach: dict[str, dict[str, list[int]]] = {}
        self.kills: Counter[str] = Counter()
        self.running: dict[int, tuple[Module, Mutant, Path]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Finds out what each test reaches, then forks per mutant."""
        items = {item.nodeid: item for item in session.items}
        pid, folder = _fork(functools.partial(self._baseline, items))
        os.waitpid(pid, 0)
        report = _report(folder)
        self.seconds, self.reach = report["seconds"], report["reach"]
        for name in report["imported"]:  # here, once, and not in the process of every mutant
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        for test in items.keys() - self.seconds.keys():
            print(f"{test} fails without an edit and is left out", file=sys.stderr)
        for module in self.modules:
            functions = _functions((ROOT / module.path).read_text())
            for mutant in module.pending:
                tests = self._order(module, mutant, functions)
                if not tests:
                    module.survived.append(mutant.name)
                    continue
                if len(self.running) == self.jobs:
                    self._wait()
                limit = 10 + int(5 * sum(self.seconds[test] for test in tests))
                pid, folder = _fork(functools.partial(_run, module, mutant, [items[test] for test in tests], limit))
                self.running[pid] = (module, mutant, folder)
            print(module.path, file=sys.stderr)
        while self.running:
            self._wait()
        return True

    def _baseline(self, items: dict[str, pytest.Item], write: Write) -> None:
        """Executes every module anew without an edit, then notes of every test its time and the functions it calls."""
        paths = {}
        for module in self.modules:
            put_into(module.imported, (ROOT / module.path).read_text())
            paths[str(module.imported.__file__)] = module.path
        seconds, reach = {}, {}
        for item, later in zip_longest(items.values(), list(items.values())[1:]):
            write({"started": item.nodeid})
            reached: set[tuple[str, int]] = set()

            def note(frame: Any, event: str, _: Any, reached: set[tuple[str, int]] = reached) -> None:
                if event == "call" and frame.f_code.co_filename in paths:
                    reached.add((paths[frame.f_code.co_filename], frame.f_code.co_firstlineno))

            for cached in [value for module in self.modules for value in vars(module.imported).values()]:
                if isinstance(cached, functools._lru_cache_wrapper):  # else the first test alone would call it
                    cached.cache_clear()
            for _ in range(2):  # the first one may import a library
                begin = time.process_time()
                sys.setprofile(note)
                passed = _passes(item, later)
                sys.setprofile(None)
                spent = time.process_time() - begin
                if not passed or spent < _SLOWEST:
                    break
            if not passed:
                continue
            seconds[item.nodeid] = spent
            reach[item.nodeid] = {path: [n for p, n in reached if p == path] for path in {p for p, _ in reached}}
        write({"seconds": seconds, "reach": reach, "imported": list(sys.modules)})

    def _order(self, module: Module, mutant: Mutant, functions: list[tuple[int, int, int]]) -> list[str]:
        """Tests that reach the edit: the one that killed it before, those that kill most, then the fast ones."""
        fast = [test for test, seconds in self.seconds.items() if seconds < _SLOWEST]
        names = [test for test in fast if Path(test.partition("::")[0]).name in module.tests]
        around = [(first, last) for first, body, last in functions if body <= mutant.line <= last]
        if around:
            first, last = max(around)
            names = [t for t in names if any(first <= n <= last for n in self.reach[t].get(module.path, ()))]
        killer = module.killers.get(mutant.name)
        return sorted(names, key=lambda test: (test != killer, self.seconds[test] / (1 + self.kills[test])))

    def _wait(self) -> None:
        pid, _ = os.waitpid(-1, 0)
        module, mutant, folder = self.running.pop(pid)
        report = _report(folder)
        if report.get("survived"):
            module.survived.append(mutant.name)
        else:  # a test failed, or the process came to its end in one
            module.killed[mutant.name] = report.get("started", "the import")
            self.kills[module.killed[mutant.name]] += 1


def _run(module: Module, mutant: Mutant, tests: list[pytest.Item], limit: int, write: Write) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.alarm(60 + 10 * limit)
    numba.config.CACHE_DIR = os.environ["M2L_CACHE"]  # what is compiled of edited code is not for others
    put_into(module.imported, mutant.source)
    for item, later in zip_longest(tests, tests[1:]):
        write({"started": item.nodeid})
        if not _passes(item, later):
            return
    write({"survived": True})


def _passes(item: pytest.Item, later: pytest.Item | None) -> bool:
    return not any(report.failed for report in runtestprotocol(item, nextitem=later, log=False))


def _functions(source: str) -> list[tuple[int, int, int]]:
    """Of each function the first line (a decorator's), the first of its body, and the last."""
    return [
        (min([node.lineno, *(d.lineno for d in node.decorator_list)]), node.body[0].lineno, node.end_lineno or 0)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def _fork(work: Callable[[Write], None]) -> tuple[int, Path]:
    """The process in which `work` runs, silently and with an empty cache, and the folder of its report."""
    folder = Path(tempfile.mkdtemp(prefix="mutant-"))
    pid = os.fork()
    if pid:
        return pid, folder
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        os.environ |= {"PYTEST_DEBUG_TEMPROOT": str(folder), "M2L_CACHE": str(folder / "cache")}
        work(lambda report: (folder / "report.json").write_text(json.dumps(report)) and None)
    finally:
        os._exit(0)


def _report(folder: Path) -> dict[str, Any]:
    path = folder / "report.json"
    report: dict[str, Any] = json.loads(path.read_text() or "{}") if path.exists() else {}
    shutil.rmtree(folder, ignore_errors=True)
    return report


def read_modules(options: argparse.Namespace, config: dict[str, Any]) -> list[Module]:
    """The modules whose path holds one of the words, what is known of them, and which mutants are to be run."""
    known = json.loads(OUTCOMES.read_text()) if OUTCOMES.exists() else {}
    modules = []
    for path, tests in config["modules"].items():
        if (path in config["interpreted"]) != options.interpreted or not _chosen(path, options.words):
            continue
        listed = config["equivalent"].get(path, {})
        mutants = make_mutants(path, config["operators"])
        names = {name for mutant in mutants for name in (mutant.name, mutant.name.split(ARROW)[0])}
        if gone := [name for name in listed if name not in names]:
            raise SystemExit(f"{CONFIG.name}: {path} has no edit {gone[0]!r}")
        apart = [m for m in mutants if m.name not in listed and m.name.split(ARROW)[0] not in listed]
        apart = [m for m in apart if not any(_follows(m.name, rule) for rule in config["everywhere"])]
        names = {mutant.name for mutant in apart}
        digest = hashlib.sha256((ROOT / path).read_bytes())
        for test in tests:
            digest.update((ROOT / "tests" / test).read_bytes())
        module = Module(path, tests, digest.hexdigest(), apart, len(mutants) - len(apart))
        before = known.get(path, {"digest": "", "killed": {}, "survived": []})
        module.killers = before["killed"]
        if options.survivors or before["digest"] == module.digest:
            module.killed = {name: test for name, test in before["killed"].items() if name in names}
            module.survived = [name for name in before["survived"] if name in names]
        chosen = apart
        if options.sample is not None:
            chosen = random.Random(f"{options.seed} {path}").sample(apart, min(options.sample, len(apart)))
        if options.survivors:
            module.pending = [mutant for mutant in apart if mutant.name in module.survived]
            module.survived = []
        else:
            module.pending = [m for m in chosen if m.name not in module.killed and m.name not in module.survived]
        modules.append(module)
    return modules


def _follows(name: str, rule: str) -> bool:
    """Whether an edit of a line is one that a rule "text ==> text" makes."""
    (was, now), (old, new) = (text.split(ARROW) for text in (name, rule))
    parts = was.split(old)
    return now in [old.join(parts[:i]) + new + old.join(parts[i:]) for i in range(1, len(parts))]


def _chosen(path: str, words: list[str]) -> bool:
    return not words or any(word in path for word in words)


def _test(modules: list[Module], jobs: int) -> None:
    """Runs the pending mutants of some modules."""
    if not modules:
        return
    settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], derandomize=True, deadline=None)
    session = Session(modules, jobs)
    files = sorted({str(ROOT / "tests" / test) for module in modules for test in module.tests})
    arguments = ["-q", "-s", "--no-header", "--no-summary", "--hypothesis-profile=mutants", "-p", "no:cacheprovider"]
    marks = "not slow and not gpu and not network and not shared and not browser and not forks"
    with contextlib.redirect_stdout(sys.stderr):
        code = pytest.main([*arguments, "-m", marks, *files], plugins=[session])
    if not session.seconds:
        raise SystemExit(f"pytest ran no tests (status {code})")


def main() -> int:
    """Runs mutants and reports them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="run modules whose path holds one of these; all by default")
    parser.add_argument("--sample", type=int, help="mutants per module, at most")
    parser.add_argument("--seed", type=int, default=0, help="which ones are drawn")
    parser.add_argument("--survivors", action="store_true", help="only mutants that lived in the last run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument("--interpreted", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    config = tomllib.loads(CONFIG.read_text())
    modules = read_modules(options, config)
    _test([module for module in modules if module.pending], options.jobs)
    known = json.loads(OUTCOMES.read_text()) if OUTCOMES.exists() else {}
    for module in modules:
        known[module.path] = {"digest": module.digest, "killed": module.killed, "survived": module.survived}
    OUTCOMES.write_text(json.dumps(known, indent=1, sort_keys=True))
    for module in modules:
        print(
            f"{module.path}: {len(module.killed) + len(module.survived)} of {len(module.mutants)} mutants run, "
            f"{len(module.killed)} killed, {len(module.survived)} survived, {module.listed} equivalent"
        )
        for mutant in module.mutants:
            if mutant.name in module.survived:
                print(f"  {mutant.line}: {mutant.name}")
    status = int(any(module.survived for module in modules))
    if not options.interpreted and any(_chosen(path, options.words) for path in config["interpreted"]):
        command = [sys.executable, *sys.argv, "--interpreted"]
        environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
        status = max(status, subprocess.run(command, env=environment, check=False).returncode)
    return status


if __name__ == "__main__":
    sys.exit(main())
