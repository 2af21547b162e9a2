"""One model at OpenAI and, where that is out, at Anthropic."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.gateway import HELLO, events
from tests.scripted import error_json
from tests.scripted.anthropic import error, messages_api, read
from tests.web.two import Two, open_two

OUT = error_json(500, "Broken")


@pytest.fixture
async def two(store_url: str) -> AsyncIterator[Two]:
    async with open_two(store_url, providers={"two": {"kind": "anthropic"}}) as opened:
        yield opened


@pytest.mark.parametrize("stream", [True, False])
async def test_the_other_kind_answers(two: Two, stream: bool) -> None:
    """The request is translated where it goes next, and the vendor's usage charged at its price."""
    two.one.script(OUT)
    two.two.script(messages_api("text"))
    async with two.books.post({**HELLO, "stream": stream}) as answer:
        assert answer.status == 200
        body = await answer.read()
    assert not stream or events(body)[-1] == "[DONE]"
    assert read(two.two.requests[0]).model == "model-two"
    assert await two.rows() == {"two": (1, 25, 15, 80_000)}


async def test_what_the_other_kind_cannot_be_asked(two: Two) -> None:
    """Where the next target's kind has no such thing, the first one's failure is told."""
    two.one.script(OUT)
    async with two.books.post({**HELLO, "n": 2}) as answer:
        assert answer.status == 502
    assert two.asked == (1, 0)


async def test_both_kinds_fail(two: Two) -> None:
    """An overloaded vendor is out as any other is."""
    two.one.script(OUT)
    two.two.script(error(529, "overloaded_error", "Overloaded"))
    async with two.books.post() as answer:
        assert answer.status == 502
    assert min(two.asked) > 0
