"""What the official SDK makes of each of our errors: what it raises, and how often it asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import openai
import pytest
from openai._base_client import BaseClient

from tests.gateway import Gateway, open_gateway
from tests.scripted import Close, End, Head, ScriptedUpstream, Send, Sleep, Step, error_json, sse

HANG = Sleep(60)
WORD = sse({"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}}]})
BUSY = sse({"error": {"message": "busy", "type": "server_error", "param": None, "code": None}})
LIMITED = sse({"error": {"message": "slow", "code": 429}})
ASK: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_tokens": 50,
}
ONCE, RETRIED = 1, 3
QUICK = {"providers": {"openai": {"timeouts": {"first_byte": "200ms", "idle": "200ms"}}}}
BREAKS = {"providers": {"openai": {"breaker": {"failures": 1, "pause": "60s"}}}}
COMMENTS = {"server": {"stream_keep_alive": "50ms"}}


class Case(NamedTuple):
    """What the upstream does, what is raised after so many attempts of the SDK's, and its status
    (0: the answer had begun).
    """

    steps: Sequence[Step]
    raised: type[openai.APIError]
    status: int
    attempts: int
    ask: dict[str, Any] = {}
    config: dict[str, Any] = {}
    key: Sequence[str] | None = ()


NO_TARGET = Case(error_json(500, "x"), openai.InternalServerError, 503, RETRIED, config=BREAKS)

#: Errors that an answer may have in place of a stream or of a whole.
BEFORE: dict[str, Case] = {
    "no key": Case([], openai.AuthenticationError, 401, ONCE, key=None),
    "a bad field": Case([], openai.BadRequestError, 400, ONCE, {"temperature": 3}),
    "an unknown model": Case([], openai.NotFoundError, 404, ONCE, {"model": "gpt-9"}),
    "a body too large": Case(
        [], openai.APIStatusError, 413, ONCE, {"user": "x" * 2000}, {"server": {"max_body": "1kB"}}
    ),
    "a request that never fits": Case([], openai.RateLimitError, 429, ONCE, key=["10 tokens/day"]),
    "a limit of none": Case([], openai.RateLimitError, 429, ONCE, key=["0 requests/minute"]),
    "a 400 upstream": Case(error_json(400, "x"), openai.BadRequestError, 400, ONCE),
    "a 422 upstream": Case(error_json(422, "x"), openai.UnprocessableEntityError, 422, ONCE),
    "a 429 upstream": Case(error_json(429, "x"), openai.RateLimitError, 429, RETRIED),
    "a 401 upstream": Case(error_json(401, "x"), openai.InternalServerError, 502, ONCE),
    "a redirect upstream": Case(error_json(302, "x"), openai.InternalServerError, 502, ONCE),
    "a 409 upstream": Case(error_json(409, "x"), openai.InternalServerError, 502, RETRIED),
    "a 500 upstream": Case(error_json(500, "x"), openai.InternalServerError, 502, RETRIED),
    "a close upstream": Case([Close()], openai.InternalServerError, 502, RETRIED),
    "no answer in time": Case([HANG], openai.InternalServerError, 504, RETRIED, config=QUICK),
    "no target": NO_TARGET,
}

#: And those of streams.
STREAMED: dict[str, Case] = {
    "an error first": Case([Head(), Send(BUSY), End()], openai.InternalServerError, 502, RETRIED),
    "a limit first": Case([Head(), Send(LIMITED), End()], openai.RateLimitError, 429, RETRIED),
    "a head alone": Case([Head(), End()], openai.InternalServerError, 502, RETRIED),
    "an error after an event": Case([Head(), Send(WORD + BUSY), End()], openai.APIError, 0, ONCE),
    "an end after an event": Case([Head(), Send(WORD), End()], openai.APIError, 0, ONCE),
    "a stall after an event": Case(
        [Head(), Send(WORD), HANG], openai.APIError, 0, ONCE, config=QUICK
    ),
    "an error after a comment": Case(
        [Head(), Sleep(0.2), Send(BUSY), End()], openai.APIError, 0, ONCE, config=COMMENTS
    ),
    "a close after a comment": Case(
        [Head(), Sleep(0.2), Close()], openai.APIError, 0, ONCE, config=COMMENTS
    ),
}

CASES = [
    *((name, case, stream) for name, case in BEFORE.items() for stream in (True, False)),
    *((name, case, True) for name, case in STREAMED.items()),
]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK decides as it does, and waits for next to nothing."""
    monkeypatch.setattr(BaseClient, "_calculate_retry_timeout", lambda *_: 0.001)


async def heard(gate: Gateway, key: str, ask: dict[str, Any]) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=key) as client:
        answer = await client.chat.completions.create(**ask)
        if ask["stream"]:
            async for _ in answer:
                pass


@pytest.mark.parametrize(
    ("case", "stream"),
    [case[1:] for case in CASES],
    ids=[f"{name}-{'stream' if stream else 'whole'}" for name, _, stream in CASES],
)
async def test_what_the_sdk_makes_of_it(
    store_url: str, upstream: ScriptedUpstream, case: Case, stream: bool
) -> None:
    """Each error raises what its status says, and is asked again only where that may help: never
    once an answer has begun.
    """
    upstream.script(case.steps)
    async with open_gateway(store_url, upstream.url, **case.config) as gate:
        key = "vg_wrong" if case.key is None else await gate.key(*case.key)
        with pytest.raises(openai.APIError) as caught:
            await heard(gate, key, {**ASK, **case.ask, "stream": stream})
        error = caught.value
        assert type(error) is case.raised, error
        assert getattr(error, "status_code", 0) == case.status
        assert sum(line["event"] == "request" for line in gate.log_lines()) == case.attempts
        assert error.message
        if isinstance(error, openai.APIStatusError):
            told = error.response.headers.get("x-should-retry")
            retried = case.status in (408, 409, 429) or case.status >= 500
            assert told == ("false" if retried and case.attempts == ONCE else None)
            assert error.response.headers["x-request-id"]
