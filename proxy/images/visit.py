"""One image's way over the network: hop by hop, judged on each, and no byte too many."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext
from typing import Final, TypeVar

import aiohttp
from yarl import URL

from proxy.domain.errors import ImageRefused
from proxy.images.addresses import parse_address
from proxy.images.answer import (
    MAX_LIFETIME,
    Cause,
    check_type,
    first_part,
    lifetime,
    too_large,
    unreachable,
)
from proxy.images.dial import Dial, OpenSocket, Resolve, may_reach
from proxy.images.errors import faulty
from proxy.images.hosts import matches_host
from proxy.images.sniff import ImageInfo, NeedMore, SniffError, sniff, walk
from proxy.images.urls import UrlRules, check_redirect

T = TypeVar("T")
Hold = Callable[[str], AbstractAsyncContextManager[None]]

MAX_REDIRECTS: Final = 3
#: What is asked for first: enough for all but JPEGs with large profiles or previews.
WINDOW: Final = 32 << 10
#: Where the search for an image's size ends.
MAX_HEADER: Final = 1 << 20
#: Beyond it, an image's structure is walked off the loop.
_LONG_WALK: Final = 256 << 10

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = {
    "Accept": "image/png, image/jpeg, image/gif, image/webp",
    "Accept-Encoding": "identity",
    "User-Agent": "visiongate",
}
#: What can go wrong on the way, and the first row that it is an instance of. A RuntimeError
#: is what aiohttp's reader raises on a connection that was closed under it, a ValueError
#: what its parts raise for names and headers that they cannot write.
_FAULTS: Final = (aiohttp.ClientError, OSError, RuntimeError, ValueError)
_CAUSES: Final[tuple[tuple[type[Exception], Cause], ...]] = (
    (aiohttp.ClientProxyConnectionError, "proxy"),
    (aiohttp.ClientHttpProxyError, "proxy"),
    (aiohttp.ClientConnectorDNSError, "unknown_host"),
    (aiohttp.ClientSSLError, "tls"),
    (TimeoutError, "timeout"),
    (aiohttp.ClientConnectorError, "connect"),
    (Exception, "broken"),
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole image, its structure walked."""

    data: bytes
    info: ImageInfo

    @property
    def media_type(self) -> str:
        """By its bytes, not by what its host says."""
        return f"image/{self.info.format}"


@dataclass(frozen=True, slots=True)
class Network:
    """What a visit uses of the world; `connect` is in seconds, names and TLS included.

    A proxy's host is dialled wherever it is; internal hosts are dialled directly all the
    same.
    """

    resolve: Resolve
    open_socket: OpenSocket
    connect: float
    tls: SSLContext | None = None
    egress_proxy: URL | None = None


class Visit:
    """The fetch of one image under rules that all must allow each hop and address.

    `hold` is entered for each hop with its host, before anything is sent. `size` is how
    many bytes of bodies were read, `lifetime` how many seconds the result may be kept.
    """

    def __init__(
        self, network: Network, hold: Hold, rules: tuple[UrlRules, ...], max_bytes: int
    ) -> None:
        self.size = 0
        self.lifetime = MAX_LIFETIME
        self._network = network
        self._hold = hold
        self._rules = rules
        self._max_bytes = max_bytes

    async def peek(self, url: URL) -> ImageInfo:
        """Format and size from as few bytes as tell them. Raises ImageRefused.

        An image of too many bytes is refused where its host says how many they are.
        """
        ranged = {"Range": f"bytes=0-{WINDOW - 1}"}
        try:
            info = await self._follow(url, ranged, self._peek_part)
            if info is None:
                info = await self._follow(url, {}, self._peek_whole)
            return info
        except SniffError as error:
            raise faulty(error.reason) from None

    async def fetch(self, url: URL) -> Fetched:
        """The whole image. Raises ImageRefused."""
        data = await self._follow(url, {}, self._read_whole)
        try:
            if len(data) > _LONG_WALK:
                return Fetched(data, await asyncio.to_thread(walk, data))
            return Fetched(data, walk(data))
        except SniffError as error:
            raise faulty(error.reason) from None

    async def _follow(
        self,
        url: URL,
        headers: Mapping[str, str],
        take: Callable[[aiohttp.ClientResponse], Awaitable[T]],
    ) -> T:
        for _ in range(1 + MAX_REDIRECTS):
            async with self._hold(url.raw_host or ""), self._ask(url, headers) as response:
                self.lifetime = min(self.lifetime, lifetime(response.headers))
                if response.status not in _REDIRECTS:
                    return await take(response)
                location = response.headers.get("Location", "")
            url = self._redirected(url, location)
        raise unreachable("redirect")

    def _redirected(self, url: URL, location: str) -> URL:
        """Where a redirect leads. Its faults are the host's, not the client's: one answer."""
        try:
            (target,) = {check_redirect(url, location, rules) for rules in self._rules}
            return target
        except ImageRefused:
            raise unreachable("redirect") from None

    @asynccontextmanager
    async def _ask(
        self, url: URL, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A session of its own: no connection, cookie or answer outlives the request."""
        host, network = url.raw_host or "", self._network
        dial = Dial(lambda a: may_reach(host, a, self._rules), network.resolve, network.open_socket)
        try:
            proxy = await self._proxy(host, dial)
            way = dial if proxy is None else Dial(_anywhere, network.resolve, network.open_socket)
            async with (
                aiohttp.ClientSession(
                    connector=way.connector(network.tls or True),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    trust_env=False,
                    timeout=aiohttp.ClientTimeout(total=None, connect=network.connect),
                ) as session,
                session.get(
                    url, headers={**_HEADERS, **headers}, allow_redirects=False, proxy=proxy
                ) as response,
            ):
                try:
                    yield response
                finally:
                    response.close()  # not release, which may wait for the body's end
        except _FAULTS as error:
            found = next(cause for kind, cause in _CAUSES if isinstance(error, kind))
            raise unreachable("blocked" if dial.blocked else found) from None

    async def _proxy(self, host: str, dial: Dial) -> URL | None:
        """The proxy to go by, if any. Raises Blocked.

        It resolves names itself, so what we can resolve is judged before; what we cannot
        is left to the proxy.
        """
        proxy = self._network.egress_proxy
        if proxy is None or all(matches_host(host, rules.internal) for rules in self._rules):
            return None
        if parse_address(host) is None:
            try:
                async with asyncio.timeout(self._network.connect):
                    await dial.look_up(host)
            except OSError:
                if dial.blocked:
                    raise
        return proxy

    async def _peek_part(self, response: aiohttp.ClientResponse) -> ImageInfo | None:
        """None where the whole must be asked for."""
        if response.status != 206:
            return await self._peek_whole(response)
        part = first_part(response.headers, WINDOW)
        if part is None:
            return None
        self._check(response, 206, part.total)
        try:
            return await self._sniff(response, part.length)
        except NeedMore:
            if part.length == part.total:
                raise
            return None

    async def _peek_whole(self, response: aiohttp.ClientResponse) -> ImageInfo:
        self._check(response, 200, response.content_length)
        return await self._sniff(response, MAX_HEADER)

    async def _sniff(self, response: aiohttp.ClientResponse, limit: int) -> ImageInfo:
        """Read until the size is known. Raises SniffError, NeedMore at the end or the limit."""
        data, needed = bytearray(), 1
        while len(data) < limit and (more := await self._read(response)):
            data += more[: limit - len(data)]
            if len(data) >= needed:
                try:
                    return sniff(bytes(data))
                except NeedMore as error:
                    # A look begins at the start each time: a drip must not make it many.
                    needed = max(error.needed, len(data) + len(data) // 8)
        return sniff(bytes(data))

    async def _read_whole(self, response: aiohttp.ClientResponse) -> bytes:
        self._check(response, 200, response.content_length)
        with io.BytesIO() as body:  # gives its bytes away without a copy
            while more := await self._read(response):
                if body.tell() + len(more) > self._max_bytes:
                    raise too_large(self._max_bytes)
                body.write(more)
            return body.getvalue()

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        data = await response.content.readany()
        self.size += len(data)
        return data

    def _check(self, response: aiohttp.ClientResponse, status: int, length: int | None) -> None:
        """Raises ImageRefused for an answer of which nothing need be read."""
        if response.status != status:
            raise unreachable("status")
        check_type(response.headers)
        if length is not None and length > self._max_bytes:
            raise too_large(self._max_bytes)


def _anywhere(_: str) -> bool:
    return True
