"""Servers that answer as the model hub, Zenodo, GitHub, a university's Apache and a package index do.

Each real host has a server of its own, so that one can be away while the others answer. What they have in common
(ranges, ETags, HEAD, faults) is in `_Handler`; a subclass finds the content and adds the headers of its kind.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .published import OnHub, Published

#: What a server can be told to do once: 503; 429 with Retry-After; close midway; other bytes of that length; nothing.
FAULTS = ("5xx", "busy", "cut", "wrong", "fine")
#: The token that the hub accepts for gated repositories.
TOKEN = "hf_world"
#: Files that the hub keeps outside git, as its default .gitattributes says.
_LARGE = (".bin", ".pt", ".pth", ".h5", ".safetensors", ".ckpt", ".zip")
_BLOCK = 1 << 20


@dataclass
class Host:
    """State of one server.

    Attributes:
        name: Host that it stands for.
        files: What is published.
        peers: Addresses of all servers by host, for redirects.
        faults: Faults to come, each used up by one GET of a file.
        always: A flaky host: faults that it goes through again and again.
        requests: Method, path and Range of every request so far.
    """

    name: str
    files: Published
    peers: dict[str, str]
    faults: deque[str] = field(default_factory=deque)
    always: tuple[str, ...] = ()
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self) -> str | None:
        with self.lock:
            if not self.faults:
                self.faults.extend(self.always)
            return self.faults.popleft() if self.faults else None


class _Handler(BaseHTTPRequestHandler):
    """Files with HEAD, GET, ranges and ETags."""

    host: Host
    #: Whether the server takes Range.
    ranges = True

    def do_HEAD(self) -> None:
        self._request()

    def do_GET(self) -> None:
        self._request()

    def _request(self) -> None:
        path = unquote(urlsplit(self.path).path)
        with self.host.lock:
            self.host.requests.append((self.command, path, self.headers.get("Range")))
        self.close_connection = True
        self.answer(path)

    def answer(self, path: str) -> None:
        """Answer a request; by default, with the published file of that address."""
        self.send_file(self.host.files.page(self.host.name, path))

    def send_empty(self, code: int, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_text(self, text: str, kind: str = "text/html") -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def send_file(self, file: Path | None, **headers: str) -> None:
        """Send a file, or the part that is asked for, or what the next fault makes of it."""
        if file is None or not file.is_file():
            return self.send_empty(404)
        size = file.stat().st_size
        tag = headers.pop("ETag", None) or f'"{size:x}-{file.stat().st_mtime_ns // 1000:x}"'
        fault = self.host.next_fault() if self.command == "GET" and size else None
        if fault == "5xx":
            return self.send_empty(503)
        if fault == "busy":
            return self.send_empty(429, Retry_After="1")
        # Which part.
        first, wanted = 0, self.headers.get("Range", "")
        if self.ranges and wanted.startswith("bytes=") and self.headers.get("If-Range", tag) == tag:
            first = int(wanted.removeprefix("bytes=").partition("-")[0])
            if first >= size:
                return self.send_empty(416, Content_Range=f"bytes */{size}")
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        if self.ranges:
            self.send_header("Accept-Ranges", "bytes")
        for name, value in {"ETag": tag, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(size - first))
        self.end_headers()
        if self.command == "GET":
            self._send_body(file, first, size, fault)

    def _send_body(self, file: Path, first: int, size: int, fault: str | None) -> None:
        end = first + (size - first) // 2 if fault == "cut" else size
        with file.open("rb") as source:
            source.seek(first)
            while (left := end - source.tell()) > 0:
                block = source.read(min(left, _BLOCK))
                self.wfile.write(bytes(255 - byte for byte in block[:64]) + block[64:] if fault == "wrong" else block)


class Apache(_Handler):
    """MagnaTagATune's host: plain files, ETags of size and time, no digest. Raw files of repositories are alike."""


class Zenodo(_Handler):
    """Records, as files and by the API; refuses the names that Python's libraries give themselves.

    The refusal is as described in bakta#419 and thunder#8: 403 since January 2026.
    """

    def answer(self, path: str) -> None:
        agent = self.headers.get("User-Agent", "").lower()
        if not agent or agent.startswith(("python", "urllib", "wget")):
            return self.send_empty(403)
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "records"] and len(parts) == 3:
            return self._record(parts[2])
        if parts[:2] == ["api", "records"] and parts[-1] == "content":
            path = f"/records/{parts[2]}/files/{parts[4]}"
        file = self.host.files.page(self.host.name, path)
        if file is None:
            return self.send_empty(404)
        # Its checksum header is in hex, against RFC 1864.
        self.send_file(file, Content_MD5=self.host.files.digest(file, "md5"))

    def _record(self, number: str) -> None:
        rows = [
            {"key": file.name, "size": file.stat().st_size, "checksum": f"md5:{self.host.files.digest(file, 'md5')}"}
            for file in self.host.files.folder(self.host.name, f"/records/{number}/files")
        ]
        if not rows:
            return self.send_empty(404)
        self.send_text(json.dumps({"id": int(number), "files": rows}), "application/json")


class GitHub(_Handler):
    """Release assets: a redirect to a signed address at another host."""

    def answer(self, path: str) -> None:
        if self.host.files.asset(path) is None:
            return self.send_empty(404)
        signed = f"{self.host.peers['release-assets.githubusercontent.com']}{path}?sig=world"
        self.send_empty(302, Location=signed)


class Assets(_Handler):
    """Where release assets lie; without the signature there is nothing."""

    def answer(self, path: str) -> None:
        if "sig=" not in self.path:
            return self.send_empty(403)
        self.send_file(self.host.files.asset(path))


class Raw(_Handler):
    """Files of repositories at a commit: the raw ones, with pointers for large files, and the large files."""

    def answer(self, path: str) -> None:
        file = self.host.files.raw(self.host.name, path)
        if file is None and (large := self.host.files.page("media.githubusercontent.com", f"/media{path}")):
            return self.send_text(self.host.files.pointer(large), "text/plain")
        self.send_file(file)


class Hub(_Handler):
    """The model hub: `/OWNER/NAME/resolve/REVISION/PATH`, and `/datasets/…` alike; `/raw/` gives pointers.

    Large files redirect to the host of large files, small ones to `/api/resolve-cache/`; both state size and digest.
    """

    def answer(self, path: str) -> None:
        if path.startswith("/api/resolve-cache/"):
            return self._small(path.removeprefix("/api/resolve-cache"))
        found = self.host.files.on_hub(path)
        if found.error:
            code, error, message = found.error
            return self.send_empty(code, X_Error_Code=error, X_Error_Message=message)
        if found.moved:
            return self.send_empty(307, Location=found.moved)
        if found.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            anonymous = "Authorization" not in self.headers
            message = f"Access to model {found.repository} is restricted. You must have access to it."
            return self.send_empty(401 if anonymous else 403, X_Error_Code="GatedRepo", X_Error_Message=message)
        if (fault := self.host.next_fault()) in ("5xx", "busy"):
            return self.send_empty(503) if fault == "5xx" else self.send_empty(429, Retry_After="1")
        if found.file is None:
            return self.send_empty(404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
        self._pointer(found.file) if "/raw/" in path else self._redirect(found, path)

    def _redirect(self, found: OnHub, path: str) -> None:
        file, files = found.file, self.host.files
        assert file is not None
        stated = {"X_Repo_Commit": found.commit, "X_Linked_Size": str(file.stat().st_size)}
        if file.name.endswith(_LARGE):
            sha256 = files.digest(file, "sha256")
            place = f"{self.host.peers['cdn-lfs.huggingface.co']}/{found.repository}/{sha256}?Signature=world"
            return self.send_empty(302, Location=place, X_Linked_ETag=f'"{sha256}"', **stated)
        tag = f'"{files.digest(file, "git")}"'
        self.send_empty(307, Location=f"/api/resolve-cache{path}", X_Linked_ETag=tag, **stated)

    def _small(self, path: str) -> None:
        found = self.host.files.on_hub(path)
        if found.file is None:
            return self.send_empty(404)
        tag = f'"{self.host.files.digest(found.file, "git")}"'
        self.send_file(found.file, ETag=tag, X_Repo_Commit=found.commit)

    def _pointer(self, file: Path) -> None:
        if file.name.endswith(_LARGE):
            return self.send_text(self.host.files.pointer(file), "text/plain")
        self.send_file(file)


class Large(_Handler):
    """The hub's host of large files, by digest; refuses the hub's token, as signed addresses do."""

    def answer(self, path: str) -> None:
        if "Signature=" not in self.path or "Authorization" in self.headers:
            return self.send_empty(400)
        sha256 = path.rpartition("/")[2]
        self.send_file(self.host.files.by_digest(sha256), ETag=f'"{sha256}"')


class Index(_Handler):
    """A package index in the simple format (PEP 503)."""

    def answer(self, path: str) -> None:
        if path.startswith("/simple/"):
            name = path.removeprefix("/simple/").strip("/").replace("_", "-")
            links = [
                f'<a href="/files/{wheel.name}#sha256={self.host.files.digest(wheel, "sha256")}">{wheel.name}</a>'
                for wheel in self.host.files.wheels()
                if wheel.name.partition("-")[0].lower().replace("_", "-") == name
            ]
            return self.send_text("\n".join(links)) if links else self.send_empty(404)
        wheel = path.rpartition("/")[2]
        self.send_file(next((file for file in self.host.files.wheels() if file.name == wheel), None))


#: Host -> how its server answers.
HOSTS: dict[str, type[_Handler]] = {
    "huggingface.co": Hub,
    "cdn-lfs.huggingface.co": Large,
    "zenodo.org": Zenodo,
    "github.com": GitHub,
    "release-assets.githubusercontent.com": Assets,
    "raw.githubusercontent.com": Raw,
    "media.githubusercontent.com": Raw,
    "mirg.city.ac.uk": Apache,
    "mi.soi.city.ac.uk": Apache,
    "pypi": Index,
}
#: The flaky mirror: three of five answers are refusals or break off.
FLAKY = {"mi.soi.city.ac.uk": ("5xx", "cut", "fine", "busy", "fine")}


def handler_of(host: Host) -> type[BaseHTTPRequestHandler]:
    """The class of request handlers of one server."""
    kind = HOSTS[host.name]
    return type(kind.__name__, (kind,), {"host": host})
