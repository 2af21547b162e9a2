"""Records of teams and keys: one encoding, read back as they were."""

from __future__ import annotations

from proxy.domain.identity import (
    Grant,
    KeyRecord,
    Secret,
    TeamRecord,
    decode_key,
    decode_team,
    encode_record,
)
from proxy.domain.limits import parse_limit

LIMIT = parse_limit("50 usd/month", "gpt-4o")


def test_records_are_read_back() -> None:
    """A record decodes to what was encoded, limits, grants and secrets with it."""
    team = TeamRecord(
        name="vision",
        limits=(LIMIT,),
        grants=(Grant(LIMIT, 24323),),
        labels={"cost-center": "42"},
        created_at=1,
    )
    key = KeyRecord(
        id="k1",
        team="vision",
        name="ci",
        plan="small",
        limits=(LIMIT,),
        secrets=(Secret("aa", "wxyz", 5), Secret("bb", "abcd")),
        created_at=1,
        expires_at=9,
    )
    assert decode_team(encode_record(team)) == team
    assert decode_key(encode_record(key)) == key


def test_equal_records_are_equal_bytes() -> None:
    """The order in which labels were set does not show."""
    one = TeamRecord(name="a", labels={"x": "1", "b": "2"}, created_at=1)
    two = TeamRecord(name="a", labels={"b": "2", "x": "1"}, created_at=1)
    assert encode_record(one) == encode_record(two)


def test_fields_of_a_newer_release_are_skipped() -> None:
    """A record with a field that is not known here is read all the same."""
    blob = encode_record(TeamRecord(name="a", created_at=1))
    assert decode_team(blob[:-1] + b',"made_up":1}') == TeamRecord(name="a", created_at=1)


def test_what_is_left_out_has_its_default() -> None:
    """The least of a record is an active one without limits, on the default plan."""
    team = decode_team(b'{"name":"a","created_at":1}')
    assert (team.plan, team.status, team.limits, team.labels) == ("default", "active", (), {})
    key = decode_key(b'{"id":"k","team":"a","name":"ci","created_at":1}')
    assert (key.plan, key.status, key.expires_at) == (None, "active", None)
