"""What is told of a server that is not safe."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.domain.errors import StoreUnavailable
from proxy.store.client import Store
from proxy.store.survey import ServerTooOld, server_version, server_warnings
from tests.store.fronts import open_front
from tests.store.scripts import connect


async def warnings(url: str) -> list[str]:
    store = Store.open(url)
    try:
        return await server_warnings(store, 0)
    finally:
        await store.close()


async def test_unsafe(store_url: str) -> None:
    """An eviction policy and a missing append-only file are warned of, each in a sentence."""
    with connect(store_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        told = await warnings(store_url)
        client.config_set("maxmemory-policy", "noeviction")
    assert len(told) == 2
    assert told[0].startswith("the store has maxmemory-policy allkeys-lru:")
    assert told[1].startswith("the store has no append-only file:")
    assert await warnings(store_url) == told[1:]


async def test_safe(store_url: str) -> None:
    """Of a safe server nothing is said."""
    with connect(store_url) as client:
        client.config_set("appendonly", "yes")
        try:
            assert await warnings(store_url) == []
        finally:
            client.config_set("appendonly", "no")


async def test_forbidden(store_url: str) -> None:
    """A server that may not be looked at is told to be one."""
    with connect(store_url) as client:
        client.execute_command("ACL", "SETUSER", "blind", "on", "nopass", "~*", "+@all", "-info")
        (told,) = await warnings(store_url.replace("unix://", "unix://blind:x@"))
        store = Store.open(store_url.replace("unix://", "unix://blind:x@"))
        assert await server_version(store) == "of an unknown version"
        await store.close()
        client.execute_command("ACL", "DELUSER", "blind")
    assert told == "the store could not be looked at: INFO failed (NoPermissionError)"


async def test_too_old(store_url: str) -> None:
    """A server that cannot run the scripts is refused by its version."""

    def aged(answer: bytes) -> bytes:
        return answer.replace(b"redis_version:7.2.4", b"redis_version:6.2.4")

    async with open_front(store_url, aged) as (_, url):
        with pytest.raises(ServerTooOld, match=r"the store is Redis 6\.2\.4"):
            await warnings(url)


async def test_nobody(tmp_path: Path) -> None:
    """Where nobody answers there is nothing to warn of."""
    with pytest.raises(StoreUnavailable):
        await warnings(f"unix://{tmp_path}/s")
