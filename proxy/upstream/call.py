"""What the relay asks of a connection to a provider, whichever one carries it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from msgspec import Struct

from proxy.domain.errors import AnswerTooLarge, GatewayError
from proxy.providers.kind import Kind, Translator

#: What every request says of itself; no compression, since a stream is passed on as it comes.
OWN_HEADERS: Final = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "accept-encoding": "identity",
    "user-agent": "visiongate",
}

#: And of one without a body.
GET_HEADERS: Final = {k: v for k, v in OWN_HEADERS.items() if k != "content-type"}

BROKEN: Final = "The upstream could not be reached, or broke off its answer. Try again."
LATE: Final = "The upstream did not answer in time. Try again."

#: Bytes of a body that are written at a time, and then the loop is for others.
PART: Final = 256 << 10

#: Gets the bytes of a body as they come, in the reader's own turn: it must not block.
Sink = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `idle` is the longest silence within a body."""

    connect: float
    first_byte: float
    idle: float
    total: float


@dataclass(frozen=True, slots=True)
class Provider:
    """An upstream as the config has it."""

    name: str
    kind: Kind
    api_keys: tuple[str, ...]
    timeouts: Timeouts
    transport: str


class Outgoing(Struct, eq=False):
    """A request, ready to be sent. `headers` come beside OWN_HEADERS; `secret` is the provider's
    key within them. `refusal` and `translator` as Kind has them, the latter this call's own.

    `body`, in pieces, may be of many megabytes, and is let go by whoever no longer needs it.
    """

    url: str
    headers: Mapping[str, str]
    body: Sequence[bytes | memoryview]
    timeouts: Timeouts
    secret: str | None = None
    transport: str = "direct"
    refusal: Callable[[int, bytes], tuple[int, bytes]] | None = None
    translator: Translator | None = None

    __repr__ = object.__repr__  # none of what it holds is for a log

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(map(len, self.body))

    def parts(self) -> Iterator[bytes | memoryview]:
        """What of the body is written at a time: what is small together, what is large in parts of
        PART bytes, none of them copied.
        """
        batch, size = list[bytes | memoryview](), 0
        for piece in self.body:
            if batch and size + len(piece) > PART:
                yield b"".join(batch)
                batch, size = [], 0
            if len(piece) > PART:
                large = memoryview(piece)
                yield from (large[at : at + PART] for at in range(0, len(large), PART))
            else:
                batch.append(piece)
                size += len(piece)
        yield b"".join(batch)


async def gathered(deliver: Callable[[Sink], Awaitable[None]], limit: int) -> bytes:
    """What is delivered, as a whole. Raises AnswerTooLarge where it is more than `limit`."""
    parts: list[bytes] = []
    size = 0

    def keep(data: bytes) -> None:
        nonlocal size
        size += len(data)
        if size > limit:
            raise AnswerTooLarge("The upstream's answer is too large.")
        parts.append(data)

    await deliver(keep)
    return b"".join(parts)


class Endable(Protocol):
    """What waits for an upstream."""

    def abort(self, reason: GatewayError) -> None:
        """Wait no longer: what waits on this raises `reason`."""


class Call(Endable, Protocol):
    """A request and its answer; `abort` closes its connection. It ends with `leave`."""

    @property
    def status(self) -> int:
        """0 until the answer's head has come."""

    headers: Mapping[str, str]

    @property
    def heard(self) -> float:
        """When something came last, by `time.monotonic`."""

    @property
    def begun(self) -> float:
        """When it began (monotonic)."""

    @property
    def asked(self) -> bool:
        """Whether anything of the request may have reached the upstream."""

    @property
    def chunks(self) -> bytes:
        """The whole HTTP chunks that what the sink got last came in, b"" where it came in none."""

    @property
    def over(self) -> bool:
        """Whether all of the body has been taken."""

    async def head(self) -> None:
        """Send the request and wait for the answer's head. Raises UpstreamFailed, UpstreamTimeout,
        or what the call was aborted with.
        """

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises UpstreamFailed, also where it is larger than `limit`."""

    async def first(self) -> bytes:
        """The first bytes of the body, b"" where there are none. Raises UpstreamFailed."""

    async def more(self) -> bytes:
        """The next ones, after `first` and before `deliver`; b"" where there are none."""

    async def deliver(self, sink: Sink) -> None:
        """Every further byte into the sink, until the body's end. Raises UpstreamFailed."""

    def pause(self) -> None:
        """Deliver no more until `resume`. What comes meanwhile is held, and beyond a bound left to
        the network."""

    def resume(self) -> None: ...

    def leave(self) -> None:
        """Close the connection, or keep it for the next call; wherever this one stands."""


class Transport(Protocol):
    """Makes calls."""

    async def close(self) -> None:
        """Close every connection."""

    def open(self, outgoing: Outgoing, sent: Callable[[], None]) -> Call:
        """A call, of which nothing is sent before its `head` is asked for; `sent` is called when
        it is being written, from when on the upstream may bill it.
        """

    def get(self, outgoing: Outgoing) -> Call:
        """A call that only asks what its URL holds: a GET, without the body."""
