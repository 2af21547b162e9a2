"""News of changes: how a keyring hears of them, and what it does when it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from proxy.domain.errors import StoreUnavailable, Unauthorized
from proxy.domain.identity import encode_record
from proxy.domain.keys import make_key
from proxy.store import keyring
from proxy.store.directory import NewKey
from proxy.store.layout import key_field, records_key
from tests.store.ledgers import PEPPER, Till, open_till, until

# Half of what a cached key is trusted for: what happens sooner does not rest on its age.
SOON = keyring._FRESH / 2


@pytest.fixture
async def till(store_url: str) -> AsyncIterator[Till]:
    async with open_till(store_url) as opened:
        yield opened


async def accepted(till: Till, key: NewKey) -> bool:
    return not await till.refuses(key)


async def write_quietly(till: Till, key: NewKey, **fields: Any) -> None:
    """Change a record without telling anyone."""
    record = msgspec.structs.replace(key.record, **fields)
    name = key_field(record.id)
    await till.store.redis.hset(records_key("vision"), name, encode_record(record))


@pytest.mark.parametrize("status", ["revoked", "paused"])
async def test_stops_soon(till: Till, status: str) -> None:
    """A key that is revoked or paused is refused within a moment, cached or not."""
    key = await till.key()
    await till.keys.authenticate(key.secret)
    await till.change(key, status=status)
    await until(lambda: till.refuses(key), SOON)


async def test_team_stops(till: Till) -> None:
    """A paused team's keys are refused within a moment."""
    key = await till.key()
    await till.keys.authenticate(key.secret)
    await till.directory.change_team(
        "vision", lambda r: msgspec.structs.replace(r, status="paused")
    )
    await until(lambda: till.refuses(key), SOON)


async def test_reconnected(till: Till) -> None:
    """What changed while the news was cut off is noticed when the connection is back."""
    key = await till.key()
    await till.keys.authenticate(key.secret)
    await write_quietly(till, key, status="revoked")
    assert not await till.refuses(key)
    await till.store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: till.refuses(key), SOON)


async def test_news_after_reconnection(till: Till) -> None:
    """After the connection was cut, news arrives again."""
    key = await till.key()
    await till.store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: till.listening())
    await till.keys.authenticate(key.secret)
    await till.change(key, status="revoked")
    await until(lambda: till.refuses(key), SOON)


async def test_silence(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without news is tried, and replaced where it does not answer."""
    monkeypatch.setattr(keyring, "_QUIET", 0.02)
    other = keyring.KeyRing(till.store, (PEPPER,), {})
    pings = 0

    class Silent:
        """A channel on which nothing ever comes back."""

        async def __aenter__(self) -> Silent:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def subscribe(self, name: str) -> None:
            pass

        async def get_message(self, **_: float) -> None:
            await asyncio.sleep(0)

        async def ping(self) -> None:
            nonlocal pings
            pings += 1

    monkeypatch.setattr(till.store.redis, "pubsub", Silent)
    await other._hear()
    assert pings == 1


async def test_stop(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping succeeds though the store's client makes an error of the cancellation."""
    other, begun = keyring.KeyRing(till.store, (PEPPER,), {}), asyncio.Event()

    async def unlucky() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise StoreUnavailable("reset while it was cancelled") from None

    monkeypatch.setattr(other, "_hear", unlucky)
    await other.start()
    await begun.wait()
    await asyncio.wait_for(other.stop(), 3)


async def test_changed_while_loading(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before a change that is told meanwhile is not kept."""
    key, records = await till.key(), till.keys._records

    async def overtaken(team: str, key_id: str) -> tuple[bytes, bytes]:
        found = await records(team, key_id)
        monkeypatch.setattr(till.keys, "_records", records)
        before = till.keys._changes
        await till.change(key, status="revoked")
        await until(lambda: till.keys._changes > before)
        return found

    monkeypatch.setattr(till.keys, "_records", overtaken)
    await till.keys.authenticate(key.secret)
    assert await till.refuses(key)


async def test_unknown_then_made(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is made after it was refused works within a moment."""
    monkeypatch.setattr("proxy.store.directory._random", lambda length: "7" * length)
    with pytest.raises(Unauthorized):
        await till.keys.authenticate(make_key("7" * 30))
    key = await till.key()
    await until(lambda: accepted(till, key), SOON)
