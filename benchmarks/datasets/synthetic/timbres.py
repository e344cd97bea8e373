"""The kinds of instrument: what a note of each is made of.

A timbre is a frozen set of parameters with one method, `note`. Everything that makes two notes of one
instrument differ (bow noise, vibrato phase, a few cents of tuning) comes from the `Draw` it is given.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Protocol, TypeVar

import numpy as np

from benchmarks.datasets.synthetic.draw import Draw
from benchmarks.datasets.synthetic.oscillators import (
    Array,
    filtered,
    fm_tone,
    harmonic_tone,
    midi_to_hz,
    plucked_string,
    resonant_noise,
    struck_modes,
)

T = TypeVar("T", bound="Patch")


class Timbre(Protocol):
    """Something that sounds notes."""

    def note(self, midi: float, seconds: float, velocity: float, draw: Draw, sample_rate: int) -> Array:
        """Sound one note.

        Args:
            midi: Pitch.
            seconds: From the onset to the release; the returned array lasts until the note has faded.
            velocity: Dynamic in (0, 1]; louder is brighter.
            draw: What varies from note to note.
            sample_rate: In Hz.

        Returns:
            `(samples,)`, peak of the order of `velocity`.
        """
        ...


class Patch:
    """Base of the timbres: a patch can be varied, as two guitars differ from each other."""

    continuous: ClassVar[dict[str, float]] = {}

    def varied(self: T, draw: Draw, amount: float = 1.0) -> T:
        """Return a copy whose continuous parameters are scaled by random factors near 1."""
        spread = {
            f.name: getattr(self, f.name) * float(np.exp(amount * width * draw.uniform(-1.0, 1.0)))
            for f in fields(self)  # type: ignore[arg-type]
            if (width := self.continuous.get(f.name)) is not None
        }
        return replace(self, **spread)  # type: ignore[type-var]


def _level(velocity: float) -> float:
    return float(velocity**1.3)


@dataclass(frozen=True)
class Harmonic(Patch):
    """Blown, bowed, sung or electronic tones: a harmonic spectrum shaped by formants and loudness.

    Amplitude of harmonic h at f = h f0:  h^-slope · (even, if h is even) · formants(f) · lowpass(f), where
    the low-pass edge rises with the momentary loudness: that is what makes loud notes and attacks bright.

    Attributes:
        slope: Roll-off exponent: 1 is a sawtooth, 2 a triangle.
        even: Gain of the even harmonics: near 0 for closed pipes and square waves.
        formants: (Hz, gain, width in octaves) of the body's resonances.
        cutoff: Low-pass edge in Hz at full loudness.
        bright: Octaves that the edge moves from silence to full loudness.
        attack, decay, sustain, release: Envelope: seconds, seconds, level, seconds.
        fade: Time constant of the sustained part in seconds (0: does not fade).
        vibrato, vibrato_rate: Depth in cents, rate in Hz; it sets in after the attack.
        breath: Level of the noise that goes with the tone.
        breath_band: Edges of that noise in Hz.
        voices, spread: Number of players, and how far they are out of tune, in cents.
    """

    continuous: ClassVar[dict[str, float]] = {
        "slope": 0.1, "cutoff": 0.35, "bright": 0.2, "attack": 0.4, "release": 0.3,
        "vibrato": 0.4, "vibrato_rate": 0.1, "breath": 0.4,
    }  # fmt: skip

    slope: float = 1.0
    even: float = 1.0
    formants: tuple[tuple[float, float, float], ...] = ()
    cutoff: float = 4000.0
    bright: float = 2.0
    attack: float = 0.05
    decay: float = 0.1
    sustain: float = 0.85
    release: float = 0.1
    fade: float = 0.0
    vibrato: float = 0.0
    vibrato_rate: float = 5.5
    breath: float = 0.0
    breath_band: tuple[float, float] = (800.0, 6000.0)
    voices: int = 1
    spread: float = 0.0

    def spectra(self, f0: float, loudness: Array, sample_rate: int) -> Array:
        """Harmonic amplitudes `(knots, harmonics)` at each loudness `(knots,)` in [0, 1]."""
        n = int(np.clip(16000.0 / f0, 1, 200))
        h = np.arange(1, n + 1, dtype=np.float64)
        f = h * f0
        shape = h**-self.slope * np.where(h % 2 == 0, self.even, 1.0)
        gain = np.ones(n)
        for center, height, width in self.formants:
            gain += height * np.exp(-((np.log2(f / center) / width) ** 2))
        shape = shape * gain
        edge = np.maximum(self.cutoff * 2.0 ** (self.bright * (loudness - 1.0)), 1.5 * f0)
        low = (1.0 + (f[None, :] / edge[:, None]) ** 4) ** -0.75
        full = shape * (1.0 + (f / max(self.cutoff, 1.5 * f0)) ** 4) ** -0.75
        scale = np.sqrt(np.add.reduce(full**2)) * 1.6  # keeps the peak of a full-level tone near 1
        spectra: Array = loudness[:, None] * shape * low / scale
        return spectra

    def envelope(self, seconds: float, sample_rate: int) -> tuple[Array, Array]:
        """Times and levels of the envelope's knots, dense enough for slow wavering."""
        attack = min(self.attack, 0.6 * seconds)
        decay = min(self.decay, 0.35 * seconds)
        steady = np.arange(attack + decay, seconds, 0.12)
        level = self.sustain * (np.exp(-(steady - attack - decay) / self.fade) if self.fade else steady**0)
        last = level[-1] if len(level) else self.sustain
        tail = self.release * np.array([0.0, 0.25, 0.6, 1.0])
        times = np.concatenate([[0.0, 0.4 * attack, attack], steady, seconds + tail])
        levels = np.concatenate([[0.0, 0.55, 1.0], level, last * np.array([1.0, 0.5, 0.15, 0.0])])
        return times, levels

    def note(self, midi: float, seconds: float, velocity: float, draw: Draw, sample_rate: int) -> Array:
        """Sound one note; see `Timbre.note`."""
        times, levels = self.envelope(seconds, sample_rate)
        n_samples = int(np.ceil(times[-1] * sample_rate))
        t = np.arange(n_samples) / sample_rate
        out = np.zeros(n_samples)
        for voice in range(self.voices):
            cents = draw.uniform(-4.0, 4.0) + self.spread * (voice - (self.voices - 1) / 2)
            f0 = midi_to_hz(midi + cents / 100.0)
            loudness = _level(velocity) * levels
            spectra = self.spectra(f0, loudness, sample_rate)
            spectra = spectra * (1.0 + 0.06 * draw.noise(*spectra.shape)) * (1.0 + 0.03 * draw.noise(len(times), 1))
            frequency = f0 * (1.0 + self._vibrato(t, seconds, draw))
            phases = 2.0 * np.pi * (draw.noise(spectra.shape[1]) + 2.0)
            out += harmonic_tone(spectra, times, frequency, phases, sample_rate)
        out /= np.sqrt(self.voices)
        if self.breath > 0:
            wind = filtered(draw.noise(n_samples), *self.breath_band, sample_rate)
            out += self.breath * _level(velocity) * np.interp(t, times, levels) * wind
        return out

    def _vibrato(self, t: Array, seconds: float, draw: Draw) -> Array:
        scoop = -0.004 * draw.unit() * np.exp(-t / max(0.3 * self.attack, 0.004))
        if self.vibrato < 1.0 or seconds < 0.25:
            return scoop
        depth = self.vibrato * draw.uniform(0.7, 1.2) * np.log(2) / 1200.0
        onset = np.clip((t - 1.5 * self.attack - 0.08) / 0.25, 0.0, 1.0)
        rate = self.vibrato_rate * draw.uniform(0.92, 1.08)
        return scoop + depth * onset * np.sin(2.0 * np.pi * (rate * t + draw.unit()))


@dataclass(frozen=True)
class Plucked(Patch):
    """Plucked strings (Karplus-Strong) with a pick position and a body.

    Attributes:
        decay: Time constant in seconds at A3, shorter for higher notes.
        damping: How much faster high partials decay, in (0, 0.5].
        bright: Low-pass edge of the pluck in Hz at full velocity.
        position: Where the string is plucked, as a share of its length (a comb in the spectrum).
        release: Time constant of the damped string in seconds.
        body: (Hz, gain) of body resonances.
        drive: Gain into a soft clipper (0: clean).
    """

    continuous: ClassVar[dict[str, float]] = {
        "decay": 0.3, "damping": 0.2, "bright": 0.4, "position": 0.4, "release": 0.3, "drive": 0.3
    }  # fmt: skip

    decay: float = 1.2
    damping: float = 0.3
    bright: float = 5000.0
    position: float = 0.18
    release: float = 0.08
    body: tuple[tuple[float, float], ...] = ()
    drive: float = 0.0

    def note(self, midi: float, seconds: float, velocity: float, draw: Draw, sample_rate: int) -> Array:
        """Sound one note; see `Timbre.note`."""
        f0 = midi_to_hz(midi + draw.uniform(-0.04, 0.04))
        decay = self.decay * (220.0 / f0) ** 0.4
        n_samples = int((min(seconds, 6.0 * decay) + 5.0 * self.release) * sample_rate)
        period = int(np.ceil(sample_rate / f0)) + 2
        edge = max(self.bright * (0.3 + 0.7 * velocity), 2.0 * f0)
        warm_up = 64  # lets the filter settle before the period that is used
        pluck = filtered(draw.noise(period + warm_up), None, edge, sample_rate)[warm_up:]
        pluck -= np.add.reduce(pluck) / len(pluck)
        pluck -= np.roll(pluck, max(1, int(self.position * period)))
        pluck /= max(float(np.abs(pluck).max()), 1e-9)
        out = plucked_string(f0, pluck, decay, min(self.damping, 0.5), n_samples, sample_rate)
        for center, gain in self.body:
            out += gain * filtered(out, center / 1.3, center * 1.3, sample_rate)
        if self.drive > 0:
            out = np.tanh(self.drive * out) / np.tanh(self.drive)
        held = int(seconds * sample_rate)
        if held < n_samples:
            out[held:] *= np.exp(-np.arange(n_samples - held) / (self.release * sample_rate))
        fade = min(n_samples, 256)
        out[-fade:] *= np.linspace(1.0, 0.0, fade)
        return out * (0.9 * _level(velocity))


@dataclass(frozen=True)
class Struck(Patch):
    """Hammered strings and bars: decaying modes, excited more brightly the harder they are struck.

    Attributes:
        modes: Frequencies over the fundamental's; empty: a string of `n_modes` partials.
        n_modes: Number of partials of a string.
        stiffness: Inharmonicity B of a string at A4: f_h = h f0 sqrt(1 + B h²).
        decay: Time constant of the fundamental in seconds at A4, longer for lower notes.
        damping: How much faster higher modes decay.
        slope: Roll-off over the mode's number; softer strokes are steeper.
        release: Time constant of the damper in seconds (0: rings on).
        click: Level of the stroke's noise.
        strings: Number of strings per note, slightly out of tune.
    """

    continuous: ClassVar[dict[str, float]] = {
        "decay": 0.3, "damping": 0.3, "slope": 0.15, "click": 0.4, "stiffness": 0.4
    }  # fmt: skip

    modes: tuple[float, ...] = ()
    n_modes: int = 16
    stiffness: float = 4e-4
    decay: float = 0.7
    damping: float = 0.25
    slope: float = 1.3
    release: float = 0.12
    click: float = 0.1
    strings: int = 1

    def note(self, midi: float, seconds: float, velocity: float, draw: Draw, sample_rate: int) -> Array:
        """Sound one note; see `Timbre.note`."""
        f0 = midi_to_hz(midi)
        base = self.decay * (440.0 / f0) ** 0.55
        ring = min(seconds, 5.0 * base) + 5.0 * self.release if self.release else 5.0 * base
        n_samples = int(ring * sample_rate)
        h = np.arange(1, self.n_modes + 1, dtype=np.float64)
        ratios = np.array(self.modes) if self.modes else h * np.sqrt(1.0 + self.stiffness * h * h)
        ratios = ratios / ratios[0]
        order = np.arange(1, len(ratios) + 1)
        amplitudes = order ** -(self.slope + 0.9 * (1.0 - velocity)) * (1.0 + 0.1 * draw.noise(len(ratios)))
        decays = base / (1.0 + self.damping * (ratios - 1.0))
        out = np.zeros(n_samples)
        for string in range(self.strings):
            cents = draw.uniform(-2.0, 2.0) + 1.2 * string
            out += struck_modes(ratios * f0 * 2 ** (cents / 1200), amplitudes, decays, n_samples, sample_rate)
        out /= self.strings * np.add.reduce(np.abs(amplitudes)) ** 0.7
        if self.click > 0:
            n = min(n_samples, int(0.02 * sample_rate))
            knock = filtered(draw.noise(n), 300.0, 3000.0, sample_rate)
            out[:n] += self.click * velocity * knock * np.exp(-np.arange(n) / (0.004 * sample_rate))
        if self.release and int(seconds * sample_rate) < n_samples:
            held = int(seconds * sample_rate)
            out[held:] *= np.exp(-np.arange(n_samples - held) / (self.release * sample_rate))
        fade = min(n_samples, 512)
        out[-fade:] *= np.linspace(1.0, 0.0, fade)
        return out * _level(velocity)


@dataclass(frozen=True)
class FM(Patch):
    """Frequency modulation: electric pianos, bells, synthetic basses.

    Attributes:
        ratio: Modulator over carrier frequency.
        index: Modulation index at the onset, at full velocity.
        index_decay: Its time constant in seconds; it falls to a fifth.
        decay: Time constant of the tone at A4 in seconds.
        attack, release: In seconds.
        tremolo: Depth of a 5 Hz tremolo, 0 … 1.
    """

    continuous: ClassVar[dict[str, float]] = {"index": 0.3, "index_decay": 0.3, "decay": 0.3, "release": 0.2}

    ratio: float = 1.0
    index: float = 2.0
    index_decay: float = 0.3
    decay: float = 1.0
    attack: float = 0.004
    release: float = 0.15
    tremolo: float = 0.0

    def note(self, midi: float, seconds: float, velocity: float, draw: Draw, sample_rate: int) -> Array:
        """Sound one note; see `Timbre.note`."""
        f0 = midi_to_hz(midi + draw.uniform(-0.03, 0.03))
        decay = self.decay * (440.0 / f0) ** 0.4
        n_samples = int((min(seconds, 5.0 * decay) + 4.0 * self.release) * sample_rate)
        t = np.arange(n_samples) / sample_rate
        # Sidebands reach about (index + 1) modulator frequencies; high notes get a lower index.
        room = max(0.0, (0.4 * sample_rate / f0 - 1.0) / self.ratio - 1.0)
        index = min(self.index * velocity, room) * (0.2 + 0.8 * np.exp(-t / self.index_decay))
        out = fm_tone(np.full(n_samples, f0), self.ratio, index, sample_rate)
        level = np.minimum(t / self.attack, 1.0) * np.exp(-t / decay)
        held = int(seconds * sample_rate)
        if held < n_samples:
            level[held:] *= np.exp(-np.arange(n_samples - held) / (self.release * sample_rate))
        if self.tremolo > 0:
            level *= 1.0 - self.tremolo * (0.5 + 0.5 * np.sin(2 * np.pi * (5.0 * t + draw.unit())))
        fade = min(n_samples, 512)
        level[-fade:] *= np.linspace(1.0, 0.0, fade)
        return out * level * (0.8 * _level(velocity))


@dataclass(frozen=True)
class Whisper(Patch):
    """Noise through resonances at the pitch and its harmonics: wind, breathy pads, whistles.

    Attributes:
        quality: Sharpness of the resonances; higher is more tonal.
        harmonics: Number of resonances.
        attack, release: In seconds.
        air: Level of the unpitched noise.
    """

    continuous: ClassVar[dict[str, float]] = {"quality": 0.3, "attack": 0.3, "release": 0.3, "air": 0.5}

    quality: float = 60.0
    harmonics: int = 3
    attack: float = 0.4
    release: float = 0.6
    air: float = 0.05

    def note(self, midi: float, seconds: float, velocity: float, draw: Draw, sample_rate: int) -> Array:
        """Sound one note; see `Timbre.note`."""
        f0 = midi_to_hz(midi)
        n_samples = int((seconds + self.release) * sample_rate)
        noise = draw.noise(n_samples)
        out = np.zeros(n_samples)
        for h in range(1, self.harmonics + 1):
            out += resonant_noise(noise, h * f0, self.quality, sample_rate) / h**1.2
        out += self.air * filtered(noise, 500.0, 9000.0, sample_rate)
        attack = min(self.attack, 0.5 * seconds)
        times = [0.0, 0.5 * attack, attack, seconds, seconds + 0.4 * self.release, seconds + self.release]
        level = np.interp(np.arange(n_samples) / sample_rate, times, [0.0, 0.6, 1.0, 0.9, 0.35, 0.0])
        return out * level * (0.35 * _level(velocity))
