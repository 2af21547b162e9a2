"""What is taken from an HTTP request before anything is decided."""

from __future__ import annotations

import asyncio
import io
import ipaddress
import random
import re
from typing import Final

from aiohttp import HttpVersion11, StreamReader, hdrs, web

from proxy.domain.errors import BadRequest, PayloadTooLarge, Unauthorized, UnsupportedMedia
from proxy.turns import turn
from proxy.web.record import shown

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_BODY_TIMEOUT: Final = 30.0  # seconds without a byte
_SMALL: Final = 32 << 10  # bytes: less than where the reader pauses
_LARGE: Final = 256 << 10  # bytes above which a body waits for its turns


def bearer_token(http: web.Request) -> str:
    """The key from the Authorization header. Raises Unauthorized."""
    values = http.headers.getall(hdrs.AUTHORIZATION, ())
    if not values:
        raise Unauthorized(
            "You didn't provide an API key. Send it in an Authorization header: "
            "'Authorization: Bearer vg_...'."
        )
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("The Authorization header must be one 'Bearer' and an API key.")
    return token.strip()


async def read_body(
    http: web.Request, limit: int, media: tuple[str, ...] = ("application/json",)
) -> bytes:
    """A body's bytes, of one of these media types.

    Raises BadRequest, PayloadTooLarge or UnsupportedMedia.
    """
    _check_body(http, limit, media)
    if hdrs.EXPECT in http.headers:
        await _ask_for_body(http)
    try:
        content = http.content
        if not content.is_eof() or content.total_bytes > min(limit, _LARGE):
            return await _gather(content, limit)
        # All of it came with the head, or soon after. To ask the reader for it would look for
        # more, and resume what is only paused for a longer one.
        short = 0 < content.total_bytes <= _SMALL and len(content._buffer) == 1
        return content._buffer.popleft() if short else content.read_nowait()
    except TimeoutError:
        error = BadRequest("The request's body did not arrive in time.")
        error.status = 408
        raise error from None
    except web.RequestPayloadError:
        raise BadRequest("The request's body could not be read.") from None


def _check_body(http: web.Request, limit: int, media: tuple[str, ...]) -> None:
    """Raise for what the head says of a body that is not to be read."""
    headers = http.headers
    if _oddly_coded(http):
        raise BadRequest("Of the transfer codings, only 'chunked' on HTTP/1.1 is accepted.")
    if headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise UnsupportedMedia("Compressed request bodies are not accepted; send plain JSON.")
    if headers.get(hdrs.CONTENT_TYPE) not in media and http.content_type not in media:
        others = f" (or {', '.join(media[1:])})" if media[1:] else ""
        raise UnsupportedMedia(
            f"Send the body as JSON, with 'Content-Type: application/json'{others}."
        )
    length = http.content_length
    if length is not None and length > limit:
        raise _too_large(limit)


async def _gather(content: StreamReader, limit: int) -> bytes:
    """A body as it comes. Raises TimeoutError where it stops coming."""
    with io.BytesIO() as body:  # gives its bytes away without a copy
        while True:
            async with asyncio.timeout(_BODY_TIMEOUT):
                part = await content.readany()
            if not part:
                return body.getvalue()
            if body.tell() + len(part) > limit:
                raise _too_large(limit)
            if body.tell() + len(part) <= _LARGE:
                body.write(part)
                continue
            async with turn():  # new pages for it take half a second a gigabyte
                body.write(part)


def end_is_unsure(http: web.Request) -> bool:
    """Whether what follows this request cannot be told from its body."""
    return _oddly_coded(http) or (hdrs.EXPECT in http.headers and not http.content.is_eof())


def _oddly_coded(http: web.Request) -> bool:
    """RFC 9112 section 6.1: two servers may see such a body end in two places."""
    if hdrs.TRANSFER_ENCODING not in http.headers:
        return False
    codings = [coding.lower() for coding in http.headers.getall(hdrs.TRANSFER_ENCODING)]
    return codings != ["chunked"] or http.version < HttpVersion11


async def expect_later(http: web.Request) -> None:
    """For a route's `expect_handler`: the body is asked for when it is to be read."""


async def _ask_for_body(http: web.Request) -> None:
    """RFC 9110 section 10.1.1: a client that sent an expectation waits for this."""
    if http.headers[hdrs.EXPECT].lower() == "100-continue" and http.version >= HttpVersion11:
        await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        http.writer.output_size = 0  # the answer itself has not begun


def request_id(http: web.BaseRequest) -> str:
    """The client's own id where it is a plain word, else a new one."""
    given = http.headers.get("x-request-id")
    if given is not None and _ID.fullmatch(given):
        return given
    # Seeded anew in a forked process. It tells requests apart, and need be no secret.
    return "req_" + random.getrandbits(96).to_bytes(12, "big").hex()


def client_address(http: web.BaseRequest, trusted: tuple[Network, ...]) -> str:
    """Who asks: the peer, or behind trusted proxies the last address that none of them added."""
    address = http.remote or ""
    if not trusted:
        return address
    for forwarded in reversed(http.headers.get("x-forwarded-for", "").split(",")):
        if not _within(address, trusted) or not forwarded.strip():
            break
        address = forwarded.strip()
    return shown(address, 64)


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The request's body is larger than {limit / 2**20:g} MiB. Send smaller images, or "
        "links to them."
    )
