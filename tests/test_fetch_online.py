"""`doctor --online`: every known address is asked once, and what it says is compared with the tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from http_helpers import serving

from benchmarks.cli.main import main
from benchmarks.errors import MISSING, USAGE
from benchmarks.fetch.corpora import clips
from benchmarks.fetch.corpora.clips import ToolError, yt_dlp
from benchmarks.fetch.corpora.musiccaps import LIST_URLS
from benchmarks.fetch.download import AGENT
from benchmarks.fetch.online import ask_all
from benchmarks.weights.table import WEIGHTS, WeightFile, WeightSource


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Sizes by host and path of a mirror that answers HEAD; 404 for all others, 403 for a size of -1."""
    sizes: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            size = sizes.get(urlsplit(self.path).path)
            if size is None or size < 0:
                self.send_error(404 if size is None else 403)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()

    for name in ("M2L_OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(Handler) as url:
        monkeypatch.setenv("M2L_FETCH_MIRROR", url)
        yield sizes


def test_addresses_answer_with_their_sizes(mirror: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    files = tuple(WeightFile(f"{name}.bin", 10) for name in ("right", "short", "refused", "gone"))
    monkeypatch.setitem(WEIGHTS, "mine", WeightSource("mine", "github:me/weights@v1", files, "MIT", "tests"))
    folder = "/github.com/me/weights/releases/download/v1"
    mirror |= {f"{folder}/right.bin": 10, f"{folder}/short.bin": 7, f"{folder}/refused.bin": -1}
    found = {answer.address.rpartition("/")[2]: answer for answer in ask_all(["mine"])}
    assert [found[file.path].problem for file in files[:2]] == ["", "7 bytes, expected 10"]
    assert "403" in found["refused.bin"].problem
    assert "404" in found["gone.bin"].problem
    assert found["short.bin"].stated == 7


def test_every_name_that_has_a_fixed_address_is_asked(mirror: dict[str, int]) -> None:
    mirror[urlsplit(LIST_URLS[0]).netloc.join(("/", "")) + urlsplit(LIST_URLS[0]).path] = 2_939_484
    names = {answer.name for answer in ask_all(["musiccaps", "tinysol", "beatport", "magnatagatune", "vggish", "clmr"])}
    assert names == {"musiccaps", "tinysol", "beatport", "magnatagatune", "vggish", "clmr"}
    assert [answer.stated for answer in ask_all(["musiccaps"])] == [2_939_484]


def test_the_command_counts_what_is_fine(
    mirror: dict[str, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.fetch.online._data", list)
    for name in list(WEIGHTS):
        monkeypatch.delitem(WEIGHTS, name)
    files = (WeightFile("a.bin", 10), WeightFile("b.bin"))
    monkeypatch.setitem(WEIGHTS, "mine", WeightSource("mine", "github:me/weights@v1", files, "MIT", "tests"))
    mirror["/github.com/me/weights/releases/download/v1/a.bin"] = 10
    assert main(["doctor", "--online"]) == MISSING
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 2 addresses are fine"
    assert main(["doctor", "--online", "--json"]) == MISSING
    records = json.loads(capsys.readouterr().out)
    assert [record["stated"] for record in records] == [10, None]


def test_offline_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("M2L_OFFLINE", "1")
    assert main(["doctor", "--online"]) == USAGE
    assert "M2L_OFFLINE is set" in capsys.readouterr().err


@pytest.mark.network
def test_all_addresses_are_fine() -> None:
    assert [str(answer) for answer in ask_all() if answer.problem] == []


def test_programs_give_their_own_name_and_version() -> None:
    name, slash, version = AGENT["User-Agent"].partition("/")
    assert (name, slash) == ("m2l-bench", "/")
    assert version[:1].isdigit()


# ---- yt-dlp's JavaScript runtime -------------------------------------------------------------------------


def programs(monkeypatch: pytest.MonkeyPatch, *present: str) -> None:
    monkeypatch.setattr(clips.shutil, "which", lambda name: str(Path("/bin") / name) if name in present else None)


def test_ytdlp_is_told_of_the_runtime_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    programs(monkeypatch, "ffmpeg", "yt-dlp", "node", "qjs")
    assert yt_dlp() == ["/bin/yt-dlp", "--js-runtimes", "node"]
    programs(monkeypatch, "ffmpeg", "yt-dlp", "qjs")
    assert yt_dlp() == ["/bin/yt-dlp", "--js-runtimes", "quickjs"]


def test_without_a_runtime_no_clip_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    programs(monkeypatch, "ffmpeg", "yt-dlp")
    with pytest.raises(ToolError, match=r"no JavaScript runtime .*deno, node, bun, qjs"):
        yt_dlp()
    assert yt_dlp(["--js-runtimes=deno:/opt/deno"]) == ["/bin/yt-dlp"], "the user knows of one"
