"""A gateway in processes of its own with distinctive secrets, and a search for them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import yaml

from tests.gateway import CONFIG, merged, until
from tests.scripted import ScriptedUpstream

SECRETS = {
    name: f"canary-{name}-5f1d7c0b9e"
    for name in ("provider", "pepper", "admin", "store", "proxy", "prompt", "image", "link", "tool")
}

#: The gateway at its most talkative, with a handler that fails and says all that it knows.
PROGRAM = """
import logging, sys
from proxy import cli, logs
from proxy.web import chat
from proxy.domain import routing

def find_model(models, name, allowed):
    if name == "boom":
        raise RuntimeError(repr(sys._getframe(1).f_locals))
    return routing.find_model(models, name, allowed)

def configure():
    quiet()
    logging.getLogger().setLevel(logging.DEBUG)

quiet, logs.configure = logs.configure, configure
chat.find_model = find_model
sys.exit(cli.main(sys.argv[1:]))
"""


def forms(secret: str) -> Iterator[bytes]:
    """A secret as it is, in a URL, and in base64 wherever it begins in it."""
    plain = secret.encode()
    yield plain
    yield quote(secret, safe="").encode()
    for before in range(3):
        yield base64.b64encode(b"\0" * before + plain)[4 if before else 0 : -4]


class Seen:
    """All that anybody could look at, by where it was."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}

    def leaks(self, secrets: Mapping[str, str]) -> list[str]:
        return [
            f"{name} in {where}"
            for where, text in self.texts.items()
            for name, secret in secrets.items()
            if any(form in text for form in forms(secret))
        ]

    def files(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.texts[f"file {path.relative_to(folder)}"] = path.read_bytes()

    def processes(self, group: int) -> None:
        """The command lines of the master, its workers, and what else it has started."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.getpgid(int(folder.name)) == group:
                    name = f"cmdline {folder.name}"
                    self.texts[name] = (folder / "cmdline").read_bytes()
            except (ProcessLookupError, FileNotFoundError):
                continue


class Stand:
    """A gateway in processes of its own, and what it has written."""

    def __init__(self, folder: Path, config: Path, process: asyncio.subprocess.Process) -> None:
        self.folder, self.config, self.process = folder, config, process
        self.seen = Seen()

    @property
    def lines(self) -> list[dict[str, Any]]:
        found = (self.folder / "log").read_text().splitlines()
        return [json.loads(line) for line in found if line.startswith("{") and line.endswith("}")]

    def told_of(self, event: str) -> int:
        return sum(line["event"] == event for line in self.lines)

    async def told(self, event: str) -> dict[str, Any]:
        await until(lambda: self.told_of(event) > 0, 30)
        return next(line for line in self.lines if line["event"] == event)

    def reload(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))
        self.process.send_signal(signal.SIGHUP)

    async def ask(self, name: str, url: str, key: str, body: Any, path: str = "") -> None:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        where = url + (path or "/v1/chat/completions")
        async with aiohttp.ClientSession() as session:
            try:
                async with session.post(where, data=data, headers=headers) as got:
                    head = repr(dict(got.headers)).encode()
                    self.seen.texts[f"answer to {name}"] = head + await got.read()
            except aiohttp.ClientError:
                self.seen.texts[f"answer to {name}"] = b"broken off"

    async def get(self, name: str, url: str, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as got:
            self.seen.texts[name] = repr(dict(got.headers)).encode() + await got.read()


@asynccontextmanager
async def standing(folder: Path, store: str, upstream: ScriptedUpstream) -> AsyncIterator[Stand]:
    given = {
        "store": {"url": "${STORE}", "data": str(folder / "var")},
        "keys": {"pepper": "${PEPPER}"},
        "providers": {
            "openai": {"base_url": upstream.url, "api_key": f"${{file:{folder}/secret/key}}"}
        },
        "admin": {"token": "${TOKEN}"},
        "images": {
            "mode": "inspect",
            "egress_proxy": f"http://u:{SECRETS['proxy']}@127.0.0.1:9",
        },
        "server": {"workers": 2},
    }
    (folder / "secret").mkdir()
    (folder / "secret/key").write_text(SECRETS["provider"])
    (folder / "program.py").write_text(PROGRAM)
    config = folder / "secret/visiongate.yaml"
    config.write_text(yaml.safe_dump(merged(CONFIG, given)))
    secret = {"STORE": store, "PEPPER": SECRETS["pepper"], "TOKEN": SECRETS["admin"]}
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(folder / "program.py"), "serve", "-c", str(config)),
            stdout=log,
            stderr=log,
            env={**os.environ, **secret, "PYTHONPATH": str(Path(__file__).parents[2])},
            start_new_session=True,
        )
    try:
        yield Stand(folder, config, process)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
