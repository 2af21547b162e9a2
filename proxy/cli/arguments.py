"""Every command, its options and its examples. Only argparse is needed to show them."""

from __future__ import annotations

from argparse import SUPPRESS
from typing import Final

from proxy import __version__
from proxy.cli.parser import Commands, Parser, command, group, option, repeated
from proxy.cli.target_arguments import add_targets
from proxy.manage import values

_START: Final = """\
to look around:   visiongate demo
to begin:         visiongate check
                  visiongate team create vision --limit "50 usd/month"
                  visiongate key create --team vision --name ci
                  visiongate serve

exit status: 0 done, 1 failed, 2 wrong usage or configuration
"""
_LIMIT_HELP: Final = (
    "such as '50 usd/month', '1M tokens/day', '20 concurrent' or '100k tokens/day on gpt-4o'; "
    "replaces the limit of the same unit, window and model; may be repeated"
)
_REMOVE_LIMIT_HELP: Final = "a limit of its own, without the amount, such as 'usd/month'"
_ROTATE: Final = """\
visiongate key rotate ci --overlap 7d
visiongate key rotate ci --team vision --overlap 0"""
_DETAILS: Final = ("low", "high", "auto", "original")
_EXPIRES_HELP: Final = "a span (90d), a day (2027-01-31: from its first moment, UTC) or never"


def build_parser() -> Parser:
    """The whole command line. The result's `run` names the command: `module:function`."""
    parser = Parser(
        prog="visiongate",
        description="The front door for vision-model APIs: team keys, exact budgets, safe images.",
        epilog=_START,
    )
    parser.add_argument("--version", action="version", version=f"visiongate {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for family in (_serving, _teams, _keys, add_targets, _image, _usage, _audit, _transfer):
        family(commands)
    return parser


def _serving(commands: Commands) -> None:
    demo = command(
        commands,
        "demo",
        "serving:demo",
        "everything embedded, in the foreground: store, demo upstream, a team and a key",
        "visiongate demo",
    )
    demo.add_argument("--port", type=option(_port), metavar="N", help="default: 8080 or a free one")
    command(commands, "serve", "serving:serve", "the gateway", "visiongate serve", json=False)
    check = command(
        commands,
        "check",
        "serving:check",
        "validate the configuration and the store, every problem at once",
        "visiongate -c config/visiongate.yaml check\nvisiongate check --providers",
        more="Ends with 2 if the configuration is wrong, 1 if the store or a provider that was "
        "asked cannot be used.",
    )
    check.add_argument(
        "--providers",
        action="store_true",
        help="ask each provider, with each of its keys, for its list of models, which costs "
        "nothing: reachable? authorised? which configured models does it not list (a warning: it "
        "may be an alias)?",
    )


def _teams(commands: Commands) -> None:
    team = group(commands, "team", "teams: who pays, and how much at most")
    create = command(
        team,
        "create",
        "teams:create",
        "make a team",
        "visiongate team create vision --plan default --limit '50 usd/month' "
        "--label cost-center=42",
    )
    create.add_argument("name", metavar="NAME")
    create.add_argument("--plan", default="default", help="a plan (default: 'default')")
    repeated(create, "--limit", values.limit, _LIMIT_HELP)
    repeated(create, "--label", values.label, "NAME=VALUE; shown in usage reports")
    command(team, "list", "teams:list_teams", "all teams", "visiongate team list")
    example = "visiongate team {} vision"
    for name, run, help in (
        ("show", "teams:show", "a team, its keys, and what is used of every limit"),
        ("pause", "teams:pause", "refuse a team's requests until it is resumed"),
        ("resume", "teams:resume", "let a paused team go on"),
    ):
        command(team, name, run, help, example.format(name)).add_argument("name", metavar="NAME")
    _team_changes(team)


def _team_changes(team: Commands) -> None:
    change = command(
        team,
        "set",
        "teams:change",
        "change a team's plan, limits or labels",
        "visiongate team set vision --limit '80 usd/month' --remove-limit tokens/day",
    )
    change.add_argument("name", metavar="NAME")
    change.add_argument("--plan", help="a plan of the configuration")
    repeated(change, "--limit", values.limit, _LIMIT_HELP)
    repeated(change, "--remove-limit", values.slot, _REMOVE_LIMIT_HELP)
    repeated(change, "--label", values.label, "NAME=VALUE")
    repeated(change, "--remove-label", str, "NAME")
    _team_grant(team)
    delete = command(
        team,
        "delete",
        "teams:delete",
        "delete a team: its keys stop at once, its usage is kept",
        "visiongate team delete vision --yes",
    )
    delete.add_argument("name", metavar="NAME")
    delete.add_argument("--yes", action="store_true", help="do not ask")


def _team_grant(team: Commands) -> None:
    grant = command(
        team,
        "grant",
        "teams:grant",
        "give a team more of one of its limits, once",
        "visiongate team grant vision '20 usd' --until 2026-12-31\n"
        "visiongate team grant vision '500k tokens/day'",
        more="The limit itself stays as it is. What is used beyond it comes off the grant, which "
        "ends with the window that is now, or at --until: where that is later, what is left goes "
        "on in the next window. An amount without a window adds to the only limit of its unit.",
    )
    grant.add_argument("name", metavar="NAME")
    grant.add_argument("amount", type=option(values.limit), metavar="AMOUNT")
    grant.add_argument(
        "--until",
        type=option(values.until),
        metavar="WHEN",
        help="a span (14d), a day (2026-12-31: until its first moment, UTC) or a time",
    )


def _keys(commands: Commands) -> None:
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
    repeated(create, "--limit", values.limit, _LIMIT_HELP)
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
    repeated(change, "--limit", values.limit, _LIMIT_HELP)
    repeated(change, "--remove-limit", values.slot, _REMOVE_LIMIT_HELP)
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


def _image(commands: Commands) -> None:
    image = command(
        commands,
        "image",
        "image:show",
        "verdict, type, size, tokens and usd of an image, per model",
        "visiongate image cat.jpg\n"
        "visiongate image https://example.com/cat.png --model gpt-4o --detail high",
        more="It is judged by the images block of the configuration, and priced for every model "
        "that takes images. Exit 1: it would be refused.",
    )
    image.add_argument("image", metavar="URL|FILE", help="a link, a data: URI or a file")
    image.add_argument("--model", help="only for this one")
    image.add_argument("--detail", choices=_DETAILS, help="as a request would ask for it")


def _usage(commands: Commands) -> None:
    usage = command(
        commands,
        "usage",
        "usage:report",
        "what was used, from the book of record",
        "visiongate usage --month 2026-11 --by team --format csv\n"
        "visiongate usage --team vision --since 7d --by day,key",
        more="Without a period: the month so far. Days are UTC.",
    )
    for name, help in (
        ("team", "only this team's"),
        ("key", "only this key's: an id or a name"),
        ("model", "only this model's"),
    ):
        usage.add_argument(f"--{name}", help=help)
    for name, what in (("since", "first"), ("until", "last")):
        help = f"the {what} day: 2026-11-01, or the day that was 7d ago"
        usage.add_argument(f"--{name}", type=option(values.day), metavar="DAY", help=help)
    usage.add_argument("--month", type=option(values.month), help="such as 2026-11")
    usage.add_argument(
        "--by",
        type=option(values.groups),
        default=("team", "model"),
        metavar="FIELDS",
        help=f"of {','.join(values.GROUPS)} (default: team,model)",
    )
    usage.add_argument(
        "--format", choices=("table", "csv", "json"), default="table", help="(default: table)"
    )


def _audit(commands: Commands) -> None:
    audit = command(
        commands,
        "audit",
        "audit:show",
        "who changed which team, key or target, when, and from what to what",
        "visiongate audit --since 30d --team vision\n"
        "VISIONGATE_ACTOR=deploy-17 visiongate team pause vision",
        more="The newest line comes last. Who: $VISIONGATE_ACTOR, else the user and the host. "
        "A line is written before its change: the last one may tell of one that failed.",
    )
    audit.add_argument(
        "--since",
        type=option(values.since),
        metavar="WHEN",
        help="a span (24h), a day (2026-11-01) or a time (default: 7d)",
    )
    audit.add_argument("--team", help="only this team's and its keys'")


def _transfer(commands: Commands) -> None:
    export = command(
        commands,
        "export",
        "transfer:export",
        "teams, keys (hashes) and limits as YAML",
        "visiongate export -o teams.yaml",
        json=False,
        more="Together with the peppers it is a whole backup, but for usage: keep it private.",
    )
    export.add_argument(
        "-o", dest="output", metavar="FILE", help="written with mode 0600; NAME.json: as JSON"
    )
    restore = command(
        commands,
        "import",
        "transfer:restore",
        "make teams and keys what a file says",
        "visiongate import teams.yaml --dry-run\nvisiongate import teams.yaml",
        more="What the file says stands: also an older status, limits and grants. What it does "
        "not say stays as it is; nothing is deleted, and no key that was revoked and no secret "
        "that was replaced comes back. Twice is as good as once.",
    )
    restore.add_argument(
        "file",
        metavar="FILE",
        help="as export writes it: YAML, or JSON in NAME.json; - is standard input",
    )
    restore.add_argument(
        "--dry-run", action="store_true", help="print what would change, and change nothing"
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise ValueError(f"{text!r} is not a port")
    return int(text)
