"""aiohttp's server, with what its defaults get wrong for a gateway.

A request is served in its connection's own task, and cancelled when its client leaves; compressed
bodies are not unpacked, for one may hold half a gigabyte; and what fails before any handler is
reached, such as a request that is no HTTP, is answered in OpenAI's envelope and told to our log,
not to aiohttp's. The way to a handler is looked for once, not at each request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

from aiohttp import StreamReader, hdrs, web
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import ERROR, _ErrInfo

#: Answers a request that no handler answers, by its status.
Refuse = Callable[[web.BaseRequest, int], web.StreamResponse]

REFUSE: web.AppKey[Refuse] = web.AppKey("refuse")


class Runner(web.AppRunner):
    """Serves one application. `shutdown`: seconds that requests get to end."""

    __slots__ = ()

    def __init__(self, app: web.Application, *, shutdown: float) -> None:
        super().__init__(
            app,
            access_log=None,
            handler_cancellation=True,
            auto_decompress=False,
            shutdown_timeout=shutdown,
            keepalive_timeout=75.0,
        )

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self.app)


class _Server(web.Server):
    def __init__(self, made: web.Server, app: web.Application) -> None:
        super().__init__(
            self._serve,  # type: ignore[arg-type] # what the factory makes is a web.Request
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
        )
        self._settings: dict[str, Any] = made._kwargs
        self._refuse = app[REFUSE]
        self._resolve_and_serve = made.request_handler
        self._known = dict(_plain_routes(app))

    def _serve(self, http: web.Request) -> Awaitable[web.StreamResponse]:
        """As the application would, but without looking for what is known of a plain path."""
        known = self._known.get((http.method, http.raw_path))
        if known is None or hdrs.EXPECT in http.headers:
            return self._resolve_and_serve(http)
        http._match_info, handler = known
        return handler(http)

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._refuse, loop=self._loop, **self._settings)


def _plain_routes(
    app: web.Application,
) -> Iterator[tuple[tuple[str, str], tuple[web.UrlMappingMatchInfo, Handler]]]:
    """By method and path what aiohttp finds of each route without parameters: the match, and
    the handler within the middlewares. Those of a sub-application, which has its own, are not
    among the resources of `app`.
    """
    for resource in app.router.resources():
        for route in resource if isinstance(resource, web.PlainResource) else ():
            match = web.UrlMappingMatchInfo({}, route)
            match.add_app(app)
            match.freeze()
            handler = route.handler
            for middleware in reversed(app.middlewares):
                handler = partial(middleware, handler=handler)
            yield (route.method, resource.canonical), (match, handler)


class _Connection(web.RequestHandler):
    __slots__ = ("_refuse",)

    def __init__(self, server: web.Server, refuse: Refuse, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._refuse = refuse

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
                self.transport.close()

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
        answer = self._refuse(request, status)
        answer.force_close()
        return answer

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """As aiohttp does, but for what it raises before the first middleware."""
        if isinstance(resp, web.HTTPException):
            resp = self._refuse(request, resp.status)
            resp.force_close()
        return super().finish_response(request, resp, start_time)
