"""Images by way of the proxy that the config names."""

from __future__ import annotations

from asyncio.selector_events import BaseSelectorEventLoop
from base64 import b64encode
from typing import Any

import pytest
from yarl import URL

from proxy.app import open_fetcher
from tests.images.origin import PUBLIC, RULES, Watch, reply
from tests.scripted import ScriptedUpstream
from tests.web.image_stand import OpenStand

MODES = pytest.mark.parametrize("mode", ["inspect", "inline"])
PROXY = "http://me:w%40rd@proxy.corp.example:3128"
PLACE = "93.0.0.1", 3128
LINK = "http://pub.example/cat.png"


@MODES
async def test_images_go_by_the_proxy(open_stand: OpenStand, mode: str) -> None:
    """Every image is fetched by the proxy; it is told its user and password, and nobody else is."""
    async with open_stand(mode=mode, egress_proxy=PROXY) as stand:
        stand.origin.names["proxy.corp.example"] = [PLACE[0]]
        stand.origin.on(LINK, reply())
        assert (await stand.ask(LINK)).status == 200
        assert stand.origin.connected == [PLACE]
        (request,) = stand.origin.requests
        word = b64encode(b"me:w@rd").decode()
        assert request.header("proxy-authorization") == f"Basic {word}"
        assert "rd@" not in stand.gate.log.getvalue()
        assert not stand.upstream.requests[-1].header("proxy-authorization")


@MODES
async def test_what_a_proxy_is_not_asked(open_stand: OpenStand, mode: str) -> None:
    """No URL and no name that is seen to lead inside reaches the proxy."""
    async with open_stand(mode=mode, egress_proxy=PROXY) as stand:
        stand.origin.names |= {"proxy.corp.example": [PLACE[0]], "in.example": ["10.0.0.1"]}
        links = ["http://10.0.0.1/", "http://[::1]/", "http://localhost/", "http://in.example/"]
        for link in links:
            answer = await stand.ask(link)
            assert (answer.status, list(answer.leaks())) == (400, [])
        assert stand.origin.dialled == []


async def test_the_system_s_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a gateway fetches with outside of tests goes by the proxy, and by no other way."""
    connect = BaseSelectorEventLoop.sock_connect
    async with ScriptedUpstream() as proxy:

        async def connected(loop: Any, sock: Any, address: Any) -> None:
            if address != ("127.0.0.1", proxy.port):
                raise OSError("not the proxy")
            await connect(loop, sock, address)

        monkeypatch.setattr(BaseSelectorEventLoop, "sock_connect", connected)
        proxy.script(reply())
        link = f"http://{PUBLIC}/cat.png"
        async with open_fetcher(Watch(), URL(f"http://127.0.0.1:{proxy.port}")) as fetcher:
            assert (await fetcher.peek(link, RULES, 1 << 20, "key")).format == "png"
        assert [request.path for request in proxy.requests] == [link]
