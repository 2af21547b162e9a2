"""The published image URLs, each through a running gateway."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from proxy.images.fetch import FetchLimits
from tests.images.origin import QUICK, Origin
from tests.images.samples import data_uri, load_cases
from tests.images.test_cases import zeros
from tests.scripted import ScriptedUpstream
from tests.web.image_stand import POLICY, Answer, OpenStand, Stand

CASES = load_cases("image_urls.yaml")["cases"]
LIMITS = FetchLimits()
#: What is judged by its text, or is an image that is at hand.
OFFLINE = {"parse", "scheme", "type", "ip4", "ip6", "name", "data", "image"}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def urls_of(case: dict[str, Any]) -> list[Any]:
    if "expand" in case:
        return [f"http://pub.example/{n}.png" for n in range(case["expand"])]
    if "payload" in case:
        return [data_uri(zeros(8000, 6000))]
    return [case["url"]]


def is_data(case: dict[str, Any]) -> bool:
    return str(case["url"])[:5].lower() == "data:"


def deviations(case: dict[str, Any], answer: Answer, stand: Stand) -> Iterator[str]:
    """In what an answer is not as the case has it."""
    if case["verdict"] == "allow":
        if answer.status != 200:
            yield f"is refused: {answer.error}"
        elif not (stand.origin.connected or is_data(case)):
            yield "was not fetched"
        return
    if (answer.status, answer.error.get("type")) != (400, "invalid_request_error"):
        yield f"is answered {answer.status} {answer.error}"
        return
    yield from (f"tells {leak}" for leak in answer.leaks())
    if stand.origin.connected and case["category"] in OFFLINE | {"dns"}:
        yield f"dialled {stand.origin.connected}"


async def judge(stand: Stand, cases: list[dict[str, Any]]) -> list[str]:
    """All that is not as published, each with the name of its case."""
    found: list[str] = []
    words: dict[str, set[str]] = defaultdict(set)
    async with Origin("expired") as expired:
        for case in cases:
            servers = case.get("server", {})
            stand.origin.names = dict(case.get("needs_dns", {}))
            stand.origin.serve(servers)
            stale = any(script.get("tls") == "expired" for script in servers.values())
            stand.origin.ports = {443: expired.secure.port} if stale else {}
            stand.origin.connected.clear()
            sent = len(stand.upstream.requests)
            answer = await stand.ask(*urls_of(case))
            found += [f"{case['id']} {what}" for what in deviations(case, answer, stand)]
            found += [f"{case['id']} reached {place}" for place in stand.strays()]
            if len(stand.upstream.requests) - sent != (case["verdict"] == "allow"):
                found.append(f"{case['id']} went upstream, or did not")
            if answer.error and not is_data(case):
                words[answer.line["reason"]].update(answer.words)
    return found + [f"{reason}: {said}" for reason, said in words.items() if len(said) > 1]


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "proxies in the environment"])
@pytest.mark.parametrize("mode", ["inspect", "inline"])
async def test_verdicts(
    open_stand: OpenStand, monkeypatch: pytest.MonkeyPatch, mode: str, proxied: bool
) -> None:
    """Every case has its verdict, every reason one message, and no inner address is dialled."""
    assert (LIMITS.connect, LIMITS.total) == (POLICY["connect_s"], POLICY["fetch_total_s"])
    async with ScriptedUpstream() as proxy:
        for name in PROXIES if proxied else ():
            monkeypatch.setenv(name, proxy.url)
        async with open_stand(LIMITS, mode=mode) as stand:
            assert await judge(stand, [c for c in CASES if "drip" not in c["id"]]) == []
        assert proxy.connections == 0


async def test_verdicts_of_text(open_stand: OpenStand) -> None:
    """Where nothing is fetched, what can be told by a URL's text is told all the same."""
    cases = [case for case in CASES if case["category"] in OFFLINE]
    async with open_stand(mode="url") as stand:
        assert await judge(stand, cases) == []
        assert stand.origin.dialled == []


@pytest.mark.parametrize("mode", ["inspect", "inline"])
async def test_drip(open_stand: OpenStand, mode: str) -> None:
    """An origin that drips is given up on after the time that a fetch may take in all."""
    (case,) = (case for case in CASES if "drip" in case["id"])
    async with open_stand(replace(QUICK, total=0.2), mode=mode) as stand:
        stand.origin.serve(case["server"])
        answer = await stand.ask(case["url"])
        assert list(deviations(case, answer, stand)) == []
        assert (answer.line["reason"], answer.line["cause"]) == ("unreachable", "timeout")
