"""Content keys of objects in memory: the same in every session, another one after any change that can be seen."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.store.object_digest import object_digest

ROOT = Path(__file__).resolve().parent.parent
FACTOR = 2.0


class Gain:
    """Latents are louder samples."""

    def __init__(self, steps: float = 64.0) -> None:
        self.steps = steps

    def encode(self, audio: np.ndarray) -> np.ndarray:
        return audio * self.steps * FACTOR

    def decode(self, latents: np.ndarray) -> np.ndarray:
        return latents / self.steps / FACTOR


SCRIPT = """
import numpy as np, torch, random
K = 3
def helper(x):
    names = {"a", "b", "c", "d"}
    return x * K if "a" in names else x
class Made:
    tags = frozenset(["x", "y", "z"])
    def __init__(self):
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3), torch.nn.BatchNorm1d(2))
        self.table = {"k": np.arange(4)}
        self.rng = np.random.default_rng(5)
    def encode(self, audio):
        return [helper(a) for a in audio]
from benchmarks.store.object_digest import object_digest
made = Made()
print(object_digest(made).digest, object_digest(made).opaque)
K = 4
print(object_digest(made).digest)
"""


def test_digest_is_the_same_in_every_session() -> None:
    def digests(code: str, seed: str) -> list[str]:
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=300
        ).stdout.splitlines()

    first, changed = digests(SCRIPT, "1")
    digest, opaque = first.split(maxsplit=1)
    assert opaque == "[]"
    assert changed != digest  # a global that a function of a method uses
    assert digests("\n\n# moved down\n" + SCRIPT, "2") == [first, changed]


def changes() -> dict[str, Any]:
    """What may be changed of an object, in place."""

    def attribute(made: Any) -> None:
        made.steps = 65.0

    def weights(made: Any) -> None:
        with torch.no_grad():
            made.net[0].weight[0, 0, 0] += 1e-3

    def buffer(made: Any) -> None:
        made.net[1].running_mean[1] = 2.0

    def mode(made: Any) -> None:
        made.net.eval()

    def array(made: Any) -> None:
        made.parts["list"][1][0] = 9

    def method(made: Any) -> None:
        made.encode = lambda audio: audio

    def closure(made: Any) -> None:
        made.inner = maker(4)

    def default(made: Any) -> None:
        made.inner.__defaults__ = (8,)

    def generator(made: Any) -> None:
        made.rng.random()

    return {f.__name__: f for f in (attribute, weights, buffer, mode, array, method, closure, default, generator)}


def maker(n: int) -> Any:
    def inner(x: int, y: int = 7) -> int:
        return x + y + n

    return inner


def whole() -> Any:
    torch.manual_seed(0)
    made: Any = Gain()
    made.net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2))
    made.parts = {"list": [1, np.arange(3.0)], "self": made}
    made.inner, made.rng, made.lock = maker(3), np.random.default_rng(1), threading.Lock()
    return made


@pytest.mark.parametrize("name", changes())
def test_any_change_of_an_object_is_another_digest(name: str) -> None:
    made, same = whole(), whole()
    before = object_digest(made)
    assert before.opaque == []
    assert before.digest == object_digest(same).digest
    changes()[name](made)
    assert object_digest(made).digest != before.digest


def test_using_an_object_leaves_its_digest() -> None:
    made = Gain()
    before = object_digest(made).digest
    made.decode(made.encode(np.zeros((1, 128), np.float32)))
    assert object_digest(made).digest == before


def test_a_global_of_a_module_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = object_digest(Gain()).digest
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    assert object_digest(Gain()).digest != before


def test_opaque_parts_are_named() -> None:
    made: Any = Gain()
    made.parts = {"a": [threading.local()]}
    assert object_digest(made).opaque == ["Gain.parts.a[0]"]
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    made.parts = deep
    assert object_digest(made).opaque == ["Gain (nested too deeply)"]
