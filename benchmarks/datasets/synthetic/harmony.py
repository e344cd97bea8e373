"""Keys, scales and chords, as pitch classes and voicings."""

from __future__ import annotations

from dataclasses import dataclass

PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
MODES = ("major", "minor")
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}

# Progressions as scale degrees (0 = tonic), one per harmonic step. Each starts on the tonic, and together
# they use the degrees that set a key apart from its relative and its dominant.
PROGRESSIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 0), (0, 3, 0, 4), (0, 1, 4, 0), (0, 2, 3, 4)),
    "minor": ((0, 3, 4, 0), (0, 5, 3, 4), (0, 6, 5, 4), (0, 3, 0, 4), (0, 5, 4, 0), (0, 4, 0, 3)),
}


@dataclass(frozen=True)
class Key:
    """A key.

    Attributes:
        tonic: Pitch class, 0 = C.
        mode: "major" or "minor".
    """

    tonic: int
    mode: str

    def __post_init__(self) -> None:
        if not 0 <= self.tonic < 12 or self.mode not in MODES:
            raise ValueError(f"no key has tonic {self.tonic!r} and mode {self.mode!r}")

    @property
    def name(self) -> str:
        """As in "C# minor": sharps only, the label set of the Beatport task."""
        return f"{PITCH_CLASSES[self.tonic]} {self.mode}"

    def pitch(self, degree: int, octave: int = 4) -> int:
        """MIDI pitch of a scale degree; degrees beyond 0 … 6 continue into other octaves."""
        step, index = divmod(degree, 7)
        return 12 * (octave + 1 + step) + self.tonic + SCALES[self.mode][index]

    def chord(self, degree: int, seventh: bool = False) -> tuple[int, ...]:
        """Pitch classes of the chord on a degree, root first.

        Triads of the scale, except that the fifth degree of a minor key is a major chord (its leading
        note): without it a minor key can hardly be told from its relative major.
        """
        tones = [self.pitch(degree + 2 * i) % 12 for i in range(4 if seventh else 3)]
        if self.mode == "minor" and degree % 7 == 4:
            tones[1] = (tones[1] + 1) % 12
        return tuple(tones)


ALL_KEYS = tuple(Key(tonic, mode) for mode in MODES for tonic in range(12))


def parse_key(name: str) -> Key:
    """Inverse of `Key.name`.

    Raises:
        ValueError: Not a key of `ALL_KEYS`.
    """
    for key in ALL_KEYS:
        if key.name == name:
            return key
    raise ValueError(f"unknown key {name!r} (as in 'C# minor'; sharps only)")


def voicing(chord: tuple[int, ...], center: int, previous: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Place a chord's tones near a MIDI pitch, or close to the previous chord's voices.

    Returns:
        Ascending MIDI pitches, one per tone.
    """
    targets = previous if len(previous) == len(chord) else (center,) * len(chord)
    best: tuple[float, tuple[int, ...]] | None = None
    for turn in range(len(chord)):
        tones = chord[turn:] + chord[:turn]
        low = center - 6 + (tones[0] - (center - 6)) % 12
        pitches = [low]
        for tone in tones[1:]:
            pitches.append(pitches[-1] + ((tone - pitches[-1]) % 12 or 12))
        for octave in (-12, 0):
            moved = tuple(p + octave for p in pitches)
            distance = sum(abs(a - b) for a, b in zip(moved, targets, strict=True))
            cost = distance + 0.2 * abs(sum(moved) / len(moved) - center)
            if best is None or cost < best[0]:
                best = (cost, moved)
    assert best is not None
    return best[1]


def nearest(pitch_classes: tuple[int, ...], pitch: int) -> int:
    """MIDI pitch with one of the pitch classes that is closest to `pitch` (the lower one on a tie)."""
    steps = sorted(range(-6, 7), key=lambda step: (abs(step), step))
    return next(pitch + step for step in steps if (pitch + step) % 12 in pitch_classes)
