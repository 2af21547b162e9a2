"""The data of long data: URIs, cut out of a body before it is read. Pure.

They are nearly all of a large body, and mean nothing to whoever reads it as JSON: without them it
is a short one. What is cut is base64 or refused later (images/datauri.py), and thus text in JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proxy.domain.steps import Steps

#: JSON in pieces, as what is large in it should not be copied.
Pieces = list[bytes | memoryview]

#: What is before a data: URI's comma is shorter by far.
MOST_HEAD: Final = 256

#: What stands for cut data: a character that no honest body has.
HOLE: Final = b"\x7f"
_HOLE: Final = HOLE.decode()
_ESCAPED_HOLE: Final = b"\\u007"  # or nearly

#: How a data: URI begins in JSON.
BEGINNING: Final = b'"data:'

#: Bytes from which on data are cut out.
LONG: Final = 4096

#: Bytes that are searched in a step.
_STEP: Final = 256 << 10

#: URIs in a step, and in all: no honest request has so many, and each costs a look.
_AT_ONCE: Final = 256
_MOST: Final = 10_000


def cut_data(body: bytes) -> Steps[tuple[bytes, list[memoryview]]]:
    """The body with a HOLE in place of the data of each long data: URI, and these data where they
    lie. Nothing is cut where another HOLE is in the body, or one might be.
    """
    view, pieces, cuts, done, seen = memoryview(body), Pieces(), list[memoryview](), 0, 0
    at = yield from _find(body, BEGINNING, 0)
    while at >= 0 and seen < _MOST:
        seen += 1
        if seen % _AT_ONCE == 0:
            yield
        start = body.find(b",", at, at + MOST_HEAD) + 1
        end = yield from _find(body, b'"', at + 1)
        # Without a quote or backslash in it, it is all in one text, whatever is before.
        if 0 < start <= end - LONG and (yield from _find(body, b"\\", start, end)) < 0:
            pieces += (view[done:start], HOLE)
            cuts.append(view[start:end])
            done = end
        at = (yield from _find(body, BEGINNING, end)) if end >= 0 else -1
    if not cuts:
        return body, cuts
    left = b"".join((*pieces, view[done:]))
    if left.count(HOLE) > len(cuts) or _ESCAPED_HOLE in left:
        return body, []
    return left, cuts


def _find(body: bytes, text: bytes, start: int, end: int | None = None) -> Steps[int]:
    """`body.find`, in steps."""
    end = len(body) if end is None else end
    while start < end:
        found = body.find(text, start, min(start + _STEP + len(text) - 1, end))
        if found >= 0:
            return found
        start += _STEP
        if start < end:
            yield
    return -1


def is_cut(url: str) -> bool:
    """Whether this is a data: URI of which a HOLE is left behind its first comma."""
    return url.endswith(_HOLE) and url[:5] == "data:" and url.find(",") == len(url) - 2


def filled(text: bytes, hole: bytes, data: Sequence[bytes | memoryview]) -> Pieces:
    """A text with the data in place of its holes."""
    first, *others = text.split(hole)
    pieces = Pieces([first])
    for inner, after in zip(data, others, strict=True):
        pieces += (inner, after)
    return pieces
