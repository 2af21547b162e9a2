"""A file of teams and keys, and what the store has of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.cli.commands import Visiongate

Edit = Callable[[dict[str, Any]], None]


def empty(vg: Visiongate) -> None:
    with vg.client() as client:
        client.flushall()


def records(vg: Visiongate) -> dict[str, Any]:
    """Everything that the store has, but for what the ledger counts and the audit."""
    read = {"hash": "hgetall", "set": "smembers", "string": "get"}
    with vg.client() as client:
        return {
            name: getattr(client, read[client.type(name)])(name)
            for name in client.scan_iter("*")
            if not name.endswith((":counters", ":audit"))
        }


def exported(vg: Visiongate, path: Path, edit: Edit | None = None) -> str:
    """A file with what the store has, changed by hand."""
    text = vg.done("export").out
    if edit is not None:
        data = yaml.safe_load(text)
        edit(data)
        text = yaml.safe_dump(data)
    path.write_text(text)
    return str(path)
