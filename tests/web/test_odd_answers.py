"""Providers of each kind that answer as none should: what the client sees is whole or an error,
never neither, and what is charged is the vendor's figure or ours, never nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.scripted import ScriptedUpstream, sse
from tests.web.odd import (
    KINDS,
    STOP,
    Seen,
    block,
    chunk,
    completion,
    delta,
    finish,
    message,
    odd_gateway,
    seen,
    start,
    streamed,
    whole,
)

HELLO = "Hello there."
USAGE = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}
MORE = {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29}
TEXT = chunk({"role": "assistant", "content": HELLO})
END = chunk({}, "stop")
TOLD = chunk(usage=USAGE)
DONE = "[DONE]"
LIKE_OPENAI = KINDS[:3]

#: What three tokens of ours are, of a text that no usage was told for; 11 and 21 are the reserves.
OURS, CLAUDES = (11, 3, "estimated"), (21, 3, "estimated")
VENDORS = (20, 7, "upstream")


def call(id: str, arguments: str) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return chunk({"tool_calls": [{"index": 0, "id": id, "type": "function", "function": function}]})


async def streaming(store_url: str, up: ScriptedUpstream, kind: str, *parts: object) -> Seen:
    up.script(streamed(*parts))
    async with odd_gateway(store_url, up, kind) as (gate, key):
        return await seen(gate, key)


async def answering(store_url: str, up: ScriptedUpstream, kind: str, body: object) -> Seen:
    up.script(whole(body))
    async with odd_gateway(store_url, up, kind) as (gate, key):
        return await seen(gate, key, stream=False)


#: Of OpenAI's kind: what comes, how it ends, its text, and what is charged.
STREAMS: dict[str, tuple[list[object], str, str, tuple[int, int, str]]] = {
    "the usage first": ([TOLD, TEXT, END, DONE], "done", HELLO, (20, 10, "upstream")),
    "text after it": ([TEXT, TOLD, TEXT, END, DONE], "done", HELLO * 2, (20, 10, "upstream")),
    "two usages": ([TEXT, END, TOLD, chunk(usage=MORE), DONE], "done", HELLO, (20, 9, "upstream")),
    "no usage": ([TEXT, END, DONE], "done", HELLO, OURS),
    "no finish": ([TEXT, TOLD, DONE], "done", HELLO, VENDORS),
    "no end mark": ([TEXT, END, TOLD], "error", HELLO, VENDORS),
    "two end marks": ([TEXT, END, TOLD, DONE, DONE], "done", HELLO, VENDORS),
    "text after the end": ([TEXT, END, TOLD, DONE, TEXT], "done", HELLO * 2, (20, 10, "upstream")),
    "two calls of one index": ([call("a", '{"a":'), call("b", "1}"), END, TOLD, DONE], "done", "",
                               VENDORS),
    "choices of null": ([{**TEXT, "choices": [None]}, TEXT, END, DONE], "done", HELLO, OURS),
    "null choices": ([{**TEXT, "choices": None}, TEXT, END, DONE], "done", HELLO, OURS),
    "a null delta": ([chunk(), {**TEXT, "choices": [{"index": 0, "delta": None}]}, TEXT, END, DONE],
                     "done", HELLO, OURS),
    "no objects": ([TEXT, "null", "[1]", "7", END, DONE], "done", HELLO, OURS),
    "an error": ([TEXT, {"error": {"message": "no", "code": 500}}, DONE], "error", HELLO, OURS),
    "an error in a word": ([TEXT, {"error": "no"}], "error", HELLO, OURS),
}  # fmt: skip


@pytest.mark.parametrize("kind", LIKE_OPENAI)
@pytest.mark.parametrize(("parts", "ended", "text", "charged"), STREAMS.values(), ids=STREAMS)
async def test_streams(
    store_url: str,
    upstream: ScriptedUpstream,
    kind: str,
    parts: list[object],
    ended: str,
    text: str,
    charged: tuple[int, int, str],
) -> None:
    """A stream in no order ends as its end mark says, and is charged by the last usage and what
    came after."""
    found = await streaming(store_url, upstream, kind, *parts)
    assert (found.ended, found.text, found.charged) == (ended, text, charged)


FIGURES = [-5, 2**40, 2**70, 7.0, 7.5, "7", True, None, [], {}]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
@pytest.mark.parametrize("figure", FIGURES, ids=repr)
async def test_figures_that_are_none(
    store_url: str, upstream: ScriptedUpstream, stream: bool, field: str, figure: object
) -> None:
    """A count that is none is not believed, spoils no answer, and our own stands for it."""
    usage = {**USAGE, field: figure}
    if stream:
        found = await streaming(store_url, upstream, "openai", TEXT, END, chunk(usage=usage), DONE)
    else:
        found = await answering(store_url, upstream, "openai", completion(usage=usage))
    assert (found.ended, found.text, found.charged) == ("done", HELLO, OURS)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("usage", [[], "x", 5, True], ids=repr)
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_usages_that_are_none(
    store_url: str, upstream: ScriptedUpstream, kind: str, stream: bool, usage: object
) -> None:
    """A usage that is no object spoils no answer either."""
    claude = kind == "anthropic"
    if stream:
        said = [start(usage), block(), delta(HELLO), finish(usage), STOP]
        parts = said if claude else [TEXT, END, chunk(usage=usage), DONE]
        found = await streaming(store_url, upstream, kind, *parts)
    else:
        body = message(HELLO, usage=usage) if claude else completion(usage=usage)
        found = await answering(store_url, upstream, kind, body)
    assert (found.ended, found.text) == ("done", HELLO)
    assert found.charged == (CLAUDES if claude else OURS)


@pytest.mark.parametrize("figure", FIGURES, ids=repr)
async def test_claudes_figures_that_are_none(
    store_url: str, upstream: ScriptedUpstream, figure: object
) -> None:
    """Where the last figure of the output is none, the first, from before there was any, does not
    stand for it."""
    said = [start(), block(), delta(HELLO), finish({"output_tokens": figure}), STOP]
    found = await streaming(store_url, upstream, "anthropic", *said)
    assert (found.ended, found.text, found.charged) == ("done", HELLO, (20, 3, "estimated"))


@pytest.mark.parametrize("figure", FIGURES, ids=repr)
async def test_claudes_whole_figures_that_are_none(
    store_url: str, upstream: ScriptedUpstream, figure: object
) -> None:
    """Of a whole answer, too, a figure that is none costs nobody the answer."""
    usage = {"input_tokens": 20, "output_tokens": figure}
    found = await answering(store_url, upstream, "anthropic", message(HELLO, usage=usage))
    assert (found.ended, found.text, found.source) == ("done", HELLO, "estimated")
    assert found.output == 3


async def test_thoughts_without_a_figure(store_url: str, upstream: ScriptedUpstream) -> None:
    """Where something was thought and no output is ever told, all that was reserved is taken."""
    thought = [block(0, type="thinking", thinking=""), {"type": "content_block_stop", "index": 0}]
    said = [start(), *thought, block(1), delta(HELLO, 1), finish({}), STOP]
    found = await streaming(store_url, upstream, "anthropic", *said)
    assert (found.text, found.charged) == (HELLO, (20, 50, "estimated"))


_CALL = {"type": "tool_use", "name": "f", "input": {}}
_ARGUMENTS = {"type": "input_json_delta", "partial_json": '{"a":1}'}
_STOPPED = {"type": "content_block_stop", "index": 1}

#: Of Anthropic's kind: what comes, how it ends, its text, and what is charged.
CLAUDES_STREAMS: dict[str, tuple[list[object], str | int, str, tuple[int, int, str]]] = {
    "as it should": ([start(), block(), delta(HELLO), finish(), STOP], "done", HELLO, VENDORS),
    "two starts": ([start(), block(), delta(HELLO), start(), finish(), STOP], "error", HELLO,
                   (20, 3, "estimated")),
    "no stop": ([start(), block(), delta(HELLO), finish()], "error", HELLO, (20, 3, "estimated")),
    "no reason": ([start(), block(), delta(HELLO), STOP], "done", HELLO, (20, 3, "estimated")),
    "no block": ([start(), delta(HELLO), finish(), STOP], "done", HELLO, VENDORS),
    "text after the reason": ([start(), block(), finish(), delta(HELLO), STOP], "done", HELLO,
                              VENDORS),
    "text after the end": ([start(), delta(HELLO), finish(), STOP, delta("x"), start()], "done",
                           HELLO, VENDORS),
    "an error after the end": ([start(), delta(HELLO), finish(), STOP, {"type": "error"}], "done",
                               HELLO, VENDORS),
    "text first": ([delta(HELLO), start(), finish(), STOP], 502, "", (0, 0, "estimated")),
    "OpenAI's": ([TEXT, END, TOLD, DONE], 502, "", (0, 0, "estimated")),
    "OpenAI's end mark": ([start(), delta(HELLO), finish(), DONE], "error", HELLO,
                          (20, 3, "estimated")),
    "an error": ([start(), delta(HELLO), {"type": "error", "error": {"message": "no"}}, STOP],
                 "error", HELLO, (20, 3, "estimated")),
}  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "ended", "text", "charged"), CLAUDES_STREAMS.values(), ids=CLAUDES_STREAMS
)
async def test_claudes_streams(
    store_url: str,
    upstream: ScriptedUpstream,
    parts: list[object],
    ended: str | int,
    text: str,
    charged: tuple[int, int, str],
) -> None:
    """Events in no order are an answer that can be read, or an error; nothing is said twice."""
    found = await streaming(store_url, upstream, "anthropic", *parts)
    assert (found.ended, found.text, found.charged) == (ended, text, charged)


async def test_claudes_calls_of_one_index(store_url: str, upstream: ScriptedUpstream) -> None:
    """Two calls under one index are two calls, each with arguments of its own."""
    filled = {"type": "content_block_delta", "index": 1, "delta": _ARGUMENTS}
    calls = [block(1, id="a", **_CALL), filled, block(1, id="b", **_CALL), filled, _STOPPED]
    said = [start(), *calls, _STOPPED, finish(reason="tool_use"), STOP]
    found = await streaming(store_url, upstream, "anthropic", *said)
    made: dict[int, tuple[list[str], str]] = {}
    for event in found.told[:-1]:
        for call in event["choices"][0]["delta"].get("tool_calls", ()) if event["choices"] else ():
            ids, arguments = made.get(call["index"], ([], ""))
            ids += [call["id"]] if "id" in call else []
            made[call["index"]] = ids, arguments + call["function"]["arguments"]
    assert made == {0: (["a"], '{"a":1}'), 1: (["b"], '{"a":1}')}


NOTHING: dict[str, bytes] = {
    "HTML": b"<html><body>It works!</body></html>",
    "HTML in lines": b"<html>\n\nIt works!\n\n</html>",
    "blank": b"\n\n\n",
    "a comment": b": hello\n\n",
    "an object": json.dumps(completion(usage=USAGE)).encode(),
    "an error alone": b'{"error":{"message":"no","type":"server_error"}}',
    "null": b"null",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", NOTHING.values(), ids=NOTHING)
async def test_no_stream(
    store_url: str, upstream: ScriptedUpstream, kind: str, body: bytes
) -> None:
    """What calls itself a stream and is none is a plain error, and costs nothing."""
    found = await streaming(store_url, upstream, kind, body)
    assert (found.ended, found.text, found.charged) == (502, "", (0, 0, "estimated"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_an_empty_body(
    store_url: str, upstream: ScriptedUpstream, kind: str, stream: bool
) -> None:
    """A body without a byte is an error of the upstream's, and costs nothing."""
    ask = streaming if stream else answering
    found = await ask(store_url, upstream, kind, *([] if stream else [b""]))
    assert (found.ended, found.charged) == (502, (0, 0, "estimated"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("said", ["text/html", "application/octet-stream", "text/plain"])
async def test_of_another_type(
    store_url: str, upstream: ScriptedUpstream, kind: str, stream: bool, said: str
) -> None:
    """A page in place of an answer is told before the client gets a byte of it."""
    body = b"<html>sk-upstream-secret</html>"
    upstream.script(streamed(body, kind=said) if stream else whole(body, said))
    async with odd_gateway(store_url, upstream, kind) as (gate, key):
        found = await seen(gate, key, stream=stream)
    assert (found.ended, found.charged) == (502, (0, 0, "estimated"))
    assert "html" not in str(found.told)


#: Whole answers that are none, by kind.
NO_ANSWERS: dict[str, list[tuple[str, object]]] = {
    "openai": [
        ("HTML", b"<html></html>"),
        ("null", b"null"),
        ("a list", b"[]"),
        ("deep", b'{"choices":' + b"[" * 100_000),
        ("cut", json.dumps(completion(usage=USAGE)).encode()[:-9]),
        ("more behind", json.dumps(completion()).encode() + b"xx"),
        ("a stream", sse(TEXT, DONE)),
        ("an error", {"error": {"message": "no", "code": 500}}),
        ("an error in a word", {"error": "no"}),
        ("an error beside choices", completion(error={"message": "no"})),
    ],
    "anthropic": [
        ("HTML", b"<html></html>"),
        ("null", b"null"),
        ("a list", b"[]"),
        ("deep", b'{"content":' + b"[" * 100_000),
        ("cut", json.dumps(message()).encode()[:-9]),
        ("OpenAI's", completion(usage=USAGE)),
        ("no content", message(content=None)),
        ("a word as content", message(content="Hello.")),
        ("null in content", message(content=[None])),
        ("an error", {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}),
    ],
}
_WHOLE = [(kind, name, body) for kind, bodies in NO_ANSWERS.items() for name, body in bodies]


@pytest.mark.parametrize(
    ("kind", "body"),
    [(kind, body) for kind, _, body in _WHOLE],
    ids=[f"{kind} {name}" for kind, name, _ in _WHOLE],
)
async def test_no_answer(
    store_url: str, upstream: ScriptedUpstream, kind: str, body: object
) -> None:
    """A body of status 200 that is no answer is an error of the upstream's, and costs nothing."""
    found = await answering(store_url, upstream, kind, body)
    assert (found.ended, found.charged) == (502, (0, 0, "estimated"))
