"""A whole gateway on real sockets, in the test's own loop."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import yaml

from proxy.app import OpenFetcher, open_fetcher
from proxy.config import Config, parse_config
from proxy.domain.limits import parse_limit
from proxy.logs import Log
from proxy.serve import listening
from proxy.store.directory import Directory
from proxy.web.door import Door

PEPPER = "a pepper for the tests"

CONFIG: dict[str, Any] = {
    "server": {"host": "127.0.0.1", "port": 0, "drain": "2s"},
    "admin": {"port": 0},
    "images": {"mode": "url"},  # fetching has tests of its own
    "providers": {
        "openai": {
            "timeouts": {"connect": "2s", "first_byte": "5s", "idle": "5s", "total": "30s"},
            "image_urls": "forward",
            "breaker": {"failures": 0},  # breakers and attempts have tests of their own
            "api_key": "sk-upstream-secret",
        }
    },
    "models": {
        "gpt-4o": {
            "targets": [{"provider": "openai"}],
            "retries": 0,
            "price": {"input": 2.5, "output": 10},
        },
        "gpt-4o-mini": {
            "targets": [{"provider": "openai"}],
            "retries": 0,
            "price": {"input": 0.15, "output": 0.6},
        },
        "gpt-4-vision-preview": {
            "targets": [{"provider": "openai"}],
            "retries": 0,
            "price": {"input": 10, "output": 30},
        },
    },
}

HELLO: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "Say hello."}],
    "stream": True,
    "max_tokens": 50,
}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, block by block."""
    result = copy.deepcopy(dict(base))
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = merged(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result


def make_config(store_url: str, upstream_url: str, **changes: Any) -> Config:
    """A config over CONFIG, as it would be read from a file."""
    given = {
        "store": {"url": store_url},
        "keys": {"pepper": PEPPER},
        "providers": {"openai": {"base_url": upstream_url}},
    }
    text = yaml.safe_dump(merged(merged(CONFIG, given), changes))
    return parse_config(text, "test.yaml", {})


class Logged:
    """What a log has written to `out`."""

    def __init__(self) -> None:
        self.out = io.BytesIO()

    def getvalue(self) -> str:
        return self.out.getvalue().decode()


@dataclass
class Gateway:
    """A running gateway and a client for it."""

    url: str
    admin: str
    door: Door
    session: aiohttp.ClientSession
    log: Logged
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> Directory:
        return self.door.directory

    async def key(
        self,
        *limits: str,
        team: str = "vision",
        name: str = "ci",
        plan: str | None = None,
        team_limits: tuple[str, ...] = (),
        team_plan: str = "default",
        **more: Any,
    ) -> str:
        """A new key's secret; the team is made if there is none."""
        if team not in await self.directory.team_names():
            bounds = tuple(parse_limit(text) for text in team_limits)
            await self.directory.create_team(team, plan=team_plan, limits=bounds)
        made = await self.directory.create_key(
            team, name, plan=plan, limits=tuple(parse_limit(text) for text in limits), **more
        )
        return made.secret

    def post(
        self, key: str | None, body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> Any:
        """POST a chat request: an object is sent as JSON, bytes as they are."""
        sent = dict(headers or {})
        if key is not None:
            sent.setdefault("Authorization", f"Bearer {key}")
        data = body if isinstance(body, bytes) else json.dumps(HELLO if body is None else body)
        sent.setdefault("Content-Type", "application/json")
        return self.session.post(f"{self.url}/v1/chat/completions", data=data, headers=sent)

    def get(self, path: str, key: str | None = None) -> Any:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return self.session.get(f"{self.url}{path}", headers=headers)

    async def settled(self) -> None:
        """Wait until every settlement is in the store."""
        await self.door.ledger.settled()

    async def idle(self) -> None:
        """Wait until no request is under way, and every settlement is in the store."""
        await until(lambda: not self.door.ledger.live)
        await self.settled()

    async def used(self, key: str) -> dict[str, tuple[int, int]]:
        """What is used and reserved of each of the key's own limits, by unit."""
        limits = (await self.usage(key))["key"]["limits"]
        return {limit["unit"]: (limit["used"], limit["reserved"]) for limit in limits}

    async def request_line(self) -> dict[str, Any]:
        """The log's line of the one chat request that there was, once it is over."""
        await self.idle()
        lines = [x for x in self.log_lines() if x.get("path") == "/v1/chat/completions"]
        assert len(lines) == 1, lines
        return lines[0]

    async def usage(self, key: str) -> dict[str, Any]:
        await self.settled()
        async with self.get("/v1/usage", key) as answer:
            shown: dict[str, Any] = await answer.json()
            return shown

    async def metrics(self) -> dict[str, float]:
        """Every sample by its name and labels, as the text has them."""
        async with self.session.get(f"{self.admin}/metrics") as answer:
            return samples(await answer.text())

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


async def until(reached: Callable[[], bool], seconds: float = 4.0) -> None:
    """Wait for a condition of which nobody tells. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@asynccontextmanager
async def open_gateway(
    store_url: str,
    upstream_url: str,
    *,
    patience: float = 60.0,
    open_fetcher: OpenFetcher = open_fetcher,
    **changes: Any,
) -> AsyncIterator[Gateway]:
    """A gateway with CONFIG and `changes` over it; `patience` as `Door` has it."""
    logged = Logged()
    with tempfile.TemporaryDirectory(prefix="vg-") as data:
        config = make_config(store_url, upstream_url, **merged({"store": {"data": data}}, changes))
        async with (
            listening(
                config,
                store_url,
                (PEPPER,),
                log=Log(logged.out),
                patience=patience,
                open_fetcher=open_fetcher,
            ) as gate,
            aiohttp.ClientSession() as session,
        ):
            yield Gateway(gate.public, gate.admin, gate.door, session, logged)


def events(body: bytes) -> list[Any]:
    """The data of each event of a stream: objects, and the string "[DONE]"."""
    found: list[Any] = []
    for event in body.decode().split("\n\n"):
        if event.startswith("data: "):
            data = event.removeprefix("data: ")
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


def samples(text: str) -> dict[str, float]:
    """Every sample of a scrape by its name and labels, as the text has them."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines if name}
