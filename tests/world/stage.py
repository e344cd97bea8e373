"""The servers of a world, and the environment in which a command meets nothing else."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from .overrides import write_site
from .published import Published
from .servers import FAULTS, FLAKY, HOSTS, Host, handler_of

_TESTS = Path(__file__).resolve().parent.parent


class World:
    """Servers on 127.0.0.1 for the files below a folder, from `with` to its end.

    Args:
        root: built by `tests.world.data.build` (and `published_weights`).

    Attributes:
        hosts: state of each server by the host that it stands for: faults to come, requests so far.
        variables: what a command needs in its environment to meet this world.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        files, peers = Published(self.root), dict[str, str]()
        self.hosts = {name: Host(name, files, peers, always=FLAKY.get(name, ())) for name in HOSTS}
        self.variables: dict[str, str] = {}
        self._peers, self._running = peers, dict[str, ExitStack]()

    def __enter__(self) -> World:
        write_site(self.root)
        for name in self.hosts:
            self._start(name)
        mirrors = {name: address for name, address in self._peers.items() if name in _FETCHED}
        paths = [str(self.root / "site"), str(_TESTS), str(_TESTS.parent), os.environ.get("PYTHONPATH", "")]
        self.variables = {
            "HF_ENDPOINT": self._peers["huggingface.co"],
            "M2L_FETCH_MIRROR": " ".join(f"{host}={address}" for host, address in mirrors.items()),
            "PIP_INDEX_URL": f"{self._peers['pypi']}/simple/",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "M2L_CACHE": str(self.root / "cache"),
            "HF_HOME": str(self.root / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "PATH": f"{self.root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        }
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in list(self._running):
            self.stop(name)

    @property
    def env(self) -> dict[str, str]:
        """The whole environment of a command."""
        ours = ("M2L_OFFLINE", "HF_HUB_OFFLINE", "M2L_DATA", "HF_TOKEN", "HTTP_PROXY", "http_proxy")
        return {name: value for name, value in os.environ.items() if name not in ours} | self.variables

    def fail(self, host: str, *kinds: str) -> None:
        """Let the next answers of a server go wrong: `FAULTS`, one after the other; "down" stops it.

        Raises:
            ValueError: there is no such server or fault.
        """
        if host not in self.hosts or any(kind not in (*FAULTS, "down") for kind in kinds):
            raise ValueError(f"no fault {kinds} of {host!r}: {', '.join(HOSTS)}; {', '.join(FAULTS)}, down")
        self.hosts[host].faults.extend(kind for kind in kinds if kind != "down")
        if "down" in kinds:
            self.stop(host)

    def stop(self, host: str) -> None:
        """Take a server away: connections to it are refused."""
        self._running.pop(host).close()

    def _start(self, name: str) -> None:
        # Imported here, since `http_helpers` lies beside the tests.
        from http_helpers import serving

        stack = ExitStack()
        self._peers[name] = stack.enter_context(serving(handler_of(self.hosts[name])))
        self._running[name] = stack


#: Hosts that `m2l-bench fetch` asks itself, not through the hub's library or pip.
_FETCHED = frozenset(HOSTS) - {
    "huggingface.co",
    "cdn-lfs.huggingface.co",
    "release-assets.githubusercontent.com",
    "pypi",
}
