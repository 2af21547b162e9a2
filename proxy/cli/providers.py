"""What `visiongate check --providers` finds out and tells."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from proxy.cli.output import note, show_table
from proxy.config import Config
from proxy.rules import build_providers
from proxy.upstream.proof import Asked, Proof, prove
from proxy.upstream.transports import open_transports

#: Of a key that is as long, its last four tell which one it is, and no more.
_LONG_KEY: Final = 20

_COLUMNS: Final = ("provider", "key", "reachable", "authorised", "ms", "not listed")
_WORDS: Final = {True: "yes", False: "no", None: None}


def look_at_providers(config: Config) -> list[dict[str, Any]]:
    """A row for each key of each provider, in the config's order; progress on a terminal."""
    asked = [
        Asked(
            provider,
            config.providers[name].base_url,
            [t.model for m in config.models.values() for t in m.targets if t.provider == name],
        )
        for name, provider in build_providers(config).items()
    ]
    total = sum(max(1, len(each.provider.api_keys)) for each in asked)
    with _progress(total) as told:
        proofs = asyncio.run(_prove_all(asked, told))
    secrets = {each.provider.name: each.provider.api_keys for each in asked}
    return [_row(proof, secrets[proof.provider]) for proof in proofs]


def tell_providers(rows: Sequence[dict[str, Any]]) -> None:
    """A table, and below it what is wrong and what was not proved."""
    shown = [
        row
        | {name: _WORDS[row[name]] for name in ("reachable", "authorised")}
        | {"key": _key_of(row), "ms": row["latency_ms"], "not listed": row["not_listed"]}
        for row in rows
    ]
    show_table(_COLUMNS, shown, empty="no providers")
    for row in rows:
        who = f"{row['provider']}, key {_key_of(row)}" if row["key"] else row["provider"]
        if row["fault"]:
            note(f"{who}: {row['fault']}")
        if row["remark"]:
            note(f"note: {who}: {row['remark']}")
        if row["not_listed"]:
            names = ", ".join(row["not_listed"])
            note(f"warning: {who}: does not list {names}: an alias, or a name that is wrong?")


async def _prove_all(asked: Sequence[Asked], told: Callable[[Proof], None]) -> list[Proof]:
    transports = open_transports()
    try:
        found = await asyncio.gather(
            *(prove(each, transports[each.provider.transport], told) for each in asked)
        )
    finally:
        for transport in transports.values():
            await transport.close()
    return [proof for proofs in found for proof in proofs]


def _row(proof: Proof, secrets: Sequence[str]) -> dict[str, Any]:
    secret = secrets[proof.key - 1] if proof.key else ""
    return {
        "provider": proof.provider,
        "key": proof.key,
        "key_ends_in": secret[-4:] if len(secret) >= _LONG_KEY else None,
        "reachable": proof.reachable,
        "authorised": proof.authorised,
        "latency_ms": None if proof.seconds is None else round(proof.seconds * 1000),
        "not_listed": None if proof.unlisted is None else list(proof.unlisted),
        "fault": proof.fault,
        "remark": proof.remark,
    }


def _key_of(row: dict[str, Any]) -> str | None:
    if row["key"] is None:
        return None
    return f"{row['key']} (…{row['key_ends_in']})" if row["key_ends_in"] else str(row["key"])


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Proof], None]]:
    """How many have been asked, beside the answer and only for people."""
    if not sys.stderr.isatty():
        yield lambda proof: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task("asking providers", total=total)
        yield lambda proof: progress.advance(task)
