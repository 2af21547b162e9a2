"""Connections that are kept, and how new ones are made."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from functools import lru_cache
from typing import Any, Final, NamedTuple

from aiohappyeyeballs import AddrInfoType, start_connection
from yarl import URL

from proxy.upstream.connection import Connection

#: Seconds for which a connection is kept that nobody uses, and how many of them for one server.
_KEPT_FOR: Final = 60.0
_KEPT_MOST: Final = 256

#: Seconds for which a name's addresses are believed; where no newer ones are to be had, longer.
_NAMES_FOR: Final = 30.0

#: RFC 8305, 5: how long one address has before the next is tried beside it.
_HEAD_START: Final = 0.25


class Origin(NamedTuple):
    """A server: what connections to it may be used for each other."""

    secure: bool
    host: str
    port: int


@lru_cache(512)
def located(url: str) -> tuple[Origin, str, str]:
    """Where a URL leads: the server, the Host header and the request's target."""
    parsed = URL(url)
    host = parsed.raw_host or ""
    origin = Origin(parsed.scheme == "https", host, parsed.port or 80)
    return origin, parsed.host_port_subcomponent or "", parsed.raw_path_qs


class Pool:
    """Connections by origin. The one used last is used next, so that the others can expire."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._idle: dict[Origin, deque[Connection]] = {}
        self._names = Names()
        self._contexts: dict[Origin, Resuming] = {}
        self._expiring: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> int:
        """Connections that are open, and not waiting for a request."""
        return len(self._open) - sum(not c.closing for idle in self._idle.values() for c in idle)

    def take(self, origin: Origin, now: float) -> Connection | None:
        """A connection that is there and was not closed, as far as is known."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.expires <= now:
                connection.close()
            elif not connection.closing:
                return connection
        return None

    def give(self, origin: Origin, connection: Connection, keep: float | None) -> None:
        """Keep a connection for the next request; `keep` is the server's own bound in seconds."""
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = deque()
        # The server's clock began before ours: a second is left for that.
        seconds = _KEPT_FOR if keep is None else min(keep - 1, _KEPT_FOR)
        if seconds <= 0 or len(idle) >= _KEPT_MOST:
            connection.close()
            return
        connection.expires = connection.loop.time() + seconds
        idle.append(connection)
        if self._expiring is None:
            self._expiring = connection.loop.call_later(_KEPT_FOR / 4, self._expire)

    async def connect(self, origin: Origin) -> Connection:
        """A new connection. Raises OSError, ssl.SSLError among them."""
        loop = asyncio.get_running_loop()
        addresses = await self._names.of(origin.host, origin.port)
        try:
            sock = await start_connection(
                addresses, happy_eyeballs_delay=_HEAD_START, interleave=1, loop=loop
            )
        except OSError:
            self._names.forget(origin.host, origin.port)
            raise
        context = None
        if origin.secure:
            context = self._contexts.setdefault(origin, Resuming())
        name = origin.host.rstrip(".") if origin.secure else None
        connection = Connection(self._open, loop)
        try:
            await loop.create_connection(
                lambda: connection, sock=sock, ssl=context, server_hostname=name
            )
        except BaseException:
            if connection in self._open:  # the socket is its transport's
                connection.close()
            else:
                sock.close()
            raise
        if connection not in self._open:
            raise ConnectionResetError
        return connection

    def remember(self, origin: Origin, connection: Connection) -> None:
        """Keep a connection's TLS session for the next one; it came with the first answer."""
        context = self._contexts.get(origin)
        if context is not None:
            made: ssl.SSLObject | None = connection.transport.get_extra_info("ssl_object")
            context.session = made.session if made is not None else None

    def close(self) -> None:
        if self._expiring is not None:
            self._expiring.cancel()
        for connection in list(self._open):
            connection.close()
        self._idle.clear()

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now, self._expiring = loop.time(), None
        for origin, idle in list(self._idle.items()):
            kept = deque(c for c in idle if not c.closing and c.expires > now)
            for connection in idle:
                if connection.expires <= now:
                    connection.close()
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        if self._idle:
            self._expiring = loop.call_later(_KEPT_FOR / 4, self._expire)


class Resuming(ssl.SSLContext):
    """A client's context for one server: it verifies, and resumes the last session.

    asyncio has no parameter for a session, but makes each connection by `wrap_bio`.
    """

    session: ssl.SSLSession | None = None

    def __new__(cls) -> Resuming:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self) -> None:
        self.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load_default_certs(ssl.Purpose.SERVER_AUTH)

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return super().wrap_bio(*arguments, **{**options, "session": self.session})


class Names:
    """Addresses by name, for a while; simultaneous questions are one."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, list[AddrInfoType]]] = {}
        self._asked: dict[tuple[str, int], asyncio.Task[list[AddrInfoType]]] = {}

    async def of(self, host: str, port: int) -> list[AddrInfoType]:
        """Raises OSError."""
        key, loop = (host, port), asyncio.get_running_loop()
        until, addresses = self._known.get(key, (0.0, []))
        if loop.time() >= until:
            if key not in self._asked:
                self._asked[key] = asyncio.create_task(self._ask(*key), name="names")
                self._asked[key].add_done_callback(lambda task: self._answered(key, task))
            try:
                addresses = await asyncio.shield(self._asked[key])
            except OSError:
                if not addresses:  # older ones are better than none
                    raise
        now = list(addresses)
        addresses.append(addresses.pop(0))  # each of them is the first in its turn
        return now

    def forget(self, host: str, port: int) -> None:
        """Ask again: none of them answered."""
        _, addresses = self._known.get((host, port), (0.0, []))
        self._known[host, port] = 0.0, addresses

    async def _ask(self, host: str, port: int) -> list[AddrInfoType]:
        loop = asyncio.get_running_loop()
        found: list[AddrInfoType] = []
        found += await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if not found:
            raise OSError("a name without an address")
        return found

    def _answered(self, key: tuple[str, int], task: asyncio.Task[list[AddrInfoType]]) -> None:
        del self._asked[key]
        if not task.cancelled() and task.exception() is None:
            self._known[key] = asyncio.get_running_loop().time() + _NAMES_FOR, task.result()
