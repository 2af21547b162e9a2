"""A master whose workers do not start, hang or die, or whose machine has no room, no process or no
reader of its log left.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import yaml

from proxy import master as master_module
from proxy import scraping, serve
from proxy.forked import LEAVES, LIVES
from proxy.generation import Generation
from proxy.master import Master
from proxy.metrics import Metrics
from proxy.signals import Signals
from tests.gateway import CONFIG, PEPPER, merged, until
from tests.masters import forked, generation, idle_master, signals_sent
from tests.scripted import ScriptedUpstream, chat_stream
from tests.test_master import answered, until_total
from tests.web.under_way import USAGE
from tests.web.workers import alive, make_key, serving


async def test_metrics_that_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose metrics cannot be written tells its master that it lives all the same, and
    gives alarm once.
    """
    monkeypatch.setattr(serve, "_PULSE", 0.001)
    metrics = Metrics()
    monkeypatch.setattr(metrics, "tell", refuse)
    gate: Any = SimpleNamespace(door=SimpleNamespace(metrics=metrics))
    ours, its = socket.socketpair()
    with ours, its:
        ours.setblocking(False)
        pulse = asyncio.create_task(serve._live(gate, its, asyncio.Event()))
        for _ in range(3):
            async with asyncio.timeout(4):
                assert await asyncio.get_running_loop().sock_recv(ours, 1) == b"."
        pulse.cancel()
    assert metrics.alarms["metrics_unwritten",] == 1


def refuse(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def no_process() -> NoReturn:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Master]:
    """One that listens; the test's own signals are as they were afterwards."""
    monkeypatch.setattr(scraping, "join", lambda *_: None)
    made = idle_master(tmp_path)
    made._signals = Signals()
    made._signals.waited_for()
    made._listen(tmp_path)
    try:
        yield made
    finally:
        made._signals.undo()
        made._scrapes.close()


def failures(master: Master) -> float:
    return master._alarms.labels("fork_failed")._value.get()


def test_no_process_for_a_worker(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine has no room for another process, the master gives alarm, hears signals as
    ever, and tries again later.
    """
    monkeypatch.setattr(os, "fork", no_process)
    master._take_in(generation(2))
    for _ in range(2):  # at once it does not try again
        master._fill()
        assert failures(master) == 1
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    monkeypatch.setattr(os, "fork", iter((4711, 4712)).__next__)
    master._short_until = 0
    master._fill()
    assert list(master._workers) == [4711, 4712]
    for worker in master._workers.values():
        worker.link.close()


def test_no_process_for_a_scrape(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine has no room for the process of a scrape, the scrape alone fails."""
    monkeypatch.setattr(os, "fork", no_process)
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(master._folder / scraping.SOCKET))
        master._wait()
        assert asking.recv(1) == b""
    assert failures(master) == 1


def test_no_file_for_a_scrape(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no file can be opened, those who ask wait, and the master does not turn for them."""
    fds = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(master_module, "_LOOK", 0.001)
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(master._folder / scraping.SOCKET))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, fds[1]))
        try:
            for _ in range(3):
                master._wait()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, fds)
    assert failures(master) == 1


def test_many_reloads_are_one(master: Master) -> None:
    """SIGHUP that came several times is obeyed once, and a stop that came with it first."""
    prepared: list[None] = []

    def prepare(before: Sequence[Generation]) -> Generation:
        prepared.append(None)
        raise ValueError("wrong")

    master._prepare = prepare
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGHUP)
    master._wait()
    assert len(prepared) == 1
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
        os.kill(os.getpid(), number)
    master._wait()
    assert (len(prepared), master._stops) == (1, 2)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    return signals_sent(monkeypatch)


@pytest.mark.parametrize("reload", [True, False])
def test_a_master_that_stood_still(
    master: Master, killed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, reload: bool
) -> None:
    """Workers that could not be listened to, since a reload was prepared for long or all stood
    still, are not taken to hang.
    """
    clock = Clock()
    monkeypatch.setattr(master_module, "time", clock)
    forked(master, 1, generation(1), heard=clock.now)
    master._reap()
    clock.now += 3600
    if reload:
        master._prepare = refuse
        master._signalled(signal.SIGHUP)
    master._reap()
    assert killed == []
    for _ in range(61):
        clock.now += 1
        master._reap()
    assert killed == [(1, signal.SIGKILL)]


class Clock:
    """It stands."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("serves", [True, False])
def test_workers_that_do_not_start(
    killed: list[tuple[int, int]], tmp_path: Path, serves: bool
) -> None:
    """Where a new configuration's worker dies before all serve, the others of it are stopped, and
    what was served goes on; at the first start all is over.
    """
    master = idle_master(tmp_path)
    old, new = generation(1), generation(2)
    if serves:
        master._serving = old
        forked(master, 1, old, ready=True)
    master._take_in(new)
    forked(master, 2, new, ready=True)
    dead = forked(master, 3, new)
    del master._workers[3]
    master._died(dead, 1, dead.born)
    assert master._coming is None
    assert killed[0] == (2, signal.SIGTERM)
    assert (master._stops, master._code) == ((0, 0) if serves else (1, 1))
    assert (1, signal.SIGTERM) not in killed


def test_a_worker_that_hangs(killed: list[tuple[int, int]], tmp_path: Path) -> None:
    """A worker that has not told for a minute that it lives is killed, and told of, once; no other
    is, though its death takes a while.
    """
    master = idle_master(tmp_path)
    served = generation(2)
    forked(master, 1, served, heard=time.monotonic() - 61)
    forked(master, 2, served, heard=time.monotonic() - 50)
    master._reap()
    master._reap()
    assert killed == [(1, signal.SIGKILL)]
    assert master._alarms.labels("worker_hangs")._value.get() == 1


@pytest.mark.parametrize(
    ("stops", "code", "told"),
    [
        (0, 0, False),
        (0, -signal.SIGTERM, False),
        (0, -signal.SIGKILL, True),
        (0, 1, True),
        (2, -signal.SIGQUIT, False),
        (2, -signal.SIGKILL, True),
        (3, -signal.SIGKILL, False),
    ],
)
@pytest.mark.usefixtures("killed")
def test_a_draining_workers_death(tmp_path: Path, stops: int, code: int, told: bool) -> None:
    """A worker that drains and ends otherwise than it was told to is told of."""
    master = idle_master(tmp_path)
    master._stops = stops
    worker = forked(master, 1, generation(1), asked=True)
    master._died(worker, code, worker.born)
    assert master._alarms.labels("worker_died")._value.get() == told
    assert master._not_before == 0


@pytest.mark.usefixtures("killed")
def test_a_worker_that_leaves_and_ends_at_once(tmp_path: Path) -> None:
    """Its last word is heard also where its death is seen first: no alarm is given."""
    master = idle_master(tmp_path)
    worker = forked(master, 1, generation(1))
    worker.link, its = socket.socketpair()
    with its:
        its.send(LIVES + LEAVES)
    master._died(worker, 0, worker.born)
    assert master._alarms.labels("worker_died")._value.get() == 0


def test_a_worker_that_leaves_before_all_serve(tmp_path: Path) -> None:
    """It is none of those that a new configuration waits for."""
    master = idle_master(tmp_path)
    coming = generation(1)
    master._take_in(coming)
    forked(master, 1, coming, ready=True, asked=True)
    master._turn_over()
    assert master._serving is None


async def test_signals_before_it_serves(tmp_path: Path) -> None:
    """While the first configuration is made ready, SIGHUP ends nothing, and SIGTERM all."""
    store = socket.create_server(("127.0.0.1", 0))  # which never answers
    store.setblocking(False)
    config = tmp_path / "visiongate.yaml"
    url = f"redis://127.0.0.1:{store.getsockname()[1]}"
    where = {"store": {"url": url}, "keys": {"pepper": PEPPER}}
    upstream = {"providers": {"openai": {"base_url": "http://127.0.0.1:1/v1"}}}
    config.write_text(yaml.safe_dump(merged(merged(CONFIG, where), upstream)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve", "-c", str(config)),
        cwd=Path(__file__).parents[1],
    )
    async with asyncio.timeout(20):
        with store, (await asyncio.get_running_loop().sock_accept(store))[0]:
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


async def test_nobody_reads_the_log(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Where the log's reader has gone, requests, scrapes and a dead worker's successor come as
    ever, and all counts stay.
    """
    upstream.script(chat_stream(["one"], USAGE))
    key = await make_key(store_url)
    async with serving(tmp_path, store_url, upstream.url, "5s") as worker:
        worker.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        await answered(worker, key, 2)
        await until_total(worker, "requests_total", 2)
        (pid,) = worker.pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid))
        await answered(worker, key)
        await until_total(worker, "requests_total", 3)
        await until_total(worker, "alarms_total", 1)
