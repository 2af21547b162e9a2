"""Reading a request body: strict JSON, without a second meaning.

Two readers may disagree on a duplicate key, so what was checked might not be what the
upstream obeys. Hence duplicates are refused (RFC 8259 section 4 leaves them undefined).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import msgspec

from proxy.domain.errors import BadRequest
from proxy.domain.steps import STEP, Steps, finish

Json = Any  # dict | list | str | int | float | bool | None, as the JSON says

#: An honest schema of a tool nests some twenty levels; whoever walks a body later may recurse.
MOST_LEVELS: Final = 100

#: Decoding costs by the value, not by the byte: a comma is one, a container about eight.
MOST_WORK: Final = 1_000_000

#: No honest object has so many, where each name costs a check.
MOST_NAMES: Final = 1_000

#: A quote may be a key's or an escaped one: each costs the search for duplicates.
MOST_QUOTES: Final = 1_500_000

#: An even number. Text in quotes has few before a quote.
_MOST_BACKSLASHES: Final = 64

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VALUE = msgspec.json.Decoder()
_encode = msgspec.json.encode
_CONTAINERS = (dict, list)
_HALF_PAIR = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB]..\\u[dD][c-fC-F]..)*+"
    rb"(\\u[dD][89a-fA-F][0-9a-fA-F]{2})",
    re.DOTALL,
)
_KEY_LIKE = re.compile(rb'"[ \t\r\n]*:')
_BLANK = b" \t\r\n"
_REST_OF_CHARACTER = re.compile(rb"[\x80-\xbf]{0,3}")


def read_object(body: bytes) -> tuple[dict[str, msgspec.Raw], dict[str, Json]]:
    """`object_steps`, all at once."""
    return finish(object_steps(body))


def object_steps(body: bytes) -> Steps[tuple[dict[str, msgspec.Raw], dict[str, Json]]]:
    """The body's fields, once as the bytes that came and once decoded.

    Raises BadRequest for anything but one JSON object in UTF-8 with distinct keys.
    """
    if not body:
        raise BadRequest("The request has no body; send a JSON object.")
    short = len(body) <= STEP  # and so too short to hold too many values
    if not short:
        key_like = yield from _look_through(body)
    elif not body.isascii():
        _check_utf8(body, 0)
    try:
        raw, fields = _FIELDS.decode(body), _VALUE.decode(body)
        distinct = short and drops_no_key(body, fields)
    except (RecursionError, msgspec.DecodeError):
        raise _fault(body) from None
    if len(raw) > MOST_NAMES:
        raise BadRequest(f"The request body holds more than {MOST_NAMES} fields.")
    if distinct and body.count(b"[") + body.count(b"{") <= MOST_LEVELS:
        return raw, fields
    keys = len(fields)
    for name, value in fields.items():
        if value.__class__ in _CONTAINERS:
            keys += _count_keys(name, value)
    if distinct:
        return raw, fields
    # Every key shows up as a quote and a colon, and so does text that begins with a colon: equal
    # counts prove that no key was dropped, unequal ones call for the slow reader.
    if short:
        key_like = _count_key_like(body, 0, len(body))
    if key_like != keys:
        _refuse_duplicates(body)
    return raw, fields


def drops_no_key(body: bytes, value: object) -> bool:
    """Whether nothing in quotes was dropped from a body that was decoded to this value, all of it,
    and so no key that came twice; False, too, where it cannot be told.
    """
    # A quote is written as one, unless it is escaped by number; its encoding never does that.
    return _encode(value).count(b'"') == body.count(b'"') and body.find(b"\\u0022") < 0


def _fault(body: bytes) -> BadRequest:
    """Why a body was not decoded, and in which field."""
    try:
        raw = _FIELDS.decode(body)
    except RecursionError:
        return _too_deep()
    except msgspec.ValidationError:
        return BadRequest("The request body must be a JSON object.")
    except msgspec.DecodeError as error:
        return _not_json(body, error)
    for name, value in raw.items():
        try:
            _VALUE.decode(value)
        except RecursionError:
            return _too_deep(name)
        except msgspec.DecodeError as error:
            return BadRequest(f"Invalid value for '{name[:64]}': {error}.", param=name[:64])
    return _too_deep()


def _look_through(body: bytes) -> Steps[int]:
    """How many keys a long body seems to have.

    Raises BadRequest for what is no text, or holds too much for anybody to decode.
    """
    work = quotes = keys = 0
    quoted = False  # the last part ended with a quote: a colon may follow
    for start, end in _parts(body):
        if start:
            yield
        part = body[start:end]
        if not part.isascii():
            _check_utf8(part, start)
        work += 8 * (part.count(b"[") + part.count(b"{")) + part.count(b",")
        quotes += part.count(b'"')
        if work > MOST_WORK or quotes > MOST_QUOTES:
            raise BadRequest("The request body holds too many values.")
        keys += _count_key_like(body, start, end)
        if inner := part.strip(_BLANK):
            keys += quoted and inner.startswith(b":")
            quoted = inner.endswith(b'"') and not _is_escaped(body, body.rindex(b'"', start, end))
    return keys


def _count_key_like(body: bytes, start: int, end: int) -> int:
    found = _KEY_LIKE.finditer(body, start, end)
    return sum(1 for match in found if not _is_escaped(body, match.start()))


def _is_escaped(body: bytes, at: int) -> bool:
    """Whether a quote is a text's own; False, too, after more backslashes than are looked at."""
    if body[at - 1 : at] != b"\\":
        return False
    before = body[max(0, at - _MOST_BACKSLASHES) : at]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 1


def _parts(body: bytes) -> Iterator[tuple[int, int]]:
    """Where parts of the body begin and end, not within a character."""
    end = 0
    while end < len(body):
        start, end = end, end + STEP
        if (rest := _REST_OF_CHARACTER.match(body, end)) is not None:
            end = rest.end()
        yield start, end


def _check_utf8(part: bytes, start: int) -> None:
    try:
        part.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The request body is not UTF-8 (byte {start + error.start}).") from None


def _not_json(body: bytes, error: msgspec.DecodeError) -> BadRequest:
    """msgspec has no words of its own for half a surrogate pair."""
    half = _HALF_PAIR.match(body) if body.count(b"\\") < MOST_QUOTES else None
    if half is None:
        return BadRequest(f"The request body is not valid JSON: {error}.")
    return BadRequest(
        f"The request body holds half a character: '{half[1].decode()}' at byte {half.start(1)} is "
        "one of a surrogate pair, without the other. Do not cut texts within a character."
    )


def _too_deep(param: str | None = None) -> BadRequest:
    return BadRequest("The request body is nested too deeply.", param=param)


def _count_keys(name: str, value: Json) -> int:
    """How many keys all the objects in a list or object have; level by level, not to recurse."""
    count, values = 0, [value]
    for _ in range(MOST_LEVELS):
        objects = [v for v in values if v.__class__ is dict]
        lists = [v for v in values if v.__class__ is list]
        if not objects and not lists:
            return count
        count += sum(map(len, objects))
        values = [*chain.from_iterable(lists), *chain.from_iterable(map(dict.values, objects))]
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
