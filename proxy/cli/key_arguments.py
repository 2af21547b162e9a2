"""`visiongate key` on the command line."""

from __future__ import annotations

from argparse import SUPPRESS
from typing import Final

from proxy.cli.parser import Commands, Parser, command, group, option, repeated
from proxy.cli.team_arguments import LIMIT_HELP, REMOVE_LIMIT_HELP
from proxy.manage import values

_ROTATE: Final = """\
visiongate key rotate ci --overlap 7d
visiongate key rotate ci --team vision --overlap 0"""
_EXPIRES_HELP: Final = "a span (90d), a day (2027-01-31: from its first moment, UTC) or never"


def add_keys(commands: Commands) -> None:
    """Add the family."""
    key = group(commands, "key", "keys: what a team's programs identify themselves with")
    create = command(
        key,
        "create",
        "keys:create",
        "make a key and print its secret, this once",
        "visiongate key create --team vision --name ci --limit '1M tokens/day' --expires 90d",
    )
    create.add_argument("--team", required=True)
    create.add_argument("--name", required=True)
    create.add_argument("--plan", help="a plan that narrows the team's, for this key")
    repeated(create, "--limit", values.limit, LIMIT_HELP)
    create.add_argument("--expires", type=option(values.expiry), metavar="WHEN", help=_EXPIRES_HELP)
    listed = command(key, "list", "keys:list_keys", "all keys", "visiongate key list --team docs")
    listed.add_argument("--team")
    show = _key_command(key, "show", "a key", "visiongate key show ci --team vision --effective")
    show.add_argument(
        "--effective",
        action="store_true",
        help="every limit that binds it, where that comes from, and what is used of it",
    )
    rotate = _key_command(key, "rotate", "give a key a new secret", _ROTATE)
    rotate.add_argument(
        "--overlap",
        type=option(values.overlap),
        default=86_400,
        metavar="SPAN",
        help="how long the old secret goes on (default: 24h); 0 if it has leaked",
    )
    _key_command(key, "revoke", "stop a key for good", "visiongate key revoke ci --team vision")
    _key_changes(key)


def _key_changes(key: Commands) -> None:
    change = _key_command(
        key,
        "set",
        "change a key's name, plan, limits or end",
        "visiongate key set ci --limit '2M tokens/day' --expires never",
        run="change",
    )
    change.add_argument("--name", help="a new name")
    change.add_argument("--plan", help="a plan that narrows the team's, for this key")
    change.add_argument("--remove-plan", action="store_true", help="the team's plan alone")
    repeated(change, "--limit", values.limit, LIMIT_HELP)
    repeated(change, "--remove-limit", values.slot, REMOVE_LIMIT_HELP)
    change.add_argument(
        "--expires",
        type=option(values.expiry),
        default=SUPPRESS,
        metavar="WHEN",
        help=_EXPIRES_HELP,
    )
    status = change.add_mutually_exclusive_group()
    for name, value in (("--pause", "paused"), ("--resume", "active")):
        status.add_argument(name, dest="status", action="store_const", const=value)
    find = command(
        key,
        "find",
        "keys:find",
        "whose the keys in a text are, and whether they are live",
        "visiongate key find --stdin < leaked.log",
        more="Without a text it asks for one, unseen. A whole secret is never printed.",
    )
    find.add_argument("text", nargs="?", metavar="TEXT", help="stays in the shell's history")
    find.add_argument("--stdin", action="store_true", help="read the text from standard input")


def _key_command(
    key: Commands, name: str, help: str, example: str, *, run: str | None = None
) -> Parser:
    parser = command(key, name, f"keys:{run or name}", help, example)
    parser.add_argument("key", metavar="KEY", help="its id, or its name")
    parser.add_argument("--team", help="where several teams have a key of that name")
    return parser
