"""The public routes beside the pipeline: models, usage, health."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from proxy.access import Access
from proxy.domain.identity import Bound
from proxy.domain.limits import NANO
from proxy.domain.quota import State, resets_at
from proxy.domain.routing import find_model
from proxy.web.answer import json_answer
from proxy.web.door import DOOR
from proxy.web.read import bearer_token
from proxy.web.trace import TRACE


async def list_models(http: web.Request) -> web.Response:
    """GET /v1/models: those that the key may use, by name and by alias."""
    key = await _key(http)
    door, allowed = http.app[DOOR], key.models
    usable = [n for n, m in door.models.items() if "*" in allowed or m.name in allowed]
    return json_answer({"object": "list", "data": [door.catalog[name] for name in usable]})


async def show_model(http: web.Request) -> web.Response:
    """GET /v1/models/{model}, as the SDKs' `models.retrieve`. Raises ModelNotFound."""
    key, name, door = await _key(http), http.match_info["model"], http.app[DOOR]
    find_model(door.models, name, key.models)
    return json_answer(door.catalog[name])


async def show_usage(http: web.Request) -> web.Response:
    """GET /v1/usage: every limit of the key and of its team, as the ledger has them."""
    key = await _key(http)
    now, states = await http.app[DOOR].ledger.peek(key.team.name, key.bounds)
    of_key = [_state(s, now) for s in states if s.bound.scope != "team"]
    of_team = [_state(s, now) for s in states if s.bound.scope == "team"]
    return json_answer(
        {
            "key": {"id": key.key.id, "name": key.key.name, "limits": of_key},
            "team": {"name": key.team.name, "limits": of_team},
        }
    )


async def health(http: web.Request) -> web.Response:
    """GET /healthz: this process serves."""
    return json_answer({"status": "ok"})


async def _key(http: web.Request) -> Access:
    key = await http.app[DOOR].keys.authenticate(bearer_token(http))
    http[TRACE].access = key
    return key


def _state(state: State, now: int) -> dict[str, Any]:
    limit = state.bound.limit
    end = resets_at(state, now)
    shown: dict[str, Any] = {
        "limit": str(limit),
        "unit": limit.unit,
        "window": limit.window,
        "amount": _figure(state.amount, state.bound),
        "used": _figure(state.used, state.bound),
        "reserved": _figure(state.reserved, state.bound),
        "remaining": _figure(state.remaining, state.bound),
        "resets_at": None if end is None else _time(end),
    }
    return shown


def _figure(amount: int, bound: Bound) -> int | float:
    return amount / NANO if bound.limit.unit == "usd" else amount


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")
