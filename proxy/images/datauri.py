"""Images sent inside the request, as `data:` URIs (RFC 2397, base64 only)."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Final

import pybase64

from proxy.domain.cuts import MOST_HEAD
from proxy.domain.steps import STEP, Steps
from proxy.images.errors import refuse

_HEADER: Final = re.compile(
    r"data:([a-z0-9.+-]+/[a-z0-9.+-]+)(?:;[a-z0-9.+-]+=[a-z0-9.+_\"-]*)*;base64,",
    re.ASCII | re.IGNORECASE,
)
#: Looks at base64 may come to as much as decoding so many bytes, about a millisecond; the look
#: itself costs as much as these.
_MOST_LOOKS: Final = 256 << 10
_A_LOOK: Final = 256


class Dense(Exception):
    """So much of an image is looked at that it is better decoded as a whole."""


class Base64:
    """The bytes that base64 stands for, decoded where they are looked at.

    The text must have been checked. A slice raises Dense where looking goes on and on.
    """

    __slots__ = ("_left", "_size", "_text")

    def __init__(self, text: bytes | memoryview) -> None:
        self._text = text
        self._size = decoded_size(text)
        self._left = _MOST_LOOKS

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, where: slice, /) -> bytes:
        start, stop, _ = where.indices(self._size)
        first = start // 3
        text = self._text[first * 4 : (stop + 2) // 3 * 4]
        self._left -= len(text) + _A_LOOK
        if self._left < 0:
            raise Dense
        return pybase64.b64decode(text)[start - first * 3 : stop - first * 3]

    def decode(self) -> Steps[bytes]:
        """All of them."""
        with io.BytesIO() as data:  # gives its bytes away without a copy
            for start in range(0, len(self._text), STEP):
                yield
                data.write(pybase64.b64decode(self._text[start : start + STEP]))
            return data.getvalue()


@dataclass(frozen=True, slots=True)
class DataImage:
    """What a data: URI holds; `media_type` is what it declares, in lower case."""

    media_type: str
    data: Base64


def parse_data_uri(head: str, text: bytes | memoryview, max_bytes: int) -> Steps[DataImage]:
    """Read a data: URI of at most `max_bytes` decoded bytes: its head, with the comma, and
    what comes after it.

    Base64 is taken strictly: the standard alphabet, its padding and nothing else
    (RFC 4648, 3.1 to 3.5). The size is judged before anything is copied. Raises ImageRefused.
    """
    header = _HEADER.fullmatch(head) if len(head) <= MOST_HEAD else None
    if header is None:
        raise refuse(
            "data_uri", "write the image as data:image/png;base64, followed by its bytes in base64"
        )
    size = decoded_size(text)
    if size > max_bytes:
        raise refuse("too_large", f"the image has {size} bytes; at most {max_bytes} are allowed")
    if not text or len(text) % 4:
        raise _not_base64()
    for start in range(0, len(text), STEP):
        if start:
            yield
        _check(text[start : start + STEP], last=start + STEP >= len(text))
    return DataImage(header[1].lower(), Base64(text))


def decoded_size(text: bytes | memoryview) -> int:
    """How many bytes base64 stands for."""
    return len(text) // 4 * 3 - _padding(text)


def encode_base64(data: bytes) -> Steps[bytes]:
    """The text of a data: URI's second half."""
    text = io.BytesIO()
    for start in range(0, len(data), STEP):
        if start:
            yield
        text.write(pybase64.b64encode(memoryview(data)[start : start + STEP]))
    return text.getvalue()


def _padding(text: bytes | memoryview) -> int:
    return bytes(text[-2:]).count(b"=")


def _check(part: bytes | memoryview, *, last: bool) -> None:
    """Raise ImageRefused for what is not base64, or says more than the bytes that it stands for
    (3.5), as its last group can; padding before the `last` part would be an end.
    """
    try:
        pybase64.b64decode(part, validate=True)  # ten times as fast as a look at the alphabet
    except ValueError:
        raise _not_base64() from None
    end = bytes(part[-4:])
    if end.endswith(b"=") and not (last and pybase64.b64encode(pybase64.b64decode(end)) == end):
        raise _not_base64()


def _not_base64() -> Exception:
    return refuse(
        "base64",
        "the image is not valid base64; use the standard alphabet with padding and no white space",
    )
