"""What came in an answer and is sent back, and how much of anything a request may hold."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.domain.estimate import text_tokens
from proxy.domain.jsonbody import MOST_NAMES
from proxy.domain.parameters import MOST_TOOLS
from proxy.domain.tokenizer import tokenizer_for
from tests.domain.bodies import IMAGE, TEXT, USER, asks, hello, parse, refused

THOUGHT: dict[str, Any] = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}


@pytest.mark.parametrize(
    "part",
    [
        {**THOUGHT, "closed": True},
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "reference", "reference_ids": [1, 2]},
    ],
)
def test_an_answer_may_be_sent_back(part: Any) -> None:
    """The parts of an answer that a model has thought of pass in the next request, and what they
    say is reserved for.
    """
    told = hello(messages=[USER, {"role": "assistant", "content": [part, TEXT]}])
    silent = hello(messages=[USER, {"role": "assistant", "content": [TEXT]}])
    tokens = [text_tokens(parse(body), tokenizer_for("gpt-4o")) for body in (told, silent)]
    assert tokens[0] > tokens[1]


@pytest.mark.parametrize(
    ("thinking", "tail"),
    [
        (None, ""),
        (5, ""),
        ({}, ""),
        ([IMAGE], "[0].type"),
        ([THOUGHT], "[0].type"),
        ([TEXT, "Hm."], "[1]"),
        ([{**TEXT, "image_url": {"url": "http://10.0.0.1/"}}], "[0].image_url"),
    ],
)
def test_a_thought_is_text(thinking: Any, tail: str) -> None:
    """No media comes in a thought."""
    body = hello(messages=[{"role": "assistant", "content": [{**THOUGHT, "thinking": thinking}]}])
    assert refused(body).param == f"messages[0].content[0].thinking{tail}"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (hello(**{f"x{number}": 1 for number in range(MOST_NAMES)}), None),
        (hello(messages=[{**USER, **{f"x{n}": None for n in range(MOST_NAMES)}}]), "messages[0]"),
        (asks({**TEXT, **{f"x{n}": None for n in range(MOST_NAMES)}}), "messages[0].content[0]"),
        (hello(tools=[{"type": "custom"}] * (MOST_TOOLS + 1)), "tools"),
    ],
    ids=["top", "message", "part", "tools"],
)
def test_names_and_tools_are_bounded(body: Any, where: str | None) -> None:
    """What costs a check each, no request has without end."""
    error = refused(body)
    assert (error.param, "more than" in error.message or "at most" in error.message) == (
        where,
        True,
    )
