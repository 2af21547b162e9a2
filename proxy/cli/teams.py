"""`visiongate team`."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from msgspec.structs import replace

from proxy.cli.faults import Failure, WrongUsage
from proxy.cli.output import say, show_fields, show_json, show_table
from proxy.cli.session import Session, in_session, waiting_for_input
from proxy.domain.identity import TeamRecord
from proxy.manage.checks import Unfit, changed_limits
from proxy.store.shapes import grant_text, team_shape

LIMIT_COLUMNS = (
    "limit",
    "of",
    "from",
    "amount",
    "granted",
    "used",
    "reserved",
    "remaining",
    "resets_at",
)


@in_session
async def create(args: Namespace, s: Session) -> None:
    team = await s.desk.create_team(args.name, args.plan, args.limit, dict(args.label))
    hint = f"give it a key: visiongate key create --team {team.name} --name NAME"
    _done(args, team, f"made; {hint}")


@in_session
async def list_teams(args: Namespace, s: Session) -> None:
    rows = [team_shape(team) for team in await s.directory.teams()]
    if args.json:
        show_json(rows)
        return
    columns = ("name", "plan", "status", "limits", "grants", "labels", "created_at")
    show_table(columns, rows, empty="no teams yet; make one: visiongate team create NAME")


@in_session
async def show(args: Namespace, s: Session) -> None:
    team = await s.desk.team_detail(args.name)
    if args.json:
        show_json(team)
        return
    bounds, keys = team.pop("effective"), team.pop("keys")
    show_fields(team)
    say("")
    show_table(LIMIT_COLUMNS, bounds, empty="no limits")
    say("")
    columns = ("id", "name", "plan", "status", "limits", "expires_at")
    show_table(columns, keys, empty="no keys")


@in_session
async def change(args: Namespace, s: Session) -> None:
    if not (args.plan or args.limit or args.remove_limit or args.label or args.remove_label):
        raise WrongUsage("say what to change: --plan, --limit, --remove-limit, --label, ...")

    def changed(team: TeamRecord) -> TeamRecord:
        whose = f"team '{team.name}'"
        return replace(
            team,
            plan=args.plan or team.plan,
            limits=changed_limits(team.limits, args.limit, args.remove_limit, whose),
            labels=_labels(team, args),
        )

    _done(args, await s.desk.change_team(args.name, changed), "changed")


def _labels(team: TeamRecord, args: Namespace) -> dict[str, str]:
    labels = dict(team.labels)
    for name in args.remove_label:
        if name not in labels:
            known = ", ".join(labels) or "none"
            raise Unfit(f"the team '{team.name}' has no label {name!r}; its labels: {known}")
        del labels[name]
    return labels | dict(args.label)


@in_session
async def pause(args: Namespace, s: Session) -> None:
    await _set_status(args, s, "paused", "paused: its requests are refused")


@in_session
async def resume(args: Namespace, s: Session) -> None:
    await _set_status(args, s, "active", "active")


async def _set_status(args: Namespace, s: Session, status: str, said: str) -> None:
    team = await s.directory.change_team(args.name, lambda team: replace(team, status=status))
    _done(args, team, said)


@in_session
async def grant(args: Namespace, s: Session) -> None:
    team = await s.desk.grant(args.name, args.amount, args.until)
    bounds = await s.desk.team_limits(team)
    _done(args, team, f"granted {grant_text(team.grants[-1])}", effective=bounds)


@in_session
async def delete(args: Namespace, s: Session) -> None:
    team = await s.directory.team(args.name)
    if not args.yes:
        live = sum(key.status != "revoked" for key in await s.directory.keys(team.name))
        _ask(f"Delete the team '{team.name}' and stop its keys ({live})? [y/N] ")
    await s.directory.delete_team(team.name)
    _done(args, replace(team, status="deleted"), "deleted; its usage is kept")


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise WrongUsage("nobody can be asked here: add --yes to delete it all the same")
    sys.stderr.write(question)
    sys.stderr.flush()
    with waiting_for_input():
        answer = sys.stdin.readline()
    if answer.strip().lower() not in ("y", "yes"):
        raise Failure("nothing was deleted")


def _done(args: Namespace, team: TeamRecord, said: str, **more: Any) -> None:
    if args.json:
        show_json({**team_shape(team), **more})
    else:
        say(f"team '{team.name}': {said}")
