"""`visiongate key find`: whose a leaked key is."""

from __future__ import annotations

import io

import pytest

from proxy.domain.keys import make_key
from tests.cli.commands import PEPPER, Visiongate, write_config


@pytest.fixture
def team(vg: Visiongate) -> str:
    vg.done("team", "create", "vision")
    return "vision"


def stdin(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))


def test_find_in_a_log(vg: Visiongate, team: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaked text may hold several keys and any bytes; each key is named once, never whole."""
    mine, strange = vg.secret(team, "ci"), make_key("0" * 30)
    log = f"\xff curl -H 'Bearer {mine}'\n{mine} KEY={strange}; vg_not-a-key\n"
    stdin(monkeypatch, log.encode("latin-1"))
    found = vg.json("key", "find", "--stdin")
    assert [(f["key"], f["status"], f["team"], f["name"], f["live"]) for f in found] == [
        (f"vg_…{mine[-4:]}", "active", "vision", "ci", True),
        (f"vg_…{strange[-4:]}", "unknown", None, None, False),
    ]


def test_find_for_a_person(vg: Visiongate, team: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piped text needs no option, and for a live key the command that stops it is told."""
    secret = vg.secret(team, "ci")
    stdin(monkeypatch, secret.encode())
    result = vg.done("key", "find")
    key_id = vg.json("key", "show", "ci")["id"]
    assert result.lines[1] == [f"vg_…{secret[-4:]}", "active", key_id, "vision", "ci"]
    assert f"visiongate key revoke {key_id}" in result.err


def test_find_prompts(vg: Visiongate, team: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the text is asked for without showing it."""
    secret = vg.secret(team, "ci")
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("proxy.cli.keys.getpass", lambda *_, **__: secret)
    assert vg.json("key", "find")[0]["name"] == "ci"

    def nothing(*_: object, **__: object) -> str:
        raise EOFError

    monkeypatch.setattr("proxy.cli.keys.getpass", nothing)
    assert "no text" in vg.refused(1, "key", "find")


def test_find_nothing(vg: Visiongate) -> None:
    """A text without a key is no failure."""
    assert "no key" in vg.done("key", "find", "vg_short and more").out
    assert vg.json("key", "find", "nothing") == []


def test_find_of_a_paused_team(vg: Visiongate, team: str) -> None:
    """A paused team's key is not live, but may be again."""
    secret = vg.secret(team, "ci")
    vg.done("team", "pause", team)
    found = vg.json("key", "find", secret)[0]
    assert (found["status"], found["live"]) == ("paused", False)


def test_find_by_an_older_pepper(vg: Visiongate, team: str) -> None:
    """A key that an older pepper signed is found as long as that pepper is configured."""
    secret = vg.secret(team, "ci")
    write_config(vg.config, vg.url, pepper=f"a newer pepper of ours, {PEPPER}")
    assert vg.json("key", "find", secret)[0]["status"] == "active"
    write_config(vg.config, vg.url, pepper="a newer pepper of ours")
    assert vg.json("key", "find", secret)[0]["status"] == "unknown"
