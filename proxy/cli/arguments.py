"""Every command, its options and its examples. Only argparse is needed to show them."""

from __future__ import annotations

from typing import Final

from proxy import __version__
from proxy.cli.key_arguments import add_keys
from proxy.cli.parser import Commands, Parser, command, option
from proxy.cli.target_arguments import add_targets
from proxy.cli.team_arguments import add_teams
from proxy.manage import values

_START: Final = """\
to look around:   visiongate demo
to begin:         visiongate check
                  visiongate team create vision --limit "50 usd/month"
                  visiongate key create --team vision --name ci
                  visiongate serve

exit status: 0 done, 1 failed, 2 wrong usage or configuration
"""
_DETAILS: Final = ("low", "high", "auto", "original")


def build_parser() -> Parser:
    """The whole command line. The result's `run` names the command: `module:function`."""
    parser = Parser(
        prog="visiongate",
        description="The front door for vision-model APIs: team keys, exact budgets, safe images.",
        epilog=_START,
    )
    parser.add_argument("--version", action="version", version=f"visiongate {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for family in (_serving, add_teams, add_keys, add_targets, _image, _usage, _audit, _transfer):
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
