"""Commands that use an embedded Valkey, in processes of their own, and what they leave behind."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

ROOT = Path(__file__).parents[2]
SECONDS = 30

STAY = """
with EmbeddedValkey(data) as store:
    print(store.pid, store.url, flush=True)
    sys.stdin.readline()
"""
IN_AND_OUT = """
import redis
sys.stdin.readline()
for _ in range(10):
    with EmbeddedValkey(data) as store, redis.Redis.from_url(store.url, retry=None) as client:
        client.incr("visits")
"""
INTERRUPTED = """
import redis, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored below a shell's "&"
with EmbeddedValkey(data) as store, redis.Redis.from_url(store.url) as client:
    try:
        print(store.pid, store.url, flush=True)
        sys.stdin.readline()
    except KeyboardInterrupt:
        print(client.ping())
"""
FORKED = """
with EmbeddedValkey(data) as store:
    if os.fork() == 0:
        sys.exit()
    os.wait()
    print(store.pid, store.url, flush=True)
    sys.stdin.readline()
"""
ORPHANING = """
with EmbeddedValkey(data) as store:
    if os.fork() == 0:
        sys.stdin.readline()
        os._exit(0)
print(store.pid, store.url, flush=True)
"""


class Process:
    """A command that runs `body` with `data`, until a line comes in or it is killed."""

    def __init__(self, data: Path, body: str = STAY) -> None:
        prelude = "import os, sys; from pathlib import Path; data = Path(sys.argv[1])\n"
        prelude += "from proxy.store.embedded import EmbeddedValkey\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", prelude + body, str(data)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a group of its own, for its Ctrl-C
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=SECONDS)

    def store(self) -> tuple[int, str]:
        assert self.process.stdout
        pid, url = self.process.stdout.readline().split()
        return int(pid), url

    def leave(self) -> str:
        out, _ = self.process.communicate("\n", timeout=SECONDS)
        assert self.process.returncode == 0
        return out

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=SECONDS)


def servers(data: Path) -> list[int]:
    """The pids of all that run inside `data`, as its servers do."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(data):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def kill_server(data: Path, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    with (data / "server.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is gone


def client(url: str) -> Any:
    return redis.Redis.from_url(url, decode_responses=True)


def put(url: str, name: str, value: str) -> None:
    with client(url) as store:
        store.set(name, value)
        assert store.waitaof(1, 0, 5000)[0] == 1


def get(url: str, name: str) -> str | None:
    with client(url) as store:
        value: str | None = store.get(name)
        return value


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data directory to be, in which no server may be left."""
    path = tmp_path.resolve() / "var"
    yield path
    left = servers(path)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []
