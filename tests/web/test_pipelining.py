"""Clients that send their next request before they have the answer to the last."""

from __future__ import annotations

import asyncio
import json

from tests.gateway import HELLO, Gateway, until
from tests.scripted import ScriptedUpstream, chat_json
from tests.web.raw import chat_request, connected


def asking(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n".encode()


async def test_many_at_once_are_answered_in_their_order(gateway: Gateway) -> None:
    """Requests sent in one go, more than are read ahead, have their answers in that order."""
    async with connected(gateway.url) as client:
        await client.send(b"".join(asking(f"/v1/nothing-{n}") for n in range(100)))
        answers = [await client.answer() for _ in range(100)]
    told = [json.loads(answer.body)["error"]["message"] for answer in answers]
    assert [f"/v1/nothing-{n} " in text for n, text in enumerate(told)] == [True] * 100


async def test_many_at_once_hold_up_nobody(gateway: Gateway) -> None:
    """Between two requests of one connection the loop has a turn for others."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with connected(gateway.url) as client:
        counting = asyncio.create_task(count())
        client.writer.write(asking("/healthz") * 2000)
        for _ in range(2000):
            await client.answer()
        counting.cancel()
    assert turns >= 2000


async def test_a_request_behind_another(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """What is sent while a request is under way is answered when that is over."""
    upstream.script(chat_json("Hi"))
    key = await gateway.key()
    async with connected(gateway.url) as client:
        await client.send(chat_request(key, {**HELLO, "stream": False}), asking("/healthz"))
        assert (await client.answer()).status == 200
        assert json.loads((await client.answer()).body) == {"status": "ok"}


async def test_leaving_with_a_request_in_wait(gateway: Gateway) -> None:
    """A client that leaves with requests unanswered leaves no task behind."""
    async with connected(gateway.url) as client:
        await client.send(asking("/healthz") * 500)
        await client.head()
        client.reset()
        await until(lambda: "_Connection.start" not in map(_work, asyncio.all_tasks()))


def _work(task: asyncio.Task[object]) -> str:
    return getattr(task.get_coro(), "__qualname__", "")
