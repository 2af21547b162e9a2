"""`visiongate target` on the command line."""

from __future__ import annotations

from proxy.cli.parser import Commands, command, group, option
from proxy.manage import values


def add_targets(commands: Commands) -> None:
    """Add the family."""
    target = group(commands, "target", "targets: where models are served, on and off")
    example = "visiongate target {}"
    more = "Of the store and the configuration: what a gateway itself finds failing is in /metrics."
    command(
        target,
        "list",
        "targets:list_targets",
        "every model's targets, and which are off, until when and by whom",
        example.format("list"),
        more=more,
    )
    disable = command(
        target,
        "disable",
        "targets:disable",
        "send a provider no more requests, or none for one model",
        "visiongate target disable openai --for 2h --reason 'incident 4711'\n"
        "visiongate target disable openai --model gpt-4o",
        more="Every gateway knows within moments and without a deploy; requests under way are "
        "finished. Without --for it stays off until it is enabled. Once more replaces the end.",
    )
    enable = command(
        target,
        "enable",
        "targets:enable",
        "let a provider serve again, or serve one model",
        "visiongate target enable openai",
        more="Without --model all that is off of the provider.",
    )
    for parser in (disable, enable):
        parser.add_argument("provider", metavar="PROVIDER", help="as the configuration names it")
        parser.add_argument("--model", help="only its target of this model")
    help = "how long, such as 2h or 7d (default: until it is enabled)"
    disable.add_argument(
        "--for", dest="until", type=option(values.span_end), metavar="SPAN", help=help
    )
    disable.add_argument(
        "--reason", type=option(values.reason), default=None, help="shown in the list and the audit"
    )
