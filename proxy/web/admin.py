"""The admin API: the commands' JSON, read only, behind the admin token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime

import msgspec
from aiohttp import web

from proxy.domain.errors import BadRequest, NotFound, Unauthorized
from proxy.store.directory import DirectoryError
from proxy.store.report import Question, make_report
from proxy.store.shapes import key_shape, team_shape
from proxy.store.usage import GROUPS
from proxy.web.answer import raw_json
from proxy.web.door import DOOR
from proxy.web.read import bearer_token

_encode = msgspec.json.Encoder(decimal_format="number").encode

Handler = Callable[[web.Request], Awaitable[web.Response]]


def add_routes(app: web.Application, token: str) -> None:
    """GET /admin/v1/teams, /keys and /usage, each behind `token`."""

    def guarded(handler: Handler) -> Handler:
        async def guard(http: web.Request) -> web.Response:
            if not hmac.compare_digest(bearer_token(http).encode(), token.encode()):
                raise Unauthorized("This is not the admin token (admin.token in the config).")
            try:
                return await handler(http)
            except DirectoryError as error:
                raise NotFound(f"{error}.") from None

        return guard

    app.router.add_get("/admin/v1/teams", guarded(list_teams))
    app.router.add_get("/admin/v1/keys", guarded(list_keys))
    app.router.add_get("/admin/v1/usage", guarded(show_usage))


async def list_teams(http: web.Request) -> web.Response:
    """GET /admin/v1/teams, as `visiongate team list --json`."""
    teams = await http.app[DOOR].directory.teams()
    return raw_json(_encode([team_shape(team) for team in teams]))


async def list_keys(http: web.Request) -> web.Response:
    """GET /admin/v1/keys?team=T, as `visiongate key list --json`."""
    directory = http.app[DOOR].directory
    team = http.query.get("team")
    if team:
        await directory.team(team)
    keys = await (directory.keys(team) if team else directory.all_keys())
    return raw_json(_encode([key_shape(key) for key in keys]))


async def show_usage(http: web.Request) -> web.Response:
    """GET /admin/v1/usage?since=DATE&until=DATE&by=day,team&team=T&key=K&model=M, as
    `visiongate usage --json`; without days the month so far, by team and model."""
    door, query = http.app[DOOR], http.query
    today = datetime.now(UTC).date()
    by = tuple(query.get("by", "team,model").split(","))
    if unknown := [name for name in by if name not in GROUPS]:
        known = ", ".join(GROUPS)
        raise BadRequest(f"'{unknown[0][:64]}' is nothing to group by; known: {known}.", param="by")
    asked = Question(
        by,
        _day(http, "since") or today.replace(day=1),
        _day(http, "until") or today,
        query.get("team"),
        query.get("key"),
        query.get("model"),
    )
    report = await make_report(door.store, door.directory, list(door.models), asked)
    return raw_json(_encode(report.rows))


def _day(http: web.Request, name: str) -> date | None:
    text = http.query.get(name)
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise BadRequest(f"'{name}' must be a day, as 2026-11-22.", param=name) from None
