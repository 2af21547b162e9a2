"""Ports of a gateway with several workers: which are kept at a reload, and which are left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.gateway import until
from tests.scripted import ScriptedUpstream, chat_stream
from tests.test_master import answered
from tests.valkey import free_ports
from tests.web.under_way import USAGE
from tests.web.workers import Worker, alive, make_key, serving


@pytest.fixture
async def key(store_url: str, upstream: ScriptedUpstream) -> str:
    """A key of 1M tokens a day; requests are answered with USAGE."""
    upstream.script(chat_stream(["one"], USAGE))
    return await make_key(store_url)


async def test_a_reload_to_a_taken_port_is_refused(
    store_url: str, upstream: ScriptedUpstream, key: str, tmp_path: Path
) -> None:
    """Where the new port is taken, the old one is served."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with serving(tmp_path, store_url, upstream.url, "5s") as worker:
            worker.change({"server": {"port": port}})
            assert f"port {port}" in (await worker.told("reload_refused"))["error"]
            await answered(worker, key)


@pytest.mark.parametrize("moved", ["server", "admin"])
async def test_a_reload_moves_to_another_port(
    store_url: str, upstream: ScriptedUpstream, key: str, tmp_path: Path, moved: str
) -> None:
    """A new port is served after a reload, and the old one no more; the other listener stays."""
    first, second, third = free_ports(3)
    ports = {"server": {"port": first}, "admin": {"port": second}}
    async with serving(tmp_path, store_url, upstream.url, "5s", **ports) as worker:
        before = worker.pids
        worker.change({moved: {"port": third}})
        await worker.serves("reloaded")
        await answered(worker, key)
        assert await worker.metrics()
        await until(lambda: not any(map(alive, before)))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", ports[moved]["port"])


@pytest.mark.parametrize("moved", ["server", "admin"])
async def test_a_second_reload_before_the_first_is_served(
    store_url: str, upstream: ScriptedUpstream, key: str, tmp_path: Path, moved: str
) -> None:
    """While the workers of a reload to another port start, one more to the same port is taken."""
    first, second, third = free_ports(3)
    ports = {"server": {"port": first}, "admin": {"port": second}}
    async with serving(tmp_path, store_url, upstream.url, "5s", **ports) as worker:
        worker.change({moved: {"port": third}})
        await until(lambda: len(started(worker)) == 1)
        (starting,) = started(worker)
        os.kill(starting, signal.SIGSTOP)
        worker.change({"server": {"support": "ask us"}})
        await until(lambda: len(started(worker)) == 2)
        await worker.serves("reloaded")
        os.kill(starting, signal.SIGCONT)
        await answered(worker, key)
        assert (await worker.metrics())['visiongate_alarms_total{event="reload_refused"}'] == 0


def started(worker: Worker) -> set[int]:
    """Workers that it has started since it was said to serve."""
    master = worker.process.pid
    children = Path(f"/proc/{master}/task/{master}/children").read_text()
    return set(map(int, children.split())) - set(worker.pids)
