"""Stands in for yt-dlp 2025.11.12 and the ffmpeg behind it: options, messages, exit codes and files of the real ones.

Run as a program: the first argument is the table of videos, the others are yt-dlp's. Without a JavaScript runtime, it
finds no audio, as the real one (yt-dlp#15012).
"""

from __future__ import annotations

import json
import os
import sys
import wave
import zlib
from pathlib import Path

import numpy as np

VERSION = "2025.11.12"
#: Option -> number of its arguments.
OPTIONS = {
    "--ignore-config": 0, "--no-playlist": 0, "--quiet": 0, "--no-progress": 0, "--no-warnings": 0,
    "--no-cache-dir": 0, "--extract-audio": 0, "--format": 1, "--audio-format": 1, "--postprocessor-args": 1,
    "--output": 1, "--js-runtimes": 1, "--cookies": 1, "--cookies-from-browser": 1, "--sleep-interval": 1,
}  # fmt: skip


def parse(arguments: list[str]) -> tuple[dict[str, str], str]:
    """Options and the address; exits with 2 as yt-dlp does."""
    found: dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0] != "--":
        name = rest.pop(0)
        if name == "--version":
            print(VERSION)
            sys.exit(0)
        if name not in OPTIONS:
            print(f"yt-dlp: error: no such option: {name}", file=sys.stderr)
            sys.exit(2)
        found[name] = rest.pop(0) if OPTIONS[name] else ""
    if len(rest) != 2:
        print("yt-dlp: error: You must provide at least one URL.", file=sys.stderr)
        sys.exit(2)
    return found, rest[1]


def fail(ytid: str, message: str) -> None:
    """Exit as for a video that cannot be had."""
    print(f"ERROR: [youtube] {ytid}: {message}", file=sys.stderr)
    sys.exit(1)


def track(ytid: str, first: int, last: int, rate: int) -> np.ndarray:
    """Samples `first` to `last` of a video's audio, (samples, 2) in -1..1: chords that follow from its id."""
    time = np.arange(first, last) / rate
    draw = np.random.default_rng(zlib.crc32(ytid.encode()))
    sides = np.zeros((len(time), 2))
    for pitch in draw.choice(36, 6, replace=False) + 40:
        beat = 0.5 + 0.5 * np.cos(2 * np.pi * draw.uniform(0.25, 2.0) * time)
        tone = np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time)
        sides += (beat * tone)[:, None] * draw.uniform(0.2, 1.0, 2)
    noise = np.random.default_rng([zlib.crc32(ytid.encode()), first]).standard_normal(sides.shape)
    return 0.1 * sides + 0.005 * noise


def main(table: str, arguments: list[str]) -> int:
    options, url = parse(arguments)
    ytid = url.rpartition("watch?v=")[2]
    videos = json.loads(Path(table).read_text())
    video = videos.get(ytid, {"error": f"Incomplete YouTube ID {ytid}. URL {url} looks truncated."})
    if "error" in video:
        fail(ytid, video["error"])
    if "--js-runtimes" not in options:
        fail(ytid, "Requested format is not available. Use --list-formats for a list of available formats")
    if options.get("--audio-format") != "wav" or "--extract-audio" not in options:
        sys.exit(2)
    # The cut that ffmpeg makes as it writes the WAV.
    who, _, cut = options["--postprocessor-args"].partition(":")
    words = cut.split()
    if who != "ExtractAudio+ffmpeg_o" or words[::2] != ["-ss", "-t"]:
        print(f"ERROR: Postprocessing: unknown arguments {cut!r}", file=sys.stderr)
        return 1
    start, length, rate = float(words[1]), float(words[3]), int(video["rate"])
    first, last = round(start * rate), min(round((start + length) * rate), round(video["seconds"] * rate))
    if last <= first:
        return 0
    path = options["--output"].replace("%(ext)s", "wav").replace("%%", "%")
    samples = np.round(32767 * track(ytid, first, last, rate).clip(-1, 1)).astype("<i2")
    with wave.open(f"{path}.temp", "wb") as file:
        file.setparams((2, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    os.replace(f"{path}.temp", path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
