"""Contests: what is counted, what is printed, and that a side races at all."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from benchmarks.cli.main import main as bench
from benchmarks.speed.machine import count_flops, measure_rates
from benchmarks.speed.memory import decode
from m2l.kernels import fused


def test_flops_are_those_of_the_closed_form() -> None:
    layer, product = nn.Conv2d(3, 5, (3, 3), padding=1), torch.zeros(7, 11)
    x = torch.zeros(2, 3, 10, 20)
    with torch.no_grad():
        assert count_flops(lambda: layer(x)) == pytest.approx(2 * 2 * 5 * 10 * 20 * 3 * 9 / 1e9)
        assert count_flops(lambda: product @ product.t()) == pytest.approx(2 * 7 * 7 * 11 / 1e9)


def test_rates_follow_the_time_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that advances a second per reading, every call takes a second."""
    ticks = iter(range(10**6))
    monkeypatch.setattr("benchmarks.speed.machine.time.perf_counter", lambda: float(next(ticks)))
    rates = measure_rates(repeats=1)
    assert rates.products == pytest.approx(2 * 1024**3 / 1e9)
    assert rates.convolutions == pytest.approx(2 * 9 * 256 * 64 * 4096 / 1e9)
    assert rates.memory == pytest.approx(3 * 4 * 2**25 / 1e9)


def test_decoding_a_file_tells_the_peak_of_its_process() -> None:
    found = decode("tiny", "float32", 2.0, 1)
    assert found.peak >= found.loaded > 50
    assert found.seconds > 0


def test_a_profile_shows_the_compiled_passes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's profiler alone sees nothing of what numba compiles."""
    monkeypatch.setattr("m2l.kernels.steps.WORTHWHILE_BYTES", 0)
    before = vars(fused).copy()
    assert bench(["speed", "model", "--preset", "tiny", "--profile", "--seconds", "1", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"normalize", "sums"} <= {line.split()[-1] for line in lines}
    times = [float(line.split()[0]) for line in lines[1:]]
    assert times == sorted(times, reverse=True)
    assert times[-1] > 0
    assert vars(fused) == before


@pytest.mark.slow
def test_a_small_network_races_against_plain_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        bench(["speed", "model", "--preset", "tiny", "--seconds", "1", "--repeats", "1", "--threads", "1", "--json"])
        == 0
    )
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {(row["ours"], row["case"]) for row in rows} == {
        (f"m2l {precision}", case) for precision in ("float32", "bfloat16") for case in ("encode", "decode", "both")
    }
    for row in rows:
        assert row["rival"] == "plain torch"
        assert 0.0 < row["share"] < 1.5
        assert row.get("output_error_same_latents", 0.0) < (1e-5 if row["ours"] == "m2l float32" else 0.1)
