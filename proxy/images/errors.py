"""Why an image is refused: the closed list behind the `reason` label."""

from __future__ import annotations

from typing import Final, Literal, get_args

from proxy.domain.errors import ImageRefused
from proxy.images.sniff.base import Fault

Reason = Literal[
    # the URL as written
    "not_a_url",
    "too_long",
    "characters",
    "userinfo",
    "scheme",
    "port",
    "host",
    "ip_notation",
    "local_name",
    "not_public",
    "host_policy",
    "redirect",
    # the way to it
    "unreachable",
    # a data: URI
    "data_uri",
    "base64",
    "too_large",
    "media_type",
    # the image itself
    "format",
    "not_an_image",
    "truncated",
    "trailing_data",
    "empty",
    "side",
    "pixels",
    "frames",
    # the request
    "count",
    "detail",
]

#: Every reason that `refuse` can be given; mypy holds callers to it.
REASONS: Final[frozenset[str]] = frozenset(get_args(Reason))

_ABOUT_THE_TYPE: Final[frozenset[str]] = frozenset(
    {"media_type", "format", "not_an_image", "truncated", "trailing_data", "frames"}
)

_FAULTS: Final[dict[Fault, str]] = {
    "not_an_image": "the image is not a valid PNG, JPEG, GIF or WebP",
    "truncated": "the image ends too early; not all of its bytes are there",
    "trailing_data": "the image has data after its end; leave it out",
    "empty": "the width or height of the image is zero",
}


def faulty(fault: Fault) -> ImageRefused:
    """The refusal of bytes that are no image, or not all of one."""
    return refuse(fault, _FAULTS[fault])


def refuse(reason: Reason, message: str) -> ImageRefused:
    """The refusal to raise, with OpenAI's code for it; the caller adds `param`."""
    code = "invalid_image_format" if reason in _ABOUT_THE_TYPE else "invalid_value"
    return ImageRefused(reason, message, code=code)
