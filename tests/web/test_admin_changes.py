"""The operators' API: what it changes, and what it refuses to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.domain.identity import KeyRecord
from proxy.store.directory import Directory
from tests.scripted import ScriptedUpstream, chat_stream
from tests.web.admin_api import Api, at_once, open_api


@pytest.fixture
async def api(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Api]:
    async with open_api(store_url, upstream.url) as opened:
        yield opened


async def team(api: Api, name: str = "vision", **more: Any) -> Any:
    return await api.done("POST", "/teams", {"name": name, **more})


async def key(api: Api, name: str = "ci", **more: Any) -> Any:
    return await api.done("POST", "/keys", {"team": "vision", "name": name, **more})


async def answers(api: Api, secret: str) -> int:
    """The status of a request with a key."""
    async with api.gateway.get("/v1/models", secret) as answer:
        return int(answer.status)


async def test_the_life_of_a_team(api: Api) -> None:
    """A team is made, changed field by field, paused, resumed and deleted, once."""
    made = await team(api, plan="standard", limits=["50 usd/month"], labels={"a": "1", "b": "2"})
    assert made == (await api.done("GET", "/teams"))[0]
    change = {"limits": ["80 usd/month", "9 images/day"], "labels": {"a": None, "c": "3"}}
    changed = await api.done("PATCH", "/teams/vision", change)
    assert changed == {**made, "limits": change["limits"], "labels": {"b": "2", "c": "3"}}
    for status in ("paused", "active"):
        told = await api.done("PATCH", "/teams/vision", {"status": status})
        assert told == {**changed, "status": status}
    detail = await api.done("GET", "/teams/vision")
    assert [x["limit"] for x in detail["effective"]] == change["limits"]
    assert (await api.done("DELETE", "/teams/vision"))["status"] == "deleted"
    assert await api.done("GET", "/teams") == []
    assert (await api.refused(404, "DELETE", "/teams/vision"))["param"] == "team"
    assert (await api.refused(409, "POST", "/teams", {"name": "vision"}))["param"] == "name"


async def test_the_life_of_a_key(api: Api) -> None:
    """A key is made, changed, rotated, found and revoked, and its secret is told when made only."""
    await team(api)
    made = await key(api, limits=["1M tokens/day"], expires_at="90d", plan="standard")
    old = made.pop("key")
    assert await answers(api, old) == 200
    change = {"name": "cd", "plan": None, "expires_at": None, "limits": []}
    changed = await api.done("PATCH", f"/keys/{made['id']}", change)
    assert changed == {**made, **change}
    rotated = await api.done("POST", "/keys/cd/rotate", {"overlap": "0"})
    assert await answers(api, rotated["key"]) == 200
    assert await answers(api, old) == 401
    found = await api.done("POST", "/keys/find", {"key": f"leaked: {old} {rotated['key']}"})
    assert [(f["status"], f["name"]) for f in found] == [("replaced", "cd"), ("active", "cd")]
    detail = await api.done("GET", f"/keys/{made['id']}")
    assert [s["ends_in"] for s in detail["secrets"]] == [rotated["key"][-4:]]
    for _ in range(2):
        revoked = await api.done("DELETE", f"/keys/{made['id']}")
        assert revoked["status"] == "revoked"
    assert await answers(api, rotated["key"]) == 401
    error = await api.refused(409, "PATCH", f"/keys/{made['id']}", {"status": "active"})
    assert "for good" in error["message"]
    await api.refused(409, "POST", f"/keys/{made['id']}/rotate")


async def test_a_rotation_has_a_grace_period(api: Api) -> None:
    """Without a body a rotation lets the old secret go on for a day."""
    await team(api)
    old = (await key(api))["key"]
    new = (await api.done("POST", "/keys/ci/rotate"))["key"]
    assert [await answers(api, secret) for secret in (old, new)] == [200, 200]
    detail = await api.done("GET", "/keys/ci")
    assert [s["expires_at"] is None for s in detail["secrets"]] == [True, False]


async def test_one_name_in_two_teams(api: Api) -> None:
    """A name that keys of two teams have needs the team."""
    await team(api)
    await team(api, "docs")
    await key(api)
    await api.done("POST", "/keys", {"team": "docs", "name": "ci"})
    assert (await api.refused(400, "GET", "/keys/ci"))["param"] == "team"
    assert (await api.done("GET", "/keys/ci?team=docs"))["team"] == "docs"
    assert (await api.done("DELETE", "/keys/ci?team=docs"))["status"] == "revoked"


async def test_who_is_first(api: Api) -> None:
    """Of several who make one team, or one key, at once, one does and the others are told."""
    for path, body in (("/teams", {"name": "vision"}), ("/keys", {"team": "vision", "name": "x"})):
        told = await at_once(*(api("POST", path, body) for _ in range(8)))
        assert sorted(status for status, _ in told) == [201] + [409] * 7
    lines = await api.done("GET", "/audit")
    assert [line["action"] for line in lines] == ["team.create", "key.create"]


async def test_deleted_while_a_key_is_made(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is given a key of a team that was deleted while it was made."""
    await team(api)
    add_key = Directory.add_key

    async def late(directory: Directory, record: KeyRecord) -> None:
        await directory.delete_team("vision")
        await add_key(directory, record)

    monkeypatch.setattr(Directory, "add_key", late)
    error = await api.refused(404, "POST", "/keys", {"team": "vision", "name": "ci"})
    assert "was deleted" in error["message"]


NEW: dict[str, Any] = {"name": "new"}
MANY = {f"l{n}": "x" for n in range(65)}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param", "said"),
    [
        ("POST", "/teams", {}, 400, "name", "required"),
        ("POST", "/teams", [], 400, None, "must be a JSON object"),
        ("POST", "/teams", {"name": "a b"}, 400, "name", "cannot be a team's name"),
        ("POST", "/teams", {"name": 7}, 400, "name", "must be text"),
        ("POST", "/teams", {"name": "vision"}, 409, "name", "choose another name"),
        ("POST", "/teams", {**NEW, "lmits": []}, 400, "lmits", "did you mean 'limits'?"),
        ("POST", "/teams", {**NEW, "plan": "standart"}, 400, "plan", "did you mean 'standard'?"),
        ("POST", "/teams", {**NEW, "limits": "5 usd"}, 400, "limits", "must be a list"),
        ("POST", "/teams", {**NEW, "limits": ["1 usd", "5 apples"]}, 400, "limits[1]", "'apples'"),
        ("POST", "/teams", {**NEW, "limits": ["5 images on x"]}, 400, "limits", "unknown model"),
        ("POST", "/teams", {**NEW, "labels": {"a b": "1"}}, 400, "labels.a b", "letters"),
        ("POST", "/teams", {**NEW, "labels": {"a": 1}}, 400, "labels.a", "must be text"),
        ("POST", "/teams", {**NEW, "labels": []}, 400, "labels", "must be an object"),
        ("POST", "/teams", b"{", 400, None, "not valid JSON"),
        ("POST", "/teams", b"[" * 100_000, 400, None, "must be a JSON object"),
        ("POST", "/teams", b'{"name": "x", "name": "y"}', 400, "name", "appears twice"),
        ("POST", "/teams", {"name": "x" * 257}, 400, "name", "at most 256 characters"),
        ("POST", "/teams", {**NEW, "labels": MANY}, 400, "labels", "at most 64 labels"),
        ("PATCH", "/teams/vision", {"labels": MANY}, 400, "labels", "at most 64 labels"),
        ("PATCH", "/teams/vision", {}, 400, None, "Say what to change"),
        ("PATCH", "/teams/vision", {"status": "deleted"}, 400, "status", "active or paused"),
        ("PATCH", "/teams/nobody", {"plan": "default"}, 404, "team", "no team 'nobody'"),
        ("POST", "/keys/ci/rotate", {"overlap": "366d"}, 400, "overlap", "longer than a year"),
        ("POST", "/teams/vision/grants", {"amount": "5 usd"}, 400, "amount", "its limits: 1,000"),
        ("POST", "/teams/vision/grants", {"amount": "5"}, 400, "amount", "is not a limit"),
        ("POST", "/teams/vision/grants", {"amount": "0 tokens"}, 400, "amount", "adds nothing"),
        (
            *("POST", "/teams/vision/grants", {"amount": f"{2**53 - 1} tokens"}),
            *(400, "amount", "too large"),
        ),
        (
            *("POST", "/teams/vision/grants"),
            *({"amount": "5k tokens", "until": "2020-01-01"}, 400, "until", "not in the future"),
        ),
        ("POST", "/keys", {"name": "x"}, 400, "team", "required"),
        ("POST", "/keys", {"name": "x", "team": "nobody"}, 404, "team", "no team 'nobody'"),
        ("POST", "/keys", {"name": "ci", "team": "vision"}, 409, "name", "has a key 'ci'"),
        ("POST", "/keys", {"name": ".", "team": "vision"}, 400, "name", "cannot be a key's name"),
        (
            *("POST", "/keys", {"name": "key_0123456789ab", "team": "vision"}),
            *(400, "name", "taken for a key's id"),
        ),
        (
            *("POST", "/keys", {"name": "x", "team": "vision", "expires_at": "soon"}),
            *(400, "expires_at", "2027-01-31"),
        ),
        ("PATCH", "/keys/ci", {"name": "other"}, 409, "name", "has a key 'other'"),
        ("PATCH", "/keys/ci", {"plan": "gold"}, 400, "plan", "unknown plan 'gold'"),
        ("PATCH", "/keys/none", {"plan": None}, 404, "key", "no key 'none'"),
        ("POST", "/keys/ci/rotate", {"overlap": "long"}, 400, "overlap", "a duration"),
        ("POST", "/keys/find", {}, 400, "key", "required"),
    ],
)
async def test_refusals(
    api: Api, method: str, path: str, body: Any, status: int, param: str | None, said: str
) -> None:
    """What cannot be done is refused by the name of the field, and nothing is changed."""
    await team(api)
    for name in ("ci", "other"):
        await key(api, name)
    before = await api.done("GET", "/export?format=json"), await api.done("GET", "/audit")
    error = await api.refused(status, method, path, body)
    assert error["param"] == param
    assert said in error["message"]
    assert before == (await api.done("GET", "/export?format=json"), await api.done("GET", "/audit"))


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"name: x", "application/yaml", 415),
        (b" " * (8 * 2**20 + 1), "application/json", 413),
    ],
)
async def test_bodies(api: Api, body: bytes, media: str, status: int) -> None:
    """A body is JSON, and of 8 MiB at most."""
    await api.refused(status, "POST", "/teams", body, media=media)


async def test_a_body_has_a_deadline(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is not there in time is not waited for, however steadily it comes."""
    monkeypatch.setattr("proxy.web.admin._DEADLINE", 0.05)
    answered = asyncio.Event()

    async def dribble() -> AsyncIterator[bytes]:
        while not answered.is_set():
            yield b" "
            await asyncio.sleep(0.005)  # slow, but never silent

    url = f"{api.gateway.admin}/admin/v1/teams"
    headers = {"Authorization": "Bearer an-admin-token", "Content-Type": "application/json"}
    async with api.gateway.session.post(url, data=dribble(), headers=headers) as answer:
        assert answer.status == 408
        answered.set()


async def test_a_grant(api: Api) -> None:
    """A grant adds to a limit until its end, and is told with the team and with its keys."""
    await team(api, limits=["50 usd/month"])
    secret = (await key(api))["key"]
    until = "2999-12-31T00:00:00Z"
    body = {"amount": "20 usd", "until": until}
    granted = await api.done("POST", "/teams/vision/grants", body)
    assert granted["grants"] == [f"20 usd/month until {until}"]
    for told in (granted, await api.done("GET", "/keys/ci?effective=true")):
        (usd,) = (x for x in told["effective"] if x["unit"] == "usd")
        assert (usd["limit"], usd["amount"], usd["granted"]) == ("50 usd/month", 70, 20)
    async with api.gateway.get("/v1/usage", secret) as answer:
        limits = (await answer.json())["team"]["limits"]
    assert [x["amount"] for x in limits if x["unit"] == "usd"] == [70]


async def test_who_did_it(api: Api) -> None:
    """A change leaves a line with the client, the name it gave itself, and what it changed."""
    await team(api, plan="standard")
    name = "  Ada\tL.\r  <script> " + "x" * 99
    cleaned = name.replace("\r", "")
    headers = {"x-visiongate-actor": cleaned}
    body = {"limits": ["5 usd/day"], "plan": "default"}
    await api.done("PATCH", "/teams/vision", body, headers=headers)
    line = (await api.done("GET", "/audit?team=vision&since=1h"))[-1]
    assert line["actor"] == ("admin-api 127.0.0.1 " + " ".join(["Ada L.", "script", "x" * 99]))[:84]
    assert (line["action"], line["team"], line["key"]) == ("team.change", "vision", None)
    assert line["before"] == {"plan": "standard", "limits": []}
    assert line["after"] == {"plan": "default", "limits": ["5 usd/day"]}
    assert await api.done("GET", "/audit?team=docs") == []
    assert await api.done("GET", "/audit?limit=1") == [line]
    logged = [entry for entry in api.gateway.log_lines() if entry.get("event") == "audit"]
    assert [entry["action"] for entry in logged] == ["team.create", "team.change"]
    assert logged[1]["actor"] == line["actor"]


async def test_no_secret_in_the_audit(api: Api) -> None:
    """Neither the audit nor the log has a secret, a hash of one, or the token."""
    await team(api)
    secrets = [(await key(api))["key"], (await api.done("POST", "/keys/ci/rotate"))["key"]]
    digests = [
        one["digest"]
        for record in (await api.done("GET", "/export?format=json"))["teams"][0]["keys"]
        for one in record["secrets"]
    ]
    assert len(digests) == 2
    lines = await api.done("GET", "/audit")
    assert [line["action"] for line in lines] == ["team.create", "key.create", "key.rotate"]
    told = json.dumps(lines) + api.gateway.log.getvalue()
    assert not [word for word in (*secrets, *digests, "an-admin-token") if word in told]


async def test_a_pause_holds_at_once(api: Api, upstream: ScriptedUpstream) -> None:
    """A paused team's next request is refused, a resumed one's goes up."""
    upstream.script(chat_stream(["Hi"]))
    await team(api)
    secret = (await key(api))["key"]
    for status, answered in (("paused", 403), ("active", 200)):
        await api.done("PATCH", "/teams/vision", {"status": status})
        async with api.gateway.post(secret) as answer:
            await answer.read()
            assert answer.status == answered
