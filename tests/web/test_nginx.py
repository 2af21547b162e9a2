"""Behind a real nginx, by the very configuration that deploy/README.md gives."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from bench.gateways import free_port
from tests.gateway import HELLO, Gateway, open_gateway
from tests.scripted import (
    Close,
    End,
    Head,
    Pause,
    Reset,
    ScriptedUpstream,
    Send,
    chat_json,
    sse,
)
from tests.web.raw import RawClient, chat_request, connected, unchunked

README = Path(__file__).parents[2] / "deploy" / "README.md"
BINARY = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = pytest.mark.skipif(
    BINARY is None,
    reason="NOT RUN: deploy/README's nginx block; there is no nginx (apt install nginx)",
)


class Front(NamedTuple):
    """Where nginx listens, and what it said of itself."""

    url: str
    log: Path


def block(port: int, gateway: str) -> str:
    """README's configuration, on a port of the test's and before this gateway."""
    (found,) = re.findall(r"```nginx\n(.*?)```", README.read_text(), re.DOTALL)
    for old, new in (
        ("server 127.0.0.1:8080;", f"server {urlsplit(gateway).netloc};"),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
    ):
        assert found.count(old) == 1
        found = found.replace(old, new)
    return found


@asynccontextmanager
async def fronted(folder: Path, gateway: str) -> AsyncIterator[Front]:
    """nginx with nothing set but README's block, and what a test needs to run it."""
    port = free_port()
    paths = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.getuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/pid; {user} worker_processes 1;\nevents {{}}\n"
        f"error_log {folder}/log warn;\n"
        f"http {{\naccess_log off;\n{paths}{block(port, gateway)}}}\n"
    )
    log = folder / "log"
    words = [str(BINARY), "-p", str(folder), "-e", str(log), "-c", str(config)]
    process = await asyncio.create_subprocess_exec(*words)
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except ConnectionError:
                    await asyncio.sleep(0.01)  # between two looks
        writer.close()
        yield Front(f"http://127.0.0.1:{port}", log)
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    server = {"trusted_proxies": ["127.0.0.1"]}
    async with open_gateway(store_url, upstream.url, server=server) as opened:
        yield opened


@pytest.fixture
async def front(gate: Gateway, tmp_path: Path) -> AsyncIterator[Front]:
    async with fronted(tmp_path, gate.url) as opened:
        yield opened


async def test_chunks_come_one_by_one(
    gate: Gateway, front: Front, upstream: ScriptedUpstream
) -> None:
    """Each event is with the client before the next one is sent, and the last one ends it well."""
    gaps = [asyncio.Event() for _ in range(5)]
    pieces = [sse({"choices": [], "n": n}) for n in range(5)]
    steps = [x for gap, piece in zip(gaps, pieces, strict=True) for x in (Send(piece), Pause(gap))]
    upstream.script([Head(), *steps, Send(sse("[DONE]")), End()])
    async with connected(front.url) as client:
        await client.send(chat_request(await gate.key()))
        head = await client.head()
        assert (head.version, head.status) == ("HTTP/1.1", 200)
        for gap, piece in zip(gaps, pieces, strict=True):
            assert await client.chunk() == piece
            gap.set()
        assert await client.chunks() == [sse("[DONE]")]


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_broken_stream_is_seen_to_be_broken(
    gate: Gateway, front: Front, upstream: ScriptedUpstream, version: str
) -> None:
    """The error event passes, and no last chunk follows it."""
    upstream.script([Head(), Send(sse({"choices": []})), Reset()])
    async with connected(front.url) as client:
        await client.send(chat_request(await gate.key(), version=version))
        assert (await client.head()).status == 200
        body = await client.rest()
    if version == "1.1":
        body = unchunked(body)  # fails where the last chunk came
    assert b'"type":"server_error"' in body
    assert b"[DONE]" not in body


async def test_what_came_before_a_break_is_delivered(
    gate: Gateway, front: Front, upstream: ScriptedUpstream
) -> None:
    """Not a byte that came before it is lost on the way."""
    pieces = [sse({"choices": [], "n": n}) for n in range(200)]
    upstream.script([Head(), *map(Send, pieces), Close()])
    async with connected(front.url) as client:
        await client.send(chat_request(await gate.key()))
        assert (await client.head()).status == 200
        body = unchunked(await client.rest())
    *came, error, end = body.split(b"\n\n")
    assert ([each + b"\n\n" for each in came], end) == (pieces, b"")
    assert b"server_error" in error


async def test_clients_addresses_pass(
    gate: Gateway, front: Front, upstream: ScriptedUpstream
) -> None:
    """The log tells the address that nginx was asked from, whatever the client claims to be."""
    upstream.script(chat_json("Hi"))
    claims = "127.0.0.1, 203.0.113.9"
    raw = chat_request(await gate.key(), {**HELLO, "stream": False}, x_forwarded_for=claims)
    port = urlsplit(front.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.9", 0))
    try:
        client = RawClient(reader, writer)
        await client.send(raw)
        assert (await client.answer()).status == 200
    finally:
        writer.close()
    assert (await gate.request_line())["client"] == "127.0.0.9"


async def test_connections_are_kept_on_both_sides(
    gate: Gateway, front: Front, upstream: ScriptedUpstream
) -> None:
    """Refusals and answers follow each other on one connection, and nginx has no complaint."""
    upstream.script(chat_json("Hi"))
    key = await gate.key()
    async with connected(front.url) as client:
        for body, status in (({}, 400), ({**HELLO, "stream": False}, 200), ({"model": 1}, 400)):
            await client.send(chat_request(key, body))
            assert (await client.answer()).status == status
    assert "error" not in front.log.read_text()


async def test_a_large_request_passes(
    gate: Gateway, front: Front, upstream: ScriptedUpstream
) -> None:
    """A body of the most that is allowed by default is let through, and never put on a disk."""
    upstream.script(chat_json("Hi"))
    text = b'{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}]}'
    async with connected(front.url) as client:
        await client.send(chat_request(await gate.key(), text.ljust(32 * 2**20)))
        assert (await client.answer()).status == 200
    assert "temporary file" not in front.log.read_text()
