"""HTTP servers for tests: quiet when a client goes away, and without a wait that has no end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


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
