"""The internet of a test: names, one host behind all of them, and a record of what was dialled."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import AddrInfoType
from yarl import URL

from proxy.domain.errors import ImageRefused
from proxy.images.fetch import Fetcher, FetchLimits, FetchObserver
from proxy.images.urls import UrlRules
from tests.images.samples import SAMPLES
from tests.scripted import End, Head, Pause, Recorded, Script, ScriptedUpstream, Send, Step
from tests.scripted.requests import MAX_HEAD

PNG = SAMPLES["png"]
PUBLIC = "93.184.216.34"
#: `valid` and `expired` are for the hosts of these tests, signed by themselves.
TLS = Path(__file__).parent / "tls"
RULES = (UrlRules(frozenset({"http", "https"}), frozenset({80, 443})),)
QUICK = FetchLimits(connect=10, total=10, wait=10)
UNKEPT = ("Cache-Control", "no-store")

Answers = Sequence[str] | Exception


def reply(
    body: bytes = PNG,
    status: int = 200,
    *headers: tuple[str, str],
    kind: str = "image/png",
    length: int | None = None,
) -> list[Step]:
    """An answer with a Content-Length, its own unless another is given."""
    named = (
        ("Content-Type", kind),
        ("Content-Length", str(len(body) if length is None else length)),
    )
    return [Head(status, (*named, *headers), chunked=False), Send(body), End()]


def chunked(parts: Iterable[bytes], kind: str = "image/png") -> Iterable[Step]:
    """An answer of any length, made while it is sent."""
    yield Head(200, (("Content-Type", kind),))
    for part in parts:
        yield Send(part)
    yield End()


def served(script: dict[str, Any]) -> Iterable[Step]:
    """One of the published cases' servers; what it does not say is as it should be."""
    names = {"set_cookie": "Set-Cookie", "content_encoding": "Content-Encoding"}
    headers = [UNKEPT, *((name, script[key]) for key, name in names.items() if key in script)]
    if "location" in script:
        headers.append(("Location", script["location"]))
    if "header_bytes" in script:
        headers.append(("X-Long", "x" * script["header_bytes"]))
    if "drip_bps" in script:
        return hang()
    kind, length = script.get("content_type", "image/png"), script.get("content_length")
    return reply(PNG, script.get("status", 200), *headers, kind=kind, length=length)


def moved(location: str, status: int = 302, *headers: tuple[str, str]) -> list[Step]:
    return reply(b"", status, ("Location", location), *headers)


class Tls(ScriptedUpstream):
    """A scripted server behind TLS; `named` holds the names that clients asked for by SNI."""

    def __init__(self, certificate: str) -> None:
        super().__init__()
        self.named: list[str | None] = []
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(TLS / f"{certificate}.pem")
        self._context.sni_callback = lambda _, name, __: self.named.append(name)

    async def __aenter__(self) -> Tls:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, limit=MAX_HEAD, ssl=self._context
        )
        self.port = cast(int, self._server.sockets[0].getsockname()[1])
        return self


class Origin:
    """Every host of a test, on loopback: its paths, the names' addresses, and what was asked.

    `names` maps a host to its addresses, to a list of such answers that follow each other
    (the last stays), or to an error. `dialled` holds every address that a socket was made
    for, `connected` every one that a socket was told to connect to. Port 443 has TLS, with
    the given certificate; all others are plain HTTP.
    """

    def __init__(self, certificate: str = "valid") -> None:
        self.plain, self.secure = ScriptedUpstream(), Tls(certificate)
        self.names: dict[str, Answers | list[Answers]] = {"pub.example": [PUBLIC]}
        self.looked_up: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.connected: list[tuple[str, int]] = []
        self.ports: dict[int, int] = {}  # that lead to another server of the test
        self.otherwise: Script = reply(b"", 404)
        self._paths: dict[str, Script] = {}

    async def __aenter__(self) -> Origin:
        self._stack = AsyncExitStack()
        for server in (self.plain, self.secure):
            await self._stack.enter_async_context(server)
            server.script(self._answer)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)

    def on(self, path: str, script: Script) -> None:
        """Answer a path, query and all, in this way from now on; `otherwise` is for the rest."""
        self._paths[path] = script

    def serve(self, servers: dict[str, dict[str, Any]]) -> None:
        """Answer as one of the published cases has it; with an image where it says nothing."""
        self._paths = {URL(url).raw_path_qs: served(script) for url, script in servers.items()}
        self.otherwise = reply(b"", 404) if servers else reply(PNG, 200, UNKEPT)

    @property
    def requests(self) -> list[Recorded]:
        return self.plain.requests + self.secure.requests

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def fetcher(self, limits: FetchLimits = QUICK, **options: Any) -> Fetcher:
        """A fetcher that has no other way out than this."""
        options.setdefault("observe", Watch())
        trusted = ssl.create_default_context(cafile=TLS / "valid.pem")
        trusted.load_verify_locations(TLS / "expired.pem")
        return Fetcher(
            self.resolve, limits=limits, open_socket=self.open_socket, tls=trusted, **options
        )

    def open_fetcher(
        self, observe: FetchObserver, egress_proxy: URL | None, limits: FetchLimits = QUICK
    ) -> Fetcher:
        """What a gateway of the test fetches images with."""
        return self.fetcher(limits, observe=observe, egress_proxy=egress_proxy)

    async def resolve(self, host: str) -> Sequence[str]:
        self.looked_up.append(host)
        answers: Any = self.names.get(host, OSError(f"{host} is unknown"))
        if isinstance(answers, list) and answers and not isinstance(answers[0], str):
            answers = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answers, Exception):
            raise answers
        return answers

    def open_socket(self, info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        self.dialled.append((str(address[0]), int(address[1])))
        port = int(address[1])
        usual = self.secure.port if port == 443 else self.plain.port
        return Detour(self.connected, self.ports.get(port, usual), family, kind, protocol)

    def _answer(self, request: Recorded) -> Iterable[Step]:
        script = self._paths.get(request.path, self.otherwise)
        return script(request) if callable(script) else script


def hang() -> list[Step]:
    """An image that begins, and never goes on."""
    return [Head(200, ()), Send(PNG[:20]), Pause(asyncio.Event())]


async def fails(fetcher: Fetcher, url: str, key: str = "key") -> ImageRefused:
    """How a fetch of an image of at most 1 MiB is refused."""
    with pytest.raises(ImageRefused) as refused:
        await fetcher.fetch(url, RULES, 1 << 20, key)
    return refused.value


async def refusal(
    origin: Origin, url: str, way: str = "fetch", rules: tuple[UrlRules, ...] = RULES
) -> ImageRefused:
    """How a fresh fetcher refuses one."""
    async with origin.fetcher() as fetcher:
        with pytest.raises(ImageRefused) as refused:
            await getattr(fetcher, way)(url, rules, 1 << 20, "key")
    return refused.value


class Detour(socket.socket):
    """Connects to loopback, whatever address it is given."""

    def __init__(self, connected: list[tuple[str, int]], port: int, *kind: Any) -> None:
        super().__init__(*kind)
        self._connected = connected
        self._port = port

    def connect(self, address: Any) -> None:
        self._connected.append((str(address[0]), int(address[1])))
        host = "127.0.0.1" if self.family == socket.AF_INET else "::ffff:127.0.0.1"
        super().connect((host, self._port))


class Watch:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.sizes: list[int] = []
        self.results: list[str] = []

    def fetched(self, outcome: str, seconds: float, size: int) -> None:
        assert seconds >= 0
        self.outcomes.append(outcome)
        self.sizes.append(size)

    def cached(self, result: str) -> None:
        self.results.append(result)
