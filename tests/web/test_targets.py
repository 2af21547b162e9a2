"""Targets over many requests: breakers, caps, switches, names, and what is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from proxy.domain.errors import NoTarget
from proxy.domain.health import State
from proxy.web import attempts
from tests.gateway import HELLO, until
from tests.scripted import (
    End,
    Head,
    Pause,
    Reset,
    ScriptedUpstream,
    Send,
    Sleep,
    Step,
    chat_json,
    chat_stream,
    error_json,
    sse,
)
from tests.web.raw import chat_request, connected
from tests.web.refusals import refused
from tests.web.two import AVAILABLE, USAGE, Two, open_two
from tests.web.under_way import LEAVE, WORD

UNAVAILABLE = (503, "server_error", None)
WHOLE = {**HELLO, "stream": False}
ANSWER = chat_stream(["Hi"], USAGE)


class Clock:
    """What the breakers go by."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(attempts, "monotonic", made)
    return made


def alone(**changes: Any) -> dict[str, Any]:
    """One target, asked once, whose breaker opens at the third failure."""
    return {
        "models": {"gpt-4o": {"targets": [{"provider": "one"}], "retries": 0, **changes}},
        "providers": {"one": {"breaker": {"failures": 3}}},
    }


async def opened(two: Two) -> None:
    """Have one's breaker open."""
    two.one.script(error_json(500, "boom"))
    for _ in range(3):
        assert await two.ask() in (200, 502)
    assert two.standing("one").breaker.state is State.OPEN


async def test_a_breaker_spares_clients_and_target(store_url: str, clock: Clock) -> None:
    """After three failures a target is not asked again, and its clients are told when."""
    async with open_two(store_url, **alone()) as two:
        await opened(two)
        async with two.books.post() as answer:
            assert answer.headers["retry-after"] == "5"
        clock.now += 2.5
        error = await refused(two.books.post(), UNAVAILABLE)
        assert "are failing. Try again in 3 s." in error["message"]
        assert two.asked == (3, 0)
        line = two.gate.log_lines()[-1]
        assert (line["reason"], line["provider"], line["model"]) == ("no_target", "", "gpt-4o")
        assert await two.attempts() == {("one", "upstream_failed"): 3}
        samples = await two.gate.metrics()
        assert samples['visiongate_rejections_total{reason="no_target",team="vision"}'] == 2
        await two.books.closed(requests=3, tokens=0)


async def test_a_breaker_closes_after_a_success(store_url: str, clock: Clock) -> None:
    """The first request after the pause is the probe, and its answer opens the way."""
    async with open_two(store_url, **alone()) as two:
        await opened(two)
        assert (await two.gate.metrics())[AVAILABLE % "one"] == 0
        two.one.script(ANSWER)
        clock.now += 5
        for _ in range(3):
            assert await two.ask() == 200
        assert (await two.gate.metrics())[AVAILABLE % "one"] == 1


@pytest.mark.parametrize("body", [HELLO, WHOLE], ids=["stream", "whole"])
async def test_only_one_probe_goes_out(store_url: str, clock: Clock, body: Any) -> None:
    """Of many requests at once one finds out how the target is; the others are told to wait."""
    answered = asyncio.Event()
    async with open_two(store_url, **alone()) as two:
        await opened(two)
        two.one.script([Pause(answered), *(chat_json("Hi") if body is WHOLE else ANSWER)])
        clock.now += 5
        probe = asyncio.create_task(two.ask(body))
        await two.one.wait_requests(4)
        assert await asyncio.gather(*(two.ask(body) for _ in range(5))) == [503] * 5
        answered.set()
        assert await probe == 200
        assert await two.ask(body) == 200
        assert two.asked == (5, 0)


async def test_a_probe_that_never_answers(store_url: str, clock: Clock) -> None:
    """It holds others back for one pause, not until its own time-out."""
    async with open_two(store_url, **alone()) as two:
        await opened(two)
        two.one.script([Sleep(60)])
        two.one.script(ANSWER)
        clock.now += 5
        async with connected(two.gate.url) as client:
            await client.send(chat_request(two.key))
            await two.one.wait_requests(4)
            assert await two.ask() == 503
            clock.now += 5
            assert await two.ask() == 200
            assert two.standing("one").breaker.state is State.CLOSED


@pytest.mark.parametrize("how", LEAVE)
async def test_a_probe_whose_client_leaves(store_url: str, clock: Clock, how: str) -> None:
    """Nothing is known then, and the next request is the probe."""
    async with open_two(store_url, **alone()) as two:
        await opened(two)
        two.one.script([Sleep(60)])
        two.one.script(ANSWER)
        clock.now += 5
        async with connected(two.gate.url) as client:
            await client.send(chat_request(two.key))
            await two.one.wait_requests(4)
            LEAVE[how](client)
            await until(lambda: not two.standing("one").in_flight)
        assert await two.ask() == 200


async def test_a_probe_of_a_wrong_request(store_url: str, clock: Clock) -> None:
    """A target that refuses a request is there."""
    async with open_two(store_url, **alone()) as two:
        await opened(two)
        two.one.script(error_json(400, "no"))
        two.one.script(ANSWER)
        clock.now += 5
        assert await two.ask() == 400
        assert two.standing("one").breaker.state is State.CLOSED
        assert await two.ask() == 200


async def test_a_probe_that_is_refused_by_the_ledger_is_none(store_url: str, clock: Clock) -> None:
    """A request over its budget leaves the probe to the next one."""
    async with open_two(store_url, **alone()) as two:
        await opened(two)
        two.one.script(ANSWER)
        poor = await two.gate.key("1 tokens/day", name="poor")
        clock.now += 5
        async with two.gate.post(poor) as answer:
            assert answer.status == 429
        assert await two.ask() == 200


async def test_one_request_counts_once_against_a_target(store_url: str) -> None:
    """A request that no attempt can serve does not open the breaker by itself."""
    changes = alone(retries=5)
    async with open_two(store_url, **changes) as two:
        two.one.script(error_json(500, "boom"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(attempts, "_BACKOFF", 0.001)
            assert await two.ask() == 502
        assert two.asked == (6, 0)
        assert two.standing("one").breaker.state is State.CLOSED


async def test_an_open_breaker_is_passed_over(store_url: str, clock: Clock) -> None:
    """While one is out all requests go to two, and none waits for a failure."""
    async with open_two(store_url, providers={"one": {"breaker": {"failures": 3}}}) as two:
        two.two.script(ANSWER)
        await opened(two)
        for _ in range(5):
            assert await two.ask() == 200
        assert two.asked == (3, 8)
        assert await two.available() == (0, 1)


async def test_streams_that_break_off_open_it(store_url: str, clock: Clock) -> None:
    """A target whose answers all break in the middle is out too."""
    async with open_two(store_url, **alone()) as two:
        two.one.script([Head(), Send(WORD), Reset()])
        for _ in range(20):
            async with connected(two.gate.url) as client:
                await client.send(chat_request(two.key))
                assert (await client.head()).status == 200
                assert b"error" in await client.rest()
        assert await two.ask() == 503


@asynccontextmanager
async def streams(two: Two, count: int, over: asyncio.Event) -> AsyncIterator[None]:
    """So many under way, until the block ends."""
    async with AsyncExitStack() as stack:
        answers = [await stack.enter_async_context(two.books.post()) for _ in range(count)]
        assert [answer.status for answer in answers] == [200] * count
        yield
        over.set()
        for answer in answers:
            await answer.read()


def halt(upstream: ScriptedUpstream, over: asyncio.Event) -> None:
    upstream.script([Head(), Send(sse({"choices": []})), Pause(over), Send(sse("[DONE]")), End()])


async def test_a_target_with_as_many_requests_as_it_takes(store_url: str) -> None:
    """`concurrent`: the next ones go to the next target, and back once there is room."""
    over = asyncio.Event()
    capped = {"targets": [{"provider": "one", "concurrent": 2}, {"provider": "two", "priority": 2}]}
    async with open_two(store_url, models={"gpt-4o": capped}) as two:
        halt(two.one, over)
        two.two.script(ANSWER)
        async with streams(two, 2, over):
            assert await two.ask() == 200
            assert two.asked == (2, 1)
            assert await two.available() == (1, 1)
        await two.gate.idle()
        assert await two.ask() == 200
        assert two.asked == (3, 1)


async def test_a_cap_holds_for_many_at_once(store_url: str) -> None:
    """However many requests come together, no more than `concurrent` are at the target."""
    over = asyncio.Event()
    async with open_two(store_url, **alone(targets=[{"provider": "one", "concurrent": 3}])) as two:
        halt(two.one, over)
        asking = [asyncio.create_task(two.ask()) for _ in range(12)]
        await until(lambda: sum(task.done() for task in asking) == 9)
        assert two.standing("one").in_flight == 3
        await two.one.wait_requests(3)
        over.set()
        assert sorted(await asyncio.gather(*asking)) == [200] * 3 + [503] * 9
        assert two.standing("one").in_flight == 0
        told = [x["reason"] for x in two.gate.log_lines() if x["status"] == 503]
        assert told == ["no_target"] * 9
        await two.gate.idle()
        used = await two.gate.used(two.key)
        assert used["requests"] == (3, 0)
        assert await two.attempts() == {("one", "complete"): 3}


async def test_the_least_loaded_of_equals_serves(store_url: str) -> None:
    """Between two targets of a weight, a request goes to the one with fewer streams."""
    over = asyncio.Event()
    equals = {"targets": [{"provider": "one"}, {"provider": "two"}]}
    async with open_two(store_url, models={"gpt-4o": equals}) as two:
        halt(two.one, over)
        halt(two.two, over)
        async with streams(two, 10, over):
            assert two.asked == (5, 5)


async def test_a_target_that_is_switched_off(store_url: str) -> None:
    """It gets no new request from that moment on; what is under way goes on."""
    over = asyncio.Event()
    async with open_two(store_url) as two:
        halt(two.one, over)
        two.two.script(ANSWER)
        async with streams(two, 1, over):
            two.gate.door.health.disabled = frozenset({("gpt-4o", "one")})
            assert await two.ask() == 200
            assert two.asked == (1, 1)
            assert await two.available() == (0, 1)
        two.gate.door.health.disabled = frozenset({("gpt-4o", "one"), ("gpt-4o", "two")})
        async with two.books.post() as answer:
            assert (answer.status, answer.headers["x-should-retry"]) == (503, "false")
        two.gate.door.health.disabled = frozenset()
        assert await two.ask() == 200
        assert two.asked == (2, 1)


async def test_switched_off_between_two_attempts(store_url: str) -> None:
    """A target that is switched off while another fails is not asked next."""
    async with open_two(store_url) as two:

        def switch_off(request: Any) -> list[Step]:
            two.gate.door.health.disabled = frozenset({("gpt-4o", "two")})
            return error_json(401, "no")

        two.one.script(switch_off)
        assert await two.ask() == 502
        assert two.asked == (1, 0)


async def test_no_target_while_the_budget_is_reserved(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the last target goes out after the choice, the reservation is given back whole."""
    async with open_two(store_url, **alone()) as two:
        reserve = type(two.gate.door.ledger).admit

        async def admit(ledger: Any, lease: Any) -> Any:
            made = await reserve(ledger, lease)
            two.gate.door.health.disabled = frozenset({("gpt-4o", "one")})
            return made

        monkeypatch.setattr(type(two.gate.door.ledger), "admit", admit)
        await refused(two.books.post(), UNAVAILABLE)
        assert two.asked == (0, 0)
        await two.books.closed(requests=0, tokens=0)
        assert await two.attempts() == {}


@pytest.mark.parametrize(("allowed", "status"), [("gpt-4o", 200), ("gpt-4o-mini", 404)])
async def test_a_model_by_its_alias(store_url: str, allowed: str, status: int) -> None:
    """An alias is another name of the model: allowed, served, listed and counted as that."""
    changes = {
        "models": {"gpt-4o": {"aliases": ["gpt", "latest"]}},
        "plans": {"narrow": {"models": [allowed]}},
    }
    async with open_two(store_url, **changes) as two:
        two.one.script(ANSWER)
        key = await two.gate.key("1M tokens/day", name="narrow", plan="narrow")
        async with two.gate.post(key, {**HELLO, "model": "gpt"}) as answer:
            assert answer.status == status
        async with two.gate.get("/v1/models/gpt", key) as answer:
            assert answer.status == status
            assert status == 404 or (await answer.json())["id"] == "gpt"
        async with two.gate.get("/v1/models", key) as answer:
            listed = [model["id"] for model in (await answer.json())["data"]]
        if status == 200:
            assert listed == ["gpt-4o", "gpt", "latest"]
            assert two.one.requests[0].json()["model"] == "model-one"
            assert (await two.gate.request_line())["model"] == "gpt-4o"
        else:
            assert listed == ["gpt-4o-mini"]


def test_no_target_is_told_as_openai_tells_it() -> None:
    """The envelope of a server that is busy."""
    error = NoTarget("No.")
    assert (error.status, error.envelope()["error"]["type"]) == (503, "server_error")
