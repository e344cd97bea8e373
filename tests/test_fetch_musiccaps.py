"""MusicCaps: clips out of videos, and a manifest that says what became of each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import soundfile
from http_helpers import serving
from musiccaps_helpers import EXPECTED, OK, VIDEOS, Box, write_list
from paper_data import sha256

from benchmarks.cli.main import main
from benchmarks.datasets.musiccaps import LIST, MANIFEST, manifest_digest, read_list, read_manifest
from benchmarks.fetch.corpora import clips, musiccaps
from benchmarks.fetch.corpora.clips import Finished, command_for, run, status_of_error
from benchmarks.fetch.corpora.musiccaps import Tools, verify_musiccaps
from benchmarks.fetch.options import Options

pytest_plugins = ["fetch_fixtures"]


# ---- the whole way, with a process per clip ----------------------------------------------------------


def test_clips_are_cut_to_the_sample_and_every_loss_has_its_reason(box: Box) -> None:
    result = box.get()
    statuses = read_manifest(box.folder)
    assert {ytid for ytid, s in statuses.items() if s.status == "ok"} == OK
    assert {ytid: s.status for ytid, s in statuses.items() if s.status != "ok"} == EXPECTED
    for ytid, start, rate in (("-0Gj8-vB1q4", 30, 48000), ("0fqtA_ZBn_8", 30, 44100), ("_ACyiKGpD8Y", 0, 48000)):
        audio, found = soundfile.read(box.folder / "audio" / f"{ytid}.wav")
        assert (found, audio.shape) == (rate, (10 * rate,))
        assert audio[0] * 1000 == pytest.approx(start, abs=0.05)
        assert audio[-1] * 1000 == pytest.approx(start + 10, abs=0.05)
    assert statuses["AbCdEfGhIjK"].detail == "5.000 s instead of 10 s"
    assert "nothing is left" in statuses["AbCdEfGhIjk"].detail
    assert "account associated" in statuses["closed00001"].detail
    assert sorted(p.stem for p in (box.folder / "audio").iterdir()) == sorted(OK)
    assert not list((box.folder / ".m2l").iterdir())
    assert result["statuses"] == {"ok": 4, **Counter(EXPECTED.values())}
    assert str(result["summary"]).startswith("4 of 11 clips (2 gone, 1 private, 1 blocked, 1 age-restricted, ")
    assert result["digest"] == manifest_digest(statuses)
    asked = len(box.asked())
    assert asked == len(VIDEOS) + 1  # the flaky one twice
    again = box.get()
    assert (again["fetched"], again["present"], again["failed"]) == (0, 4, [])
    assert len(box.asked()) == asked  # what is gone is not asked for again


def test_the_command_finds_yt_dlp_on_the_path_and_passes_options_on(
    box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", f"{box.program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(musiccaps, "read_list", lambda path, complete=True: read_list(path, complete=False))
    options = "--yt-dlp=--js-runtimes deno --cookies jar.txt"
    code = main(["fetch", "musiccaps", "--data", str(box.root), "--jobs", "2", "--only=-0Gj8", options])
    assert code == 0
    out, err = capsys.readouterr()
    assert "musiccaps: 1 of 11 clips" in out
    assert "CC BY-SA 4.0" in err
    assert err.index("10.6 GB") < err.index("0/1")  # what it takes, before the bar of progress
    (arguments,) = box.asked()
    assert arguments[arguments.index("--cookies") + 1] == "jar.txt"
    assert arguments[-2:] == ["--", "https://www.youtube.com/watch?v=-0Gj8-vB1q4"]
    assert "-ss 30 -t 10" in arguments[arguments.index("--postprocessor-args") + 1]


# ---- what can go wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("ERROR: [youtube] abcdefghijk: Private video. Sign in if you've been granted access", "private"),
        ("ERROR: [youtube] abcdefghijk: Join this channel to get access to members-only content", "private"),
        ("ERROR: [youtube] abcdefghijk: Video unavailable", "gone"),
        ("ERROR: [youtube] abcdefghijk: Video unavailable. This video is private", "private"),
        ("ERROR: [youtube] abcdefghijk: Video unavailable. This video contains content from SME, who has "
         "blocked it in your country on copyright grounds", "blocked"),
        ("ERROR: [youtube] abcdefghijk: Sign in to confirm your age", "age-restricted"),
        ("ERROR: [youtube] abcdefghijk: Sign in to confirm you’re not a bot. Use --cookies", "busy"),
        ("ERROR: unable to download video data: HTTP Error 403: Forbidden", "failed"),
        ("ERROR: [youtube] abcdefghijk: Unable to download API page: timed out", "failed"),
        ("ERROR: [youtube] abcdefghijk: HTTP Error 429: Too Many Requests", "busy"),
        ("ERROR: [youtube] abcdefghijk: Requested format is not available", "failed"),
        ("ERROR: [youtube] x: Requested format is not available. Use --list-formats for a list", "failed"),
        ("ERROR: [youtube] x: This video is DRM protected", "failed"),
        ("ERROR: [youtube] x: Video unavailable. This content isn’t available, try again later.", "busy"),
        ("ERROR: [youtube] x: unable to extract player version; please report this issue", "failed"),
        ("WARNING: nonsense\nTraceback (most recent call last)", "failed"),
        ("", "failed"),
    ],
)  # fmt: skip
def test_what_yt_dlp_says_becomes_a_status(line: str, status: str) -> None:
    found, detail = status_of_error(line)
    assert found == status
    assert "abcdefghijk" not in detail
    assert len(detail) <= 200


def test_a_site_that_refuses_stops_the_fetch_before_everything_is_marked(quick: Box) -> None:
    waits: list[float] = []

    def refused(command: Sequence[str], timeout: float) -> Finished:
        return Finished(1, "ERROR: [youtube] x: Sign in to confirm you're not a bot")

    result = quick.get(Tools(refused, ["yt-dlp"], pause=waits.append, complete=False))
    assert "not a bot" in str(result["failed"])
    assert "--cookies-from-browser" in str(result["failed"])
    assert len(waits) < 10
    assert min(waits) >= 60
    statuses = read_manifest(quick.folder)
    assert all(s.status == "failed" for s in statuses.values())
    assert len(statuses) < 5
    assert quick.get()["statuses"] == {"ok": 4, **Counter(EXPECTED.values())}


@pytest.mark.parametrize("said", ["Video unavailable", "This live event will begin in 3 days."])
def test_a_run_that_loses_nearly_everything_stops_and_blames_the_tool(quick: Box, said: str) -> None:
    ids = [f"broken{index:05d}" for index in range(200)]
    write_list(quick.folder / LIST, ids)
    asked: list[str] = []

    def refuses(command: Sequence[str], timeout: float) -> Finished:
        asked.append(command[-1])
        return Finished(1, f"ERROR: [youtube] x: {said}")

    result = quick.get(Tools(program=["yt-dlp"], runner=refuses, pause=lambda _: None, complete=False))
    assert len(asked) < 100
    assert "yt-dlp looks broken" in str(result["failed"])
    assert said in str(result["failed"])
    assert result["statuses"].get("gone", 0) <= len(asked) - 20
    # With a tool that works, those clips are tried again.
    kept = {s.ytid for s in read_manifest(quick.folder).values() if s.status == "failed"}
    assert len(kept) >= 20


def test_a_folder_that_another_process_fetches_into_is_left_alone(quick: Box) -> None:
    program = (
        "import sys; from m2l.io.atomic import exclusive\n"
        f"with exclusive({str(quick.folder)!r}): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        result = quick.get()
        assert str(holder.pid) in str(result["failed"])
        assert not (quick.folder / MANIFEST).exists()
    finally:
        holder.kill()
        holder.communicate(timeout=30)


def test_missing_tools_are_named_and_nothing_is_marked(
    quick: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert "no ffmpeg" in str(quick.get(Tools(complete=False))["failed"])
    monkeypatch.setenv("PATH", str(tmp_path / "only"))
    (tmp_path / "only").mkdir()
    shutil.copy(tmp_path / "bin" / "ffmpeg", tmp_path / "only")
    monkeypatch.setattr(clips.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'm2l[musiccaps]'" in str(quick.get(Tools(complete=False))["failed"])

    def without_ffmpeg(command: Sequence[str], timeout: float) -> Finished:
        return Finished(1, "ERROR: Postprocessing: ffprobe and ffmpeg not found. Please install or provide")

    how = Tools(without_ffmpeg, ["yt-dlp"], complete=False)
    assert "yt-dlp finds no ffmpeg" in str(quick.get(how)["failed"])

    def full(command: Sequence[str], timeout: float) -> Finished:
        return Finished(1, "ERROR: unable to write data: [Errno 28] No space left on device")

    result = quick.get(Tools(full, ["yt-dlp"], complete=False))
    assert "no space left" in str(result["failed"])
    assert read_manifest(quick.folder) == {}


def test_a_killed_run_keeps_what_it_had_and_forgets_what_it_had_not(quick: Box) -> None:
    calls = []

    def dies(command: Sequence[str], timeout: float) -> Finished:
        calls.append(command)
        path = Path(command[command.index("--output") + 1].replace("%(ext)s", "wav"))
        if len(calls) == 3:
            path.write_bytes(b"RIFF half of a file")
            raise KeyboardInterrupt
        soundfile.write(path, np.full((480_000, 1), 0.1), 48000)
        return Finished(0, "")

    with pytest.raises(KeyboardInterrupt):
        quick.get(Tools(dies, ["yt-dlp"], pause=lambda seconds: None, complete=False))
    there = sorted(p.stem for p in (quick.folder / "audio").iterdir())
    assert len(there) >= 2  # a worker may begin another clip before it learns of the end
    assert all(soundfile.info(p).frames == 480_000 for p in (quick.folder / "audio").iterdir())
    (quick.folder / MANIFEST).unlink()  # as if it had been killed before it could write
    (quick.folder / ".m2l" / "clip-left").mkdir()
    quick.log.unlink(missing_ok=True)
    result = quick.get()
    assert result["present"] == len(there)
    assert not {a[-1].split("v=")[1] for a in quick.asked()} & set(there)
    assert not list((quick.folder / ".m2l").iterdir())


def test_lost_files_are_fetched_again_and_lost_causes_only_on_request(quick: Box) -> None:
    quick.get()
    (quick.folder / "audio" / "_ACyiKGpD8Y.wav").unlink()
    quick.log.unlink()
    assert quick.get()["fetched"] == 1
    assert len(quick.asked()) == 1
    tools = Tools(
        lambda command, timeout: Finished(1, "ERROR: [youtube] x: Video unavailable"),
        ["yt-dlp"],
        complete=False,
        pause=lambda seconds: None,
    )
    quick.get(tools, again=True)
    statuses = read_manifest(quick.folder)
    assert {s.status for ytid, s in statuses.items() if ytid not in OK} == {"gone"}
    assert {ytid for ytid, s in statuses.items() if s.status == "ok"} == OK


def test_a_limit_takes_the_first_clips_of_the_list_that_can_be_had(quick: Box) -> None:
    order = ["removed0001", "-0Gj8-vB1q4", "private0001", "0fqtA_ZBn_8", "_ACyiKGpD8Y"]
    write_list(quick.folder / LIST, [*order, *(ytid for ytid in VIDEOS if ytid not in order)])
    assert not musiccaps.is_complete(Options(data=quick.root, limit=2))
    result = quick.get(limit=2)
    found = {ytid: status.status for ytid, status in read_manifest(quick.folder).items()}
    assert found == dict(zip(order[:4], ("gone", "ok", "private", "ok"), strict=True))
    assert (result["fetched"], result["failed"]) == (2, [])
    assert musiccaps.is_complete(Options(data=quick.root, limit=2))
    assert not musiccaps.is_complete(Options(data=quick.root))
    # The same again asks for nothing; a larger limit goes on from there.
    asked = len(quick.asked())
    quick.get(limit=2)
    assert len(quick.asked()) == asked
    quick.get(limit=3)
    assert len(quick.asked()) == asked + 1
    assert read_manifest(quick.folder)["_ACyiKGpD8Y"].status == "ok"


def test_a_command_that_hangs_is_ended() -> None:
    done = run([sys.executable, "-c", "import time; time.sleep(60)"], 0.5)
    assert done.code != 0
    assert status_of_error(done.errors)[0] == "failed"
    assert run([sys.executable, "-c", "import sys; sys.exit('ERROR: x: Private video')"], 30).code == 1


# ---- existing copies, verification -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["{id}.wav", "[{id}]-[30-40].wav", "{id}_30.flac", "{id}_30000_40000.wav", "Y{id}.wav", "sub/{id}.ogg"]
)
def test_an_existing_copy_is_adopted_under_its_own_names(quick: Box, tmp_path: Path, name: str) -> None:
    for ytid in ("-0Gj8-vB1q4", "AbCdEfGhIjK"):
        path = tmp_path / "copy" / name.format(id=ytid)
        path.parent.mkdir(parents=True, exist_ok=True)
        seconds = 10 if ytid.startswith("-") else 7
        soundfile.write(path, np.full((seconds * 44100, 1), 0.1), 44100)
    (tmp_path / "copy" / "AbCdEfGhIjkX.wav").write_bytes(b"not an id")
    before = {p: p.read_bytes() for p in (tmp_path / "copy").rglob("*") if p.is_file()}
    quick.get(source=tmp_path / "copy")
    assert {p: p.read_bytes() for p in before} == before
    statuses = read_manifest(quick.folder)
    adopted = statuses["-0Gj8-vB1q4"]
    assert (adopted.status, adopted.sample_rate, adopted.channels) == ("ok", 44100, 1)
    assert sha256((quick.folder / adopted.path).read_bytes()) == adopted.sha256
    assert "-0Gj8-vB1q4" not in {a[-1].split("v=")[1] for a in quick.asked()}
    assert statuses["AbCdEfGhIjK"].status == "wrong length"


def test_verify_names_every_wrong_clip(quick: Box) -> None:
    quick.get()
    options = Options(data=quick.root, jobs=2)
    fine = verify_musiccaps(options, complete=False)
    assert (fine["failed"], fine["checked"]) == ([], 4)
    audio = quick.folder / "audio"
    (audio / "-0Gj8-vB1q4.wav").unlink()
    soundfile.write(audio / "_ACyiKGpD8Y.wav", np.full((480_000, 2), 0.2), 48000, subtype="PCM_16")
    soundfile.write(audio / "0fqtA_ZBn_8.wav", np.zeros((44100, 2)), 44100, subtype="PCM_16")
    (audio / "flaky000001.wav").write_bytes(b"RIFF")
    failed = verify_musiccaps(options, complete=False)["failed"]
    assert {problem.split(":")[0] for problem in failed} == {f"audio/{ytid}.wav" for ytid in OK}
    text = "\n".join(failed)
    for part in ("missing", "sha256 is", "1.000 s instead of 10 s", "cannot be decoded"):
        assert part in text


# ---- the real yt-dlp, where it is installed ----------------------------------------------------------


@pytest.fixture
def tracks(tmp_path: Path) -> Iterator[str]:
    """A server with one audio track in the two forms that videos have."""
    folder = tmp_path / "tracks"
    folder.mkdir()
    for name, rate, codec in (("a.webm", 48000, "libopus"), ("b.m4a", 44100, "aac")):
        source = f"sine=frequency=440:duration=30:sample_rate={rate}"
        subprocess.run(
            ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", source, "-ac", "2", "-c:a", codec, folder / name],
            check=True,
            timeout=120,
        )

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(folder), **kwargs)  # type: ignore[arg-type, misc]

    with serving(Handler) as url:
        yield url


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("yt-dlp") and shutil.which("ffmpeg")), reason="yt-dlp and ffmpeg are not on the path"
)
def test_the_real_yt_dlp_cuts_as_the_stand_in_does(tracks: str, tmp_path: Path) -> None:
    for name, rate in (("a.webm", 48000), ("b.m4a", 44100)):
        out = tmp_path / name
        out.mkdir()
        segment = clips.Segment("-0Gj8-vB1q4", 12.0, 22.0, "", "", True, False)
        command = command_for([str(shutil.which("yt-dlp"))], segment, out)
        command[-1] = f"{tracks}/{name}"
        done = run(command, 120)
        assert done.code == 0, done.errors
        made = clips.inspect(out / "-0Gj8-vB1q4.wav", "-0Gj8-vB1q4", "audio/x.wav")
        assert (made.status, made.sample_rate, made.channels, made.seconds) == ("ok", rate, 2, 10.0)
    command[-1] = f"{tracks}/none.webm"
    done = run(command, 120)
    assert done.code == 1
    assert status_of_error(done.errors)[0] == "failed"
