"""What a stream's events tell beside their text: usage, errors and the end mark."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from proxy.domain.texts import decoded
from proxy.domain.usage import Usage, read_usage

#: How most events end, since usage is asked for.
NO_USAGE: Final = b'"usage":null}\n\n'

_USAGE = re.compile(rb'"usage"(?!\s*:\s*null)')
_ERROR = re.compile(rb'"error"(?!\s*:\s*null)')


class Told(msgspec.Struct):
    """The fields of a chunk that tell something."""

    usage: Any = None
    x_groq: Any = None
    error: Any = None
    object: Any = None
    choices: Any = None

    @property
    def failed(self) -> bool:
        """Whether it is an error; older vLLM sends one without an envelope."""
        return bool(self.error) or self.object == "error"


_read = msgspec.json.Decoder(Told).decode


def untold(data: bytes, usage: int) -> int:
    """Up to where whole events tell no usage; the first mention of one is at `usage`, if any."""
    plain = 0
    while data.startswith(NO_USAGE, usage):
        plain = usage + len(NO_USAGE)
        usage = data.find(b'"usage"', plain)
    if plain and usage >= 0:
        return plain
    told = _USAGE.search(data, usage) if usage >= 0 else None
    end = data.rfind(b"}\n\n", plain, told.start() if told else len(data))
    return plain if end < 0 else end + 3


def may_tell(event: bytes) -> bool:
    """Whether there may be a usage, an error or the end mark in it."""
    return bool(
        (event.find(b'"usage"') >= 0 and _USAGE.search(event))
        or (event.find(b'"error"') >= 0 and _ERROR.search(event))
        or event.find(b"[DONE]") >= 0
    )


def told_by(data: bytes) -> Told | None:
    """What a JSON object tells, or None for all else."""
    try:
        return _read(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        chunk = decoded(data)
        if chunk is None:
            return None
        return Told(**{name: chunk.get(name) for name in Told.__struct_fields__})


def usage_of(usage: Any, groq: Any, most: Usage) -> Usage | None:
    """The usage of a chunk; older Groq streams have it in a field of their own."""
    read = read_usage(usage, most)
    if read is None and isinstance(groq, dict):
        return read_usage(groq.get("usage"), most)
    return read
