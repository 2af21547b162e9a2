"""Whose the keys in a text are: what `key find` and its twin in the admin API tell."""

from __future__ import annotations

import time
from typing import Any

from proxy.domain.keys import PREFIX, find_keys
from proxy.store.directory import Directory, FoundKey
from proxy.store.shapes import key_status


async def find_owners(directory: Directory, text: str) -> list[dict[str, Any]]:
    """Every key of our form in a text, each once, and whether it is live. May raise
    StoreUnavailable.
    """
    secrets = dict.fromkeys(find_keys(text))
    return [_finding(secret, await directory.find_key(secret)) for secret in secrets]


def _finding(secret: str, found: FoundKey | None) -> dict[str, Any]:
    status = _standing(found, time.time())
    return {
        "key": f"{PREFIX}…{secret[-4:]}",
        "status": status,
        "live": status == "active",
        "id": found.record.id if found else None,
        "team": found.record.team if found else None,
        "name": found.record.name if found else None,
    }


def _standing(found: FoundKey | None, now: float) -> str:
    """active, or why the gateway refuses it: for good rather than for now."""
    if found is None:
        return "unknown"
    team, key, secret = found.team, found.record, found.secret
    if key.status == "revoked" or team.status == "deleted":
        return "revoked"
    if secret is None or (secret.expires_at is not None and now >= secret.expires_at):
        return "replaced"
    return "paused" if team.status == "paused" else key_status(key, now)
