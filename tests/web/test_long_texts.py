"""Texts that take long to count do not hold up what else is under way."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from proxy.domain.estimate import text_tokens
from proxy.web import chat
from tests.gateway import HELLO, Gateway
from tests.scripted import ScriptedUpstream, chat_stream

LONG = "word " * 4000


def says(text: str) -> dict[str, Any]:
    return {**HELLO, "messages": [{"role": "user", "content": text}]}


async def test_a_long_text_is_counted_in_a_thread_of_its_own_kind(
    gateway: Gateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a short text is counted on the event loop."""
    threads: list[str] = []

    def count(*given: Any) -> int:
        threads.append(threading.current_thread().name.partition("_")[0])
        return text_tokens(*given)

    upstream.script(chat_stream(["Hi"]))
    monkeypatch.setattr(chat, "text_tokens", count)
    key = await gateway.key()
    for text in ("Hello", LONG):
        async with gateway.post(key, says(text)) as answer:
            await answer.read()
    assert threads == [threading.main_thread().name, "tokenizing"]


async def test_a_flood_of_long_texts_leaves_the_threads_of_others_free(
    gateway: Gateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While more long texts wait than can be counted, other work in threads goes on."""
    go, begun = threading.Event(), threading.Semaphore(0)

    def count(*given: Any) -> int:
        begun.release()
        assert go.wait(5)
        return text_tokens(*given)

    upstream.script(chat_stream(["Hi"]))
    monkeypatch.setattr(chat, "text_tokens", count)
    key = await gateway.key()

    async def ask() -> int:
        async with gateway.post(key, says(LONG)) as answer:
            await answer.read()
            return int(answer.status)

    asking = [asyncio.create_task(ask()) for _ in range(40)]
    try:
        await asyncio.to_thread(begun.acquire, timeout=5)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 5), 1) == 5
    finally:
        go.set()
    assert await asyncio.gather(*asking) == [200] * 40
