"""The admin API's routes: what is here is served and described, and nothing else is."""

from __future__ import annotations

from typing import Final

from proxy.web.admin import fields as f
from proxy.web.admin import handlers as do
from proxy.web.admin.route import Route
from proxy.web.admin.schemas import ref, several

PREFIX: Final = "/admin/v1"

_WHICH: Final = {"team": f.TEAM}  # where several teams have a key of that name

ROUTES: Final = (
    Route("GET", "/teams", do.list_teams, "All teams", several("Team")),
    Route(
        *("POST", "/teams", do.create_team, "Make a team", ref("Team"), 201),
        body={"name": f.NAME, "plan": f.PLAN, "limits": f.LIMITS, "labels": f.LABELS},
        errors=(409,),
    ),
    Route(
        *("GET", "/teams/{team}", do.show_team),
        *("A team, what is used of every limit, and its keys", ref("TeamDetail")),
        errors=(404,),
    ),
    Route(
        *("PATCH", "/teams/{team}", do.change_team, "Change, pause or resume a team", ref("Team")),
        body={"plan": f.PLAN, "limits": f.LIMITS, "labels": f.LABELS, "status": f.STATUS},
        errors=(404, 409),
    ),
    Route(
        *("DELETE", "/teams/{team}", do.delete_team),
        *("Delete a team: its keys stop at once, its usage is kept", ref("Team")),
        errors=(404, 409),
    ),
    Route(
        *("POST", "/teams/{team}/grants", do.grant),
        *("Give a team more of one of its limits, once", ref("Granted"), 201),
        body={"amount": f.AMOUNT, "until": f.UNTIL},
        errors=(404, 409),
    ),
    Route(
        *("GET", "/keys", do.list_keys, "All keys, or a team's", several("Key")),
        query={"team": f.TEAM},
        errors=(404,),
    ),
    Route(
        *("POST", "/keys", do.create_key, "Make a key", ref("NewKey"), 201),
        body={
            "team": f.OF_TEAM,
            "name": f.NAME,
            "plan": f.KEY_PLAN,
            "limits": f.LIMITS,
            "expires_at": f.EXPIRES,
        },
        errors=(404, 409),
    ),
    Route(
        *("POST", "/keys/find", do.find_key),
        *("Whose the keys in a text are, and whether they are live", several("Finding")),
        body={"key": f.LEAK},
    ),
    Route(
        *("GET", "/keys/{key}", do.show_key, "A key, by its id or name", ref("KeyDetail")),
        query={**_WHICH, "effective": f.EFFECTIVE},
        errors=(404,),
    ),
    Route(
        *("PATCH", "/keys/{key}", do.change_key, "Change, pause or resume a key", ref("Key")),
        query=_WHICH,
        body={
            "name": f.NEW_NAME,
            "plan": f.KEY_PLAN,
            "limits": f.LIMITS,
            "expires_at": f.EXPIRES,
            "status": f.STATUS,
        },
        errors=(404, 409),
    ),
    Route(
        *("DELETE", "/keys/{key}", do.revoke_key, "Stop a key for good", ref("Key")),
        query=_WHICH,
        errors=(404, 409),
    ),
    Route(
        *("POST", "/keys/{key}/rotate", do.rotate_key, "Give a key a new secret", ref("NewKey")),
        query=_WHICH,
        body={"overlap": f.OVERLAP},
        bare=True,
        errors=(404, 409),
    ),
    Route("GET", "/targets", do.list_targets, "Every model's targets", several("Target")),
    Route(
        *("POST", "/targets/disable", do.disable_target),
        *("Send a provider no more requests, or none for one model", several("Target")),
        body={"provider": f.PROVIDER, "model": f.MODEL, "until": f.OFF_UNTIL, "reason": f.REASON},
        errors=(409,),
    ),
    Route(
        *("POST", "/targets/enable", do.enable_target),
        *("Let a provider serve again, or serve one model", several("Target")),
        body={"provider": f.PROVIDER, "model": f.MODEL},
        errors=(409,),
    ),
    Route(
        *("GET", "/usage", do.show_usage, "What was used; the month so far by default"),
        several("Usage"),
        query={
            "since": f.FIRST_DAY,
            "until": f.LAST_DAY,
            "month": f.MONTH,
            "by": f.BY,
            "team": f.TEAM,
            "key": f.KEY,
            "model": f.MODEL,
        },
        errors=(404,),
    ),
    Route(
        *("GET", "/audit", do.show_audit, "Who changed what; the newest line last"),
        several("AuditLine"),
        query={"since": f.SINCE, "team": f.TEAM, "limit": f.MOST},
    ),
    Route(
        *("GET", "/export", do.export, "Teams, keys (hashes) and limits", ref("Document")),
        query={"format": f.FORMAT},
    ),
    Route(
        *("POST", "/import", do.restore, "Make teams and keys what a document says"),
        several("Change"),
        query={"dry_run": f.DRY_RUN},
        document=True,
        errors=(409,),
    ),
)
