"""No way in: whatever a URL, a name or a redirect says, no inner address is dialled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from yarl import URL

from proxy.domain.errors import ImageRefused
from proxy.images.addresses import is_public
from proxy.images.places import Places
from proxy.images.visit import Network, Visit
from tests.images.origin import PNG, PUBLIC, RULES, Origin, moved, refusal, reply
from tests.scripted import Raw

HTTP = "http://pub.example/a"
HTTPS = "https://pub.example/a"
MAX = 1 << 20
WAYS = ("peek", "fetch")


def with_rules(**changes: Any) -> tuple[Any, ...]:
    return (replace(RULES[0], **changes),)


@pytest.mark.parametrize(
    "answers",
    [
        ["10.1.2.3"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::10.0.0.1"],
        ["fe80::1%eth0"],
        ["2002:7f00:1::"],
        [PUBLIC, "10.0.0.9"],
        [PUBLIC, "::1"],
        [*(f"93.184.0.{n}" for n in range(200)), "192.168.0.1"],
        ["not an address"],
    ],
    ids=lambda answers: answers[-1],
)
async def test_inner_answers(origin: Origin, answers: list[str]) -> None:
    """A name of which one answer is not public is blocked before anything is dialled."""
    origin.names["pub.example"] = answers
    assert (await refusal(origin, HTTP)).cause == "blocked"
    assert origin.dialled == []


@pytest.mark.parametrize("answers", [[], OSError("unknown")], ids=["none", "error"])
async def test_no_answer(origin: Origin, answers: Any) -> None:
    """A name without an address is unreachable."""
    origin.names["pub.example"] = answers
    assert (await refusal(origin, HTTP)).cause == "unknown_host"


async def test_answers_are_not_a_scan(origin: Origin) -> None:
    """Of many public answers a few are dialled, of both families, and each once."""
    origin.names["pub.example"] = [
        *(f"2606:4700::{n:x}" for n in range(1, 30)),
        *(f"93.184.0.{n}" for n in range(30)),
    ]
    await origin.plain.__aexit__(None)
    assert (await refusal(origin, HTTP)).cause == "connect"
    addresses = [address for address, _ in origin.dialled]
    assert set(addresses) == {"2606:4700::1", "2606:4700::2", "93.184.0.0", "93.184.0.1"}


async def test_the_socket_is_the_last_word(origin: Origin) -> None:
    """A literal never reaches a resolver: it is refused as it is dialled."""
    network = Network(origin.resolve, origin.open_socket, connect=2)
    for host in ("127.0.0.1", "[::1]", "[::ffff:10.0.0.1]"):
        with pytest.raises(ImageRefused) as refused:
            await Visit(network, Places(1).at, RULES, MAX).fetch(URL(f"http://{host}/a"))
        assert refused.value.cause == "blocked"
    assert origin.dialled == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "location",
    [
        *("http://127.0.0.1/", "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://2852039166/"),
        *("http://localhost/", "http://db.internal/", "http://inner.example/a", "//10.0.0.1/a"),
        *("http://pub.example:6379/", "file:///etc/passwd", "data:image/png;base64,AAAA"),
        *("gopher://pub.example/", "http://user@pub.example/", "http://pub.example\\@127.0.0.1/"),
        *("", "/b c"),
    ],
)
async def test_redirects(origin: Origin, location: str, way: str) -> None:
    """A redirect to what could not have been linked to is not followed, whatever it is."""
    origin.names["inner.example"] = ["192.168.0.1"]
    origin.on("/a", moved(location))
    error = await refusal(origin, HTTP, way)
    assert (error.reason, error.cause) in {("unreachable", "redirect"), ("unreachable", "blocked")}
    assert origin.dialled == [(PUBLIC, 80)]


async def test_no_way_back_to_http(origin: Origin) -> None:
    """A redirect from https to http is refused, the other way is not."""
    origin.on("/a", lambda r: moved("https://pub.example/b"))
    origin.on("/b", reply())
    async with origin.fetcher() as fetcher:
        assert (await fetcher.fetch(HTTP, RULES, MAX, "key")).data == PNG
    assert origin.dialled == [(PUBLIC, 80), (PUBLIC, 443)]
    origin.on("/b", moved("http://pub.example/c"))
    assert (await refusal(origin, "https://pub.example/b")).cause == "redirect"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_three_redirects(origin: Origin, status: int) -> None:
    """Three hops are followed, each to a connection of its own; a fourth is not."""
    for n in range(4):
        origin.on(f"/{n}", moved(f"/{n + 1}", status))
    origin.on("/4", reply())
    async with origin.fetcher() as fetcher:
        assert (await fetcher.fetch("http://pub.example/1", RULES, MAX, "key")).data == PNG
    assert origin.paths == ["/1", "/2", "/3", "/4"]
    assert (await refusal(origin, "http://pub.example/0")).cause == "redirect"
    assert len(origin.dialled) == origin.plain.connections == 8


@pytest.mark.parametrize("status", [300, 304, 305, 401, 404, 407, 500])
async def test_other_answers(origin: Origin, status: int) -> None:
    """Any other answer than 200 is the same to the client, and is not asked again."""
    origin.on("/a", moved("/b", status, ("WWW-Authenticate", 'Basic realm="x"')))
    error = await refusal(origin, HTTP)
    assert (error.reason, error.cause) == ("unreachable", "status")
    assert origin.paths == ["/a"]


async def test_policy_on_each_hop(origin: Origin) -> None:
    """All rules hold on every hop: hosts, ports and schemes of each policy."""
    strict, wide = with_rules(deny=("cdn.example",)), RULES
    origin.names["cdn.example"] = [PUBLIC]
    origin.on("/a", moved("http://cdn.example/b"))
    origin.on("/b", reply())
    assert (await refusal(origin, HTTP, rules=wide + strict)).cause == "redirect"
    assert (await refusal(origin, HTTP, rules=strict + wide)).cause == "redirect"
    assert origin.looked_up == ["pub.example"] * 2
    async with origin.fetcher() as fetcher:
        assert (await fetcher.fetch(HTTP, wide, MAX, "key")).data == PNG


async def test_denied_network(origin: Origin) -> None:
    """A denied network is not dialled by a name either."""
    rules = with_rules(deny=("93.184.0.0/16",))
    assert (await refusal(origin, HTTP, rules=rules)).cause == "blocked"
    assert origin.dialled == []


@pytest.mark.parametrize(
    ("internal", "url"),
    [
        ("files.corp.example", "http://files.corp.example/a"),
        ("10.0.0.0/8", "http://files.corp.example/a"),
        ("10.0.0.0/8", "http://10.0.0.7/a"),
        ("minio", "http://minio/a"),
    ],
)
async def test_internal_hosts(origin: Origin, internal: str, url: str) -> None:
    """An internal host or network may be dialled for an inline image, and for no other."""
    for name in ("files.corp.example", "minio", "pub.example"):
        origin.names[name] = ["10.0.0.7"]
    origin.on("/a", reply())
    rules = with_rules(internal=(internal,))
    async with origin.fetcher() as fetcher:
        assert (await fetcher.fetch(url, rules, MAX, "key")).data == PNG
        assert origin.dialled == [("10.0.0.7", 80)]
        for way, policy in (("peek", rules), ("fetch", RULES), ("fetch", rules + RULES)):
            with pytest.raises(ImageRefused):
                await getattr(fetcher, way)(url, policy, MAX, "key")
    assert origin.dialled == [("10.0.0.7", 80)]


async def test_a_connection_serves_one_request(origin: Origin) -> None:
    """No connection is used twice: a way opened under one policy is none under another."""
    origin.on("/a", reply(PNG, 200, ("Cache-Control", "no-store"), ("Connection", "keep-alive")))
    async with origin.fetcher() as fetcher:
        for _ in range(3):
            await fetcher.fetch(HTTP, RULES, MAX, "key")
    assert origin.plain.connections == len(origin.dialled) == 3


@pytest.mark.parametrize("url", ["http://[2606:4700::1111]/a", "http://[::ffff:8.8.8.8]/a"])
async def test_public_ipv6(origin: Origin, url: str) -> None:
    """A public IPv6 address is dialled as it is, without a look-up."""
    origin.on("/a", reply())
    async with origin.fetcher() as fetcher:
        assert (await fetcher.fetch(url, RULES, MAX, "key")).data == PNG
    assert origin.looked_up == []
    assert all(map(is_public, (address for address, _ in origin.dialled)))


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"])
async def test_no_proxy_from_the_environment(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A proxy variable changes nothing: it would see every URL and dial for us."""
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    origin.on("/a", reply(PNG, 200, ("Cache-Control", "no-store")))
    async with origin.fetcher() as fetcher:
        for url in (HTTP, HTTPS):
            await fetcher.fetch(url, RULES, MAX, "key")
    assert origin.dialled == [(PUBLIC, 80), (PUBLIC, 443)]
    assert origin.paths == ["/a", "/a"]


async def test_server_name(origin: Origin) -> None:
    """TLS is asked for by the URL's host, and each hop by its own."""
    origin.names["cdn.example"] = [PUBLIC]
    origin.on("/a", moved("https://cdn.example/b"))
    origin.on("/b", reply())
    async with origin.fetcher() as fetcher:
        await fetcher.fetch(HTTPS, RULES, MAX, "key")
    assert origin.secure.named == ["pub.example", "cdn.example"]


async def test_certificates() -> None:
    """A certificate that is expired, or another host's, ends the fetch before a request."""
    async with Origin("expired") as expired, Origin() as other:
        other.names["other.example"] = [PUBLIC]
        assert (await refusal(expired, HTTPS)).cause == "tls"
        assert (await refusal(other, "https://other.example/a")).cause == "tls"
        assert expired.requests == other.requests == []


async def test_one_message(origin: Origin) -> None:
    """Blocked, unknown, refused, missing and unanswered are one and the same to the client."""
    origin.names |= {"in.example": ["10.0.0.1"], "no.example": []}
    origin.on("/raw", [Raw(b"SSH-2.0-OpenSSH_9\r\n")])
    origin.on("/to", moved("http://10.0.0.1/"))
    urls = ["http://in.example/", "http://no.example/", HTTP, "http://pub.example/raw"]
    errors = [await refusal(origin, url) for url in [*urls, "http://pub.example/to"]]
    assert len({(e.reason, e.message, e.code, e.status) for e in errors}) == 1
    assert [e.cause for e in errors] == ["blocked", "unknown_host", "status", "broken", "redirect"]
