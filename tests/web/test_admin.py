"""The operators' API: the commands' JSON behind a token."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway import Gateway, open_gateway
from tests.scripted import ScriptedUpstream, chat_stream

TOKEN = "an-admin-token"
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


async def ask(gateway: Gateway, path: str, token: str | None = TOKEN) -> tuple[int, Any]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with gateway.session.get(f"{gateway.admin}/admin/v1/{path}", headers=headers) as answer:
        return answer.status, await answer.json()


async def test_the_ledger_over_http(store_url: str, upstream: ScriptedUpstream) -> None:
    """Teams, keys without their secrets, and usage are told as the commands tell them."""
    upstream.script(chat_stream(["Hi"], usage=USAGE))
    async with open_gateway(store_url, upstream.url, admin={"token": TOKEN}) as gateway:
        key = await gateway.key("1M tokens/day", team_limits=("50 usd/month",))
        async with gateway.post(key) as answer:
            await answer.read()
        await gateway.settled()
        status, teams = await ask(gateway, "teams")
        assert (status, teams[0]["name"], teams[0]["limits"]) == (200, "vision", ["50 usd/month"])
        status, keys = await ask(gateway, "keys?team=vision")
        assert (status, keys[0]["name"], keys[0]["team"]) == (200, "ci", "vision")
        assert key not in str(keys)
        assert "secrets" not in keys[0]
        status, rows = await ask(gateway, "usage?by=key,model")
    (row,) = rows
    assert (row["key"], row["model"], row["requests"]) == ("ci", "gpt-4o", 1)
    assert (row["input_tokens"], row["output_tokens"], row["usd"]) == (12, 3, 0.00006)


@pytest.mark.parametrize("path", ["teams", "keys", "usage"])
async def test_only_with_the_token(store_url: str, upstream: ScriptedUpstream, path: str) -> None:
    """Without the token, or with a team's key, nothing is told."""
    async with open_gateway(store_url, upstream.url, admin={"token": TOKEN}) as gateway:
        for token in (None, "wrong", await gateway.key()):
            status, told = await ask(gateway, path, token)
            assert (status, told["error"]["code"]) == (401, "invalid_api_key")


async def test_no_token_no_api(gateway: Gateway) -> None:
    """Where no token is configured there is no such path."""
    status, _ = await ask(gateway, "teams")
    assert status == 404


@pytest.mark.parametrize(
    ("path", "status", "param"),
    [
        ("usage?by=colour", 400, "by"),
        ("usage?since=yesterday", 400, "since"),
        ("usage?team=nobody", 404, None),
        ("keys?team=nobody", 404, None),
    ],
)
async def test_wrong_questions(
    store_url: str, upstream: ScriptedUpstream, path: str, status: int, param: str | None
) -> None:
    """A question that has no answer is refused by name."""
    async with open_gateway(store_url, upstream.url, admin={"token": TOKEN}) as gateway:
        found, told = await ask(gateway, path)
    assert (found, told["error"]["param"]) == (status, param)
