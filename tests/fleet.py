"""Gateways as users run them: `visiongate serve` in processes of its own, that may be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.gateway import CONFIG, PEPPER, merged

ROOT = Path(__file__).parents[1]
START_SECONDS = 30.0
STOP_SECONDS = 15.0

#: Over tests.gateway's CONFIG: time-outs that no chaos on a slow machine reaches by itself.
PATIENT: dict[str, Any] = {
    "server": {"workers": 1},
    "providers": {"openai": {"timeouts": {"first_byte": "60s", "idle": "60s", "total": "10m"}}},
}


class Worker:
    """One `visiongate serve`, of one worker if not told otherwise; `url`, `admin` and the `pid` of
    the first worker are known once it is `ready`.
    """

    def __init__(self, config: Path, log: Path) -> None:
        self.url = self.admin = ""
        self.pid = 0
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "proxy", "serve", "-c", str(config)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a group of its own, to be killed as one
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def log(self) -> list[dict[str, Any]]:
        """Its lines so far; what is not JSON, a traceback, as {"raw": line}."""
        found = []
        for line in self._log.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"raw": line})
        return found

    def ready(self) -> Worker:
        """Wait until it serves. Raises RuntimeError with its log if it does not."""
        deadline = time.monotonic() + START_SECONDS
        while self.alive and time.monotonic() < deadline:
            for line in self.log():
                if line.get("event") == "serving":
                    self.url, self.admin = line["public"], line["admin"]
                    self.pid = line["workers"][0]
                    return self
            time.sleep(0.01)  # between two looks at its log
        raise RuntimeError(f"the gateway did not start:\n{self._log.read_text()}")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask_to_stop(self) -> None:
        """As an operator does; a second time it would not finish what is under way."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Until it has stopped, at last by force."""
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


class Fleet:
    """Workers with one configuration. `log` has the lines of all that ever ran."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self._folder = folder
        self._config = folder / "visiongate.yaml"
        self._config.write_text(yaml.safe_dump(config))
        self._all: list[Worker] = []
        self.workers: list[Worker] = []

    def begin(self) -> Worker:
        """Start one more; it is among `workers` once `join` has seen it serve."""
        worker = Worker(self._config, self._folder / f"worker-{len(self._all)}.log")
        self._all.append(worker)
        return worker

    def join(self, worker: Worker) -> None:
        self.workers.append(worker.ready())

    def kill(self, worker: Worker) -> None:
        """SIGKILL."""
        self.workers.remove(worker)
        worker.kill()

    def log(self) -> list[dict[str, Any]]:
        return [line for worker in self._all for line in worker.log()]

    def stop(self) -> None:
        for worker in self._all:
            worker.ask_to_stop()
        for worker in self._all:
            worker.wait()
        self.workers.clear()


@contextlib.contextmanager
def run_fleet(
    folder: Path, store_url: str, upstream_url: str, workers: int, **changes: Any
) -> Iterator[Fleet]:
    """So many workers on one store, with `changes` over CONFIG and PATIENT."""
    where = {
        "store": {"url": store_url, "data": str(folder / "var")},
        "keys": {"pepper": PEPPER},
        "providers": {"openai": {"base_url": upstream_url}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    fleet = Fleet(folder, merged(merged(merged(CONFIG, PATIENT), where), changes))
    try:
        for worker in [fleet.begin() for _ in range(workers)]:
            fleet.join(worker)
        yield fleet
    finally:
        fleet.stop()
