"""Many keys of one team, written together: what an import of thousands needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import WatchError

from proxy.domain.identity import KeyRecord, decode_key, encode_record
from proxy.store.client import Store
from proxy.store.layout import key_field, records_key
from proxy.store.records import NameTaken


async def write_keys(
    store: Store, team: str, changes: Sequence[tuple[KeyRecord | None, KeyRecord]]
) -> bool:
    """All of them in one transaction, each from what it was (None: new).

    False where one is no longer that. Raises NameTaken with the name, and StoreUnavailable.
    """
    place = records_key(team)

    async def write(client: Any) -> bool:
        async with client.pipeline(transaction=True) as pipe:
            await pipe.watch(place)
            found = _keys_of(await pipe.hgetall(place))
            if any(found.get(new.id) != old for old, new in changes):
                return False
            _check_names(found, [new for _, new in changes])
            pipe.multi()
            records = {key_field(new.id): encode_record(new) for _, new in changes}
            pipe.hset(place, mapping=records)
            try:
                await pipe.execute()
            except WatchError:
                return False
        return True

    return await store.use(place, write, twice=False)


def _check_names(found: Mapping[str, KeyRecord], changed: Sequence[KeyRecord]) -> None:
    after = {**found, **{key.id: key for key in changed}}
    names = Counter(key.name for key in after.values() if key.status != "revoked")
    for key in changed:
        if key.status != "revoked" and names[key.name] > 1:
            raise NameTaken(key.name)


def _keys_of(found: Mapping[bytes, bytes]) -> dict[str, KeyRecord]:
    keys = (decode_key(blob) for field, blob in found.items() if field != b"team")
    return {key.id: key for key in keys}
