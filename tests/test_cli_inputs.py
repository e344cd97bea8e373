"""What `m2l` makes of inputs as they come: links, pipes, two runs on one folder, killed runs; nothing lost or left out
without a word."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from m2l.cli import jobs as cli_jobs
from m2l.cli.main import main
from m2l.io.atomic import exclusive
from m2l.io.blocks import write_audio
from m2l.io.latents import read_latents

TINY = ["--checkpoint", "random:tiny"]
RATE = 22_050


def tone(path: Path, samples: int = 4_000, pitch: float = 440.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, 0.3 * np.sin(2 * np.pi * pitch / RATE * np.arange(samples, dtype=np.float32))[None], RATE)
    return path


def encode(capsys, *arguments: object) -> tuple[int, dict, str]:
    """Exit code, the object of --json, and stderr."""
    capsys.readouterr()
    code = main(["encode", *map(str, arguments), "--json", "--quiet", *TINY])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, json.loads(captured.out) if captured.out else {}, captured.err


# --- links and what is left out -------------------------------------------------------------------------------


def test_links_to_folders_are_followed_and_the_rest_is_counted(tmp_path, capsys) -> None:
    library = tmp_path / "library"
    tone(tmp_path / "real" / "x.wav")
    tone(library / "own.wav")
    (library / "album").symlink_to(tmp_path / "real")
    (library / "loop").symlink_to(library)
    (library / "lost album").symlink_to(tmp_path / "nowhere")
    (library / "song.m4a").write_bytes(b"x")
    os.mkfifo(library / "pipe.wav")
    code, said, errors = encode(capsys, library, "-o", tmp_path / "out")
    assert code == 0
    assert said["counts"]["made"] == 2
    assert (tmp_path / "out" / "album" / "x.safetensors").exists()
    reasons = {reason: [Path(path).name for path in paths] for reason, paths in said["left_out"].items()}
    assert reasons == {
        "broken link": ["lost album"],
        "link to a folder that it lies in": ["loop"],
        "not a readable format (.m4a)": ["song.m4a"],
        "not a regular file (a pipe or device)": ["pipe.wav"],
    }
    assert errors.count("\n") == 1
    for reason in reasons:
        assert f"1 {reason}" in errors
    assert main(["encode", str(library), "-o", str(tmp_path / "out"), *TINY]) == 0
    assert capsys.readouterr().out == "0 made, 2 skipped, 4 left out\n"


def test_outputs_behind_a_link_are_not_read_back(tmp_path, capsys) -> None:
    tone(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "out").symlink_to(tmp_path / "out")
    (tmp_path / "out").mkdir()
    for expected in ("made", "skipped"):
        command = ["reconstruct", tmp_path / "in", "-o", tmp_path / "out", "--json", "--quiet", *TINY]
        assert main([str(word) for word in command]) == 0
        counts = json.loads(capsys.readouterr().out)["counts"]
        assert counts[expected] == sum(counts.values()) == 1


def test_a_folder_of_nothing_readable_says_what_it_holds(tmp_path, capsys) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "song.m4a").write_bytes(b"x")
    assert main(["encode", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *TINY]) == 3
    assert "1 not a readable format (.m4a)" in capsys.readouterr().err


# --- two runs on one folder -----------------------------------------------------------------------------------


def test_the_same_name_from_another_folder_is_refused(tmp_path, capsys) -> None:
    tone(tmp_path / "A" / "01.wav", 4_000)
    tone(tmp_path / "B" / "01.wav", 5_000)
    tone(tmp_path / "B" / "02.wav", 5_000)
    out = tmp_path / "out"
    assert encode(capsys, tmp_path / "A", "-o", out)[0] == 0
    before = (out / "01.safetensors").read_bytes()
    for _ in range(2):  # and it stays so
        code, said, errors = encode(capsys, tmp_path / "B", "-o", out)
        assert code == 1
        assert {Path(one["output"]).name: one["status"] for one in said["files"]}["01.safetensors"] == "failed"
        assert str(tmp_path / "A" / "01.wav") in errors
        assert "--overwrite" in errors
        assert (out / "01.safetensors").read_bytes() == before
    assert (out / "02.safetensors").exists()
    assert encode(capsys, tmp_path / "B", "-o", out, "--overwrite")[0] == 0
    assert read_latents(out / "01.safetensors")[1].samples == 5_000


def test_files_alike_in_name_size_and_date_are_told_apart(tmp_path, capsys) -> None:
    """Collections are often unpacked with one date for all."""
    for folder, pitch in (("A", 440.0), ("B", 550.0)):
        os.utime(tone(tmp_path / folder / "01.wav", pitch=pitch), (10**9, 10**9))
    assert encode(capsys, tmp_path / "A", "-o", tmp_path / "out")[0] == 0
    assert encode(capsys, tmp_path / "B", "-o", tmp_path / "out")[0] == 1


def test_a_source_is_known_by_any_path_and_after_a_move(tmp_path, capsys, monkeypatch) -> None:
    tone(tmp_path / "A" / "01.wav")
    out = tmp_path / "out"
    assert encode(capsys, tmp_path / "A", "-o", out)[0] == 0
    (tmp_path / "link").symlink_to(tmp_path / "A")
    monkeypatch.chdir(tmp_path)
    for same in ("A", "./link", tmp_path / "link"):
        assert encode(capsys, same, "-o", out)[1]["counts"]["skipped"] == 1
    shutil.copytree(tmp_path / "A", tmp_path / "copy")  # with its date
    assert encode(capsys, "copy", "-o", out)[1]["counts"]["skipped"] == 1
    os.utime(tmp_path / "copy" / "01.wav")
    assert encode(capsys, "copy", "-o", out)[1]["counts"]["made"] == 1
    (tmp_path / "A").rename(tmp_path / "moved")
    assert encode(capsys, "moved", "-o", out)[0] == 0
    # What now lies where the moved folder was is another file.
    tone(tmp_path / "A" / "01.wav", 6_000)
    assert encode(capsys, "A", "-o", out)[0] == 1
    # A changed file where it lies is made again.
    tone(tmp_path / "moved" / "01.wav", 7_000)
    assert encode(capsys, "moved", "-o", out)[1]["counts"]["made"] == 1
    assert read_latents(out / "01.safetensors")[1].samples == 7_000


def test_a_link_that_now_leads_to_another_folder_is_another_source(tmp_path, capsys) -> None:
    tone(tmp_path / "A" / "01.wav")
    tone(tmp_path / "B" / "01.wav", 5_000)
    link = tmp_path / "latest"
    link.symlink_to(tmp_path / "A")
    assert encode(capsys, link, "-o", tmp_path / "out")[0] == 0
    link.unlink()
    link.symlink_to(tmp_path / "B")
    assert encode(capsys, link, "-o", tmp_path / "out")[0] == 1
    shutil.rmtree(tmp_path / "A")  # nothing to mix up any more
    assert encode(capsys, link, "-o", tmp_path / "out")[1]["counts"]["made"] == 1


def test_decoded_files_are_kept_too(tmp_path, capsys) -> None:
    for folder, samples in (("A", 4_000), ("B", 5_000)):
        assert encode(capsys, tone(tmp_path / folder / "01.wav", samples), "-o", tmp_path / f"z{folder}/")[0] == 0
    assert main(["decode", str(tmp_path / "zA"), "-o", str(tmp_path / "out")]) == 0
    assert main(["decode", str(tmp_path / "zB"), "-o", str(tmp_path / "out")]) == 1
    assert "zA" in capsys.readouterr().err


def test_an_output_that_was_replaced_by_name_is_not_taken_for_the_old_one(tmp_path, capsys) -> None:
    tone(tmp_path / "A" / "sub" / "01.wav")
    tone(tmp_path / "B" / "01.wav", pitch=550.0)  # of the same length
    out = tmp_path / "out"
    assert encode(capsys, tmp_path / "A", "-o", out)[0] == 0
    assert encode(capsys, tmp_path / "B" / "01.wav", "-o", out / "sub" / "01.safetensors")[0] == 0
    code, _, errors = encode(capsys, tmp_path / "A", "-o", out)
    assert code == 1
    assert str(tmp_path / "B" / "01.wav") in errors
    assert encode(capsys, tmp_path / "A", "-o", out, "--overwrite")[0] == 0
    assert encode(capsys, tmp_path / "A", "-o", out)[1]["counts"]["skipped"] == 1


def test_records_without_sources_are_still_read(tmp_path, capsys) -> None:
    tone(tmp_path / "A" / "01.wav")
    out = tmp_path / "out"
    assert encode(capsys, tmp_path / "A", "-o", out)[0] == 0
    record = out / ".m2l-done.jsonl"
    lines = [json.loads(line) for line in record.read_text().splitlines() if line]
    for line in lines:
        for field in ("source", "real", "content"):
            line.pop(field, None)
    odd = ["[" * 5_000, "{}", '"x"', '{"output": []}', "\udcff"]
    content = "\n".join([*map(json.dumps, lines), *odd])
    record.write_text(content, encoding="utf-8", errors="surrogateescape")
    assert encode(capsys, tmp_path / "A", "-o", out)[1]["counts"]["skipped"] == 1
    tone(tmp_path / "B" / "01.wav", 5_000)
    assert encode(capsys, tmp_path / "B", "-o", out)[0] == 1  # the record knows the source from then on


def test_a_folder_in_use_is_refused_in_one_line(tmp_path, capsys) -> None:
    tone(tmp_path / "A" / "01.wav")
    (tmp_path / "out").mkdir()
    with exclusive(tmp_path / "out"):
        code, _, errors = encode(capsys, tmp_path / "A", "-o", tmp_path / "out")
    assert code == 3
    assert errors.count("\n") == 1
    assert "another process" in errors
    assert not list((tmp_path / "out").glob("*.safetensors"))
    assert encode(capsys, tmp_path / "A", "-o", tmp_path / "out")[0] == 0


# --- the same input, the same bytes ---------------------------------------------------------------------------


def test_the_same_input_gives_the_same_bytes(tmp_path, capsys) -> None:
    source = tone(tmp_path / "a.wav")
    made = set()
    for number in range(6):
        target = tmp_path / f"{number}.safetensors"
        assert encode(capsys, source, "-o", target)[0] == 0
        made.add(target.read_bytes())
    assert len(made) == 1
    assert int.from_bytes(made.pop()[:8], "little") % 8 == 0  # the data are aligned


# --- pipes, devices, sockets ----------------------------------------------------------------------------------


def piped(pipe: Path, content: bytes) -> threading.Thread:
    thread = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
    thread.start()
    return thread


def test_audio_and_latents_come_through_pipes(tmp_path, capsys) -> None:
    source, pipe = tone(tmp_path / "a.wav", 60_000), tmp_path / "pipe"
    os.mkfifo(pipe)
    assert encode(capsys, source, "-o", tmp_path / "file.safetensors")[0] == 0
    writer = piped(pipe, source.read_bytes())
    assert encode(capsys, pipe, "-o", tmp_path / "pipe.safetensors")[0] == 0
    writer.join(10)
    expected, found = (read_latents(tmp_path / f"{name}.safetensors") for name in ("file", "pipe"))
    assert np.array_equal(expected[0], found[0])
    assert (expected[1].samples, found[1].source) == (found[1].samples, "pipe")
    writer = piped(pipe, (tmp_path / "file.safetensors").read_bytes())
    assert main(["decode", str(pipe), "-o", str(tmp_path / "b.wav")]) == 0
    writer.join(10)
    names = {"a.wav", "b.wav", "pipe", "file.safetensors", "pipe.safetensors"}
    assert set(os.listdir(tmp_path)) == names


def test_standard_input_into_a_folder(tmp_path, capsys) -> None:
    def from_stdin(source: Path) -> tuple[int, dict, str]:
        reads, writes = os.pipe()
        os.write(writes, source.read_bytes())  # less than a pipe holds
        os.close(writes)
        kept = os.dup(0)
        os.dup2(reads, 0)
        try:
            return encode(capsys, "/dev/stdin", "-o", tmp_path / "out")
        finally:
            os.dup2(kept, 0)
            os.close(kept)
            os.close(reads)

    first, second = tone(tmp_path / "a.wav"), tone(tmp_path / "b.wav", 5_000)
    assert from_stdin(first)[0] == 0
    assert from_stdin(first)[1]["counts"]["skipped"] == 1
    code, _, errors = from_stdin(second)
    assert code == 1
    assert "--overwrite" in errors
    assert set(os.listdir(tmp_path / "out")) == {"stdin.safetensors", ".lock", ".m2l-done.jsonl"}


def test_what_comes_out_of_a_pipe_is_named_by_the_pipe(tmp_path, capsys) -> None:
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    writer = piped(pipe, b"no audio " * 100)
    code, _, errors = encode(capsys, pipe, "-o", tmp_path / "z.safetensors")
    writer.join(10)
    assert code == 1
    assert errors.startswith(f"m2l: {pipe}: is not readable audio")
    assert ".part" not in errors


def test_a_pipe_without_a_writer_is_not_waited_for_for_ever(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(cli_jobs, "PATIENCE", 0.2)
    os.mkfifo(tmp_path / "pipe.wav")
    code, _, errors = encode(capsys, tmp_path / "pipe.wav", "-o", tmp_path / "z.safetensors")
    assert code == 1
    assert "no program writes to this pipe" in errors
    assert os.listdir(tmp_path) == ["pipe.wav"]


@pytest.mark.parametrize("command", ["encode", "decode", "reconstruct", "info"])
@pytest.mark.parametrize("kind", ["device", "socket"])
def test_devices_and_sockets_are_refused_at_once(tmp_path, capsys, monkeypatch, command: str, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    place = "/dev/zero"
    if kind == "socket":
        place = "s.wav"
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(place)
        bound.close()
    assert main([command, place] + ([] if command == "info" else ["-o", "out"])) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"m2l: {place} is a {kind}")
    assert said.count("\n") == 1
    assert not Path("out").exists()


def test_info_and_checkpoints_do_not_wait_for_pipes(tmp_path, capsys) -> None:
    for name in ("pipe.wav", "pipe.pt", "pipe.safetensors", "pipe"):
        os.mkfifo(tmp_path / name)
        assert main(["info", str(tmp_path / name)]) == 3
        assert "is a pipe" in capsys.readouterr().err
    tone(tmp_path / "a.wav")
    command = ["encode", tmp_path / "a.wav", "-o", tmp_path / "z.safetensors", "--checkpoint"]
    for name in ("pipe.pt", "pipe.safetensors"):
        assert main([*map(str, command), str(tmp_path / name)]) == 3
        assert "is a pipe or device" in capsys.readouterr().err


# --- killed runs ----------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from m2l.io import atomic as files
from m2l.cli.main import main
def kill(*_): os.kill(os.getpid(), signal.SIGKILL)
files.os.replace = kill  # the output is written, and does not have its name yet
main(sys.argv[1:])
"""


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path, capsys) -> None:
    out = tmp_path / "out"
    for name in ("sub/a", "sub/b"):
        tone(tmp_path / "in" / f"{name}.wav")
    command = ["encode", str(tmp_path / "in"), "-o", str(out), *TINY]
    done = subprocess.run([sys.executable, "-c", KILLED, *command], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(out.rglob(".*.part"))) == 1
    (tmp_path / "in" / "sub" / "a.wav").unlink()  # its output is not written again
    assert encode(capsys, tmp_path / "in", "-o", out)[0] == 0
    assert not list(out.rglob(".*.part"))
    assert (out / "sub" / "b.safetensors").exists()


@pytest.mark.slow
def test_any_number_of_kills_leaves_what_one_run_makes(tmp_path, capsys) -> None:
    """SIGKILL at chance moments: the same bytes in the end, nothing half done, no litter."""
    for number in range(12):
        tone(tmp_path / "in" / f"{number % 3}" / f"{number}.wav", 200_000, 100.0 * (number + 1))
    out, straight, chance = tmp_path / "out", tmp_path / "straight", np.random.default_rng(0)
    command = [sys.executable, "-m", "m2l", "encode", str(tmp_path / "in"), "-o", str(out), "--quiet", *TINY]
    kills = 0
    for _ in range(20):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with suppress(subprocess.TimeoutExpired):
            running.wait(float(chance.uniform(0.5, 4)))
        kills += running.poll() is None
        running.kill()
        running.wait()
        for made in out.rglob("*.safetensors"):
            read_latents(made)
    assert kills >= 5
    assert encode(capsys, tmp_path / "in", "-o", out)[0] == 0
    assert encode(capsys, tmp_path / "in", "-o", straight)[0] == 0
    assert not list(out.rglob(".*.part"))
    for made in straight.rglob("*.safetensors"):
        assert made.read_bytes() == (out / made.relative_to(straight)).read_bytes()
    assert encode(capsys, tmp_path / "in", "-o", out)[1]["counts"]["skipped"] == 12
