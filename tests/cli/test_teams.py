"""`visiongate team`, on a real store."""

from __future__ import annotations

import io

import pytest

from tests.cli.commands import Visiongate, write_config


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_create_and_list(vg: Visiongate) -> None:
    """A team is listed with the plan, limits and labels that it was made with."""
    vg.done("team", "create", "docs")
    made = vg.json(
        *("team", "create", "vision", "--plan", "standard"),
        *("--limit", "50 usd/month", "--limit", "100k tokens/day on gpt-4o"),
        *("--label", "cost-center=42", "--label", "owner=a=b"),
    )
    docs, vision = vg.json("team", "list")
    assert vision == made
    assert vision.pop("created_at").endswith("Z")
    assert vision == {
        "name": "vision",
        "plan": "standard",
        "status": "active",
        "limits": ["50 usd/month", "100,000 tokens/day on gpt-4o"],
        "grants": [],
        "labels": {"cost-center": "42", "owner": "a=b"},
    }
    assert (docs["plan"], docs["limits"], docs["labels"]) == ("default", [], {})


def test_list_as_text(vg: Visiongate) -> None:
    """In a pipe the list is plain columns under their names, as wide as they need to be."""
    label = "x" * 200
    vg.done("team", "create", "vision", "--limit", "1M tokens/day", "--label", f"note={label}")
    head, row = vg.done("team", "list").out.splitlines()
    assert head.split() == ["NAME", "PLAN", "STATUS", "LIMITS", "GRANTS", "LABELS", "CREATED_AT"]
    assert row.startswith("vision  default  active  1,000,000 tokens/day  -       note=xxx")
    assert label in row
    assert row.index("default") == head.index("PLAN")


def test_empty_list(vg: Visiongate) -> None:
    """An empty list says how to make a team; as JSON it is an empty list."""
    assert "visiongate team create" in vg.done("team", "list").out
    assert vg.json("team", "list") == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("create", "vision"), 1, "the team 'vision' exists"),
        (("create", "no spaces"), 1, "cannot be a team's name"),
        (("create", "x", "--limit", "1,0000 tokens"), 2, "is not a limit"),
        (("create", "x", "--plan", "standart"), 2, "did you mean 'standard'?"),
        (("create", "x", "--limit", "50 usd/mouth"), 2, "did you mean 'month'?"),
        (("create", "x", "--limit", "5 requests/day on gpt4o"), 2, "did you mean 'gpt-4o'?"),
        (("create", "x", "--limit", "5 requests/day on "), 2, "names no model"),
        (("create", "x", "--label", "cost"), 2, "write it as cost-center=42"),
        (("create", "x", "--label", "a=b\nc"), 2, "not one line"),
        (("create", "x", "--label", "a b=c"), 2, "cannot be a label's name"),
        (("show", "vison"), 1, "there is no team 'vison'; did you mean 'vision'?"),
        (("set", "vision"), 2, "say what to change"),
        (("set", "vision", "--plan", "gold"), 2, "unknown plan 'gold'"),
        (("set", "vision", "--remove-limit", "usd/month"), 2, "no limit of its own of usd/month"),
        (("set", "vision", "--remove-limit", "usd/never"), 2, "name the limit as"),
        (("set", "vision", "--remove-label", "owner"), 2, "no label 'owner'"),
        (("pause", "nobody"), 1, "there is no team 'nobody'"),
        (("delete", "nobody", "--yes"), 1, "there is no team 'nobody'"),
        (("grant", "vision", "1M tokens/month"), 2, "its limits: 60 requests/minute, 1,000,000"),
        (("grant", "vision", "10 requests/minute"), 2, "team set vision --limit"),
        (("grant", "vision", "10 concurrent"), 2, "team set vision --limit"),
    ],
)
def test_refusals(vg: Visiongate, words: tuple[str, ...], code: int, said: str) -> None:
    """What cannot be done is said on standard error, and nothing is changed."""
    vg.done("team", "create", "vision")
    before = vg.json("team", "list")
    told = vg.refused(code, "team", *words)
    assert told.startswith("visiongate: ")
    assert said in told
    assert vg.json("team", "list") == before


def test_usd_needs_prices(vg: Visiongate) -> None:
    """A usd limit is refused while a model of the configuration has no price."""
    write_config(vg.config, vg.url, priced=False)
    assert "'gpt-4o-mini' has no price" in vg.refused(
        2, "team", "create", "x", "--limit", "1 usd/day"
    )


def test_set(vg: Visiongate) -> None:
    """What is set replaces, what is removed goes, and what is not named stays."""
    vg.done(
        *("team", "create", "vision", "--limit", "50 usd/month", "--limit", "9 images/hour"),
        *("--label", "a=1", "--label", "b=2"),
    )
    team = vg.json(
        *("team", "set", "vision", "--limit", "80 usd/month", "--limit", "20 concurrent"),
        *("--remove-limit", "images/hour", "--remove-label", "a", "--label", "c=3"),
    )
    assert team["limits"] == ["80 usd/month", "20 concurrent"]
    assert team["labels"] == {"b": "2", "c": "3"}
    assert team["plan"] == "default"
    assert vg.json("team", "set", "vision", "--plan", "standard")["limits"] == team["limits"]


def test_limits_as_they_are_shown(vg: Visiongate) -> None:
    """A limit copied from a table, with its thousands separators, can be given again."""
    limit = "1,500,000 tokens/day on gpt-4o"
    assert vg.json("team", "create", "x", "--limit", limit)["limits"] == [limit]


def test_pause_and_resume(vg: Visiongate) -> None:
    """A paused team is active again once it is resumed; doing it twice changes nothing."""
    vg.done("team", "create", "vision")
    for word, status in (("pause", "paused"), ("pause", "paused"), ("resume", "active")):
        vg.done("team", word, "vision")
        assert vg.json("team", "show", "vision")["status"] == status


def test_show(vg: Visiongate) -> None:
    """A team is shown with every limit that binds it, where that is from, and its keys."""
    vg.done("team", "create", "vision", "--limit", "50 usd/month", "--limit", "2M tokens/day")
    vg.secret("vision", "ci")
    team = vg.json("team", "show", "vision")
    assert [(x["limit"], x["from"], x["amount"]) for x in team["effective"]] == [
        ("60 requests/minute", "plan 'default'", 60),
        ("2,000,000 tokens/day", "--limit", 2_000_000),
        ("50 usd/month", "--limit", 50),
    ]
    assert [key["name"] for key in team["keys"]] == ["ci"]
    text = vg.done("team", "show", "vision").out
    assert "50 usd/month" in text
    assert "ci" in text


def test_grant(vg: Visiongate) -> None:
    """A grant adds to what is left in this window, and to the limit itself not at all."""
    vg.done("team", "create", "vision", "--limit", "1M tokens/month")
    vg.done("team", "grant", "vision", "500k tokens/month")
    granted = vg.json("team", "grant", "vision", "250k tokens/month")
    month = next(x for x in granted["effective"] if x["window"] == "month")
    assert (month["amount"], month["remaining"]) == (1_750_000, 1_750_000)
    assert granted["limits"] == ["1,000,000 tokens/month"]


def test_grant_to_a_limit_of_the_plan(vg: Visiongate) -> None:
    """A grant may add to a limit that the team has from its plan."""
    vg.done("team", "create", "vision")
    assert "until" in vg.done("team", "grant", "vision", "1M tokens/day").out
    day = next(x for x in vg.json("team", "show", "vision")["effective"] if x["window"] == "day")
    assert day["amount"] == 2_000_000


@pytest.mark.parametrize(
    ("limits", "amount", "granted"),
    [
        (("50 usd/month",), "20 usd", "20 usd/month"),
        (("50 usd/month", "9 usd"), "20 usd", "20 usd"),
        (("50 usd/month", "5 usd/day"), "20 usd/day", "20 usd/day"),
        (("50 usd/month", "9 usd/day on gpt-4o"), "2 usd on gpt-4o", "2 usd/day on gpt-4o"),
    ],
)
def test_grant_until(vg: Visiongate, limits: tuple[str, ...], amount: str, granted: str) -> None:
    """An amount without a window adds to the only limit of its unit, until the day that is named;
    the team, its keys and an export tell of it.
    """
    words = [word for limit in limits for word in ("--limit", limit)]
    vg.done("team", "create", "vision", *words)
    vg.secret("vision", "ci")
    told = f"{granted} until 2999-12-31T00:00:00Z"
    assert told in vg.done("team", "grant", "vision", amount, "--until", "2999-12-31").out
    assert vg.json("team", "show", "vision")["grants"] == [told]
    assert told in vg.done("team", "list").out
    shown = vg.json("key", "show", "ci", "--effective")["effective"]
    assert [x["limit"] for x in shown if x["granted"]] == [
        limit for limit in limits if limit.partition(" ")[2] == granted.partition(" ")[2]
    ]
    assert "until: '2999-12-31T00:00:00Z'" in vg.done("export").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("20 usd",), "say '20 usd/month' or '20 usd/day'"),
        (("20 usd", "--until", "2020-01-01"), "not in the future"),
        (("20 usd", "--until", "later"), "2027-01-31 or 90d"),
        (("1M tokens",), "its limits: 60 requests/minute"),
        (("9 images/hour", "--until", "30d"), "ends with the hour"),
    ],
)
def test_grants_that_cannot_be(vg: Visiongate, words: tuple[str, ...], said: str) -> None:
    """What cannot be granted, or not so long, is refused and says what would do."""
    limits = ("--limit", "50 usd/month", "--limit", "5 usd/day", "--limit", "9 images/hour")
    vg.done("team", "create", "vision", "--plan", "standard", *limits)
    vg.config.write_text(vg.config.read_text().replace("5M tokens/day", "60 requests/minute"))
    assert said in vg.refused(2, "team", "grant", "vision", *words)
    assert vg.json("team", "show", "vision")["grants"] == []


def test_plan_that_is_gone(vg: Visiongate) -> None:
    """A team whose plan the configuration no longer has is named together with the plan."""
    vg.done("team", "create", "vision", "--plan", "standard")
    vg.config.write_text(vg.config.read_text().replace("standard:", "other:"))
    assert "the team 'vision' has the unknown plan 'standard'" in vg.refused(
        2, "team", "show", "vision"
    )


def test_delete(vg: Visiongate) -> None:
    """A deleted team is not listed, its keys are revoked, and its name stays taken."""
    vg.done("team", "create", "vision")
    secret = vg.secret("vision", "ci")
    assert vg.json("team", "delete", "vision", "--yes")["status"] == "deleted"
    assert vg.json("team", "list") == []
    assert vg.json("key", "list") == []
    assert vg.json("key", "find", secret)[0]["status"] == "revoked"
    assert "was deleted" in vg.refused(1, "team", "create", "vision")
    assert "was deleted" in vg.refused(1, "team", "show", "vision")


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_delete_asks(
    vg: Visiongate, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    """On a terminal deleting asks first, and only a yes deletes."""
    vg.done("team", "create", "vision")
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    result = vg("team", "delete", "vision")
    assert result.code == code
    assert "[y/N]" in result.err
    assert len(vg.json("team", "list")) == code


def test_delete_in_a_script(vg: Visiongate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can be asked, deleting needs --yes."""
    vg.done("team", "create", "vision")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert "add --yes" in vg.refused(2, "team", "delete", "vision")
    assert len(vg.json("team", "list")) == 1
