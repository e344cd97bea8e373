"""A list of MusicCaps, a yt-dlp that is not there, and what it was asked."""

from __future__ import annotations

import csv
import json
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.datasets.musiccaps import LIST
from benchmarks.fetch.corpora.musiccaps import Tools, fetch_musiccaps
from benchmarks.fetch.options import Options

#: id -> (start of the clip, length of its video, rate), or what yt-dlp says of it.
VIDEOS: dict[str, tuple[int, float, int] | str] = {
    "-0Gj8-vB1q4": (30, 200.0, 48000),
    "0fqtA_ZBn_8": (30, 41.5, 44100),
    "_ACyiKGpD8Y": (0, 10.0, 48000),
    "AbCdEfGhIjK": (30, 35.0, 48000),
    "AbCdEfGhIjk": (290, 120.0, 44100),
    "private0001": "Private video. Sign in if you've been granted access to this video. Use --cookies",
    "removed0001": "Video unavailable. This video has been removed by the uploader",
    "closed00001": "This video is no longer available because the YouTube account associated with this video "
    "has been terminated.",
    "germany0001": "The uploader has not made this video available in your country",
    "adults00001": "Sign in to confirm your age. This video may be inappropriate for some users.",
    "flaky000001": "FLAKY",
}
OK = {"-0Gj8-vB1q4", "0fqtA_ZBn_8", "_ACyiKGpD8Y", "flaky000001"}
EXPECTED = {
    "AbCdEfGhIjK": "wrong length", "AbCdEfGhIjk": "wrong length", "private0001": "private",
    "removed0001": "gone", "closed00001": "gone", "germany0001": "blocked", "adults00001": "age-restricted",
}  # fmt: skip

FAKE = '''#!{python} -S
"""Stands in for yt-dlp: takes the same options, says the same things, leaves the same files."""
import array, json, os, sys, wave

videos = json.load(open({videos!r}))
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(arguments) + "\\n")
known = {{"--ignore-config": 0, "--no-playlist": 0, "--quiet": 0, "--no-progress": 0, "--no-warnings": 0,
         "--no-cache-dir": 0, "--format": 1, "--extract-audio": 0, "--audio-format": 1,
         "--postprocessor-args": 1, "--output": 1, "--cookies": 1, "--js-runtimes": 1}}
options, at = {{}}, 0
while at < len(arguments) and arguments[at] != "--":
    if arguments[at] not in known:
        sys.exit(f"yt-dlp: error: no such option: {{arguments[at]}}")
    options[arguments[at]] = arguments[at + 1] if known[arguments[at]] else True
    at += 1 + known[arguments[at]]
(url,) = arguments[at + 1:]
ytid = url.split("watch?v=")[1]
video = videos.get(ytid, "Incomplete YouTube ID " + ytid)
if video == "FLAKY":
    marker = {log!r} + "." + ytid
    if not os.path.exists(marker):
        open(marker, "w").close()
        print(f"ERROR: [youtube] {{ytid}}: Unable to download webpage: <urlopen error [Errno 104] "
              "Connection reset by peer>", file=sys.stderr)
        sys.exit(1)
    video = [5, 60.0, 48000]
if isinstance(video, str):
    print(f"ERROR: [youtube] {{ytid}}: {{video}}", file=sys.stderr)
    sys.exit(1)
start, seconds, rate = video
who, _, cut = options["--postprocessor-args"].partition(":")
assert who == "ExtractAudio+ffmpeg_o"
words = cut.split()
first, length = float(words[words.index("-ss") + 1]), float(words[words.index("-t") + 1])
from_, to = round(first * rate), min(round((first + length) * rate), round(seconds * rate))
path = options["--output"].replace("%(ext)s", "wav").replace("%%", "%")
if to > from_:
    with wave.open(path, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        # every sample says when in the video it is
        file.writeframes(array.array("h", [round(i / rate * 32.768) for i in range(from_, to)]).tobytes())
'''


def write_list(path: Path, ids: Sequence[str] = tuple(VIDEOS)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ["ytid", "start_s", "end_s", "audioset_positive_labels", "aspect_list", "caption"]
    columns += ["author_id", "is_balanced_subset", "is_audioset_eval"]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for number, ytid in enumerate(ids):
            video = VIDEOS.get(ytid, "")
            start = video[0] if not isinstance(video, str) else 5
            row = [ytid, start, start + 10, "/m/04rlf", "['sad', 'piano']", f"Caption, {number}", 4]
            writer.writerow([*row, False, number % 2 == 0])


class Box:
    """A folder with the list in it, a fake yt-dlp, and what it was asked."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.log = root / "data", root / "data" / "musiccaps", root / "log"
        write_list(self.folder / LIST)
        videos = root / "videos.json"
        videos.write_text(json.dumps(VIDEOS))
        self.program = root / "bin" / "yt-dlp"
        self.program.parent.mkdir()
        self.program.write_text(FAKE.format(python=sys.executable, videos=str(videos), log=str(self.log)))
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)
        ffmpeg = root / "bin" / "ffmpeg"
        ffmpeg.write_text("#!/bin/sh\n")
        ffmpeg.chmod(0o755)

    def asked(self) -> list[list[str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def get(self, how: Tools | None = None, **options: object) -> dict[str, object]:
        how = how or Tools(program=[str(self.program)], pause=lambda seconds: None, complete=False)
        return fetch_musiccaps(Options(data=self.root, jobs=1, **options), how)  # type: ignore[arg-type]
