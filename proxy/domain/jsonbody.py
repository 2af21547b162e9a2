"""Reading a request body: strict JSON, without a second meaning.

Two readers may disagree on a duplicate key, so what was checked might not be what the
upstream obeys. Hence duplicates are refused (RFC 8259 section 4 leaves them undefined).
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from proxy.domain.errors import BadRequest

Json = Any  # dict | list | str | int | float | bool | None, as the JSON says

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VALUE = msgspec.json.Decoder()
_KEY_LIKE = re.compile(rb'"[ \t\r\n]*:')


def read_object(body: bytes) -> tuple[dict[str, msgspec.Raw], dict[str, Json]]:
    """The body's fields, once as the bytes that came and once decoded.

    Raises BadRequest for anything but one JSON object in UTF-8 with distinct keys.
    """
    if not body:
        raise BadRequest("The request has no body; send a JSON object.")
    _check_utf8(body)
    try:
        raw = _FIELDS.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError:
        raise BadRequest("The request body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"The request body is not valid JSON: {error}.") from None
    fields = {name: _decode(name, value) for name, value in raw.items()}
    # Every key shows up as a quote and a colon, and so may some text: equal counts prove
    # that no key was dropped, unequal ones call for the slow reader.
    if len(_KEY_LIKE.findall(body)) != _count_keys(fields):
        _refuse_duplicates(body)
    return raw, fields


def _check_utf8(body: bytes) -> None:
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The request body is not UTF-8 (byte {error.start}).") from None


def _decode(name: str, value: msgspec.Raw) -> Json:
    try:
        return _VALUE.decode(value)
    except RecursionError:
        raise _too_deep(name) from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"Invalid value for '{name[:64]}': {error}.", param=name[:64]) from None


def _too_deep(param: str | None = None) -> BadRequest:
    return BadRequest("The request body is nested too deeply.", param=param)


def _count_keys(value: Json) -> int:
    """How many keys all the objects in a decoded value have, without recursion."""
    count = 0
    stack: list[Json] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            count += len(item)
            stack.extend(v for v in item.values() if isinstance(v, dict | list))
        else:
            stack.extend(v for v in item if isinstance(v, dict | list))
    return count


def _refuse_duplicates(body: bytes) -> None:
    def distinct(pairs: list[tuple[str, Json]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise BadRequest(
                f"The key {twice[:64]!r} appears twice in one object.", param=twice[:64]
            )

    try:
        json.loads(body, object_pairs_hook=distinct, parse_int=len, parse_float=len)
    except RecursionError:
        raise _too_deep() from None
