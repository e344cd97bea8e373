"""Single synthetic notes in the shape of TinySOL: 14 instruments, real ranges, three dynamics, 5 folds.

The instruments are synthesized after the ones whose names they bear. A number measured on them says
whether a representation tells pitches and timbres apart; it is not a TinySOL result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.datasets.base import FOLD_NAMES, N_FOLDS, SPLIT_OF_FOLD, Clip, digest_of, select_fold
from benchmarks.datasets.synthetic import VERSION
from benchmarks.datasets.synthetic.clips import CITATION, LICENSE, NOTICE, SAMPLE_RATE
from benchmarks.datasets.synthetic.draw import Draw
from benchmarks.datasets.synthetic.harmony import PITCH_CLASSES
from benchmarks.datasets.synthetic.instruments import ORCHESTRA
from benchmarks.datasets.synthetic.mixing import Room, add_at, reverberate
from benchmarks.datasets.synthetic.timbres import Harmonic

# MIDI range of each instrument in TinySOL 6.0, and its family.
RANGES: dict[str, tuple[int, int, str]] = {
    "Accordion": (28, 109, "Keyboards"), "Alto Saxophone": (49, 81, "Winds"), "Bass Tuba": (30, 65, "Brass"),
    "Bassoon": (34, 75, "Winds"), "Cello": (36, 84, "Strings"), "Clarinet in Bb": (50, 91, "Winds"),
    "Contrabass": (28, 72, "Strings"), "Flute": (59, 98, "Winds"), "French Horn": (31, 77, "Brass"),
    "Oboe": (58, 93, "Winds"), "Trombone": (34, 72, "Brass"), "Trumpet in C": (54, 86, "Brass"),
    "Viola": (48, 96, "Strings"), "Violin": (55, 100, "Strings"),
}  # fmt: skip
DYNAMICS = {"pp": 0.3, "mf": 0.6, "ff": 0.95}


@dataclass(frozen=True)
class NoteLoader:
    """Renders one note: mono, held for two thirds of the clip, in a small room.

    Attributes:
        seed: Varies tuning, vibrato, noise, player and room.
        instrument: A key of `RANGES`.
        midi: Pitch.
        dynamic: A key of `DYNAMICS`.
        seconds: Length of the clip.
        sample_rate: In Hz.
    """

    seed: int
    instrument: str
    midi: int
    dynamic: str
    seconds: float
    sample_rate: int = SAMPLE_RATE

    def __call__(self) -> tuple[npt.NDArray[np.float32], int]:
        """Return mono samples (1, samples) and the sample rate."""
        draw = Draw("note", self.seed, self.instrument, self.midi, self.dynamic)
        timbre = ORCHESTRA[self.instrument]
        if isinstance(timbre, Harmonic):
            timbre = timbre.varied(draw, 0.25)
        out = np.zeros(round(self.seconds * self.sample_rate))
        held = 0.67 * self.seconds
        velocity = DYNAMICS[self.dynamic] * draw.uniform(0.9, 1.05)
        sound = timbre.note(self.midi, held, velocity, draw, self.sample_rate)
        add_at(out, 0.7 * sound, draw.uniform(0.01, 0.06), self.sample_rate)
        room = Room(draw.uniform(0.15, 0.35), draw.uniform(0.004, 0.012), 0.2)
        stereo = np.stack([out, out])
        wet = reverberate(stereo, room, draw, self.sample_rate)[0]
        mono = out + room.level * wet + 10 ** (-86 / 20) * draw.noise(len(out))
        peak = float(np.abs(mono).max())
        mono *= min(1.0, 0.97 / peak)
        return (np.round(mono[None] * 32767.0) / 32768.0).astype(np.float32), self.sample_rate


class SyntheticNotes:
    """Single notes; `labels` has instrument, family, midi, pitch, pitch_class, octave, dynamic and fold.

    Args:
        dynamics_per_pitch: Of the three dynamics, how many each pitch of each instrument is played in: 1
            (619 notes, dynamics take turns) to 3 (1,857 notes).
        seconds: Length of each clip.
        seed: Varies all notes.
        sample_rate: In Hz.

    The folds deal out the pitches of each instrument evenly. All dynamics of a pitch share a fold
    (`labels["group"]`): a test note is never in the training set at another dynamic.
    """

    name = "synthetic-notes"
    version = f"1.{VERSION}"
    license = LICENSE
    citation = CITATION
    notice = NOTICE + " The instruments are modeled after TinySOL's; this is not TinySOL."
    splits = ("train", "valid", "test", *FOLD_NAMES)
    group_name = "note"
    instruments = tuple(sorted(RANGES))

    def __init__(
        self, dynamics_per_pitch: int = 1, seconds: float = 1.5, seed: int = 0, sample_rate: int = SAMPLE_RATE
    ) -> None:
        if dynamics_per_pitch not in (1, 2, 3):
            raise ValueError(f"dynamics_per_pitch is {dynamics_per_pitch!r}, expected 1, 2 or 3")
        if seconds < 0.2 or seed < 0 or sample_rate < 8000:
            raise ValueError(
                f"seconds {seconds!r}, seed {seed!r}, sample_rate {sample_rate!r}: "
                "seconds >= 0.2, seed >= 0 and sample_rate >= 8000 are needed"
            )
        self.dynamics_per_pitch, self.seconds = dynamics_per_pitch, float(seconds)
        self.seed, self.sample_rate = seed, sample_rate

    def clips(self, split: str | None = None) -> list[Clip]:
        """List the notes of a split, a fold (`fold0` … `fold4`), or all of them."""
        notes = []
        for number, (instrument, (low, high, _)) in enumerate(RANGES.items()):
            pitches = Draw("folds", self.seed, instrument).shuffled(range(low, high + 1))
            # Each instrument starts dealing at another fold, which evens out the folds' sizes.
            fold_of = {pitch: (place + number) % N_FOLDS for place, pitch in enumerate(pitches)}
            for midi in range(low, high + 1):
                for turn in range(self.dynamics_per_pitch):
                    dynamic = list(DYNAMICS)[(midi + turn) % 3]
                    notes.append(self._clip(instrument, midi, dynamic, fold_of[midi]))
        return select_fold(notes, split, self.name)

    def _clip(self, instrument: str, midi: int, dynamic: str, fold: int) -> Clip:
        name = f"{PITCH_CLASSES[midi % 12]}{midi // 12 - 1}"
        note = f"{instrument} {midi}"
        return Clip(
            id=f"{instrument.lower().replace(' ', '-')}-{name}-{midi:03d}-{dynamic}",
            dataset=self.name,
            digest=digest_of(
                "synthetic note", VERSION, self.seed, instrument, midi, dynamic, self.seconds, self.sample_rate
            ),
            labels={
                "instrument": instrument, "family": RANGES[instrument][2], "midi": midi, "pitch": name,
                "pitch_class": PITCH_CLASSES[midi % 12], "octave": midi // 12 - 1, "dynamic": dynamic,
                "fold": fold, "group": note, "synthetic": True, "seed": self.seed,
            },
            source=f"generated: seed {self.seed}",
            loader=NoteLoader(self.seed, instrument, midi, dynamic, self.seconds, self.sample_rate),
            split=SPLIT_OF_FOLD[fold],
            seconds=self.seconds,
            license=LICENSE,
            group=note,
        )  # fmt: skip
