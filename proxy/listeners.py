"""The sockets that a gateway listens on: opened before its workers, and shared by them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from proxy.certificates import BadCertificate, Certificate, open_certificate
from proxy.config import Config, Tls

BACKLOG: Final = 1024


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
    def open(cls, config: Config) -> Listeners:
        """Raises OSError where a port is taken, BadCertificate."""
        certificates = open_certificates(config)
        with ExitStack() as stack:
            public = _listen(config.server.host, config.server.port, stack)
            admin = _listen(config.admin.host, config.admin.port, stack)
            stack.pop_all()
        return cls._of(config, public, admin, *certificates)

    def again(self, config: Config) -> Listeners:
        """The same sockets, to be closed on their own, with the certificates as they are now.
        Raises BadCertificate.
        """
        certificates = open_certificates(config)
        public, admin = ([each.dup() for each in some] for some in (self.public, self.admin))
        return self._of(config, public, admin, *certificates)

    @classmethod
    def _of(
        cls,
        config: Config,
        public: Sequence[socket.socket],
        admin: Sequence[socket.socket],
        public_tls: Certificate | None,
        admin_tls: Certificate | None,
    ) -> Listeners:
        return cls(
            public,
            admin,
            _url(public[0], config.server.host, public_tls),
            _url(admin[0], config.admin.host, admin_tls),
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


def _listen(host: str, port: int, stack: ExitStack) -> list[socket.socket]:
    """A socket for each address of the host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places = dict.fromkeys((family, address[:2]) for family, _, _, _, address in found)
    return [
        stack.enter_context(socket.create_server(address, family=family, backlog=BACKLOG))
        for family, address in places
    ]


def _url(listening: socket.socket, host: str, tls: Certificate | None) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
    scheme = "https" if tls else "http"
    return f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{listening.getsockname()[1]}"
