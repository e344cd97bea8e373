"""Downloads against a server of our own: resume, refusal, and nothing half-written taken for data."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from http_helpers import Server

from benchmarks.cli.main import main
from benchmarks.fetch import sources as fetch_sources
from benchmarks.fetch import transfer
from benchmarks.fetch.download import ChecksumError, FetchError, NoConnectionError, download
from benchmarks.fetch.expected import Expected
from benchmarks.fetch.sources import Source, github_urls, manifest_items
from benchmarks.fetch.transfer import Item, fetch_item, mirrored

pytest_plugins = ["fetch_fixtures"]
pytestmark = pytest.mark.usefixtures("server")

BODY = bytes(np.random.default_rng(0).integers(0, 256, 700_001, dtype=np.uint8))
DIGEST = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


def only(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_download_is_complete_checked_and_leaves_nothing_beside(server: Server, tmp_path: Path) -> None:
    server.files["/a.bin"] = BODY
    seen: list[tuple[int, int | None]] = []
    dest = download(
        f"{server.url}/a.bin",
        tmp_path / "new" / "a.bin",
        Expected(len(BODY), DIGEST),
        progress=lambda got, total: seen.append((got, total)),
    )
    assert dest.read_bytes() == BODY
    assert only(dest.parent) == {"a.bin"}
    assert seen[0][0] == 0
    assert seen[-1] == (len(BODY), len(BODY))


def test_a_cut_connection_is_resumed_within_one_call(server: Server, tmp_path: Path) -> None:
    server.files["/a.bin"], server.cut_after, server.cuts = BODY, 300_000, 2
    download(f"{server.url}/a.bin", tmp_path / "a.bin", Expected(None, DIGEST), pause=lambda seconds: None)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert [wanted for _, _, wanted in server.requests] == [None, "bytes=300000-", "bytes=600000-"]


def test_a_cut_connection_is_resumed_by_a_later_call(server: Server, tmp_path: Path) -> None:
    server.files["/a.bin"], server.cut_after, server.cuts = BODY, 123_456, 1
    dest = tmp_path / "a.bin"
    with pytest.raises(FetchError, match="123456 of 700001"):
        download(f"{server.url}/a.bin", dest, retries=0)
    assert not dest.exists()
    download(f"{server.url}/a.bin", dest, retries=0)
    assert dest.read_bytes() == BODY
    assert server.requests[-1][2] == "bytes=123456-"
    assert only(tmp_path) == {"a.bin"}


def test_a_file_that_changed_on_the_server_is_not_stitched_together(server: Server, tmp_path: Path) -> None:
    server.files["/a.bin"], server.cut_after, server.cuts = BODY, 200_000, 1
    with pytest.raises(FetchError):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", retries=0)
    server.files["/a.bin"] = changed = BODY[::-1]
    download(f"{server.url}/a.bin", tmp_path / "a.bin", retries=0)
    assert (tmp_path / "a.bin").read_bytes() == changed


@pytest.mark.parametrize("etags", [True, False])
def test_a_server_without_ranges_is_read_from_the_start(server: Server, tmp_path: Path, etags: bool) -> None:
    server.files["/a.bin"], server.cut_after, server.cuts = BODY, 200_000, 1
    server.ranges, server.etags = False, etags
    download(f"{server.url}/a.bin", tmp_path / "a.bin", Expected(None, DIGEST), pause=lambda seconds: None)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_part_without_etag_or_digest_is_not_trusted(server: Server, tmp_path: Path) -> None:
    server.files["/a.bin"], server.etags = BODY, False
    (tmp_path / "a.bin.part").write_bytes(b"something else")
    (tmp_path / "a.bin.part.json").write_text(json.dumps({"url": f"{server.url}/a.bin", "digest": None, "etag": None}))
    download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert server.requests[0][2] is None


def test_a_part_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    server.files["/a.bin"] = BODY
    (tmp_path / "a.bin.part").write_bytes(BODY + b"more")
    state = {"url": f"{server.url}/a.bin", "digest": DIGEST, "etag": f'"{hashlib.md5(BODY).hexdigest()}"'}
    (tmp_path / "a.bin.part.json").write_text(json.dumps(state))
    download(f"{server.url}/a.bin", tmp_path / "a.bin", Expected(None, DIGEST), pause=lambda seconds: None)
    assert (tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (Expected(None, "sha256:" + "0" * 64), "SHA256 hash .* expected sha256:0000.* but got [0-9a-f]{64}"),
        (Expected(None, "md5:" + "1" * 32), "MD5 hash .* does not match"),
        (Expected(5), "700001 bytes, expected 5"),
    ],
)
def test_a_wrong_file_is_refused_and_deleted(server: Server, tmp_path: Path, expected: Expected, message: str) -> None:
    server.files["/a.bin"] = BODY
    with pytest.raises(ChecksumError, match=message):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", expected)
    assert only(tmp_path) == set()


def test_an_existing_file_survives_a_failed_download(server: Server, tmp_path: Path) -> None:
    server.files["/a.bin"] = BODY
    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(ChecksumError):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", Expected(None, "md5:" + "1" * 32))
    assert (tmp_path / "a.bin").read_bytes() == b"old"


def test_missing_files_fail_at_once_and_busy_servers_are_tried_again(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="HTTP 404"):
        download(f"{server.url}/none", tmp_path / "a.bin")
    assert len(server.requests) == 1
    server.files["/a.bin"], server.errors = BODY, [503, 429]
    waits: list[float] = []
    download(f"{server.url}/a.bin", tmp_path / "a.bin", pause=waits.append)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert waits == [1.0, 2.0]


def test_no_connection_is_a_fetch_error(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:1"):
        download("http://127.0.0.1:1/a.bin", tmp_path / "a.bin", retries=1, pause=lambda seconds: None)
    assert not (tmp_path / "a.bin").exists()


def test_a_disk_that_is_too_full_is_noticed_before_the_transfer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/a.bin"] = BODY
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(FetchError, match="700001 bytes are needed and 1000 are free"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert not (tmp_path / "a.bin").exists()


def test_a_disk_that_fills_up_keeps_the_part_for_later(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.fetch import download as module

    server.files["/a.bin"] = BODY

    class Full(io.FileIO):
        def write(self, data: object) -> int:
            if self.tell() > 300_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)  # type: ignore[arg-type]

    def full_disk(path: Path, mode: str) -> io.FileIO:
        return Full(path, mode.replace("b", ""))

    monkeypatch.setattr(module, "open", full_disk, raising=False)
    with pytest.raises(FetchError, match="No space left"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", pause=lambda seconds: None)
    assert not (tmp_path / "a.bin").exists()
    assert len(server.requests) == 1  # trying again does not make room
    monkeypatch.undo()
    download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert str(server.requests[-1][2]).startswith("bytes=")


def test_two_processes_do_not_write_one_part(server: Server, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    server.files["/a.bin"] = BODY
    with open(tmp_path / ".a.bin.part.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match="another process"):
            download(f"{server.url}/a.bin", tmp_path / "a.bin")
    download(f"{server.url}/a.bin", tmp_path / "a.bin")


def test_offline_means_no_request(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FetchError, match="HF_HUB_OFFLINE"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert server.requests == []


def test_github_sources_become_addresses() -> None:
    raw, large = github_urls("github:a/b@c0ffee:dir/é #1.ogg")
    assert raw == "https://raw.githubusercontent.com/a/b/c0ffee/dir/%C3%A9%20%231.ogg"
    assert large == "https://media.githubusercontent.com/media/a/b/c0ffee/dir/%C3%A9%20%231.ogg"
    for wrong in ("github:a/b:c", "gitlab:a/b@c:d", "github:a@c:d", "github:a/b@c"):
        with pytest.raises(ValueError, match="OWNER/REPO@COMMIT:PATH"):
            github_urls(wrong)


def test_the_manifests_hold_music_to_its_digest_and_speech_to_its_sound() -> None:
    music = manifest_items("open_music.csv")
    assert len(music) == 71
    assert all(item.expected.size and len(str(item.expected.digest)) == 71 for item in music)
    speech = manifest_items("open_speech.csv")
    assert len(speech) == 181
    assert all(item.path.endswith(".flac") and item.expected.check and not item.expected.digest for item in speech)
    assert len({item.urls[0] for item in music + speech}) == 71 + 181


def flac(seconds: float, rate: int = 48000, channels: int = 1) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.zeros((round(seconds * rate), channels)), rate, format="FLAC")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "fits"),
    [
        (flac(2.0), True),
        (flac(2.01), True),
        (flac(2.5), False),
        (flac(2.0, rate=44100), False),
        (flac(2.0, channels=2), False),
        (b"version https://git-lfs.github.com/spec/v1", False),
    ],
)
def test_files_without_a_digest_are_checked_by_what_they_decode_to(
    server: Server, tmp_path: Path, data: bytes, fits: bool
) -> None:
    server.files["/s.flac"] = data
    check = fetch_sources.same_audio({"sample_rate": "48000", "channels": "1", "seconds": "2.0"})
    if fits:
        download(f"{server.url}/s.flac", tmp_path / "s.flac", Expected(check=check))
    else:
        with pytest.raises(ChecksumError):
            download(f"{server.url}/s.flac", tmp_path / "s.flac", Expected(check=check))
        assert only(tmp_path) == set()


def test_large_file_pointers_send_us_to_the_second_address(server: Server, tmp_path: Path) -> None:
    server.files["/raw"], server.files["/large"] = b"version https://git-lfs.github.com/spec/v1", BODY
    item = Item("m/a.bin", (f"{server.url}/raw", f"{server.url}/large"), Expected(len(BODY), DIGEST))
    assert transfer.fetch_item(item, tmp_path).read_bytes() == BODY
    del server.files["/large"]
    with pytest.raises(ChecksumError, match="/raw"):  # the first address is the one to complain about
        transfer.fetch_item(item, tmp_path / "other")


@pytest.fixture
def small(server: Server, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A data set of three files, fetched through the mirror setting."""
    rows = {f"/host.example/x/{i}.bin": BODY[i : 1000 + i] for i in range(3)}
    server.files.update(rows)

    def items() -> list[Item]:
        return [
            Item(
                f"small/{i}.bin",
                (f"https://host.example/x/{i}.bin",),
                Expected(1000, f"sha256:{hashlib.sha256(BODY[i : 1000 + i]).hexdigest()}"),
            )
            for i in range(3)
        ]

    source = Source("small", "three files", "CC0-1.0", 3000, items)
    monkeypatch.setitem(fetch_sources.SOURCES, "small", source)
    monkeypatch.setenv("M2L_FETCH_MIRROR", server.url)
    return source


def test_the_command_shows_license_and_size_then_fetches_only_what_is_missing(
    server: Server, small: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    assert main(["fetch", "small", "--data", str(root)]) == 0
    out, err = capsys.readouterr()
    assert "3 files fetched, 0 already present" in out
    assert err.index("CC0-1.0") < err.index("3 of 3 files to fetch (3.0 kB)")
    (root / "small" / "1.bin").write_bytes(b"damaged")
    server.requests.clear()
    assert main(["fetch", "small", "--data", str(root), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)[0]
    assert (result["fetched"], result["present"], result["failed"]) == (1, 2, [])
    assert [path for _, path, _ in server.requests] == ["/host.example/x/1.bin"]
    assert (root / "small" / "1.bin").read_bytes() == BODY[1:1001]


def test_the_command_goes_on_after_a_failure_and_says_so(
    server: Server, small: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = server.files.pop("/host.example/x/0.bin")
    assert main(["fetch", "small", "--data", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert "2 files fetched, 0 already present, 1 failed" in out
    assert "small/0.bin" in err
    assert "HTTP 404" in err
    assert only(tmp_path / "small") == {"1.bin", "2.bin"}
    server.files["/host.example/x/0.bin"] = body
    assert main(["fetch", "small", "--data", str(tmp_path)]) == 0


def test_files_below_m2l_data_count_as_there(
    server: Server, small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "small", "--data", str(tmp_path / "local")]) == 0
    monkeypatch.setenv("M2L_DATA", str(tmp_path / "local"))
    server.requests.clear()
    assert main(["fetch", "small"]) == 0
    assert "0 files fetched, 3 already present" in capsys.readouterr().out
    assert server.requests == []


def test_interrupting_the_command_breaks_off_running_downloads(
    server: Server, small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, started = transfer.download, threading.Event()

    def slow(url: str, dest: Path, *rest: object, progress: Callable[[int, int | None], None], **more: object) -> Path:
        if url.endswith("0.bin"):
            started.wait(5)
            raise KeyboardInterrupt
        started.set()
        for _ in range(500):  # would take 5 s if nothing broke it off
            time.sleep(0.01)
            progress(0, None)
        return real(url, dest)

    monkeypatch.setattr(transfer, "download", slow)
    assert main(["fetch", "small", "--data", str(tmp_path), "--jobs", "2"]) == 130
    assert not list(tmp_path.rglob("*.bin"))


def test_mirrors_by_host_for_all_others_and_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    hub, zenodo = "https://huggingface.co/datasets/a/b", "https://zenodo.org/records/1/files/x?download=1"
    assert (mirrored(hub), mirrored(zenodo)) == (hub, zenodo)
    monkeypatch.setenv("M2L_FETCH_MIRROR", "zenodo.org=https://in.example/zenodo/ other.org:80=http://o")
    assert mirrored(zenodo) == "https://in.example/zenodo/records/1/files/x?download=1"
    assert mirrored("http://other.org:80/a") == "http://o/a"
    assert mirrored(hub) == hub
    monkeypatch.setenv("M2L_FETCH_MIRROR", "https://in.example/all/ zenodo.org=https://z.example")
    assert mirrored(zenodo) == "https://z.example/records/1/files/x?download=1"
    assert mirrored(hub) == "https://in.example/all/huggingface.co/datasets/a/b"
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    assert mirrored(hub) == "https://hub.example/datasets/a/b"
    for wrong in ("in.example", "zenodo.org=in.example", "=https://x"):
        monkeypatch.setenv("M2L_FETCH_MIRROR", wrong)
        with pytest.raises(FetchError, match=re.escape(repr(wrong))):
            mirrored(zenodo)


def test_a_host_that_is_away_is_no_missing_network(server: Server, tmp_path: Path) -> None:
    away, wrong = "http://127.0.0.1:1/x", f"{server.url}/nowhere"
    with pytest.raises(FetchError, match="HTTP 404") as caught:
        fetch_item(Item("x", (away, wrong), Expected()), tmp_path)
    assert not isinstance(caught.value, NoConnectionError)  # which would end the fetch of all other files
    with pytest.raises(NoConnectionError, match="is there a network"):
        fetch_item(Item("x", (away,), Expected()), tmp_path)
    with pytest.raises(FetchError, match="no address is known"):
        fetch_item(Item("x", (), Expected()), tmp_path)


def test_without_a_network_the_first_failure_is_enough(
    small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("M2L_FETCH_MIRROR", "http://127.0.0.1:1")
    assert main(["fetch", "small", "--data", str(tmp_path), "--jobs", "1"]) == 3
    err = capsys.readouterr().err
    assert err.count("is there a network?") == 1
    assert "2 more were not started" in err
    assert not list(tmp_path.rglob("*.bin"))


def test_dry_run_and_offline_transfer_nothing(
    server: Server, small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "small", "--dry-run"]) == 0
    assert "would fetch 3 files" in capsys.readouterr().out
    monkeypatch.setenv("M2L_OFFLINE", "1")
    assert main(["fetch", "small"]) == 3
    assert main(["fetch", "dac-44khz", "--json"]) == 3
    assert server.requests == []


def test_the_listing_names_every_license(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"open", "open-speech", "open-notes", "tinysol", "vggish"} <= set(rows)
    assert all(row["license"] for row in rows.values())
    assert rows["open"]["bytes"] == sum(int(item.expected.size or 0) for item in manifest_items("open_music.csv"))


def test_unknown_names_are_usage_errors_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "tinysoul"]) == 2
    assert "tinysol" in capsys.readouterr().err
