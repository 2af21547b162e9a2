"""The sockets that a gateway listens on: opened before its workers, and shared by them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from proxy.certificates import BadCertificate, Certificate, open_certificate
from proxy.config import Admin, Config, Server, Tls

BACKLOG: Final = 1024

Kept = Sequence[socket.socket] | None


@dataclass(frozen=True, slots=True)
class Listeners:
    """Those of the public listener and of the admin's, and where these can be reached from here."""

    public: Sequence[socket.socket]
    admin: Sequence[socket.socket]
    public_url: str
    admin_url: str
    public_tls: Certificate | None = None
    admin_tls: Certificate | None = None

    @classmethod
    def open(cls, config: Config, *, public: Kept = None, admin: Kept = None) -> Listeners:
        """Of a listener that stays where it is, the same sockets, to be closed on their own; the
        certificates as they are now. Raises OSError where a port is taken, BadCertificate.
        """
        public_tls, admin_tls = open_certificates(config)
        with ExitStack() as stack:
            here = _listen(config.server, public, stack)
            there = _listen(config.admin, admin, stack)
            stack.pop_all()
        return cls(
            here,
            there,
            _url(here[0], config.server.host, public_tls),
            _url(there[0], config.admin.host, admin_tls),
            public_tls,
            admin_tls,
        )

    def close(self) -> None:
        for each in (*self.public, *self.admin):
            each.close()


def open_certificates(config: Config) -> tuple[Certificate | None, Certificate | None]:
    """Those of the public listener and of the admin's. Raises BadCertificate, whose `field` is the
    whole path.
    """
    return _certificate("server", config.server.tls), _certificate("admin", config.admin.tls)


def _certificate(block: str, tls: Tls | None) -> Certificate | None:
    try:
        return open_certificate(tls.cert, tls.key) if tls else None
    except BadCertificate as error:
        raise BadCertificate(f"{block}.tls.{error.field}", str(error)) from None


def _listen(where: Server | Admin, kept: Kept, stack: ExitStack) -> list[socket.socket]:
    """A socket for each address of the host, or those that are kept."""
    if kept is not None:
        return [stack.enter_context(each.dup()) for each in kept]
    found = socket.getaddrinfo(
        where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    places = dict.fromkeys((family, address[:2]) for family, _, _, _, address in found)
    return [
        stack.enter_context(socket.create_server(address, family=family, backlog=BACKLOG))
        for family, address in places
    ]


def _url(listening: socket.socket, host: str, tls: Certificate | None) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
    scheme = "https" if tls else "http"
    return f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{listening.getsockname()[1]}"
