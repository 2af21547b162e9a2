"""What is taken from an HTTP request before anything is decided."""

from __future__ import annotations

import asyncio
import io
import ipaddress
import random
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from aiohttp import HttpVersion11, StreamReader, hdrs, web

from proxy.domain.errors import BadRequest, PayloadTooLarge, Unauthorized, UnsupportedMedia
from proxy.domain.keys import PREFIX
from proxy.turns import turn
from proxy.web.record import shown
from proxy.web.strict import TooSlow

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Proxies, one behind the other, that are looked at.
_HOPS: Final = 32
_LONGEST_HOST: Final = 64
_HOST: Final = re.compile(
    r"\[(?P<v6>[0-9A-Fa-f:.]{2,45})\](?::\d{1,5})?|(?P<v4>[0-9.]{7,15}):\d{1,5}"
    r"|(?P<bare>[0-9A-Fa-f:.]{2,45})",
    re.ASCII,
)

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)

#: Seconds for which a body may keep us waiting (what stalls is answered within 30); bytes that are
#: worth one of them.
BODY_TIME: Final = 29.0
BODY_RATE: Final = 16 << 10

_SMALL: Final = 32 << 10  # bytes: less than where the reader pauses
_LARGE: Final = 2 << 20  # bytes that hold the loop for a millisecond


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
        raise TooSlow("The request's body did not arrive in time.") from None
    except web.RequestPayloadError:
        raise BadRequest("The request's body could not be read.") from None


def _check_body(http: web.Request, limit: int, media: tuple[str, ...]) -> None:
    """Raise for what the head says of a body that is not to be read."""
    headers = http.headers
    if hdrs.CONTENT_ENCODING in headers and _encoded(headers.getall(hdrs.CONTENT_ENCODING)):
        raise UnsupportedMedia("Compressed request bodies are not accepted; send plain JSON.")
    if headers.get(hdrs.CONTENT_TYPE) not in media and http.content_type not in media:
        others = f" (or {', '.join(media[1:])})" if media[1:] else ""
        raise UnsupportedMedia(
            f"Send the body as JSON, with 'Content-Type: application/json'{others}."
        )
    length = http.content_length
    if length is not None and length > limit:
        raise _too_large(limit)


def _encoded(encodings: Sequence[str]) -> bool:
    return any(encoding.lower() != "identity" for encoding in encodings)


async def _gather(content: StreamReader, limit: int) -> bytes:
    """A body as it comes. Raises TimeoutError where it stops coming, or comes in drips: a client
    may keep us waiting for BODY_TIME, and gets a second of it back for each BODY_RATE bytes.
    """
    time, patience = asyncio.get_running_loop().time, BODY_TIME
    parts: list[bytes] = []
    size = 0
    with io.BytesIO() as body:  # gives its bytes away without a copy
        while not content.at_eof():
            part = content.read_nowait()
            if not part:
                began = time()
                async with asyncio.timeout(patience):
                    part = await content.readany()
                patience -= time() - began
            patience = min(BODY_TIME, patience + len(part) / BODY_RATE)
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            parts.append(part)
            if size > _LARGE:
                async with turn():  # new pages for it take half a second a gigabyte
                    body.writelines(parts)
                parts.clear()
        return body.getvalue() if size > _LARGE else b"".join(parts)


def end_is_unsure(http: web.Request) -> bool:
    """Whether what follows this request cannot be told from its body."""
    return hdrs.EXPECT in http.headers and not http.content.is_eof()


async def expect_later(http: web.Request) -> None:
    """For a route's `expect_handler`: the body is asked for when it is to be read."""


async def _ask_for_body(http: web.Request) -> None:
    """RFC 9110 section 10.1.1: a client that sent an expectation waits for this."""
    if http.headers[hdrs.EXPECT].lower() == "100-continue" and http.version >= HttpVersion11:
        await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        http.writer.output_size = 0  # the answer itself has not begun


def request_id(http: web.BaseRequest) -> str:
    """The client's own id where it is a plain word, and no key, else a new one."""
    given = http.headers.get("x-request-id")
    if given is not None and _ID.fullmatch(given) and not given.startswith(PREFIX):
        return given
    # Seeded anew in a forked process. It tells requests apart, and need be no secret.
    return "req_" + random.getrandbits(96).to_bytes(12, "big").hex()


def client_address(http: web.BaseRequest, trusted: tuple[Network, ...]) -> str:
    """Who asks: the peer, or behind trusted proxies the last that none of them added.

    Each proxy adds whom it was asked by, to the header or in one of its own; what stands before
    the first that is not trusted, the client may have made up. It is told as it was written where
    it is no address.
    """
    address = http.remote or ""
    peer = _address(address) if trusted else None
    if peer is None:
        return address
    hops = ",".join(http.headers.getall("x-forwarded-for", ())).rsplit(",", _HOPS)
    for hop in map(str.strip, reversed(hops[-_HOPS:])):
        if not hop or not any(peer in network for network in trusted):
            break
        forwarded = _address(hop) if len(hop) <= _LONGEST_HOST else None
        if forwarded is None:
            return shown(hop, _LONGEST_HOST)
        peer = forwarded
    return str(peer)


@lru_cache(1024)
def _address(text: str) -> IPAddress | None:
    """An address, also with the port that some proxies add (`192.0.2.1:80`, `[2001:db8::1]:80`);
    one of IPv4 that came over a socket of IPv6 is of IPv4.
    """
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    try:
        address = ipaddress.ip_address(found["v6"] or found["v4"] or found["bare"])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The request's body is larger than {limit / 2**20:g} MiB. Send smaller images, or "
        "links to them."
    )
