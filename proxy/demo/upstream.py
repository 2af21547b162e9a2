"""An OpenAI-compatible upstream for demos and tests: it says only what is true, and counts it.

Chunks have the shapes of OpenAI's streams; usage is counted from what was read and said.
Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import math
import re
import time
import urllib.parse
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec
import toktok
from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.demo.look import Sight, see
from proxy.domain.errors import (
    BadRequest,
    GatewayError,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
    PayloadTooLarge,
    Unauthorized,
)

DEMO_KEY: Final = "sk-demo"
MODELS: Final = ("gpt-4o", "gpt-4o-mini", "gpt-4-vision-preview")
ENCODING: Final = "o200k_base"
MAX_BODY: Final = 32 * 1024 * 1024
MAX_IMAGES: Final = 10

#: (width, height, detail) -> tokens
ImageTokens = Callable[[int, int, str], int]

_LINK = "The image was given as a link; this demo fetches nothing, so it has not been looked at."
_WORD = re.compile(r"\s*\S+|\s+$")
_FIELD = re.compile(r"(?:field `|at `\$\.)([^`]+)`")
_HTTP: Final[Mapping[int, tuple[type[GatewayError], str]]] = {
    404: (NotFound, "this demo serves POST /v1/chat/completions and GET /v1/models"),
    405: (MethodNotAllowed, "this path is served with another method"),
    413: (PayloadTooLarge, f"the body is over {MAX_BODY} bytes"),
}

_Count = Annotated[int, msgspec.Meta(ge=1)]


class ImageUrl(msgspec.Struct):
    url: str
    detail: str | None = None


class Part(msgspec.Struct):
    text: str | None = None
    image_url: ImageUrl | None = None


class Message(msgspec.Struct):
    role: str
    content: str | list[Part] | None = None

    def parts(self) -> list[Part]:
        return [Part(self.content)] if isinstance(self.content, str) else self.content or []


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Chat(msgspec.Struct):
    """The fields of a request that the demo heeds; others are ignored."""

    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What every choice says, why it ends, and the usage of the whole request in tokens."""

    text: str
    finish_reason: str
    usage: dict[str, int]


def tile_tokens(width: int, height: int, detail: str) -> int:
    """gpt-4o's image tokens: 85, and 170 a tile of 512 px unless detail is low.

    Source: https://platform.openai.com/docs/guides/images-vision
    """
    if detail == "low":
        return 85
    width, height = _shrink(width, height, max(width, height), 2048)
    width, height = _shrink(width, height, min(width, height), 768)
    return 85 + 170 * math.ceil(width / 512) * math.ceil(height / 512)


def _shrink(width: int, height: int, side: int, limit: int) -> tuple[int, int]:
    if side <= limit:
        return width, height
    return max(1, round(width * limit / side)), max(1, round(height * limit / side))


def make_demo_upstream(
    *,
    key: str = DEMO_KEY,
    models: Sequence[str] = MODELS,
    image_tokens: ImageTokens = tile_tokens,
    pause: float = 0.02,
) -> web.Application:
    """The demo upstream, to be mounted at the root of a server.

    `key` is the one bearer token it takes, `pause` the seconds before each word of a
    stream. An image that could not be read, or was not fetched, costs no image tokens.
    """
    demo = _Demo(key, tuple(models), image_tokens, pause)
    app = web.Application(client_max_size=MAX_BODY, middlewares=[demo.door])
    app.router.add_post("/v1/chat/completions", demo.chat)
    app.router.add_get("/v1/models", demo.list_models)
    return app


@dataclass(frozen=True, slots=True)
class _Demo:
    key: str
    models: tuple[str, ...]
    image_tokens: ImageTokens
    pause: float
    # One decoded image in memory at a time.
    eyes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    @property
    def door(self) -> Any:
        @web.middleware
        async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                self.authorise(request)
                return await handler(request)
            except GatewayError as error:
                refusal = error
            except web.HTTPException as error:
                kind, message = _HTTP.get(error.status, (BadRequest, error.reason))
                refusal = kind(message)
            return web.json_response(refusal.envelope(), status=refusal.status)

        return door

    def authorise(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self.key.encode()):
            raise Unauthorized("this demo wants its key: 'Authorization: Bearer <the demo key>'")

    async def list_models(self, request: web.Request) -> web.Response:
        entry = {"object": "model", "created": 0, "owned_by": "visiongate-demo"}
        data = [{"id": model, **entry} for model in self.models]
        return web.json_response({"object": "list", "data": data})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        asked = parse(await request.read())
        if asked.model not in self.models:
            known = ", ".join(self.models)
            raise ModelNotFound(f"no model {asked.model!r}; there are {known}", param="model")
        async with self.eyes:
            answer = await asyncio.to_thread(respond, asked, self.image_tokens)
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk" if asked.stream else "chat.completion",
            "created": int(time.time()),
            "model": asked.model,
        }
        if asked.stream:
            return await self.stream(request, asked, answer, head)
        message = {"role": "assistant", "content": answer.text}
        choices = [
            {"index": index, "message": message, "finish_reason": answer.finish_reason}
            for index in range(asked.n or 1)
        ]
        return web.json_response({**head, "choices": choices, "usage": answer.usage})

    async def stream(
        self, request: web.Request, asked: Chat, answer: Answer, head: dict[str, Any]
    ) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        counted = asked.stream_options is not None and asked.stream_options.include_usage
        tail: dict[str, Any] = {"usage": None} if counted else {}
        for delta, reason in _deltas(answer):
            if "content" in delta:
                await asyncio.sleep(self.pause)
            for index in range(asked.n or 1):
                choice = {"index": index, "delta": delta, "finish_reason": reason}
                await response.write(_event({**head, "choices": [choice], **tail}))
        if counted:
            await response.write(_event({**head, "choices": [], "usage": answer.usage}))
        await response.write(b"data: [DONE]\n\n")
        return response


def parse(body: bytes) -> Chat:
    """The request in a body; raises BadRequest, which names the field where it can."""
    try:
        asked = msgspec.json.decode(body, type=Chat)
    except (ValueError, RecursionError) as error:
        place = _FIELD.search(str(error))
        raise BadRequest(f"invalid request: {error}", param=place and place[1]) from None
    if sum(part.image_url is not None for part in _parts(asked)) > MAX_IMAGES:
        raise BadRequest(f"this demo looks at up to {MAX_IMAGES} images", param="messages")
    return asked


def respond(asked: Chat, image_tokens: ImageTokens) -> Answer:
    """Look and count; blocks while it decodes."""
    seen = [
        (_seen(part.image_url), part.image_url.detail) for part in _parts(asked) if part.image_url
    ]
    read = [part.text for part in _parts(asked) if part.text]
    prompt = sum(toktok.batch_count(read, ENCODING, threads=1))
    for sight, detail in seen:
        if sight.size:
            prompt += image_tokens(*sight.size, detail or asked.detail or "auto")
    whole = _say([sight for sight, _ in seen], asked)
    text, reason = whole, "stop"
    caps = [cap for cap in (asked.max_tokens, asked.max_completion_tokens) if cap is not None]
    if caps and toktok.batch_count([whole], ENCODING, threads=1)[0] > min(caps):
        text, reason = toktok.truncate(whole, min(caps), ENCODING)[0], "length"
    said = toktok.batch_count([text], ENCODING, threads=1)[0] * (asked.n or 1)
    usage = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
    return Answer(text, reason, usage)


def _parts(asked: Chat) -> list[Part]:
    return [part for message in asked.messages for part in message.parts()]


def _seen(image: ImageUrl) -> Sight:
    scheme, _, rest = image.url.partition(":")
    if scheme.lower() != "data":
        return Sight(_LINK)
    kind, _, payload = rest.partition(",")
    try:
        coded = kind.lower().endswith(";base64")
        return see(base64.b64decode(payload) if coded else urllib.parse.unquote_to_bytes(payload))
    except ValueError:
        return see(b"")


def _say(sights: list[Sight], asked: Chat) -> str:
    if len(sights) > 1:
        numbered = enumerate((sight.sentence for sight in sights), 1)
        return " ".join(f"Image {i} of {len(sights)}: {sentence}" for i, sentence in numbered)
    if sights:
        return sights[0].sentence
    mine = [message for message in asked.messages if message.role == "user"][-1:]
    words = sum(len((part.text or "").split()) for message in mine for part in message.parts())
    return f"Your message has {words} {'word' if words == 1 else 'words'} and no image."


def _deltas(answer: Answer) -> list[tuple[dict[str, str], str | None]]:
    words: list[tuple[dict[str, str], str | None]] = [
        ({"content": word}, None) for word in _WORD.findall(answer.text)
    ]
    return [({"role": "assistant"}, None), *words, ({}, answer.finish_reason)]


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
