"""aiohttp's server, with what its defaults get wrong for a gateway.

A handler is cancelled when its client leaves; compressed bodies are not unpacked, for one may
hold half a gigabyte; and what fails before any handler is reached, such as a request that is
no HTTP, is answered in OpenAI's envelope and told to our log, not to aiohttp's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

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
        return _Server(await super()._make_server(), self.app[REFUSE])


class _Server(web.Server):
    def __init__(self, made: web.Server, refuse: Refuse) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
        )
        self._settings: dict[str, Any] = made._kwargs
        self._refuse = refuse

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._refuse, loop=self._loop, **self._settings)


class _Connection(web.RequestHandler):
    __slots__ = ("_refuse",)

    def __init__(self, server: web.Server, refuse: Refuse, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._refuse = refuse

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

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """As aiohttp does, but for what it raises before the first middleware."""
        if isinstance(resp, web.HTTPException):
            resp = self._refuse(request, resp.status)
            resp.force_close()
        return await super().finish_response(request, resp, start_time)
