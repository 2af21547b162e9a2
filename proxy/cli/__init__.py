"""The command line. What a command needs is imported when it runs: `--help` is quick."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from proxy.cli.arguments import build_parser

if TYPE_CHECKING:
    from argparse import Namespace

#: As a shell reports a command that Ctrl-C ended.
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0: done, 1: failed, 2: wrong usage or configuration."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # programs read it, whatever the locale
    try:
        args = build_parser().parse_args(argv)
        code = _run(args)
        sys.stdout.flush()
    except SystemExit as left:  # argparse, after --help or wrong usage
        return left.code if isinstance(left.code, int) else 1
    except BrokenPipeError:
        # Whoever read us has gone; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a disk that is full
        sys.stderr.write(f"visiongate: cannot write: {error.strerror}\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    return code


def _run(args: Namespace) -> int:
    from proxy.cli.faults import WrongUsage, explain

    module, _, name = args.run.partition(":")
    try:
        for option, value in vars(args).items():
            if value == "":  # as a script has it whose variable is not set
                raise WrongUsage(f"'{option}' is empty: give it a value, or leave it out")
        return import_module(f"proxy.cli.{module}").__dict__[name](args) or 0
    except BrokenPipeError:
        raise
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        code, message = told
        sys.stderr.write(message + "\n")
        return code
