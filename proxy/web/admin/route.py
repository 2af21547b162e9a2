"""A row of the admin API's table, and what its handler works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from proxy.manage.desk import Desk
from proxy.web.admin.fields import Fields
from proxy.web.admin.schemas import Schema
from proxy.web.door import Door


@dataclass(frozen=True, slots=True)
class Ask:
    """A question whose fields were read. `raw`: the body where it is a document."""

    door: Door
    desk: Desk
    path: Mapping[str, str]
    query: Mapping[str, Any]
    body: Mapping[str, Any]
    raw: bytes = b""
    media: str = ""


#: Answers with what is to be encoded, or with a response of its own.
Handler = Callable[[Ask], Awaitable[Any | web.Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path and method: how it is served, and how it is described.

    `body`: the fields of its JSON body, None where it takes none; `bare`: it may be left out.
    `document`: the body is one of teams and keys, in YAML or JSON. `errors`: the statuses that
    are its own, beside those of every route.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answer: Schema
    status: int = 200
    query: Fields = field(default_factory=dict)
    body: Fields | None = None
    bare: bool = False
    document: bool = False
    errors: tuple[int, ...] = ()
