"""The sockets that a gateway listens on: opened before its workers, and shared by them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from proxy.config import Config

BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class Listeners:
    """Those of the public listener and of the admin's, and where these can be reached from here."""

    public: Sequence[socket.socket]
    admin: Sequence[socket.socket]
    public_url: str
    admin_url: str

    @classmethod
    def open(cls, config: Config) -> Listeners:
        """Raises OSError where a port is taken."""
        with ExitStack() as stack:
            public = _listen(config.server.host, config.server.port, stack)
            admin = _listen(config.admin.host, config.admin.port, stack)
            stack.pop_all()
        urls = _url(public[0], config.server.host), _url(admin[0], config.admin.host)
        return cls(public, admin, *urls)

    def again(self) -> Listeners:
        """The same, to be closed on their own."""
        public, admin = ([each.dup() for each in some] for some in (self.public, self.admin))
        return Listeners(public, admin, self.public_url, self.admin_url)

    def close(self) -> None:
        for each in (*self.public, *self.admin):
            each.close()


def _listen(host: str, port: int, stack: ExitStack) -> list[socket.socket]:
    """A socket for each address of the host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places = dict.fromkeys((family, address[:2]) for family, _, _, _, address in found)
    return [
        stack.enter_context(socket.create_server(address, family=family, backlog=BACKLOG))
        for family, address in places
    ]


def _url(listening: socket.socket, host: str) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{listening.getsockname()[1]}"
