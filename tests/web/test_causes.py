"""A 429 for each cause: which limit, whose, how much, until when; and what the SDK makes of it."""

from __future__ import annotations

import asyncio
import io
import re
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from PIL import Image

from proxy.domain.limits import parse_limit
from proxy.domain.windows import window_end
from tests.gateway import HELLO, Gateway, open_gateway
from tests.scripted import End, Head, Pause, ScriptedUpstream, Send, chat_stream, sse
from tests.web.refusals import refusal

FULL = {"prompt_tokens": 8, "completion_tokens": 50, "total_tokens": 58}


def picture() -> str:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    return "data:image/png;base64," + b64encode(out.getvalue()).decode()


SEEN = [{"type": "image_url", "image_url": {"url": picture()}}]
IMAGE = {**HELLO, "messages": [{"role": "user", "content": SEEN}]}

QUOTA = "insufficient_quota", "insufficient_quota"
TOKENS = "tokens", "rate_limit_exceeded"
REQUESTS = "requests", "rate_limit_exceeded"

#: How a refusal may end, and the time that it tells.
RESETS = r"It resets at (?P<at>[-\d]{10}T[\d:]{8}Z), in \S+\."
REFILLS = r"There is room in (?P<in>[\dms]+)\."
IN_FLIGHT = r"Try again when they have ended\."
FOR_EVER = r"It does not reset; ask your platform team for more\."
NONE = r"It allows none; ask your platform team\."
NEVER_FITS = r"It can never fit: "


@dataclass(frozen=True)
class Cause:
    """A limit, what has been sent before (`done`) and is under way (`held`), and what is told."""

    limit: str
    asked: str
    type: tuple[str, str]
    end: str
    used: str = "0"
    reserved: str = "0"
    done: int = 0
    held: int = 0
    body: dict[str, Any] | None = None
    team: bool = False
    model: str = "*"


#: Of each unit: how much only one request fits, used by it and asked by the next.
UNITS = {
    "requests": ("1", "1", "1"),
    "tokens": ("100", "58", "61"),
    "input tokens": ("15", "8", "11"),
    "output tokens": ("80", "50", "50"),
    "images": ("1", "1", "1"),
    "usd": ("0.0009", "0.00052", "0.0005275"),
}
LEFT = {
    "tokens": r" To fit into the 42 left, lower max_tokens or n, shorten the prompt or .*\.",
    "input tokens": r" To fit into the 7 left, shorten the prompt or send fewer images\.",
    "output tokens": r" To fit into the 30 left, lower max_tokens or n\.",
    "usd": r" To fit into the 0\.00038 left, lower max_tokens or n, .* take a cheaper model\.",
}


def spent(unit: str, window: str) -> Cause:
    amount, used, asked = UNITS[unit]
    end = (FOR_EVER if window == "total" else RESETS) + LEFT.get(unit, "")
    limit = f"{amount} {unit}" + ("" if window == "total" else f"/{window}")
    body = IMAGE if unit == "images" else None
    return Cause(limit, asked, QUOTA, end, used=used, done=1, body=body)


def drained(unit: str) -> Cause:
    """A bucket; it leaks while the test runs."""
    amount, _, asked = UNITS[unit]
    type_ = REQUESTS if unit in ("requests", "images") else TOKENS
    body = IMAGE if unit == "images" else None
    return Cause(f"{amount} {unit}/minute", asked, type_, REFILLS, r"[\d.]+", done=1, body=body)


CAUSES = {
    **{f"{u} of a {w}": spent(u, w) for u in UNITS for w in ("hour", "day", "month", "total")},
    **{f"a bucket of {unit}": drained(unit) for unit in UNITS},
    "concurrent": Cause("1 concurrent", "1", REQUESTS, IN_FLIGHT, reserved="1", held=1),
    "in flight, of a day": Cause("100 tokens/day", "61", TOKENS, IN_FLIGHT, reserved="61", held=1),
    "in flight, of usd": Cause(
        "0.001 usd/month", "0.0005275", TOKENS, IN_FLIGHT, reserved="0.0005275", held=1
    ),
    # What is in flight has filled the bucket, and leaks.
    "in flight, of a bucket": Cause("1 requests/minute", "1", REQUESTS, REFILLS, "1", held=1),
    "larger than a bucket": Cause(
        "60 tokens/minute", "61", TOKENS, NEVER_FITS + "lower max_tokens or n, .*"
    ),
    "larger than a budget": Cause(
        "0.0005 usd/day", "0.0005275", QUOTA, NEVER_FITS + "lower max_tokens or n, .*"
    ),
    "a longer prompt than a budget": Cause(
        "9 input tokens/day", "11", QUOTA, NEVER_FITS + "shorten the prompt or .*"
    ),
    "no requests": Cause("0 requests/day", "1", QUOTA, NONE),
    "no concurrent": Cause("0 concurrent", "1", REQUESTS, NONE),
    "no images": Cause("0 images/minute", "1", REQUESTS, NONE, body=IMAGE),
    "the team's": Cause("100 tokens/day", "61", QUOTA, RESETS + ".*", "58", done=1, team=True),
    "the team's in flight": Cause(
        "1 concurrent", "1", REQUESTS, IN_FLIGHT, reserved="1", held=1, team=True
    ),
    "one model's": Cause("1 requests/day", "1", QUOTA, RESETS, "1", done=1, model="gpt-4o"),
}


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    async with open_gateway(store_url, upstream.url, server={"support": "Ask #vision."}) as opened:
        yield opened


async def key_of(gate: Gateway, cause: Cause) -> str:
    limits = (parse_limit(cause.limit, cause.model),)
    await gate.directory.create_team("vision", limits=limits if cause.team else ())
    own = () if cause.team else limits
    return (await gate.directory.create_key("vision", "ci", limits=own)).secret


async def set_up(gate: Gateway, cause: Cause, key: str, stack: AsyncExitStack) -> None:
    for _ in range(cause.done):
        async with gate.post(key, cause.body) as answer:
            assert answer.status == 200
            await answer.read()
        await gate.settled()
    for _ in range(cause.held):
        assert (await stack.enter_async_context(gate.post(key))).status == 200


class Hasty(openai.AsyncOpenAI):
    """The SDK, but for its patience: `waits` are the seconds that it would have waited."""

    waits: list[float]

    def _calculate_retry_timeout(self, *args: Any, **more: Any) -> float:
        self.waits.append(super()._calculate_retry_timeout(*args, **more))
        return 0.0


async def sdk_waits(gate: Gateway, key: str, body: dict[str, Any]) -> list[float]:
    """The waits between the attempts of the SDK, the last of which is refused too."""
    before = len(gate.log_lines())
    async with Hasty(base_url=f"{gate.url}/v1", api_key=key) as client:
        client.waits = []
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(**body)
    attempts = [line["status"] for line in gate.log_lines()[before:]]
    assert attempts == [429] * (1 + len(client.waits))
    return client.waits


@pytest.mark.parametrize("name", CAUSES)
async def test_a_cause(gate: Gateway, upstream: ScriptedUpstream, name: str) -> None:
    """A refusal names the limit, whose it is, used, reserved, asked and until when; it is tried
    three times by the SDK if it can succeed, after the time it told, and else once.
    """
    cause = CAUSES[name]
    over = asyncio.Event()
    steps = [Head(), Send(sse({"choices": []})), Pause(over), Send(sse("[DONE]")), End()]
    upstream.script(steps if cause.held else chat_stream(["Hi"], FULL))
    key, body = await key_of(gate, cause), cause.body or HELLO
    async with AsyncExitStack() as stack:
        await set_up(gate, cause, key, stack)
        async with gate.post(key, body) as answer:
            headers = answer.headers
            error = refusal(answer.status, headers, await answer.read(), (429, *cause.type))
        check_text(cause, error["message"])
        check_headers(cause, headers)
        waits = await sdk_waits(gate, key, body)
        over.set()
    retried = cause.end in (REFILLS, IN_FLIGHT)
    assert len(waits) == (2 if retried else 0)
    for wait in waits:
        assert wait == pytest.approx(float(headers["retry-after-ms"]) / 1000, abs=5)
    samples = await gate.metrics()
    reason = "budget" if cause.type == QUOTA else "rate_limit"
    refused = f'visiongate_rejections_total{{reason="{reason}",team="vision"}}'
    assert samples[refused] == 2 + len(waits)


def check_text(cause: Cause, message: str) -> None:
    limit = str(parse_limit(cause.limit, cause.model))
    owner = "team 'vision'" if cause.team else "key 'ci'"
    expected = (
        f"The limit of {re.escape(limit)} of the {owner} has no room: {cause.used} used, "
        f"{cause.reserved} reserved by requests in flight, and this request may need "
        rf"{re.escape(cause.asked)}\. {cause.end} Ask #vision\."
    )
    assert re.fullmatch(expected, message), message


def check_headers(cause: Cause, headers: Mapping[str, str]) -> None:
    retried = cause.end in (REFILLS, IN_FLIGHT)
    assert headers.get("x-should-retry") == (None if retried else "false")
    if cause.end.startswith((FOR_EVER, NONE, NEVER_FITS)):
        assert "retry-after" not in headers
        assert "retry-after-ms" not in headers
        return
    wait = int(headers["retry-after-ms"])
    assert int(headers["retry-after"]) == -(-wait // 1000)
    if cause.end == IN_FLIGHT:
        assert wait == 1000
    elif cause.end == REFILLS:
        assert 0 < wait <= 60_000
    else:
        now = int(time.time() * 1000)
        turn = window_end(parse_limit(cause.limit).window, now)
        assert turn is not None
        assert abs(now + wait - turn) < 5000
