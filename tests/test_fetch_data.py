"""The paper's archives, in miniature, from a local server with every fault: what is there is right or absent."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from paper_data import Mini, Server, miniature, serving_data

from benchmarks.cli.main import main
from benchmarks.datasets.records import HIDDEN, read_records, records_digest
from benchmarks.fetch import transfer
from benchmarks.fetch.corpora import catalog, fetcher
from benchmarks.fetch.corpora.corpus import Archive, Matcher
from benchmarks.fetch.corpora.fetcher import TRAINING_LIST
from benchmarks.fetch.download import Patience, download

DOWNLOADED = ("tinysol", "beatport", "magnatagatune")
BY_HAND = ("mtg-jamendo", "dns4")  # downloaded by their publishers' own scripts
NAMES = (*DOWNLOADED, *BY_HAND)
PINNED = ("tinysol", "beatport", "mtg-jamendo")  # whose archives have published checksums
_ENVIRONMENT = ("M2L_OFFLINE", "HF_HUB_OFFLINE", "M2L_DATA", "http_proxy", "HTTP_PROXY", "all_proxy")


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, waits: list[float]) -> Iterator[Server]:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # nobody pulls the plug here
    for name in _ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "download", functools.partial(download, pause=waits.append))
    with serving_data() as state:
        monkeypatch.setenv("M2L_FETCH_MIRROR", state.url)
        yield state


def served(name: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> Mini:
    made = miniature(name, monkeypatch)
    server.files.update(made.served)
    server.faulty.update(made.archives)
    return made


@pytest.fixture(params=DOWNLOADED)
def mini(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> Mini:
    """Those that we download."""
    return served(request.param, server, monkeypatch)


@pytest.fixture(params=NAMES)
def each(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> Mini:
    """All of them."""
    return served(request.param, server, monkeypatch)


@pytest.fixture(params=BY_HAND)
def by_hand(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> Mini:
    """Those that their publishers' scripts download."""
    return served(request.param, server, monkeypatch)


def data_of(folder: Path) -> dict[str, bytes]:
    """All files that a loader could take for data."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and HIDDEN not in path.relative_to(folder).parts and path.name != TRAINING_LIST
    }


def get(mini: Mini, root: Path, *more: str) -> int:
    return main(["fetch", mini.corpus.name, "--data", str(root), *more])


def get_all(mini: Mini, root: Path, *more: str) -> int:
    """Fetch a data set, after its publisher's script has done its part where it has one."""
    if mini.by_hand:
        more = ("--from", str(mini.download_by_hand(root / "by hand")), *more)
    return get(mini, root, *more)


def nothing_wrong_is_there(mini: Mini, root: Path) -> None:
    """Whatever is there is a whole published file; a record means that its archive is complete."""
    folder = root / mini.corpus.folder
    for path, data in data_of(folder).items():
        assert data == mini.files[path], path
    for path, member in read_records(folder).items():
        assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == member.sha256


def is_complete(mini: Mini, root: Path) -> None:
    folder = root / mini.corpus.folder
    assert data_of(folder) == mini.files
    assert set(read_records(folder)) == set(mini.files) - {item.path for item in mini.corpus.items}
    assert not list((folder / HIDDEN).rglob("*.part"))
    assert {path.name for path in (folder / HIDDEN).iterdir()} == {"records"}
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o7111 == 0 for path in folder.rglob("*") if path.is_file())


# ---- what should happen ------------------------------------------------------------------------------


def test_a_data_set_is_shown_fetched_unpacked_and_recorded(
    each: Mini, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = each
    assert get_all(mini, tmp_path, "--json") == 0
    out, err = capsys.readouterr()
    result = json.loads(out)[0]
    assert result["failed"] == []
    assert mini.corpus.license in err.splitlines()[0]
    assert "at 100 Mbit/s" in err or mini.by_hand
    is_complete(mini, tmp_path)
    downloads = [path for method, path, _ in server.requests if method == "GET"]
    parts = [part for archive in _archives(mini, tmp_path) for part in archive.parts if part.urls]
    assert len(downloads) == len(set(downloads)) == len(mini.corpus.items) + len(parts)
    server.requests.clear()
    assert get(mini, tmp_path) == 0
    assert "already present" in capsys.readouterr().out
    assert server.requests == []


def _archives(mini: Mini, root: Path) -> list[Archive]:
    folder = root / mini.corpus.folder
    return mini.corpus.archives(folder)


def test_verify_accepts_what_was_fetched_and_names_every_wrong_file(
    each: Mini, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    each: Mini, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = each
    assert get(mini, tmp_path, "--dry-run") == 0
    monkeypatch.setenv("M2L_OFFLINE", "1")
    assert get(mini, tmp_path) == 3
    assert server.requests == []
    assert not (tmp_path / mini.corpus.folder).exists() or not data_of(tmp_path / mini.corpus.folder)


# ---- what goes wrong ---------------------------------------------------------------------------------


def test_broken_connections_are_resumed_within_one_call(mini: Mini, server: Server, tmp_path: Path) -> None:
    server.cuts = 3
    assert get(mini, tmp_path, "--jobs", "1") == 0
    is_complete(mini, tmp_path)
    assert sum(wanted is not None for _, _, wanted in server.requests) == 3


def test_an_interrupted_fetch_goes_on_where_it_stopped(
    mini: Mini, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cuts = len(mini.victim)
    once = functools.partial(download, retries=0)
    monkeypatch.setattr(transfer, "download", once)
    assert get(mini, tmp_path, "--jobs", "1") == 3
    nothing_wrong_is_there(mini, tmp_path)
    assert list((tmp_path / mini.corpus.folder / HIDDEN / "archives").glob("*.part"))
    server.requests.clear()
    assert get(mini, tmp_path, "--jobs", "1") == 0
    is_complete(mini, tmp_path)
    assert sum(wanted is not None for _, _, wanted in server.requests) == 1


def test_a_part_that_was_damaged_on_this_disk_is_fetched_anew(
    mini: Mini, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cuts = len(mini.victim)
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
    mini: Mini, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in mini.archives:
        body = bytearray(server.files[path])
        body[len(body) // 2] ^= 0xFF
        server.files[path] = bytes(body)
    assert get(mini, tmp_path) == 3
    nothing_wrong_is_there(mini, tmp_path)
    err = capsys.readouterr().err
    if mini.corpus.name in PINNED:
        assert "expected" in err
        assert read_records(tmp_path / mini.corpus.folder) == {}
    else:
        assert "damaged" in err or "cannot be read" in err
        assert "run again to get it anew" in err
    server.files.update(mini.served)
    for _ in range(3):  # damage in three parts of one archive is found one part after the other
        if (code := get(mini, tmp_path)) == 0:
            break
    assert code == 0
    is_complete(mini, tmp_path)


def test_a_checksum_that_the_server_states_is_verified(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = miniature("magnatagatune", monkeypatch)
    server.files.update(mini.served)
    server.faulty.update(mini.victim)
    server.cuts, server.states_md5 = len(mini.victim), True
    monkeypatch.setattr(transfer, "download", functools.partial(download, retries=0))
    assert get(mini, tmp_path, "--jobs", "1") == 3
    (part,) = (tmp_path / "magnatagatune" / HIDDEN / "archives").glob("*.part")
    part.write_bytes(bytes(part.stat().st_size))
    assert get(mini, tmp_path, "--jobs", "1") == 0  # noticed before unpacking, and fetched anew
    is_complete(mini, tmp_path)


def test_missing_files_fail_alone_and_by_name(
    mini: Mini, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in mini.victim:
        del server.files[path]

    assert get(mini, tmp_path) == 3
    err = capsys.readouterr().err
    (complaint,) = [line for line in err.splitlines() if "HTTP 404" in line]
    names = [a.name for a in _archives(mini, tmp_path) if complaint.startswith(f"  failed: {a.name}: ")]
    assert len(names) == 1
    nothing_wrong_is_there(mini, tmp_path)
    server.files.update(mini.served)
    assert get(mini, tmp_path) == 0
    is_complete(mini, tmp_path)


def test_a_dead_mirror_is_left_for_the_next_one(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = miniature("magnatagatune", monkeypatch)
    server.files.update(mini.served)
    for path in [path for path in server.files if path.startswith("/mirg.city.ac.uk")]:
        del server.files[path]
    assert get(mini, tmp_path) == 0
    is_complete(mini, tmp_path)
    assert any(path.startswith("/mi.soi.city.ac.uk") for _, path, _ in server.requests)


def test_a_busy_server_is_given_the_time_it_asks_for(
    mini: Mini, server: Server, tmp_path: Path, waits: list[float]
) -> None:
    server.busy = 2
    assert get(mini, tmp_path, "--jobs", "1") == 0
    is_complete(mini, tmp_path)
    assert waits == [7.0, 7.0]


def test_a_server_that_trickles_is_dropped_and_asked_for_the_rest(
    mini: Mini, server: Server, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = Patience(seconds=0.3, bytes_per_second=500)  # the server sends 50 a second
    monkeypatch.setattr(transfer, "download", functools.partial(download, pause=waits.append, patience=impatient))
    server.trickles = 1
    assert get(mini, tmp_path, "--jobs", "1") == 0
    is_complete(mini, tmp_path)
    assert waits
    assert any(wanted is not None for _, _, wanted in server.requests)
    assert server.dropped.wait(20)


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_transferred(
    mini: Mini, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "data" / mini.corpus.folder).mkdir(parents=True)
    assert get(mini, tmp_path / "data", "--only", "nothing") == 3  # gets the lists alone
    server.requests.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 10))
    assert get(mini, tmp_path / "data") == 3
    assert "are free at" in capsys.readouterr().err
    assert not [path for method, path, _ in server.requests if method == "GET"]


def test_a_disk_that_fills_up_while_unpacking_leaves_no_data(
    mini: Mini, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    mini: Mini, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


# ---- existing copies, parts --------------------------------------------------------------------------


def test_archives_of_an_existing_copy_are_used_where_they_are(each: Mini, server: Server, tmp_path: Path) -> None:
    mini = each
    copy = tmp_path / "copy" / "downloads"
    copy.mkdir(parents=True)
    names = dict(mini.by_hand)
    for path in mini.served:
        name = path.removesuffix("/content").rpartition("/")[2]
        names[name] = mini.served[path]
    for name, data in names.items():
        (copy / name).write_bytes(data)
    assert get(mini, tmp_path, "--from", str(tmp_path / "copy")) == 0
    is_complete(mini, tmp_path)
    assert not [path for method, path, _ in server.requests if method == "GET"]
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == names


def test_unpacked_files_of_an_existing_copy_are_linked_under_their_published_names(
    each: Mini, server: Server, tmp_path: Path
) -> None:
    mini = each
    copy = tmp_path / "copy" / "some folder"
    for path, data in mini.files.items():
        target = copy / path.replace("audio/", "").replace("mp3/", "MP3s/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    assert get(mini, tmp_path / "data", "--from", str(tmp_path / "copy")) == 0
    is_complete(mini, tmp_path / "data")
    assert not [path for method, path, _ in server.requests if method == "GET"]


@pytest.mark.parametrize("name", PINNED)
def test_a_copy_with_another_file_is_not_adopted_but_fetched(
    name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    mini = miniature(name, monkeypatch)
    server.files.update(mini.served)
    for path, data in mini.files.items():
        target = tmp_path / "copy" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data + b"changed" if path.startswith("audio/") else data)
    code = get(mini, tmp_path / "data", "--from", str(tmp_path / "copy"))
    assert "not adopted" in capsys.readouterr().err
    nothing_wrong_is_there(mini, tmp_path / "data")
    assert code == (3 if mini.by_hand else 0)
    if not mini.by_hand:
        is_complete(mini, tmp_path / "data")


def test_data_put_in_place_by_hand_is_recognized(each: Mini, server: Server, tmp_path: Path) -> None:
    mini = each
    for path, data in mini.files.items():
        target = tmp_path / mini.corpus.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    if mini.corpus.name == "dns4":  # publishes no list, so that nothing tells whether it is complete
        assert get(mini, tmp_path) == 3
        return
    assert get(mini, tmp_path) == 0
    is_complete(mini, tmp_path)
    assert server.requests == []


def test_a_part_of_the_archives_can_be_chosen(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mini = served("dns4", server, monkeypatch)
    assert get_all(mini, tmp_path, "--only", "VocalSet") == 0
    assert set(data_of(tmp_path / "dns4")) == {"clean_fullband/VocalSet_48kHz_mono/female1/f1_scales.wav"}
    assert get_all(mini, tmp_path, "--only", "read_speech_00[01]*") == 0
    assert data_of(tmp_path / "dns4") == mini.files
    assert get(mini, tmp_path, "--only", "klingon") == 3
    mini = served("beatport", server, monkeypatch)
    folder = tmp_path / "beatport_key"
    assert get(mini, tmp_path, "--only", "keys", "--keep-archives") == 0
    assert {path.partition("/")[0] for path in read_records(folder)} == {"keys"}
    assert [path.name for path in (folder / HIDDEN / "archives").iterdir()] == ["keys.zip"]
    assert get(mini, tmp_path) == 0
    is_complete(mini, tmp_path)


# ---- what publishers' own scripts download -----------------------------------------------------------


def test_the_publishers_own_commands_are_shown_and_nothing_large_is_requested(
    by_hand: Mini, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = by_hand.corpus.name
    for options in (["--dry-run"], []):
        assert get(by_hand, tmp_path, *options) == (0 if options else 3)
        err = capsys.readouterr().err
        assert "mtg-jamendo-dataset/scripts/download/download.py" in err or "download-dns-challenge-4.sh" in err
        assert f"m2l-bench fetch {name} --from {name}-download --data {tmp_path}" in err
    assert {path.rpartition("/")[2] for _, path, _ in server.requests} == {item.path for item in by_hand.corpus.items}
    assert read_records(tmp_path / by_hand.corpus.folder) == {}


def test_a_damaged_archive_of_a_copy_is_refused_and_left_alone(
    by_hand: Mini, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = by_hand.download_by_hand(tmp_path / "copy")
    for name, data in by_hand.by_hand.items():
        broken = bytearray(data)
        broken[len(broken) // 2] ^= 0xFF
        (copy / name).write_bytes(bytes(broken))
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    assert get(by_hand, tmp_path, "--from", str(copy)) == 3
    err = capsys.readouterr().err
    assert "not the published file" in err if by_hand.corpus.name in PINNED else "damaged" in err
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    nothing_wrong_is_there(by_hand, tmp_path)
    assert read_records(tmp_path / by_hand.corpus.folder) == {}
    assert get_all(by_hand, tmp_path) == 0
    is_complete(by_hand, tmp_path)


def test_an_incomplete_copy_is_adopted_as_far_as_it_goes(
    by_hand: Mini, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = by_hand.download_by_hand(tmp_path / "copy")
    lost = sorted(copy.iterdir())[0]
    lost.rename(tmp_path / "elsewhere")
    assert get(by_hand, tmp_path, "--from", str(copy)) == 3
    out, err = capsys.readouterr()
    assert "1 archives are missing here and in the copy" in err
    assert f"{len(by_hand.by_hand) - 1} archives fetched, 0 already present, 1 failed" in out
    assert read_records(tmp_path / by_hand.corpus.folder)
    nothing_wrong_is_there(by_hand, tmp_path)
    (tmp_path / "elsewhere").rename(lost)
    assert get(by_hand, tmp_path, "--from", str(copy)) == 0
    is_complete(by_hand, tmp_path)


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
