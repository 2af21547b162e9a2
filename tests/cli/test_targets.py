"""`visiongate target`."""

from __future__ import annotations

import pytest

from tests.cli.commands import Visiongate

CONFIG = """\
server: {{host: 127.0.0.1, port: 0}}
admin: {{port: 0}}
store: {{url: "{url}"}}
keys: {{pepper: a pepper of the tests}}
providers:
  one: {{base_url: https://one.example.com/v1, api_key: sk-test}}
  two: {{base_url: https://two.example.com/v1, api_key: sk-test}}
models:
  gpt-4o:
    aliases: [fast]
    targets:
      - {{provider: one}}
      - {{provider: two, model: gpt-4o-eu, weight: 2.5, priority: 2}}
  gpt-4.1: {{targets: [{{provider: one}}]}}
"""
STATES = [("gpt-4o", "one"), ("gpt-4o", "two"), ("gpt-4.1", "one")]


@pytest.fixture
def vg(vg: Visiongate) -> Visiongate:
    """With two providers, one of which serves both models."""
    vg.config.write_text(CONFIG.format(url=vg.url))
    return vg


def off(vg: Visiongate) -> list[tuple[str, str]]:
    rows = vg.json("target", "list")
    assert [(row["model"], row["provider"]) for row in rows] == STATES
    return [(row["model"], row["provider"]) for row in rows if row["status"] == "disabled"]


def test_list(vg: Visiongate) -> None:
    """Every target has a row, with its name there, its priority and its weight."""
    assert vg.json("target", "list")[1] == {
        "model": "gpt-4o",
        "provider": "two",
        "upstream_model": "gpt-4o-eu",
        "priority": 2,
        "weight": 2.5,
        "status": "active",
        "since": None,
        "until": None,
        "by": None,
        "reason": None,
    }
    head, _, second, _ = vg.done("target", "list").lines
    assert head[:6] == ["MODEL", "PROVIDER", "UPSTREAM_MODEL", "PRIORITY", "WEIGHT", "STATUS"]
    assert second[:6] == ["gpt-4o", "two", "gpt-4o-eu", "2", "2.5", "active"]


def test_one_target(vg: Visiongate, monkeypatch: pytest.MonkeyPatch) -> None:
    """One target of a model goes out for a time, with who did it and why, and comes back."""
    monkeypatch.setenv("VISIONGATE_ACTOR", "ops")
    asked = ("target", "disable", "one", "--model", "fast", "--for", "2h", "--reason", "slow")
    (row,) = vg.json(*asked)
    assert (row["model"], row["provider"], row["status"]) == ("gpt-4o", "one", "disabled")
    assert (row["by"], row["reason"]) == ("ops", "slow")
    assert row["until"] > row["since"]
    assert off(vg) == [("gpt-4o", "one")]
    assert vg.done("target", "enable", "one", "--model", "gpt-4o").err == ""
    assert off(vg) == []
    assert [line["action"] for line in vg.json("audit")] == ["target.disable", "target.enable"]


def test_a_whole_provider(vg: Visiongate) -> None:
    """A provider goes out with all its targets, and comes back with those that were out alone."""
    vg.done("target", "disable", "one", "--model", "gpt-4.1", "--for", "1h")
    vg.done("target", "disable", "one")
    assert off(vg) == [("gpt-4o", "one"), ("gpt-4.1", "one")]
    vg.done("target", "enable", "one")
    assert off(vg) == []


def test_a_part_of_a_provider_that_is_off(vg: Visiongate) -> None:
    """One target of a provider that is off cannot be on, and its own switch alone does not do."""
    vg.done("target", "disable", "one")
    told = vg.refused(2, "target", "enable", "one", "--model", "gpt-4o")
    assert "all of the provider 'one' is off until it is enabled" in told
    assert "visiongate target enable one" in told
    vg.done("target", "disable", "one", "--model", "gpt-4o", "--for", "1h")
    result = vg.done("target", "enable", "one", "--model", "gpt-4o")
    assert result.err.startswith("warning: all of the provider 'one' is still off")


def test_the_last_target(vg: Visiongate) -> None:
    """Whoever takes the last target of a model out is told what comes of it, and until when."""
    assert vg.done("target", "disable", "two").err == ""
    result = vg.done("target", "disable", "one", "--for", "2h")
    until = {row["model"]: row["until"] for row in vg.json("target", "list")}["gpt-4.1"]
    told = "warning: the model '{}' has no target left: its requests are answered 503 until {}"
    assert result.err.splitlines() == [told.format(m, until) for m in ("gpt-4o", "gpt-4.1")]


def test_once_more(vg: Visiongate) -> None:
    """Disabling again replaces the end; enabling what is on changes nothing, and says so."""
    vg.done("target", "disable", "two", "--for", "2h")
    (row,) = vg.json("target", "disable", "two")
    assert row["until"] is None
    vg.done("target", "enable", "two")
    assert vg.done("target", "enable", "two").err == "it was not disabled\n"
    assert len(vg.json("audit")) == 3


def test_not_in_the_configuration(vg: Visiongate) -> None:
    """What was switched off and has left the configuration is listed, and can be enabled."""
    vg.done("target", "disable", "two")
    text = vg.config.read_text()
    vg.config.write_text(text.replace("two", "three"))
    row = vg.json("target", "list")[-1]
    assert (row["model"], row["provider"], row["upstream_model"]) == ("*", "two", None)
    assert vg.done("target", "list").lines[-1][:6] == ["*", "two", "-", "-", "-", "disabled"]
    assert "no model of this configuration" in vg.done("target", "enable", "two").out
    assert len(vg.json("target", "list")) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("disable", "oen"), "unknown provider 'oen'; did you mean 'one'?"),
        (("enable", "oen"), "unknown provider 'oen'; did you mean 'one'?"),
        (("disable", "gpt-4.1"), "'gpt-4.1' is a model; its provider comes first: one --model"),
        (("disable", "one", "--model", "gpt-4"), "unknown model 'gpt-4'; did you mean"),
        (("disable", "two", "--model", "gpt-4.1"), "no target at the provider 'two'; it has"),
        (("disable", "one", "--for", "soon"), "'soon' is not a span; write it as 2h, 90m or 7d"),
        (("disable", "one", "--for", "0"), "0 is no time at all"),
        (("disable", "one", "--for", "99999999d"), "99999999d is too far away; write 2h, 90m"),
        (("disable", "one", "--reason", "a\nb"), "a reason is one line of at most 200"),
        (("disable",), "the following arguments are required: PROVIDER"),
    ],
)
def test_wrong_usage(vg: Visiongate, words: tuple[str, ...], told: str) -> None:
    """What cannot be meant is refused with what could be, and nothing is switched."""
    assert told in vg.refused(2, "target", *words)
    assert off(vg) == []


def test_help(vg: Visiongate) -> None:
    """The help says what happens to requests under way, and has an example."""
    text = " ".join(vg.bare("target", "disable", "--help").out.split())
    assert "requests under way are finished" in text
    assert "visiongate target disable openai --for 2h" in text
