"""Listing a folder of audio: links, loops, pipes and foreign formats; and the lock of a folder that is written to."""

import os
import subprocess
import sys

import pytest

from m2l.io.atomic import InUseError, exclusive
from m2l.io.folders import find_files


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_links_to_folders_are_followed_and_loops_are_counted(tmp_path):
    touch(tmp_path / "real/album/x.wav")
    touch(tmp_path / "library/own.flac")
    (tmp_path / "library/album").symlink_to(tmp_path / "real/album")
    (tmp_path / "real/album/back").symlink_to(tmp_path / "library")
    found = find_files(tmp_path / "library")
    assert [path.relative_to(tmp_path).as_posix() for path in found.files] == [
        "library/album/x.wav",
        "library/own.flac",
    ]
    assert str(found) == "1 link to a folder that it lies in"


def test_what_is_left_out_is_counted_with_its_reason(tmp_path):
    touch(tmp_path / "a.WAV")
    touch(tmp_path / "song.m4a")
    touch(tmp_path / "cover.jpg")
    touch(tmp_path / ".hidden.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    found = find_files(tmp_path)
    assert [path.name for path in found.files] == ["a.WAV"]
    assert {reason: [path.name for path in paths] for reason, paths in found.left_out.items()} == {
        "broken link": ["gone.wav"],
        "not a readable format (.m4a)": ["song.m4a"],
        "not a regular file (a pipe or device)": ["pipe.wav"],
    }


def test_a_folder_has_one_writer(tmp_path):
    program = (
        "import sys; from m2l.io.atomic import exclusive\n"
        f"with exclusive({str(tmp_path)!r}): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(InUseError, match=str(holder.pid)), exclusive(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with exclusive(tmp_path):
        pass
