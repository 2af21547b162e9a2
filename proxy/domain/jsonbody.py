"""Reading a request body: strict JSON, without a second meaning.

Two readers may disagree on a duplicate key, so what was checked might not be what the
upstream obeys. Hence duplicates are refused (RFC 8259 section 4 leaves them undefined).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from types import EllipsisType
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

#: What is before a data: URI's comma is shorter by far.
MOST_HEAD: Final = 256

#: Values of a list, each shorter than a step, that are decoded in one.
_SHORT_AT_ONCE: Final = 16

#: An even number. Text in quotes has few before a quote.
_MOST_BACKSLASHES: Final = 64

#: Up to so much work, a body is decoded level by level: each value then costs some 60 bytes.
_MOST_RAW: Final = 100_000

_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VALUE = msgspec.json.Decoder()
_encode = msgspec.json.encode
_CONTAINERS = (dict, list)
_LISTS, _OBJECTS, _STRINGS = b'[{"'  # how they begin
_HALF_PAIR = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB]..\\u[dD][c-fC-F]..)*+"
    rb"(\\u[dD][89a-fA-F][0-9a-fA-F]{2})",
    re.DOTALL,
)
_KEY_LIKE = re.compile(rb'"[ \t\r\n]*:')
_BLANK = b" \t\r\n"
_REST_OF_CHARACTER = re.compile(rb"[\x80-\xbf]{0,3}")


#: Names, and ... for each item of a list.
Path = tuple[str | EllipsisType, ...]


class DataUri(str):
    """A long data: URI up to its comma; `data` is what follows, where it lies in the body."""

    __slots__ = ("data",)
    data: memoryview


class Pieces(list[bytes | memoryview]):
    """JSON in pieces, as what is large in it should not be copied."""


def write_object(members: Mapping[str, Any]) -> Pieces:
    """An object of values, each in Pieces, Raw, or to be encoded."""
    return _write(b"{}", ((_encode(name) + b":", value) for name, value in members.items()))


def write_list(items: Iterable[Any]) -> Pieces:
    """A list of values, each in Pieces, Raw, or to be encoded."""
    return _write(b"[]", ((b"", value) for value in items))


def _write(brackets: bytes, values: Iterable[tuple[bytes, Any]]) -> Pieces:
    pieces, before = Pieces(), brackets[:1]
    for name, value in values:
        pieces.append(before + name)
        if isinstance(value, Pieces):
            pieces += value
        else:
            pieces.append(memoryview(value) if isinstance(value, msgspec.Raw) else _encode(value))
        before = b","
    pieces.append(brackets[1:] if pieces else brackets)
    return pieces


def read_object(body: bytes) -> tuple[dict[str, msgspec.Raw], dict[str, Json]]:
    """`object_steps`, all at once."""
    return finish(object_steps(body))


def object_steps(
    body: bytes, urls: Path = ()
) -> Steps[tuple[dict[str, msgspec.Raw], dict[str, Json]]]:
    """The body's fields, once as the bytes that came and once decoded; where `urls` lead to
    long data: URIs, these are not copied.

    Raises BadRequest for anything but one JSON object in UTF-8 with distinct keys.
    """
    if not body:
        raise BadRequest("The request has no body; send a JSON object.")
    key_like, work = yield from _look_through(body)
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
    fields = {}
    for name, value in raw.items():
        path = urls[1:] if work <= _MOST_RAW and urls[:1] == (name,) else ()
        fields[name] = yield from _decode(name, value, path)
    # Every key shows up as a quote and a colon, and so does text that begins with a colon: equal
    # counts prove that no key was dropped, unequal ones call for the slow reader.
    keys = len(fields) + sum(_count_keys(name, value) for name, value in fields.items())
    if key_like != keys:
        _refuse_duplicates(body)
    return raw, fields


def _look_through(body: bytes) -> Steps[tuple[int, int]]:
    """How many keys the body seems to have, and what it costs to decode.

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
        found = _KEY_LIKE.finditer(body, start, end)
        keys += sum(1 for match in found if not _is_escaped(body, match.start()))
        if inner := part.strip(_BLANK):
            keys += quoted and inner.startswith(b":")
            quoted = inner.endswith(b'"') and not _is_escaped(body, body.rindex(b'"', start, end))
    return keys, work


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


def _decode(name: str, value: msgspec.Raw, path: Path) -> Steps[Json]:
    try:
        return (yield from _level(value, path)) if path else _VALUE.decode(value)
    except RecursionError:
        raise _too_deep(name) from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"Invalid value for '{name[:64]}': {error}.", param=name[:64]) from None


def _level(raw: msgspec.Raw, path: Path) -> Steps[Json]:
    """A value of which what is long on the path is decoded level by level."""
    view = memoryview(raw)
    if len(view) <= STEP:
        return _VALUE.decode(raw)
    yield
    if not path:
        return (yield from _string(raw, view))
    at, inner, first = path[0], path[1:], view[0]
    if at is ... and first == _LISTS:
        items: list[Json] = _LIST.decode(raw)
        for index, item in enumerate(items):
            if index % _SHORT_AT_ONCE == _SHORT_AT_ONCE - 1:
                yield
            items[index] = yield from _level(item, inner)
        return items
    if at is ... or first != _OBJECTS:
        return _VALUE.decode(raw)
    members: dict[str, Json] = {**_FIELDS.decode(raw)}
    for name, value in members.items():
        members[name] = (yield from _level(value, inner)) if name == at else _VALUE.decode(value)
    return members


def _string(raw: msgspec.Raw, view: memoryview) -> Steps[Json]:
    head = bytes(view[1 : MOST_HEAD + 1])
    comma = head.find(b",")
    if comma < 0 or head[:5].lower() != b"data:" or view[0] != _STRINGS:
        return _VALUE.decode(raw)
    for start in range(0, len(view), STEP):
        yield
        if b"\\" in bytes(view[start : start + STEP]):
            return _VALUE.decode(raw)
    uri = DataUri(head[: comma + 1].decode())
    uri.data = view[comma + 2 : -1]
    return uri


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
