"""How commands are told to argparse, and how what is wrong with one is told to a person."""

from __future__ import annotations

import sys
import textwrap
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

T = TypeVar("T")

_WIDTH: Final = 79

Commands = Any  # what add_subparsers returns; argparse keeps its type to itself


class Parser(ArgumentParser):
    """argparse with our form of an error, and where to read on."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            **settings, allow_abbrev=False, formatter_class=RawDescriptionHelpFormatter
        )
        self.add_argument(
            "-c",
            dest="config",
            metavar="FILE",
            default=SUPPRESS,  # else what was given before a subcommand would be lost
            help="the configuration (default: $VISIONGATE_CONFIG, then config/visiongate.yaml)",
        )

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"visiongate: {message}\nsee: {self.prog} --help\n")
        sys.exit(2)


def command(
    commands: Commands,
    name: str,
    run: str,
    help: str,
    example: str,
    *,
    json: bool = True,
    more: str = "",
) -> Parser:
    """Add a command, which `run` (`module:function`) carries out."""
    description = textwrap.fill(f"{help[0].upper()}{help[1:]}. {more}".strip(), _WIDTH)
    epilog = "example:\n" + "\n".join(f"  {line}" for line in example.splitlines())
    parser: Parser = commands.add_parser(name, help=help, description=description, epilog=epilog)
    parser.set_defaults(run=run)
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def group(commands: Commands, name: str, help: str) -> Commands:
    """Add a family of commands."""
    parser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def option(read: Callable[[str], T]) -> Callable[[str], T]:
    """A reader as argparse takes it, with its own message."""

    def read_option(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from error

    return read_option


def repeated(parser: Parser, name: str, read: Callable[[str], Any], help: str) -> None:
    """Add an option that may be given several times."""
    metavar = name.rpartition("-")[2].upper()
    parser.add_argument(
        name, type=option(read), action="append", default=[], metavar=metavar, help=help
    )
