"""Teams, keys and limits as JSON: the commands' and the admin API's."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from proxy.domain.identity import Bound, KeyRecord, TeamRecord
from proxy.domain.limits import NANO, Limit
from proxy.domain.quota import State, resets_at


def when(seconds: int | None) -> str | None:
    """A time in UTC: 2027-01-31T00:00:00Z."""
    return None if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def team_shape(team: TeamRecord) -> dict[str, Any]:
    """A team; `limits` are its own, beside those of its plan."""
    return {
        "name": team.name,
        "plan": team.plan,
        "status": team.status,
        "limits": list(map(str, team.limits)),
        "labels": team.labels,
        "created_at": when(team.created_at),
    }


def key_shape(key: KeyRecord) -> dict[str, Any]:
    """A key without its secrets; `limits` are its own."""
    return {
        "id": key.id,
        "team": key.team,
        "name": key.name,
        "plan": key.plan,
        "status": key_status(key, time.time()),
        "limits": list(map(str, key.limits)),
        "created_at": when(key.created_at),
        "expires_at": when(key.expires_at),
    }


def key_status(key: KeyRecord, now: float) -> str:
    """active, paused or revoked; or expired."""
    over = key.expires_at is not None and now >= key.expires_at
    return "expired" if over and key.status != "revoked" else key.status


def limit_shape(state: State, source: str, now: int) -> dict[str, Any]:
    """A limit that binds, as GET /v1/usage tells it, with whose it is and where it is from."""
    bound, limit = state.bound, state.bound.limit
    end = resets_at(state, now)
    figures = {
        name: Decimal(amount) / NANO if limit.unit == "usd" else amount
        for name, amount in (
            ("amount", state.amount),
            ("used", state.used),
            ("reserved", state.reserved),
            ("remaining", state.remaining),
        )
    }
    return {
        "limit": str(limit),
        "of": bound.owner,
        "from": source,
        "unit": limit.unit,
        "window": limit.window,
        "model": limit.model,
        **figures,
        "resets_at": None if end is None else when(-(-end // 1000)),
    }


def source_of(bound: Bound, own: Iterable[Limit], plan: str | None) -> str:
    """Where a limit is from: `plan 'standard'`, or `--limit` where it was given one of its own."""
    if any(limit.slot == bound.limit.slot for limit in own):
        return "--limit"
    return f"plan '{plan}'"
