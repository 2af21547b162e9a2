"""Every refusal, over HTTP: the right status, in OpenAI's envelope, and the upstream not asked."""

from __future__ import annotations

import gzip
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from proxy.domain.keys import make_key
from tests.gateway import HELLO, Gateway, open_gateway
from tests.scripted import ScriptedUpstream, chat_stream
from tests.web.raw import chat_request, connected
from tests.web.refusals import refusal, refused

INVALID = "invalid_request_error"
KEY_ERROR = (401, INVALID, "invalid_api_key")

PLANS: dict[str, Any] = {
    "narrow": {"models": ["gpt-4o"]},
    "streams": {"require_stream": True},
    "strict": {"max_tokens": {"cap": 10, "over": "reject"}},
    "few": {"images": {"max_count": 1}},
}
MODELS = {
    "words-only": {
        "targets": [{"provider": "openai"}],
        "price": {"input": 1, "output": 1},
        "max_output": 1000,
        "vision": False,
    }
}


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    """A gateway with some plans, whose upstream must not be asked."""
    plans = {"default": {}, **PLANS}
    async with open_gateway(store_url, upstream.url, plans=plans, models=MODELS) as opened:
        yield opened
    assert not upstream.requests


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def asking(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**HELLO, "messages": [{"role": "user", "content": list(parts)}], **more}


async def change(gate: Gateway, what: str, **values: Any) -> None:
    """Change the team's or its only key's record."""
    if what == "team":
        await gate.directory.change_team("vision", lambda r: msgspec.structs.replace(r, **values))
        return
    (key,) = await gate.directory.keys("vision")
    await gate.directory.change_key(
        "vision", key.id, lambda r: msgspec.structs.replace(r, **values)
    )


async def test_no_key(gate: Gateway) -> None:
    """A request without a key is told how to send one."""
    error = await refused(gate.post(None), KEY_ERROR)
    assert "Authorization: Bearer" in error["message"]


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer sk-not-ours",
        "Bearer vg_" + "a" * 36,
        f"Bearer {make_key('b' * 30)}",
        f"Basic {make_key('b' * 30)}",
        "Bearer ",
        "Bearer",
        "Bearer \xff\xfe",
        make_key("b" * 30),
    ],
    ids=["foreign", "checksum", "unknown", "basic", "empty", "bare", "bytes", "no-scheme"],
)
async def test_a_wrong_key(gate: Gateway, authorization: str) -> None:
    """A key that is none is refused, whatever is wrong with it."""
    async with connected(gate.url) as client:
        await client.send(chat_request(None, authorization=authorization))
        got = await client.answer()
    refusal(got.status, got.headers, got.body, KEY_ERROR)


async def test_two_authorization_headers(gate: Gateway) -> None:
    """Of two keys none is chosen."""
    key = await gate.key()
    async with connected(gate.url) as client:
        await client.send(chat_request(key, host=f"gateway\r\nauthorization: Bearer {key}"))
        got = await client.answer()
    refusal(got.status, got.headers, got.body, KEY_ERROR)


@pytest.mark.parametrize(
    ("what", "values", "expected", "word"),
    [
        ("key", {"status": "revoked"}, KEY_ERROR, "revoked"),
        ("key", {"expires_at": 1}, KEY_ERROR, "expired"),
        ("key", {"status": "paused"}, (403, INVALID, "permission_denied"), "paused"),
        ("team", {"status": "paused"}, (403, INVALID, "permission_denied"), "paused"),
        ("team", {"plan": "gone"}, (403, INVALID, "permission_denied"), "plan"),
    ],
)
async def test_a_key_that_no_longer_stands(
    gate: Gateway, what: str, values: dict[str, Any], expected: Any, word: str
) -> None:
    """A key is refused from the moment on that its record, or its team's, says so."""
    key = await gate.key()
    await change(gate, what, **values)
    error = await refused(gate.post(key), expected)
    assert word in error["message"]


@pytest.mark.parametrize(("model", "plan"), [("gpt-9", "default"), ("gpt-4o-mini", "narrow")])
async def test_a_model_that_is_not_there(gate: Gateway, model: str, plan: str) -> None:
    """An unknown model and one that the key may not use are told alike."""
    key = await gate.key(plan=plan)
    error = await refused(
        gate.post(key, {**HELLO, "model": model}), (404, INVALID, "model_not_found")
    )
    assert error["param"] == "model"
    assert model in error["message"]
    assert "/v1/models" in error["message"]


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", ""])
async def test_a_body_that_is_not_declared_json(gate: Gateway, kind: str) -> None:
    """Another content type, or none, is refused with the right one's name."""
    async with connected(gate.url) as client:
        await client.send(chat_request(await gate.key(), content_type=kind))
        got = await client.answer()
    error = refusal(got.status, got.headers, got.body, (415, INVALID, None))
    assert "application/json" in error["message"]


async def test_a_compressed_body(gate: Gateway) -> None:
    """A body that would inflate to 64 MiB is refused without being unpacked."""
    key = await gate.key()
    bomb = gzip.compress(bytes(64 * 2**20), compresslevel=9)
    begun = time.process_time()
    await refused(gate.post(key, bomb, headers={"Content-Encoding": "gzip"}), (415, INVALID, None))
    assert time.process_time() - begun < 0.1  # unpacking takes twice as long and more


async def test_an_empty_body(gate: Gateway) -> None:
    """A request without a body is told to send one."""
    error = await refused(gate.post(await gate.key(), b""), (400, INVALID, None))
    assert "body" in error["message"]


async def test_an_image_for_a_model_without_eyes(gate: Gateway) -> None:
    """An image for a text-only model is refused by its path."""
    key = await gate.key()
    body = asking(image("https://example.com/a.png"), model="words-only")
    error = await refused(gate.post(key, body), (400, INVALID, None))
    assert error["param"] == "messages[0].content[0].image_url"


async def test_too_many_images(gate: Gateway) -> None:
    """The plan's count of images binds."""
    key = await gate.key(plan="few")
    body = asking(*[image("https://example.com/a.png")] * 2)
    async with gate.post(key, body) as answer:
        assert answer.status == 400
        error = (await answer.json())["error"]
    assert error["param"] == "messages"
    assert "1" in error["message"]


async def test_a_plan_that_requires_a_stream(gate: Gateway) -> None:
    """Where the plan says so, stream must be true."""
    key = await gate.key(plan="streams")
    error = await refused(gate.post(key, {**HELLO, "stream": False}), (400, INVALID, None))
    assert error["param"] == "stream"


async def test_a_plan_that_rejects_a_large_cap(gate: Gateway) -> None:
    """Where the plan rejects rather than clamps, the field is named."""
    key = await gate.key(plan="strict")
    error = await refused(gate.post(key), (400, INVALID, "invalid_value"))
    assert error["param"] == "max_tokens"


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/embeddings", "/", "/%ff", "/a%00b"])
async def test_a_path_that_is_not_served(gate: Gateway, path: str) -> None:
    """Another path is a 404 that names what is served."""
    answer = gate.session.post(aiohttp.client.URL(gate.url + path, encoded=True), json={})
    error = await refused(answer, (404, INVALID, "not_found"))
    assert "POST /v1/chat/completions" in error["message"]
    assert "GET /v1/models" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("PUT", "/v1/usage", "GET, HEAD"),
    ],
)
async def test_a_method_that_a_path_does_not_take(
    gate: Gateway, method: str, path: str, allow: str
) -> None:
    """A wrong method is a 405 that names the right ones."""
    answer = gate.session.request(method, gate.url + path)
    async with answer as got:
        assert got.headers["allow"] == allow
        refusal(got.status, got.headers, await got.read(), (405, INVALID, "method_not_allowed"))


@pytest.mark.parametrize("path", ["/v1/models", "/v1/usage"])
async def test_the_other_routes_want_a_key_too(gate: Gateway, path: str) -> None:
    """Neither the models nor the usage are told without a key."""
    await refused(gate.get(path), KEY_ERROR)


async def test_the_clients_own_request_id_is_kept(gate: Gateway) -> None:
    """A plain id of the client's comes back, another is replaced."""
    async with gate.post(None, headers={"X-Request-Id": "mine-1"}) as answer:
        assert answer.headers["x-request-id"] == "mine-1"
    async with gate.post(None, headers={"X-Request-Id": "a b<script>"}) as answer:
        assert answer.headers["x-request-id"].startswith("req_")


async def test_refusals_are_counted_by_reason(gate: Gateway) -> None:
    """Each refusal shows in the metrics and the log with its reason and its team."""
    key = await gate.key()
    await refused(gate.post(None), KEY_ERROR)
    await refused(gate.post(key, {**HELLO, "model": "x"}), (404, INVALID, "model_not_found"))
    samples = await gate.metrics()
    rejections = "visiongate_rejections_total"
    assert samples[rejections + '{reason="unauthorized",team=""}'] == 1
    assert samples[rejections + '{reason="model_not_found",team="vision"}'] == 1
    reasons = [line["reason"] for line in gate.log_lines() if line["event"] == "request"]
    assert reasons == ["unauthorized", "model_not_found"]


async def test_a_fault_of_our_own_is_told_without_detail(
    gate: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug answers a 500 in the envelope, and logs its type and place but not its text."""

    def broken(*_: object) -> None:
        raise KeyError("the prompt")

    monkeypatch.setattr("proxy.web.chat.plain_chat", broken)
    await refused(gate.post(await gate.key()), (500, "server_error", None))
    (line,) = [line for line in gate.log_lines() if line["event"] == "unexpected"]
    assert line["error"] == "KeyError"
    assert line["at"].startswith("tests.web.test_errors:")
    assert "the prompt" not in gate.log.getvalue()


async def test_trace_headers_that_no_header_can_hold_are_dropped(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """A traceparent goes up where it is ASCII; another is left out."""
    upstream.script(chat_stream(["Hi"]))
    key = await gateway.key()
    for value in ("00-ab-cd-01", "\xff"):
        async with connected(gateway.url) as client:
            await client.send(chat_request(key, traceparent=value))
            assert (await client.head()).status == 200
            await client.chunks()
    assert [sent.header("traceparent") for sent in upstream.requests] == ["00-ab-cd-01", None]


async def test_a_path_is_logged_as_the_code_has_it(gate: Gateway) -> None:
    """A made-up path may hold a key, and is not logged."""
    async with gate.get("/v1/vg_a-key-in-the-wrong-place") as answer:
        assert answer.status == 404
    assert "wrong-place" not in gate.log.getvalue()


async def test_one_model_is_told(gate: Gateway) -> None:
    """GET /v1/models/{model} tells of one that the key may use, and of no other."""
    key = await gate.key()
    async with gate.get("/v1/models/gpt-4o", key) as answer:
        assert (answer.status, (await answer.json())["id"]) == (200, "gpt-4o")
    await refused(gate.get("/v1/models/nope", key), (404, INVALID, "model_not_found"))
