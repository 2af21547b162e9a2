"""What a gateway does beside serving."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from proxy import housekeeping
from tests.gateway import Gateway, open_gateway, until
from tests.scripted import ScriptedUpstream, chat_stream

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


async def test_old_rows_are_pruned(store_url: str, upstream: ScriptedUpstream) -> None:
    """Usage older than its retention goes, a deleted team's too; what is younger stays."""
    today = datetime.now(UTC).date()
    old, young = today - timedelta(days=100), today - timedelta(days=20)
    async with open_gateway(store_url, upstream.url) as gate:
        for team in ("vision", "search"):
            await gate.directory.create_team(team)
        await gate.directory.delete_team("search")
    with redis.Redis.from_url(store_url) as client:
        for team in ("vision", "search"):
            for day in (old, young):
                client.hset(f"vg:{{{team}}}:rows", f"{day}|key_1|gpt-4o|openai", "1 2 3 0 0 0 0")
        async with open_gateway(store_url, upstream.url, store={"retention": "2 months"}):
            for team in ("vision", "search"):
                rows = f"vg:{{{team}}}:rows"
                await until(lambda rows=rows: client.hlen(rows) == 1)
                assert client.hkeys(rows) == [f"{young}|key_1|gpt-4o|openai".encode()]


async def test_a_chore_that_fails_is_told_and_tried_again(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in one chore stops neither it nor the others."""
    failed: list[int] = []
    replay = housekeeping.replay

    async def broken(*words: Any) -> Any:
        if not failed:
            failed.append(1)
            raise ValueError("secret")
        return await replay(*words)

    monkeypatch.setattr(housekeeping, "replay", broken)
    monkeypatch.setattr(housekeeping, "_REPLAY_EVERY", 0.01)
    async with open_gateway(store_url, upstream.url) as gate:
        await until(lambda: bool(failed))
        (line,) = [line for line in gate.log_lines() if line["event"] == "chore_failed"]
        assert (line["chore"], line["error"]) == ("replay", "ValueError")
        assert (await gate.metrics())['visiongate_alarms_total{event="chore_failed"}'] == 1
        upstream.script(chat_stream(["one"], USAGE))
        key = await gate.key(team_limits=("1000 tokens/day",))
        async with gate.post(key) as answer:
            await answer.read()
        assert await until_shown(gate) == 15


async def until_shown(gate: Gateway) -> float:
    """What the metrics show as used, once they do."""
    name = 'visiongate_limit_used{team="vision",unit="tokens",window="day"}'
    while not (used := (await gate.metrics()).get(name, 0.0)):
        pass
    return used
