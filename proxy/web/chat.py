"""POST /v1/chat/completions: one request, from top to bottom."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp import web
from msgspec.structs import replace

from proxy.access import Access
from proxy.domain.chat import ChatRequest, parse_chat
from proxy.domain.errors import BadRequest
from proxy.domain.estimate import cap_output, estimate, text_tokens
from proxy.domain.meter import StreamMeter
from proxy.domain.plain import plain_chat
from proxy.domain.routing import Model, find_model
from proxy.domain.usage import most_believed
from proxy.store.ledger import Lease
from proxy.turns import in_turns
from proxy.web.attempts import begin, begin_slowly, choose
from proxy.web.door import DOOR
from proxy.web.read import bearer_token, read_body
from proxy.web.relay import outliving, relay
from proxy.web.trace import CLIENT_GONE, TRACE, Trace

MAX_TOKENS_HEADER: Final = "x-visiongate-max-tokens"

#: Longer requests are tokenized in a thread, which the tokenizer leaves the others to run in:
#: the worst text of this length takes 10 ms.
_LONG_TEXT: Final = 16 * 1024
_TOKENIZING: Final = ThreadPoolExecutor(2, "tokenizing")  # so that nothing else waits for it


async def chat_completions(http: web.Request) -> web.StreamResponse:
    """The pipeline. Each step takes what the ones before it made, and raises GatewayError."""
    door, trace = http.app[DOOR], http[TRACE]
    key = trace.access = await door.keys.authenticate(bearer_token(http))
    door.keys.check_spent(key)
    trace.stage()  # authenticate
    body = await read_body(http, door.max_body)
    trace.stage()  # read
    asked = plain_chat(body)
    if asked is None:
        asked = await in_turns(parse_chat(body, key.allow_parameters))
    model = find_model(door.models, asked.model, key.models)
    trace.model = model.name
    check_use(asked, model, key)
    streamed = asked.stream
    capped = cap_output(asked, key.caps, model.max_output)
    trace.stage()  # validate
    request = await door.images.admit(
        capped, key.images, key=key.key.id, inline=model.inline_images, kinds=model.kinds
    )
    trace.stage()  # images
    standing = choose(door, model)
    long = request.size > _LONG_TEXT
    text = await counted(request, model) if long else text_tokens(request, model.tokenizer)
    worst = estimate(request, text, model.image_cost, model.dearest)
    meter = StreamMeter(
        model.tokenizer,
        usage_wanted=asked.include_usage,
        hidden_output=model.hidden_output or asked.thinks,
        most=most_believed(worst),
    )
    trace.stage()  # estimate
    provider = standing.target.provider
    async with door.ledger.reserve(key, model.name, provider, worst, meter) as lease:
        trace.reserved(lease, door.ledger.refused_by(lease))
        request = held_to(request, lease, trace)
        headers = answer_headers(asked, request, model, lease)
        attempt = begin(http, door, request, model, standing, lease)
        if attempt is None:
            attempt = await begin_slowly(http, door, request, model, standing, lease)
        # They may be of many megabytes, and a stream may last for minutes.
        del body, asked, capped, request
        trace.ended = CLIENT_GONE  # until something else is known
        work = relay(http, door, trace, attempt, headers, lease, stream=streamed)
        return await outliving(work, door, lease, stream=streamed)


def check_use(request: ChatRequest, model: Model, key: Access) -> None:
    """Raise BadRequest for what the model or the key's plan does not do."""
    if request.images and not model.vision:
        raise BadRequest(
            f"The model '{model.name}' does not take images; GET /v1/models lists those that do.",
            param=request.images[0].path,
        )
    if key.require_stream and not request.stream:
        raise BadRequest("With this key, 'stream' must be true.", param="stream")


async def counted(request: ChatRequest, model: Model) -> int:
    """The tokens of a long prompt."""
    run = asyncio.get_running_loop().run_in_executor
    return await run(_TOKENIZING, text_tokens, request, model.tokenizer)


def held_to(request: ChatRequest, lease: Lease, trace: Trace) -> ChatRequest:
    """The request with the output cap that was reserved for it, which may be less than asked."""
    cap = lease.estimate.cap
    if cap == request.cap:
        return request
    trace.shrunk_to = cap
    return replace(request, cap=cap)


def answer_headers(
    asked: ChatRequest, request: ChatRequest, model: Model, lease: Lease
) -> dict[str, str]:
    """What is told beside the answer: the limits, and a cap below what was asked for."""
    headers = lease.limit_headers()
    if request.cap is not None and request.cap < (asked.cap or model.max_output):
        headers[MAX_TOKENS_HEADER] = str(request.cap)
    return headers
