"""The whole gateway on embedded parts before the matrix's provider, and what a cell needs of it."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.clients.upstream import CUT, HELD, SPEND, Upstream
from tests.fleet import Worker, run_fleet
from tests.scripted import ScriptedUpstream

_TEAM: Final = "clients"
_LOOK: Final = 0.05  # seconds between two looks at the gateway's log

_MODELS: Final = {
    name: {"targets": [{"provider": "openai"}], "max_output": 1000, "vision": False, "price": price}
    for name, price in ((HELD, {"input": 1, "output": 1}), (CUT, {"input": 1, "output": 1}))
}


class Stand:
    """A running gateway; `url` ends in /v1. Of a key, `name` is what the log knows it by."""

    def __init__(
        self, worker: Worker, token: str, upstream: Upstream, session: aiohttp.ClientSession
    ) -> None:
        self.url = f"{worker.url}/v1"
        self._worker = worker
        self._token = token
        self._upstream = upstream
        self._session = session
        self._keys = 0

    async def key(self, *limits: str) -> tuple[str, str]:
        """A new key's name and secret."""
        self._keys += 1
        body = {"team": _TEAM, "name": f"key-{self._keys}", "limits": limits}
        made = await self._admin("/keys", body)
        return made["name"], made["key"]

    async def team(self) -> None:
        await self._admin("/teams", {"name": _TEAM})

    async def _admin(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Authorization": f"Bearer {self._token}"}
        url = f"{self._worker.admin}/admin/v1{path}"
        async with self._session.post(url, json=body, headers=headers) as answer:
            told = await answer.json()
            if answer.status != 201:
                raise RuntimeError(f"{path}: {told}")
            return told

    async def spend(self, secret: str) -> None:
        """Use up a budget of one request, and wait until it is settled."""
        async with self._chat(secret, SPEND, "Hi") as answer:
            answer.raise_for_status()
            await answer.read()
        headers = {"Authorization": f"Bearer {secret}"}
        while True:
            async with self._session.get(f"{self.url}/usage", headers=headers) as answer:
                (limit,) = (await answer.json())["key"]["limits"]
            if limit["used"] and not limit["reserved"]:
                return
            await asyncio.sleep(_LOOK)

    @asynccontextmanager
    async def held(self, name: str, secret: str) -> AsyncIterator[None]:
        """Keep the key's one concurrent request busy until somebody has been refused for it."""
        over = self._upstream.held[name]
        async with self._chat(secret, HELD, name, stream=True) as answer:
            answer.raise_for_status()
            await answer.content.readany()
            letting_go = asyncio.create_task(self._let_go(name, over))
            reading = asyncio.create_task(answer.read())
            try:
                yield
            finally:
                over.set()
                letting_go.cancel()
                await asyncio.gather(letting_go, reading, return_exceptions=True)

    async def _let_go(self, name: str, over: asyncio.Event) -> None:
        await self._logged(name, "status", 429)
        over.set()

    async def attempts(self, name: str, secret: str) -> int:
        """How often the key's client has asked for an answer."""
        headers = {"Authorization": f"Bearer {secret}"}
        async with self._session.get(f"{self.url}/models", headers=headers) as answer:
            await answer.read()
        # One worker writes its lines in order: once this one is there, the ones before it are.
        await self._logged(name, "path", "/v1/models")
        asked = [line for line in self._lines(name) if line["path"] == "/v1/chat/completions"]
        return sum(line.get("model", "") not in (SPEND, HELD) for line in asked)

    async def _logged(self, name: str, field: str, value: object) -> None:
        """Wait until the key has a line with that."""
        while True:
            if any(line[field] == value for line in self._lines(name)):
                return
            await asyncio.sleep(_LOOK)

    def _lines(self, name: str) -> list[dict[str, Any]]:
        lines = self._worker.log()
        return [x for x in lines if x.get("event") == "request" and x.get("key") == name]

    def _chat(
        self, secret: str, model: str, text: str, **more: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        messages = [{"role": "user", "content": text}]
        return self._session.post(
            f"{self.url}/chat/completions",
            json={"model": model, "messages": messages, "max_tokens": 10, **more},
            headers={"Authorization": f"Bearer {secret}"},
        )


@asynccontextmanager
async def open_stand() -> AsyncIterator[Stand]:
    """Everything on ports and in directories of its own; it is gone when this is left."""
    upstream, token = Upstream(), secrets.token_hex(16)
    async with ScriptedUpstream() as scripted, aiohttp.ClientSession() as session:
        scripted.script(upstream.answer)
        with tempfile.TemporaryDirectory(prefix="vg-") as folder:
            fleet = run_fleet(
                Path(folder),
                "embedded",
                scripted.url,
                1,
                admin={"token": token},
                models=_MODELS,
            )
            started = await asyncio.to_thread(fleet.__enter__)
            try:
                stand = Stand(started.workers[0], token, upstream, session)
                await stand.team()
                yield stand
            finally:
                await asyncio.to_thread(fleet.__exit__, None, None, None)
