"""What a fetch may connect to: every answer is judged, then every address as it is dialled.

A resolver alone is not enough: a literal address never reaches one, and between a look-up
and a connection there may be another answer. So each connection has a `Dial` of its own,
and none is used twice: what it reached was decided under one request's rules.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ssl import SSLContext
from typing import Any, Final

from aiohttp import AddrInfoType, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from proxy.images.addresses import is_public, parse_address
from proxy.images.hosts import matches_host
from proxy.images.urls import UrlRules

#: A host name to all its addresses as text, scope included. Raises OSError for none.
Resolve = Callable[[str], Awaitable[Sequence[str]]]
#: A socket for an address that has been judged; it is connected by whoever asked for it.
OpenSocket = Callable[[AddrInfoType], socket.socket]

#: Answers of each family that are tried: all are judged, but a name must not become a scan.
_TRIED: Final = 2

#: How much of what comes may be no image, but the frames of one, beside as much as there is image.
_MOST_BESIDE: Final = 32 << 10
_AT_ONCE: Final = 4 << 10


class Blocked(OSError):
    """An address that may not be dialled."""


def may_reach(host: str, address: str, rules: Sequence[UrlRules]) -> bool:
    """Whether all rules let a host be reached at an address, one of its own.

    It must be public or internal, by its own network or by the host's name, and in no
    denied network.
    """
    parsed = parse_address(address)
    if parsed is None or getattr(parsed, "scope_id", None) is not None:
        return False
    return all(
        not matches_host(parsed, each.deny)
        and (
            is_public(parsed)
            or matches_host(parsed, each.internal)
            or matches_host(host, each.internal)
        )
        for each in rules
    )


def open_socket(info: AddrInfoType) -> socket.socket:
    """A plain socket of the address's family."""
    family, kind, protocol, *_ = info
    return socket.socket(family, kind, protocol)


class SystemResolver:
    """The system's look-ups, in threads of their own: a slow name holds up no other work.

    A look-up that nobody waits for any longer keeps its thread until the system gives up.
    """

    def __init__(self, threads: int = 64) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")

    async def __call__(self, host: str) -> list[str]:
        look_up = partial(
            socket.getaddrinfo, host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [_as_text(*address) for *_, address in found]

    def close(self) -> None:
        """Take no more look-ups; waits for none."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _as_text(host: str | int, _port: str | int, _flow: int = 0, scope: int = 0) -> str:
    return f"{host}%{scope}" if scope else str(host)


class _Sparing(ResponseHandler):
    """Ends a connection by which hardly any image comes: each interim answer and each chunk of a
    byte is an object to the parser, and 256 KiB of them at a time would hold the loop for long.
    """

    _came = 0

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data) or 1, _AT_ONCE):
            part = data[start : start + _AT_ONCE]
            super().data_received(part)
            self._came += len(part)
            body = getattr(self._payload, "total_bytes", 0)
            if self._came - 2 * body > _MOST_BESIDE:
                if self.transport is not None:
                    self.transport.abort()
                return


class _Connector(TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        sparing: type[ResponseHandler] = _Sparing
        self._factory = partial(sparing, loop=asyncio.get_running_loop())


class Dial(AbstractResolver):
    """One connection's way out: resolver and socket factory of a connector made for it.

    `blocked` tells afterwards that an address was refused.
    """

    def __init__(
        self, allowed: Callable[[str], bool], resolve: Resolve, open_socket: OpenSocket
    ) -> None:
        self.blocked = False
        self._allowed = allowed
        self._resolve = resolve
        self._open_socket = open_socket

    def connector(self, tls: SSLContext | bool) -> TCPConnector:
        """The connector for one request; its owner closes it."""
        return _Connector(
            resolver=self,
            socket_factory=self.open_socket,
            use_dns_cache=False,
            force_close=True,
            ssl=tls,
        )

    async def look_up(self, host: str) -> list[str]:
        """A host's addresses, all of them judged. Raises Blocked, and OSError for none."""
        addresses = await self._resolve(host)
        if not addresses:
            raise OSError("the name has no address")
        for address in addresses:
            self._judge(address)
        return list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await self.look_up(host)
        mapped = [address for address in addresses if ":" in address]
        plain = [address for address in addresses if ":" not in address]
        tried = {*mapped[:_TRIED], *plain[:_TRIED]}
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in dict.fromkeys(addresses)
            if address in tried
        ]

    def open_socket(self, info: AddrInfoType) -> socket.socket:
        """The socket for an address that is about to be dialled. Raises Blocked."""
        self._judge(info[4][0])
        return self._open_socket(info)

    async def close(self) -> None:
        pass

    def _judge(self, address: str) -> None:
        if not self._allowed(address):
            self.blocked = True
            raise Blocked("the address may not be dialled")
