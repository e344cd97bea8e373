"""Notes of the open suite: rendered by fluidsynth in slots, and cut where they fade."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.cli.main import main
from benchmarks.datasets.base import DataNotFoundError
from benchmarks.datasets.open_notes import NoteRow
from benchmarks.fetch.render_notes import GAIN, SAMPLE_RATE, midi_file, render_notes


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("M2L_OFFLINE", "HF_HUB_OFFLINE", "M2L_DATA", "M2L_FETCH_MIRROR", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))


FAKE_SYNTH = """#!/bin/sh
# Stands in for fluidsynth: keeps its arguments and the MIDI file, and writes what the test prepared.
printf '%s\\n' "$@" > "{folder}/arguments"
for last; do :; done
cp "$last" "{folder}/midi"
while [ "$1" != "-F" ]; do shift; done
cp "{folder}/prepared.wav" "$2"
"""


@pytest.fixture
def fake_synth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "synth"
    folder.mkdir()
    program = folder / "fluidsynth"
    program.write_text(FAKE_SYNTH.format(folder=folder))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (folder / "FluidR3_GM.sf2").write_bytes(b"RIFF")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("M2L_SOUNDFONT", str(folder / "FluidR3_GM.sf2"))
    return folder


def test_notes_are_rendered_in_slots_and_cut_where_they_fade(fake_synth: Path, tmp_path: Path) -> None:
    t = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    slot = 0.3 * np.sin(2 * np.pi * 220 * t) * (t < 2.1)
    stereo = np.stack([np.concatenate([slot, 0 * slot, slot])] * 2, axis=1)
    soundfile.write(fake_synth / "prepared.wav", stereo, SAMPLE_RATE, subtype="PCM_16")
    rows = [NoteRow("violin", 57 + i, d, 0, 2.1, 0.0, "ok", "") for i, d in enumerate(("pp", "mf", "ff"))]
    done, complaints = render_notes(tmp_path, rows=rows)
    assert done == 2
    assert complaints == ["violin/violin_As3_058_mf.ogg: silent"]
    audio, rate = soundfile.read(tmp_path / "notes" / "violin" / "violin_A3_057_pp.ogg")
    assert rate == SAMPLE_RATE
    assert audio.ndim == 1
    assert len(audio) == pytest.approx(2.1 * SAMPLE_RATE, abs=3)
    spectrum = np.abs(np.fft.rfft(audio[:SAMPLE_RATE]))
    assert np.argmax(spectrum) == 220
    arguments = (fake_synth / "arguments").read_text().split("\n")
    assert [arguments[arguments.index(flag) + 1] for flag in ("-R", "-C", "-r", "-g")] == ["0", "0", "44100", str(GAIN)]
    assert (fake_synth / "midi").read_bytes() == midi_file(40, [(57, 35), (58, 75), (59, 120)])
    done, _ = render_notes(tmp_path, rows=rows)  # only the silent one is tried again
    assert done == 1


def test_the_midi_file_plays_each_note_for_two_seconds_in_its_slot() -> None:
    data = midi_file(73, [(60, 35), (61, 120)])
    assert data[:4] == b"MThd"
    assert data[14:18] == b"MTrk"
    assert int.from_bytes(data[18:22], "big") == len(data) - 22
    ticks = int.from_bytes(data[12:14], "big")
    events, at, i = [], 0, 22
    while i < len(data):
        delta = 0
        while True:
            delta = delta << 7 | data[i] & 0x7F
            i += 1
            if not data[i - 1] & 0x80:
                break
        at += delta
        kind = data[i] & 0xF0
        size = 3 + data[i + 2] if data[i] == 0xFF else 2 if kind == 0xC0 else 3
        events.append((at / ticks, data[i : i + size]))
        i += size
    assert events[0] == (0, b"\xff\x51\x03\x0f\x42\x40")  # 1,000,000 µs per quarter note
    assert events[1] == (0, bytes([0xC0, 73]))
    assert events[2:6] == [
        (0, bytes([0x90, 60, 35])),
        (2, bytes([0x80, 60, 0])),
        (4, bytes([0x90, 61, 120])),
        (6, bytes([0x80, 61, 0])),
    ]
    assert events[6] == (8, b"\xff\x2f\x00")


def test_without_fluidsynth_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("M2L_SOUNDFONT", str(tmp_path / "none.sf2"))
    with pytest.raises(DataNotFoundError, match=r"fluidsynth.*fluid-soundfont-gm"):
        render_notes(tmp_path)
    assert main(["fetch", "open-notes"]) == 3
    assert "fluid-soundfont-gm" in capsys.readouterr().err
