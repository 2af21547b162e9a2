"""`visiongate key`. A secret is printed once, when it is made, and alone on standard output."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from getpass import getpass
from typing import Any

from msgspec.structs import replace

from proxy.cli.faults import Failure, WrongUsage
from proxy.cli.output import note, say, show_fields, show_json, show_table
from proxy.cli.session import Session, in_session, waiting_for_input
from proxy.cli.teams import LIMIT_COLUMNS
from proxy.domain.identity import KeyRecord
from proxy.domain.keys import PREFIX
from proxy.manage.checks import changed_limits
from proxy.manage.desk import new_key_shape
from proxy.manage.findings import find_owners
from proxy.store.directory import NewKey
from proxy.store.shapes import key_shape, when

_ADVICE = """\
It is not shown again. To use it:
  export OPENAI_API_KEY=<the line above> OPENAI_BASE_URL=http://127.0.0.1:{port}/v1"""


@in_session
async def create(args: Namespace, s: Session) -> None:
    made = await s.desk.create_key(args.team, args.name, args.plan, args.limit, args.expires)
    _reveal(args, s, made, f"key '{made.record.name}' of the team '{made.record.team}' made")


@in_session
async def list_keys(args: Namespace, s: Session) -> None:
    teams = [await s.directory.team(args.team)] if args.team else await s.directory.teams()
    rows = [key_shape(key) for team in teams for key in await s.directory.keys(team.name)]
    if args.json:
        show_json(rows)
        return
    columns = ("id", "team", "name", "plan", "status", "limits", "expires_at")
    empty = "no keys yet; make one: visiongate key create --team TEAM --name NAME"
    show_table(columns, rows, empty=empty)


@in_session
async def show(args: Namespace, s: Session) -> None:
    key = await s.desk.key_detail(args.key, args.team, args.effective)
    if args.json:
        show_json(key)
        return
    bounds = key.pop("effective", None)
    show_fields({**key, "secrets": list(map(_ending, key["secrets"]))})
    if bounds is not None:
        say("")
        show_table(LIMIT_COLUMNS, bounds, empty="no limits bind it")


def _ending(secret: Mapping[str, Any]) -> str:
    until = secret["expires_at"]
    return f"{PREFIX}…{secret['ends_in']}" + (f" until {until}" if until else "")


@in_session
async def change(args: Namespace, s: Session) -> None:
    asked = (args.name, args.plan, args.remove_plan, args.limit, args.remove_limit, args.status)
    if not any(asked) and "expires" not in args:
        raise WrongUsage("say what to change: --name, --plan, --limit, --expires, --pause, ...")
    if args.plan and args.remove_plan:
        raise WrongUsage("--plan and --remove-plan contradict each other")

    def changed(key: KeyRecord) -> KeyRecord:
        whose = f"key '{key.name}'"
        return replace(
            key,
            name=args.name or key.name,
            plan=None if args.remove_plan else args.plan or key.plan,
            limits=changed_limits(key.limits, args.limit, args.remove_limit, whose),
            expires_at=getattr(args, "expires", key.expires_at),
            status=args.status or key.status,
        )

    _done(args, await s.desk.change_key(args.key, args.team, changed), "changed")


@in_session
async def rotate(args: Namespace, s: Session) -> None:
    key = await s.directory.key(args.key, args.team)
    made = await s.directory.rotate_key(key, args.overlap)
    ends = made.record.secrets[1].expires_at if len(made.record.secrets) > 1 else None
    old = f"the old one goes on until {when(ends)}" if ends else "the old one has stopped"
    _reveal(args, s, made, f"key '{key.name}' of the team '{key.team}' has a new secret; {old}")
    if (status := key_shape(made.record)["status"]) != "active":
        note(f"The key is {status}: to let it go on, see visiongate key set --help")


@in_session
async def revoke(args: Namespace, s: Session) -> None:
    key = await s.desk.revoke(args.key, args.team)
    _done(args, key, "revoked: it has stopped for good")


@in_session
async def find(args: Namespace, s: Session) -> None:
    rows = await find_owners(s.directory, _leaked_text(args))
    if args.json:
        show_json(rows)
        return
    columns = ("key", "status", "id", "team", "name")
    show_table(columns, rows, empty="no key of visiongate's form is in it")
    for row in rows:
        if row["live"]:
            note(f"{row['key']} is live; to stop it: visiongate key revoke {row['id']}")


def _leaked_text(args: Namespace) -> str:
    if args.stdin and args.text is not None:
        raise WrongUsage("give a text or --stdin, not both")
    if args.text is not None:
        return str(args.text)
    with waiting_for_input():
        if args.stdin or not sys.stdin.isatty():
            return sys.stdin.buffer.read().decode(errors="replace")
        try:
            return getpass("The text (not shown): ", stream=sys.stderr)
        except EOFError:
            raise Failure("there was no text") from None


def _reveal(args: Namespace, s: Session, made: NewKey, said: str) -> None:
    if args.json:
        show_json(new_key_shape(made))
        return
    note(f"{said}:")
    say(made.secret)
    note(_ADVICE.format(port=s.config.server.port))


def _done(args: Namespace, key: KeyRecord, said: str) -> None:
    if args.json:
        show_json(key_shape(key))
    else:
        say(f"key '{key.name}' ({key.id}) of the team '{key.team}': {said}")
