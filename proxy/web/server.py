"""aiohttp's server, with what its defaults get wrong for a gateway.

Compressed bodies are not unpacked, for one may hold half a gigabyte; what two servers may read
differently is refused, whatever its route; and the way to a handler is looked for once, not at
each request. What is true of one connection is in `connection`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from functools import partial
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from proxy.domain.errors import GatewayError
from proxy.web.connection import HEAD_TIME, Connection, Refuse
from proxy.web.strict import fault_of, is_usual

REFUSE: web.AppKey[Refuse] = web.AppKey("refuse")


class Runner(web.AppRunner):
    """Serves one application. `shutdown`: seconds that requests get to end; `keep_alive`: that
    a connection may say nothing.
    """

    __slots__ = ()

    def __init__(self, app: web.Application, *, shutdown: float, keep_alive: float) -> None:
        super().__init__(
            app,
            access_log=None,
            handler_cancellation=True,
            auto_decompress=False,
            shutdown_timeout=shutdown,
            keepalive_timeout=keep_alive,
        )

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self.app)


class Site(web.SockSite):
    """A socket that a runner's application is served on. With TLS, a client has no longer to shake
    hands than for a head.
    """

    __slots__ = ()

    async def start(self) -> None:
        await web.BaseSite.start(self)
        assert self._runner.server is not None
        self._server = await asyncio.get_running_loop().create_server(
            self._runner.server,
            sock=self._sock,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=HEAD_TIME if self._ssl_context else None,
        )


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
        if known is None or http.protocol.foreign or not is_usual(http):  # type: ignore[attr-defined]
            fault = fault_of(http)
            if fault is not None:
                return self._answer_fault(http, fault)
            if hdrs.TRANSFER_ENCODING in http.headers:
                # aiohttp's parser (3.14) takes the last header of a trailer, which could be a key,
                # for one of the next request: there is none.
                http._message = http._message._replace(should_close=True)
        if known is None or hdrs.EXPECT in http.headers:
            return self._resolve_and_serve(http)
        http._match_info, handler = known
        return handler(http)

    async def _answer_fault(self, http: web.Request, fault: GatewayError) -> web.StreamResponse:
        """Where this request ends, and the next begins, is not to be relied on."""
        answer = self._refuse(http, fault)
        answer.force_close()
        return answer

    def __call__(self) -> web.RequestHandler:
        return Connection(self, self._refuse, loop=self._loop, **self._settings)


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
