"""The book-keeper: what the store has of each team, and whether it agrees with itself."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import redis

from proxy.store.layout import team_keys
from tests.store.scripts import LEASE, Contents, Scripts, Tally

#: Of a row's seven numbers, those that the tallies have as well.
_TALLIED = (0, 1, 2, 5, 6)


class Row(NamedTuple):
    """What a key was charged, over all days."""

    requests: int = 0
    input: int = 0
    output: int = 0


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
        held = self.contents(team).reservations
        return [each["k"] for each in held.values() if "x" not in each]

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
    """The most that a team had posted and reserved together, and at once, of requests, input
    and output."""

    tokens: int = 0
    output: int = 0
    live: int = 0


class Watch:
    """Looks at a team's tally again and again from a thread of its own; what it is is atomic."""

    def __init__(self, books: Books, team: str) -> None:
        self.peak = Peak()
        self._books = books
        self._team = team
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self.peak

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        with self._books.client(self._team) as client:
            while not self._over.wait(0.02):
                packed = client.hget(team_keys(self._team)[1], "team|*")
                if packed is None:
                    continue
                tally = Tally.read(packed)
                pairs = zip(tally.posted["total"], tally.reserved["total"], strict=True)
                both = [posted + held for posted, held in pairs]
                self.peak.tokens = max(self.peak.tokens, both[1] + both[2])
                self.peak.output = max(self.peak.output, both[2])
                self.peak.live = max(self.peak.live, tally.live)
