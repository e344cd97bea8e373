"""Renders the notes of `open-notes` with fluidsynth from the FluidR3 SoundFont.

Notes are mono at 44.1 kHz, without reverb and chorus, held for 2 s and left to fade, with velocities 35, 75 and
120, and stored as Ogg Vorbis. One MIDI file per instrument holds all its notes in slots of 4 s, so that the
SoundFont is loaded 14 times, not 1,743 times.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from benchmarks.datasets.audio_files import audio_info
from benchmarks.datasets.base import ClipError, DataNotFoundError
from benchmarks.datasets.open_notes import INSTRUMENTS, SOUNDFONT, VELOCITIES, NoteRow, note_rows
from m2l.io.atomic import written_beside

SAMPLE_RATE = 44100
HOLD, SLOT = 2.0, 4.0  # seconds
TICKS = 480  # per quarter note, at 60 quarter notes a minute: ticks per second
GAIN = 0.8  # gives the levels of the copy that the manifest describes, whose gain is not published
_FLOOR = 1e-4  # -80 dBFS: a fading note ends here
_SOUNDFONT_FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/soundfonts", "/usr/local/share/soundfonts")


def find_tools(soundfont: str | None = None) -> tuple[str, Path]:
    """Return the fluidsynth program and the SoundFont.

    Args:
        soundfont: Path; by default `M2L_SOUNDFONT`, then the folders of Linux distributions.

    Raises:
        DataNotFoundError: One of them is missing; the message names what to install.
    """
    program = shutil.which("fluidsynth")
    named = soundfont or os.environ.get("M2L_SOUNDFONT")
    candidates = [Path(named)] if named else [Path(folder) / SOUNDFONT for folder in _SOUNDFONT_FOLDERS]
    font = next((path for path in candidates if path.is_file()), None)
    missing = []
    if program is None:
        missing.append("the program fluidsynth")
    if font is None:
        missing.append(f"the SoundFont {SOUNDFONT} (looked for {', '.join(map(str, candidates))})")
    if program is None or font is None:
        raise DataNotFoundError(
            f"to render the notes, {' and '.join(missing)} must be installed: on Debian and Ubuntu, the packages "
            "fluidsynth and fluid-soundfont-gm; elsewhere, set M2L_SOUNDFONT to the SoundFont's path"
        )
    return program, font


def midi_file(program: int, notes: Sequence[tuple[int, int]]) -> bytes:
    """A standard MIDI file (format 0) with one note per slot.

    Args:
        program: General MIDI program, counted from 0.
        notes: (pitch, velocity) of each slot.
    """

    def varint(value: int) -> bytes:
        out = [value & 0x7F]
        while value := value >> 7:
            out.append(0x80 | (value & 0x7F))
        return bytes(reversed(out))

    track = b"\x00\xff\x51\x03" + (1_000_000).to_bytes(3, "big")  # microseconds per quarter note
    track += b"\x00" + bytes([0xC0, program])
    hold, rest = int(HOLD * TICKS), int((SLOT - HOLD) * TICKS)
    gap = 0
    for pitch, velocity in notes:
        track += varint(gap) + bytes([0x90, pitch, velocity]) + varint(hold) + bytes([0x80, pitch, 0])
        gap = rest
    track += varint(rest) + b"\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS)  # format 0, one track
    return header + b"MTrk" + struct.pack(">I", len(track)) + track


def render_notes(
    dest: Path,
    soundfont: str | None = None,
    progress: Callable[[str], None] = lambda message: None,
    rows: Sequence[NoteRow] | None = None,
) -> tuple[int, list[str]]:
    """Render all missing notes.

    Args:
        dest: Root of the data; notes go to `dest/notes/INSTRUMENT/`.
        soundfont: See `find_tools`.
        progress: Called once per instrument with a line of text.
        rows: Notes to render; the whole manifest by default.

    Returns:
        The number of rendered notes, and complaints about silent ones.

    Raises:
        DataNotFoundError: fluidsynth or the SoundFont is missing.
        RuntimeError: fluidsynth failed.
    """
    wanted = note_rows() if rows is None else rows
    todo = [row for row in wanted if not _is_rendered(dest / "notes" / row.path)]
    if not todo:
        return 0, []
    program, font = find_tools(soundfont)
    complaints: list[str] = []
    done = 0
    for name, (_, midi_program) in INSTRUMENTS.items():
        chosen = [row for row in todo if row.instrument == name]
        if not chosen:
            continue
        progress(f"{name}: {len(chosen)} notes")
        audio = _synthesize(program, font, midi_file(midi_program, [(r.midi, VELOCITIES[r.dynamic]) for r in chosen]))
        for slot, row in enumerate(chosen):
            first = round(slot * SLOT * SAMPLE_RATE)
            note = trimmed(audio[first : first + round(SLOT * SAMPLE_RATE)])
            if note is None:
                complaints.append(f"{row.path}: silent")
                continue
            write_ogg(dest / "notes" / row.path, note)
            done += 1
    return done, complaints


def _is_rendered(path: Path) -> bool:
    try:
        rate, channels, seconds = audio_info(path)
    except ClipError:
        return False
    return rate == SAMPLE_RATE and channels == 1 and seconds >= 0.5 * HOLD


#: Rendering one instrument takes seconds.
_SECONDS = 600


def _synthesize(program: str, font: Path, midi: bytes) -> npt.NDArray[np.float64]:
    """Play a MIDI file; mono."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "notes.mid", Path(folder) / "notes.wav"
        source.write_bytes(midi)
        command = [program, "-n", "-i", "-q", "-R", "0", "-C", "0", "-g", str(GAIN), "-r", str(SAMPLE_RATE)]
        command += ["-F", str(target), str(font), str(source)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"fluidsynth took over {_SECONDS} s") from None
        if result.returncode != 0 or not target.is_file():
            raise RuntimeError(f"fluidsynth failed ({result.returncode}): {result.stderr.strip()[-500:]}")
        audio, rate = soundfile.read(target, always_2d=True)
    if rate != SAMPLE_RATE:
        raise RuntimeError(f"fluidsynth wrote {rate} Hz, asked for {SAMPLE_RATE}")
    mono: npt.NDArray[np.float64] = audio.mean(axis=1)
    return mono


def trimmed(slot: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Cut a slot where its note has faded away; None if it is silent."""
    heard = np.flatnonzero(np.abs(slot) > _FLOOR)
    if len(heard) == 0:
        return None
    out = slot[: heard[-1] + 1].copy()
    fade = min(len(out), 441)
    out[len(out) - fade :] *= np.linspace(1.0, 0.0, fade)
    return out


def write_ogg(path: Path, audio: npt.NDArray[np.float64]) -> None:
    """Write Ogg Vorbis beside `path` and rename; in blocks, as libsndfile needs it for long files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        written_beside(path) as part,
        soundfile.SoundFile(part, "w", SAMPLE_RATE, 1, format="OGG", subtype="VORBIS") as file,
    ):
        for first in range(0, len(audio), SAMPLE_RATE):
            file.write(audio[first : first + SAMPLE_RATE])
