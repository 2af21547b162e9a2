"""`visiongate key`, on a real store."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from proxy.domain.keys import find_keys, is_well_formed
from proxy.store.client import Store
from proxy.store.directory import Directory, DirectoryError, NewKey
from tests.cli.commands import PEPPER, Visiongate


@pytest.fixture
def team(vg: Visiongate) -> str:
    vg.done("team", "create", "vision", "--limit", "50 usd/month")
    return "vision"


def parse(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_create_as_json(vg: Visiongate, team: str) -> None:
    """A new key has the fields of the contract, with its secret under `key`."""
    made = vg.json(
        *("key", "create", "--team", team, "--name", "ci", "--plan", "standard"),
        *("--limit", "1M tokens/day", "--expires", "2999-01-31"),
    )
    assert is_well_formed(made["key"])
    assert made["id"].startswith("key_")
    assert {name: made[name] for name in ("team", "name", "plan", "limits", "expires_at")} == {
        "team": "vision",
        "name": "ci",
        "plan": "standard",
        "limits": ["1,000,000 tokens/day"],
        "expires_at": "2999-01-31T00:00:00Z",
    }


def test_create_for_a_person(vg: Visiongate, team: str) -> None:
    """The secret stands alone on standard output, once; how to use it is told beside it."""
    made = vg.done("key", "create", "--team", team, "--name", "ci")
    assert is_well_formed(made.out.strip())
    assert find_keys(made.err) == []
    assert "OPENAI_API_KEY" in made.err


def test_secret_is_nowhere_else(vg: Visiongate, team: str) -> None:
    """No other command, and nothing in the store, has the secret."""
    secret = vg.secret(team, "ci")
    for words in (("key", "list"), ("key", "show", "ci"), ("export",), ("key", "find", secret)):
        result = vg.done(*words)
        assert secret not in result.out + result.err
    with vg.client() as client:
        names = client.keys()
        hashes = [client.hgetall(name) for name in names if client.type(name) == "hash"]
    assert len(hashes) == 1
    assert secret[3:] not in f"{names} {hashes}"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("create", "--team", "vision", "--name", "ci"), 1, "has a key 'ci'"),
        (("create", "--team", "vison", "--name", "x"), 1, "there is no team 'vison'"),
        (("create", "--team", "vision", "--name", "-x"), 2, "expected one argument"),
        (("create", "--team", "vision", "--name", "a b"), 1, "cannot be a key's name"),
        (("create", "--team", "vision"), 2, "--name"),
        (("create", "--team", "vision", "--name", "x", "--expires", "soon"), 2, "2027-01-31"),
        (("create", "--team", "vision", "--name", "x", "--expires", "2020-01-01"), 2, "future"),
        (("create", "--team", "vision", "--name", "x", "--expires", "2027-02-30"), 2, "calendar"),
        (("create", "--team", "vision", "--name", "x", "--expires", "9999999d"), 2, "never"),
        (("create", "--team", "vision", "--name", "x", "--plan", "defualt"), 2, "'default'"),
        (("create", "--team", "vision", "--name", "x", "--limit", "5 apples"), 2, "unknown unit"),
        (("show", "nope"), 1, "there is no key 'nope'"),
        (("show", "ci", "--team", "nope"), 1, "there is no team 'nope'"),
        (("list", "--team", "nope"), 1, "there is no team 'nope'"),
        (("set", "ci"), 2, "say what to change"),
        (("set", "ci", "--plan", "default", "--remove-plan"), 2, "contradict"),
        (("set", "ci", "--pause", "--resume"), 2, "not allowed with"),
        (("set", "ci", "--name", "other"), 1, "has a key 'other'"),
        (("set", "ci", "--name", "a b"), 1, "cannot be a key's name"),
        (("set", "ci", "--remove-limit", "tokens/day"), 2, "its own: none"),
        (("rotate", "ci", "--overlap", "long"), 2, "not a duration"),
        (("rotate", "ci", "--overlap", "366d"), 2, "longer than a year"),
        (("rotate", "ci", "--overlap", "999999999999d"), 2, "longer than a year"),
        (("list", "--team", ""), 2, "'team' is empty"),
        (("revoke", "ci", "--team", ""), 2, "'team' is empty"),
        (("find", "x", "--stdin"), 2, "not both"),
    ],
)
def test_refusals(vg: Visiongate, team: str, words: tuple[str, ...], code: int, said: str) -> None:
    """What cannot be done is said on standard error, and nothing is changed."""
    vg.secret(team, "ci")
    vg.secret(team, "other")
    before = vg.json("key", "list")
    told = vg.refused(code, "key", *words)
    assert told.startswith("visiongate: ")
    assert said in told
    assert vg.json("key", "list") == before


def test_expires_in_a_span(vg: Visiongate, team: str) -> None:
    """`--expires 90d` is 90 days from now, `never` is no end at all."""
    made = vg.json("key", "create", "--team", team, "--name", "ci", "--expires", "90d")
    left = parse(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < left <= timedelta(days=90)
    assert vg.json("key", "set", "ci", "--expires", "never")["expires_at"] is None


def test_list(vg: Visiongate, team: str) -> None:
    """Keys are listed by team and name, all of them or one team's."""
    vg.done("team", "create", "docs")
    for of, name in (("vision", "b"), ("docs", "z"), ("vision", "a")):
        vg.secret(of, name)
    listed = [(key["team"], key["name"]) for key in vg.json("key", "list")]
    assert listed == [("docs", "z"), ("vision", "a"), ("vision", "b")]
    assert [key["name"] for key in vg.json("key", "list", "--team", "docs")] == ["z"]
    assert [line[2] for line in vg.done("key", "list", "--team", team).lines] == ["NAME", "a", "b"]


def test_empty_list(vg: Visiongate, team: str) -> None:
    """An empty list says how to make a key."""
    assert "visiongate key create" in vg.done("key", "list").out
    assert vg.json("key", "list", "--team", team) == []


def test_name_in_two_teams(vg: Visiongate, team: str) -> None:
    """A name that two teams' keys have needs --team."""
    vg.done("team", "create", "docs")
    vg.secret("docs", "ci")
    vg.secret(team, "ci")
    assert "(docs, vision); name the team" in vg.refused(1, "key", "show", "ci")
    assert vg.json("key", "show", "ci", "--team", "docs")["team"] == "docs"


def test_show_effective(vg: Visiongate, team: str) -> None:
    """Every limit that binds a key is shown with whose it is and where it comes from."""
    vg.secret(team, "ci", "--plan", "standard", "--limit", "9 images/hour")
    shown = vg.json("key", "show", "ci", "--effective")
    assert [(x["limit"], x["of"], x["from"]) for x in shown["effective"]] == [
        ("5,000,000 tokens/day", "key 'ci'", "plan 'standard'"),
        ("9 images/hour", "key 'ci'", "--limit"),
        ("60 requests/minute", "team 'vision'", "plan 'default'"),
        ("1,000,000 tokens/day", "team 'vision'", "plan 'default'"),
        ("50 usd/month", "team 'vision'", "--limit"),
    ]
    assert "effective" not in vg.json("key", "show", "ci")
    assert "plan 'standard'" in vg.done("key", "show", "ci", "--effective").out


def test_show(vg: Visiongate, team: str) -> None:
    """A key is shown with the ends of its secrets, in text and in JSON."""
    secret = vg.secret(team, "ci")
    assert vg.json("key", "show", "ci")["secrets"] == [{"ends_in": secret[-4:], "expires_at": None}]
    assert f"vg_…{secret[-4:]}" in vg.done("key", "show", "ci").out


def test_set(vg: Visiongate, team: str) -> None:
    """What is set replaces, what is removed goes, and what is not named stays."""
    vg.secret(team, "ci", "--plan", "standard", "--limit", "1M tokens/day", "--expires", "90d")
    words = ("--name", "cd", "--limit", "5 images/day", "--remove-limit", "tokens/day", "--pause")
    key = vg.json("key", "set", "ci", *words)
    assert (key["name"], key["plan"], key["limits"], key["status"]) == (
        "cd",
        "standard",
        ["5 images/day"],
        "paused",
    )
    assert key["expires_at"] is not None
    key = vg.json("key", "set", "cd", "--remove-plan", "--resume")
    assert (key["plan"], key["status"], key["limits"]) == (None, "active", ["5 images/day"])


def test_expired_key(vg: Visiongate, team: str) -> None:
    """A key past its end is shown as expired."""
    secret = vg.secret(team, "ci")
    past = int(time.time()) - 10

    async def end() -> None:
        store = Store.open(vg.url)
        directory = Directory(store, [PEPPER])
        key = await directory.key("ci")
        await directory.change_key(key.team, key.id, lambda k: replace(k, expires_at=past))
        await store.close()

    asyncio.run(end())
    assert vg.json("key", "show", "ci")["status"] == "expired"
    assert vg.json("key", "find", secret)[0]["status"] == "expired"


def test_rotate(vg: Visiongate, team: str) -> None:
    """A rotated key has a new secret; the old one is live until the overlap ends."""
    old = vg.secret(team, "ci")
    new = vg.json("key", "rotate", "ci")["key"]
    assert new != old
    found = {key["key"]: key["status"] for key in vg.json("key", "find", f"{old} {new}")}
    assert set(found.values()) == {"active"}
    ends = vg.json("key", "show", "ci")["secrets"][1]["expires_at"]
    assert f" until {ends}" in vg.done("key", "show", "ci").out
    left = parse(ends) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(hours=24)


def test_rotate_at_once(vg: Visiongate, team: str) -> None:
    """With an overlap of 0 the old secret has stopped."""
    old = vg.secret(team, "ci")
    result = vg.done("key", "rotate", "ci", "--overlap", "0")
    assert "has stopped" in result.err
    found = vg.json("key", "find", f"{old} {result.out}")
    assert [key["status"] for key in found] == ["replaced", "active"]
    assert [key["live"] for key in found] == [False, True]


def test_rotate_often(vg: Visiongate, team: str) -> None:
    """A key has ten secrets that work at most; who rotates on is told how to end them."""
    vg.secret(team, "ci")
    for _ in range(9):
        vg.done("key", "rotate", "ci")
    assert "overlap of 0" in vg.refused(1, "key", "rotate", "ci")
    assert len(vg.json("key", "show", "ci")["secrets"]) == 10
    vg.done("key", "rotate", "ci", "--overlap", "0")
    assert len(vg.json("key", "show", "ci")["secrets"]) == 1


def test_rotate_what_does_not_work(vg: Visiongate, team: str) -> None:
    """Who gives a paused key a new secret is told that the key is paused."""
    vg.secret(team, "ci")
    assert "The key is" not in vg.done("key", "rotate", "ci").err
    vg.done("key", "set", "ci", "--pause")
    assert "The key is paused" in vg.done("key", "rotate", "ci").err


def test_revoke(vg: Visiongate, team: str) -> None:
    """A revoked key is revoked for good, goes by its id, and its name is free again."""
    key_id = vg.json("key", "create", "--team", team, "--name", "ci")["id"]
    assert vg.json("key", "revoke", "ci")["status"] == "revoked"
    assert "goes by its id" in vg.refused(1, "key", "show", "ci")
    assert vg.json("key", "show", key_id)["status"] == "revoked"
    assert "for good" in vg.refused(1, "key", "set", key_id, "--resume")
    assert "was revoked" in vg.refused(1, "key", "rotate", key_id)
    vg.done("key", "revoke", key_id)
    vg.secret(team, "ci")


def test_creates_at_once(vg: Visiongate, team: str) -> None:
    """Of many who make a key of one name at once exactly one does; other names are not kept."""

    async def race() -> list[NewKey | BaseException]:
        stores = [Store.open(vg.url) for _ in range(8)]
        directories = [Directory(store, [PEPPER]) for store in stores]
        names = ["same"] * 8 + [f"own-{n}" for n in range(24)]
        try:
            return await asyncio.gather(
                *(directories[n % 8].create_key(team, name) for n, name in enumerate(names)),
                return_exceptions=True,
            )
        finally:
            for store in stores:
                await store.close()

    made = asyncio.run(race())
    assert sum(isinstance(result, NewKey) for result in made[:8]) == 1
    refused = [result for result in made[:8] if not isinstance(result, NewKey)]
    assert all(isinstance(result, DirectoryError) for result in refused)
    assert all(isinstance(result, NewKey) for result in made[8:])
    names = [key["name"] for key in vg.json("key", "list")]
    assert sorted(names) == sorted(["same", *(f"own-{n}" for n in range(24))])


def test_renames_at_once(vg: Visiongate, team: str) -> None:
    """Of many keys that are given one name at once exactly one gets it."""
    for n in range(6):
        vg.secret(team, f"k{n}")

    async def race() -> list[object]:
        store = Store.open(vg.url)
        directory = Directory(store, [PEPPER])
        keys = await directory.keys(team)
        try:
            return await asyncio.gather(
                *(
                    directory.change_key(team, key.id, lambda k: replace(k, name="same"))
                    for key in keys
                ),
                return_exceptions=True,
            )
        finally:
            await store.close()

    done = asyncio.run(race())
    assert sum(isinstance(result, DirectoryError) for result in done) == 5
    assert [key["name"] for key in vg.json("key", "list")].count("same") == 1
