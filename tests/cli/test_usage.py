"""`visiongate usage`, from rows as the ledger writes them."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.store.layout import rows_key, team_keys
from tests.cli.commands import Visiongate
from tests.store.scripts import Scripts, at, connect

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class Clock(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return NOW


@pytest.fixture(autouse=True)
def _frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.manage.values.datetime", Clock)


@pytest.fixture
def used(vg: Visiongate) -> Visiongate:
    """Two teams with rows in October and November; one row of `ci`'s is all zeros."""
    vg.done("team", "create", "vision", "--label", "cost-center=42")
    vg.done("team", "create", "docs")
    ci = vg.json("key", "create", "--team", "vision", "--name", "ci")["id"]
    web = vg.json("key", "create", "--team", "docs", "--name", "web")["id"]
    rows = {
        "vision": {
            f"2026-10-31|{ci}|gpt-4o|openai": "1 10 20 0 0 0 5000",
            f"2026-11-01|{ci}|gpt-4o|openai": "2 1000 200 100 850 2 4500000000",
            f"2026-11-13|{ci}|gpt-4o-mini|openai": "1 5000000 40 0 0 0 774000001",
            f"2026-11-14|{ci}|gpt-4o|azure": "0 0 0 0 0 0 0",
        },
        "docs": {f"2026-11-20|{web}|gpt-4o|azure": "3 30 60 0 0 0 675001"},
    }
    with vg.client() as client:
        for team, fields in rows.items():
            client.hset(rows_key(team), mapping=fields)
    return vg


def test_month_so_far(used: Visiongate) -> None:
    """Without a period it is this month, by team and model, with every figure of the contract."""
    rows = used.json("usage")
    assert rows == [
        {
            "team": "docs",
            "model": "gpt-4o",
            "label:cost-center": None,
            "requests": 3,
            "input_tokens": 30,
            "output_tokens": 60,
            "cached_tokens": 0,
            "image_tokens": 0,
            "usd": 0.000675001,
        },
        {
            "team": "vision",
            "model": "gpt-4o",
            "label:cost-center": "42",
            "requests": 2,
            "input_tokens": 1000,
            "output_tokens": 200,
            "cached_tokens": 100,
            "image_tokens": 850,
            "usd": 4.5,
        },
        {
            "team": "vision",
            "model": "gpt-4o-mini",
            "label:cost-center": "42",
            "requests": 1,
            "input_tokens": 5_000_000,
            "output_tokens": 40,
            "cached_tokens": 0,
            "image_tokens": 0,
            "usd": 0.774000001,
        },
    ]
    assert used.done("usage", "--format", "json").json == rows


def test_usd_is_exact(used: Visiongate) -> None:
    """JSON and CSV have every billionth, in plain digits."""
    assert '"usd": 0.774000001' in used.done("usage", "--json").out
    assert ",0.000675001\n" in used.done("usage", "--format", "csv").out
    with used.client() as client:
        client.hset(rows_key("vision"), "2026-11-02|key_x|gpt-4o|openai", "1 1 1 0 0 0 1")
    out = used.done("usage", "--format", "csv", "--key", "ci").out
    assert "E-" not in out
    out = used.done("usage", "--format", "csv", "--by", "day", "--until", "2026-11-02").out
    assert "2026-11-02,1,1,1,0,0,0.000000001\n" in out


def test_table(used: Visiongate) -> None:
    """A table has its numbers to the right with separators, a total, and the period below."""
    lines = used.done("usage").out.splitlines()
    assert lines[0].split() == [
        *("TEAM", "MODEL", "LABEL:COST-CENTER", "REQUESTS", "INPUT_TOKENS", "OUTPUT_TOKENS"),
        *("CACHED_TOKENS", "IMAGE_TOKENS", "USD"),
    ]
    assert lines[3].split() == [
        *("vision", "gpt-4o-mini", "42", "1", "5,000,000", "40", "0", "0", "0.7740"),
    ]
    assert lines[4].split() == ["total", "6", "5,001,030", "300", "100", "850", "5.2747"]
    assert len({len(line) for line in lines[:5]}) == 1
    assert lines[5] == "2026-11-01 to 2026-11-30, UTC"


def test_csv(used: Visiongate) -> None:
    """CSV has a column for each field, no total, and the same rows as JSON."""
    out = used.done("usage", "--format", "csv", "--by", "team,key").out
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["key"] for row in rows] == ["web", "ci"]
    assert [row["label:cost-center"] for row in rows] == ["", "42"]
    told = used.json("usage", "--by", "team,key")
    assert list(told[0]) == list(rows[0])
    assert [{name: "" if v is None else str(v) for name, v in row.items()} for row in told] == rows


@pytest.mark.parametrize(
    ("words", "days"),
    [
        ((), ["2026-11-01", "2026-11-13", "2026-11-20"]),
        (("--month", "2026-10"), ["2026-10-31"]),
        (("--month", "2026-11"), ["2026-11-01", "2026-11-13", "2026-11-20"]),
        (("--since", "7d"), ["2026-11-13", "2026-11-20"]),
        (("--since", "6d"), ["2026-11-20"]),
        (("--since", "2026-11-01", "--until", "2026-11-13"), ["2026-11-01", "2026-11-13"]),
        (("--until", "2026-11-01"), ["2026-10-31", "2026-11-01"]),
        (("--until", "7d"), ["2026-10-31", "2026-11-01", "2026-11-13"]),
    ],
)
def test_periods(used: Visiongate, words: tuple[str, ...], days: list[str]) -> None:
    """A period has its first and its last day in it."""
    assert [row["day"] for row in used.json("usage", "--by", "day", *words)] == days


@pytest.mark.parametrize(
    ("words", "requests"),
    [
        (("--team", "docs"), 3),
        (("--key", "ci"), 3),
        (("--key", "ci", "--team", "vision"), 3),
        (("--model", "gpt-4o"), 5),
        (("--model", "gpt-4o", "--team", "vision"), 2),
    ],
)
def test_filters(used: Visiongate, words: tuple[str, ...], requests: int) -> None:
    """Filters leave only what they name."""
    assert sum(row["requests"] for row in used.json("usage", *words)) == requests


def test_key_by_id(used: Visiongate) -> None:
    """A key's id finds its rows; grouped by key, JSON has its name and its id."""
    key_id = used.json("key", "show", "web")["id"]
    (row,) = used.json("usage", "--key", key_id, "--by", "key,provider")
    assert (row["key"], row["key_id"], row["provider"]) == ("web", key_id, "azure")


def test_those_who_are_gone(used: Visiongate) -> None:
    """A deleted team and its keys keep their usage under their names."""
    used.done("team", "delete", "vision", "--yes")
    assert {row["team"] for row in used.json("usage")} == {"docs", "vision"}
    rows = used.json("usage", "--team", "vision", "--key", "ci", "--by", "key")
    assert [(row["key"], row["requests"]) for row in rows] == [("ci", 3)]
    assert "cost-center" in used.done("usage", "--team", "vision").out.lower()


def test_order(used: Visiongate) -> None:
    """Rows are in the order of what they are grouped by, keys in that of their names."""
    ids = [f"key_{n}" for n in (3, 1, 2)]
    with used.client() as client:
        for name in ids:
            client.hset(rows_key("docs"), f"2026-11-02|{name}|gpt-4o|openai", "1 1 1 0 0 0 1")
    rows = used.json("usage", "--by", "key")
    assert [row["key"] for row in rows] == ["ci", "key_1", "key_2", "key_3", "web"]


def test_unknown_key_in_rows(used: Visiongate) -> None:
    """Rows of a key that is not in the store are shown under its id."""
    with used.client() as client:
        client.hset(rows_key("docs"), "2026-11-02|key_lost|gpt-4o|openai", "1 1 1 0 0 0 1")
    assert "key_lost" in [row["key"] for row in used.json("usage", "--by", "key")]


def test_nothing(used: Visiongate) -> None:
    """No usage is said in words on a table, and is empty in JSON and CSV."""
    period = ("--month", "2025-01")
    assert used.done("usage", *period).out == "no usage: 2025-01-01 to 2025-01-31, UTC\n"
    assert used.json("usage", *period) == []
    head = used.done("usage", *period, "--format", "csv").out
    assert head.startswith("team,model,requests,")
    assert head.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--by", "day,colour"), 2, "cannot group by 'colour'"),
        (("--by", ""), 2, "cannot group by ''"),
        (("--format", "xml"), 2, "invalid choice"),
        (("--month", "2026-13"), 2, "not in the calendar"),
        (("--month", "November"), 2, "write it as 2026-11"),
        (("--month", "2026-11", "--since", "7d"), 2, "a month is a period already"),
        (("--since", "yesterday"), 2, "neither a date nor a span"),
        (("--since", "99999999d"), 2, "too long ago"),
        (("--since", "2026-11-10", "--until", "2026-11-09"), 2, "is after"),
        (("--team", "visoin"), 1, "did you mean 'vision'?"),
        (("--key", "c1"), 1, "there is no key 'c1'"),
        (("--key", "web", "--team", "vision"), 1, "there is no key 'web'"),
        (("--model", "gpt-4"), 1, "did you mean 'gpt-4o'?"),
    ],
)
def test_refusals(used: Visiongate, words: tuple[str, ...], code: int, said: str) -> None:
    """What cannot be reported is said on standard error."""
    assert said in used.refused(code, "usage", *words)


def test_from_the_ledger(used: Visiongate) -> None:
    """What the ledger's own scripts settle is what is reported."""
    key_id = used.json("key", "show", "ci")["id"]
    now = at("2026-12-05T00:00:00")
    with connect(used.url) as client:
        team, key = client.hmget(team_keys("vision")[0], ["team", f"key:{key_id}"])
        ledger = Scripts(client, keys=())
        asked, charged = (1, 500, 100, 1, 2_250_000), (1, 400, 50, 1, 1_500_000)
        whose = {"key": key_id, "model": "gpt-4o", "provider": "openai"}
        assert ledger.reserve("one", asked, now=now, records=(team, key), **whose)[0] == "ok"
        ledger.settle("one", charged, now=now, provider="openai", cached=7, image=300)
    (row,) = used.json("usage", "--month", "2026-12", "--by", "day,team,key,model,provider")
    assert row == {
        "day": "2026-12-05",
        "team": "vision",
        "key": "ci",
        "model": "gpt-4o",
        "provider": "openai",
        "key_id": key_id,
        "label:cost-center": "42",
        "requests": 1,
        "input_tokens": 400,
        "output_tokens": 50,
        "cached_tokens": 7,
        "image_tokens": 300,
        "usd": 0.0015,
    }
