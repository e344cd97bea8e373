"""Fetching weights: what is said first, what is refused, and what arrives (from servers of our own)."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from http_helpers import serving

from benchmarks.autoencoders import create_autoencoder, list_autoencoders
from benchmarks.cli.main import main
from benchmarks.fetch.command import available
from benchmarks.fetch.options import Options
from benchmarks.fetch.suite import names_for, overview
from benchmarks.fetch.transfer import human
from benchmarks.fetch.weights import fetch_weights, patiently
from benchmarks.suite import load_suite
from benchmarks.weights.find import find_weight, restriction
from benchmarks.weights.table import WEIGHTS, WeightFile, WeightSource

CONTENT = bytes(range(256)) * 3000
CONFIG = b'{"small": true}'


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Server:
    """Files by path; the first response can be cut short."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """Release assets, and the model hub as far as a download needs it."""

    state: Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = urlsplit(self.path).path
        wanted = self.headers.get("Range")
        self.state.requests.append((self.command, path, wanted))
        content = self.state.files.get(path)
        if content is None:
            self.send_error(404)
            return
        first = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        small = len(content) < 100
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        self.send_header("ETag", f'"{git if small else sha(content)}"')
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        if body:
            rest = content[first:]
            if self.state.cut_after is not None:
                rest, self.state.cut_after = rest[: self.state.cut_after], None
            self.wfile.write(rest)
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    with serving(type("Handler", (Handler,), {"state": state})) as state.url:
        yield state


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("M2L_OFFLINE", "HF_HUB_OFFLINE", "M2L_FETCH_MIRROR", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def add(monkeypatch: pytest.MonkeyPatch, name: str, origin: str, *files: WeightFile, license: str = "MIT") -> None:
    monkeypatch.setitem(WEIGHTS, name, WeightSource(name, origin, files, license, "tests"))


# -- licenses


@pytest.mark.parametrize("license", ["MIT", "Apache-2.0", "ISC", "BSD-3-Clause", "CC0-1.0", "CC BY 4.0"])
def test_free_licenses_restrict_nothing(license: str) -> None:
    assert restriction(license) is None


@pytest.mark.parametrize(
    ("license", "why"),
    [
        ("CC BY-NC 4.0", "not for commercial use"),
        ("CC BY-NC-SA 4.0", "not for commercial use"),
        ("not stated", "all rights are reserved"),
        ("Stability AI Community", "read its terms"),
    ],
)
def test_others_say_how(license: str, why: str) -> None:
    assert why in str(restriction(license))


def test_nothing_is_transferred_under_a_license_that_was_not_accepted(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(monkeypatch, "nc", "github:a/b@1", WeightFile("x.bin"), license="CC BY-NC 4.0")
    server.files["/github.com/a/b/releases/download/1/x.bin"] = CONTENT
    monkeypatch.setenv("M2L_FETCH_MIRROR", server.url)
    assert main(["fetch", "nc"]) == 3
    said = capsys.readouterr().err
    assert [command for command, _, _ in server.requests] == ["HEAD"]
    assert said.index("license: CC BY-NC 4.0") < said.index("m2l-bench fetch nc --accept-license")
    assert "x.bin: 768.0 kB" in said
    assert main(["fetch", "nc", "--accept-license", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    assert (found["summary"], found["license"]) == ("fetched", "CC BY-NC 4.0")
    assert Path(found["dest"]).read_bytes() == CONTENT
    assert find_weight("nc") == Path(found["dest"])
    assert main(["fetch", "nc"]) == 0  # what is there needs no acceptance
    assert "already present" in capsys.readouterr().out


# -- release assets


def test_a_broken_download_goes_on_and_a_wrong_one_is_deleted(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add(monkeypatch, "cut", "github:a/b@1", WeightFile("x.bin", len(CONTENT), sha(CONTENT)))
    path = "/github.com/a/b/releases/download/1/x.bin"
    server.files[path], server.cut_after = CONTENT, 300_000
    monkeypatch.setenv("M2L_FETCH_MIRROR", server.url)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert fetch_weights("cut")["failed"] == []
    assert [wanted for command, _, wanted in server.requests if command == "GET"] == [None, "bytes=300000-"]
    folder = tmp_path / "cache" / "weights" / "cut"
    assert [item.name for item in folder.iterdir() if not item.name.startswith(".")] == ["x.bin"]
    server.files[path] = CONTENT[::-1]
    found = fetch_weights("cut", Options(overwrite=True))
    assert "sha256" in found["failed"][0]
    assert find_weight("cut").read_bytes() == CONTENT  # the good file is still there


def test_of_several_files_only_the_missing_ones_are_fetched(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = [WeightFile("a.bin", 3, sha(b"aaa")), WeightFile("b.bin", 3, sha(b"bbb"))]
    add(monkeypatch, "pair", "github:a/b@1", *files)
    (tmp_path / "cache" / "weights" / "pair").mkdir(parents=True)
    (tmp_path / "cache" / "weights" / "pair" / "a.bin").write_bytes(b"aaa")
    server.files["/github.com/a/b/releases/download/1/b.bin"] = b"bbb"
    monkeypatch.setenv("M2L_FETCH_MIRROR", server.url)
    assert fetch_weights("pair")["failed"] == []
    assert [path.rsplit("/", 1)[-1] for _, path, _ in server.requests] == ["b.bin"]


def test_a_missing_release_is_named(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("M2L_FETCH_MIRROR", server.url)
    assert main(["fetch", "vggish"]) == 3
    captured = capsys.readouterr()
    assert "HTTP 404" in captured.err
    tail = "/github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth"
    assert {path for _, path, _ in server.requests} == {tail}


# -- wheels


def test_a_wheel_gives_only_its_named_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = WeightFile("net/a.bin", None, sha(CONTENT)), WeightFile("net/b.bin")
    add(monkeypatch, "inwheel", "wheel:nosuchnet==2.0", *files)

    def pip(command: list[str], **_: object) -> None:
        assert command[-1] == "nosuchnet==2.0"
        assert "--no-deps" in command
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "nosuchnet-2.0-py3-none-any.whl", "w") as archive:
            archive.writestr("net/a.bin", CONTENT)
            archive.writestr("net/b.bin", b"b")
            archive.writestr("net/__init__.py", "")

    monkeypatch.setattr(subprocess, "run", pip)
    assert fetch_weights("inwheel")["failed"] == []
    folder = tmp_path / "cache" / "weights" / "inwheel"
    assert sorted(path.name for path in folder.iterdir()) == ["a.bin", "b.bin"]
    add(monkeypatch, "inwheel", "wheel:nosuchnet==2.0", WeightFile("net/a.bin", None, sha(b"other")))
    assert "sha256" in fetch_weights("inwheel", Options(overwrite=True))["failed"][0]


# -- a hub out of order


class Refusal(OSError):
    """Like the errors of the hub's library: with a response that has a status."""

    def __init__(self, code: int) -> None:
        super().__init__(f"HTTP {code}")
        self.response = SimpleNamespace(status_code=code)


def test_a_hub_that_is_out_of_order_is_asked_again_and_one_that_refuses_is_not() -> None:
    answers: list[int | str] = [503, 429, 500, "file"]
    waits: list[float] = []

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, int):
            raise Refusal(answer)
        return answer

    assert patiently(ask, waits.append) == "file"
    assert waits == [1.0, 2.0, 4.0]
    answers[:] = [404, "file"]
    with pytest.raises(Refusal, match="404"):
        patiently(ask, waits.append)
    answers[:] = [503] * 9
    with pytest.raises(Refusal, match="503"):
        patiently(ask, waits.append)
    assert len(answers) == 4


# -- the hub, in a process of its own: its library reads its settings once, on import

HUB = """
import json, sys
from benchmarks.weights.table import WEIGHTS, WeightFile, WeightSource
files = (WeightFile("config.json"), WeightFile("model.bin"))
WEIGHTS["hubbed"] = WeightSource("hubbed", "hub:owner/name@main", files, "CC BY-NC 4.0", "tests")
from benchmarks.fetch.command import available
from benchmarks.fetch.options import Options
from benchmarks.fetch.suite import names_for, overview
from benchmarks.fetch.transfer import human
from benchmarks.fetch.weights import fetch_weights
print(json.dumps(fetch_weights("hubbed", Options(accept_license=True))))
"""


def hub(server: Server, home: Path, **variables: str) -> tuple[dict, str]:
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **variables}
    done = subprocess.run(
        [sys.executable, "-c", HUB], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_the_hub_is_asked_first_and_its_cache_is_used(server: Server, tmp_path: Path) -> None:
    base = "/owner/name/resolve/main"
    server.files = {f"{base}/config.json": CONFIG, f"{base}/model.bin": CONTENT}
    home = tmp_path / "elsewhere"
    found, said = hub(server, home)
    assert found["failed"] == [], said
    git = hashlib.sha1(b"blob %d\0" % len(CONFIG) + CONFIG).hexdigest()
    assert [file["digest"] for file in found["files"]] == [f"git:{git}", f"sha256:{sha(CONTENT)}"]
    assert [file["size"] for file in found["files"]] == [len(CONFIG), len(CONTENT)]
    first_get = next(i for i, request in enumerate(server.requests) if request[0] == "GET")
    assert {path for _, path, _ in server.requests[:first_get]} == set(server.files)
    assert Path(found["dest"]).is_relative_to(home)  # HF_HOME is respected
    assert (Path(found["dest"]) / "model.bin").read_bytes() == CONTENT
    assert said.index("CC BY-NC 4.0") < said.index(f"model.bin: 768.0 kB, sha256:{sha(CONTENT)}")
    # Offline, what is there is found, and what is not is not asked for.
    count = len(server.requests)
    again, _ = hub(server, home, HF_HUB_OFFLINE="1")
    assert again["summary"] == "already present"
    missing, _ = hub(server, tmp_path / "third", HF_HUB_OFFLINE="1")
    assert missing["failed"] == ["downloads are switched off (HF_HUB_OFFLINE is set)"]
    assert len(server.requests) == count


def test_a_hub_that_does_not_answer_is_one_line(server: Server, tmp_path: Path) -> None:
    found, said = hub(server, tmp_path / "hf", HF_ENDPOINT="http://127.0.0.1:9")
    assert len(found["failed"]) == 1
    assert "\n" not in found["failed"][0]
    assert "size not known beforehand" in said


def test_a_damaged_file_without_a_replacement_is_named_with_both_reasons(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    held = tmp_path / "x.bin"
    held.write_bytes(CONTENT[:-1] + b"!")
    files = (WeightFile("x.bin", len(CONTENT), sha(CONTENT)),)
    monkeypatch.setitem(WEIGHTS, "held", WeightSource("held", "hub:owner/held@" + "c" * 40, files, "MIT", "a test"))

    def download(repository: str, path: str, *, revision: str, force_download: bool) -> str:
        if force_download:
            raise OSError("Force download failed due to the above error.") from ConnectionError("no route to host")
        return str(held)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    (message,) = fetch_weights("held")["failed"]
    assert "x.bin of owner/held: sha256 is" in message
    assert message.endswith("it was deleted, and fetching it anew failed: no route to host")
    assert not held.exists()


# -- a copy from elsewhere


def test_a_copy_is_taken_by_its_digest_whoever_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("M2L_OFFLINE", "1")  # nobody is asked
    files = (
        WeightFile("vae/config.json", len(CONFIG), sha(CONFIG)),
        WeightFile("vae/x.bin", len(CONTENT), sha(CONTENT)),
    )
    source = WeightSource("copied", "hub:owner/gated@" + "c" * 40, files, "CC BY-NC 4.0", "a test")
    monkeypatch.setitem(WEIGHTS, "copied", source)
    copy = tmp_path / "copy"
    (copy / "other" / "vae").mkdir(parents=True)
    (copy / "config.json").write_bytes(b"{}")  # another's, of that name
    (copy / "other" / "vae" / "config.json").write_bytes(CONFIG)
    (copy / "x.bin").write_bytes(CONTENT[:-1] + b"!")
    options = Options(source=copy, accept_license=True)
    assert "has no x.bin with the published digest" in fetch_weights("copied", options)["failed"][0]
    (copy / "x.bin").write_bytes(CONTENT)
    assert "to accept it" in fetch_weights("copied", Options(source=copy))["failed"][0]
    found = fetch_weights("copied", options)
    assert (found["summary"], found["failed"]) == ("fetched", [])
    assert (find_weight("copied") / "config.json").read_bytes() == CONFIG
    # What has no digest cannot be verified.
    monkeypatch.setitem(
        WEIGHTS, "copied", WeightSource("copied", source.origin, (WeightFile("y.bin"),), "MIT", "a test")
    )
    (copy / "y.bin").write_bytes(CONTENT)
    assert "y.bin: no digest is known" in fetch_weights("copied", options)["failed"][0]


# -- never implicitly


def test_nothing_is_downloaded_unless_fetch_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every registered system is constructed where nothing is installed or cached: no connection is tried."""

    def refuse(self: socket.socket, address: object) -> None:
        pytest.fail(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    missing = 0
    for name in list_autoencoders():
        try:
            create_autoencoder(name)
        except (FileNotFoundError, ImportError) as error:
            missing += "m2l-bench fetch" in str(error)
    assert missing


# -- a whole suite


def test_fetch_suite_names_everything_once_with_a_total_and_its_licenses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    monkeypatch.setenv("M2L_OFFLINE", "1")
    main(["fetch", "--suite", "paper", "--dry-run", "--json", "--data", str(tmp_path / "data")])
    out, err = capsys.readouterr()
    names = [row["name"] for row in json.loads(out)]
    assert names[:4] == ["musiccaps", "magnatagatune", "beatport", "tinysol"]
    systems = {"musika", "mousai-v2", "mousai-v3", "music2latent", "dac-44khz", "codicodec", "same-s", "mimi"}
    embedders = {"vggish", "musicnn-msd", "clap-630k-audioset-best", "clap-music_audioset_epoch_15_esc_90.14"}
    assert systems | embedders | {"clmr", "mert-v1-95m", "visqol-svr"} <= set(names)
    assert len(names) == len(set(names))
    assert "clap-630k-best" not in names
    assert err.count("in all at most") == 1
    listed = err[err.index("licenses:") : err.index("licenses:") + 2000]
    assert "CC BY-NC 4.0 (not for commercial use): music2latent, codicodec, mert-v1-95m" in listed


def test_fetch_suite_adds_up_what_the_tables_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sizes in the order of the list; a set that is here costs nothing."""
    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    monkeypatch.setenv("M2L_OFFLINE", "1")
    monkeypatch.setattr("benchmarks.fetch.suite.has_weight", lambda name: (name == "mimi", ""))
    rows = {row["name"]: row for row in available()}
    names = names_for(load_suite("paper"), rows)
    lines = overview(load_suite("paper"), names, rows.values())
    unsized = [name for name in names if rows[name]["bytes"] is None]
    assert set(unsized) <= {"beatport", "tinysol"}  # their host states sizes to whoever asks, no page does
    weights = [WEIGHTS[name] for name in names if name in WEIGHTS and name != "mimi"]
    data = sum(rows[name]["bytes"] or 0 for name in names if name not in WEIGHTS)
    total = data + sum(file.size or file.about or 0 for source in weights for file in source.files)
    assert f"in all at most {human(total)} to fetch, and {', '.join(unsized)} of unknown size" in lines
    assert total - data == pytest.approx(12.47e9, rel=0.001)
    for source in weights:
        (line,) = (line for line in lines if line.startswith(f"  {source.license}") and source.name in line)
        assert (restriction(source.license) or "") in line


def test_fetch_takes_a_suite_or_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--suite", "paper", "vggish"]) == 2
    assert "give --suite or names (vggish), not both" in capsys.readouterr().err
    assert main(["fetch", "--suite", "papers"]) == 2
