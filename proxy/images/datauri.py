"""Images sent inside the request, as `data:` URIs (RFC 2397, base64 only)."""

from __future__ import annotations

import binascii
import io
import re
from dataclasses import dataclass
from typing import Final

from proxy.domain.cuts import MOST_HEAD
from proxy.domain.steps import STEP, Steps
from proxy.images.errors import refuse

_HEADER: Final = re.compile(
    r"data:([a-z0-9.+-]+/[a-z0-9.+-]+)(?:;[a-z0-9.+-]+=[a-z0-9.+_\"-]*)*;base64,",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class DataImage:
    """What a data: URI holds; `media_type` is what it declares, in lower case."""

    media_type: str
    data: bytes


def parse_data_uri(head: str, text: bytes | memoryview, max_bytes: int) -> Steps[DataImage]:
    """Decode a data: URI of at most `max_bytes` decoded bytes: its head, with the comma, and
    what comes after it.

    Base64 is read strictly: the standard alphabet, its padding and nothing else
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
    with io.BytesIO() as data:  # gives its bytes away without a copy
        for start in range(0, len(text), STEP):
            if start:
                yield
            try:
                data.write(binascii.a2b_base64(text[start : start + STEP], strict_mode=True))
            except ValueError:
                raise _not_base64() from None
        # Padding ends one step's text as well as the last one's: then there are too few bytes.
        if not text or len(text) % 4 or data.tell() != size or _loses_bits(bytes(text[-4:])):
            raise _not_base64()
        return DataImage(header[1].lower(), data.getvalue())


def decoded_size(text: bytes | memoryview) -> int:
    """How many bytes base64 stands for."""
    return len(text) // 4 * 3 - bytes(text[-2:]).count(b"=")


def encode_base64(data: bytes) -> Steps[bytes]:
    """The text of a data: URI's second half."""
    text = io.BytesIO()
    for start in range(0, len(data), STEP):
        if start:
            yield
        text.write(binascii.b2a_base64(memoryview(data)[start : start + STEP], newline=False))
    return text.getvalue()


def _loses_bits(last: bytes) -> bool:
    """Whether the last group says more than the bytes that it stands for (3.5)."""
    return binascii.b2a_base64(binascii.a2b_base64(last), newline=False) != last


def _not_base64() -> Exception:
    return refuse(
        "base64",
        "the image is not valid base64; use the standard alphabet with padding and no white space",
    )
