"""What is reserved for a model of Anthropic's is never below what the vendor bills."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.domain.estimate import text_tokens
from proxy.domain.tokenizer import tokenizer_for
from proxy.images.tokens import formula_for, largest
from tests.domain.bodies import hello, parse

WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather in a given location",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {
                "type": "string",
                "description": "The city and state, e.g. San Francisco, CA",
            }
        },
        "required": ["location"],
    },
}

#: Tokens that are added where there are tools: by the model, left to it, or forced to call one.
#: Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview
ADDED = {
    "claude-opus-4-8": (290, 410),
    "claude-opus-4-7": (675, 804),
    "claude-opus-4-6": (497, 589),
    "claude-opus-4-5": (496, 588),
    "claude-opus-4-1": (313, 315),
    "claude-sonnet-5": (354, 474),
    "claude-sonnet-4-6": (497, 589),
    "claude-sonnet-4-5": (496, 588),
    "claude-haiku-4-5": (496, 588),
    "anthropic.claude-3-5-haiku": (264, 355),
    "Claude-3-opus": (530, 281),
}


def reserved(model: str, **fields: Any) -> int:
    return text_tokens(parse(hello(**fields)), tokenizer_for(model))


def say(*said: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in said]


@pytest.mark.parametrize(
    ("billed", "fields"),
    [
        # The examples of https://platform.claude.com/docs/en/build-with-claude/token-counting
        (14, {"messages": say(("system", "You are a scientist"), ("user", "Hello, Claude"))}),
        (
            403,
            {
                "messages": say(("user", "What's the weather like in San Francisco?")),
                "tools": [{"type": "function", "function": WEATHER}],
            },
        ),
        # That of https://platform.claude.com/docs/en/api/messages
        (12, {"messages": say(("user", "Hello, world"))}),
    ],
)
def test_the_vendors_examples(billed: int, fields: dict[str, Any]) -> None:
    """The vendor's own examples fit into what is reserved for them."""
    assert reserved("claude-opus-5", **fields) >= billed


@pytest.mark.parametrize("model", ADDED)
def test_what_the_vendor_adds(model: str) -> None:
    """The least definition of a tool still has room for the prompt that the vendor adds to it."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    without = reserved(model)
    assert reserved(model, tools=tools) - without >= max(ADDED[model]) + len(str(tools))
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
    assert reserved(model, response_format=schema) - without >= max(ADDED[model])


def test_other_vendors_add_nothing() -> None:
    """A model that is none of Anthropic's is counted as before."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert reserved("llama", tools=tools) < 300


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-7", "claude-opus-9"])
def test_images(model: str) -> None:
    """An image of unknown size is reserved at the most that the vendor makes of one."""
    most = 1568 if model == "claude-sonnet-4-5" else 4784
    assert all(largest(formula_for(model), detail) == most for detail in (None, "low", "high"))
