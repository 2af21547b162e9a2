"""What the admin API does: the commands' twins."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

import yaml
from aiohttp import web
from msgspec.structs import replace

from proxy.config.yamlfile import Document, read_yaml
from proxy.domain.errors import BadRequest, NotFound
from proxy.domain.identity import KeyRecord, TeamRecord
from proxy.domain.limits import merge
from proxy.manage.desk import OVERLAP, new_key_shape
from proxy.manage.document import as_yaml
from proxy.manage.findings import find_owners
from proxy.manage.jsonfile import JsonDocument
from proxy.manage.targets import Switched
from proxy.manage.transfer import PEPPER_MISSING, export_all, plan_import
from proxy.manage.values import period
from proxy.store.audit import read_audit
from proxy.store.directory import DirectoryError
from proxy.store.report import Question, make_report
from proxy.store.shapes import key_shape, team_shape
from proxy.web.admin.fields import sentence
from proxy.web.admin.route import Ask

_LINES = 1_000
_GROUPS = ("team", "model")
_CHARSET = "utf-8"
_WARNING = "x-visiongate-warning"
_ALIAS_LIKE = re.compile(r"(?:^|[\s\[{,])\*\S", re.MULTILINE)


async def list_teams(ask: Ask) -> Any:
    return [team_shape(team) for team in await ask.desk.directory.teams()]


async def create_team(ask: Ask) -> Any:
    given = ask.body
    labels = {name: text for name, text in given.get("labels", {}).items() if text is not None}
    plan, limits = given.get("plan", "default"), given.get("limits", ())
    return team_shape(await ask.desk.create_team(given["name"], plan, limits, labels))


async def show_team(ask: Ask) -> Any:
    return await ask.desk.team_detail(ask.path["team"])


async def change_team(ask: Ask) -> Any:
    def changed(team: TeamRecord) -> TeamRecord:
        new = dict(_asked(ask))
        if "labels" in new:
            merged = {**team.labels, **new["labels"]}
            new["labels"] = {name: text for name, text in merged.items() if text is not None}
        return replace(team, **new)

    return team_shape(await ask.desk.change_team(ask.path["team"], changed))


async def delete_team(ask: Ask) -> Any:
    team = await ask.desk.directory.team(ask.path["team"])
    await ask.desk.directory.delete_team(team.name)
    return team_shape(replace(team, status="deleted"))


async def grant(ask: Ask) -> Any:
    until = ask.body.get("until")
    team = await ask.desk.grant(ask.path["team"], ask.body["amount"], until)
    return {**team_shape(team), "effective": await ask.desk.team_limits(team)}


async def list_keys(ask: Ask) -> Any:
    directory, name = ask.desk.directory, ask.query.get("team")
    teams = [await directory.team(name)] if name else await directory.teams()
    found = await asyncio.gather(*(directory.keys(team.name) for team in teams))
    return [key_shape(key) for keys in found for key in keys]


async def create_key(ask: Ask) -> Any:
    given = ask.body
    made = await ask.desk.create_key(
        given["team"],
        given["name"],
        given.get("plan"),
        given.get("limits", ()),
        given.get("expires_at"),
    )
    return new_key_shape(made)


async def show_key(ask: Ask) -> Any:
    effective = ask.query.get("effective", False)
    return await ask.desk.key_detail(ask.path["key"], ask.query.get("team"), effective)


async def change_key(ask: Ask) -> Any:
    def changed(key: KeyRecord) -> KeyRecord:
        return replace(key, **_asked(ask))

    return key_shape(await ask.desk.change_key(ask.path["key"], ask.query.get("team"), changed))


async def revoke_key(ask: Ask) -> Any:
    return key_shape(await ask.desk.revoke(ask.path["key"], ask.query.get("team")))


async def rotate_key(ask: Ask) -> Any:
    key = await ask.desk.directory.key(ask.path["key"], ask.query.get("team"))
    return new_key_shape(await ask.desk.directory.rotate_key(key, ask.body.get("overlap", OVERLAP)))


async def find_key(ask: Ask) -> Any:
    return await find_owners(ask.desk.directory, ask.body["key"])


async def list_targets(ask: Ask) -> Any:
    return await ask.desk.targets.rows()


async def disable_target(ask: Ask) -> Any:
    given = ask.body
    more = given.get("until"), given.get("reason", "")
    return _switched(await ask.desk.targets.disable(given["provider"], given.get("model"), *more))


async def enable_target(ask: Ask) -> Any:
    return _switched(await ask.desk.targets.enable(ask.body["provider"], ask.body.get("model")))


def _switched(done: Switched) -> Any:
    return (done.rows, {_WARNING: "; ".join(done.warnings)}) if done.warnings else done.rows


async def show_usage(ask: Ask) -> Any:
    query = ask.query
    try:
        since, until = period(query.get("since"), query.get("until"), query.get("month"))
    except ValueError as error:
        param = "month" if "month" in query else "since"
        raise BadRequest(sentence(error), param=param) from None
    who = (query.get(name) for name in ("team", "key", "model"))
    asked = Question(query.get("by", _GROUPS), since, until, *who)
    try:
        report = await make_report(
            ask.desk.store, ask.desk.directory, list(ask.desk.config.models), asked
        )
    except DirectoryError as error:
        raise NotFound(sentence(error), param=error.field) from None
    return report.rows


async def show_audit(ask: Ask) -> Any:
    query = ask.query
    return await read_audit(
        ask.desk.store, query.get("since"), query.get("team"), query.get("limit", _LINES)
    )


async def export(ask: Ask) -> Any:
    data = await export_all(ask.desk.directory)
    if ask.query.get("format") == "json":
        return data
    text = await asyncio.to_thread(as_yaml, data)
    return web.Response(text=text, content_type="application/yaml", charset=_CHARSET)


async def restore(ask: Ask) -> Any:
    document = await asyncio.to_thread(_read_document, ask)
    plan = await plan_import(ask.desk.directory, ask.desk.config, document)
    if not ask.query.get("dry_run", False):
        await plan.apply(ask.desk.directory, lambda done, total: None)
    changes = [change.shape() for change in plan.changes]
    if not plan.strange:
        return changes
    return changes, {_WARNING: PEPPER_MISSING}


def _read_document(ask: Ask) -> Document | JsonDocument:
    try:
        text = ask.raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest("The document is not UTF-8 text.") from None
    if not text.strip():
        raise BadRequest("The document is empty.")
    if ask.media == "application/json":
        return JsonDocument(text, "body")
    if _has_alias(text):
        raise BadRequest("An alias (*name) is not taken here; write out what it stands for.")
    # Its references are not filled in: they would read this machine's files and environment.
    return read_yaml(text, "body", None)


def _has_alias(text: str) -> bool:
    """Whether YAML has an alias: few lines of them stand for more than any machine can hold."""
    if not _ALIAS_LIKE.search(text):
        return False
    with contextlib.suppress(yaml.YAMLError):  # which is told when it is read
        return any(isinstance(x, yaml.AliasEvent) for x in yaml.parse(text, yaml.SafeLoader))
    return False


def _asked(ask: Ask) -> dict[str, Any]:
    """The fields of a record as they are to be."""
    if not ask.body:
        raise BadRequest("Say what to change: the body has no field.")
    given = dict(ask.body)
    if "limits" in given:
        given["limits"] = merge((), tuple(given["limits"]))
    return given
