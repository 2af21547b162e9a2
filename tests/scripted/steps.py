"""The values a script is made of, and the request it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request as it came: `path` is the whole target, `headers` keep order and case."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    connection_id: int

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers; `chunked` adds the header and frames what follows."""

    status: int = 200
    headers: Headers = (("Content-Type", "text/event-stream"),)
    chunked: bool = True


@dataclass(frozen=True, slots=True)
class Send:
    """Part of a body: one chunk where the head said chunked, else as it is."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes on the socket, in no framing."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Split:
    """One body cut into pieces of these sizes and a rest, each written as a Send."""

    data: bytes
    sizes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait until the test sets the event (or the client goes)."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """The last chunk; a body with neither chunks nor a length ends by closing."""


@dataclass(frozen=True, slots=True)
class Reset:
    """RST, once what was sent before it has left."""


@dataclass(frozen=True, slots=True)
class Close:
    """FIN at once, whatever was promised."""


@dataclass(frozen=True, slots=True)
class Cut:
    """FIN at once, as somebody on the way could feign it: without TLS's own end."""


@dataclass(frozen=True, slots=True)
class Beneath:
    """Bytes on the socket below TLS, as somebody on the way could add them."""

    data: bytes


Step = Head | Send | Raw | Split | Pause | Sleep | End | Reset | Close | Cut | Beneath
Script = Iterable[Step] | Callable[[Recorded], Iterable[Step]]
