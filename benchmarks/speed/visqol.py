"""`m2l-bench speed visqol`: our ViSQOL against visqol-python[accel] on the same pairs.

One thread, process CPU time, in turns. Two cases: single pairs, where we prepare the reference each time
as the rival has to, and five systems that share one reference. The errors of both are against each other
and, where Google's figure for the pair is known, against that.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics.visqol.api import ViSQOL
from benchmarks.speed.timing import Contest, alternate, markdown_table

RATE = 48_000
SYSTEMS = 5
_RIVAL = "visqol-python"


@dataclass(frozen=True)
class Pair:
    """Mono signals at 48 kHz, and Google's score if it is known."""

    name: str
    target: NDArray[np.float64]
    preds: NDArray[np.float64]
    expected: float | None = None


def synthetic_pairs(seconds: float = 10.0, seed: int = 0) -> list[Pair]:
    """Broken chords with a noisy attack, and what a low-pass, noise and a coarse quantizer make of them."""
    from scipy.signal import butter, sosfilt

    generator = np.random.default_rng(seed)
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    target = np.zeros(n)
    for k, onset in enumerate(np.arange(0.0, seconds, 0.25)):
        after = np.maximum(t - onset, 0.0)
        envelope = np.exp(-4.0 * after) * (t >= onset)
        pitch = 110.0 * 2 ** (generator.integers(0, 36) / 12)
        tone = sum(np.sin(2 * np.pi * pitch * h * after) / h for h in range(1, 9))
        hit = generator.standard_normal(n) * np.exp(-40.0 * after)
        target += envelope * (tone + (0.5 if k % 2 else 0.1) * hit)
    target *= 0.5 / np.abs(target).max()
    low = sosfilt(butter(6, 7000, fs=RATE, output="sos"), target)
    noisy = target + 0.003 * generator.standard_normal(n)
    coarse = np.round(target * 64) / 64
    return [Pair(k, target, v) for k, v in (("low-pass 7 kHz", low), ("noise", noisy), ("7 bits", coarse))]


def oracle_pairs(folder: Path) -> list[Pair]:
    """The pairs of `expected.csv` in a folder that belong to Google's conformance table.

    Raises:
        FileNotFoundError: no such table.
    """
    import soundfile

    def mono(name: str) -> NDArray[np.float64]:
        samples, rate = soundfile.read(folder / name, always_2d=True)
        if rate != RATE:
            raise ValueError(f"{folder / name} has {rate} Hz, expected {RATE}")
        return np.asarray(samples.mean(axis=1))

    with open(folder / "expected.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if "conformance" in row["source"]]
    return [
        Pair(Path(row["degraded"]).stem, mono(row["reference"]), mono(row["degraded"]), float(row["moslqo"]))
        for row in rows
    ]


def _rival() -> Callable[[Any, Any], float]:
    """`score(preds, target)` of visqol-python with numba.

    Raises:
        ImportError: it, numba or libsvm is not installed.
    """
    import logging

    from visqol.api import VisqolApi

    logging.getLogger("visqol").setLevel(logging.ERROR)
    api = VisqolApi()
    api.create(mode="audio")
    return lambda preds, target: float(api.measure_from_arrays(target, preds, RATE).moslqo)


def _contest(pairs: list[Pair], repeats: int, rival: Callable[[Any, Any], float]) -> Contest:
    metric = ViSQOL(strict_cpp=True)
    contest = Contest("ViSQOL, audio mode, 48 kHz, one thread", clock="cpu")

    def single(pair: Pair) -> float:
        return metric.score(pair.preds, metric.reference(pair.target, RATE)).moslqo

    def shared(systems: list[NDArray[np.float64]], target: NDArray[np.float64]) -> list[float]:
        reference = metric.reference(target, RATE)
        return [result.moslqo for result in metric.score_batch(systems, reference)]

    totals = {"m2l": 0.0, _RIVAL: 0.0}
    for pair in pairs:
        print(f"{pair.name} …", file=sys.stderr, flush=True)
        times, results = alternate(
            {"m2l": partial(single, pair), _RIVAL: partial(rival, pair.preds, pair.target)},
            repeats=repeats,
            clock="cpu",
        )
        errors = {"difference": abs(results["m2l"] - results[_RIVAL])}
        if pair.expected is not None:
            errors["m2l_error"] = abs(results["m2l"] - pair.expected)
            errors["rival_error"] = abs(results[_RIVAL] - pair.expected)
        name = f"{pair.name}, {len(pair.target) / RATE:.1f} s"
        contest.add(name, times["m2l"], times[_RIVAL], **errors)
        for key in totals:
            totals[key] += times[key].median

    first = max(pairs, key=lambda pair: len(pair.preds) == len(pair.target))
    generator = np.random.default_rng(1)
    systems = [first.preds + 0.001 * k * generator.standard_normal(len(first.preds)) for k in range(SYSTEMS)]
    print(f"{SYSTEMS} systems on {first.name} …", file=sys.stderr, flush=True)
    times, results = alternate(
        {
            "m2l": lambda: shared(systems, first.target),
            _RIVAL: lambda: [rival(preds, first.target) for preds in systems],
        },
        repeats=repeats,
        clock="cpu",
    )
    difference = float(np.max(np.abs(np.subtract(results["m2l"], results[_RIVAL]))))
    contest.add(f"{SYSTEMS} systems, one reference", times["m2l"], times[_RIVAL], difference=difference)
    contest.notes.append(
        f"All single pairs together: {totals['m2l']:.3f} s against {totals[_RIVAL]:.3f} s, "
        f"{totals[_RIVAL] / totals['m2l']:.1f} times as fast."
    )
    return contest


def device_throughput(pairs: list[Pair], device: str, copies: int) -> str:
    """Pairs per second of the torch back end on a device, and its largest error against the CPU path.

    Args:
        pairs: scored `copies` times over, in one batch.
        device: torch device.
        copies: how often each pair occurs.
    """
    cpu, other = ViSQOL(strict_cpp=True), ViSQOL(strict_cpp=True, backend="torch", device=device)
    expected = [cpu.score(p.preds, cpu.reference(p.target, RATE)).moslqo for p in pairs]
    preds = [p.preds for p in pairs] * copies
    # Copies of the target, so that none of them is taken for a reference that is shared.
    references = [other.reference(p.target.copy(), RATE) for _ in range(copies) for p in pairs]
    other.score_batch(preds[: len(pairs)], references[: len(pairs)])
    start = time.perf_counter()
    found = [result.moslqo for result in other.score_batch(preds, references)]
    elapsed = time.perf_counter() - start
    error = float(np.max(np.abs(np.array(found) - np.array(expected * copies))))
    return f"torch on {device}: {len(preds) / elapsed:.1f} pairs/s (wall), largest error {error:.1e} MOS"


def stage_profile(pairs: list[Pair], repeats: int = 3) -> list[tuple[str, float]]:
    """CPU milliseconds per 10 s of reference in each stage, averaged over the pairs; longest first."""
    metric = ViSQOL(strict_cpp=True)
    spent: dict[str, float] = {}
    seconds = 0.0
    for pair in pairs:
        metric.score(pair.preds, metric.reference(pair.target, RATE))  # compiles, fills caches
        for _ in range(repeats):
            last = time.process_time()

            def lap(stage: str) -> None:
                nonlocal last
                now = time.process_time()
                spent[stage] = spent.get(stage, 0.0) + now - last
                last = now

            reference = metric.reference(pair.target, RATE)
            lap("reference: gammatone and input")
            metric.score(pair.preds, reference, lap=lap)
            seconds += len(pair.target) / RATE
    return sorted(((stage, 1e4 * s / seconds) for stage, s in spent.items()), key=lambda item: -item[1])


def run(*, repeats: int, oracle: Path | None, device: str | None, copies: int) -> Contest:
    """The contest.

    Args:
        repeats: timed turns per case.
        oracle: folder with Google's pairs (visqol/expected.csv); synthetic pairs without it.
        device: also time the torch back end on this device.
        copies: with `device`: score the pairs so many times.

    Raises:
        ImportError: the rival or the support vector model is not installed.
        FileNotFoundError: `oracle` has no such table.
    """
    with _one_thread():
        pairs = _pairs(oracle)
        stages = stage_profile(pairs)
        try:
            rival = _rival()
        except ImportError as error:
            message = f"{_RIVAL} is not installed ({error}); to install it: make rivals"
            raise ImportError(message) from None
        contest = _contest(pairs, repeats, rival)
        spent = ", ".join(f"{stage} {ms:.0f}" for stage, ms in stages)
        contest.notes.append(f"Our stages, CPU ms per 10 s: {spent}. Next bottleneck: {stages[0][0]}.")
        if device:
            contest.notes.append(device_throughput(pairs, device, copies))
    return contest


def profile(*, oracle: Path | None) -> str:
    """Where our own time goes, by stage, as a table."""
    with _one_thread():
        stages = stage_profile(_pairs(oracle))
    total = sum(ms for _, ms in stages)
    rows = [[stage, f"{ms:.1f}", f"{100 * ms / total:.0f} %"] for stage, ms in stages]
    table = markdown_table(["stage", "ms", "share"], [*rows, ["all", f"{total:.1f}", "100 %"]])
    return f"CPU ms per 10 s of audio, one thread, reference prepared once and one estimate\n\n{table}"


def _pairs(oracle: Path | None) -> list[Pair]:
    if oracle is None:
        return synthetic_pairs()
    return oracle_pairs(oracle / "visqol" if (oracle / "visqol").is_dir() else oracle)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread each: numba's own threads and those of BLAS."""
    import numba
    from threadpoolctl import threadpool_limits

    numba.set_num_threads(1)
    with threadpool_limits(1):
        yield
