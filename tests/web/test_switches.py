"""Targets that are switched off while gateways serve."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.store.audit import Audit
from proxy.store.client import Store
from proxy.store.layout import SWITCHED, TARGETS
from proxy.store.switches import Switch, SwitchBoard
from tests.gateway import open_gateway, until
from tests.scripted import ScriptedUpstream, chat_stream
from tests.web.admin_api import Api, open_api
from tests.web.two import AVAILABLE, USAGE, Two, open_two

ANSWER = chat_stream(["Hi"], USAGE)
SWITCH = Switch("one", "gpt-4o", 0, None, "ops")


def board_of(store: Store) -> SwitchBoard:
    return SwitchBoard(store, Audit(store, "ops"))


@pytest.fixture
async def two(store_url: str) -> AsyncIterator[Two]:
    async with open_two(store_url) as opened:
        opened.one.script(ANSWER)
        opened.two.script(ANSWER)
        yield opened


async def test_out_and_back(two: Two) -> None:
    """A target that is disabled gets nothing from the next moment on, until it is enabled."""
    board = board_of(two.gate.door.store)
    assert (await two.ask(), two.asked) == (200, (1, 0))
    await board.turn_off(SWITCH)
    await until(lambda: two.standing("one").disabled)
    assert (await two.ask(), two.asked) == (200, (1, 1))
    assert (await two.gate.metrics())[AVAILABLE % "one"] == 0
    await board.turn_on("one", "gpt-4o")
    await until(lambda: not two.standing("one").disabled)
    assert (await two.ask(), two.asked) == (200, (2, 1))
    lines = [x for x in two.gate.log_lines() if x["event"].startswith("targets_")]
    assert [(line["event"], line.get("targets")) for line in lines] == [
        ("targets_disabled", ["gpt-4o at one"]),
        ("targets_enabled", None),
    ]


async def test_all_out(two: Two) -> None:
    """A model without a target that is on is answered 503, and clients do not try again."""
    board = board_of(two.gate.door.store)
    for provider in ("one", "two"):
        await board.turn_off(Switch(provider, "*", 0, None, "ops"))
    await until(lambda: two.standing("one").disabled and two.standing("two").disabled)
    async with two.gate.post(two.key) as answer:
        assert (answer.status, answer.headers["x-should-retry"]) == (503, "false")
        assert "switched off" in (await answer.json())["error"]["message"]
    assert two.asked == (0, 0)


async def test_from_the_start(two: Two, store_url: str) -> None:
    """A gateway that starts sends nothing to what was off before."""
    await board_of(two.gate.door.store).turn_off(Switch("openai", "gpt-4o", 0, None, "ops"))
    async with open_gateway(store_url, two.one.url) as later:
        assert later.door.health.disabled == {("gpt-4o", "openai")}


async def test_news_that_was_missed(two: Two) -> None:
    """What changed while the news was cut off is noticed when the connection is back."""
    store = two.gate.door.store
    await store.ask(TARGETS, "HSET", TARGETS, "x", b'{"provider":"one","model":"*",'
                    b'"since":0,"until":null,"by":"ops"}')  # fmt: skip
    assert not two.standing("one").disabled
    await store.ask(None, "CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: two.standing("one").disabled)


async def test_a_channel_of_its_own(two: Two) -> None:
    """News of targets forgets no key, and news of keys still does."""
    await two.ask()
    known = two.gate.door.keys._known
    assert len(known) == 1
    await board_of(two.gate.door.store).turn_off(SWITCH)
    await until(lambda: two.standing("one").disabled)
    await two.gate.door.store.ask(None, "PUBLISH", SWITCHED, "vision")
    assert len(known) == 1
    await two.gate.directory.delete_team("vision")
    await until(lambda: not known)


@pytest.fixture
async def api(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Api]:
    async with open_api(store_url, upstream.url) as opened:
        yield opened


async def test_the_admin_api(api: Api) -> None:
    """The admin API lists targets, disables and enables them, and tells what comes of it."""
    rows = {row["model"]: row for row in await api.done("GET", "/targets")}
    assert {row["status"] for row in rows.values()} == {"active"}
    asked = {"provider": "openai", "model": "gpt-4o", "until": "2h", "reason": "slow"}
    (row,) = await api.done("POST", "/targets/disable", asked)
    assert (row["model"], row["status"], row["reason"]) == ("gpt-4o", "disabled", "slow")
    assert row["by"].startswith("admin-api 127.0.0.1")
    await until(lambda: api.gateway.door.health.disabled == {("gpt-4o", "openai")})
    assert row in await api.done("GET", "/targets")
    (row,) = await api.done("POST", "/targets/enable", {"provider": "openai", "model": "gpt-4o"})
    assert row == rows["gpt-4o"]
    await until(lambda: not api.gateway.door.health.disabled)
    lines = await api.done("GET", "/audit")
    assert [line["action"] for line in lines] == ["target.disable", "target.enable"]
    told = [line for line in api.gateway.log_lines() if line["event"] == "audit"]
    assert [line["name"] for line in told] == ["gpt-4o at openai"] * 2


async def test_the_admin_apis_warning(api: Api) -> None:
    """Where a model has no target left, a header of the answer says so."""
    url = f"{api.gateway.admin}/admin/v1/targets/disable"
    headers = {"Authorization": "Bearer an-admin-token"}
    body = {"provider": "openai", "model": "gpt-4o"}
    async with api.gateway.session.post(url, json=body, headers=headers) as answer:
        assert answer.status == 200
        told = answer.headers["x-visiongate-warning"]
    assert told.startswith("the model 'gpt-4o' has no target left")


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"provider": "opnai"}, "provider", "did you mean 'openai'?"),
        ({"provider": "openai", "model": "gpt"}, "model", "unknown model 'gpt'"),
        ({"provider": "openai", "until": "soon"}, "until", "neither a date nor a span"),
        ({"provider": "openai", "reason": "a\tb"}, "reason", "one line"),
        ({}, "provider", "required"),
    ],
)
async def test_the_admin_apis_refusals(
    api: Api, body: dict[str, str], param: str, words: str
) -> None:
    """A wrong field is named."""
    error = await api.refused(400, "POST", "/targets/disable", body)
    assert error["param"] == param
    assert words in error["message"]


async def test_a_provider_that_serves_nothing_here(store_url: str) -> None:
    """A switch for what this gateway does not have is no harm to it."""
    async with ScriptedUpstream() as up, open_gateway(store_url, up.url) as gate:
        await board_of(gate.door.store).turn_off(Switch("elsewhere", "*", 0, None, "ops"))
        await gate.door.switches.look()
        assert gate.door.health.disabled == frozenset()
