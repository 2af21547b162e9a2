"""The operators' API: who may ask, and what is told without changing anything."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from tests.gateway import Gateway
from tests.scripted import ScriptedUpstream, chat_stream
from tests.web.admin_api import PREFIX, TOKEN, Api, open_api

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


@pytest.fixture
async def api(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Api]:
    async with open_api(store_url, upstream.url) as opened:
        yield opened


async def test_the_ledger_over_http(api: Api, upstream: ScriptedUpstream) -> None:
    """Teams, keys without their secrets, and usage are told as the commands tell them."""
    upstream.script(chat_stream(["Hi"], usage=USAGE))
    key = await api.gateway.key("1M tokens/day", team_limits=("50 usd/month",))
    async with api.gateway.post(key) as answer:
        await answer.read()
    await api.gateway.settled()
    (team,) = await api.done("GET", "/teams")
    assert (team["name"], team["limits"]) == ("vision", ["50 usd/month"])
    keys = await api.done("GET", "/keys?team=vision")
    assert (keys[0]["name"], keys[0]["team"]) == ("ci", "vision")
    assert key not in str(keys)
    month = f"{datetime.now(UTC):%Y-%m}"
    for period in ("", f"&month={month}", "&since=1d&until=2999-01-01"):
        (row,) = await api.done("GET", f"/usage?by=key,model&team=vision{period}")
        assert (row["key"], row["model"], row["requests"]) == ("ci", "gpt-4o", 1)
        assert (row["input_tokens"], row["output_tokens"], row["usd"]) == (12, 3, 0.00006)
    detail = await api.done("GET", "/keys/ci?effective=true")
    assert [(x["limit"], x["used"]) for x in detail["effective"] if x["of"] == "key 'ci'"] == [
        ("1,000,000 tokens/day", 15)
    ]


PATHS = ["/teams", "/keys", "/usage", "/audit", "/export", "/openapi.json", "/nothing", "/"]


@pytest.mark.parametrize("token", [None, "wrong", TOKEN + "x", TOKEN[:-1], "", "tök\x80en", "key"])
async def test_only_with_the_token(api: Api, token: str | None) -> None:
    """Without the token, or with a team's key, nothing is told, not even which paths there are."""
    given = await api.gateway.key() if token == "key" else token
    for method, path in itertools.product(("GET", "POST"), PATHS):
        error = await api.refused(401, method, path, {}, token=given)
        assert error["code"] == "invalid_api_key"


async def test_the_scheme_of_the_token(api: Api) -> None:
    """The token is a bearer's, whatever the case of the word; two headers are none."""
    for header, status in ((f"bearer {TOKEN}", 200), (f"Basic {TOKEN}", 401), (TOKEN, 401)):
        found, _ = await api("GET", "/teams", token=None, headers={"Authorization": header})
        assert found == status


@pytest.mark.parametrize("path", ["/teams", "/nothing"])
async def test_no_token_no_api(gateway: Gateway, path: str) -> None:
    """Where no token is configured there is no such path."""
    for headers in ({}, {"Authorization": "Bearer "}):
        url = f"{gateway.admin}/admin/v1{path}"
        async with gateway.session.get(url, headers=headers) as answer:
            assert answer.status == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "param", "said"),
    [
        ("GET", "/usage?by=colour", 400, "by", "known: day, team, key"),
        ("GET", "/usage?since=yesterday", 400, "since", "2026-11-01 or 7d"),
        ("GET", "/usage?month=2026-13", 400, "month", "not in the calendar"),
        ("GET", "/usage?month=2026-11&since=7d", 400, "month", "a period already"),
        ("GET", "/usage?sinse=7d", 400, "sinse", "did you mean 'since'?"),
        ("GET", "/usage?team=a&team=b", 400, "team", "given twice"),
        ("GET", "/usage?team=nobody", 404, "team", "no team 'nobody'"),
        ("GET", "/teams?all=1", 400, "all", "takes none"),
        ("GET", "/teams/nobody", 404, "team", "no team 'nobody'"),
        ("GET", "/keys?team=nobody", 404, "team", "no team 'nobody'"),
        ("GET", "/keys/nothing", 404, "key", "no key 'nothing'"),
        ("GET", "/keys/ci?effective=yes", 400, "effective", "true or false"),
        ("GET", "/audit?since=soon", 400, "since", "7d"),
        ("GET", "/audit?limit=0", 400, "limit", "from 1 to 100000"),
        ("GET", "/audit?limit=0000000100001", 400, "limit", "from 1 to 100000"),
        ("GET", "/nothing", 404, None, "openapi.json"),
        ("PUT", "/teams", 405, None, "It takes GET, POST"),
    ],
)
async def test_wrong_questions(
    api: Api, method: str, path: str, status: int, param: str | None, said: str
) -> None:
    """A question that has no answer is refused, and what is wrong with it is named."""
    error = await api.refused(status, method, path)
    assert error["param"] == param
    assert said in error["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/usage?month=9999-12",
        "/usage?month=0001-01",
        "/usage?since=0001-01-01&until=9999-12-31",
        "/audit?since=9999-12-31",
    ],
)
async def test_the_ends_of_the_calendar(api: Api, path: str) -> None:
    """A period may lie anywhere in the calendar; it is empty then."""
    assert await api.done("GET", path) == []


async def test_before_all_time(api: Api) -> None:
    """The audit since a day before 1970 is the whole audit."""
    await api.done("POST", "/teams", {"name": "vision"})
    assert len(await api.done("GET", "/audit?since=0001-01-01")) == 1


async def test_nobody_keeps_an_answer(api: Api) -> None:
    """No answer is to be kept on the way, and one without the token says what would do."""
    url = f"{api.gateway.admin}{PREFIX}/teams"
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with api.gateway.session.get(url, headers=bearer) as answer:
        assert answer.headers["cache-control"] == "no-store"
    async with api.gateway.session.get(url) as answer:
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_few_words_of_many_teams(api: Api) -> None:
    """Who asks for a team that there is not is told one like it, never hundreds."""
    for n in range(25):
        await api.gateway.directory.create_team(f"team-{n:02}")
    for path in ("/teams/", "/usage?team="):
        near = await api.refused(404, "GET", f"{path}team-077")
        assert "did you mean 'team-07'?" in near["message"]
        assert len((await api.refused(404, "GET", f"{path}zzz"))["message"]) < 60


async def test_the_description_is_whole(api: Api) -> None:
    """Every route that is served is described, by an id of its own, and nothing else is."""
    described = {
        (method.upper(), path): operation
        for path, operations in api.document["paths"].items()
        for method, operation in operations.items()
    }
    status, export = await api("GET", "/export")
    assert (status, export.startswith("# Teams and keys")) == (200, True)
    async with api.gateway.session.get(f"{api.gateway.admin}/nothing") as answer:
        told = (await answer.json())["error"]["message"]
    served = [
        tuple(words.split(" ", 1))
        for words in told.partition("Served: ")[2].rstrip(".").split(", ")
        if "/admin/v1/" in words
    ]
    assert sorted(described) == sorted(served)
    assert len(served) == 21
    ids = [operation["operationId"] for operation in described.values()]
    assert len(set(ids)) == len(ids)
