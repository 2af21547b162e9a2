"""The operators' API: export and import."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis
import yaml

from tests.scripted import ScriptedUpstream
from tests.web.admin_api import TOKEN, Api, open_api

YAML = {"media": "application/yaml"}


@pytest.fixture
async def api(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Api]:
    async with open_api(store_url, upstream.url) as opened:
        await opened.done("POST", "/teams", {"name": "vision", "labels": {"price": "${HOME} $"}})
        await opened.done("POST", "/keys", {"team": "vision", "name": "ci"})
        yield opened


@pytest.mark.parametrize(
    ("query", "media"), [("", "application/yaml"), ("?format=json", "application/json")]
)
async def test_there_and_back(api: Api, store_url: str, query: str, media: str) -> None:
    """What was exported makes an empty store what it was, as YAML and as JSON, once."""
    _, before = await api("GET", f"/export{query}")
    with redis.Redis.from_url(store_url) as client:
        client.flushall()
    body = before.encode() if isinstance(before, str) else None
    for query_, made in (("?dry_run=true", 2), ("?dry_run=false", 2), ("", 0)):
        given = before if body is None else body
        changes = await api.done("POST", f"/import{query_}", given, media=media)
        assert [change["action"] for change in changes] == ["create"] * made
        names = [team["name"] for team in await api.done("GET", "/teams")]
        assert names == ([] if "true" in query_ else ["vision"])
    assert (await api("GET", f"/export{query}"))[1] == before


async def test_a_diff(api: Api) -> None:
    """A dry run tells what it would change, from what to what, and does not."""
    body = {"teams": [{"name": "vision", "limits": ["5 usd/day"]}, {"name": "docs"}]}
    change, new = await api.done("POST", "/import?dry_run=true", body)
    assert change["changes"] == {"limits": {"old": [], "new": ["5 usd/day"]}}
    assert (new["kind"], new["name"]) == ("team", "docs")
    assert (await api.done("GET", "/teams"))[0]["limits"] == []
    await api.done("POST", "/import", body)
    line = (await api.done("GET", "/audit?team=vision"))[-1]
    assert (line["action"], line["after"]) == ("team.change", {"limits": ["5 usd/day"]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("teams: [{name: a b}]", "cannot be a team's name"),
        ("teams: [{name: x, plan: gold}]", "unknown plan 'gold'"),
        ("team: []", "did you mean 'teams'?"),
        ("teams: [{name: x, labels: {a: 'HERE'}}]", "references are not filled in"),
        (r'teams: [{name: x, labels: {a: "\x24{file:FILE}"}}]', "references are not filled in"),
        ("", "is empty"),
        ("teams: [a", "never closed"),
        ("teams: [&a {name: x}, *a]", "An alias (*name) is not taken here"),
        ("a: &a {b: c}\nd: {<<: [*a, *a]}", "An alias (*name) is not taken here"),
        (f"teams: [{{name: {'x' * 5000}}}]", "at most 256 characters"),
    ],
)
async def test_wrong_documents(api: Api, tmp_path: Path, text: str, said: str) -> None:
    """A wrong document is refused whole, and none may read the gateway's files or environment."""
    secret = tmp_path / "secret"
    secret.write_text("the inner secret")
    sent = text.replace("HERE", "${HOME}").replace("FILE", str(secret)).encode()
    error = await api.refused(400, "POST", "/import", sent, media="application/yaml")
    assert said in error["message"]
    assert "inner secret" not in str(error)
    assert [team["name"] for team in await api.done("GET", "/teams")] == ["vision"]


async def test_many_problems(api: Api) -> None:
    """Of a document with very many problems the first are told, and how many there are more."""
    body = {"teams": [{"name": f"t{n}", "plan": "gold"} for n in range(50)]}
    error = await api.refused(400, "POST", "/import", body)
    assert error["param"] == "teams[0].plan"
    assert error["message"].count("unknown plan 'gold'") == 20
    assert error["message"].endswith("and 30 more")


async def test_json_is_taken_as_it_is(api: Api) -> None:
    """In JSON nothing is a reference: a dollar is a dollar."""
    body = {"version": 1, "teams": [{"name": "docs", "labels": {"a": "${HOME} $$"}}]}
    await api.done("POST", "/import", body)
    docs = await api.done("GET", "/teams/docs")
    assert docs["labels"] == {"a": "${HOME} $$"}
    assert (await api.refused(400, "POST", "/import", b"{"))["message"].startswith("body: ")
    assert (await api.refused(400, "POST", "/import", []))["message"].startswith("body: ")


async def test_a_star_is_text(api: Api) -> None:
    """What only looks like an alias is text."""
    await api.done(
        "POST", "/import", b"teams: [{name: docs, labels: {a: 'R *D', b: x *y}}]", **YAML
    )
    assert (await api.done("GET", "/teams/docs"))["labels"] == {"a": "R *D", "b": "x *y"}


async def test_a_name_twice(api: Api) -> None:
    """JSON with a name twice in one object is refused: two readers might see two documents."""
    body = b'{"teams": [{"name": "x", "status": "paused", "status": "active"}]}'
    error = await api.refused(400, "POST", "/import", body)
    assert "'status' appears twice" in error["message"]


async def test_a_very_long_name(api: Api) -> None:
    """What is wrong is told in few words, however much was sent."""
    error = await api.refused(400, "POST", "/import", {"x" * 100_000: 1})
    assert len(error["message"]) + len(error["param"]) < 2_000


async def test_an_unknown_pepper(api: Api) -> None:
    """Keys that a pepper signed which is not configured here are warned of in a header."""
    data = yaml.safe_load((await api("GET", "/export"))[1])
    for marks, warned in ((data["peppers"], False), (["0" * 16], True)):
        url = f"{api.gateway.admin}/admin/v1/import"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        body = {**data, "peppers": marks, "teams": []}
        async with api.gateway.session.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200
            assert ("x-visiongate-warning" in answer.headers) is warned
