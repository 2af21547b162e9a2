"""A key whose budget is known to be used up is refused before its body is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from proxy.domain.limits import parse_limit
from proxy.store import keyring
from tests.gateway import HELLO, Gateway, open_gateway, until
from tests.scripted import ScriptedUpstream, chat_stream
from tests.web.raw import chat_request, connected
from tests.web.under_way import ask

#: More than the worst case: what was not foreseen is charged all the same.
MORE = {"prompt_tokens": 80, "completion_tokens": 90, "total_tokens": 170}
QUOTA = (429, "insufficient_quota", "insufficient_quota")
UNREAD = b"{"  # no JSON: whoever reads it says so
PLANS: dict[str, Any] = {"default": {}, "watched": {"enforce": False}}


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    upstream.script(chat_stream(["Hi"], MORE))
    config = {"plans": PLANS, "server": {"support": "Ask #vision."}}
    async with open_gateway(store_url, upstream.url, **config) as opened:
        yield opened


async def spend(gate: Gateway, key: str) -> None:
    """Use a key until it is refused."""
    assert [await ask(gate, key) for _ in range(2)] == [200, 429]


async def test_a_body_that_never_ends(gate: Gateway) -> None:
    """Who is known to be refused is told while the body is still to come, and it counts."""
    key = await gate.key("1 requests/day")
    await spend(gate, key)
    async with connected(gate.url) as client:
        await client.send(chat_request(key, b"{" + b" " * 1000, content_length=str(20 * 2**20)))
        answer = await client.answer()
    assert answer.status == 429
    assert (await gate.used(key))["requests"] == (1, 0)
    counted = 'visiongate_rejections_total{reason="budget",team="vision"}'
    assert (await gate.metrics())[counted] == 2
    line = gate.log_lines()[2]
    assert (line["status"], line["key"], line["reason"]) == (429, "ci", "budget")


@pytest.mark.parametrize(
    ("limit", "whose"),
    [
        ("1 requests/hour", "key"),
        ("100 tokens/day", "key"),
        ("80 input tokens/month", "team"),
        ("170 tokens", "key"),
        ("1 requests", "team"),
    ],
)
async def test_told_as_before(gate: Gateway, limit: str, whose: str) -> None:
    """It is the refusal that the ledger gave, but for what the request asked."""
    limits = {"team_limits": (limit,)} if whose == "team" else {}
    key = await gate.key(*(() if limits else (limit,)), **limits)  # type: ignore[arg-type]
    await ask(gate, key)
    told, waits = [], []
    for body in (HELLO, UNREAD):
        async with gate.post(key, body) as answer:
            seen = answer.headers
            waits.append(int(seen.get("retry-after-ms", 0)))
            told.append(
                {k: v for k, v in seen.items() if k.startswith(("x-should", "x-ratelimit"))}
            )
            error = (await answer.json())["error"]
            assert (answer.status, error["type"], error["code"]) == QUOTA
            message = error["message"]
            assert ("this request" in message) == (body is HELLO)
    for headers in told:
        headers.pop("x-ratelimit-reset-tokens", None)
        headers.pop("x-ratelimit-reset-requests", None)
    assert told[0] == told[1]
    assert told[0]["x-should-retry"] == "false"
    assert waits[0] == pytest.approx(waits[1], abs=5000)
    used = "1 used" if "requests" in limit else "80 used" if "input" in limit else "170 used"
    for word in (str(parse_limit(limit)), whose, used, "eset", "Ask #vision."):
        assert word in message


@pytest.mark.parametrize(
    "limit", ["1 requests/minute", "50 output tokens/day", "0.0001 usd/day", "200 tokens/day"]
)
async def test_another_request_may_have_room(gate: Gateway, limit: str) -> None:
    """Where a request of another kind, or a moment later, might pass, each is looked at."""
    key = await gate.key(limit)
    while await ask(gate, key) == 200:
        pass
    assert await ask(gate, key, UNREAD) == 400
    assert not gate.door.keys._spent


async def test_another_model_may_have_room(gate: Gateway) -> None:
    """A limit of one model stops that model only."""
    await gate.directory.create_team("vision")
    limits = (parse_limit("1 requests/day", "gpt-4o"),)
    key = (await gate.directory.create_key("vision", "ci", limits=limits)).secret
    await spend(gate, key)
    assert await ask(gate, key, {**HELLO, "model": "gpt-4o-mini"}) == 200


async def test_who_only_watches_is_not_stopped(gate: Gateway) -> None:
    """With `enforce: false` nothing is known to be refused."""
    key = await gate.key("1 requests/day", team_plan="watched")
    assert [await ask(gate, key) for _ in range(3)] == [200, 200, 200]
    assert await ask(gate, key, UNREAD) == 400


async def test_a_spent_key_can_look(gate: Gateway) -> None:
    """What costs nothing is open to it: its usage and its models."""
    key = await gate.key("1 requests/day")
    await spend(gate, key)
    for path in ("/v1/usage", "/v1/models"):
        async with gate.get(path, key) as answer:
            assert answer.status == 200


async def test_more_is_noticed_at_once(gate: Gateway) -> None:
    """A limit that is raised lets the key in as soon as it is told."""
    key = await gate.key(team_limits=("1 requests/day",))
    await spend(gate, key)
    before = gate.door.keys._changes
    more = (parse_limit("2 requests/day"),)
    await gate.directory.change_team("vision", lambda r: msgspec.structs.replace(r, limits=more))
    await until(lambda: gate.door.keys._changes > before)
    assert await ask(gate, key) == 200


async def test_known_for_seconds_only(gate: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered is trusted for as long as a cached key is, and then asked for again."""
    key = await gate.key("1 requests/day")
    await spend(gate, key)
    assert await ask(gate, key, UNREAD) == 429
    monkeypatch.setattr(keyring, "_FRESH", 0.0)
    assert await ask(gate, key, UNREAD) == 400


async def test_memory_is_bounded(gate: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys are spent, so many are remembered and no more."""
    monkeypatch.setattr(keyring, "_MOST", 3)
    for name in "abcde":
        await spend(gate, await gate.key("1 requests/day", name=name))
    assert len(gate.door.keys._spent) == 3
