"""The book-keeper: what the store has of each team, and whether it agrees with itself."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis

from proxy.store.layout import team_keys
from tests.chaos.provider import Served
from tests.store.scripts import LEASE, Contents, Scripts, Tally

#: Of a row's seven numbers, those that the tallies have as well.
_TALLIED = (0, 1, 2, 5, 6)


class Row(NamedTuple):
    """What a key was charged, over all days."""

    requests: int = 0
    input: int = 0
    output: int = 0


def summed(rows: Iterable[Row]) -> Row:
    """All of them together."""
    every = list(rows)
    return Row(*(sum(row[index] for row in every) for index in range(3)))


def as_charged(served: Iterable[Served]) -> Row:
    """What the provider reported, together."""
    return summed(Row(1, each.input, each.words) for each in served)


class Lapsed(NamedTuple):
    """A reservation whose lease ran out: whose it was, the output that it held, and of that what
    was told of in time, and so is charged.
    """

    key: str
    held: int
    told: int


class Books:
    """All teams of a store; `where` is the URL of the server that has a team."""

    def __init__(self, where: Callable[[str], str]) -> None:
        self._where = where

    def client(self, team: str) -> Any:
        return redis.Redis.from_url(self._where(team), socket_timeout=5)

    def contents(self, team: str) -> Contents:
        with self.client(team) as client:
            return Scripts(client, team, keys=()).contents()

    def charged(self, team: str) -> dict[str, Row]:
        """The rows, by key."""
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for name, row in self.contents(team).rows.items():
            of = sums[name.split("|")[1]]
            for index in range(3):
                of[index] += row[index]
        return {key: Row(*numbers) for key, numbers in sums.items()}

    def live(self, team: str) -> list[str]:
        """The keys of the live reservations, one entry each."""
        held = self.contents(team).reservations.values()
        return [each["k"] for each in held if "x" not in each]

    def lapsed(self, team: str) -> list[Lapsed]:
        """What the sweeps have freed, and nobody has settled since."""
        held = self.contents(team).reservations.values()
        freed = (each for each in held if "x" in each and "v" not in each)
        return [Lapsed(each["k"], each["a"][2], each["c"][2]) for each in freed]

    def expire(self, team: str) -> None:
        """Sweep as if a lease had passed since now."""
        with self.client(team) as client:
            seconds, _ = client.time()
            Scripts(client, team, keys=()).sweep(now=seconds * 1000 + LEASE + 2000, most=1000)

    def agree(self, team: str) -> None:
        """Rows = tallies; what the tallies hold reserved is what the reservations hold."""
        found = self.contents(team)
        posted: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
        for name, row in found.rows.items():
            _, key, model, _ = name.split("|")
            _add(posted, key, model, [row[index] for index in _TALLIED])
        reserved: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
        live: dict[str, int] = defaultdict(int)
        alive = {id: each for id, each in found.reservations.items() if "x" not in each}
        for each in alive.values():
            _add(reserved, each["k"], each["m"], each["a"])
            for scope in _scopes(each["k"], each["m"]):
                live[scope] += 1
        assert set(found.leases) == set(alive)
        assert {*posted, *reserved} <= set(found.tallies)
        for scope, tally in found.tallies.items():
            assert tally.posted["total"] == posted[scope], (team, scope)
            assert tally.reserved["total"] == reserved[scope], (team, scope)
            assert tally.live == live[scope], (team, scope)


def _scopes(key: str, model: str) -> list[str]:
    return [f"{scope}|{name}" for scope in ("team", f"key:{key}") for name in ("*", model)]


def _add(sums: dict[str, list[int]], key: str, model: str, amounts: list[int]) -> None:
    for scope in _scopes(key, model):
        for index, amount in enumerate(amounts):
            sums[scope][index] += amount


@dataclass
class Peak:
    """The most tokens that a team had posted and reserved together, and reservations at once."""

    tokens: int = 0
    live: int = 0


@contextlib.contextmanager
def looking(look: Callable[[], None], every: float) -> Iterator[None]:
    """Look each so many seconds from a thread of its own, and once more in the end."""
    over = threading.Event()

    def again() -> None:
        while not over.wait(every):
            look()
        look()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(again)
        try:
            yield
        finally:
            over.set()
        running.result()


@contextlib.contextmanager
def watched(books: Books, team: str) -> Iterator[Peak]:
    """The peak of a team's tally, as long as the block runs; what each look sees is atomic."""
    peak = Peak()

    def look() -> None:
        now, past = client.hmget(team_keys(team)[1], "team|*", "past|team|*")
        if now is None:
            return
        tally = Tally.read(now, past)
        posted, reserved = tally.posted["total"], tally.reserved["total"]
        peak.tokens = max(peak.tokens, sum(posted[1:3]) + sum(reserved[1:3]))
        peak.live = max(peak.live, tally.live)

    with books.client(team) as client, looking(look, 0.02):
        yield peak
