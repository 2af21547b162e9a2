"""The ledger's scripts driven one by one, at a time of the test's own choosing."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import redis

from proxy.domain import identity
from proxy.domain.limits import Limit
from proxy.domain.windows import stamp_of
from proxy.store import figures
from proxy.store.client import script_source
from proxy.store.layout import key_field, team_keys

LEASE = 30_000
SPARE = 15_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
WINDOWS = ("hour", "day", "month", "total")
NAMES = ("reserve", "renew", "settle", "post", "sweep", "peek")
TEAM_RECORD, KEY_RECORD = b"team record", b"key record"

#: requests, input, output, images, nano-usd
Five = tuple[int, int, int, int, int]
NOTHING: Five = (0, 0, 0, 0, 0)


def at(text: str) -> int:
    """A time as people write it, UTC, in ms."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def tokens(count: int) -> Five:
    """A request for so many input tokens."""
    return 1, count, 0, 0, 0


def usd(nano: int) -> Five:
    """A request for so many nano-usd."""
    return 1, 0, 0, 0, nano


@dataclass(frozen=True)
class Bound:
    """A limit as the scripts take it; `grant` adds to it in the window with `stamp`."""

    amount: int
    unit: str = "tokens"
    window: str = "total"
    scope: str = "team"
    model: str = "*"
    grant: int = 0
    stamp: int = -1

    @property
    def packed(self) -> identity.Bound:
        """The same as the gateway knows it."""
        limit = Limit(self.amount, self.unit, self.window, self.model)
        return identity.Bound(limit, self.scope, "", self.grant, self.stamp)


@dataclass
class Tally:
    """What a scope used of a model: live reservations, and per window stamp, posted, reserved."""

    live: int
    stamps: Mapping[str, int]
    posted: dict[str, list[int]]
    reserved: dict[str, list[int]]

    @classmethod
    def read(cls, packed: bytes, past: bytes) -> Tally:
        hour, live, *now = _numbers(packed)
        _, *before = _numbers(past)
        sums = {"hour": now}
        for index, window in enumerate(WINDOWS[1:]):
            _, *earlier = before[13 * index : 13 * index + 13]
            sums[window] = [sum(both) for both in zip(now, earlier, strict=True)]
        return cls(
            live,
            stamps(hour * HOUR),
            {window: _five(twelve[0::2]) for window, twelve in sums.items()},
            {window: _five(twelve[1::2]) for window, twelve in sums.items()},
        )


class Clock(NamedTuple):
    """The latest time seen, until when leases are spared, how many scripts have written, which of
    them last saw the time go back, before when nothing is to be swept, and the date.
    """

    seen: float
    spared: float
    writings: float
    jumped: float
    due: float
    today: bytes

    @classmethod
    def read(cls, packed: bytes) -> Clock:
        return cls(*struct.unpack("<5d10s", packed))


@dataclass
class Contents:
    """Everything that the store has of a team."""

    counters: dict[str, bytes]
    reservations: dict[str, Any]
    leases: dict[str, int]
    expired: dict[str, int]
    rows: dict[str, list[int]]

    @property
    def tallies(self) -> dict[str, Tally]:
        """Tallies by scope and model; the buckets have more parts to their names."""
        found = {n: v for n, v in self.counters.items() if n.count("|") == 1}
        return {n: Tally.read(v, self.counters[f"past|{n}"]) for n, v in found.items()}

    @property
    def clock(self) -> Clock:
        return Clock.read(self.counters["clock"])

    @property
    def buckets(self) -> dict[str, tuple[int, float, int]]:
        """Since when (ms), how full, and how large each bucket is."""
        found = {n: v for n, v in self.counters.items() if n.count("|") == 3}
        unpacked = {n: struct.unpack("<3d", v) for n, v in found.items()}
        return {n: (int(ms), level, int(size)) for n, (ms, level, size) in unpacked.items()}


class Scripts:
    """One team's ledger on a real server, with records of these keys unless it has its own.

    `edits` are replaced in the source, each exactly once where it stands: seeded bugs. Where
    it is `watched`, a gateway has always looked at the team shortly before the time of a call.
    """

    def __init__(
        self,
        client: Any,
        team: str = "vision",
        edits: Sequence[tuple[str, str]] = (),
        keys: Sequence[str] = ("k1", "k2"),
        *,
        watched: bool = True,
    ) -> None:
        self.client = client
        self._watched = watched
        self._seen = 0
        self.names = team_keys(team)
        self._shas = {name: client.script_load(seeded(name, edits)) for name in NAMES}
        for field in ["team", *map(key_field, keys)] if keys else ():
            client.hset(self.names[0], field, TEAM_RECORD if field == "team" else KEY_RECORD)

    def run(self, script: str, *arguments: Any) -> Any:
        if isinstance(now := arguments[0], int):
            if self._watched and now - self._seen > SPARE:
                self._evaluate("peek", now - SPARE, b"", figures.CLOCK)
            self._seen = max(self._seen, now)
        return self._evaluate(script, *arguments)

    def _evaluate(self, script: str, *arguments: Any) -> Any:
        return self.client.evalsha(self._shas[script], len(self.names), *self.names, *arguments)

    def reserve(
        self,
        id: str,
        amounts: Five,
        *limits: Bound,
        now: int,
        lease: int = LEASE,
        key: str = "k1",
        model: str = "m1",
        provider: str = "p1",
        records: tuple[bytes, bytes] = (TEAM_RECORD, KEY_RECORD),
        end: int | str = "",
        force: bool = False,
        usd_in: int = 0,
    ) -> list[Any]:
        counters = figures.counters_of(key, model)
        terms = struct.pack("<3d", lease, math.inf if end == "" else end, force)
        reply = self.run(
            "reserve",
            now,
            id,
            struct.pack("<7d", *amounts, amounts[1] + amounts[2], usd_in),
            terms + figures.pack_limits([limit.packed for limit in limits], counters),
            *records,
            key,
            model,
            provider,
            *counters,
        )
        told = () if reply[0] == b"stale" else (*reply[1:2], *reply[3:])
        return [reply[0].decode(), *(told or reply[1:])]

    def settle(
        self,
        id: str,
        amounts: Five,
        *,
        now: int,
        provider: str = "p1",
        cached: int = 0,
        image: int = 0,
        void: bool = False,
    ) -> str:
        spent = struct.pack("<7d", *amounts, cached, image)
        reply = self.run("settle", now, id, provider, spent, int(void))
        return str(reply[0].decode())

    def post(
        self,
        id: str,
        amounts: Five,
        *limits: Bound,
        now: int,
        admitted: int,
        key: str = "k1",
        model: str = "m1",
        provider: str = "p1",
        cached: int = 0,
        image: int = 0,
    ) -> str:
        minutes = [limit.packed for limit in limits if limit.window == "minute"]
        words = [word for limit in minutes for word in figures.bucket_words(limit)]
        charged = (*amounts, cached, image)
        reply = self.run("post", now, id, key, model, provider, admitted, *charged, *words)
        return str(reply[0].decode())

    def renew(
        self,
        *so_far: tuple[str, Five],
        now: int,
        lease: int = LEASE,
        records: tuple[bytes, bytes] = (TEAM_RECORD, KEY_RECORD),
        end: int | str = "",
    ) -> list[str]:
        words = [word for id, amounts in so_far for word in (id, *records, end, *amounts)]
        return [word.decode() for word in self.run("renew", now, lease, *words)]

    def sweep(self, *, now: int, most: int = 100) -> int:
        return int(self.run("sweep", now, most))

    def peek(self, *limits: Bound, now: int) -> list[int]:
        """Without the time: used, reserved and amount of each limit."""
        counters = [figures.CLOCK]
        packed = figures.pack_limits([limit.packed for limit in limits], counters)
        return list(self.run("peek", now, packed, *counters)[2:])

    def contents(self) -> Contents:
        _, counters, reservations, leases, expired, rows = self.names
        pipeline = self.client.pipeline(transaction=False)
        for name in (counters, reservations, rows):
            pipeline.hgetall(name)
        for name in (leases, expired):
            pipeline.zrange(name, 0, -1, withscores=True)
        counted, held, told, live, dead = pipeline.execute()
        return Contents(
            {name.decode(): value for name, value in counted.items()},
            {id.decode(): _reservation(value) for id, value in held.items()},
            {id.decode(): int(score) for id, score in live},
            {id.decode(): int(score) for id, score in dead},
            {name.decode(): [_whole(n) for n in value.split()] for name, value in told.items()},
        )


def _numbers(packed: bytes) -> list[int]:
    numbers = struct.unpack(f"<{len(packed) // 8}d", packed)
    assert all(map(float.is_integer, numbers)), numbers
    return list(map(int, numbers))


def _five(six: list[int]) -> list[int]:
    assert six[5] == six[1] + six[2], six
    return six[:5]


def _reservation(packed: bytes) -> dict[str, Any]:
    """k key, m model, p provider, t admission, a amounts, c what a lost lease is charged, b its
    buckets; o: only force let it in; x: expired; v: it may not come.
    """
    if not packed:
        return {"x": 1, "v": 1}
    admitted, state, *numbers, _ = _numbers(packed[: 15 * 8])
    texts, buckets = packed[15 * 8 :], []
    found: dict[str, Any] = {"t": admitted, "a": _five(numbers[:6]), "c": _five(numbers[6:])}
    for name in "kmp":
        found[name], texts = _text(texts)
    while texts:
        field, texts = _text(texts[8:])
        buckets.append(field)
    return found | {"b": buckets} | ({}, {"o": 1}, {"x": 1})[state]


def _text(packed: bytes) -> tuple[str, bytes]:
    """A text with its length before it, and what follows."""
    end = 2 + int.from_bytes(packed[:2], "little")
    return packed[2:end].decode(), packed[end:]


def _whole(text: bytes) -> int:
    assert text.isdigit(), text  # neither a sign nor an exponent
    return int(text)


def seeded(script: str, edits: Sequence[tuple[str, str]]) -> str:
    """A script's source with each edit made wherever its text stands."""
    source = script_source(script)
    for old, new in edits:
        source = source.replace(old, new)
    return source


@lru_cache(maxsize=4096)
def stamps(now: int) -> Mapping[str, int]:
    """The windows' stamps at a time."""
    return {window: stamp_of(window, now) for window in WINDOWS}


def connect(url: str) -> Any:
    """A synchronous client; its annotations answer for the other kind as well.

    It waits for as long as it takes, and sends nothing twice: a script would run twice.
    """
    return redis.Redis.from_url(url, retry=None, socket_timeout=None)
