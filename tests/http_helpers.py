"""HTTP servers for tests: quiet when a client goes away, without a wait that has no end, and faulty on request."""

from __future__ import annotations

import base64
import hashlib
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class QuietServer(ThreadingHTTPServer):
    """Prints no traceback when a client closes its connection, which downloads that are broken off do."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port of this machine; yields the address of the server."""
    quiet = type(handler.__name__, (handler,), {"timeout": 30, "log_message": lambda self, *args: None})
    server = QuietServer(("127.0.0.1", 0), quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        # `shutdown` waits without a limit.
        threading.Thread(target=server.shutdown, daemon=True).start()
        thread.join(10)
        server.server_close()


@dataclass
class Server:
    """What the server has, and how it misbehaves (each fault as often as it says, on the paths it names)."""

    files: dict[str, bytes] = field(default_factory=dict)
    faulty: set[str] | None = None  # all paths if None
    cuts: int = 0  # responses that break off
    cut_after: int | None = None  # bytes of a body before they do; in the middle if None
    busy: int = 0  # 429s that say how long to wait
    errors: list[int] = field(default_factory=list)  # statuses to answer with first
    trickles: int = 0  # responses that send a little and then next to nothing
    ranges: bool = True
    etags: bool = True
    states_md5: bool = False
    dropped: threading.Event = field(default_factory=threading.Event)  # the client gave up on a trickle
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, range
    url: str = ""


@contextmanager
def serving_files() -> Iterator[Server]:
    """A server on this machine, with range requests and ETags."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(head=True)

        def do_GET(self) -> None:
            self.answer(head=False)

        def answer(self, head: bool) -> None:
            path, wanted = unquote(urlsplit(self.path).path), self.headers.get("Range")
            state.requests.append((self.command, path, wanted))
            faulty = not head and (state.faulty is None or path in state.faulty)
            if faulty and state.errors:
                return self.send_error(state.errors.pop(0))
            if faulty and state.busy > 0:
                state.busy -= 1
                self.send_response(429)
                self.send_header("Retry-After", "7")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            if path not in state.files:
                return self.send_error(404)
            body = state.files[path]
            md5 = hashlib.md5(body, usedforsecurity=False)
            tag = f'"{md5.hexdigest()}"'
            first = 0
            if state.ranges and wanted and self.headers.get("If-Range", tag) == tag:
                first = int(wanted.removeprefix("bytes=").rstrip("-"))
                if first >= len(body):
                    return self.send_error(416)
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
            if state.etags:
                self.send_header("ETag", tag)
            if state.states_md5:
                self.send_header("x-ms-blob-content-md5", base64.b64encode(md5.digest()).decode())
            self.send_header("Content-Length", str(len(body) - first))
            self.end_headers()
            if not head:
                self.send_body(body[first:], faulty)
                self.close_connection = True

        def send_body(self, body: bytes, faulty: bool) -> None:
            if faulty and state.cuts > 0:
                state.cuts -= 1
                body = body[: len(body) // 2 if state.cut_after is None else state.cut_after]
            elif faulty and state.trickles > 0:
                state.trickles -= 1
                self.wfile.write(body[: len(body) // 2])
                for byte in body[len(body) // 2 : -1]:  # for ever, unless the client gives up
                    time.sleep(0.02)
                    try:
                        self.wfile.write(bytes([byte]))
                    except OSError:
                        state.dropped.set()
                        return
                return
            self.wfile.write(body)

    with serving(Handler) as state.url:
        yield state
