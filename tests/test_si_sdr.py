"""SI-SDR: the definition, the channel policies, silence, and every tool's convention."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.metrics.si_sdr import si_sdr, si_sdr_detailed

RATE = 44100


def noise(samples: int = 20000, channels: int = 0, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    shape = (channels, samples) if channels else (samples,)
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def exact(preds: np.ndarray, target: np.ndarray, zero_mean: bool = True) -> float:
    """The definition in extended precision, residual formed sample by sample."""
    p, t = preds.astype(np.longdouble), target.astype(np.longdouble)
    if zero_mean:
        p, t = p - p.mean(), t - t.mean()
    scaled = t * ((p * t).sum() / (t * t).sum())
    return float(10 * np.log10((scaled**2).sum() / ((scaled - p) ** 2).sum()))


@pytest.mark.parametrize("snr", [-30, 0, 20, 59, 61, 100, 140])
def test_equals_the_definition_at_any_ratio(snr: float) -> None:
    target = noise().astype(np.float64)
    preds = 0.7 * target + 10 ** (-snr / 20) * noise(seed=1).astype(np.float64)
    assert si_sdr(preds, target) == pytest.approx(
        exact(preds, target), abs=1e-7
    )  # float64, and the processor's order of sums


def test_noise_at_20_db_reads_20_db() -> None:
    target = noise(200000)
    assert si_sdr(target + 0.1 * noise(200000, seed=1), target) == pytest.approx(20.0, abs=0.1)


def test_zero_mean_is_the_default_and_ignores_dc() -> None:
    target, preds = noise(), noise() + 0.1 * noise(seed=1)
    assert si_sdr(preds + 0.5, target - 0.2) == pytest.approx(si_sdr(preds, target), abs=1e-3)
    assert si_sdr(preds + 0.5, target, zero_mean=False) < 0


@pytest.mark.parametrize("first", [0.9, 1e4])
def test_a_click_at_the_first_sample_costs_no_accuracy(first: float) -> None:
    target = noise(scale=1e-4).astype(np.float64)
    target[0] = first
    preds = target + noise(seed=1, scale=1e-6)
    assert si_sdr(preds, target) == pytest.approx(exact(preds, target), abs=1e-6)


def test_numpy_torch_and_integers_agree() -> None:
    target = np.round(noise() * 20000).astype(np.int16)
    preds = (target + np.round(noise(seed=1) * 2000)).astype(np.int16)
    value = si_sdr(preds, target)
    assert isinstance(value, float)
    assert si_sdr(torch.from_numpy(preds), torch.from_numpy(target)) == value
    assert si_sdr(preds.astype(np.float64), target.astype(np.float32)) == pytest.approx(value, abs=1e-9)
    assert si_sdr(preds[::2], target[::2]) == si_sdr(preds[::2].copy(), target[::2].copy())


def test_channel_policies() -> None:
    target = noise(channels=2)
    preds = target + np.stack([0.01 * noise(seed=1), 0.3 * noise(seed=2)])
    left, right = (si_sdr(preds[c], target[c]) for c in range(2))
    assert si_sdr(preds, target, channels="per_channel") == pytest.approx((left + right) / 2)
    assert si_sdr(preds, target) == pytest.approx(si_sdr(preds.mean(0), target.mean(0)), abs=1e-4)
    assert si_sdr(preds, target, channels="joint") == pytest.approx(
        exact(preds.reshape(-1), target.reshape(-1)), abs=1e-8
    )
    assert si_sdr(preds[:1], target[:1]) == left


def test_identity_is_infinite_and_unrelated_is_low() -> None:
    assert si_sdr(noise(), noise()) == math.inf
    assert si_sdr(-0.3 * noise(), noise()) > 100  # sign and gain do not count
    assert si_sdr(noise(seed=1), noise()) < -20


@pytest.mark.parametrize(
    ("preds", "target", "reason"),
    [
        (noise(), np.zeros(20000), "target is silent"),
        (noise(), np.full(20000, 0.123), "target is silent"),
        (np.zeros(20000), noise(), "preds is silent"),
        (np.where(np.arange(20000) == 7, np.nan, noise()), noise(), "1 non-finite samples, the first at 7"),
        (noise(), np.where(np.arange(20000) > 19997, np.inf, noise()), "the first at 19998"),
    ],
)
def test_undefined_is_nan_with_a_reason(preds: np.ndarray, target: np.ndarray, reason: str) -> None:
    result = si_sdr_detailed(preds, target)
    assert math.isnan(result.value)
    assert reason in result.reason


def test_one_silent_channel_is_left_out_and_named() -> None:
    target = noise(channels=2)
    target[1] = 0
    preds = target + 0.1 * noise(channels=2, seed=1)
    result = si_sdr_detailed(preds, target, channels="per_channel")
    assert result.value == si_sdr(preds[0], target[0])
    assert result.reason == "channel 1: target is silent"


@pytest.mark.parametrize(
    ("preds", "target", "options", "message"),
    [
        (noise(5), noise(6), {}, r"\(1, 5\), target \(1, 6\)"),
        (noise(0), noise(0), {}, "not empty"),
        (noise(5)[None, None], noise(5)[None, None], {}, r"\(1, 1, 5\)"),
        (noise(5), noise(5), {"channels": "left"}, "channels='left'"),
        (noise(5), noise(5), {"convention": "matlab"}, "convention='matlab'"),
        (noise(5), noise(5), {"convention": "audiocraft"}, "give sample_rate"),
        (noise(5).astype(complex), noise(5), {}, "real numbers"),
    ],
)
def test_wrong_input_is_named(preds: np.ndarray, target: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        si_sdr(preds, target, **options)


signals = hnp.arrays(np.float64, st.integers(4, 64), elements=st.floats(-1, 1, width=32))


@settings(max_examples=60, deadline=None)
@given(signals, st.floats(0.01, 100), st.integers(0, 2**31))
def test_gain_and_offset_of_the_estimate_never_matter(target: np.ndarray, gain: float, seed: int) -> None:
    assume(np.ptp(target) > 1e-2)
    preds = target + 0.1 * np.random.default_rng(seed).standard_normal(len(target))
    value = si_sdr(preds, target)
    assert si_sdr(gain * preds + 0.25, target) == pytest.approx(value, abs=1e-6)


# The conventions: each tool's formula again, written in torch as that tool documents it.


def torchmetrics(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    eps = torch.finfo(torch.float32).eps
    scaled = ((p * t).sum(-1, keepdim=True) + eps) / ((t**2).sum(-1, keepdim=True) + eps) * t
    return (10 * torch.log10(((scaled**2).sum(-1) + eps) / (((scaled - p) ** 2).sum(-1) + eps))).mean()


def auraloss(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    p, t = p - p.mean(-1, keepdim=True), t - t.mean(-1, keepdim=True)
    scaled = (p * t).sum(-1, keepdim=True) / ((t**2).sum(-1, keepdim=True) + 1e-8) * t
    return (10 * torch.log10((scaled**2).sum(-1) / (((p - scaled) ** 2).sum(-1) + 1e-8) + 1e-8)).mean()


def audiotools(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    p, t = p.reshape(-1), t.reshape(-1)
    p, t = p - p.mean(), t - t.mean()
    scaled = ((p * t).sum() + 1e-8) / ((t**2).sum() + 1e-8) * t
    return 10 * torch.log10((scaled**2).sum() / ((p - scaled) ** 2).sum() + 1e-8)


def audiocraft(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    frame, hop = 20 * 100, 10 * 100  # sample_rate=100 in the test
    count = math.ceil(p.shape[-1] / hop)
    pad = (0, (count - 1) * hop + frame - p.shape[-1])
    p, t = (torch.nn.functional.pad(x, pad).unfold(-1, frame, hop) for x in (p, t))
    p, t = p - p.mean(-1, keepdim=True), t - t.mean(-1, keepdim=True)
    eps = torch.finfo(torch.float32).eps * frame
    scaled = (p * t).sum(-1, keepdim=True) * t / (eps + (t**2).sum(-1, keepdim=True))
    ratio = torch.log10(eps + (scaled**2).sum(-1)) - torch.log10(eps + ((p - scaled) ** 2).sum(-1))
    return (10 * ratio).mean()


TOOLS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "torchmetrics": torchmetrics,
    "auraloss": auraloss,
    "asteroid": auraloss,
    "audiotools": audiotools,
    "audiocraft": audiocraft,
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("level", [1.0, 1e-6], ids=["loud", "-120 dB"])
@pytest.mark.parametrize("length", [1500, 4321])
def test_convention_follows_the_tool(tool: str, level: float, length: int) -> None:
    target = level * (noise(length, channels=2).astype(np.float64) + np.array([[0.05], [0.0]]))
    preds = target + level * np.stack([0.02 * noise(length, seed=1), 0.3 * noise(length, seed=2)])
    wanted = TOOLS[tool](torch.from_numpy(preds), torch.from_numpy(target)).item()
    assert si_sdr(preds, target, convention=tool, sample_rate=100) == pytest.approx(wanted, abs=1e-6)


def test_conventions_reproduce_the_measured_edge_cases() -> None:
    """Figures measured with the tools themselves, on a pair whose energy is 590."""
    target = noise(44100).astype(np.float64)
    target *= math.sqrt(590) / np.linalg.norm(target)
    silence = np.zeros_like(target)

    def value(preds: np.ndarray, reference: np.ndarray, tool: str) -> float:
        return si_sdr(preds, reference, convention=tool, sample_rate=RATE)

    assert value(target, target, "torchmetrics") == pytest.approx(97.0, abs=0.06)
    assert value(target, target, "auraloss") == pytest.approx(107.7, abs=0.06)
    assert value(target, silence, "torchmetrics") == pytest.approx(-96.9, abs=0.06)
    assert value(target, silence, "auraloss") == pytest.approx(-80)
    assert value(silence, target, "torchmetrics") == pytest.approx(0.0, abs=1e-4)
    assert value(silence, target, "asteroid") == pytest.approx(-80)
    assert value(silence, target, "audiocraft") == pytest.approx(0.0, abs=1e-9)
    assert value(silence, silence, "torchmetrics") == 0.0
    assert value(silence, silence, "auraloss") == pytest.approx(-80)
    assert value(target, silence, "audiotools") == pytest.approx(-80)
    assert value(target, target, "audiotools") == math.inf  # its formula divides by the noise, which is none
    assert math.isnan(value(silence, silence, "audiotools"))
    assert math.isnan(si_sdr(target, silence))


def test_a_convention_uses_its_own_channel_policy_and_mean_unless_told() -> None:
    target = noise(channels=2).astype(np.float64)
    preds = target + 0.1 * noise(channels=2, seed=1) + 0.05
    loud = {"convention": "torchmetrics"}
    assert si_sdr(preds, target, **loud) < si_sdr(preds, target, zero_mean=True, **loud) - 5
    joint = si_sdr(preds, target, convention="audiotools")
    assert joint == pytest.approx(si_sdr(preds, target, channels="joint"), abs=1e-3)
    assert abs(joint - si_sdr(preds, target, convention="audiotools", channels="mono")) > 1e-3
