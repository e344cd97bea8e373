"""The paper's archives, in miniature, from a local server with every fault: what is there is right or absent."""

from __future__ import annotations

import fnmatch
import functools
import json
import os
import shutil
from pathlib import Path

import pytest
from fetch_helpers import NAMES, PINNED, data_of, get, get_all, is_complete, nothing_wrong_is_there
from http_helpers import Server
from paper_data import Mini, miniature

from benchmarks.cli.main import main
from benchmarks.datasets.records import HIDDEN, read_records, records_digest
from benchmarks.fetch import transfer
from benchmarks.fetch.corpora import catalog, fetcher
from benchmarks.fetch.corpora.corpus import Archive, Matcher
from benchmarks.fetch.download import Patience, download

pytest_plugins = ["fetch_fixtures"]


# ---- what should happen ------------------------------------------------------------------------------


def test_a_data_set_is_shown_fetched_unpacked_and_recorded(
    each: Mini, mirror: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = each
    assert get_all(mini, tmp_path, "--json") == 0
    out, err = capsys.readouterr()
    result = json.loads(out)[0]
    assert result["failed"] == []
    assert mini.corpus.license in err.splitlines()[0]
    assert "at 100 Mbit/s" in err or mini.by_hand
    is_complete(mini, tmp_path)
    downloads = [path for method, path, _ in mirror.requests if method == "GET"]
    parts = [part for archive in _archives(mini, tmp_path) for part in archive.parts if part.urls]
    assert len(downloads) == len(set(downloads)) == len(mini.corpus.items) + len(parts)
    mirror.requests.clear()
    assert get(mini, tmp_path) == 0
    assert "already present" in capsys.readouterr().out
    assert mirror.requests == []


def _archives(mini: Mini, root: Path) -> list[Archive]:
    folder = root / mini.corpus.folder
    return mini.corpus.archives(folder)


def test_verify_accepts_what_was_fetched_and_names_every_wrong_file(
    each: Mini, mirror: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = each
    assert get_all(mini, tmp_path) == 0
    capsys.readouterr()
    assert main(["fetch", "verify", mini.corpus.name, "--data", str(tmp_path), "--json"]) == 0
    fine = json.loads(capsys.readouterr().out)[0]
    folder = tmp_path / mini.corpus.folder
    assert (fine["failed"], fine["digest"]) == ([], records_digest(folder))
    first, second, third = sorted(read_records(folder))[:3]
    (folder / first).unlink()
    whole = (folder / second).read_bytes()
    (folder / second).write_bytes(whole[:-1] + bytes([(whole[-1] ^ 1) if whole else 1]))
    (folder / third).write_bytes((folder / third).read_bytes() + b"x")
    assert main(["fetch", "verify", mini.corpus.name, "--data", str(tmp_path), "--json"]) == 3
    problems = json.loads(capsys.readouterr().out)[0]["failed"]
    assert [problem.split(": ")[0] for problem in sorted(problems)] == [first, second, third]
    assert any(problem == f"{first}: missing" for problem in problems)
    assert any("sha256 is" in problem or "bytes, recorded" in problem for problem in problems)


def test_verify_says_what_was_never_fetched(each: Mini, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mini = each
    assert main(["fetch", "verify", mini.corpus.name, "--data", str(tmp_path)]) == 3
    err = capsys.readouterr().err
    assert all(f"{item.path}: missing" in err for item in mini.corpus.items)


def test_dry_run_and_offline_transfer_nothing(
    each: Mini, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = each
    assert get(mini, tmp_path, "--dry-run") == 0
    monkeypatch.setenv("M2L_OFFLINE", "1")
    assert get(mini, tmp_path) == 3
    assert mirror.requests == []
    assert not (tmp_path / mini.corpus.folder).exists() or not data_of(tmp_path / mini.corpus.folder)


# ---- what goes wrong ---------------------------------------------------------------------------------


def test_broken_connections_are_resumed_within_one_call(mini: Mini, mirror: Server, tmp_path: Path) -> None:
    mirror.cuts = 3
    assert get(mini, tmp_path, "--jobs", "1") == 0
    is_complete(mini, tmp_path)
    assert sum(wanted is not None for _, _, wanted in mirror.requests) == 3


def test_an_interrupted_fetch_goes_on_where_it_stopped(
    mini: Mini, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.cuts = len(mini.victim)
    once = functools.partial(download, retries=0)
    monkeypatch.setattr(transfer, "download", once)
    assert get(mini, tmp_path, "--jobs", "1") == 3
    nothing_wrong_is_there(mini, tmp_path)
    assert list((tmp_path / mini.corpus.folder / HIDDEN / "archives").glob("*.part"))
    mirror.requests.clear()
    assert get(mini, tmp_path, "--jobs", "1") == 0
    is_complete(mini, tmp_path)
    assert sum(wanted is not None for _, _, wanted in mirror.requests) == 1


def test_a_part_that_was_damaged_on_this_disk_is_fetched_anew(
    mini: Mini, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.cuts = len(mini.victim)
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "download", functools.partial(download, retries=0))
        assert get(mini, tmp_path, "--jobs", "1") == 3
    (part,) = (tmp_path / mini.corpus.folder / HIDDEN / "archives").glob("*.part")
    whole = bytearray(part.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 8] = bytes(byte ^ 0xFF for byte in whole[middle : middle + 8])
    part.write_bytes(bytes(whole))
    code = get(mini, tmp_path, "--jobs", "1")
    nothing_wrong_is_there(mini, tmp_path)
    if code != 0:  # nothing but the archive's own checksum tells: it was deleted, and comes anew
        assert mini.corpus.name not in PINNED
        assert get(mini, tmp_path) == 0
    is_complete(mini, tmp_path)


def test_another_file_than_the_published_one_is_refused(
    mini: Mini, mirror: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in mini.archives:
        body = bytearray(mirror.files[path])
        body[len(body) // 2] ^= 0xFF
        mirror.files[path] = bytes(body)
    assert get(mini, tmp_path) == 3
    nothing_wrong_is_there(mini, tmp_path)
    err = capsys.readouterr().err
    if mini.corpus.name in PINNED:
        assert "expected" in err
        assert read_records(tmp_path / mini.corpus.folder) == {}
    else:
        assert "damaged" in err or "cannot be read" in err
        assert "run again to get it anew" in err
    mirror.files.update(mini.served)
    for _ in range(3):  # damage in three parts of one archive is found one part after the other
        if (code := get(mini, tmp_path)) == 0:
            break
    assert code == 0
    is_complete(mini, tmp_path)


def test_a_checksum_that_the_server_states_is_verified(
    mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = miniature("magnatagatune", monkeypatch)
    mirror.files.update(mini.served)
    mirror.faulty.update(mini.victim)
    mirror.cuts, mirror.states_md5 = len(mini.victim), True
    monkeypatch.setattr(transfer, "download", functools.partial(download, retries=0))
    assert get(mini, tmp_path, "--jobs", "1") == 3
    (part,) = (tmp_path / "magnatagatune" / HIDDEN / "archives").glob("*.part")
    part.write_bytes(bytes(part.stat().st_size))
    assert get(mini, tmp_path, "--jobs", "1") == 0  # noticed before unpacking, and fetched anew
    is_complete(mini, tmp_path)


def test_missing_files_fail_alone_and_by_name(
    mini: Mini, mirror: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in mini.victim:
        del mirror.files[path]

    assert get(mini, tmp_path) == 3
    err = capsys.readouterr().err
    (complaint,) = [line for line in err.splitlines() if "HTTP 404" in line]
    names = [a.name for a in _archives(mini, tmp_path) if complaint.startswith(f"  failed: {a.name}: ")]
    assert len(names) == 1
    nothing_wrong_is_there(mini, tmp_path)
    mirror.files.update(mini.served)
    assert get(mini, tmp_path) == 0
    is_complete(mini, tmp_path)


def test_a_dead_mirror_is_left_for_the_next_one(
    mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = miniature("magnatagatune", monkeypatch)
    mirror.files.update(mini.served)
    for path in [path for path in mirror.files if path.startswith("/mirg.city.ac.uk")]:
        del mirror.files[path]
    assert get(mini, tmp_path) == 0
    is_complete(mini, tmp_path)
    assert any(path.startswith("/mi.soi.city.ac.uk") for _, path, _ in mirror.requests)


def test_a_busy_server_is_given_the_time_it_asks_for(
    mini: Mini, mirror: Server, tmp_path: Path, waits: list[float]
) -> None:
    mirror.busy = 2
    assert get(mini, tmp_path, "--jobs", "1") == 0
    is_complete(mini, tmp_path)
    assert waits == [7.0, 7.0]


def test_a_server_that_trickles_is_dropped_and_asked_for_the_rest(
    mini: Mini, mirror: Server, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = Patience(seconds=0.3, bytes_per_second=500)  # the server sends 50 a second
    monkeypatch.setattr(transfer, "download", functools.partial(download, pause=waits.append, patience=impatient))
    mirror.trickles = 1
    assert get(mini, tmp_path, "--jobs", "1") == 0
    is_complete(mini, tmp_path)
    assert waits
    assert any(wanted is not None for _, _, wanted in mirror.requests)
    assert mirror.dropped.wait(20)


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_transferred(
    mini: Mini, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "data" / mini.corpus.folder).mkdir(parents=True)
    assert get(mini, tmp_path / "data", "--only", "nothing") == 3  # gets the lists alone
    mirror.requests.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 10))
    assert get(mini, tmp_path / "data") == 3
    assert "are free at" in capsys.readouterr().err
    assert not [path for method, path, _ in mirror.requests if method == "GET"]


def test_a_disk_that_fills_up_while_unpacking_leaves_no_data(
    mini: Mini, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if "unpacking" in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(28, "No space left on device")
        real(handle)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to tell files apart")
    monkeypatch.setattr(os, "fsync", full)
    assert get(mini, tmp_path, "--jobs", "1") == 3
    folder = tmp_path / mini.corpus.folder
    assert set(data_of(folder)) == {item.path for item in mini.corpus.items}
    assert read_records(folder) == {}
    monkeypatch.undo()
    assert calls


def test_a_kill_between_unpacking_and_record_is_made_good(
    mini: Mini, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetcher, "write_record", killed)
        assert get(mini, tmp_path, "--jobs", "1") == 130
    nothing_wrong_is_there(mini, tmp_path)
    assert read_records(tmp_path / mini.corpus.folder) == {}
    assert get(mini, tmp_path) == 0
    is_complete(mini, tmp_path)


# ---- the real catalog ------------------------------------------------------------------------------


def test_the_catalog_says_what_is_published() -> None:
    assert set(catalog.CORPORA) == set(NAMES)
    parts = [archive.parts[0].path for archive in catalog.DNS4.archives(Path("unused"))]
    assert len(set(parts)) == 116
    for name in (
        "datasets_fullband.clean_fullband.read_speech_024_4.67_NA.tar.bz2",
        "datasets_fullband.clean_fullband.vctk_wav48_silence_trimmed_004.tar.bz2",
    ):
        assert sum(fnmatch.fnmatch(name, part) for part in parts) == 1
    for corpus in catalog.CORPORA.values():
        assert corpus.license
        assert corpus.citation
        assert all(url.startswith("http") for item in corpus.items for url in item.urls)


def test_all_means_all_and_is_shown_before_anything_happens(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "all", "--dry-run", "--data", "nowhere"]) == 0
    out, err = capsys.readouterr()
    for name in ("musiccaps", *NAMES):
        assert f"{name}: " in out
        assert f"{name}: " in err
    assert "508.0 GB" in err
    assert "11.3 h at 100 Mbit/s" in err
    assert not Path("nowhere").exists()


def test_files_are_matched_by_name_then_by_folder() -> None:
    match = Matcher(["mp3/0/a-1.mp3", "mp3/1/a-1.mp3", "audio/é.wav"])
    assert match("anything/a/1/a-1.mp3") == "mp3/1/a-1.mp3"
    assert match("x/e\u0301.wav") == "audio/é.wav"
    assert match("a-1.mp3") is None  # which of the two it is cannot be told
    assert match("other.mp3") is None
