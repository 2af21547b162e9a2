"""What the ledger's scripts take and keep as packed numbers; `store/lua/` says what they are."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from proxy.domain.identity import Bound
from proxy.domain.limits import ANY_MODEL
from proxy.domain.windows import window_of
from proxy.store.layout import key_field

#: The counter that every script reads first.
CLOCK: Final = "clock"

_KINDS: Final = {"minute": 0, "hour": 1, "day": 2, "month": 3, "total": 4}
_CONCURRENT: Final = 5
_WITH_PAST: Final = (2, 3, 4)
#: Which of a request's amounts a unit counts.
_PARTS: Final = {
    "requests": 1,
    "input tokens": 2,
    "output tokens": 3,
    "images": 4,
    "usd": 5,
    "tokens": 6,
    "concurrent": 1,
}
_LIMIT: Final = struct.Struct("<8d")
#: A reservation's admission (ms), and whether it has expired.
_HELD: Final = struct.Struct("<2d")
_EXPIRED: Final = 2
#: A charge: its amounts, and the cached and the image tokens among them.
CHARGED: Final = struct.Struct("<7d")


def script_words(script: str, words: tuple[str | int, ...]) -> tuple[str | int | bytes, ...]:
    """A settlement's words, as its script takes them: `settle` wants its seven figures as one."""
    if script != "settle":
        return words
    return *words[:3], CHARGED.pack(*words[3:10]), *words[10:]


def counters_of(key_id: str, model: str) -> list[str]:
    """The counters of every request of a key for a model: the clock, and four tallies."""
    key = key_field(key_id)
    return [CLOCK, f"team|{ANY_MODEL}", f"team|{model}", f"{key}|{ANY_MODEL}", f"{key}|{model}"]


def pack_limits(bounds: Iterable[Bound], counters: list[str]) -> bytes:
    """Limits as `limits.lua` takes them; those of their counters that are missing are added."""
    return b"".join(_pack_limit(bound, counters) for bound in bounds)


def _pack_limit(bound: Bound, counters: list[str]) -> bytes:
    limit = bound.limit
    kind = _CONCURRENT if limit.unit == "concurrent" else _KINDS[limit.window]
    if kind == _KINDS["minute"]:
        place, past = _place(bucket(bound), counters), 0
    else:
        tally = f"{bound.scope}|{limit.model}"
        place = _place(tally, counters)
        past = _place(f"past|{tally}", counters) if kind in _WITH_PAST else 0
    part = _PARTS[limit.unit]
    window = window_of(limit.window, bound.stamp) if bound.grant else (0, 0)
    return _LIMIT.pack(kind, place, past, part, limit.amount, bound.grant, *window)


def bucket(bound: Bound) -> str:
    """The counter of a limit per minute."""
    limit = bound.limit
    return f"{bound.scope}|{limit.unit}|minute|{limit.model}"


def bucket_words(bound: Bound) -> tuple[str | int, ...]:
    """The same limit as `post` takes it."""
    return bucket(bound), bound.limit.amount, _PARTS[bound.limit.unit]


def _place(counter: str, counters: list[str]) -> int:
    """Where it is among them; Lua counts from 1."""
    if counter not in counters:
        counters.append(counter)
    return counters.index(counter) + 1


def admitted(reservation: bytes) -> float | None:
    """When one in flight was admitted, in ms; None of one that is over or has expired."""
    if not reservation:
        return None
    when, state = _HELD.unpack_from(reservation)
    return None if state == _EXPIRED else when
