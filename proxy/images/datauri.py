"""Images sent inside the request, as `data:` URIs (RFC 2397, base64 only)."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Final

from proxy.images.errors import refuse

#: Far more than any media type with its parameters needs; what is searched for the comma.
MAX_HEADER: Final = 256
_HEADER: Final = re.compile(
    r"data:([a-z0-9.+-]+/[a-z0-9.+-]+)(?:;[a-z0-9.+-]+=[a-z0-9.+_\"-]*)*;base64",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class DataImage:
    """What a data: URI holds; `media_type` is what it declares, in lower case."""

    media_type: str
    data: bytes


def parse_data_uri(uri: str, max_bytes: int) -> DataImage:
    """Decode a data: URI of at most `max_bytes` decoded bytes.

    Base64 is read strictly: the standard alphabet, its padding and nothing else
    (RFC 4648, 3.1 to 3.3). The size is judged before anything is copied; decoding takes
    a few milliseconds a megabyte. Raises ImageRefused.
    """
    comma = uri.find(",", 0, MAX_HEADER)
    header = _HEADER.fullmatch(uri, 0, comma) if comma >= 0 else None
    if header is None:
        raise refuse(
            "data_uri", "write the image as data:image/png;base64, followed by its bytes in base64"
        )
    length = len(uri) - comma - 1
    size = length // 4 * 3 - uri.endswith("=") - uri.endswith("==")
    if size > max_bytes:
        raise refuse("too_large", f"the image has {size} bytes; at most {max_bytes} are allowed")
    if length == 0 or length % 4:
        raise _not_base64()
    try:
        data = binascii.a2b_base64(uri[comma + 1 :], strict_mode=True)
    except ValueError:
        raise _not_base64() from None
    return DataImage(header[1].lower(), data)


def _not_base64() -> Exception:
    return refuse(
        "base64",
        "the image is not valid base64; use the standard alphabet with padding and no white space",
    )
