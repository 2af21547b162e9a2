"""Anthropic's answers as OpenAI's: what the official SDK makes of them, and the meter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.domain.errors import UpstreamFailed
from proxy.domain.meter import StreamMeter
from proxy.domain.sse import LARGEST_EVENT, EventTooLarge
from proxy.domain.tokenizer import tokenizer_for
from proxy.domain.usage import Phase, Usage
from proxy.providers.answers import failure_in, failure_told
from proxy.providers.anthropic.answer import Answer
from tests.gateway import events
from tests.providers.anthropic import RECORDED, recorded

CREATED = 1_780_000_000

TEXT = "The sunset over Zürich 🌅."
FIRST = {"id": "toolu_01T1x1fJ34qAmk2tNTrN7Up6", "location": "San Francisco, CA"}
NO_ARGUMENTS = "toolu_01NoArgumentsAtAllHere00"

#: Finish reason, and prompt, completion, cached, cache write and reasoning tokens, as the vendor
#: tells them in the recorded answers.
TOLD = {
    "text": ("stop", 25, 15, 0, 0, 0),
    "stop_sequence": ("stop", 25, 4, 0, 0, 0),
    "image": ("stop", 1576, 8, 0, 0, 0),
    "tools": ("tool_calls", 472, 128, 0, 0, 0),
    "thinking": ("stop", 61, 310, 0, 0, 290),
    "cached": ("stop", 2098, 503, 1800, 248, 0),
    "refusal": ("content_filter", 28, 6, 0, 0, 0),
    "max_tokens": ("length", 12, 10, 0, 0, 0),
}


def stream(name: str, *, usage_wanted: bool = False) -> bytes:
    return Answer(CREATED, usage_wanted=usage_wanted).feed(recorded(f"{name}.sse"))


def whole(name: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(Answer(CREATED).whole(recorded(f"{name}.json")))
    ChatCompletion.model_validate(answer, strict=True)
    return answer


def as_the_sdk_has_it(name: str) -> ChatCompletion:
    """What the official SDK's own accumulator makes of a stream."""
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    *chunks, last = events(stream(name))
    assert last == "[DONE]"
    for chunk in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk, strict=True))
    return state.current_completion_snapshot


def figures(answer: ChatCompletion) -> tuple[str, int, int, int, int, int]:
    usage: Any = answer.usage
    details = usage.prompt_tokens_details
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    return (
        answer.choices[0].finish_reason,
        usage.prompt_tokens,
        usage.completion_tokens,
        details.cached_tokens,
        details.cache_write_tokens,
        usage.completion_tokens_details.reasoning_tokens,
    )


@pytest.mark.parametrize("name", TOLD)
def test_how_a_stream_ends(name: str) -> None:
    """Each reason to stop has OpenAI's word, and the usage is the vendor's."""
    assert figures(as_the_sdk_has_it(name)) == TOLD[name]


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_how_a_whole_answer_ends(path: Any) -> None:
    """An answer that is not streamed tells the same as a stream."""
    assert figures(ChatCompletion.model_validate(whole(path.stem))) == TOLD[path.stem]


def test_a_stream_of_text() -> None:
    """Roles and texts come in the reference's chunks: role, words, reason, usage, end mark."""
    first, *words, reason, usage, end = events(stream("text"))
    base = {
        "id": "msg_01FbQ3vKp8TzN4yVdR6cWmXe",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": "claude-sonnet-4-5-20250929",
    }

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        return {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}

    assert first == chunk({"role": "assistant", "content": ""})
    assert words == [
        chunk({"content": word}) for word in ("The", " sunset", " over", " Zürich", " 🌅.")
    ]
    assert reason == chunk({}, "stop")
    assert usage.pop("usage")["total_tokens"] == 40
    assert usage == {**base, "choices": []}
    assert end == "[DONE]"


def test_who_wants_the_usage_is_told_that_it_comes() -> None:
    """As in the reference, the other chunks carry `usage: null` for who asked, and only then."""
    chunks = events(stream("text", usage_wanted=True))[:-1]
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 7
    assert chunks[-1]["usage"]["prompt_tokens"] == 25
    assert not any("usage" in chunk for chunk in events(stream("text"))[:-2])


def test_texts_whole() -> None:
    """A whole answer's text is the stream's."""
    assert whole("text")["choices"][0]["message"] == {
        "role": "assistant",
        "content": TEXT,
        "refusal": None,
    }
    assert as_the_sdk_has_it("text").choices[0].message.content == TEXT


def test_calls_in_a_stream() -> None:
    """Calls at once have their own numbers, ids, names and arguments, which are always JSON."""
    message = as_the_sdk_has_it("tools").choices[0].message
    assert message.content == "I'll look both up."
    calls: Any = message.tool_calls
    assert [
        (call.id, call.function.name, json.loads(call.function.arguments)) for call in calls
    ] == [
        (FIRST["id"], "get_weather", {"location": FIRST["location"]}),
        ("toolu_01XrQK9bP7yWc3dE5fG6hJ8k", "get_weather", {"location": "Zürich"}),
        (NO_ARGUMENTS, "now", {}),
    ]
    numbers = [
        call["index"]
        for chunk in events(stream("tools"))[:-1]
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls", ())
    ]
    assert sorted(set(numbers)) == [0, 1, 2]


def test_calls_whole() -> None:
    """A whole answer's calls have their arguments as text; without a text content is null."""
    message = whole("tools")["choices"][0]["message"]
    assert message["content"] == "I'll look both up."
    assert [json.loads(call["function"]["arguments"]) for call in message["tool_calls"]] == [
        {"location": FIRST["location"]},
        {},
    ]
    assert whole("refusal")["choices"][0]["message"]["content"] is None


def test_a_call_without_deltas() -> None:
    """Arguments that a server sends with the call's beginning are not lost."""
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
    came = (
        recorded("text.sse").split(b"event: content_block_start")[0]
        + sse({"type": "content_block_start", "index": 0, "content_block": call})
        + sse({"type": "content_block_stop", "index": 0})
    )
    deltas = [chunk["choices"][0]["delta"] for chunk in events(Answer(CREATED).feed(came))]
    texts = [delta["tool_calls"][0]["function"]["arguments"] for delta in deltas[1:]]
    assert json.loads("".join(texts)) == {"x": 1}


def test_thoughts_are_not_shown() -> None:
    """Neither a stream nor a whole answer holds a thought or its signature."""
    assert as_the_sdk_has_it("thinking").choices[0].message.content == "12,231"
    for told in (stream("thinking"), json.dumps(whole("thinking")).encode()):
        assert b"The user wants" not in told
        assert b"EqQB" not in told


def test_a_refusal_is_told() -> None:
    """Why the model would not answer is where OpenAI's clients look for it."""
    why = "This request could help to write malware."
    assert as_the_sdk_has_it("refusal").choices[0].message.refusal == why
    assert whole("refusal")["choices"][0]["message"]["refusal"] == why


def sse(value: dict[str, Any]) -> bytes:
    return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode()


BEGUN = recorded("max_tokens.sse").partition(b"event: message_delta")[0]


def test_an_error_in_mid_stream() -> None:
    """It becomes an error event with all four keys; no end mark comes, nor anything else."""
    told = events(stream("error"))
    assert told[-1] == {
        "error": {
            "message": "Overloaded",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }
    answer = Answer(CREATED)
    answer.feed(recorded("error.sse"))
    assert answer.feed(recorded("text.sse")) == b""


def test_an_error_before_the_answer() -> None:
    """An error where an answer should begin is raised: there is none that it could end."""
    answer = Answer(CREATED)
    assert answer.feed(sse({"type": "ping"})) == b""
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(UpstreamFailed, match="Overloaded"):
        answer.feed(sse(overloaded))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("authentication_error", "credentials"),
        ("permission_error", "credentials"),
        ("billing_error", "credit"),
    ],
)
def test_what_is_between_us_and_the_provider(kind: str, said: str) -> None:
    """An error about the gateway's own account shows none of the vendor's words."""
    error = {"type": "error", "error": {"type": kind, "message": "sk-ant-1 is bad"}}
    told = events(Answer(CREATED).feed(BEGUN + sse(error)))[-1]
    failure = failure_told(json.dumps(told).encode())
    assert said in failure.message
    assert failure.said == b""
    assert said in failure_in(Answer(CREATED).whole(json.dumps(error).encode())).message


def test_nothing_comes_after_the_end() -> None:
    """What a server sends after its end is not passed on."""
    answer = Answer(CREATED)
    assert answer.feed(recorded("text.sse")).endswith(b"data: [DONE]\n\n")
    assert answer.feed(recorded("text.sse")) == b""
    assert answer.feed(b"garbage\n\ndata: x\n\n") == b""


def test_an_end_without_a_reason() -> None:
    """What is not said to be complete is not told to be."""
    told = events(Answer(CREATED).feed(BEGUN + sse({"type": "message_stop"})))
    assert told[-3]["choices"][0]["finish_reason"] == "length"
    ended = {"type": "message_delta", "delta": {"stop_reason": "rapture"}}
    told = events(Answer(CREATED).feed(BEGUN + sse(ended)))
    assert told[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
    ],
)
def test_reasons(reason: str, told: str) -> None:
    """Each of the vendor's reasons to stop has one of OpenAI's, which is told once."""
    ended = {"type": "message_delta", "delta": {"stop_reason": reason}}
    chunks = events(Answer(CREATED).feed(BEGUN + sse(ended) + sse(ended)))
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert [each for each in reasons if each] == [told]


def test_figures_that_are_told_again() -> None:
    """A figure stands for all so far, where a server tells it once, twice, or beyond belief."""
    for later in ({"input_tokens": 0}, {"input_tokens": 12}, {"input_tokens": 2**40}):
        ended = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 3, **later}}
        told = events(Answer(CREATED).feed(BEGUN + sse(ended) + sse({"type": "message_stop"})))
        assert told[-2]["usage"]["prompt_tokens"] == 12
        assert told[-2]["usage"]["completion_tokens"] == 3


def test_a_call_that_ends_twice() -> None:
    """Arguments come once, however often a server says that it is done."""
    stop = {"type": "content_block_stop", "index": 3}
    began = recorded("tools.sse").partition(b"event: message_delta")[0]
    answer = Answer(CREATED)
    answer.feed(began)
    assert answer.feed(sse(stop)) == b""


def test_tools_that_the_provider_runs_are_not_shown() -> None:
    """A server tool's call, its arguments and its result are none of the client's calls."""
    block = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    result = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{}]}
    delta = {"type": "input_json_delta", "partial_json": '{"query":'}
    answer = Answer(CREATED)
    answer.feed(BEGUN)
    for event in (
        {"type": "content_block_start", "index": 1, "content_block": block},
        {"type": "content_block_delta", "index": 1, "delta": delta},
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_start", "index": 2, "content_block": result},
        {"type": "content_block_stop", "index": 2},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta"}},
    ):
        assert answer.feed(sse(event)) == b""


def test_what_is_new_is_passed_over() -> None:
    """Events, blocks and deltas of types yet to come are no fault, whatever they hold."""
    answer = Answer(CREATED)
    answer.feed(BEGUN)
    assert answer.feed(sse({"type": "message_weather", "delta": "sunny", "index": {}})) == b""
    assert answer.feed(b": a comment\n\nevent: ping\n\n") == b""


@pytest.mark.parametrize(
    "event",
    [
        b"data: {not JSON\n\n",
        b"data: [1]\n\n",
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"\xff"}}\n\n',
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":5}}\n\n',
        b'data: {"type":"content_block_delta"}\n\n',
        b'data: {"type":"content_block_start"}\n\n',
        b'data: {"type":"message_start","message":{}}\n\n',
        b"data: " + b'{"a":' * 100_000 + b"\n\n",
    ],
)
def test_what_cannot_be_understood(event: bytes) -> None:
    """An event that must be understood and cannot be is a failure of the upstream's."""
    answer = Answer(CREATED)
    answer.feed(BEGUN)
    with pytest.raises(UpstreamFailed, match="cannot be understood"):
        answer.feed(event)


def test_an_answer_that_does_not_begin() -> None:
    """Content before the message has begun is a failure of the upstream's."""
    with pytest.raises(UpstreamFailed, match="cannot be understood"):
        Answer(CREATED).feed(b'data: {"type":"message_stop"}\n\n')


def test_an_event_that_is_too_large() -> None:
    """An event is held up to the bound, and no further."""
    answer = Answer(CREATED)
    answer.feed(BEGUN)
    text = "x" * (LARGEST_EVENT - 1000)
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}
    assert text.encode() in answer.feed(sse(delta))
    with pytest.raises(EventTooLarge):
        answer.feed(b"data: " + b"x" * LARGEST_EVENT)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b"\xff", b'{"type":"error"}', b'{"content":5}', b"[" * 100_000),
        recorded("tools.json").replace(b"San", b"\xffSan"),
    ],
)
def test_no_answer(body: bytes) -> None:
    """What is no answer becomes an error that the relay knows one by."""
    told = json.loads(Answer(CREATED).whole(body))
    assert told["error"].keys() == {"message", "type", "param", "code"}


def test_an_error_in_place_of_an_answer() -> None:
    """An error of status 200 keeps its words."""
    error = {"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}
    told = Answer(CREATED).whole(json.dumps(error).encode())
    assert failure_in(told).message == "The upstream answered with an error: Internal server error"


def metered(name: str, upto: bytes) -> tuple[StreamMeter, bytes]:
    """A meter that has seen a stream up to the first of these bytes."""
    meter = StreamMeter(tokenizer_for("claude-opus-5"), usage_wanted=False)
    meter.called()
    answer = Answer(CREATED)
    meter.so_far = answer.so_far
    return meter, meter.feed(answer.feed(recorded(name).partition(upto)[0]))


def test_the_meter_knows_the_usage() -> None:
    """The meter reads the vendor's usage, withholds its event and sees the end."""
    meter, passed = metered("cached.sse", b"nothing of it")
    assert meter.well
    assert meter.outcome().usage == Usage(2098, 503, 1800, 248)
    assert b"usage" not in passed


def test_a_stream_that_is_cut_short() -> None:
    """The vendor tells the prompt's tokens first: they are charged as told, though no end comes,
    and the output by what was delivered.
    """
    meter, _ = metered("cached.sse", b"event: message_delta")
    outcome = meter.outcome()
    assert outcome.phase is Phase.STREAMING
    assert outcome.usage == Usage(2098, 0, 1800, 248)
    assert outcome.delivered > 0
    assert not outcome.hidden


def test_thoughts_that_are_cut_short() -> None:
    """Where thoughts have begun, output was made that nobody here can count."""
    meter, _ = metered("thinking.sse", b"event: content_block_delta")
    assert meter.outcome().hidden
    meter, _ = metered("thinking.sse", b"nothing of it")
    assert not meter.outcome().hidden
