"""Listeners that speak TLS: what clients see, and a certificate that is renewed."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx2
import openai
import pytest

from proxy.web import server
from tests.gateway import HELLO, Gateway, open_gateway
from tests.scripted import Head, Pause, Reset, ScriptedUpstream, Send, chat_stream, sse
from tests.test_certificates import EXPIRED, GOOD, SECOND
from tests.web.raw import chat_request
from tests.web.workers import Worker, make_key, serving

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def tls(pair: tuple[Path, Path]) -> dict[str, Any]:
    return {"tls": {"cert": str(pair[0]), "key": str(pair[1])}}


def trusting(pair: tuple[Path, Path] = GOOD) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pair[0]))


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    """Both listeners speak TLS."""
    async with open_gateway(store_url, upstream.url, server=tls(GOOD), admin=tls(GOOD)) as opened:
        yield opened


def sdk(url: str, key: str) -> openai.AsyncOpenAI:
    client = httpx2.AsyncClient(verify=trusting())
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, http_client=client, max_retries=0)


async def test_the_sdk(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """The official SDK streams over https, its certificate verified."""
    upstream.script(chat_stream(["The", " sunset"], USAGE))
    assert gate.url.startswith("https://")
    async with sdk(gate.url, await gate.key()) as client:
        stream = await client.chat.completions.create(**HELLO)
        words = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(words) == "The sunset"


async def test_a_broken_stream(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """A stream that breaks off raises in the SDK, as it does without TLS."""
    upstream.script([Head(), Send(sse({"id": "x", "choices": []})), Reset()])
    async with sdk(gate.url, await gate.key()) as client:
        stream = await client.chat.completions.create(**HELLO)
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass


def read_all(url: str, request: bytes) -> tuple[bytes, OSError | None]:
    """What comes until the end, and what is wrong with that: None where TLS says that it is all."""
    where = urlsplit(url)
    tls_ = trusting()
    options = {"server_hostname": where.hostname, "suppress_ragged_eofs": False}
    found = b""
    with (
        socket.create_connection((where.hostname, where.port), 10) as raw,
        tls_.wrap_socket(raw, **options) as made,
    ):
        made.sendall(request)
        try:
            while data := made.recv(65536):
                found += data
        except OSError as error:
            return found, error
        return found, None


async def unchunked_ends(url: str, key: str, upstream: ScriptedUpstream) -> None:
    stream = chat_stream(["one"], USAGE)
    upstream.script(stream)
    upstream.script([*stream[:2], Reset()])
    request = chat_request(key, version="1.0")
    found, error = await asyncio.to_thread(read_all, url, request)
    assert error is None
    assert found.endswith(b"data: [DONE]\n\n")
    found, error = await asyncio.to_thread(read_all, url, request)
    assert error is not None
    assert found.startswith(b"HTTP/1.0 200")
    assert b'"type":"server_error"' in found
    assert b"[DONE]" not in found


async def test_a_broken_stream_without_chunks(
    store_url: str, worker: Worker, upstream: ScriptedUpstream
) -> None:
    """To an HTTP/1.0 client, whose answer ends with the connection, a stream that breaks off ends
    without TLS's word that all has come, behind its error event; another one ends with it.
    """
    await unchunked_ends(worker.url, await make_key(store_url), upstream)


async def test_a_broken_stream_without_chunks_or_uvloop(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """The same on asyncio's own loop, whose transports are others."""
    await unchunked_ends(gate.url, await gate.key(), upstream)


async def test_a_client_that_leaves(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """When the client goes, so does the upstream's answer."""
    upstream.script([Head(), Send(sse({"choices": []})), Pause(asyncio.Event())])
    key = await gate.key()
    connector = aiohttp.TCPConnector(ssl=trusting())
    async with aiohttp.ClientSession(connector=connector) as session:
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{gate.url}/v1/chat/completions"
        async with session.post(url, json=HELLO, headers=headers) as answer:
            await answer.content.readany()
    assert (await gate.request_line())["ended"] == "client_gone"


async def test_metrics(gate: Gateway) -> None:
    """The operators' listener has its own certificate."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gate.admin}/metrics", ssl=trusting()) as answer,
    ):
        assert "visiongate_" in await answer.text()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions(gate: Gateway, version: ssl.TLSVersion) -> None:
    """TLS 1.2 and 1.3 are spoken, and HTTP/1.1 is what ALPN agrees on, whatever else is offered."""
    context = trusting()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    where = urlsplit(gate.url)
    _, writer = await asyncio.open_connection(where.hostname, where.port, ssl=context)
    made = writer.get_extra_info("ssl_object")
    assert made.selected_alpn_protocol() == "http/1.1"
    assert made.version() == version.name.replace("_", ".")
    writer.close()
    await writer.wait_closed()


async def test_an_old_version(gate: Gateway) -> None:
    """TLS 1.1 is refused."""
    context = trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    where = urlsplit(gate.url)
    with pytest.raises(OSError, match=r"PROTOCOL_VERSION|^$"):  # or a reset, without words
        await asyncio.open_connection(where.hostname, where.port, ssl=context)


async def test_plain_http(gate: Gateway) -> None:
    """Who speaks plain HTTP to it gets no answer, and costs no line of the log."""
    where = urlsplit(gate.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"HTTP" not in await reader.read()
    writer.close()
    assert not gate.log_lines()


async def test_a_silent_handshake(
    monkeypatch: pytest.MonkeyPatch, store_url: str, upstream: ScriptedUpstream
) -> None:
    """Who opens a connection and never shakes hands is let go as one who never sends a head is."""
    monkeypatch.setattr(server, "HEAD_TIME", 0.2)
    async with open_gateway(store_url, upstream.url, server=tls(GOOD)) as gate:
        where = urlsplit(gate.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


def shows(url: str, pair: tuple[Path, Path]) -> bool:
    """Whether a new connection is shown this certificate."""
    where = urlsplit(url)
    shown = ssl.get_server_certificate((str(where.hostname), where.port or 443))
    return ssl.PEM_cert_to_DER_cert(shown) == ssl.PEM_cert_to_DER_cert(pair[0].read_text())


@pytest.fixture
async def worker(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> AsyncIterator[Worker]:
    """A master and a worker whose certificate is in files of their own."""
    renew(tmp_path, GOOD)
    files = {"server": tls((tmp_path / "cert.pem", tmp_path / "key.pem"))}
    async with serving(tmp_path, store_url, upstream.url, "5s", **files) as started:
        yield started


def renew(folder: Path, pair: tuple[Path, Path]) -> None:
    shutil.copy(pair[0], folder / "cert.pem")
    shutil.copy(pair[1], folder / "key.pem")


async def test_renewal(worker: Worker, tmp_path: Path) -> None:
    """SIGHUP takes the files as they are now: new connections are shown the new certificate."""
    assert await asyncio.to_thread(shows, worker.url, GOOD)
    renew(tmp_path, SECOND)
    worker.change({})
    line = await worker.told("reloaded")
    assert line["public_certificate_until"].endswith("Z")
    async with asyncio.timeout(5):  # until the old worker has closed its port
        while not await asyncio.to_thread(shows, worker.url, SECOND):
            pass


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (EXPIRED, "server.tls.cert: {}/cert.pem: certificate has expired"),
        ((SECOND[0], GOOD[1]), "server.tls.key: {0}/key.pem is not the key of {0}/cert.pem"),
    ],
)
async def test_a_renewal_that_is_wrong(
    worker: Worker, tmp_path: Path, pair: tuple[Path, Path], words: str
) -> None:
    """At SIGHUP a certificate that nobody would accept is refused, and the old one serves on."""
    renew(tmp_path, pair)
    worker.change({})
    assert (await worker.told("reload_refused"))["error"] == words.format(tmp_path)
    assert await asyncio.to_thread(shows, worker.url, GOOD)


async def test_a_stream_outlives_a_renewal(
    store_url: str, worker: Worker, tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """A stream that began under the old certificate goes on under it to its end."""
    more = asyncio.Event()
    head, *rest = chat_stream(["one", " two"], USAGE)
    upstream.script([head, rest[0], Pause(more), *rest[1:]])
    key = await make_key(store_url)
    connector = aiohttp.TCPConnector(ssl=trusting())
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        worker.post(session, key) as answer,
    ):
        await answer.content.readany()
        renew(tmp_path, SECOND)
        worker.change({})
        await worker.told("reloaded")
        more.set()
        assert b"[DONE]" in await answer.read()
