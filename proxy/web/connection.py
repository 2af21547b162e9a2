"""One connection of a client: its requests, one after the other, and the time that it has.

A request is served in its connection's own task, and cancelled when its client leaves. What fails
before any handler is reached, such as a request that is no HTTP, is answered in OpenAI's envelope
and told to our log, not to aiohttp's. No client has for ever: not for a head, not for taking its
answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import ERROR, _ErrInfo

from proxy.domain.errors import GatewayError
from proxy.web.strict import Malformed, TooSlow

#: Answers a request that comes to no handler.
Refuse = Callable[[web.BaseRequest, GatewayError], web.StreamResponse]

#: Seconds from the first byte of a head to its last one (what is late is closed within 10), and for
#: which a client may take nothing of its answer.
HEAD_TIME: Final = 9.0
PATIENCE: Final = 60.0

FAILED: Final = "The gateway failed on this request. Try again."


_UNHANDLED: Final[Mapping[int, tuple[type[GatewayError], str]]] = {
    400: (Malformed, "The request is not valid HTTP, or its head is too large."),
    408: (TooSlow, "The request's head did not arrive in time."),
    417: (Malformed, "Of 'Expect', only '100-continue' is known."),
}


def _unhandled(status: int) -> GatewayError:
    """What is said of a request that reaches no handler."""
    kind, text = _UNHANDLED.get(status, (GatewayError, FAILED))
    error = kind(text)
    error.status = status
    return error


#: Bytes of a read that is not looked at as a whole.
_LONG: Final = 16 << 10

_receive = web.RequestHandler.data_received


class Connection(web.RequestHandler):
    __slots__ = ("_begun", "_refuse", "foreign")

    def __init__(self, server: web.Server, refuse: Refuse, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._refuse = refuse
        self._begun = -1  # which head has begun to come, and is not whole
        self.foreign = False  # more than ASCII may have come: heads are to be looked at

    def data_received(self, data: bytes) -> None:
        # What is long is a body, and costs more to look at than the heads that come after it.
        if len(data) > _LONG or not data.isascii():
            self.foreign = True
        if self._close:
            self._receive_last(data)
        else:
            _receive(self, data)
        if not self._messages and self._begun != self._request_count and self._expects_head():
            self._head_begins(data)

    def _receive_last(self, data: bytes) -> None:
        """Of what comes once the worker stops, the body of the request under way: aiohttp throws
        that away, too.
        """
        request = self._current_request
        if request is not None and not request.content.is_eof():
            forced = self._force_close
            self._close = self._force_close = False
            try:
                _receive(self, data)
            finally:
                self._close, self._force_close = True, forced

    def _expects_head(self) -> bool:
        """Whether no request is under way whose body this could be."""
        return self._waiter is not None or not self._request_count

    def _head_begins(self, data: bytes) -> None:
        """From here on it has HEAD_TIME. One that begins behind a request which is being answered
        has the time of a silence, too. An empty line is no beginning (RFC 9112 section 2.2).
        """
        if data.strip(b"\r\n"):
            self._begun = self._request_count
            self._next_keepalive_close_time = self._loop.time() + HEAD_TIME
            if self._keepalive_handle is not None:
                self._keepalive_handle.cancel()
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )

    def _process_keepalive(self) -> None:
        """The time of a silence, or of a head, is over; or that of an earlier one."""
        late = self._begun == self._request_count and not self._messages and not self._close
        waiter = self._waiter
        if late and waiter is not None and self._loop.time() >= self._next_keepalive_close_time:
            self._keepalive_handle = None
            self._request_count += 1
            self._messages.append((_ErrInfo(408, TimeoutError(), ""), EMPTY_PAYLOAD))
            waiter.set_result(None)
        else:
            super()._process_keepalive()

    async def _drain_helper(self) -> None:
        """Wait for a client that reads slowly. Raises ConnectionError for one that does not."""
        try:
            await self.caught_up(PATIENCE)
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            raise ConnectionResetError("the client did not read in time") from None

    async def caught_up(self, patience: float) -> None:
        """When the client has taken enough for more to be written. Raises TimeoutError where for
        `patience` seconds it takes nothing, and ConnectionError.
        """
        left = self._unsent()
        while True:
            try:
                async with asyncio.timeout(patience):
                    return await super()._drain_helper()
            except TimeoutError:
                pass
            finally:
                waiter = self._drain_waiter
                if waiter is not None and waiter.cancelled():  # by a time-out, here or outside
                    self._drain_waiter = None
            before, left = left, self._unsent()
            if left >= before:
                raise TimeoutError

    def _unsent(self) -> int:
        """Bytes that the network has not taken yet."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    async def start(self) -> None:
        """Serve the requests of this connection, one after the other, until one is its last.

        aiohttp makes a task of each request, which costs two turns of the loop; here they are
        served in the connection's own, which is what is cancelled when the client leaves.
        """
        try:
            while not self._force_close:
                if not self._messages:
                    self._waiter = self._loop.create_future()
                    try:
                        await self._waiter
                    finally:
                        self._waiter = None
                if not await self._served(*self._messages.popleft()):
                    break
                if self._messages:  # who sends many at once holds up nobody else
                    await asyncio.sleep(0)
        except ConnectionError:
            pass  # the client has left
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception as error:
            self.log_exception("Unhandled exception", exc_info=error)
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self._bound_rest(self.transport)
                self.transport.close()

    def force_close(self) -> None:
        if self.transport is not None:
            self._bound_rest(self.transport)
        super().force_close()

    def _bound_rest(self, transport: asyncio.Transport) -> None:
        """What is not yet written when it closes would be waited for without end."""
        if transport.get_write_buffer_size():
            self._loop.call_later(PATIENCE, transport.abort)

    async def _served(self, message: RawRequestMessage | _ErrInfo, payload: StreamReader) -> bool:
        """Answer a request; whether another may follow on this connection."""
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        make, handler, task = self._request_factory, self._request_handler, self._task_handler
        assert make is not None
        assert handler is not None
        assert task is not None
        if isinstance(message, _ErrInfo):
            handler, message = self._make_error_handler(message), ERROR
        writer = StreamWriter(self, self._loop)
        request = make(message, payload, self, writer, task)
        answer = await self._answered(request, handler)
        if answer is None:
            return False
        self._keepalive = bool(answer.keep_alive)
        if not payload.is_eof() and not self._force_close:
            await self._pass_over(payload)
        if not self._keepalive or self._close or self._force_close:
            return False
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )
        return True

    async def _answered(
        self, request: web.BaseRequest, handler: Callable[[Any], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse | None:
        """The answer, once it is written; None where the client has left meanwhile."""
        self._request_in_progress = True
        self._current_request = request
        try:
            try:
                answer = await handler(request)
            except web.HTTPException as refused:  # by aiohttp itself
                answer = refused
            except Exception as error:
                answer = self.handle_error(request, 500, error)
            finally:
                self._current_request = None
            if answer._eof_sent and not self._upgraded:
                request._finish()  # and nothing is left to be written
                return answer
            answer, gone = await self.finish_response(request, answer, None)
            return None if gone else answer
        finally:
            self._request_in_progress = False
            if self._handler_waiter is not None:  # of a shutdown
                self._handler_waiter.set_result(None)

    async def _pass_over(self, payload: StreamReader) -> None:
        """Read what a handler has left of a body; if that takes long, close the connection."""
        try:
            async with asyncio.timeout(self._lingering_time):
                while not payload.is_eof():
                    await payload.readany()
        except TimeoutError:
            self.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP. `exc` and `message` quote the request, so none is told."""
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionError("the client has left, or has had a part of its answer")
        answer = self._refuse(request, _unhandled(status))
        answer.force_close()
        return answer

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """As aiohttp does, but for what it raises before the first middleware."""
        if isinstance(resp, web.HTTPException):
            resp = self._refuse(request, _unhandled(resp.status))
            resp.force_close()
        return super().finish_response(request, resp, start_time)
