"""The published cases, fetched: names, servers and redirects as they are scripted there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from yarl import URL

from proxy.domain.errors import ImageRefused
from proxy.images.addresses import is_public
from tests.images.origin import PNG, QUICK, RULES, Origin, reply
from tests.images.samples import load_cases
from tests.scripted import Head, Pause, Send, Step

CASES = [
    case
    for case in load_cases("image_urls.yaml")["cases"]
    if isinstance(case["url"], str)
    and not case["url"].lower().startswith("data:")
    and "expand" not in case
]
POLICY = load_cases("image_urls.yaml")["policy"]


def answer(script: dict[str, Any]) -> Iterable[Step]:
    """One of the file's servers; what it does not say is as it should be."""
    names = {"set_cookie": "Set-Cookie", "content_encoding": "Content-Encoding"}
    headers = [(name, script[key]) for key, name in names.items() if key in script]
    if "location" in script:
        headers.append(("Location", script["location"]))
    if "header_bytes" in script:
        headers.append(("X-Long", "x" * script["header_bytes"]))
    if "drip_bps" in script:
        return [Head(200, ()), Send(PNG[:1]), Pause(asyncio.Event())]
    kind, length = script.get("content_type", "image/png"), script.get("content_length")
    return reply(PNG, script.get("status", 200), *headers, kind=kind, length=length)


@pytest.mark.parametrize("way", ["peek", "fetch"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
async def test_verdict(case: dict[str, Any], way: str) -> None:
    """A published URL has its verdict, and not one inner address is dialled for it."""
    servers = case.get("server", {})
    expired = any(script.get("tls") == "expired" for script in servers.values())
    limits = replace(QUICK, total=0.2 if "drip" in case["id"] else POLICY["fetch_total_s"])
    async with Origin("expired" if expired else "valid") as origin:
        origin.names = dict(case.get("needs_dns", {}))
        if not servers:
            origin.otherwise = reply()
        for url, script in servers.items():
            origin.on(URL(url).raw_path_qs, answer(script))
        async with origin.fetcher(limits) as fetcher:
            fetch = getattr(fetcher, way)(case["url"], RULES, POLICY["max_image_bytes"], "key")
            if case["verdict"] == "allow":
                await fetch
            else:
                with pytest.raises(ImageRefused):
                    await fetch
    assert all(is_public(address) for address, _ in origin.dialled)
    assert bool(origin.dialled) or case["verdict"] == "block"
