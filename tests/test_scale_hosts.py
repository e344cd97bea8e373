"""Two hosts in network namespaces share a suite; one is cut off in the middle; the tables are those of one host.

The hosts are processes with networks of their own, joined by one cable that the test pulls. They see one
file system, as the nodes of a cluster do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_scale import write_suite

ROOT = Path(__file__).resolve().parent.parent
HEAD, OTHER = "10.77.0.1", "10.77.0.2"
FILES = ("table2.json", "table2.csv", "table2.md")
#: Short, because it holds sockets.
RAY_FOLDER = f"/tmp/m2l-ray-{os.getpid()}"
#: What lets hosts and driver into one ray cluster; newer versions ask for it.
RAY_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex * 2}


def why_not() -> str | None:
    """Why this machine cannot have network namespaces; None when it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "needs the commands ip (iproute2) and unshare (util-linux)"
    name = f"m2l-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"network namespaces are not permitted here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return None


class Hosts:
    """Two namespaces, `a` and `b`, joined by a cable; what is started on them is ended with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = {host: f"m2l-{host}-{os.getpid()}" for host in "ab"}
        self.cables = {host: f"m2l{host}{os.getpid() % 100000}" for host in "ab"}
        self.running: list[subprocess.Popen[bytes]] = []
        self.code = folder / "code"
        # A copy: workers refuse to compute when the code changes under a run.
        for package in ("m2l", "benchmarks", "probes"):
            ignore = shutil.ignore_patterns("__pycache__", "*.safetensors")
            shutil.copytree(ROOT / package, self.code / package, ignore=ignore)
        for file in ("scale_systems.py",):
            shutil.copy(ROOT / "tests" / file, self.code / file)
        self.signs = folder / "signs"
        self.signs.mkdir()

    def connect(self) -> None:
        for name in self.names.values():
            ip("netns", "add", name)
        ends = self.cables
        ip("link", "add", ends["a"], "netns", self.names["a"], "type", "veth", "peer", ends["b"],
           "netns", self.names["b"])  # fmt: skip
        for host, address in (("a", HEAD), ("b", OTHER)):
            inside = ("-n", self.names[host])
            ip(*inside, "addr", "add", f"{address}/24", "dev", ends[host])
            ip(*inside, "link", "set", ends[host], "up")
            ip(*inside, "link", "set", "lo", "up")

    def cut(self) -> None:
        """Pull the cable: nothing says goodbye, packets just stop."""
        ip("-n", self.names["b"], "link", "set", self.cables["b"], "down")

    def start(self, host: str, arguments: list[str], **more: str) -> subprocess.Popen[bytes]:
        log = open(self.folder / f"{host}-{len(self.running)}.log", "wb")  # noqa: SIM115
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.code),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SCALE_HOST": host,
            "SCALE_SIGNS": str(self.signs),
            "SCALE_SECONDS": "0.5",
            "OMP_NUM_THREADS": "1",
            **more,
        }
        command = ["ip", "netns", "exec", self.names[host], *arguments]
        process = subprocess.Popen(
            command, cwd=self.code, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        self.running.append(process)
        return process

    def done_by(self, host: str) -> int:
        """Clips a host has reconstructed with the slow system."""
        path = self.signs / host
        return len(path.read_text().split()) if path.exists() else 0

    def logs(self) -> str:
        return "\n".join(f"== {p.name}\n{p.read_text()[-1500:]}" for p in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        for name in self.names.values():
            found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
            for pid in found.stdout.split():  # everything in our own namespaces, and nothing else
                subprocess.run(["kill", "-9", pid], check=False, stderr=subprocess.DEVNULL)
        for process in self.running:
            process.wait()
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(RAY_FOLDER, ignore_errors=True)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    if reason := why_not():
        pytest.skip(reason)
    made = Hosts(tmp_path)
    try:
        made.connect()
        yield made
    finally:
        made.close()


def start_dask(hosts: Hosts) -> str:
    address = f"tcp://{HEAD}:8786"
    # Lost hosts are noticed in seconds instead of the default half minute.
    quick = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "15s", "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "20s"}
    dask = [sys.executable, "-m", "dask"]
    hosts.start("a", [*dask, "scheduler", "--host", HEAD, "--port", "8786", "--no-dashboard"], **quick)
    for host, own in (("a", HEAD), ("b", OTHER)):
        worker = [*dask, "worker", address, "--host", own, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
        hosts.start(host, [*worker, "--local-directory", str(hosts.folder / f"dask-{host}")], **quick)
    return address


def start_ray(hosts: Hosts) -> str:
    quick = {
        "RAY_health_check_initial_delay_ms": "2000",
        "RAY_health_check_period_ms": "2000",
        "RAY_health_check_timeout_ms": "3000",
        "RAY_health_check_failure_threshold": "3",
        "RAY_USAGE_STATS_ENABLED": "0",
        **RAY_TOKEN,
    }
    ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block",
           "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]  # fmt: skip
    folder = RAY_FOLDER
    Path(folder).mkdir(exist_ok=True)
    head = [*ray, "--head", f"--node-ip-address={HEAD}", "--port=6379", "--include-dashboard=false"]
    hosts.start("a", [*head, f"--temp-dir={folder}"], **quick)
    address = f"{HEAD}:6379"
    wait_for(lambda: answers(hosts, HEAD, 6379), 180, hosts)
    # The other host must not see the head's sockets: it gets a folder of its own under the same name.
    alone = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {folder} && exec "$@"', "sh"]
    hosts.start("b", [*alone, *ray, f"--address={address}", f"--node-ip-address={OTHER}"], **quick)
    return address


def answers(hosts: Hosts, address: str, port: int) -> bool:
    code = f"import socket; socket.create_connection(({address!r}, {port}), 1)"
    command = ["ip", "netns", "exec", hosts.names["a"], sys.executable, "-S", "-c", code]
    return subprocess.run(command, capture_output=True).returncode == 0


def wait_for(condition: object, seconds: float, hosts: Hosts) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, hosts.logs()
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dask", "ray"])
def test_a_host_cut_off_in_the_middle_changes_no_byte(hosts: Hosts, tmp_path: Path, name: str) -> None:
    pytest.importorskip({"dask": "distributed", "ray": "ray"}[name])
    systems = ["scale_systems:Slow", "scale_systems:Instant0"]
    toml = write_suite(tmp_path, size=40, systems=systems, unit_clips=1)
    command = [sys.executable, "-m", "benchmarks.cli", "tables", "--suite", str(toml)]
    alone = [*command, "--executor", "serial", "--store", str(tmp_path / "alone"), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(hosts.code), "SCALE_SECONDS": "0", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*alone, "--results", str(tmp_path / "expected")],
        cwd=hosts.code,
        env=environment,
        check=True,
        capture_output=True,
    )
    address = start_dask(hosts) if name == "dask" else start_ray(hosts)
    together = [*command, "--executor", name, "--address", address, "--store", str(tmp_path / "shared")]
    driver = hosts.start("a", [*together, "--results", str(tmp_path / "found")], **RAY_TOKEN)
    wait_for(lambda: hosts.done_by("b") >= 3 or driver.poll() is not None, 300, hosts)
    before = hosts.done_by("a") + hosts.done_by("b")
    assert driver.poll() is None, hosts.logs()
    assert before < 40
    hosts.cut()
    cut_at = time.monotonic()
    wait_for(lambda: driver.poll() is not None, 420, hosts)
    print(
        f"\n{name}: cut after {before} of 40 slow units ({hosts.done_by('b')} on the lost host), finished "
        f"{time.monotonic() - cut_at:.0f} s later, {hosts.done_by('a')} on the other"
    )
    assert driver.returncode == 0, hosts.logs()
    for file in FILES:
        expected = (tmp_path / "expected" / "simulated" / file).read_bytes()
        assert (tmp_path / "found" / "simulated" / file).read_bytes() == expected
