"""The matrix's columns: what each client is asked to do, and what must be seen of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.clients.upstream import CUT, TEXT, USAGE, WELL

#: A PNG of 64 by 48 pixels, as base64.
PICTURE: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAAAwAgMAAADcJZSMAAAADFBMVEUAgoL/kQD/4XgARlogl0dpAAAAbElEQVR42mNgGAXk"
    "Aa1VUAYjhGJawfAtAcKCCHAwMHAwIAsowFnMEGoqAwOD9gGECiaoKoQWBGCCmQkzFYcKJMASysDAwMDKwMDAwBhKnBYcAn/g"
    "BC4V/xkYGBg+IKs4AMUMDIz/ybR2EAoAAIXnDAqgcdgcAAAAAElFTkSuQmCC"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client made of an answer. `pieces` counts those with something in them; `usage` is
    (input, output) tokens; `error` is None or {"kind": its class, "text": all it tells}; `attempts`
    is the gateway's own count, of no use where no key was known.
    """

    text: str = ""
    pieces: int = 0
    usage: tuple[int, int] | None = None
    error: Mapping[str, str] | None = None
    attempts: int = 0


#: None where it is as it must be, else what is wrong. Given too: the class of the client's error
#: for the cell, and how often it may ask.
Judge = Callable[[Seen, str, int], str | None]


@dataclass(frozen=True, slots=True)
class Cell:
    """`op` is the driver's function, `fields` are what it is told beside the usual; `limits` are
    the key's. `spent` and `held` are what is done with the key before.
    """

    name: str
    op: str
    judge: Judge
    model: str = WELL
    limits: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    known: bool = True
    spent: bool = False
    held: bool = False


def says(text: str) -> Judge:
    """The answer holds this, and no error."""

    def judge(seen: Seen, kind: str, attempts: int) -> str | None:
        if seen.error:
            return f"it raised {_told(seen.error)}"
        return None if text in seen.text else f"{text!r} is not in {seen.text!r}"

    return judge


def streams(seen: Seen, kind: str, attempts: int) -> str | None:
    wrong = says(TEXT)(seen, kind, attempts)
    return wrong or (None if seen.pieces > 1 else "it came in one piece")


def counts(seen: Seen, kind: str, attempts: int) -> str | None:
    wanted = (USAGE["prompt_tokens"], USAGE["completion_tokens"])
    wrong = says(TEXT)(seen, kind, attempts)
    return wrong or (None if seen.usage == wanted else f"usage {seen.usage}, not {wanted}")


def raises(*words: str, counted: bool = False) -> Judge:
    """The client's own error for it, which tells all of `words`; `counted`: after so many attempts
    as a client should make.
    """

    def judge(seen: Seen, kind: str, attempts: int) -> str | None:
        if seen.error is None:
            return f"no error was raised; it answered {seen.text!r}"
        if seen.error["kind"] != kind:
            return f"not {kind} but {_told(seen.error)}"
        missing = [word for word in words if word.lower() not in seen.error["text"].lower()]
        if missing:
            return f"{missing} not told by {_told(seen.error)}"
        if counted and seen.attempts != attempts:
            return f"it asked {seen.attempts} times, not {attempts}"
        return None

    return judge


def waits(seen: Seen, kind: str, attempts: int) -> str | None:
    """It is refused, asks again by itself, and gets its answer."""
    wrong = says(TEXT)(seen, kind, attempts)
    return wrong or (None if seen.attempts > 1 else "it was not refused at first")


def breaks(seen: Seen, kind: str, attempts: int) -> str | None:
    """What had come was shown, and then an error raised."""
    wrong = raises()(seen, kind, attempts)
    if wrong:
        return wrong
    return None if seen.pieces else "nothing was shown of what had come"


def _told(error: Mapping[str, str]) -> str:
    return f"{error['kind']}: {error['text'][:300]}"


CELLS: Final = (
    Cell("answer", "whole", says(TEXT)),
    Cell("stream", "stream", streams),
    Cell("image", "image", says("64x48")),
    Cell("tools", "tools", says("3072")),
    Cell("usage", "whole", counts),
    Cell("stream usage", "stream", counts, fields={"usage": True}),
    Cell("401 key", "whole", raises("key"), known=False),
    Cell("404 model", "whole", raises("no-such-model"), model="no-such-model"),
    Cell("400 field", "whole", raises("temperature"), fields={"temperature": 9}),
    Cell(
        "429 budget", "whole", raises("1 request", counted=True), limits=("1 request",), spent=True
    ),
    Cell("429 rate", "whole", waits, limits=("1 concurrent",), held=True),
    Cell("cut", "stream", breaks, model=CUT),
)
