"""A gateway before two scripted upstreams: `one`, and `two` where that is out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from proxy.domain.health import Standing
from proxy.store.usage import read_rows
from tests.gateway import HELLO, Gateway, merged, open_gateway
from tests.scripted import ScriptedUpstream
from tests.web.books import Books

#: USD for a million tokens, and the row of an answer of USAGE: requests, tokens, nano-usd.
PRICES = {"one": 0.001, "two": 2.0}
SERVED = {"one": (1, 12, 3, 15), "two": (1, 12, 3, 30_000)}
#: Short, but not so short that a busy machine is late.
TIMEOUTS = {"connect": "2s", "first_byte": "700ms", "idle": "5s"}
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
ATTEMPTS = 'visiongate_upstream_attempts_total{outcome="%s",provider="%s"}'
AVAILABLE = 'visiongate_target_available{model="gpt-4o",provider="%s"}'


@dataclass
class Two:
    gate: Gateway
    one: ScriptedUpstream
    two: ScriptedUpstream
    key: str

    @cached_property
    def books(self) -> Books:
        """Opened by the test that first asks for them."""
        return Books(self.gate, self.key)

    async def ask(self, body: Any = HELLO) -> int:
        """A request and the whole of its answer: the status."""
        async with self.books.post(body) as answer:
            await answer.read()
            return int(answer.status)

    def standing(self, provider: str) -> Standing:
        """How the gateway finds it."""
        standings = self.gate.door.health.rosters["gpt-4o"].standings
        return next(s for s in standings if s.target.provider == provider)

    @property
    def asked(self) -> tuple[int, int]:
        """How many requests have come to each."""
        return len(self.one.requests), len(self.two.requests)

    async def attempts(self) -> dict[tuple[str, str], float]:
        """How many there were, by provider and outcome."""
        await self.gate.idle()
        found = await self.gate.metrics()
        outcomes = {n.split('"')[1] for n in found if n.startswith(ATTEMPTS.partition("{")[0])}
        pairs = ((provider, outcome) for provider in PRICES for outcome in outcomes)
        return {(p, o): found[ATTEMPTS % (o, p)] for p, o in pairs if ATTEMPTS % (o, p) in found}

    async def available(self) -> tuple[float, float]:
        found = await self.gate.metrics()
        return found[AVAILABLE % "one"], found[AVAILABLE % "two"]

    async def rows(self) -> dict[str, tuple[int, int, int, int]]:
        """By provider the requests, the tokens in and out, and the nano-usd of the ledger."""
        await self.gate.idle()
        rows = await read_rows(self.gate.door.store, "vision")
        return {r.provider: (*r.figures[:3], r.figures[-1]) for r in rows}


@asynccontextmanager
async def open_two(
    store_url: str, *, transport: str = "direct", one: str | None = None, **changes: Any
) -> AsyncIterator[Two]:
    """`gpt-4o` is at `one` first, then at `two`; `one` may be a URL where nobody is."""
    async with ScriptedUpstream() as first, ScriptedUpstream() as second:
        where = {"one": one or first.url, "two": second.url}
        providers = {
            name: {
                "base_url": url,
                "api_key": f"sk-{name}",
                "timeouts": TIMEOUTS,
                "transport": transport,
                "image_urls": "forward",
            }
            for name, url in where.items()
        }
        targets = [
            {
                "provider": name,
                "model": f"model-{name}",
                "priority": priority,
                "price": {"input": PRICES[name], "output": PRICES[name]},
            }
            for priority, name in enumerate(where, 1)
        ]
        models = {"gpt-4o": {"targets": targets, "retries": 2}}
        given = merged({"providers": providers, "models": models}, changes)
        async with open_gateway(store_url, first.url, **given) as gate:
            await gate.metrics()  # whose connection stays
            key = await gate.key("100 requests/day", "1M tokens/day")
            yield Two(gate, first, second, key)
