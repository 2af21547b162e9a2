"""A provider's proof of life, over both transports, before servers that do what none should."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.providers.kind import Kind, Variant
from proxy.providers.registry import KINDS, kind_of
from proxy.upstream.call import OWN_HEADERS, Provider, Timeouts, Transport
from proxy.upstream.direct import DirectTransport
from proxy.upstream.over_aiohttp import AiohttpTransport
from proxy.upstream.proof import Asked, Proof, prove
from tests.scripted import (
    Close,
    End,
    Head,
    Pause,
    Raw,
    Recorded,
    Reset,
    Script,
    ScriptedUpstream,
    Send,
    Step,
    error_json,
    json_reply,
)

TLS = Path(__file__).parent / "tls"
LIMITS = Timeouts(connect=5, first_byte=5, idle=5, total=5)
KEY = "sk-a-key-of-the-right-one"


@pytest.fixture(params=["direct", "aiohttp"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    made = DirectTransport() if request.param == "direct" else AiohttpTransport()
    yield made
    await made.close()


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as up:
        yield up


def listing(*names: str, **more: Any) -> list[Step]:
    return json_reply(200, {"object": "list", "data": [{"id": name} for name in names], **more})


def vendor(*names: str, header: str = "authorization", key: str = f"Bearer {KEY}") -> Script:
    """Lists its models to who has the key."""

    def answer(asked: Recorded) -> Iterable[Step]:
        if asked.header(header) == key:
            return listing(*names)
        return error_json(401, "Incorrect API key provided: sk-***", code="invalid_api_key")

    return answer


def asked(
    base_url: str,
    *models: str,
    kind: str | Kind = "openai",
    keys: tuple[str, ...] = (KEY,),
    version: str = "",
    limits: Timeouts = LIMITS,
) -> Asked:
    made = kind_of(kind, Variant(api_version=version)) if isinstance(kind, str) else kind
    return Asked(Provider("main", made, keys, limits, "direct"), base_url, models)


async def fault_of(up: ScriptedUpstream, transport: Transport, *script: Step, **more: Any) -> str:
    """What is told of a server that answers so."""
    up.script(script)
    (proof,) = await prove(asked(up.url, **more), transport)
    assert proof.unlisted is None
    return proof.fault


async def test_a_right_one(up: ScriptedUpstream, transport: Transport) -> None:
    """A key that gets the list is authorised, and what of the models is not in it is told."""
    up.script(vendor("gpt-4o", "gpt-4o-mini"))
    (proof,) = await prove(asked(up.url, "gpt-4o", "gpt-6", "gpt-6"), transport)
    assert proof.seconds is not None
    assert (proof.key, proof.reachable, proof.authorised) == (1, True, True)
    assert (proof.unlisted, proof.fault, proof.remark) == (("gpt-6",), "", "")


async def test_what_is_asked(up: ScriptedUpstream, transport: Transport) -> None:
    """It is a GET with no body, and of no type; everything else is as a request has it."""
    up.script(vendor("gpt-4o"))
    await prove(asked(up.url), transport)
    for came in up.requests:
        assert (came.method, came.path, came.body) == ("GET", "/v1/models", b"")
        assert {came.header(name) for name in ("content-type", "content-length")} == {None}
        for name in ("accept", "accept-encoding", "user-agent"):
            assert came.header(name) == OWN_HEADERS[name]


async def test_each_key(up: ScriptedUpstream, transport: Transport) -> None:
    """Each key is proved by itself, and each is told of."""
    up.script(vendor("gpt-4o"))
    told: list[Proof] = []
    proofs = await prove(asked(up.url, keys=("sk-other", KEY)), transport, told.append)
    assert [(p.key, p.authorised, p.fault) for p in proofs] == [
        (1, False, "refuses the key (401)"),
        (2, True, ""),
    ]
    assert sorted(proofs, key=str) == sorted(told, key=str)


async def test_all_at_once(up: ScriptedUpstream, transport: Transport) -> None:
    """No key waits for another one's answer."""
    event = asyncio.Event()
    up.script([Pause(event), *listing("gpt-4o")])
    task = asyncio.create_task(prove(asked(up.url, keys=("a", "b", "c")), transport))
    await up.wait_requests(4)  # and one without a key
    event.set()
    assert len(await task) == 3


async def test_a_list_for_everybody(up: ScriptedUpstream, transport: Transport) -> None:
    """A key is not proved by what a server gives to everybody, as OpenRouter does its list."""
    up.script(listing("gpt-4o"))
    (proof,) = await prove(asked(up.url, "gpt-4o"), transport)
    assert (proof.reachable, proof.authorised, proof.fault) == (True, None, "")
    assert "no key is proved" in proof.remark
    assert proof.unlisted == ()


async def test_no_key(up: ScriptedUpstream, transport: Transport) -> None:
    """A local server is asked once, as it is by requests: without a key."""
    up.script(listing("llava:latest"))
    (proof,) = await prove(asked(up.url, "llava", keys=()), transport)
    assert (proof.key, proof.reachable, proof.authorised, proof.unlisted) == (None, True, None, ())
    assert len(up.requests) == 1


@pytest.mark.parametrize(
    ("kind", "version", "path", "header", "value"),
    [
        ("openai", "", "/v1/models", "authorization", f"Bearer {KEY}"),
        ("azure", "", "/openai/v1/models", "api-key", KEY),
        ("azure", "2024-10-21", "/openai/models?api-version=2024-10-21", "api-key", KEY),
        ("anthropic", "", "/v1/models?limit=1000", "x-api-key", KEY),
    ],
)
async def test_each_kind(
    up: ScriptedUpstream,
    transport: Transport,
    kind: str,
    version: str,
    path: str,
    header: str,
    value: str,
) -> None:
    """Each kind's list is where its vendor has it, for the key in its own header; Azure's is of
    models and tells nothing of deployments."""
    up.script(vendor("gpt-4o", header=header, key=value))
    base_url = up.url if kind == "openai" else up.url.removesuffix("/v1")
    (proof,) = await prove(asked(base_url, "ours", kind=kind, version=version), transport)
    assert {came.path for came in up.requests} == {path}
    assert proof.authorised is True
    assert (proof.unlisted is None) is (kind == "azure")
    assert ("deployments" in proof.remark) is (kind == "azure")
    if kind == "anthropic":
        assert {came.header("anthropic-version") for came in up.requests} == {"2023-06-01"}


async def test_a_kind_without_a_list(up: ScriptedUpstream, transport: Transport) -> None:
    """Without a list only an answer is proved, and no key is sent to learn so much."""
    up.script(error_json(404, "no"))
    (proof,) = await prove(asked(up.url, kind=replace(KINDS["openai"], models_url=None)), transport)
    assert (proof.reachable, proof.authorised, proof.fault) == (True, None, "")
    assert "no list" in proof.remark
    assert [(came.path, came.header("authorization")) for came in up.requests] == [("/v1", None)]


async def test_a_page_of_many(up: ScriptedUpstream, transport: Transport) -> None:
    """Of a list that goes on elsewhere nothing is said to be missing."""
    up.script(listing("claude-1", has_more=True))
    (proof,) = await prove(asked(up.url, "claude-9", kind="anthropic"), transport)
    assert (proof.fault, proof.unlisted) == ("", None)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "refuses the key (401)"),
        (403, "refuses the key, or what it may do (403)"),
        (402, "has no credit left for the key (402)"),
        (429, "limits the key, or has no credit left for it (429)"),
        (400, "refuses to list its models (400)"),
        (500, "fails (500)"),
        (503, "fails (503)"),
    ],
)
async def test_statuses(
    up: ScriptedUpstream, transport: Transport, status: int, words: str
) -> None:
    """What a status means is told in words, and nothing of what came with it."""
    up.script(error_json(status, f"\x1b[2J {KEY}"))
    (proof,) = await prove(asked(up.url), transport)
    assert proof.fault == words
    assert proof.reachable
    assert proof.authorised is (False if status in (401, 403) else None)


async def test_geminis_refusal(up: ScriptedUpstream, transport: Transport) -> None:
    """That Gemini says of a wrong key that the request is wrong, is known."""
    up.script(json_reply(400, [{"error": {"details": [{"reason": "API_KEY_INVALID"}]}}]))
    (proof,) = await prove(asked(up.url), transport)
    assert (proof.authorised, proof.fault) == (False, "refuses the key (401)")


async def test_not_found(up: ScriptedUpstream, transport: Transport) -> None:
    """A 404 says what is likely missing from the base URL, and where was looked."""
    up.script(json_reply(404, {"detail": "Not Found"}))
    root = up.url.removesuffix("/v1")
    (without,) = await prove(asked(root), transport)
    assert without.fault == f"has no list of models at {root}/models (404): base_url without /v1?"
    (there,) = await prove(asked(up.url), transport)
    assert there.fault == f"has no list of models at {up.url}/models (404): is base_url right?"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><title>It works!</title>",
        b"{}",
        b"null",
        b'{"data": 1}',
        b'{"data": [1]}',
        b'{"data": [{"id": 7}]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=repr,
)
async def test_no_list(up: ScriptedUpstream, transport: Transport, body: bytes) -> None:
    """An answer that is no list is a fault, though its status is 200."""
    head = Head(200, (("Content-Length", str(len(body))),), chunked=False)
    told = await fault_of(up, transport, head, Send(body), End())
    assert told == f"has no list of models at {up.url}/models (200): is base_url right?"


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://other.example/v1/models?token=x", " to https://other.example/v1/models"),
        (f"https://other.example/{KEY}/models", ""),
        ("https://user:pw@other.example/", ""),
        ("https://other.example/\x9b2J", ""),
        ("", ""),
    ],
)
async def test_a_redirect(
    up: ScriptedUpstream, transport: Transport, location: str, words: str
) -> None:
    """A redirect is not followed; where it leads is told where that is plain and no secret."""
    head = Head(301, (("Location", location), ("Content-Length", "0")), chunked=False)
    told = await fault_of(up, transport, head)
    assert told == f"redirects{words}, which is not followed (301)"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([Raw(b"SSH-2.0-OpenSSH_9.2\r\n"), Close()], "answers, but not in HTTP"),
        ([Raw(b"\x15\x03\x01\x00\x02\x02\x46"), Close()], "answers, but not in HTTP"),
        ([Close()], "closes the connection without an answer"),
        ([Reset()], "closes the connection without an answer"),
        ([Head(), Send(b'{"da'), Reset()], "begins to answer, and breaks off"),
        ([Head(), Send(b'{"da'), Raw(b"what?\r\n"), Close()], "begins to answer, and breaks off"),
    ],
    ids=["ssh", "tls", "close", "reset", "cut", "garbage"],
)
async def test_no_answer(
    up: ScriptedUpstream, transport: Transport, script: list[Step], words: str
) -> None:
    """What speaks no HTTP, or breaks off, is told to."""
    assert (await fault_of(up, transport, *script)).startswith(words)


async def test_a_slow_head(up: ScriptedUpstream, transport: Transport) -> None:
    """A server that does not answer is waited for as its time-outs say."""
    limits = Timeouts(connect=5, first_byte=0.05, idle=5, total=5)
    told = await fault_of(up, transport, Pause(asyncio.Event()), limits=limits)
    assert told == "no answer within 0.05 s"


async def test_a_list_without_an_end(up: ScriptedUpstream, transport: Transport) -> None:
    """A list may take no longer than an answer's first byte, however long an answer may take."""
    limits = Timeouts(connect=5, first_byte=0.2, idle=900, total=900)
    script = [Head(), Send(b'{"da'), Pause(asyncio.Event())]
    told = await fault_of(up, transport, *script, limits=limits)
    assert told == "begins to answer, and does not come to an end in time"


async def test_a_list_too_large(
    up: ScriptedUpstream, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more of a list is read than one can be."""
    monkeypatch.setattr("proxy.upstream.proof._LARGEST_LIST", 1000)
    told = await fault_of(up, transport, *listing("x" * 1000))
    assert told == "its list of models has no end"


async def test_nobody_there(transport: Transport) -> None:
    """A port on which nobody listens refuses."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    (proof,) = await prove(asked(f"http://127.0.0.1:{port}/v1"), transport)
    assert proof.fault == "refuses the connection: does it run there?"
    assert not proof.reachable


async def test_a_name_that_nobody_has(transport: Transport) -> None:
    """A name without an address is told to be one."""
    (proof,) = await prove(asked("http://nobody.invalid/v1"), transport)
    assert proof.fault == "its name is not known (DNS): is base_url right?"


async def test_no_connection(transport: Transport) -> None:
    """A server that takes no connection is told after the time for that."""
    with socket.socket() as full:  # whose queue is: what comes after is not answered
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        taken = []
        try:
            for _ in range(3):
                one = socket.socket()
                one.setblocking(False)
                taken.append(one)
                one.connect_ex(full.getsockname())
            url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
            limits = Timeouts(connect=0.3, first_byte=5, idle=5, total=5)
            (proof,) = await prove(asked(url, limits=limits), transport)
        finally:
            for one in taken:
                one.close()
    assert proof.fault == "no connection within 0.3 s"


async def test_a_certificate_of_nobody_known(transport: Transport) -> None:
    """A certificate that nothing vouches for ends it, and no key is sent."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    async with ScriptedUpstream(context) as up:
        up.script(listing())
        (proof,) = await prove(asked(up.url), transport)
        assert up.requests == []
    assert proof.fault.startswith("its certificate is not trusted: self-signed certificate")
    assert "SSL_CERT_FILE" in proof.fault


async def test_over_tls(secure: ScriptedUpstream) -> None:
    """A certificate that is trusted is no matter."""
    secure.script(vendor("gpt-4o"))
    transport = DirectTransport()
    (proof,) = await prove(asked(secure.url), transport)
    await transport.close()
    assert (proof.authorised, proof.fault) == (True, "")


async def test_tls_to_who_speaks_none(transport: Transport) -> None:
    """https:// before a server of http:// is told to be that."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        (proof,) = await prove(asked(f"https://127.0.0.1:{port}/v1"), transport)
    assert proof.fault == "speaks no TLS there: is it http://?"


async def test_a_name_that_can_be_none(transport: Transport) -> None:
    """A host with a label longer than names have is told to be none."""
    (proof,) = await prove(asked(f"http://{'a' * 70}.example/v1"), transport)
    assert proof.fault in (
        "has no host of that name: is base_url right?",
        "its name is not known (DNS): is base_url right?",
    )


async def test_a_proxy_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment's proxy does not answer, it is told of, and not the provider."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    transport = AiohttpTransport()
    (proof,) = await prove(asked("http://provider.example/v1"), transport)
    await transport.close()
    assert proof.fault == "the proxy that the environment names does not lead there"


async def test_a_head_without_an_end(up: ScriptedUpstream, transport: Transport) -> None:
    """A head that comes a header at a time, for ever, is no answer in time."""
    limits = Timeouts(connect=5, first_byte=0.1, idle=5, total=900)
    script = [Raw(b"HTTP/1.1 200 OK\r\nx-a: 1\r\n"), Pause(asyncio.Event())]
    assert await fault_of(up, transport, *script, limits=limits) == "no answer within 0.1 s"


async def test_one_that_fails_ends_nothing(up: ScriptedUpstream, transport: Transport) -> None:
    """A key whose connection breaks leaves the others theirs."""

    def answer(came: Recorded) -> Iterable[Step]:
        broken = came.header("authorization") == "Bearer broken"
        return [Reset()] if broken else vendor("gpt-4o")(came)  # type: ignore[operator]

    up.script(answer)
    proofs = await prove(asked(up.url, keys=("broken", KEY)), transport)
    assert [(p.reachable, p.authorised) for p in proofs] == [(False, None), (True, True)]


async def test_left_half_way(up: ScriptedUpstream) -> None:
    """Who is told to stop leaves no connection behind."""
    up.script([Pause(asyncio.Event())])
    transport = DirectTransport()
    task = asyncio.create_task(prove(asked(up.url, keys=("a", "b")), transport))
    await up.wait_requests(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await up.wait_closed(3)
    assert transport.busy == 0
    await transport.close()
