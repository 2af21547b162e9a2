"""What a key may do: its own rules and its team's, whichever is narrower."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.access import Access, Plan, check_standing, open_access
from proxy.domain.errors import Forbidden, Unauthorized
from proxy.domain.estimate import OutputCap
from proxy.domain.identity import Grant, KeyRecord, Secret, TeamRecord, encode_record
from proxy.domain.limits import Limit, parse_limit
from proxy.images.policy import ImagePolicy
from proxy.images.urls import UrlRules

IMAGES = ImagePolicy(
    mode="url",
    urls=UrlRules(schemes=frozenset(("https",)), ports=frozenset((443,))),
    formats=frozenset(("png",)),
    max_count=10,
    max_bytes=1000,
    max_pixels=1000,
    max_side=100,
    max_frames=1,
)
STANDARD = Plan(
    name="default",
    models=frozenset("*"),
    output=OutputCap(),
    limits=(),
    require_stream=False,
    allow_parameters=frozenset(),
    enforce=True,
    images=IMAGES,
)


def limits(*texts: str, model: str = "*") -> tuple[Limit, ...]:
    return tuple(parse_limit(text, model) for text in texts)


def access(
    team: dict[str, Any] | None = None, key: dict[str, Any] | None = None, **plans: Plan
) -> Access:
    """The access of a key of the team vision, with these changes to the records."""
    team_record = TeamRecord(**{"name": "vision", "created_at": 1, **(team or {})})
    secrets = (Secret("old", "old1", expires_at=500), Secret("new", "new1"))
    given = {"id": "k1", "team": "vision", "name": "ci", "secrets": secrets, "created_at": 1}
    key_record = KeyRecord(**{**given, **(key or {})})
    blobs = encode_record(team_record), encode_record(key_record)
    return open_access("new", *blobs, {"default": STANDARD, **plans})


def bounds(found: Access, model: str = "m") -> list[tuple[str, str]]:
    return [(bound.scope, str(bound.limit)) for bound in found.binding(model)]


def test_the_default_plan() -> None:
    """A team without a plan has the plan named default, and its key no other."""
    found = access()
    assert found.models == frozenset("*")
    assert found.caps == (OutputCap(),)
    assert found.images == (IMAGES,)
    assert (found.require_stream, found.enforce) == (False, True)
    assert found.bounds == ()


@pytest.mark.parametrize(
    ("team", "key", "both"),
    [
        ({"*"}, {"*"}, {"*"}),
        ({"a", "b"}, {"*"}, {"a", "b"}),
        ({"*"}, {"a"}, {"a"}),
        ({"a", "b"}, {"b", "c"}, {"b"}),
        ({"a"}, {"b"}, set()),
        ({"a", "*"}, {"b"}, {"b"}),
    ],
)
def test_models_narrow(team: set[str], key: set[str], both: set[str]) -> None:
    """A key may use the models that both its plan and its team's allow."""
    plans = {
        "wide": replace(STANDARD, models=frozenset(team)),
        "narrow": replace(STANDARD, models=frozenset(key)),
    }
    assert access({"plan": "wide"}, {"plan": "narrow"}, **plans).models == both


@pytest.mark.parametrize("mine", [True, False])
@pytest.mark.parametrize("teams", [True, False])
def test_switches_narrow(teams: bool, mine: bool) -> None:
    """Streams are required, and limits enforced, where either plan says so; neither undoes it."""
    plans = {
        "t": replace(STANDARD, require_stream=teams, enforce=teams),
        "k": replace(STANDARD, require_stream=mine, enforce=mine),
    }
    found = access({"plan": "t"}, {"plan": "k"}, **plans)
    assert found.require_stream is (teams or mine)
    assert found.enforce is (teams or mine)


@pytest.mark.parametrize("mine", [True, False])
@pytest.mark.parametrize("teams", [True, False])
def test_a_short_budget_and_a_client_that_leaves(teams: bool, mine: bool) -> None:
    """A request shrinks where both plans say so, and is read to its end where either does."""

    def plan(yes: bool) -> Plan:
        low, gone = ("shrink", "drain") if yes else ("reject", "cancel")
        return replace(STANDARD, low_budget=low, on_client_gone=gone)

    found = access({"plan": "t"}, {"plan": "k"}, t=plan(teams), k=plan(mine))
    assert found.shrink is (teams and mine)
    assert found.drain is (teams or mine)
    assert access({"plan": "t"}, t=plan(teams)).shrink is teams


def test_parameters_narrow() -> None:
    """A parameter is allowed where every plan allows it."""
    plans = {
        "t": replace(STANDARD, allow_parameters=frozenset(("store", "audio"))),
        "k": replace(STANDARD, allow_parameters=frozenset(("audio", "file"))),
    }
    assert access({"plan": "t"}, {"plan": "k"}, **plans).allow_parameters == {"audio"}
    assert access({"plan": "t"}, {}, **plans).allow_parameters == {"store", "audio"}
    assert access({}, {"plan": "k"}, **plans).allow_parameters == set()


def test_caps_and_images_are_kept_of_both() -> None:
    """Rules that do not merge are kept, all of them."""
    small = replace(STANDARD, output=OutputCap(cap=5), images=replace(IMAGES, max_count=1))
    found = access({}, {"plan": "small"}, small=small)
    assert found.caps == (OutputCap(), OutputCap(cap=5))
    assert [policy.max_count for policy in found.images] == [10, 1]


def test_a_plans_limits_bind_whom_it_is_given_to() -> None:
    """A team's plan limits the team, a key's plan the key; their own limits replace or add."""
    plans = {
        "t": replace(STANDARD, limits=limits("100 tokens/day", "9 usd/month")),
        "k": replace(STANDARD, limits=limits("10 tokens/day", "5 requests/minute")),
    }
    found = access(
        {"plan": "t", "limits": limits("200 tokens/day", "2 concurrent")},
        {"plan": "k", "limits": limits("20 tokens/day")},
        **plans,
    )
    assert bounds(found) == [
        ("key:k1", "20 tokens/day"),
        ("key:k1", "5 requests/minute"),
        ("team", "200 tokens/day"),
        ("team", "9 usd/month"),
        ("team", "2 concurrent"),
    ]
    assert {bound.owner for bound in found.bounds} == {"key 'ci'", "team 'vision'"}


def test_a_keys_plan_does_not_lift_the_teams_limits() -> None:
    """A plan given to the key leaves the limits of the team's plan in force."""
    plans = {"t": replace(STANDARD, limits=limits("100 tokens/day")), "k": STANDARD}
    assert bounds(access({"plan": "t"}, {"plan": "k"}, **plans)) == [("team", "100 tokens/day")]
    assert bounds(access({}, {"plan": "t"}, **plans)) == [("key:k1", "100 tokens/day")]


def test_limits_of_a_model_bind_that_model() -> None:
    """A request is bound by the limits of all models and of its own."""
    own = limits("5 tokens/day") + limits("3 tokens/day", model="a")
    found = access({"limits": own})
    assert bounds(found, "a") == [("team", "5 tokens/day"), ("team", "3 tokens/day on a")]
    assert bounds(found, "b") == [("team", "5 tokens/day")]
    assert bounds(found, "b") == bounds(found, "c")


def test_grants_add_to_their_limit() -> None:
    """The grants of the latest window add up, for the limit of their slot alone."""
    day, hour = limits("100 tokens/day", "50 tokens/hour")
    more, less = limits("7 tokens/day", "9 tokens/day")
    grants = (Grant(more, 20000), Grant(less, 20001), Grant(more, 20001), Grant(hour, 4))
    found = access({"limits": (day,), "grants": grants}, {"limits": (day, hour)})
    granted = {(b.scope, b.limit.window): (b.grant, b.stamp) for b in found.bounds}
    assert granted == {
        ("key:k1", "day"): (0, -1),
        ("key:k1", "hour"): (0, -1),
        ("team", "day"): (16, 20001),
    }


@pytest.mark.parametrize(
    ("team", "key", "whose"),
    [({"plan": "gone"}, {}, "team 'vision'"), ({}, {"plan": "gone"}, "key 'ci'")],
)
def test_an_unknown_plan(team: dict[str, Any], key: dict[str, Any], whose: str) -> None:
    """A plan that the config does not have lets nothing through, and is named."""
    with pytest.raises(Forbidden) as caught:
        access(team, key)
    assert caught.value.message == (
        f"The plan 'gone' of the {whose} is not in this gateway's config. Ask your platform team."
    )


def test_records_are_kept_as_they_were_read() -> None:
    """The bytes of the records are at hand for the ledger to compare."""
    found = access()
    assert found.team_blob == encode_record(found.team)
    assert found.key_blob == encode_record(found.key)


@pytest.mark.parametrize(
    ("team", "key", "error", "word"),
    [
        ({}, {"status": "revoked"}, Unauthorized, "revoked"),
        ({"status": "deleted"}, {}, Unauthorized, "revoked"),
        ({}, {"secrets": ()}, Unauthorized, "revoked"),
        ({}, {"secrets": (Secret("other", "x"),)}, Unauthorized, "revoked"),
        ({}, {"expires_at": 1000}, Unauthorized, "expired"),
        ({}, {"secrets": (Secret("new", "x", expires_at=1000),)}, Unauthorized, "expired"),
        ({"status": "paused"}, {}, Forbidden, "team 'vision' is paused"),
        ({}, {"status": "paused"}, Forbidden, "key 'ci' is paused"),
        ({"status": "paused"}, {"status": "revoked"}, Unauthorized, "revoked"),
    ],
)
def test_a_key_without_standing(
    team: dict[str, Any], key: dict[str, Any], error: type[Exception], word: str
) -> None:
    """A key that is revoked, expired or paused, or whose team is, is refused and told why."""
    found = access(team, key)
    with pytest.raises(error, match=word):
        check_standing(found, 1000)


def test_expiry_is_exact() -> None:
    """A key is good until its second comes, and not from then on."""
    found = access({}, {"expires_at": 1000, "secrets": (Secret("new", "x", expires_at=900),)})
    check_standing(found, 899.999)
    with pytest.raises(Unauthorized, match="expired"):
        check_standing(found, 900)


def test_a_rotated_secret_has_its_own_end() -> None:
    """While a key has two secrets, each is good for its own time."""
    found = access()
    check_standing(found, 10_000)
    old = replace(found, digest="old")
    check_standing(old, 499)
    with pytest.raises(Unauthorized, match="expired"):
        check_standing(old, 500)
