"""A connection to a server on which commands follow each other without waiting for replies.

What comes in one turn of the loop goes out in one write, but for the first on a line that waits
for nothing: that need not wait for the next turn either. A reply costs no task, no lock and no
timer of its own: replies come in the order of their commands, and one timer a connection looks
whether anything has been heard at all.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import hiredis
import msgspec
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import InvalidResponse, MasterDownError, ReadOnlyError, RedisError

_UNANSWERED: Final = 512  # commands; the others wait their turn
_HOLD: Final = 0.005  # seconds for which what is not wanted soon waits for company
_NOTHING: Final = object()
#: What an old primary or a replica says: the store's name may lead to another server by now.
NOT_PRIMARY: Final = (ReadOnlyError, MasterDownError)
_ENDED: Final = "the connection has ended"

T = TypeVar("T")
#: Told what a reply is of, and the reply, or as a value the error in its place.
Told = Callable[[T, Any], None]


async def converse(client: Any, *words: str) -> Any:
    """One command on a connection of its own, which is closed at once."""
    connection = client.connection_pool.make_connection()
    try:
        await connection.connect()
        await connection.send_command(*words)
        return await connection.read_response()
    finally:
        await connection.disconnect(nowait=True)


class Call(msgspec.Struct, eq=False):
    """A command, packed, and who waits for its `reply`, if anybody does. `twice`: it may be sent
    again.

    `soon`: it goes out at once; else with the next that does, or a moment later.
    """

    packed: bytes
    twice: bool
    soon: bool = True
    reply: asyncio.Future[Any] | None = None

    def told(self, reply: Any) -> None:
        """The reply, or as a value the error in its place."""
        if self.reply is not None and not self.reply.done():
            self.reply.set_result(reply)


class Errand(Call, Generic[T], eq=False, kw_only=True):
    """A call that nobody waits for: `then` is told what it is `of` and its reply, `observe` the
    seconds it took.
    """

    observe: Callable[[float], None]
    then: Told[T]
    of: T
    begun: float = msgspec.field(default_factory=time.perf_counter)

    def told(self, reply: Any) -> None:
        self.observe(time.perf_counter() - self.begun)
        self.then(self.of, reply)


class Line(asyncio.Protocol):
    """One connection, from before it is made until it is lost; redis-py makes it.

    `silent` is called when calls wait and nothing has been heard for `patience` seconds: who is
    told ends the line, or has it watched on. `lost` is called with the error when it has ended
    of itself; what was not answered can then be taken.
    """

    def __init__(
        self,
        client: Any,
        patience: float,
        silent: Callable[[Line], None],
        lost: Callable[[Line, BaseException], None],
    ) -> None:
        self._client = client
        self._patience = patience
        self._silent = silent
        self._lost = lost
        self.loop = asyncio.get_running_loop()
        self._heard = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._waiting: deque[Call] = deque()
        self._sent: deque[Call] = deque()
        self._writer: Any = None
        self._reader: Any = None
        self._flushing = True  # until it is connected
        self._holding = False
        self._closed = self.loop.create_future()
        self._connecting = self.loop.create_task(self._connect(), name="store-connect")

    def send(self, call: Call) -> None:
        """Send a command: at once where nothing is under way, else with all others of this turn."""
        if not (self._sent or self._waiting):
            self._heard = self.loop.time()
            if self._watch is None:
                self._watch = self.loop.call_later(self._patience, self.watch)
        self._waiting.append(call)
        if self._flushing:
            return
        if call.soon and not self._sent:
            self._flush()
        elif call.soon:
            self._flushing = True
            self.loop.call_soon(self._flush)
        elif not self._holding:
            self._holding = True
            self.loop.call_later(_HOLD, self._let_go)

    @property
    def quiet(self) -> float:
        """Seconds for which calls have waited and nothing was heard."""
        return self.loop.time() - self._heard if self._sent or self._waiting else 0.0

    def end(self) -> list[Call]:
        """Close it; the calls that were not answered."""
        self._lost = _nobody
        if self._watch is not None:
            self._watch.cancel()
        self._connecting.cancel()
        if self._writer is not None:
            self._writer.transport.abort()  # a server that reads nothing would hold up an end
        self._flushing = True
        left = [*self._sent, *self._waiting]
        self._sent.clear()
        self._waiting.clear()
        return left

    async def closed(self) -> None:
        """Wait until nothing of it is left."""
        await asyncio.wait({self._connecting})
        if self._writer is not None:
            await self._closed

    async def _connect(self) -> None:
        connection = self._client.connection_pool.make_connection()
        try:
            await connection.connect()
        except Exception as error:
            self._lost(self, error)
            return
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        # redis-py has no way to hand over what it has connected. The writer is kept, since one
        # that nobody keeps closes its transport.
        parser, self._writer = connection._parser, connection._writer
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=parser.parse_error, notEnoughData=_NOTHING
        )
        connection._writer = connection._reader = None
        self._writer.transport.set_protocol(self)
        self._flush()

    def _let_go(self) -> None:
        self._holding = False
        if self._waiting and not self._flushing:
            self._flush()

    def _flush(self) -> None:
        self._flushing = False
        packed, waiting, sent = [], self._waiting, self._sent
        while waiting and len(sent) < _UNANSWERED:
            call = waiting.popleft()
            if call.reply is None or not call.reply.done():
                sent.append(call)
                packed.append(call.packed)
        if packed:
            self._writer.transport.write(b"".join(packed))

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        reader, sent = self._reader, self._sent
        failed: Exception | None = None
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOTHING:
                if type(reply) is not list:  # as the scripts' are
                    if type(reply) is hiredis.PushNotification:
                        continue  # news that nobody asked for
                    if isinstance(reply, NoConnection):
                        raise reply  # redis-py's word for a server that is there and cannot yet
                    if isinstance(reply, NOT_PRIMARY):
                        failed = reply
                sent.popleft().told(reply)
        except (RedisError, IndexError) as error:  # the latter: more replies than commands
            failed = error
        if failed is not None:
            self._writer.transport.abort()
            self._lost(self, failed)
        elif self._waiting and not self._flushing:
            self._flush()

    def eof_received(self) -> None:
        """The transport closes, and says so."""

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        self._lost(self, exc or NoConnection(_ENDED))

    def watch(self) -> None:
        """Look whether calls wait and nothing is heard, and go on looking while they wait."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if (quiet := self.quiet) >= self._patience:
            self._silent(self)
        elif quiet:
            self._watch = self.loop.call_later(self._patience - quiet, self.watch)


def _nobody(_: Line, __: BaseException) -> None:
    """Nobody is told."""
