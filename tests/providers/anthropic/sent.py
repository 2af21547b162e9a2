"""What Anthropic is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.domain.chat import ChatRequest
from proxy.domain.cuts import Pieces
from proxy.domain.errors import BadRequest
from proxy.domain.estimate import cap_output
from proxy.domain.routing import Target
from proxy.domain.steps import finish
from proxy.domain.usage import FREE
from proxy.providers.anthropic import KIND
from tests.domain.bodies import NOTHING, parse

TARGET = Target("anthropic", "claude-sonnet-4-5", 1, 1, FREE)


def pieces(request: ChatRequest) -> Pieces:
    """The body, as it is handed to the connection."""
    steps = KIND.messages(request)
    assert steps is not None
    return KIND.encode(request, finish(steps), TARGET, "max_completion_tokens")


def sent(body: Any, allowed: frozenset[str] = NOTHING) -> dict[str, Any]:
    """What goes up for a client's body."""
    request = cap_output(parse(body, allowed), (), 4096)
    decoded: dict[str, Any] = json.loads(b"".join(pieces(request)))
    return decoded


def not_sent(body: Any, allowed: frozenset[str] = NOTHING) -> str:
    """The field for which a body is refused."""
    with pytest.raises(BadRequest) as caught:
        sent(body, allowed)
    assert caught.value.param
    assert caught.value.param in caught.value.message
    assert caught.value.envelope()["error"]["type"] == "invalid_request_error"
    return caught.value.param
