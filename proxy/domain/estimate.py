"""The worst case of a request: what is reserved before the upstream is asked."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from proxy.domain.chat import ChatRequest, ImagePart
from proxy.domain.errors import BadRequest
from proxy.domain.parameters import invalid
from proxy.domain.quota import State, failures
from proxy.domain.tokenizer import Tokenizer
from proxy.domain.usage import Amounts, Estimate, Price
from proxy.domain.vocabulary import CARRIERS

# Beside its texts, the role's among them, a message is framed by three tokens, a name by one
# more, the reply by three.
# Source: OpenAI's cookbook, "How to count tokens with tiktoken".
_PER_MESSAGE: Final = 4
_PER_REPLY: Final = 3

#: Fields that no model reads. Any other is taken to be rendered into the prompt, as the
#: definitions of tools are; its JSON is longer than the rendering.
_UNREAD: Final = frozenset(
    (
        *("model", "messages", "stream", "stream_options", "n", "detail", "stop", "seed"),
        *("max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p"),
        *("frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias"),
        *("logprobs", "top_logprobs", "user", "safety_identifier", "metadata", "store"),
        *("prompt_cache_key", "prompt_cache_retention", "service_tier", "modalities"),
        *("parallel_tool_calls", "reasoning_effort", "verbosity"),
    )
)
_PER_DEFINITION: Final = 16

#: Those of which a vendor may make more than they hold.
_UNSEEN: Final = frozenset(("tools", "response_format"))
_NESTED: Final = (dict, list)

#: The most tokens that an image can cost, by its size (0 where unknown) and detail.
ImageCost = Callable[[ImagePart], int]


@dataclass(frozen=True, slots=True)
class OutputCap:
    """A plan's rule for output tokens, per choice. None: the model's own maximum."""

    default: int | None = None
    cap: int | None = None
    over: str = "clamp"


def cap_output(request: ChatRequest, rules: tuple[OutputCap, ...], model_max: int) -> ChatRequest:
    """The request bounded by its plan and model.

    Raises BadRequest where a plan rejects rather than clamps.
    """
    asked = request.cap
    cap = model_max if asked is None else min(asked, model_max)
    for rule in rules:
        if asked is None and rule.default is not None:
            cap = min(cap, rule.default)
        if rule.cap is None:
            continue
        if asked is not None and asked > rule.cap and rule.over == "reject":
            raise _over(request, rule.cap)
        cap = min(cap, rule.cap)
    return request if cap == asked else replace(request, cap=cap)


def _over(request: ChatRequest, cap: int) -> BadRequest:
    old = bytes(request.fields.get("max_tokens", b"null"))
    name = "max_completion_tokens" if old == b"null" else "max_tokens"
    return invalid(name, f"may be at most {cap} with this key")


def text_tokens(request: ChatRequest, tokenizer: Tokenizer) -> int:
    """The prompt without its images, never below what a provider bills."""
    framing = _PER_REPLY + _PER_MESSAGE * request.turns
    texts = request.texts
    if texts is None:
        texts, definitions = _read_by_model(request)
        if not _UNSEEN.isdisjoint(request.fields):
            framing += tokenizer.unseen
        for text in definitions:
            framing += _PER_DEFINITION * (1 + text.count(b"{"))
            texts.append(text.decode())
    return tokenizer.bound(texts) + framing


def _read_by_model(request: ChatRequest) -> tuple[list[str], list[bytes]]:
    """What a model reads of a request: texts, and the JSON of what is made of others."""
    said: list[dict[str, Any]] = []
    for message in request.messages:
        content = message.get("content")
        if content.__class__ is list:
            said += content
            message = {**message, "content": None}
        said.append(message)
    texts: list[str] = []
    definitions = [bytes(raw) for name, raw in request.fields.items() if name not in _UNREAD]
    for members in said:
        for name, value in members.items():
            if name in CARRIERS:
                continue
            if value.__class__ is str:
                texts.append(value)
            elif value.__class__ in _NESTED:
                definitions.append(msgspec.json.encode(value))
    return texts, definitions


def estimate(request: ChatRequest, text: int, image_cost: ImageCost, price: Price) -> Estimate:
    """The worst case: prompt, images at their largest, and the capped output times `n`."""
    image = sum([image_cost(part) for part in request.images])
    input, output = text + image, (request.cap or 0) * request.n
    amounts = Amounts(1, input, output, len(request.images), price.worst(input, output))
    return Estimate(amounts, text, image, price, request.n)


def with_cap(estimate: Estimate, cap: int) -> Estimate:
    """The same request with at most `cap` output tokens for each choice."""
    was, output = estimate.amounts, cap * estimate.choices
    amounts = replace(was, output=output, usd=estimate.price.worst(was.input, output))
    return replace(estimate, amounts=amounts)


def shrink(estimate: Estimate, states: Sequence[State]) -> Estimate | None:
    """The same request with the largest output cap that has room in every limit.

    None where even a single token for each choice has none.
    """

    def too_large(cap: int) -> bool:
        return bool(failures(states, with_cap(estimate, cap).amounts))

    cap = bisect_left(range(1, estimate.cap + 1), True, key=too_large)
    return with_cap(estimate, cap) if cap else None


def least(estimate: Estimate) -> Estimate:
    """The same request shrunk as far as it goes."""
    return with_cap(estimate, min(1, estimate.cap))
