"""Notes of the 14 TinySOL instruments, rendered from a SoundFont of recorded samples.

They are rendered, not recorded: a SoundFont re-pitches a few samples per instrument, and its dynamics are
one sample scaled and filtered. Telling the instruments apart is far too easy here. Good for pipelines and
for pitch-class probes; `labels["rendered"]` is true on every note, and a number measured on them is no
TinySOL result.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.datasets.base import FOLD_NAMES, SPLIT_OF_FOLD, Clip, select_fold
from benchmarks.datasets.locations import content_digest, find_file, find_roots, manifest
from benchmarks.datasets.open_data import file_clip
from benchmarks.datasets.synthetic.harmony import PITCH_CLASSES

SOUNDFONT = "FluidR3_GM.sf2"
SOURCE = f"rendered by fluidsynth (no reverb, no chorus) from {SOUNDFONT} 3.1"
LICENSE = "MIT"
VELOCITIES = {"pp": 35, "mf": 75, "ff": 120}

# Identifier -> (TinySOL's name, General MIDI program counted from 0).
INSTRUMENTS: dict[str, tuple[str, int]] = {
    "accordion": ("Accordion", 21),
    "alto-saxophone": ("Alto Saxophone", 65),
    "bass-tuba": ("Bass Tuba", 58),
    "bassoon": ("Bassoon", 70),
    "cello": ("Cello", 42),
    "clarinet": ("Clarinet in Bb", 71),
    "contrabass": ("Contrabass", 43),
    "flute": ("Flute", 73),
    "french-horn": ("French Horn", 60),
    "oboe": ("Oboe", 68),
    "trombone": ("Trombone", 57),
    "trumpet": ("Trumpet in C", 56),
    "viola": ("Viola", 41),
    "violin": ("Violin", 40),
}


@dataclass(frozen=True)
class NoteRow:
    """One note of the manifest; `sha256_prefix` is that of the copy the manifest was made from."""

    instrument: str
    midi: int
    dynamic: str
    fold: int
    seconds: float
    cents_off: float
    pitch_check: str
    sha256_prefix: str

    @property
    def pitch(self) -> str:
        """As in "C#4"."""
        return f"{PITCH_CLASSES[self.midi % 12]}{self.midi // 12 - 1}"

    @property
    def path(self) -> str:
        """Path below `notes/`."""
        name = f"{self.instrument}_{self.pitch.replace('#', 's')}_{self.midi:03d}_{self.dynamic}.ogg"
        return f"{self.instrument}/{name}"


def note_rows() -> list[NoteRow]:
    """The manifest's notes, in its order."""
    return [
        NoteRow(
            row["instrument"],
            int(row["midi"]),
            row["dynamic"],
            int(row["fold"]),
            float(row["seconds"]),
            float(row["cents_off"]),
            row["pitch_check"],
            row["sha256_prefix"],
        )
        for row in manifest("open_notes.csv")
    ]


class OpenNotes:
    """1,743 rendered notes, three dynamics, five folds.

    Notes rendered on this machine differ in their bytes from the copy the manifest was made from, as
    versions of fluidsynth and of the Vorbis encoder differ. `labels["manifest_copy"]` is true where a
    note is that copy; the digest is always that of the file that is read.

    Args:
        exact: Whether a file that is not the manifest's copy is an error when it is loaded.
        root: Folder to look in; by default `M2L_DATA`, then the cache.
    """

    name = "open-notes"
    version = "1"
    license = LICENSE
    citation = "Notes rendered from FluidR3_GM (Frank Wen and contributors, MIT)"
    notice = "Rendered from a SoundFont, not recorded: no number measured on these notes is a TinySOL result."
    splits = ("train", "valid", "test", *FOLD_NAMES)
    group_name = "note"
    instruments = tuple(name for name, _ in INSTRUMENTS.values())

    def __init__(self, exact: bool = False, root: str | os.PathLike[str] | None = None) -> None:
        self.exact, self.root = exact, root

    def clips(self, split: str | None = None) -> list[Clip]:
        """List the notes of a split, a fold (`fold0` … `fold4`), or all of them.

        Raises:
            DataNotFoundError: The notes are not on this machine.
        """
        roots = find_roots("notes", self.name, self.root)
        clips = [self._clip(roots, row) for row in note_rows()]
        return select_fold(clips, split, self.name)

    def _clip(self, roots: list[Path], row: NoteRow) -> Clip:
        path = find_file(roots, f"notes/{row.path}", row.sha256_prefix)
        content = content_digest(path)
        note = f"{INSTRUMENTS[row.instrument][0]} {row.midi}"
        return file_clip(
            path,
            dataset=self.name,
            id=Path(row.path).stem,
            expected=row.sha256_prefix if self.exact else None,
            labels={
                "instrument": INSTRUMENTS[row.instrument][0],
                "midi": row.midi,
                "pitch": row.pitch,
                "pitch_class": PITCH_CLASSES[row.midi % 12],
                "octave": row.midi // 12 - 1,
                "dynamic": row.dynamic,
                "velocity": VELOCITIES[row.dynamic],
                "fold": row.fold,
                "group": note,
                "rendered": True,
                "manifest_copy": bool(content and content.startswith(row.sha256_prefix)),
                "cents_off": row.cents_off,
                "pitch_check": row.pitch_check,
            },
            row={"source": SOURCE, "license": LICENSE, "seconds": str(row.seconds)},
            split=SPLIT_OF_FOLD[row.fold],
            group=note,
        )
