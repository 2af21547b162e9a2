"""The admin API: what the commands do, behind the admin token."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from proxy.config import Config, ConfigError
from proxy.domain.errors import (
    BadRequest,
    GatewayError,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Unauthorized,
)
from proxy.domain.jsonbody import read_object
from proxy.manage.checks import Unfit
from proxy.manage.desk import Desk
from proxy.rules import build_plans
from proxy.store.audit import Line, clean
from proxy.store.changes import BadName, DirectoryError, NotKnown
from proxy.web.admin.fields import MAX_BODY, read_fields, sentence
from proxy.web.admin.openapi import describe
from proxy.web.admin.route import Ask, Route
from proxy.web.admin.schemas import ref
from proxy.web.admin.table import PREFIX, ROUTES
from proxy.web.answer import raw_json
from proxy.web.door import DOOR, Door
from proxy.web.read import expect_later, read_body
from proxy.web.trace import TRACE

_DEADLINE: Final = 60.0  # seconds for a whole body
_PROBLEMS: Final = 20  # of a document, told at once
_WORDS: Final = 512  # characters of each of them
_PRIVATE: Final = "no-store"  # secrets and hashes are kept by nobody on the way
_JSON: Final = ("application/json",)
_DOCUMENT: Final = (*_JSON, "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
ACTOR: Final = "x-visiongate-actor"

_encode = msgspec.json.Encoder(decimal_format="number").encode

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_routes(app: web.Application, token: str, config: Config) -> None:
    """Everything below /admin/v1, all of it behind `token`."""
    door = app[DOOR]
    desk = Desk(door.store, door.directory, config, build_plans(config))
    api = web.Application(middlewares=[_guard(token)])
    api[DOOR] = door
    for route in SERVED:
        handler = partial(_serve, route, desk)
        api.router.add_route(route.method, route.path, handler, expect_handler=expect_later)
    app.add_subapp(PREFIX, api)


async def openapi(ask: Ask) -> Any:
    return describe(SERVED, PREFIX)


SERVED: Final = (
    *ROUTES,
    Route("GET", "/openapi.json", openapi, "This document", ref("OpenApi")),
)


def _guard(token: str) -> Middleware:
    """Asks for the token before anything is told, also of paths that there are not."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_token(request, token.encode()):
            raise Unauthorized(
                "This needs the admin token (admin.token in the config), in one header: "
                "'Authorization: Bearer ...'."
            )
        try:
            answer = await handler(request)
            answer.headers["cache-control"] = _PRIVATE
            return answer
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            raise MethodNotAllowed(f"It takes {allowed}.", headers={"allow": allowed}) from None
        except web.HTTPNotFound:
            raise NotFound(f"There is no such path; see {PREFIX}/openapi.json.") from None
        except (DirectoryError, Unfit, ConfigError) as error:
            raise _as_ours(error) from None

    return guard


def _is_token(http: web.Request, token: bytes) -> bool:
    """In a time that does not tell how much of it was right."""
    values = http.headers.getall("authorization", [])
    scheme, _, given = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    same = hmac.compare_digest(given.strip().encode(errors="surrogateescape"), token)
    return same and scheme.lower() == "bearer"


def _as_ours(error: DirectoryError | Unfit | ConfigError) -> GatewayError:
    if isinstance(error, ConfigError):
        told = [str(problem)[:_WORDS] for problem in error.problems[:_PROBLEMS]]
        more = len(error.problems) - len(told)
        told += [f"and {more} more"] if more else []
        return BadRequest("\n".join(told), param=error.problems[0].path[:_WORDS] or None)
    message = sentence(error)
    if isinstance(error, NotKnown):
        return NotFound(message, param=error.field)
    found = BadRequest(message, param=error.field)
    if not isinstance(error, BadName | Unfit):
        found.status = 409
    return found


async def _serve(route: Route, desk: Desk, http: web.Request) -> web.StreamResponse:
    door = http.app[DOOR]
    query = read_fields(_single(http), route.query, "query")
    raw = await _body(route, http)
    ask = Ask(
        door=door,
        desk=_acting(desk, door, http),
        path=http.match_info,
        query=query,
        body={} if route.body is None else read_fields(_decoded(route, raw), route.body, "body"),
        raw=raw,
        media=http.content_type,
    )
    answer, headers = await route.handler(ask), None
    if isinstance(answer, web.Response):
        return answer
    if isinstance(answer, tuple):
        answer, headers = answer
    return raw_json(_encode(answer), route.status, headers)


def _single(http: web.Request) -> dict[str, str]:
    for name in http.query:
        if len(http.query.getall(name)) > 1:
            raise BadRequest(f"'{name[:64]}' is given twice.", param=name[:64])
    return dict(http.query)


async def _body(route: Route, http: web.Request) -> bytes:
    if route.body is None and not route.document:
        return b""
    if route.bare and not http.can_read_body:
        return b""
    try:
        async with asyncio.timeout(_DEADLINE):
            return await read_body(http, MAX_BODY, _DOCUMENT if route.document else _JSON)
    except TimeoutError:
        late = BadRequest("The request's body did not arrive in time.")
        late.status = 408
        raise late from None
    except PayloadTooLarge:
        most = MAX_BODY // 2**20
        raise PayloadTooLarge(
            f"A body is at most {most} MiB here; `visiongate import` takes more."
        ) from None


def _decoded(route: Route, raw: bytes) -> Any:
    if route.bare and not raw.strip():
        return {}
    return read_object(raw)[1]


def _acting(desk: Desk, door: Door, http: web.Request) -> Desk:
    """The desk, whose changes are said to be this client's, in the audit and the log."""

    def told(line: Line) -> None:
        door.keys.forget(line.team)  # this worker need not wait to hear of it
        door.log.info("audit", id=http[TRACE].id, **line.shape())

    name = clean(http.headers.get(ACTOR, ""))
    actor = f"admin-api {http[TRACE].client}" + (f" {name}" if name else "")
    return Desk(desk.store, desk.directory.acting(actor, told), desk.config, desk.plans)
