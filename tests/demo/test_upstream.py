"""The demo upstream over a real socket: OpenAI's shapes, true words, counted tokens."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from pytest_aiohttp import AiohttpClient

from proxy.demo.picture import demo_picture
from proxy.demo.upstream import make_demo_upstream, tile_tokens
from tests.demo.asking import (
    ASKED,
    AUTH,
    DATA,
    LINK,
    SEEN,
    Client,
    chat,
    chunks,
    count,
    events,
    say,
    whole,
)


async def test_a_stream_has_the_reference_shape(client: Client) -> None:
    """Role, words, finish and [DONE] come in the reference's shape, key order included."""
    got = await events(client, chat(DATA))
    first = json.loads(got[0])
    start = (
        f'{{"id":"{first["id"]}","object":"chat.completion.chunk","created":{first["created"]},'
        '"model":"gpt-4o","choices":[{"index":0,"delta":'
    )
    words = ["The", *(f" {word}" for word in SEEN.split()[1:])]
    assert first["id"].startswith("chatcmpl-")
    assert got == [
        start + '{"role":"assistant"},"finish_reason":null}]}',
        *(f'{start}{{"content":"{word}"}},"finish_reason":null}}]}}' for word in words),
        start + '{},"finish_reason":"stop"}]}',
        "[DONE]",
    ]


async def test_usage_is_streamed_to_those_who_ask(client: Client) -> None:
    """With include_usage every chunk carries `usage: null` and the last only the usage."""
    *some, last = await chunks(client, chat(DATA, stream_options={"include_usage": True}))
    said = count(SEEN)
    prompt = count(ASKED) + 255
    assert [chunk["usage"] for chunk in some] == [None] * len(some)
    assert all(len(chunk["choices"]) == 1 for chunk in some)
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": said,
        "total_tokens": prompt + said,
    }


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}])
async def test_usage_is_not_streamed_to_others(client: Client, options: Any) -> None:
    """Without include_usage no chunk speaks of usage or lacks a choice."""
    got = await chunks(client, chat(DATA, stream_options=options))
    assert all("usage" not in chunk and chunk["choices"] for chunk in got)


async def test_an_answer_may_come_whole(client: Client) -> None:
    """Without `stream` the answer is one chat.completion with the same words and usage."""
    got = await whole(client, chat(DATA))
    assert got["object"] == "chat.completion"
    message = {"role": "assistant", "content": SEEN}
    assert got["choices"] == [{"index": 0, "message": message, "finish_reason": "stop"}]
    assert got["usage"]["completion_tokens"] == count(SEEN)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("cap", [1, 5])
async def test_output_is_capped(client: Client, field: str, cap: int) -> None:
    """An answer stops at exactly the cap, and says so by its finish_reason."""
    got = await whole(client, {**chat(DATA), field: cap})
    text = got["choices"][0]["message"]["content"]
    assert got["choices"][0]["finish_reason"] == "length"
    assert got["usage"]["completion_tokens"] == count(text) == cap
    assert SEEN.startswith(text)
    parts = await chunks(client, {**chat(DATA), field: cap})
    assert "".join(part["choices"][0]["delta"].get("content", "") for part in parts) == text
    assert parts[-1]["choices"][0]["finish_reason"] == "length"


async def test_the_smaller_cap_holds(client: Client) -> None:
    """Of max_tokens and max_completion_tokens the smaller holds; one that fits changes nothing."""
    got = await whole(client, chat(DATA, max_tokens=9, max_completion_tokens=3))
    assert got["usage"]["completion_tokens"] == 3
    fits = await whole(client, chat(DATA, max_tokens=count(SEEN)))
    assert fits["choices"][0]["finish_reason"] == "stop"


async def test_n_multiplies_the_output(client: Client) -> None:
    """With n each choice has the whole text, and the output tokens of all are counted."""
    got = await whole(client, chat(DATA, n=3))
    assert [choice["index"] for choice in got["choices"]] == [0, 1, 2]
    assert got["usage"]["completion_tokens"] == 3 * count(SEEN)
    texts = {0: "", 1: "", 2: ""}
    for part in await chunks(client, chat(DATA, n=3)):
        (choice,) = part["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == {0: SEEN, 1: SEEN, 2: SEEN}


async def test_a_link_is_not_fetched(client: Client) -> None:
    """Of a link the demo says that it fetches nothing, and counts no image tokens."""
    got = await whole(client, chat("https://example.com/image.jpg"))
    assert got["choices"][0]["message"]["content"] == LINK
    assert got["usage"]["prompt_tokens"] == count(ASKED)


async def test_several_images_are_numbered(client: Client) -> None:
    """With several images each has its sentence, in order."""
    said = await say(client, chat(DATA, "https://example.com/image.jpg"))
    assert said == f"Image 1 of 2: {SEEN} Image 2 of 2: {LINK}"


@pytest.mark.parametrize(
    ("text", "words"), [("one two  three", "3 words"), ("one", "1 word"), ("", "0 words")]
)
async def test_text_alone_is_counted(client: Client, text: str, words: str) -> None:
    """Without an image the demo tells how many words the last user message has."""
    body = {
        "model": "gpt-4o",
        "messages": [
            {"role": "user", "content": "a b c d e"},
            {"role": "user", "content": text},
            {"role": "assistant", "content": None, "tool_calls": []},
        ],
    }
    assert await say(client, body) == f"Your message has {words} and no image."


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png;base64,!!!",
        "data:image/png;base64,QUJD",
        "data:image/png;base64,QUJDR",
        "data:image/png;base64,é",
        "data:,hello",
        "data:nothing",
    ],
)
async def test_bad_data_is_told_so(client: Client, uri: str) -> None:
    """A data URI that holds no image gets a true sentence, not an error."""
    assert "could not be read" in await say(client, chat(uri))


async def test_a_data_uri_may_be_percent_encoded(client: Client) -> None:
    """A data URI in any case and without base64 is read."""
    coded = "DATA:image/png," + "".join(f"%{byte:02x}" for byte in demo_picture())
    assert await say(client, chat(coded)) == SEEN


async def test_detail_changes_the_price(client: Client) -> None:
    """The image's own detail prices it, else the request's top-level one, else auto."""
    text = count(ASKED)
    body = chat(DATA)
    assert (await whole(client, body))["usage"]["prompt_tokens"] == text + 255
    body["detail"] = "low"
    assert (await whole(client, body))["usage"]["prompt_tokens"] == text + 85
    body["messages"][0]["content"][1]["image_url"]["detail"] = "high"
    assert (await whole(client, body))["usage"]["prompt_tokens"] == text + 255


async def test_the_formula_may_be_another(aiohttp_client: AiohttpClient) -> None:
    """image_tokens is called with width, height and detail, and prices each image."""
    calls: list[tuple[int, int, str]] = []

    def formula(width: int, height: int, detail: str) -> int:
        calls.append((width, height, detail))
        return 1000

    client = await aiohttp_client(make_demo_upstream(image_tokens=formula), headers=AUTH)
    got = await whole(client, chat(DATA, DATA))
    assert calls == [(64, 48, "auto")] * 2
    assert got["usage"]["prompt_tokens"] == count(ASKED) + 2000


@pytest.mark.parametrize(
    ("width", "height", "detail", "tokens"),
    [
        (1, 1, "high", 255),
        (512, 512, "auto", 255),
        (1024, 1024, "high", 765),
        (2048, 4096, "high", 1105),
        (2049, 513, "high", 1445),
        (2050, 513, "high", 765),
        (1080, 1920, "high", 1105),
        (8192, 8192, "high", 765),
        (4096, 8192, "low", 85),
    ],
)
def test_tiles_cost_what_is_billed(width: int, height: int, detail: str, tokens: int) -> None:
    """The default formula gives the vendor's own examples for gpt-4o."""
    assert tile_tokens(width, height, detail) == tokens


async def test_the_key_may_be_another(aiohttp_client: AiohttpClient) -> None:
    """The key and the models are the caller's to choose."""
    client = await aiohttp_client(make_demo_upstream(key="k", models=["m"]))
    async with client.get("/v1/models", headers={"Authorization": "bearer k"}) as answer:
        assert [model["id"] for model in (await answer.json())["data"]] == ["m"]


async def test_models_are_listed(client: Client) -> None:
    """GET /v1/models lists the reference's models in OpenAI's shape."""
    async with client.get("/v1/models") as answer:
        got = await answer.json()
    assert got["object"] == "list"
    assert {model["object"] for model in got["data"]} == {"model"}
    names = [model["id"] for model in got["data"]]
    assert names == ["gpt-4o", "gpt-4o-mini", "gpt-4-vision-preview"]


async def test_words_come_with_a_pause(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause is taken once before each word."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr("proxy.demo.upstream.asyncio.sleep", note)
    client = await aiohttp_client(make_demo_upstream(pause=0.0123), headers=AUTH)
    await chunks(client, chat(DATA))
    assert [pause for pause in pauses if pause == 0.0123] == [0.0123] * len(SEEN.split())


async def test_a_stream_ends_with_its_client(aiohttp_client: AiohttpClient) -> None:
    """A client that leaves during a pause ends the stream there, with no error of its own."""
    ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except BaseException as error:
            ended.set_result(error)
            raise

    app = make_demo_upstream(pause=3600)
    app.middlewares.insert(0, note)
    client = await aiohttp_client(app, headers=AUTH)
    answer = await client.post("/v1/chat/completions", json=chat(DATA, stream=True))
    assert b'"role":"assistant"' in await answer.content.readany()
    answer.close()
    assert isinstance(await ended, asyncio.CancelledError)
