"""A gateway whose only way out is a scripted origin, and what it told and where it went."""

from __future__ import annotations

import json
import re
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest

from proxy.images.addresses import is_public
from proxy.images.answer import Cause
from proxy.images.fetch import FetchLimits
from tests.gateway import HELLO, Gateway, open_gateway
from tests.images.origin import QUICK, Detour, Origin
from tests.images.samples import load_cases
from tests.scripted import ScriptedUpstream, chat_stream

POLICY = load_cases("image_urls.yaml")["policy"]
#: The policy that the published cases were judged by, as the config has it.
IMAGES = {
    "schemes": POLICY["schemes"],
    "ports": POLICY["ports"],
    "max_bytes": POLICY["max_image_bytes"],
    "max_side": POLICY["max_side"],
    "max_pixels": POLICY["max_pixels"],
    "max_frames": POLICY["max_frames"],
    "max_count": POLICY["max_images_per_request"],
    "on_unreachable": "reject",
}
MOST = POLICY["max_images_per_request"]
_USAGE = {"prompt_tokens": 300, "completion_tokens": 3, "total_tokens": 303}
#: A refusal without its place, and the place.
_WORDS = re.compile(r"Invalid image at '[^']*': ([^.]*)\.")
_PLACES = re.compile(r"content\[([0-9]+)\]")
_ADDRESS = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|[0-9a-f]*::[0-9a-f]*")
_TARGET = re.compile(r"//|\.example|\b(?:206|301|302|303|307|308|401|404)\b")


@dataclass
class Answer:
    """What a client got: its error is empty for a 200; and what the log has of it."""

    status: int
    error: dict[str, Any]
    log: str

    @property
    def line(self) -> dict[str, Any]:
        """The one line of a refusal."""
        line: dict[str, Any] = json.loads(self.log)
        return line

    @property
    def words(self) -> list[str]:
        """What is said of each image that is at fault."""
        return _WORDS.findall(self.error["message"])

    @property
    def faulty(self) -> set[int]:
        """Which images of the request are."""
        return {int(number) for number in _PLACES.findall(self.error.get("message", ""))}

    def leaks(self) -> Iterator[str]:
        """What a refusal, or its line in the log, tells of a target and must not."""
        message, line = self.error["message"], self.line
        yield from _ADDRESS.findall(message) + _TARGET.findall(message)
        shown = json.dumps({**line, "client": "", "path": ""})
        yield from _ADDRESS.findall(shown) + re.findall(r"//|\.example", shown)
        if line["cause"] not in ("", *get_args(Cause)):
            yield line["cause"]


@dataclass
class Stand:
    """The gateway and its world; `elsewhere` is where this process connected to beside it."""

    gate: Gateway
    origin: Origin
    upstream: ScriptedUpstream
    key: str
    own: set[Any]
    elsewhere: list[Any] = field(default_factory=list)

    async def ask(self, *urls: Any) -> Answer:
        """Send these images in one request."""
        told = len(self.gate.log.getvalue())
        parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        body = {**HELLO, "messages": [{"role": "user", "content": parts}]}
        async with self.gate.post(self.key, body) as answer:
            text = await answer.read()
        error = {} if answer.status == 200 else json.loads(text)["error"]
        return Answer(answer.status, error, self.gate.log.getvalue()[told:])

    def strays(self) -> list[Any]:
        """Connections that were begun to where none may lead."""
        inner = [place for place in self.origin.connected if not is_public(place[0])]
        return inner + [place for place in self.elsewhere if place not in self.own]


OpenStand = Callable[..., AbstractAsyncContextManager[Stand]]


@asynccontextmanager
async def opened_stand(
    store_url: str,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    limits: FetchLimits = QUICK,
    **images: Any,
) -> AsyncIterator[Stand]:
    """A gateway with IMAGES and `images` over it. Fails where it has connected to a stray."""
    upstream.script(chat_stream(["A cat."], _USAGE))
    async with (
        Origin() as origin,
        open_gateway(
            store_url,
            upstream.url,
            open_fetcher=lambda observe, proxy: origin.open_fetcher(observe, proxy, limits),
            images={**IMAGES, **images},
        ) as gate,
    ):
        own = {_place(gate.url), _place(gate.admin), _place(upstream.url), _place(store_url)}
        stand = Stand(gate, origin, upstream, await gate.key(), own)
        with monkeypatch.context() as patch:
            patch.setattr(BaseSelectorEventLoop, "sock_connect", _noting(stand.elsewhere))
            yield stand
        assert stand.strays() == []


def batches(urls: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many to a request as it may hold."""
    return (urls[at : at + MOST] for at in range(0, len(urls), MOST))


def _place(url: str) -> Any:
    parts = urlsplit(url)
    return (parts.hostname, parts.port) if parts.port else parts.path


def _noting(elsewhere: list[Any]) -> Callable[..., Any]:
    """The loop's connecting, that notes where sockets go that the origin did not make."""
    connect = BaseSelectorEventLoop.sock_connect

    async def noted(loop: Any, sock: Any, address: Any) -> None:
        if not isinstance(sock, Detour):
            elsewhere.append(address)
        await connect(loop, sock, address)

    return noted
