"""Running one command in this process, and looking at what it printed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from proxy.cli import main

PEPPER = "a pepper of the tests"

CONFIG = """\
server: {{host: 127.0.0.1, port: 0}}
admin: {{port: 0}}
store: {{url: "{url}"}}
keys: {{pepper: "${{file:{pepper}}}"}}
providers:
  openai: {{base_url: https://api.openai.com/v1, api_key: "${{TEST_PROVIDER_KEY}}"}}
models:
  gpt-4o: {{targets: [{{provider: openai}}], price: {{input: 2.50, output: 10.00}}}}
  gpt-4o-mini: {{targets: [{{provider: openai}}]{price}}}
plans:
  default: {{limits: [60 requests/minute, 1M tokens/day]}}
  standard: {{limits: [5M tokens/day]}}
"""
PRICE = ", price: {input: 0.15, output: 0.60}"


def write_config(path: Path, url: str, *, pepper: str = PEPPER, priced: bool = True) -> Path:
    secret = path.with_name("pepper")
    secret.write_text(pepper)
    path.write_text(CONFIG.format(url=url, pepper=secret, price=PRICE if priced else ""))
    return path


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[list[str]]:
        """The words of every line."""
        return [line.split() for line in self.out.splitlines()]


class Visiongate:
    """`visiongate -c FILE ...`."""

    def __init__(self, config: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = config
        self.url = url
        self._capsys = capsys

    def __call__(self, *words: str) -> Result:
        return self.bare("-c", str(self.config), *words)

    def bare(self, *words: str) -> Result:
        self._capsys.readouterr()
        code = main(words)
        said = self._capsys.readouterr()
        return Result(code, said.out, said.err)

    def done(self, *words: str) -> Result:
        """A command that must do what it was asked."""
        result = self(*words)
        assert result.code == 0, result.err
        return result

    def json(self, *words: str) -> Any:
        return self.done(*words, "--json").json

    def refused(self, code: int, *words: str) -> str:
        """What a command says that must not do what it was asked; nothing else is printed."""
        result = self(*words)
        assert (result.code, result.out) == (code, "")
        return result.err

    def secret(self, team: str, name: str, *words: str) -> str:
        """The secret of a new key."""
        return str(self.json("key", "create", "--team", team, "--name", name, *words)["key"])

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, retry=None, decode_responses=True)
