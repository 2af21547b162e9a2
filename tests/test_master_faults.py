"""A master whose machine has no room, no process or no reader of its log left."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from pathlib import Path
from typing import NoReturn

import pytest

from proxy import serve
from proxy.metrics import Metrics
from tests.gateway import until
from tests.scripted import ScriptedUpstream, chat_stream
from tests.test_master import alive, answered, until_total
from tests.web.under_way import USAGE
from tests.web.workers import make_key, serving


async def test_metrics_that_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose metrics cannot be written tells its master that it lives all the same, and
    gives alarm once.
    """
    monkeypatch.setattr(serve, "_PULSE", 0.001)
    metrics = Metrics()
    monkeypatch.setattr(metrics, "tell", refuse)
    ours, its = socket.socketpair()
    with ours, its:
        ours.setblocking(False)
        pulse = asyncio.create_task(serve._live(metrics, its, asyncio.Event()))
        for _ in range(3):
            async with asyncio.timeout(4):
                assert await asyncio.get_running_loop().sock_recv(ours, 1) == b"."
        pulse.cancel()
    assert metrics.alarms["metrics_unwritten",] == 1


def refuse(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
async def key(store_url: str, upstream: ScriptedUpstream) -> str:
    """A key of 1M tokens a day; requests are answered with USAGE."""
    upstream.script(chat_stream(["one"], USAGE))
    return await make_key(store_url)


async def test_nobody_reads_the_log(
    store_url: str, upstream: ScriptedUpstream, key: str, tmp_path: Path
) -> None:
    """Where the log's reader has gone, requests, scrapes and a dead worker's successor come as
    ever, and all counts stay.
    """
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
