"""`visiongate team` on the command line."""

from __future__ import annotations

from typing import Final

from proxy.cli.parser import Commands, command, group, option, repeated
from proxy.manage import values

LIMIT_HELP: Final = (
    "such as '50 usd/month', '1M tokens/day', '20 concurrent' or '100k tokens/day on gpt-4o'; "
    "replaces the limit of the same unit, window and model; may be repeated"
)
REMOVE_LIMIT_HELP: Final = "a limit of its own, without the amount, such as 'usd/month'"


def add_teams(commands: Commands) -> None:
    """Add the family."""
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
    repeated(create, "--limit", values.limit, LIMIT_HELP)
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
    repeated(change, "--limit", values.limit, LIMIT_HELP)
    repeated(change, "--remove-limit", values.slot, REMOVE_LIMIT_HELP)
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
        "visiongate team grant vision '20 usd' --until 14d\n"
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
