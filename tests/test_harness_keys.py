"""Content keys: equal for equal work, different whenever a number could differ."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness.units import Unit
from benchmarks.store import fingerprint
from benchmarks.store.fingerprint import canonical_json, code_digest, derive_seed, digest


@given(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=6))
def test_order_of_keys_does_not_matter(record: dict) -> None:
    assert digest(record) == digest(dict(reversed(record.items())))


def test_numpy_scalars_and_paths_hash_like_plain_values() -> None:
    assert digest({"x": np.float64(0.5), "n": np.int32(3)}) == digest({"x": 0.5, "n": 3})
    assert digest(Path("a/b")) == digest("a/b")


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(TypeError, match="ndarray"):
        canonical_json({"x": np.zeros(3)})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": math.nan})


def test_seeds_are_fixed_for_ever() -> None:
    # A changed seed changes every noise of every result: these values are part of the format.
    assert derive_seed(0, "clip") == 6030622607691937753
    assert derive_seed(0, "clip") != derive_seed(1, "clip") != derive_seed(1, "other")


def _unit(**changes: object) -> Unit:
    values: dict = {"stage": "score", "name": "x", "target": "m:f", "spec": {"a": 1}}
    return Unit(**{**values, **changes})


def test_a_key_changes_with_everything_that_decides_the_result_and_nothing_else() -> None:
    base = _unit()
    inputs = (_unit(spec={"clips": ["a"]}),)
    different = [
        _unit(stage="embed"),
        _unit(target="m:g"),
        _unit(spec={"a": 2}),
        _unit(inputs=inputs),
        _unit(inputs=(_unit(spec={"clips": ["b"]}),)),
    ]
    assert len({base.key, *(unit.key for unit in different)}) == 6
    same = [_unit(name="y"), _unit(payload=[1]), _unit(amount=3.0), _unit(group="g")]
    assert {unit.key for unit in same} == {base.key}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shape of this project: `benchmarks.metric` imports `m2l.stft` inside a function."""
    for name in ("benchmarks", "m2l"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "benchmarks" / "metric.py").write_text(
        '"""Doc."""\ndef f(x):\n    """Doc."""\n    from m2l.stft import g  # comment\n    return g(x)\n'
    )
    (tmp_path / "m2l" / "stft.py").write_text("from .window import w\ndef g(x):\n    return w * x\n")
    (tmp_path / "m2l" / "window.py").write_text("w = 2\n")
    monkeypatch.setattr(fingerprint, "_ROOT", tmp_path)
    _forget()
    yield tmp_path
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    for cached in (fingerprint._code_digest, fingerprint._parse, fingerprint._source, fingerprint._parsed):
        cached.cache_clear()


def test_code_is_followed_through_imports(package: Path) -> None:
    before = code_digest("benchmarks.metric")
    (package / "m2l" / "window.py").write_text("w = 3\n")
    _forget()
    assert code_digest("benchmarks.metric") != before


def test_comments_docstrings_and_layout_do_not_count(package: Path) -> None:
    before = code_digest("benchmarks.metric")
    path = package / "benchmarks" / "metric.py"
    path.write_text('"""Other."""\n\n\ndef f( x ):\n    from m2l.stft import (g)\n\n    return g(x)\n')
    _forget()
    assert code_digest("benchmarks.metric") == before
    path.write_text(path.read_text().replace("return g(x)", "return g(-x)"))
    _forget()
    assert code_digest("benchmarks.metric") != before


def test_a_module_is_parsed_once_for_all_processes(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    parsed: list[bytes] = []
    parse = fingerprint.ast.parse
    monkeypatch.setattr(fingerprint.ast, "parse", lambda source: parsed.append(source) or parse(source))
    _forget()
    before = code_digest("benchmarks.metric")
    assert len(parsed) == 3
    _forget()
    assert code_digest("benchmarks.metric") == before
    assert len(parsed) == 3
    # A file of the same length and time is another file.
    path = package / "m2l" / "window.py"
    at = path.stat().st_mtime_ns
    path.write_text("w = 3\n")
    os.utime(path, ns=(at, at))
    _forget()
    assert code_digest("benchmarks.metric") != before
    assert len(parsed) == 4
    # What is damaged is made anew.
    (tmp_path / "cache" / "code-digests.json").write_text('{"benchmarks.metric": [1]}')
    path.write_text("w = 2\n")
    _forget()
    assert code_digest("benchmarks.metric") == before
    assert len(parsed) == 7


def test_unrelated_modules_do_not_count(package: Path) -> None:
    before = code_digest("benchmarks.metric")
    (package / "m2l" / "training.py").write_text("x = 1\n")
    _forget()
    assert code_digest("benchmarks.metric") == before


def test_a_module_without_source_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"benchmarks\.nope"):
        code_digest("benchmarks.nope")


def test_the_model_is_behind_the_key_of_its_adapter() -> None:
    queue, seen = ["benchmarks.autoencoders.music2latent"], set()
    while queue:
        name = queue.pop()
        path = fingerprint._source(name)
        if name in seen or path is None:
            continue
        seen.add(name)
        queue += fingerprint._parse(name, path)[1]
    assert {"m2l.model", "m2l.unet", "m2l.representation", "m2l.consistency", "benchmarks.autoencoders.base"} <= seen


def test_a_group_or_a_key_decides_the_shard() -> None:
    """Twelve hexadecimal digits of a sha256, modulo the number of shards."""
    for unit in (_unit(group="clip7"), _unit()):
        text = json.dumps(unit.group or unit.key)
        number = int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)
        assert [unit.on_shard(index, 5) for index in range(5)] == [index == number % 5 for index in range(5)]
    assert _unit(group="a") == _unit(group="b")  # the same work
    assert _unit() != _unit().key


@given(st.text(min_size=1), st.integers(1, 9))
def test_every_unit_is_on_exactly_one_shard(group: str, count: int) -> None:
    unit = _unit(group=group)
    assert sum(unit.on_shard(index, count) for index in range(count)) == 1
