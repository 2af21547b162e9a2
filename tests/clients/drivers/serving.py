"""What every Python driver shares: a question on a line in, what was seen on a line out.

It runs in a client's own environment, with nothing of visiongate's: the standard library alone.
A question has `op`, `url` (ends in /v1), `key`, `model`, `text`, `picture` (a data URI), and may
have `temperature` and `usage` (a stream's is wanted).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class Seen:
    """What has come so far; a driver adds to it as it comes, for an error may be next."""

    def __init__(self) -> None:
        self.text = ""
        self.pieces = 0
        self.usage: tuple[int, int] | None = None

    def piece(self, text: str | None) -> None:
        if text:
            self.text += text
            self.pieces += 1

    def counted(self, input: int | None, output: int | None) -> None:
        self.usage = (input or 0, output or 0)


Op = Callable[[Any, Seen], None]


def area(width: int, height: int) -> int:
    """The area of a rectangle."""
    return width * height


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "area",
        "description": "The area of a rectangle.",
        "parameters": {
            "type": "object",
            "properties": {"width": {"type": "integer"}, "height": {"type": "integer"}},
            "required": ["width", "height"],
        },
    },
}


def serve(**ops: Op) -> None:
    """Answer until the input ends. What a client prints goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        ask, seen, error = SimpleNamespace(**{"usage": False, **json.loads(line)}), Seen(), None
        began = time.monotonic()
        try:
            ops[ask.op](ask, seen)
        except Exception as raised:
            kinds = [kind.__name__ for kind in type(raised).__mro__]
            error = {"kinds": getattr(raised, "kinds", kinds), "text": str(raised)}
        seconds = time.monotonic() - began
        print(json.dumps({**vars(seen), "error": error, "seconds": seconds}), file=out, flush=True)
