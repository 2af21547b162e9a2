"""The keyring: what it keeps, what makes it ask again, and what never reaches the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from proxy.access import Access
from proxy.domain import keys
from proxy.domain.errors import GatewayError, StoreUnavailable, Unauthorized
from proxy.domain.identity import encode_record
from proxy.domain.keys import make_key
from proxy.store import keyring
from tests.store.ledgers import Till, open_till, until
from tests.store.wire import open_wire

# Half of what a cached key is trusted for: what happens sooner does not rest on its age.
SOON = keyring._FRESH / 2


@pytest.fixture
async def till(store_url: str) -> AsyncIterator[Till]:
    async with open_till(store_url) as opened:
        yield opened


def made_up(number: int) -> str:
    """A key that nobody made, with the right checksum."""
    return make_key(f"{number:030}")


async def asked(till: Till) -> int:
    """Questions for a digest that the store has answered."""
    stats = await till.store.redis.info("commandstats")
    return int(stats.get("cmdstat_get", {"calls": 0})["calls"])


async def commands(till: Till) -> int:
    return int((await till.store.redis.info("stats"))["total_commands_processed"])


async def test_cached(till: Till) -> None:
    """A key is asked for once, and then known."""
    key = await till.key()
    first = await till.keys.authenticate(key.secret)
    assert first.key == key.record
    before = await asked(till)
    assert await till.keys.authenticate(key.secret) is first
    assert await asked(till) == before


async def test_at_once(till: Till) -> None:
    """However many ask for a key at once, the store is asked once."""
    key = await till.key()
    before = await asked(till)
    found = await asyncio.gather(*(till.keys.authenticate(key.secret) for _ in range(100)))
    assert {access.key.id for access in found} == {key.record.id}
    assert await asked(till) == before + 1


async def test_waiter_leaves(till: Till) -> None:
    """A request that leaves while the store is asked does not take the answer with it."""
    key = await till.key()
    tasks = [asyncio.create_task(till.keys.authenticate(key.secret)) for _ in range(2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert (await tasks[1]).key == key.record


async def test_unknown(till: Till) -> None:
    """A key that nobody made is asked for once, then refused without asking."""
    before = await asked(till)
    for _ in range(3):
        with pytest.raises(Unauthorized):
            await till.keys.authenticate(made_up(1))
    assert await asked(till) == before + 1


async def test_unknown_bounded(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of unknown keys only so many are kept, the latest."""
    monkeypatch.setattr(keyring, "_MOST", 10)
    for number in range(30):
        with pytest.raises(Unauthorized):
            await till.keys.authenticate(made_up(number))
    assert len(till.keys._unknown) == 10
    before = await asked(till)
    for number in (29, 0):
        with pytest.raises(Unauthorized):
            await till.keys.authenticate(made_up(number))
    assert await asked(till) == before + 1


async def test_signed_once(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was found is not signed again, also where it is no longer kept; one that was
    not found leaves nothing.
    """
    signed: list[str] = []

    def digests(peppers: tuple[str, ...], key: str) -> list[str]:
        signed.append(key)
        return keys.digests(peppers, key)

    monkeypatch.setattr(keyring, "digests", digests)
    key = await till.key()
    for _ in range(3):
        await till.keys.authenticate(key.secret)
        till.keys.forget(key.record.team)
    assert signed == [key.secret]
    for _ in range(3):
        with pytest.raises(Unauthorized):
            await till.keys.authenticate(made_up(1))
    assert signed == [key.secret, *[made_up(1)] * 3]


async def test_no_key_is_kept(till: Till) -> None:
    """Nothing that the keyring keeps holds a key."""
    key = await till.key()
    await till.keys.authenticate(key.secret)
    assert till.keys._sealed
    assert key.secret not in repr(vars(till.keys))


async def test_signed_keys_are_bounded(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of keys that were found only so many are kept as signed, the latest."""
    monkeypatch.setattr(keyring, "_MOST", 2)
    for name in "abc":
        await till.keys.authenticate((await till.key(name=name)).secret)
    assert len(till.keys._sealed) == 2


@pytest.mark.parametrize(
    "key", ["", "sk-123", "\udcff", "vg_", made_up(1)[:-1] + "!", "vg_" + "0" * 36]
)
async def test_malformed(till: Till, key: str) -> None:
    """A key of the wrong form, or whose checksum is wrong, asks nothing of the store."""
    before = await commands(till)
    for _ in range(20):
        with pytest.raises(Unauthorized):
            await till.keys.authenticate(key)
    assert await commands(till) == before + 1  # the look itself


async def test_ten_thousand_made_up(till: Till) -> None:
    """Of so many made-up keys none with a wrong checksum asks the store; the others fill a
    memory that has a bound.
    """
    right = [made_up(number) for number in range(10_000 + 100)]
    wrong = [key[:-1] + ("a" if key[-1] != "a" else "b") for key in right]
    before = await commands(till)
    for key in wrong:
        with pytest.raises(Unauthorized):
            await till.keys.authenticate(key)
    assert await commands(till) == before + 1  # the look itself
    for first in range(0, len(right), 100):
        asking = (till.keys.authenticate(key) for key in right[first : first + 100])
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(answer, Unauthorized) for answer in answers)
    assert len(till.keys._unknown) == 10_000
    assert not till.keys._loading


async def test_store_error(store_url: str) -> None:
    """That the store could not be asked is not remembered of a key."""
    async with open_wire(store_url) as (wire, store), open_till(store_url, store) as till:
        key = await till.key()
        wire.cut()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await till.keys.authenticate(key.secret)
        wire.mend()
        assert (await till.keys.authenticate(key.secret)).key == key.record


async def test_peppers(store_url: str) -> None:
    """A key signed with any of the peppers is known, and with none of them is not."""
    async with open_till(store_url, peppers=("old",)) as till:
        old = await till.key(name="old")
    async with open_till(store_url, peppers=("new", "old")) as till:
        new = await till.key(name="new")
        for key in (old, new):
            assert (await till.keys.authenticate(key.secret)).key == key.record
    async with open_till(store_url, peppers=("new",)) as till:
        assert not await till.refuses(new)
        assert await till.refuses(old)


async def test_rotated(till: Till) -> None:
    """After a rotation both secrets work, until the old one's time is over."""
    key = await till.key()
    new = await till.directory.rotate_key(key.record, overlap=3600)
    both = [await till.keys.authenticate(secret) for secret in (key.secret, new.secret)]
    assert [access.key.id for access in both] == [key.record.id] * 2
    secrets = tuple(msgspec.structs.replace(s, expires_at=1) for s in new.record.secrets[1:])
    await till.change(new, secrets=(*new.record.secrets[:1], *secrets))
    await until(lambda: till.refuses(key), SOON)
    assert not await till.refuses(new)


async def test_rotated_at_once(till: Till) -> None:
    """Without an overlap the old secret is refused within a moment."""
    key = await till.key()
    await till.keys.authenticate(key.secret)
    new = await till.directory.rotate_key(key.record, overlap=0)
    await until(lambda: till.refuses(key), SOON)
    assert not await till.refuses(new)


async def test_reopened(till: Till) -> None:
    """Newer records give a newer access, and raise where they no longer allow it."""
    key = await till.key()
    access: Access = await till.keys.authenticate(key.secret)
    renamed = encode_record(msgspec.structs.replace(key.record, name="renamed"))
    assert till.keys.reopen(access, access.team_blob, renamed).key.name == "renamed"
    revoked = encode_record(msgspec.structs.replace(key.record, status="revoked"))
    for blobs in ((access.team_blob, revoked), (access.team_blob, b""), (b"", access.key_blob)):
        with pytest.raises(GatewayError):
            till.keys.reopen(access, *blobs)
