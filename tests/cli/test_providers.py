"""`visiongate check --providers`, before servers that answer, and some that do not."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Result, Visiongate
from tests.scripted import Recorded, ScriptedUpstream, Step, error_json, json_reply

TLS = Path(__file__).parent.parent / "upstream" / "tls"
GOOD, BAD = "sk-good-and-long-enough-abcd", "sk-bad-and-long-enough-wxyz"


def vendor(asked: Recorded) -> Iterable[Step]:
    if asked.header("authorization") != f"Bearer {GOOD}":
        return error_json(401, f"wrong key: {asked.header('authorization')}")
    return json_reply(200, {"object": "list", "data": [{"id": "gpt-4o"}]})


def configure(vg: Visiongate, **providers: Any) -> None:
    """These providers; the first serves both models."""
    text = vg.config.read_text()
    first, rest = text.index("  openai:"), text.index("models:")
    lines = [f"  {name}: {written}\n" for name, written in providers.items()]
    served = text[rest:].replace("provider: openai", f"provider: {next(iter(providers))}")
    vg.config.write_text(text[:first] + "".join(lines) + served)


async def run(vg: Visiongate, *words: str) -> Result:
    """The command beside the server that it asks."""
    return await asyncio.to_thread(vg, "check", "--providers", *words)


async def test_all_well(vg: Visiongate) -> None:
    """A provider that answers is a line of the table; what it does not list is a warning."""
    async with ScriptedUpstream() as up:
        up.script(vendor)
        configure(vg, main=f"{{base_url: {up.url}, api_key: {GOOD}}}")
        result = await run(vg)
    assert result.code == 0, result.err
    head, line, *rest = result.lines
    assert head == ["PROVIDER", "KEY", "REACHABLE", "AUTHORISED", "MS", "NOT", "LISTED"]
    assert line[:5] == ["main", "1", "(…abcd)", "yes", "yes"]
    assert line[6:] == ["gpt-4o-mini"]
    assert "and the store answers" in result.out
    assert rest
    assert "warning: main, key 1 (…abcd): does not list gpt-4o-mini: an alias" in result.err
    assert GOOD not in result.out + result.err


async def test_what_is_wrong(vg: Visiongate) -> None:
    """One that fails does not hide another; each fault has its words, no key is told, and the end
    is 1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    async with ScriptedUpstream() as up, ScriptedUpstream(context) as secure:
        up.script(vendor)
        configure(
            vg,
            main=f"{{base_url: {up.url}, api_keys: [{BAD}, {GOOD}, sk-short]}}",
            odd=f"{{base_url: {secure.url}, api_key: {GOOD}, transport: aiohttp}}",
            gone=f"{{base_url: 'http://127.0.0.1:{port}/v1'}}",
        )
        result = await run(vg)
        as_json = await run(vg, "--json")
    assert (result.code, as_json.code) == (1, 1)
    for told in (result.out + result.err, as_json.out + as_json.err):
        for secret in (GOOD, BAD, "short"):
            assert secret not in told
    assert result.err.splitlines()[:2] == [
        "main, key 1 (…wxyz): refuses the key (401)",
        "warning: main, key 2 (…abcd): does not list gpt-4o-mini: an alias, or a name that is "
        "wrong?",
    ]
    assert "main, key 3: refuses the key (401)\n" in result.err
    assert "odd, key 1 (…abcd): its certificate is not trusted" in result.err
    assert "gone: refuses the connection: does it run there?\n" in result.err
    told = as_json.json
    assert told["ok"] is False
    assert told["store"]["reachable"] is True
    rows = told["provider_checks"]
    assert [(row["provider"], row["key"], row["reachable"], row["authorised"]) for row in rows] == [
        ("main", 1, True, False),
        ("main", 2, True, True),
        ("main", 3, True, False),
        ("odd", 1, False, None),
        ("gone", None, False, None),
    ]
    assert [row["key_ends_in"] for row in rows] == ["wxyz", "abcd", None, "abcd", None]
    assert rows[1]["not_listed"] == ["gpt-4o-mini"]
    assert isinstance(rows[1]["latency_ms"], int)
    assert rows[3]["latency_ms"] is None


async def test_without_the_store(vg: Visiongate, tmp_path: Path) -> None:
    """Providers are told of though the store is away."""
    async with ScriptedUpstream() as up:
        up.script(vendor)
        configure(vg, main=f"{{base_url: {up.url}, api_key: {GOOD}}}")
        text = vg.config.read_text()
        vg.config.write_text(text.replace(vg.url, f"unix://{tmp_path}/none.sock"))
        result = await run(vg)
        as_json = await run(vg, "--json")
    assert (result.code, as_json.code) == (1, 1)
    assert result.lines[1][3:5] == ["yes", "yes"]
    assert "cannot be used" in result.err
    assert as_json.json["provider_checks"][0]["authorised"] is True


async def test_nobody_is_asked_unasked(vg: Visiongate) -> None:
    """Without the option no provider hears of it."""
    async with ScriptedUpstream() as up:
        configure(vg, main=f"{{base_url: {up.url}, api_key: {GOOD}}}")
        result = await asyncio.to_thread(vg, "check")
        assert (result.code, up.connections) == (0, 0)


async def test_progress(vg: Visiongate, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a person sees how far it is, beside the answer."""

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    async with ScriptedUpstream() as up:
        up.script(vendor)
        configure(vg, main=f"{{base_url: {up.url}, api_key: {GOOD}}}")
        monkeypatch.setattr("sys.stderr", terminal)
        result = await asyncio.to_thread(vg.bare, "-c", str(vg.config), "check", "--providers")
    assert result.code == 0
    assert "asking providers" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
    assert "asking" not in result.out


def test_help(vg: Visiongate) -> None:
    """The help says what is asked, and that it costs nothing."""
    text = " ".join(vg.bare("check", "--help").out.split())
    assert "visiongate check --providers" in text
    assert "which costs nothing" in text
