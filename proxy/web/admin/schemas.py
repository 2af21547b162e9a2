"""What the admin API answers, in JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

TEXT: Final = {"type": "string"}
MAYBE: Final = {"type": ["string", "null"]}
TIME: Final = {"type": "string", "format": "date-time"}
MAYBE_TIME: Final = {"type": ["string", "null"], "format": "date-time"}
WHOLE: Final = {"type": "integer"}
NUMBER: Final = {"type": "number"}
TEXTS: Final = {"type": "array", "items": TEXT}
ANYTHING: Final[Schema] = {}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def several(name: str) -> Schema:
    return {"type": "array", "items": ref(name)}


def _object(properties: Mapping[str, Schema], *optional: str, more: Any = False) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": more,
    }


def _one(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


_TEAM: Final[Mapping[str, Schema]] = {
    "name": TEXT,
    "plan": TEXT,
    "status": _one("active", "paused", "deleted"),
    "limits": TEXTS,
    "grants": TEXTS,
    "labels": {"type": "object", "additionalProperties": TEXT},
    "created_at": TIME,
}
_KEY: Final[Mapping[str, Schema]] = {
    "id": TEXT,
    "team": TEXT,
    "name": TEXT,
    "plan": MAYBE,
    "status": _one("active", "paused", "expired", "revoked"),
    "limits": TEXTS,
    "created_at": TIME,
    "expires_at": MAYBE_TIME,
}
_CHANGES: Final = {
    "type": "object",
    "additionalProperties": _object({"old": ANYTHING, "new": ANYTHING}),
}
SCHEMAS: Final[Mapping[str, Schema]] = {
    "Team": _object(_TEAM),
    "TeamDetail": _object({**_TEAM, "effective": several("Limit"), "keys": several("Key")}),
    "Granted": _object({**_TEAM, "effective": several("Limit")}),
    "Key": _object(_KEY),
    "KeyDetail": _object(
        {
            **_KEY,
            "secrets": {
                "type": "array",
                "items": _object({"ends_in": TEXT, "expires_at": MAYBE_TIME}),
            },
            "effective": several("Limit"),
        },
        "effective",
    ),
    "NewKey": _object({**_KEY, "key": {**TEXT, "description": "the secret, shown this once"}}),
    "Limit": _object(
        {
            "limit": TEXT,
            "of": TEXT,
            "from": TEXT,
            "unit": TEXT,
            "window": TEXT,
            "model": TEXT,
            "amount": {**NUMBER, "description": "with what is granted"},
            "granted": NUMBER,
            "used": NUMBER,
            "reserved": NUMBER,
            "remaining": NUMBER,
            "resets_at": MAYBE_TIME,
        }
    ),
    "Target": _object(
        {
            "model": TEXT,
            "provider": TEXT,
            "upstream_model": MAYBE,
            "priority": {"type": ["integer", "null"]},
            "weight": {"type": ["number", "null"]},
            "status": _one("active", "disabled"),
            "since": MAYBE_TIME,
            "until": {**MAYBE_TIME, "description": "null where it is disabled: until enabled"},
            "by": MAYBE,
            "reason": MAYBE,
        }
    ),
    "Finding": _object(
        {
            "key": {**TEXT, "description": "its end only"},
            "status": _one("active", "paused", "expired", "replaced", "revoked", "unknown"),
            "live": {"type": "boolean"},
            "id": MAYBE,
            "team": MAYBE,
            "name": MAYBE,
        }
    ),
    "Usage": _object(
        {
            **{name: TEXT for name in ("day", "team", "key", "key_id", "model", "provider")},
            "requests": WHOLE,
            "input_tokens": WHOLE,
            "output_tokens": WHOLE,
            "cached_tokens": WHOLE,
            "image_tokens": WHOLE,
            "usd": NUMBER,
        },
        *("day", "team", "key", "key_id", "model", "provider"),
        more={**MAYBE, "description": "label:NAME, a label of the team"},
    ),
    "AuditLine": _object(
        {
            "id": TEXT,
            "time": TIME,
            "actor": TEXT,
            "action": {**TEXT, "description": "such as team.create or key.revoke"},
            "team": {**TEXT, "description": "empty where it is a target"},
            "key": {**MAYBE, "description": "a key's id; null where the team itself changed"},
            "name": TEXT,
            "before": {"type": "object", "description": "the fields that changed"},
            "after": {"type": "object"},
        }
    ),
    "Change": _object(
        {
            "action": _one("create", "change"),
            "kind": _one("team", "key"),
            "id": TEXT,
            "team": TEXT,
            "name": TEXT,
            "changes": _CHANGES,
        },
        *("id", "team"),
    ),
    "Document": {
        "type": "object",
        "properties": {
            "version": {"type": ["integer", "string"]},
            "peppers": TEXTS,
            "teams": {"type": "array", "items": {"type": "object"}},
        },
    },
    "OpenApi": {"type": "object"},
    "Error": _object(
        {"error": _object({"message": TEXT, "type": TEXT, "param": MAYBE, "code": MAYBE})}
    ),
}
