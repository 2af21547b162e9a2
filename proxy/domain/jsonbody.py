"""Reading a request body: strict JSON, without a second meaning.

Two readers may disagree on a duplicate key, so what was checked might not be what the
upstream obeys. Hence duplicates are refused (RFC 8259 section 4 leaves them undefined).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec

from proxy.domain.errors import BadRequest

Json = Any  # dict | list | str | int | float | bool | None, as the JSON says

#: An honest schema of a tool nests some twenty levels; whoever walks a body later may recurse.
MOST_LEVELS: Final = 100

#: Decoding costs by the value, not by the byte: a comma is one, a container about eight.
MOST_WORK: Final = 3_000_000

#: No honest object has so many, where each name costs a check.
MOST_NAMES: Final = 1_000

#: A quote may be a key's or an escaped one: each costs the search for duplicates.
MOST_QUOTES: Final = 1_500_000

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VALUE = msgspec.json.Decoder()
_CONTAINERS = (dict, list)
_HALF_PAIR = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB]..\\u[dD][c-fC-F]..)*+"
    rb"(\\u[dD][89a-fA-F][0-9a-fA-F]{2})",
    re.DOTALL,
)
_KEY_LIKE = re.compile(rb'"[ \t\r\n]*:')


def read_object(body: bytes) -> tuple[dict[str, msgspec.Raw], dict[str, Json]]:
    """The body's fields, once as the bytes that came and once decoded.

    Raises BadRequest for anything but one JSON object in UTF-8 with distinct keys.
    """
    if not body:
        raise BadRequest("The request has no body; send a JSON object.")
    _check_utf8(body)
    work = 8 * (body.count(b"[") + body.count(b"{")) + body.count(b",")
    if work > MOST_WORK or body.count(b'"') > MOST_QUOTES:
        raise BadRequest("The request body holds too many values.")
    try:
        raw = _FIELDS.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError:
        raise BadRequest("The request body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise _not_json(body, error) from None
    if len(raw) > MOST_NAMES:
        raise BadRequest(f"The request body holds more than {MOST_NAMES} fields.")
    fields = {name: _decode(name, value) for name, value in raw.items()}
    # Every key shows up as a quote and a colon, and so may some text: equal counts prove
    # that no key was dropped, unequal ones call for the slow reader.
    keys = len(fields) + sum(_count_keys(name, value) for name, value in fields.items())
    if sum(1 for _ in _KEY_LIKE.finditer(body)) != keys:
        _refuse_duplicates(body)
    return raw, fields


def _check_utf8(body: bytes) -> None:
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The request body is not UTF-8 (byte {error.start}).") from None


def _not_json(body: bytes, error: msgspec.DecodeError) -> BadRequest:
    """msgspec has no words of its own for half a surrogate pair."""
    half = _HALF_PAIR.match(body) if body.count(b"\\") < MOST_QUOTES else None
    if half is None:
        return BadRequest(f"The request body is not valid JSON: {error}.")
    return BadRequest(
        f"The request body holds half a character: '{half[1].decode()}' at byte {half.start(1)} is "
        "one of a surrogate pair, without the other. Do not cut texts within a character."
    )


def _decode(name: str, value: msgspec.Raw) -> Json:
    try:
        return _VALUE.decode(value)
    except RecursionError:
        raise _too_deep(name) from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"Invalid value for '{name[:64]}': {error}.", param=name[:64]) from None


def _too_deep(param: str | None = None) -> BadRequest:
    return BadRequest("The request body is nested too deeply.", param=param)


def _count_keys(name: str, value: Json) -> int:
    """How many keys all the objects in a field's value have; level by level, not to recurse."""
    count = 0
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_LEVELS):
        if not level:
            return count
        count += sum(len(item) for item in level if isinstance(item, dict))
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = [v for values in inner for v in values if v.__class__ in _CONTAINERS]
    raise _too_deep(name)


def _refuse_duplicates(body: bytes) -> None:
    def distinct(pairs: list[tuple[str, Json]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BadRequest(
                    f"The key {name[:64]!r} appears twice in one object.", param=name[:64]
                )
            seen.add(name)

    try:
        json.loads(body, object_pairs_hook=distinct, parse_int=len, parse_float=len)
    except RecursionError:
        raise _too_deep() from None
