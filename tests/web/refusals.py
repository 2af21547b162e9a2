"""What is true of every refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def refusal(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    expected: tuple[int, str, str | None],
    *,
    source: str = "gateway",
) -> dict[str, Any]:
    """The error of an answer, after a look at all that every refusal must have.

    `expected` is status, type and code.
    """
    assert headers["content-type"].partition(";")[0] == "application/json", body
    assert headers["x-request-id"]
    assert headers["x-visiongate-source"] == source
    answer = json.loads(body)
    assert answer.keys() == {"error"}
    error: dict[str, Any] = answer["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (status, error["type"], error["code"]) == expected, error
    assert error["message"]
    return error


async def refused(
    answer: Any, expected: tuple[int, str, str | None], *, source: str = "gateway"
) -> dict[str, Any]:
    """The same of an answer of aiohttp's client, not yet entered."""
    async with answer as got:
        return refusal(got.status, got.headers, await got.read(), expected, source=source)
