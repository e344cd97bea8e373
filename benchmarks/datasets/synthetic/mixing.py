"""Makes a piece sound: plays the parts, places them in stereo and in a room, sets the level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from benchmarks.datasets.synthetic.composition import Piece
from benchmarks.datasets.synthetic.draw import Draw
from benchmarks.datasets.synthetic.drums import drum_sound
from benchmarks.datasets.synthetic.instruments import INSTRUMENTS
from benchmarks.datasets.synthetic.oscillators import Array, filtered
from benchmarks.datasets.synthetic.timbres import Patch, Timbre

# Level of each role in dB (RMS of the whole part), share of reverb, and widest panning.
_ROLES = {
    "chords": (-19.0, 0.8, 0.45),
    "bass": (-16.0, 0.15, 0.08),
    "melody": (-16.0, 0.9, 0.35),
    "pad": (-23.0, 1.0, 0.6),
    "drums": (-15.0, 0.35, 0.0),
}
_DRUM_PAN = {"hat": 0.35, "open hat": 0.35, "ride": -0.4, "crash": -0.3, "tom": -0.2, "shaker": 0.5, "rim": -0.25,
             "brush": 0.2}  # fmt: skip
_DRUM_GAIN = {"kick": 1.0, "snare": 0.7, "clap": 0.6, "rim": 0.4, "hat": 0.25, "open hat": 0.25, "ride": 0.2,
              "crash": 0.35, "tom": 0.6, "shaker": 0.2, "brush": 0.25}  # fmt: skip
_CEILING = 0.97


@dataclass(frozen=True)
class Room:
    """A reverberation: T60 in seconds, delay before it in seconds, level against the dry sound."""

    t60: float
    pre_delay: float
    level: float


def render(piece: Piece, draw: Draw, sample_rate: int) -> npt.NDArray[np.float32]:
    """Play a piece.

    Args:
        piece: What is played.
        draw: Noise, panning, variations of the notes.
        sample_rate: In Hz.

    Returns:
        Stereo float32 `(2, samples)` on the 16-bit grid, peak below 0.98.
    """
    n_samples = round(piece.seconds * sample_rate)
    dry, send = np.zeros((2, n_samples)), np.zeros((2, n_samples))
    for role in piece.instruments:
        part = _play(piece, role, draw, sample_rate)
        level, reverb, widest = _ROLES[role]
        placed = pan(part, draw.uniform(-widest, widest), sample_rate)
        if role == "pad":
            placed = widen(placed, draw.uniform(0.008, 0.016), sample_rate)
        if role == "melody" and piece.artist.style.electronic:
            placed += echo(placed, 0.75 * 60.0 / piece.tempo, sample_rate)
        placed *= _gain_to(placed, level + draw.uniform(-2.0, 2.0))
        dry += placed
        send += reverb * placed
    if piece.hits:
        kit = _drum_kit(piece, draw, sample_rate)
        kit *= _gain_to(kit, _ROLES["drums"][0] + draw.uniform(-2.0, 2.0))
        dry += kit
        send += _ROLES["drums"][1] * kit
    room = Room(piece.artist.room, draw.uniform(0.008, 0.03), draw.uniform(0.25, 0.55))
    mix = dry + room.level * reverberate(send, room, draw, sample_rate)
    mix += 10 ** (-84 / 20) * draw.noise(2, n_samples)  # no recording is digitally silent
    mix = filtered(mix, 20.0, None, sample_rate, order=1)  # kicks and basses leave an offset
    low, high = piece.artist.style.loudness
    target = low + (high - low) * (piece.dynamic - 0.55) / 0.4
    return finish(mix, target, sample_rate)


def _play(piece: Piece, role: str, draw: Draw, sample_rate: int) -> Array:
    """One part, mono. Notes that sound alike are made once."""
    name = piece.instruments[role]
    timbre = patched(name, piece.artist.patches)
    n_samples = round(piece.seconds * sample_rate)
    out = np.zeros(n_samples)
    made: dict[tuple[int, int, int], Array] = {}
    for note in piece.notes:
        if note.role != role:
            continue
        layer = max(1, round(note.velocity * 6))
        held = max(1, round(note.seconds / 0.04))
        key = (note.midi, held, layer)
        if key not in made:
            made[key] = timbre.note(note.midi, held * 0.04, layer / 6, draw, sample_rate)
        add_at(out, made[key], note.start, sample_rate)
    return out


def patched(instrument: str, patches: int) -> Timbre:
    """An artist's own variation of an instrument."""
    timbre = INSTRUMENTS[instrument]
    if isinstance(timbre, Patch):
        varied: Timbre = timbre.varied(Draw("patch", patches, instrument))  # type: ignore[assignment]
        return varied
    return timbre


def _drum_kit(piece: Piece, draw: Draw, sample_rate: int) -> Array:
    n_samples = round(piece.seconds * sample_rate)
    out = np.zeros((2, n_samples))
    for drum in sorted({hit.drum for hit in piece.hits}):
        track = np.zeros(n_samples)
        sounds = [drum_sound(drum, piece.artist.kit, draw, sample_rate) for _ in range(2)]  # no two strokes alike
        for i, hit in enumerate(h for h in piece.hits if h.drum == drum):
            add_at(track, sounds[i % 2] * (hit.velocity**1.2 * _DRUM_GAIN[drum]), hit.start, sample_rate)
        out += pan(track, _DRUM_PAN.get(drum, 0.0), sample_rate)
    return out


def add_at(out: Array, sound: Array, start: float, sample_rate: int) -> None:
    """Add a sound at a time in seconds, cut off at the end of `out`."""
    first = round(start * sample_rate)
    n = min(len(sound), len(out) - first)
    if n > 0:
        out[first : first + n] += sound[:n]


def pan(mono: Array, position: float, sample_rate: int) -> Array:
    """Place a mono part: constant-power gains and a small delay on the far side.

    Args:
        mono: `(samples,)`.
        position: -1 (left) to 1 (right).
        sample_rate: In Hz.

    Returns:
        `(2, samples)`.
    """
    angle = (position + 1.0) * np.pi / 4.0
    late = round(abs(position) * 0.0006 * sample_rate)
    far = np.concatenate([np.zeros(late), mono[: len(mono) - late]]) if late else mono
    left, right = (far, mono) if position > 0 else (mono, far)
    return np.stack([np.cos(angle) * left, np.sin(angle) * right])


def widen(stereo: Array, delay: float, sample_rate: int) -> Array:
    """Spread a part over the stereo image by a delayed, inverted cross-feed."""
    late = round(delay * sample_rate)
    crossed = np.zeros_like(stereo)
    crossed[:, late:] = stereo[::-1, : stereo.shape[1] - late]
    crossed[1] *= -1.0
    widened: Array = stereo + 0.6 * crossed
    return widened


def echo(stereo: Array, delay: float, sample_rate: int, feedback: float = 0.42) -> Array:
    """Three repeats from side to side, each duller by its level only. `delay` in seconds."""
    out = np.zeros_like(stereo)
    for repeat in (1, 2, 3):
        late = round(repeat * delay * sample_rate)
        if late >= stereo.shape[1]:
            break
        source = stereo if repeat % 2 == 0 else stereo[::-1]
        side = np.array([[0.9], [0.35]]) if repeat % 2 else np.array([[0.35], [0.9]])
        out[:, late:] += feedback**repeat * side * source[:, : stereo.shape[1] - late]
    return out


def room_response(room: Room, draw: Draw, sample_rate: int) -> Array:
    """Impulse response of a room: a few early reflections, then decaying noise, unlike in both ears.

    High frequencies decay in half the time, as air and walls absorb them first.

    Returns:
        `(2, samples)`, unit energy per channel.
    """
    n = int((room.pre_delay + room.t60) * sample_rate)
    delay = int(room.pre_delay * sample_rate)
    t = np.arange(n - delay) / sample_rate
    rate = np.log(1000.0) / room.t60  # -60 dB in T60
    noise = draw.noise(2, n - delay)
    dull = filtered(noise, None, 2500.0, sample_rate, order=1)
    out = np.zeros((2, n))
    out[:, delay:] = dull * np.exp(-rate * t) + (noise - dull) * np.exp(-2.0 * rate * t)
    out[:, delay:] *= np.minimum(t / 0.02, 1.0)  # the diffuse part builds up
    for _ in range(7):
        at = min(int(draw.uniform(0.3, 2.5) * room.pre_delay * sample_rate), n - 1)
        out[draw.integer(2), at] += draw.choice((-1.0, 1.0)) * draw.uniform(2.0, 6.0)
    scaled: Array = out / np.sqrt(np.add.reduce(out**2, axis=1, keepdims=True))
    return scaled


def reverberate(stereo: Array, room: Room, draw: Draw, sample_rate: int) -> Array:
    """Convolve with the room, by FFT, channel by channel; the same length as the input."""
    response = room_response(room, draw, sample_rate)
    n = stereo.shape[1]
    size = fft.next_fast_len(n + response.shape[1] - 1, real=True)
    spectrum = fft.rfft(stereo, size, axis=1, workers=1) * fft.rfft(response, size, axis=1, workers=1)
    wet: Array = fft.irfft(spectrum, size, axis=1, workers=1)[:, :n]
    return wet


def _gain_to(audio: Array, level: float) -> float:
    """Factor that brings a part's RMS to `level` dBFS (0 for silence)."""
    power = float(np.add.reduce(audio**2, axis=None)) / audio.size
    return float(10 ** (level / 20) / np.sqrt(power)) if power > 0 else 0.0


def finish(mix: Array, level: float, sample_rate: int) -> npt.NDArray[np.float32]:
    """Set the level, round off the peaks, fade the edges, and store on the 16-bit grid.

    The grid makes the samples independent of the last bits of a machine's sine and exponential.

    Args:
        mix: `(channels, samples)`.
        level: Wanted RMS in dBFS; peaks above 0.7 are compressed smoothly and stay below 0.97.
        sample_rate: In Hz.
    """
    out = mix * _gain_to(mix, level)
    size = np.abs(out)
    over = size > 0.7
    out[over] = np.sign(out[over]) * (0.7 + (_CEILING - 0.7) * np.tanh((size[over] - 0.7) / (_CEILING - 0.7)))
    fade = min(out.shape[1] // 2, round(0.004 * sample_rate))
    out[:, :fade] *= np.linspace(0.0, 1.0, fade)
    out[:, out.shape[1] - fade :] *= np.linspace(1.0, 0.0, fade)
    return (np.round(out * 32767.0) / 32768.0).astype(np.float32)
