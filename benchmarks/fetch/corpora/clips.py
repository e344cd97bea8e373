"""One clip out of one video, cut by yt-dlp and ffmpeg, and what their errors mean.

The whole audio track is downloaded and cut while it is decoded, which is exact to the sample; yt-dlp's own
`--download-sections` cuts packets, so that a clip would begin up to some seconds too early. Nothing is
resampled: the WAV has the rate of the track, 44.1 or 48 kHz.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.datasets.audio_files import audio_info
from benchmarks.datasets.base import ClipError
from benchmarks.datasets.musiccaps import AUDIO, ClipStatus, Segment, has_length
from benchmarks.datasets.records import HIDDEN
from benchmarks.fetch.corpora.adopt import link_or_copy
from benchmarks.fetch.transfer import Hopeless
from m2l.io.digest import file_sha256

SAMPLE_RATES = (44100, 48000)
_TIMEOUT = 600.0

#: Pattern of yt-dlp's errors -> status; the first match counts. "failed" is tried again.
_REASONS: tuple[tuple[str, str], ...] = (
    (r"private video|members-only|join this channel|this video is private|is available to this channel", "private"),
    (r"in your country|country of residence|geo.?restrict", "blocked"),
    (r"confirm your age|age.restricted|inappropriate for some users", "age-restricted"),
    # A guest over the rate limit also reads that the video is unavailable; only "try again later" tells them apart.
    (r"not a bot|captcha|http error 429|too many requests|rate.?limit|try again later", "busy"),
    (r"http error 5\d\d|http error 403|timed out|temporary failure|connection (reset|refused|aborted)|"
     r"name or service not known|unable to connect|network is unreachable|incompleteread|eof occurred|"
     r"unable to download (webpage|api page|video data)|"
     # What a yt-dlp that is out of date, or has no JavaScript runtime, reports for every video.
     r"requested format is not available|only images are available|drm protected|javascript runtime|"
     r"(signature|nsig|challenge).*(failed|extraction|solving)|unable to extract|please report this issue|"
     r"confirm you are on the latest version", "failed"),
    (r"video unavailable|has been removed|no longer available|account .*terminated|has been terminated|"
     r"isn.t available|is not available|does not exist|removed by the (uploader|user)|copyright|"
     r"live event|premieres in|incomplete youtube id", "gone"),
)  # fmt: skip
_MISSING_TOOL = re.compile(r"ffmpeg not found|ffprobe (and|or) ffmpeg not found|ffmpeg is not installed", re.I)


class ToolError(Hopeless):
    """yt-dlp or ffmpeg are missing or cannot work (a full disk): no clip would succeed."""


class BusyError(RuntimeError):
    """The site refuses for now: too many requests, or a check for robots."""


@dataclass(frozen=True)
class Finished:
    """A command's exit code and what it wrote to stderr."""

    code: int
    errors: str


#: Runs a command with a time limit in seconds.
Runner = Callable[[Sequence[str], float], Finished]


def run(command: Sequence[str], timeout: float) -> Finished:
    """Run a command; one that takes longer than `timeout` counts as failed."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return Finished(-1, f"ERROR: timed out after {timeout:.0f} s")
    return Finished(done.returncode, done.stderr.decode("utf-8", "replace"))


#: Programs that solve YouTube's challenges for yt-dlp (since 2025.11.12), and its names of them, best first.
RUNTIMES = {"deno": "deno", "node": "node", "bun": "bun", "qjs": "quickjs"}


def yt_dlp(extra: Sequence[str] = ()) -> list[str]:
    """The command: `yt-dlp` on the path, else the installed package, with the JavaScript runtime that is here.

    Args:
        extra: The user's options; they may name a runtime themselves.

    Raises:
        ToolError: yt-dlp, ffmpeg or a JavaScript runtime is missing. Without the last, every video fails like one
            that does not exist.
    """
    if shutil.which("ffmpeg") is None:
        raise ToolError("no ffmpeg on the path; it cuts the clips (Debian: apt install ffmpeg)")
    if program := shutil.which("yt-dlp"):
        command = [program]
    elif importlib.util.find_spec("yt_dlp") is not None:
        command = [sys.executable, "-m", "yt_dlp"]
    else:
        raise ToolError("no yt-dlp: pip install 'm2l[musiccaps]'")
    if any(option.startswith("--js-runtimes") for option in extra):
        return command
    runtime = next((name for program, name in RUNTIMES.items() if shutil.which(program)), None)
    if runtime is None:
        raise ToolError(
            f"no JavaScript runtime on the path ({', '.join(RUNTIMES)}), without which yt-dlp gets no audio of YouTube "
            "(Debian: apt install nodejs; or --yt-dlp='--js-runtimes NAME:PATH')"
        )
    return [*command, "--js-runtimes", runtime]


def command_for(program: Sequence[str], segment: Segment, folder: Path, extra: Sequence[str] = ()) -> list[str]:
    """The command that leaves `YTID.wav` in `folder`."""
    cut = f"-ss {segment.start:g} -t {segment.end - segment.start:g}"
    return [
        *program,
        "--ignore-config", "--no-playlist", "--quiet", "--no-progress", "--no-warnings", "--no-cache-dir",
        "--format", "bestaudio/best",
        "--extract-audio", "--audio-format", "wav",
        "--postprocessor-args", f"ExtractAudio+ffmpeg_o:{cut}",
        "--output", str(folder / f"{segment.ytid}.%(ext)s").replace("%", "%%").replace("%%(ext)s", "%(ext)s"),
        *extra,
        "--", f"https://www.youtube.com/watch?v={segment.ytid}",
    ]  # fmt: skip


def status_of_error(errors: str) -> tuple[str, str]:
    """(status or "busy", the decisive line) for what yt-dlp wrote to stderr."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    complaints = [line for line in lines if line.startswith("ERROR:")] or lines
    detail = complaints[0] if complaints else "no message"
    detail = re.sub(r"^ERROR:\s*(\[[^\]]*\]\s*)?([A-Za-z0-9_-]{11}:\s*)?", "", detail)[:200]
    text = "\n".join(complaints).replace("’", "'").lower()
    status = next((status for pattern, status in _REASONS if re.search(pattern, text)), "failed")
    return status, detail


def inspect(path: Path, ytid: str, relative: str) -> ClipStatus:
    """Status of an existing file: "ok", "wrong length", or "failed" if it is no usable audio."""
    try:
        rate, channels, seconds = audio_info(path)
    except ClipError as error:
        return ClipStatus(ytid, "failed", detail=str(error).removeprefix(f"{path}: "))
    if not has_length(seconds):
        detail = f"{seconds:.3f} s instead of 10 s"
        return ClipStatus(ytid, "wrong length", "", rate, channels, round(seconds, 6), detail=detail)
    if rate not in SAMPLE_RATES:
        detail = f"{rate} Hz: not the native rate of the track"
        return ClipStatus(ytid, "failed", "", rate, channels, round(seconds, 6), detail=detail)
    size, sha256 = path.stat().st_size, file_sha256(path)
    return ClipStatus(ytid, "ok", relative, rate, channels, round(seconds, 6), size, sha256)


def get_clip(
    segment: Segment,
    folder: Path,
    program: Sequence[str],
    *,
    runner: Runner = run,
    extra: Sequence[str] = (),
    timeout: float = _TIMEOUT,
) -> ClipStatus:
    """Download and cut one clip into `folder/audio/YTID.wav`.

    Args:
        segment: What to cut.
        folder: Of the data set.
        program: The beginning of the command, from `yt_dlp()`.
        runner: Runs it.
        extra: Further options, for instance for cookies.
        timeout: For one video, in seconds.

    Returns:
        What became of it. The file exists only if the status is "ok".

    Raises:
        BusyError: The site asks to wait.
        ToolError: The tools do not work.
    """
    # Run yt-dlp in a folder of its own.
    work = folder / HIDDEN
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix="clip-") as temporary:
        made = Path(temporary) / f"{segment.ytid}.wav"
        try:
            done = runner(command_for(program, segment, Path(temporary), extra), timeout)
        except OSError as error:
            raise ToolError(f"{program[0]}: {error.strerror}") from error
        # Tell errors of the tools from those of the video.
        if "no space left on device" in done.errors.lower():
            raise ToolError(f"no space left in {folder}")
        if _MISSING_TOOL.search(done.errors):
            raise ToolError(f"yt-dlp finds no ffmpeg: {status_of_error(done.errors)[1]}")
        if done.code != 0 or not made.is_file():
            status, detail = status_of_error(done.errors)
            if status == "busy":
                raise BusyError(detail)
            if done.code == 0:  # the clip starts after the end of its video
                status, detail = "wrong length", "nothing is left at this position of the video"
            return ClipStatus(segment.ytid, status, detail=detail)
        # Give the clip its name, if it is a good one.
        relative = f"{AUDIO}/{segment.ytid}.wav"
        found = inspect(made, segment.ytid, relative)
        if found.status == "ok":
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(made, target)
        return found


def adopt_clip(path: Path, segment: Segment, folder: Path) -> ClipStatus:
    """Take a clip from an existing copy under its own name, if it is 10 s long."""
    relative = f"{AUDIO}/{segment.ytid}{path.suffix.lower()}"
    found = inspect(path, segment.ytid, relative)
    if found.status == "ok":
        link_or_copy(path, folder / relative)
    return found
