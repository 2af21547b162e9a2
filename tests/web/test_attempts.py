"""Failures before the first byte: who is asked next, what the client sees, what it is charged."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.domain.errors import GatewayError
from proxy.providers.answers import refusal_of
from proxy.web import attempts, relay
from tests.gateway import HELLO, events, until
from tests.scripted import (
    Close,
    End,
    Head,
    Pause,
    Raw,
    Reset,
    Send,
    Sleep,
    Step,
    chat_json,
    chat_stream,
    error_json,
    json_reply,
    sse,
)
from tests.web.raw import chat_request, connected, unchunked
from tests.web.refusals import refused
from tests.web.two import SERVED, USAGE, Two, open_two
from tests.web.under_way import LEAVE, WORD

FAILED = (502, "server_error", None)
TIMED_OUT = (504, "server_error", None)
WHOLE = {**HELLO, "stream": False}
HANG = Sleep(60)
HTML = ("Content-Type", "text/html")
LIMITED = error_json(
    429, "Slow down", "requests", "rate_limit_exceeded", headers=(("Retry-After", "7"),)
)
KEYS = {"one": {"api_key": None, "api_keys": ["sk-a", "sk-b"]}}
#: For errors that stall.
STALLED = {"one": {"timeouts": {"idle": "300ms"}}}
ALONE: dict[str, Any] = {"models": {"gpt-4o": {"targets": [{"provider": "one"}]}}}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait long before the same target is asked again."""
    monkeypatch.setattr(attempts, "_BACKOFF", 0.02)


@pytest.fixture
async def two(store_url: str) -> AsyncIterator[Two]:
    async with open_two(store_url, providers=STALLED) as opened:
        yield opened


#: What is tried elsewhere, and the outcome that the attempt is counted as.
ELSEWHERE: dict[str, tuple[list[Step], str]] = {
    "closes": ([Close()], "maybe_billed"),
    "resets": ([Reset()], "maybe_billed"),
    "no http": ([Raw(b"what?\r\n\r\n"), Close()], "maybe_billed"),
    "half a head": ([Raw(b"HTTP/1.1 200 OK\r\nContent-"), Close()], "maybe_billed"),
    "hangs": ([HANG], "maybe_billed"),
    "401": (error_json(401, "no"), "upstream_failed"),
    "402": (error_json(402, "no credit"), "upstream_failed"),
    "403": (error_json(403, "no"), "upstream_failed"),
    "408": (error_json(408, "late"), "upstream_failed"),
    "409": (error_json(409, "locked"), "upstream_failed"),
    "429": (LIMITED, "upstream_refused"),
    "500": (error_json(500, "boom"), "upstream_failed"),
    "503": ([Head(503, (HTML,)), Send(b"<h1>no</h1>"), End()], "upstream_failed"),
    "529": (error_json(529, "overloaded"), "upstream_failed"),
    "an endless error": ([Head(500, (HTML,)), Send(b"x"), HANG], "upstream_failed"),
    "a redirect": ([Head(307, (("Location", "/elsewhere"),)), End()], "upstream_failed"),
    "204": ([Head(204, (), chunked=False), Close()], "upstream_failed"),
    "the wrong type": ([Head(200, (HTML,)), Send(b"<h1>"), End()], "maybe_billed"),
}
#: The same, of a stream whose head has come.
BEGUN: dict[str, tuple[list[Step], str]] = {
    "hangs after the head": ([Head(), HANG], "maybe_billed"),
    "resets after the head": ([Head(), Reset()], "maybe_billed"),
    "an empty stream": ([Head(), End()], "maybe_billed"),
}


@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
@pytest.mark.parametrize("name", [*ELSEWHERE, *BEGUN])
async def test_another_target_serves(store_url: str, name: str, transport: str) -> None:
    """The client sees nothing of a failure, and pays for what it got, where it got it."""
    steps, outcome = {**ELSEWHERE, **BEGUN}[name]
    async with open_two(store_url, transport=transport, providers=STALLED) as two:
        two.one.script(steps)
        two.two.script(chat_stream(["Hi"], USAGE))
        async with two.books.post() as answer:
            assert answer.status == 200
            assert answer.headers["x-visiongate-source"] == "upstream"
            assert events(await answer.read())[-1] == "[DONE]"
        assert two.asked == (1, 1)
        line = await two.gate.request_line()
        assert (line["provider"], line["ended"]) == ("two", "complete")
        (failed,) = line["failed"]
        assert (failed["provider"], failed["model"], failed["outcome"]) == (
            "one",
            "model-one",
            outcome,
        )
        assert await two.rows() == {"two": SERVED["two"]}
        assert await two.attempts() == {("one", outcome): 1, ("two", "complete"): 1}
        await two.books.closed(requests=1, tokens=15)


@pytest.mark.parametrize("name", ELSEWHERE)
async def test_another_target_gives_a_whole_answer(two: Two, name: str) -> None:
    """Without a stream it is the same, up to the head of the answer."""
    steps, outcome = ELSEWHERE[name]
    two.one.script(steps)
    two.two.script(chat_json("Hi", USAGE))
    assert await two.ask(WHOLE) == 200
    assert (await two.gate.request_line())["failed"][0]["outcome"] == outcome
    assert await two.rows() == {"two": SERVED["two"]}
    await two.books.closed(requests=1, tokens=15)


@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
async def test_a_target_that_is_not_there(store_url: str, transport: str) -> None:
    """What never reached anybody is not billed by anybody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        async with open_two(store_url, one=url, transport=transport) as two:
            two.two.script(chat_stream(["Hi"], USAGE))
            assert await two.ask() == 200
            assert await two.rows() == {"two": SERVED["two"]}
            assert await two.attempts() == {("one", "upstream_failed"): 1, ("two", "complete"): 1}


async def test_each_target_gets_its_own_name_and_key(two: Two) -> None:
    """The second attempt is the other provider's request, with the body whole."""
    two.one.script(error_json(500, "boom"))
    two.two.script(chat_stream(["Hi"], USAGE))
    assert await two.ask() == 200
    (first,), (second,) = two.one.requests, two.two.requests
    assert (first.json()["model"], second.json()["model"]) == ("model-one", "model-two")
    assert second.header("authorization") == "Bearer sk-two"
    assert first.json() | {"model": "model-two"} == second.json()
    assert first.header("x-request-id") == second.header("x-request-id")


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_the_clients_own_mistake_is_its_own(two: Two, status: int) -> None:
    """What the upstream says of the request itself passes, and nobody else is asked."""
    two.one.script(error_json(status, "Too long", code="context_length_exceeded", param="messages"))
    expected = (status, "invalid_request_error", "context_length_exceeded")
    error = await refused(two.books.post(), expected, source="upstream")
    assert (error["message"], error["param"]) == ("Too long", "messages")
    assert two.asked == (1, 0)
    assert await two.rows() == {"one": (1, 0, 0, 0)}
    await two.books.closed(requests=1, tokens=0)


async def test_the_clients_own_mistakes_open_no_breaker(store_url: str) -> None:
    """However many wrong requests come, the target stays for the others."""
    changes = {"providers": {"one": {"breaker": {"failures": 1}}}}
    async with open_two(store_url, **changes) as two:
        two.one.script(error_json(400, "no"))
        for _ in range(5):
            assert await two.ask() == 400
        assert two.asked == (5, 0)
        assert await two.available() == (1, 1)


async def test_after_the_first_byte_there_is_no_other_target(two: Two) -> None:
    """A stream that has begun and breaks ends in an error, for what came cannot be taken back."""
    two.one.script([Head(), Send(WORD), Reset()])
    async with connected(two.gate.url) as client:
        await client.send(chat_request(two.books.key))
        assert (await client.head()).status == 200
        told = events(unchunked(await client.rest()))
    assert "error" in told[-1]
    assert two.asked == (1, 0)
    assert (await two.gate.request_line())["provider"] == "one"


async def test_a_whole_answer_that_has_begun_is_not_asked_for_again(two: Two) -> None:
    """The work of an answer whose head has come is done, and billed."""
    kind = ("Content-Type", "application/json")
    two.one.script([Head(200, (kind,)), Send(b'{"id":'), Close()])
    await refused(two.books.post(WHOLE), FAILED)
    assert two.asked == (1, 0)


@pytest.mark.parametrize("name", ["closes", "500", "408", "409", "resets after the head"])
async def test_the_only_target_is_asked_again(store_url: str, name: str) -> None:
    """Where nobody else is left, what may pass is tried at the same target."""
    steps, outcome = {**ELSEWHERE, **BEGUN}[name]
    async with open_two(store_url, **ALONE) as two:
        two.one.script(steps)
        two.one.script(steps)
        two.one.script(chat_stream(["Hi"], USAGE))
        assert await two.ask() == 200
        assert two.asked == (3, 0)
        assert await two.attempts() == {("one", outcome): 2, ("one", "complete"): 1}
        await two.books.closed(requests=1, tokens=15)


@pytest.mark.parametrize(("retries", "asked"), [(0, 1), (1, 2), (2, 3)])
async def test_attempts_are_bounded(store_url: str, retries: int, asked: int) -> None:
    """`retries` is how many more there are; then the last failure is told, and costs nothing."""
    alone = {"models": {"gpt-4o": {**ALONE["models"]["gpt-4o"], "retries": retries}}}
    async with open_two(store_url, **alone) as two:
        two.one.script(error_json(500, "boom"))
        await refused(two.books.post(), FAILED)
        assert two.asked == (asked, 0)
        assert await two.attempts() == {("one", "upstream_failed"): asked}
        await two.books.closed(requests=1, tokens=0)


@pytest.mark.parametrize("name", ["hangs", "401", "429", "a redirect"])
async def test_what_would_not_help_is_not_tried(store_url: str, name: str) -> None:
    """A time-out, refused credentials, a limit: the same target is not asked again for it."""
    async with open_two(store_url, **ALONE) as two:
        two.one.script(ELSEWHERE[name][0])
        assert await two.ask() == {"hangs": 504, "429": 429}.get(name, 502)
        assert two.asked == (1, 0)


async def test_a_limit_passes_where_nobody_else_serves(two: Two) -> None:
    """The last 429 is the client's, with its own waiting time."""
    two.one.script(LIMITED)
    two.two.script(error_json(429, "Slower", headers=(("Retry-After", "9"),)))
    async with two.books.post() as answer:
        assert (answer.status, answer.headers["retry-after"]) == (429, "9")
        assert answer.headers["x-visiongate-source"] == "upstream"
    assert two.asked == (1, 1)
    await two.books.closed(requests=1, tokens=0)


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_a_502(two: Two, status: int) -> None:
    """A client cannot mend the gateway's keys."""
    two.one.script(error_json(status, "secret"))
    two.two.script(error_json(status, "secret"))
    error = await refused(two.books.post(), FAILED)
    assert "credentials" in error["message"]
    assert two.asked == (1, 1)


async def test_another_key_is_tried(store_url: str) -> None:
    """A key that is refused steps aside: its request goes out with the other one, and all after."""
    async with open_two(store_url, **ALONE, providers=KEYS) as two:
        used: list[str | None] = []

        def answer(request: Any) -> list[Step]:
            used.append(request.header("authorization"))
            bad = used[0]
            return error_json(401, "no") if used[-1] == bad else chat_stream(["Hi"], USAGE)

        two.one.script(answer)
        for _ in range(10):
            assert await two.ask() == 200
        assert used.count(used[0]) == 1
        assert len(used) == 11


async def test_the_logs_words_steer_nothing(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether another key is tried goes by the status that was told, not by the log's cause."""

    def telling(*given: Any) -> GatewayError:
        error = refusal_of(*given)
        error.cause = "an unknown key"
        return error

    monkeypatch.setattr(relay, "refusal_of", telling)
    unknown = json_reply(400, {"error": {"details": [{"reason": "API_KEY_INVALID"}]}})
    async with open_two(store_url, **ALONE, providers=KEYS) as two:
        two.one.script(unknown)
        two.one.script(chat_stream(["Hi"], USAGE))
        assert await two.ask() == 200
        assert len({request.header("authorization") for request in two.one.requests}) == 2


async def test_a_limited_key_steps_aside_for_its_time(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other keys, and other targets, serve until the time that the provider named is over."""
    now = [1000.0]
    monkeypatch.setattr(attempts, "monotonic", lambda: now[0])
    async with open_two(store_url) as two:
        two.one.script(LIMITED)
        two.two.script(chat_stream(["Hi"], USAGE))
        for _ in range(3):
            assert await two.ask() == 200
        assert two.asked == (1, 3)
        now[0] += 7.1
        two.one.script(chat_stream(["Hi"], USAGE))
        assert await two.ask() == 200
        assert two.asked == (2, 3)


REFUSES = {
    "in its head": error_json(500, "boom"),
    "in its first event": [Head(), Send(sse({"error": {"message": "boom"}})), End()],
}


@pytest.mark.parametrize("how", REFUSES)
async def test_what_may_be_billed_is_charged_once(two: Two, how: str) -> None:
    """Where one attempt timed out and no other served, its input is charged, at its provider."""
    two.one.script([HANG])
    two.two.script(REFUSES[how])
    await refused(two.books.post(), FAILED)
    line = await two.gate.request_line()
    assert line["input_tokens"] > 0
    assert await two.rows() == {"one": (1, line["input_tokens"], 0, line["input_tokens"])}
    await two.books.closed(requests=1, tokens=line["input_tokens"])


async def test_two_time_outs_are_charged_once(two: Two) -> None:
    """However many attempts may be billed, the client pays for one."""
    two.one.script([HANG])
    two.two.script([HANG])
    await refused(two.books.post(), TIMED_OUT)
    line = await two.gate.request_line()
    assert await two.rows() == {"one": (1, line["input_tokens"], 0, line["input_tokens"])}
    outcomes = {("one", "maybe_billed"): 1, ("two", "upstream_timeout"): 1}
    assert await two.attempts() == outcomes


@pytest.mark.parametrize("body", [HELLO, WHOLE], ids=["stream", "whole"])
async def test_failures_alone_cost_nothing(two: Two, body: Any) -> None:
    """Where no upstream did anything only the request counts."""
    two.one.script([Reset()])
    two.two.script([Reset()])
    await refused(two.books.post(body), FAILED)
    await two.books.closed(requests=1, tokens=0)


async def test_all_attempts_have_one_deadline(store_url: str) -> None:
    """Twice the `first_byte` of the first target bounds them all: a second one that hangs gets
    what is left."""
    late = {"timeouts": {"first_byte": "60s"}}
    async with open_two(store_url, providers={"two": late}) as two:
        two.one.script([HANG])
        two.two.script([HANG])
        async with asyncio.timeout(4):  # one's first_byte is 700 ms
            await refused(two.books.post(), TIMED_OUT)
        assert two.asked == (1, 1)


async def test_nobody_waits_for_an_attempt_that_would_be_too_late(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the same target could be asked again only after the deadline, the failure is told."""
    monkeypatch.setattr(attempts, "_BACKOFF", 60.0)
    async with open_two(store_url, **ALONE) as two:
        two.one.script(error_json(500, "boom"))
        async with asyncio.timeout(4):
            await refused(two.books.post(), FAILED)
        assert two.asked == (1, 0)


@pytest.mark.parametrize("how", LEAVE)
async def test_a_client_that_leaves_between_attempts(
    store_url: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Nobody else is asked, and nothing but the request is charged."""
    monkeypatch.setattr(attempts, "_BACKOFF", 60.0)
    slow = {"one": {"timeouts": {"first_byte": "100s", "connect": "5s"}}}
    async with open_two(store_url, **ALONE, providers=slow) as two:
        two.one.script(error_json(500, "boom"))
        async with connected(two.gate.url) as client:
            await client.send(chat_request(two.books.key))
            await until(lambda: any("_Pause" in repr(c) for c in two.gate.door.calls))
            LEAVE[how](client)
            line = await two.gate.request_line()
        assert (line["status"], line["ended"]) == (499, "client_gone")
        assert two.asked == (1, 0)
        assert not two.gate.door.calls
        assert two.standing("one").in_flight == 0
        await two.books.closed(requests=1, tokens=0)


@pytest.mark.parametrize("steps", [[HANG], [Head(), HANG]], ids=["before the head", "after it"])
async def test_a_client_that_leaves_the_second_attempt(two: Two, steps: list[Step]) -> None:
    """What the second upstream was asked to do is charged there, as if it had been the first."""
    two.one.script(error_json(500, "boom"))
    two.two.script(steps)
    async with connected(two.gate.url) as client:
        await client.send(chat_request(two.books.key))
        await two.two.wait_requests(1)
        client.reset()
        line = await two.gate.request_line()
    assert (line["status"], line["ended"], line["provider"]) == (499, "client_gone", "two")
    tokens = line["input_tokens"]
    assert tokens > 0
    assert await two.rows() == {"two": (1, tokens, 0, 2000 * tokens)}
    assert await two.attempts() == {("one", "upstream_failed"): 1, ("two", "client_gone"): 1}


@pytest.mark.parametrize("body", [HELLO, WHOLE], ids=["stream", "whole"])
async def test_a_worker_that_stops_between_attempts(
    store_url: str, monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    """The wait ends at once, with the word that the worker stops."""
    monkeypatch.setattr(attempts, "_BACKOFF", 60.0)
    slow = {"one": {"timeouts": {"first_byte": "100s", "connect": "5s"}}}
    async with open_two(store_url, **ALONE, providers=slow) as two:
        two.one.script(error_json(500, "boom"))
        async with connected(two.gate.url) as client:
            await client.send(chat_request(two.books.key, body))
            await until(lambda: any("_Pause" in repr(c) for c in two.gate.door.calls))
            two.gate.door.end_calls()
            answer = await client.answer()
        assert answer.status == 503
        assert b"shutting down" in answer.body
        assert (await two.gate.request_line())["ended"] == "draining"
        await two.books.closed(requests=1, tokens=0)


async def test_nothing_is_begun_by_a_worker_that_has_stopped(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that stops while an attempt fails makes no other one."""
    async with open_two(store_url) as two:

        def stop(request: Any) -> list[Step]:
            two.gate.door.ended.set()
            return error_json(500, "boom")

        two.one.script(stop)
        await refused(two.books.post(), (503, "server_error", None))
        assert two.asked == (1, 0)


async def test_a_failed_attempt_that_is_read_on_alone(store_url: str) -> None:
    """A client that has gone from a whole answer changes nothing: another target serves it."""
    left = asyncio.Event()
    async with open_two(store_url) as two:
        two.one.script([Pause(left), Reset()])
        two.two.script(chat_json("Hi", USAGE))
        async with connected(two.gate.url) as client:
            await client.send(chat_request(two.books.key, WHOLE))
            await two.one.wait_requests(1)
            client.reset()
            await until(lambda: bool(two.gate.log_lines()))
        left.set()
        assert await two.rows() == {"two": SERVED["two"]}


@pytest.mark.parametrize("steps", [error_json(500, "sk-one"), [Head(), Reset()], LIMITED])
async def test_a_failure_tells_no_secret(two: Two, steps: list[Step]) -> None:
    """Neither key nor prompt is in the log, whatever failed."""
    two.one.script(steps)
    two.two.script(chat_stream(["Hi"], USAGE))
    assert await two.ask() == 200
    await two.gate.idle()
    log = two.gate.log.getvalue()
    assert '"failed":[{"provider":"one"' in log
    assert "sk-" not in log
    assert HELLO["messages"][0]["content"] not in log
