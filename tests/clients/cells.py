"""The matrix's columns: what each client is asked to do, and what must be seen of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.clients.upstream import CUT, TEXT, USAGE, WELL

#: A PNG of 64 by 48 pixels, as base64.
PICTURE: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAAAwAgMAAADcJZSMAAAADFBMVEUAgoL/kQD/4XgARlogl0dpAAAAbElEQVR42mNgGAXk"
    "Aa1VUAYjhGJawfAtAcKCCHAwMHAwIAsowFnMEGoqAwOD9gGECiaoKoQWBGCCmQkzFYcKJMASysDAwMDKwMDAwBhKnBYcAn/g"
    "BC4V/xkYGBg+IKs4AMUMDIz/ybR2EAoAAIXnDAqgcdgcAAAAAElFTkSuQmCC"
)

#: What begins as a PNG and is none, as base64.
BROKEN: Final = "iVBORw0KGgpub3QgYSBwaWN0dXJlIGF0IGFsbCwgYnV0IHdvcmRz"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client made of an answer. `pieces` counts those with something in them; `usage` is
    (input, output) tokens; `error` is None or {"kinds": its class and those above it, "text": all
    that it tells}; `attempts` is the gateway's own count, of no use where no key was known.
    """

    text: str = ""
    pieces: int = 0
    usage: tuple[int, int] | None = None
    error: Mapping[str, Any] | None = None
    attempts: int = 0


class Way(NamedTuple):
    """What a client does in its own way: the class of its error in this cell, how often it asks,
    whether it shows what came of a stream before it broke off.
    """

    kind: str = ""
    attempts: int = 1
    shows: bool = True


#: None where it is as it must be, else what is wrong.
Judge = Callable[[Seen, Way], str | None]


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

    def judge(seen: Seen, way: Way) -> str | None:
        if seen.error:
            return f"it raised {_told(seen.error)}"
        if not seen.attempts:
            return "the gateway was not asked"
        return None if text in seen.text else f"{text!r} is not in {seen.text!r}"

    return judge


def streams(seen: Seen, way: Way) -> str | None:
    wrong = says(TEXT)(seen, way)
    return wrong or (None if seen.pieces > 1 else "it came in one piece")


def counts(seen: Seen, way: Way) -> str | None:
    wanted = (USAGE["prompt_tokens"], USAGE["completion_tokens"])
    wrong = says(TEXT)(seen, way)
    return wrong or (None if seen.usage == wanted else f"usage {seen.usage}, not {wanted}")


def raises(*words: str, asked: bool = True, counted: bool = False) -> Judge:
    """The client's own error for it, which tells all of `words`; `asked`: the gateway's, not one
    of the client's own; `counted`: after so many attempts as a client should make.
    """

    def judge(seen: Seen, way: Way) -> str | None:
        if seen.error is None:
            return f"no error was raised; it answered {seen.text!r}"
        if way.kind not in seen.error["kinds"]:
            return f"not {way.kind} but {_told(seen.error)}"
        missing = [word for word in words if word.lower() not in seen.error["text"].lower()]
        if missing:
            return f"{missing} not told by {_told(seen.error)}"
        if asked and not seen.attempts:
            return f"the gateway was not asked; {_told(seen.error)}"
        if counted and seen.attempts != way.attempts:
            return f"it asked {seen.attempts} times, not {way.attempts}"
        return None

    return judge


def waits(seen: Seen, way: Way) -> str | None:
    """It is refused, asks again by itself, and gets its answer."""
    wrong = says(TEXT)(seen, way)
    return wrong or (None if seen.attempts > 1 else "it was not refused at first")


def breaks(seen: Seen, way: Way) -> str | None:
    """What had come was shown, and then an error raised."""
    wrong = raises()(seen, way)
    if wrong:
        return wrong
    if way.shows and not seen.pieces:
        return "nothing was shown of what had come"
    return None if TEXT not in seen.text else "it was not cut"


def _told(error: Mapping[str, Any]) -> str:
    return f"{error['kinds'][0]}: {error['text'][:300]}"


def uri(picture: str) -> str:
    return f"data:image/png;base64,{picture}"


CELLS: Final = (
    Cell("answer", "whole", says(TEXT)),
    Cell("stream", "stream", streams),
    Cell("image", "image", says("64x48")),
    Cell("tools", "tools", says("3072")),
    Cell("usage", "whole", counts),
    Cell("stream usage", "stream", counts, fields={"usage": True}),
    Cell("401 key", "whole", raises("key", asked=False), known=False),
    Cell("404 model", "whole", raises("no-such-model"), model="no-such-model"),
    Cell("400 field", "whole", raises("temperature"), fields={"temperature": 9}),
    Cell("400 image", "image", raises("image_url"), fields={"picture": uri(BROKEN)}),
    Cell(
        "429 budget", "whole", raises("1 request", counted=True), limits=("1 request",), spent=True
    ),
    Cell("429 rate", "whole", waits, limits=("1 concurrent",), held=True),
    Cell("cut", "stream", breaks, model=CUT),
)
