"""Writes a piece: chords, bass, melody and drums of an artist, in a key, at a tempo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.datasets.synthetic.draw import Draw
from benchmarks.datasets.synthetic.harmony import PROGRESSIONS, SCALES, Key, nearest, voicing
from benchmarks.datasets.synthetic.styles import Artist


@dataclass(frozen=True)
class Note:
    """One note. `start` and `seconds` in seconds, `midi` pitch, `velocity` in (0, 1]."""

    role: str
    start: float
    seconds: float
    midi: int
    velocity: float


@dataclass(frozen=True)
class Hit:
    """One stroke of a drum. `start` in seconds, `velocity` in (0, 1]."""

    drum: str
    start: float
    velocity: float


@dataclass(frozen=True)
class Piece:
    """What is played; `mixing` makes it sound.

    Attributes:
        artist: Who plays.
        key, tempo, beats: Key, beats per minute, beats per bar.
        first_beat: Time of the first beat in seconds.
        seconds: Length of the clip; notes may ring beyond it.
        instruments: Instrument of each role that takes part (chords, bass, melody, pad).
        dynamic: Overall dynamic in (0, 1].
        notes, hits: Sorted by time.
    """

    artist: Artist
    key: Key
    tempo: float
    beats: int
    first_beat: float
    seconds: float
    instruments: dict[str, str]
    dynamic: float
    notes: tuple[Note, ...]
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class _Span:
    """A chord and how long it lasts, in beats."""

    start: float
    beats: float
    degree: int
    chord: tuple[int, ...]


def compose(artist: Artist, key: Key, seconds: float, draw: Draw) -> Piece:
    """Write a piece.

    Args:
        artist: Who plays it.
        key: Its key.
        seconds: Length.
        draw: All its choices.
    """
    style = artist.style
    tempo = round(draw.uniform(*artist.tempo), 1)
    comping = draw.choice(style.comping)
    beats = 3 if comping == "waltz" else style.beats
    instruments = _cast(artist, draw)
    first_beat = round(draw.uniform(0.0, 0.08), 3)
    dynamic = draw.uniform(0.55, 0.95)
    total = (seconds - first_beat) * tempo / 60.0

    # Short clips still have to hold a progression: slow pieces change chords every half bar.
    bar_seconds = beats * 60.0 / tempo
    step = beats / 2 if bar_seconds > 1.9 and beats == 4 else float(beats)
    progression = draw.choice(PROGRESSIONS[key.mode])
    spans = [
        _Span(i * step, step, d := progression[i % len(progression)], key.chord(d, style.sevenths))
        for i in range(int(total / step) + 1)
    ]
    notes: list[Note] = []
    notes += _chords(spans, comping, tempo, dynamic, draw)
    if "bass" in instruments:
        notes += _bass(spans, key, draw.choice(style.bass_line), tempo, dynamic)
    if "pad" in instruments:
        notes += _pad(spans, tempo, dynamic)
    if "melody" in instruments:
        notes += _melody(spans, key, beats, style.density, tempo, dynamic, draw)
    hits = _drums(artist, beats, total, dynamic, draw) if beats == 4 and draw.chance(style.drums) else []

    def swung(beat: float) -> float:
        offbeat = beat % 1.0
        late = style.swing * 0.5 * (1.0 - abs(offbeat - 0.5) * 2.0) if offbeat else 0.0
        return first_beat + (beat + late) * 60.0 / tempo

    human = 0.0 if style.electronic else 0.006
    timed = [
        replace(n, start=max(0.0, swung(n.start) + human * draw.uniform(-1.0, 1.0)), midi=_into_range(n.role, n.midi))
        for n in notes
    ]
    struck = [replace(h, start=max(0.0, swung(h.start) + 0.5 * human * draw.uniform(-1.0, 1.0))) for h in hits]
    return Piece(
        artist, key, tempo, beats, first_beat, seconds, instruments, dynamic,
        tuple(sorted((n for n in timed if n.start < seconds), key=lambda n: (n.start, n.role, n.midi))),
        tuple(sorted((h for h in struck if h.start < seconds), key=lambda h: (h.start, h.drum))),
    )  # fmt: skip


def _cast(artist: Artist, draw: Draw) -> dict[str, str]:
    """Choose who takes part: always the chords, usually the others."""
    share = {"chords": 1.0, "bass": 0.85, "melody": 0.85, "pad": 0.7}
    chosen = {role: draw.choice(getattr(artist, role)) for role in share}
    taking_part = {role: draw.chance(p) for role, p in share.items()}
    return {role: name for role, name in chosen.items() if name and taking_part[role]}


_RANGES = {"chords": (45, 84), "bass": (28, 52), "melody": (57, 91), "pad": (48, 79)}


def _into_range(role: str, midi: int) -> int:
    low, high = _RANGES[role]
    while midi < low:
        midi += 12
    while midi > high:
        midi -= 12
    return midi


def _beat_seconds(beats: float, tempo: float, articulation: float = 0.95) -> float:
    return beats * 60.0 / tempo * articulation


# Comping: (onset within the chord in beats, length in beats, which voices, accent); "all" or one voice.
_STRUM = ((0, 1.0, 1.0), (1, 0.5, 0.7), (1.5, 0.5, 0.55), (2.5, 0.5, 0.6), (3, 0.5, 0.75), (3.5, 0.5, 0.55))
_BLOCKS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "sustain": ((0, 4.0, 0.8),),
    "quarters": ((0, 0.8, 0.85), (1, 0.8, 0.65), (2, 0.8, 0.75), (3, 0.8, 0.65)),
    "offbeat": ((0.5, 0.35, 0.8), (1.5, 0.35, 0.8), (2.5, 0.35, 0.8), (3.5, 0.35, 0.8)),
    "syncopated": ((0, 0.4, 0.85), (0.75, 0.3, 0.7), (1.5, 0.4, 0.8), (2.75, 0.3, 0.7), (3.5, 0.3, 0.75)),
    "strum": _STRUM,
    "shell": ((0, 1.4, 0.75), (1.5, 0.4, 0.6), (3.5, 0.4, 0.65)),
    "chug": tuple((i * 0.5, 0.42, 0.9 if i % 4 == 0 else 0.65) for i in range(8)),
}
_BROKEN: dict[str, tuple[float, tuple[int, ...]]] = {  # (grid in beats, order of the voices)
    "arpeggio": (0.5, (0, 1, 2, 3, 2, 1)),
    "fast arpeggio": (0.25, (0, 1, 2, 3)),
    "alberti": (0.5, (0, 2, 1, 2)),
}


def _chords(spans: list[_Span], comping: str, tempo: float, dynamic: float, draw: Draw) -> Iterator[Note]:
    center = 60 + draw.integer(7) - 3
    voices: tuple[int, ...] = ()
    for span in spans:
        voices = voicing(span.chord, center, voices)
        if comping in _BROKEN:
            grid, order = _BROKEN[comping]
            ladder = (*voices, voices[0] + 12)
            for i in range(int(span.beats / grid)):
                pitch = ladder[order[i % len(order)] % len(ladder)]
                accent = 0.85 if i % 4 == 0 else 0.65
                yield Note("chords", span.start + i * grid, _beat_seconds(grid, tempo, 1.1), pitch, accent * dynamic)
        elif comping == "waltz":
            yield Note("chords", span.start, _beat_seconds(1, tempo), voices[0] - 12, 0.9 * dynamic)
            for beat in (1.0, 2.0):
                for pitch in voices:
                    yield Note("chords", span.start + beat, _beat_seconds(0.7, tempo), pitch, 0.65 * dynamic)
        else:
            for onset, length, accent in _BLOCKS[comping]:
                if onset >= span.beats:
                    break
                held = _beat_seconds(min(length, span.beats - onset), tempo)
                for i, pitch in enumerate(voices):
                    roll = i * 0.012 * tempo / 60.0 if comping == "strum" else 0.0
                    yield Note("chords", span.start + onset + roll, held, pitch, accent * dynamic)


# Bass: (onset in beats, length in beats, interval over the root in semitones or chord tone name, accent).
_BASS: dict[str, tuple[tuple[float, float, str, float], ...]] = {
    "pedal": ((0, 4.0, "root", 0.8),),
    "root-fifth": ((0, 1.6, "root", 0.9), (2, 1.6, "fifth", 0.75)),
    "eighths": tuple((i * 0.5, 0.46, "root", 0.9 if i % 2 == 0 else 0.7) for i in range(8)),
    "octaves": tuple((i * 0.5, 0.4, "root" if i % 2 == 0 else "octave", 0.85) for i in range(8)),
    "offbeat": tuple((i + 0.5, 0.4, "root", 0.9) for i in range(4)),
    "sixteenths": tuple((i * 0.25, 0.2, "root", 0.9 if i % 4 == 2 else 0.65) for i in range(16) if i % 4),
    "funk": ((0, 0.4, "root", 1.0), (0.75, 0.2, "root", 0.7), (1.5, 0.4, "octave", 0.8), (2.25, 0.2, "fifth", 0.7),
             (2.75, 0.4, "root", 0.85), (3.5, 0.4, "fifth", 0.75)),
}  # fmt: skip


def _bass(spans: list[_Span], key: Key, line: str, tempo: float, dynamic: float) -> Iterator[Note]:
    for i, span in enumerate(spans):
        root = 36 + (span.chord[0] - 36) % 12
        tones = {"root": root, "fifth": root + (span.chord[2] - span.chord[0]) % 12, "octave": root + 12}
        if line == "walking":
            following = spans[(i + 1) % len(spans)].chord[0]
            target = root + ((following - root + 6) % 12 - 6)  # the nearest root of the next chord
            third = root + (span.chord[1] - span.chord[0]) % 12
            scale = tuple((key.tonic + s) % 12 for s in SCALES[key.mode])
            approach = nearest(scale, target - 2 if target > root else target + 2)
            walk = (root, third, tones["fifth"], approach)
            for beat in range(int(span.beats)):
                pitch = walk[beat] if beat < int(span.beats) - 1 or beat == 0 else approach
                yield Note("bass", span.start + beat, _beat_seconds(0.9, tempo), pitch, 0.8 * dynamic)
            continue
        for onset, length, tone, accent in _BASS[line]:
            if onset < span.beats:
                held = _beat_seconds(min(length, span.beats - onset), tempo)
                yield Note("bass", span.start + onset, held, tones[tone], accent * dynamic)


def _pad(spans: list[_Span], tempo: float, dynamic: float) -> Iterator[Note]:
    voices: tuple[int, ...] = ()
    for span in spans:
        voices = voicing(span.chord[:3], 64, voices)
        for pitch in voices:
            yield Note("pad", span.start, _beat_seconds(span.beats, tempo, 1.02), pitch, 0.7 * dynamic)


def _rhythm(beats: float, density: float, draw: Draw) -> list[tuple[float, float]]:
    """A bar's rhythm: (onset, length) in beats, around `density` notes per beat."""
    lengths = (0.25, 0.5, 1.0, 1.5, 2.0)
    # Weights fall off with the distance from the mean length that the density asks for.
    weights = [1.0 / (0.15 + abs(length - 1.0 / density)) for length in lengths]
    out, at = [], 0.0
    while at < beats:
        length = min(draw.choice(lengths, weights), beats - at)
        if length == 0.25 and at % 0.5 == 0.0 and at + 0.5 <= beats:
            out += [(at, 0.25), (at + 0.25, 0.25)]  # sixteenths come in pairs
            at += 0.5
            continue
        if not draw.chance(0.12):
            out.append((at, length))
        at += length
    return out


def _melody(
    spans: list[_Span], key: Key, beats: int, density: float, tempo: float, dynamic: float, draw: Draw
) -> Iterator[Note]:
    """A line of steps and small leaps; chord tones on the beat, one motif that keeps coming back."""
    scale = tuple((key.tonic + s) % 12 for s in SCALES[key.mode])
    motif = _rhythm(beats, density, draw)
    contour = [draw.choice((-2, -1, -1, 0, 1, 1, 2, 3)) for _ in range(32)]
    center = 69 + draw.integer(8)
    pitch = nearest(spans[0].chord, center)
    end = spans[-1].start + spans[-1].beats
    bar = 0
    while bar * beats < end:
        rhythm = motif if bar % 2 == 0 or draw.chance(0.4) else _rhythm(beats, density, draw)
        for i, (onset, length) in enumerate(rhythm):
            beat = bar * beats + onset
            span = next((s for s in reversed(spans) if s.start <= beat + 1e-9), spans[0])
            step = contour[(i + (0 if rhythm is motif else bar)) % len(contour)]
            if abs(pitch - center) > 7:
                step = -1 if pitch > center else 1
            leading = tuple({*scale, *span.chord} - _clashes(scale, span.chord))
            pitch = nearest(leading, pitch + round(1.8 * step))
            if onset % 1.0 == 0.0 or length >= 1.0:
                pitch = nearest(span.chord, pitch)
            accent = 0.95 if onset == 0 else 0.8 if onset % 1.0 == 0 else 0.7
            yield Note("melody", beat, _beat_seconds(length, tempo, 0.9), pitch, accent * dynamic)
        bar += 1


def _clashes(scale: tuple[int, ...], chord: tuple[int, ...]) -> set[int]:
    """Scale tones that a raised tone of the chord replaces (the natural seventh against the leading note)."""
    raised = set(chord) - set(scale)
    return {(tone - 1) % 12 for tone in raised}


def _drums(artist: Artist, beats: int, total: float, dynamic: float, draw: Draw) -> list[Hit]:
    if not artist.grooves:
        return []
    groove = draw.choice(artist.grooves)
    hits = []
    for bar in range(int(total / beats) + 1):
        fill = bar % 4 == 3
        for drum, steps in groove:
            for i, step in enumerate(steps):
                if step == "." or (fill and i >= 12 and drum in ("hat", "ride", "open hat")):
                    continue
                level = (0.95 if step == "x" else 0.5) * draw.uniform(0.88, 1.0)
                hits.append(Hit(drum, bar * beats + i * 0.25, level * (0.6 + 0.4 * dynamic)))
        if fill:
            hits += [Hit("tom", bar * beats + 3 + i * 0.25, dynamic * (0.6 + 0.1 * i)) for i in range(4)]
    return hits
