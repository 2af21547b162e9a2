"""The worst case of a request: what is reserved before the upstream is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from proxy.domain.chat import ChatRequest, ImagePart, texts
from proxy.domain.errors import BadRequest
from proxy.domain.parameters import invalid
from proxy.domain.tokenizer import Tokenizer
from proxy.domain.usage import Amounts, Estimate, Price

# Each message is framed by three tokens, a name by one more, the reply by three.
# Source: OpenAI's cookbook, "How to count tokens with tiktoken".
_PER_MESSAGE: Final = 4
_PER_REPLY: Final = 3

#: Definitions are rendered into the prompt; their JSON is longer than the rendering.
_DEFINITIONS: Final = ("tools", "functions", "response_format", "tool_choice", "function_call")
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
        if rule.cap is None or cap <= rule.cap:
            continue
        if asked is not None and rule.over == "reject":
            raise _over(request, rule.cap)
        cap = rule.cap
    return replace(request, cap=cap)


def _over(request: ChatRequest, cap: int) -> BadRequest:
    name = "max_tokens" if "max_tokens" in request.fields else "max_completion_tokens"
    return invalid(name, f"may be at most {cap} with this key")


def text_tokens(request: ChatRequest, tokenizer: Tokenizer) -> int:
    """The prompt without its images, never below what a provider bills."""
    framing = _PER_MESSAGE * len(request.messages) + _PER_REPLY
    pieces = texts(request)
    for name in _DEFINITIONS:
        if name in request.fields:
            text = bytes(request.fields[name]).decode()
            pieces.append(text)
            framing += _PER_DEFINITION * (1 + text.count("{"))
    for message in request.messages:
        calls = message.get("tool_calls")
        if calls:
            pieces.append(str(calls))
            framing += _PER_DEFINITION
    return tokenizer(pieces) + framing


def estimate(request: ChatRequest, text: int, image_cost: ImageCost, price: Price) -> Estimate:
    """The worst case: prompt, images at their largest, and the capped output times `n`."""
    image = sum(image_cost(part) for part in request.images)
    output = (request.cap or 0) * request.n
    amounts = Amounts(
        requests=1,
        input=text + image,
        output=output,
        images=len(request.images),
        usd=price.worst(text + image, output),
    )
    return Estimate(amounts, text, image, price)
