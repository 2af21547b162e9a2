"""`visiongate audit`: who did what with the commands."""

from __future__ import annotations

import getpass
import socket

import pytest

from tests.cli.commands import Visiongate


def test_who_and_what(vg: Visiongate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's line names the user and the host, or whom the environment names."""
    vg.done("team", "create", "vision", "--limit", "5 usd/day")
    monkeypatch.setenv("VISIONGATE_ACTOR", " deploy\n17 ")
    vg.done("team", "set", "vision", "--limit", "9 usd/day", "--label", "a=1")
    first, second = vg.json("audit")
    assert first["actor"] == f"{getpass.getuser()}@{socket.gethostname()}"[:64]
    assert (second["actor"], second["action"]) == ("deploy 17", "team.change")
    assert second["before"] == {"limits": ["5 usd/day"], "labels": {}}
    assert second["after"] == {"limits": ["9 usd/day"], "labels": {"a": "1"}}


def test_as_a_table(vg: Visiongate) -> None:
    """The table has a line for each change, the newest last, with what changed."""
    vg.done("team", "create", "vision", "--plan", "standard")
    key = vg.json("key", "create", "--team", "vision", "--name", "ci")["id"]
    vg.done("key", "set", "ci", "--pause")
    lines = vg.done("audit").out.splitlines()
    assert lines[0].split()[:4] == ["TIME", "ACTOR", "ACTION", "TEAM"]
    assert [line.split()[2] for line in lines[1:]] == ["team.create", "key.create", "key.pause"]
    assert "plan: standard" in lines[1]
    assert lines[3].rstrip().endswith(f"vision  {key}  ci      status: active -> paused")


def test_only_what_differs(vg: Visiongate) -> None:
    """Of a list the table tells what was taken from it and what was added."""
    vg.done("team", "create", "vision", "--limit", "5 usd/day", "--limit", "9 usd/month")
    vg.done("team", "set", "vision", "--limit", "7 usd/day")
    for _ in range(2):
        vg.done("team", "grant", "vision", "1 usd/day", "--until", "2999-01-01")
    changes = [line.rpartition("  ")[2] for line in vg.done("audit").out.splitlines()[2:]]
    given = "grants: none -> 1 usd/day until 2999-01-01T00:00:00Z"
    assert changes == ["limits: 5 usd/day -> 7 usd/day", given, given]


def test_filters(vg: Visiongate) -> None:
    """Lines can be asked for by team and by time."""
    vg.done("team", "create", "vision")
    vg.done("team", "create", "docs")
    assert [line["team"] for line in vg.json("audit", "--team", "docs")] == ["docs"]
    assert len(vg.json("audit", "--since", "1h")) == 2
    assert vg.json("audit", "--since", "2999-01-01") == []
    assert "no changes" in vg.done("audit", "--since", "2999-01-01").out
    assert "2026-11-01 or 7d" in vg.refused(2, "audit", "--since", "soon")


def test_a_user_without_a_name(vg: Visiongate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom the system has no name for, as in a container, is told by number."""

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    monkeypatch.setattr("os.getuid", lambda: 10001)
    vg.done("team", "create", "vision")
    assert vg.json("audit")[0]["actor"].startswith("10001@")
