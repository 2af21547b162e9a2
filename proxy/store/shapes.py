"""Teams, keys and limits as JSON: the commands' and the admin API's, and as YAML."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from proxy.domain.identity import Bound, Grant, KeyRecord, TeamRecord
from proxy.domain.keys import PREFIX
from proxy.domain.limits import NANO, Limit
from proxy.domain.quota import State, resets_at


def when(seconds: int | None) -> str | None:
    """A time in UTC: 2027-01-31T00:00:00Z."""
    return None if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def team_shape(team: TeamRecord) -> dict[str, Any]:
    """A team; `limits` are its own, beside those of its plan; `grants` those that go on."""
    now = time.time()
    return {
        "name": team.name,
        "plan": team.plan,
        "status": team.status,
        "limits": list(map(str, team.limits)),
        "grants": [grant_text(grant) for grant in team.grants if grant.live(now)],
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


def grant_text(grant: Grant) -> str:
    """`20 usd/month until 2026-12-31T00:00:00Z`."""
    if grant.until is not None:
        return f"{grant.limit} until {when(grant.until)}"
    return str(grant.limit) if grant.limit.window == "total" else f"{grant.limit} in its window"


def plain(record: TeamRecord | KeyRecord) -> dict[str, Any]:
    """A whole record as YAML has it, hashes too."""
    shape: dict[str, Any] = {
        "name": record.name,
        "plan": record.plan,
        "status": record.status,
        "limits": list(map(_limit_text, record.limits)),
        "created_at": when(record.created_at),
    }
    if isinstance(record, TeamRecord):
        grants = list(map(_plain_grant, record.grants))
        return {**shape, "grants": grants, "labels": dict(record.labels)}
    secrets = [
        {"digest": s.digest, "hint": s.hint, "expires_at": when(s.expires_at)}
        for s in record.secrets
    ]
    return {"id": record.id, **shape, "expires_at": when(record.expires_at), "secrets": secrets}


def differences(
    old: TeamRecord | KeyRecord | None, new: TeamRecord | KeyRecord
) -> dict[str, tuple[Any, Any]]:
    """What a change changes: before and after by field, without the hashes, which say nothing."""
    before, after = (_shown(old) if old else {}), _shown(new)
    fields = ((name, before.get(name), after[name]) for name in after)
    return {name: (was, now) for name, was, now in fields if was != now}


def _shown(record: TeamRecord | KeyRecord) -> dict[str, Any]:
    shape = plain(record)
    if isinstance(record, TeamRecord):
        shape["grants"] = list(map(grant_text, record.grants))
    else:
        ends = [(f"{PREFIX}…{s.hint}", when(s.expires_at)) for s in record.secrets]
        shape["secrets"] = [f"{end} until {until}" if until else end for end, until in ends]
    return shape


def _plain_grant(grant: Grant) -> dict[str, Any]:
    until = {} if grant.until is None else {"until": when(grant.until)}
    return {"limit": _limit_text(grant.limit), "stamp": grant.stamp, **until}


def _limit_text(limit: Limit) -> str:
    return str(limit).replace(",", "")


def key_status(key: KeyRecord, now: float) -> str:
    """active, paused or revoked; or expired."""
    over = key.expires_at is not None and now >= key.expires_at
    return "expired" if over and key.status != "revoked" else key.status


def limit_shape(state: State, source: str, now: int) -> dict[str, Any]:
    """A limit that binds, with whose it is and where it is from; `amount` has what is `granted`."""
    bound, limit = state.bound, state.bound.limit
    end = resets_at(state, now)
    figures = {
        name: Decimal(amount) / NANO if limit.unit == "usd" else amount
        for name, amount in (
            ("amount", state.amount),
            ("granted", state.amount - limit.amount),
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
