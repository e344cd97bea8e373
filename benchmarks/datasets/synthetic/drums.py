"""Drum sounds: each is made once per clip and struck many times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.datasets.synthetic.draw import Draw
from benchmarks.datasets.synthetic.oscillators import Array, filtered, struck_modes

# Square-wave frequencies of a cymbal's "metal", in ratios that never line up.
_METAL = (1.0, 1.342, 1.2312, 1.6532, 1.9523, 2.1523)


@dataclass(frozen=True)
class Kit:
    """What makes one kit differ from another.

    Attributes:
        kick_pitch: Lowest frequency of the kick in Hz.
        kick_decay, snare_decay, hat_decay: Time constants in seconds.
        snare_pitch: Shell frequency of the snare in Hz.
        brightness: Scales the edges of all noise bands.
        click: Level of the kick's beater.
    """

    kick_pitch: float = 48.0
    kick_decay: float = 0.16
    snare_pitch: float = 185.0
    snare_decay: float = 0.11
    hat_decay: float = 0.035
    brightness: float = 1.0
    click: float = 0.3


def draw_kit(draw: Draw, electronic: bool) -> Kit:
    """Choose a kit."""
    return Kit(
        kick_pitch=draw.uniform(42.0, 56.0) if electronic else draw.uniform(52.0, 70.0),
        kick_decay=draw.uniform(0.15, 0.28) if electronic else draw.uniform(0.08, 0.14),
        snare_pitch=draw.uniform(160.0, 230.0),
        snare_decay=draw.uniform(0.07, 0.15),
        hat_decay=draw.uniform(0.02, 0.05),
        brightness=draw.uniform(0.8, 1.25),
        click=draw.uniform(0.1, 0.5),
    )


def _decay(n: int, tau: float, sample_rate: int) -> Array:
    level: Array = np.exp(-np.arange(n) / (tau * sample_rate))
    return level


def drum_sound(name: str, kit: Kit, draw: Draw, sample_rate: int) -> Array:
    """Sound one drum at full level.

    Args:
        name: kick, snare, clap, rim, hat, open hat, crash, ride, tom, shaker or brush.
        kit: The kit it belongs to.
        draw: The noise in it.
        sample_rate: In Hz.

    Returns:
        `(samples,)`, peak about 1.

    Raises:
        ValueError: No such drum.
    """
    makers = {
        "kick": _kick, "snare": _snare, "clap": _clap, "rim": _rim, "hat": _hat, "open hat": _hat,
        "crash": _hat, "ride": _hat, "tom": _tom, "shaker": _shaker, "brush": _shaker,
    }  # fmt: skip
    if name not in makers:
        raise ValueError(f"unknown drum {name!r} (known: {', '.join(makers)})")
    out = makers[name](name, kit, draw, sample_rate)
    fade = min(len(out), 200)
    out[-fade:] *= np.linspace(1.0, 0.0, fade)
    scaled: Array = out / max(float(np.abs(out).max()), 1e-9)
    return scaled


def _kick(name: str, kit: Kit, draw: Draw, sample_rate: int) -> Array:
    n = int(6 * kit.kick_decay * sample_rate)
    t = np.arange(n) / sample_rate
    # The pitch falls from about five times the lowest frequency: its integral is the phase.
    phase = kit.kick_pitch * (t + 4.5 * 0.022 * (1.0 - np.exp(-t / 0.022)))
    body = np.sin(2.0 * np.pi * phase) * _decay(n, kit.kick_decay, sample_rate)
    beater = filtered(draw.noise(n), 1500.0, 6000.0 * kit.brightness, sample_rate)
    return body + kit.click * beater * _decay(n, 0.004, sample_rate)


def _snare(name: str, kit: Kit, draw: Draw, sample_rate: int) -> Array:
    n = int(6 * kit.snare_decay * sample_rate)
    pitches = kit.snare_pitch * np.array([1.0, 1.6, 2.3])
    shell = struck_modes(pitches, np.array([1.0, 0.6, 0.3]), np.array([0.07, 0.05, 0.03]), n, sample_rate)
    wires = filtered(draw.noise(n), 1200.0, 9000.0 * kit.brightness, sample_rate)
    return 0.7 * shell + 0.7 * wires * _decay(n, kit.snare_decay, sample_rate)


def _clap(name: str, kit: Kit, draw: Draw, sample_rate: int) -> Array:
    n = int(0.35 * sample_rate)
    level = np.zeros(n)
    for start, tau in ((0.0, 0.004), (0.011, 0.004), (0.023, 0.004), (0.033, kit.snare_decay * 0.6)):
        first = int(start * sample_rate)
        level[first:] += _decay(n - first, tau, sample_rate)
    return level * filtered(draw.noise(n), 900.0, 3200.0 * kit.brightness, sample_rate)


def _rim(name: str, kit: Kit, draw: Draw, sample_rate: int) -> Array:
    n = int(0.12 * sample_rate)
    return struck_modes(np.array([420.0, 1710.0, 2600.0]), np.array([0.5, 1.0, 0.4]), np.full(3, 0.012), n, sample_rate)


def _hat(name: str, kit: Kit, draw: Draw, sample_rate: int) -> Array:
    tau = {"hat": kit.hat_decay, "open hat": 0.18, "ride": 0.35, "crash": 0.6}[name]
    n = int(min(5 * tau, 2.0) * sample_rate)
    t = np.arange(n) / sample_rate
    base = draw.uniform(290.0, 410.0)
    metal = np.zeros(n)
    for ratio in _METAL:
        metal += np.where((base * ratio * t + draw.unit()) % 1.0 < 0.5, 1.0, -1.0)
    mix = 0.35 * metal + (1.6 if name == "crash" else 0.9) * draw.noise(n)
    low = {"hat": 7000.0, "open hat": 6500.0, "ride": 4500.0, "crash": 2500.0}[name]
    return filtered(mix, low * kit.brightness, None, sample_rate, order=4) * _decay(n, tau, sample_rate)


def _tom(name: str, kit: Kit, draw: Draw, sample_rate: int) -> Array:
    n = int(0.7 * sample_rate)
    t = np.arange(n) / sample_rate
    pitch = draw.uniform(85.0, 160.0)
    body = np.sin(2.0 * np.pi * pitch * (t + 0.6 * 0.05 * (1.0 - np.exp(-t / 0.05))))
    skin = filtered(draw.noise(n), 400.0, 2500.0, sample_rate) * _decay(n, 0.02, sample_rate)
    return body * _decay(n, 0.14, sample_rate) + 0.25 * skin


def _shaker(name: str, kit: Kit, draw: Draw, sample_rate: int) -> Array:
    rise, tau, band = (0.015, 0.03, (4500.0, 12000.0)) if name == "shaker" else (0.03, 0.09, (1500.0, 8000.0))
    n = int((rise + 5 * tau) * sample_rate)
    t = np.arange(n) / sample_rate
    level = np.minimum(t / rise, 1.0) * np.exp(-np.maximum(t - rise, 0.0) / tau)
    return level * filtered(draw.noise(n), *band, sample_rate)
