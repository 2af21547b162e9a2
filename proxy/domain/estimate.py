"""The worst case of a request: what is reserved before the upstream is asked."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

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
    return replace(request, cap=cap)


def _over(request: ChatRequest, cap: int) -> BadRequest:
    old = bytes(request.fields.get("max_tokens", b"null"))
    name = "max_completion_tokens" if old == b"null" else "max_tokens"
    return invalid(name, f"may be at most {cap} with this key")


def text_tokens(request: ChatRequest, tokenizer: Tokenizer) -> int:
    """The prompt without its images, never below what a provider bills."""
    read = list(_read(request.messages))
    texts = [value for value in read if isinstance(value, str)]
    definitions = [
        *(msgspec.json.encode(value) for value in read if isinstance(value, dict | list)),
        *(bytes(raw) for name, raw in request.fields.items() if name not in _UNREAD),
    ]
    framing = _PER_REPLY + _PER_MESSAGE * len(request.messages)
    framing += sum(_PER_DEFINITION * (1 + text.count(b"{")) for text in definitions)
    return tokenizer.bound([*texts, *(text.decode() for text in definitions)]) + framing


def _read(messages: list[dict[str, Any]]) -> Iterator[Any]:
    """What a model reads of the messages: all that is said beside the media."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            yield from (value for name, value in part.items() if name not in CARRIERS)
        yield from (
            value
            for name, value in message.items()
            if name not in CARRIERS and not (name == "content" and isinstance(value, list))
        )


def estimate(request: ChatRequest, text: int, image_cost: ImageCost, price: Price) -> Estimate:
    """The worst case: prompt, images at their largest, and the capped output times `n`."""
    image = sum(image_cost(part) for part in request.images)
    prompt = Amounts(requests=1, input=text + image, output=0, images=len(request.images), usd=0)
    return with_cap(Estimate(prompt, text, image, price, request.n), request.cap or 0)


def with_cap(estimate: Estimate, cap: int) -> Estimate:
    """The same request with at most `cap` output tokens for each choice."""
    prompt, output = estimate.amounts, cap * estimate.choices
    usd = estimate.price.worst(prompt.input, output)
    amounts = Amounts(prompt.requests, prompt.input, output, prompt.images, usd)
    return Estimate(amounts, estimate.text, estimate.image, estimate.price, estimate.choices)


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
