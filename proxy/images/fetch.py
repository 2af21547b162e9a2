"""Fetching images: by everyone's leave, one at a time for equal ones, and kept for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ssl import SSLContext
from typing import Final, Generic, Protocol, TypeVar

from yarl import URL

from proxy.domain.errors import ImageRefused
from proxy.images.answer import Cause, unreachable
from proxy.images.cache import Cache, Flights
from proxy.images.dial import OpenSocket, Resolve, open_socket
from proxy.images.places import Places, Turn
from proxy.images.sniff import ImageInfo
from proxy.images.urls import UrlRules, check_url
from proxy.images.visit import Fetched, Network, Visit

__all__ = ["FetchLimits", "FetchObserver", "Fetched", "Fetcher"]

V = TypeVar("V")
#: What one result answers: a URL, the rules that it was fetched under, and the cap.
_Name = tuple[str, tuple[UrlRules, ...], int]

#: What a verdict costs beside its URL, about.
_VERDICT_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Seconds, how many at a time, and bytes that are kept.

    `total` begins with the first request and holds for all hops; `wait` is how long a
    fetch waits for its turn before. A key's share of a host and of the worker is what
    leaves the others theirs.
    """

    connect: float = 2.0
    total: float = 5.0
    wait: float = 5.0
    per_key: int = 8
    per_host: int = 16
    per_worker: int = 64
    kept_verdicts: int = 10_000
    kept_images: int = 1_000
    kept_verdict_bytes: int = 8 << 20
    kept_image_bytes: int = 64 << 20


class FetchObserver(Protocol):
    """Told of every fetch and every look into the cache; words are from closed lists."""

    def fetched(self, outcome: str, seconds: float, size: int) -> None:
        """`outcome` is ok, an image's fault, or a cause; `size` the bytes of bodies read."""

    def cached(self, result: str) -> None:
        """hit, miss, or shared: another's fetch of the same is awaited."""


@dataclass(frozen=True, slots=True)
class _Shelf(Generic[V]):
    """One kind of fetch: how it is made, and what is kept of it."""

    visit: Callable[[Visit, URL], Awaitable[V]]
    size: Callable[[V], int]
    cache: Cache[V]
    flights: Flights[V]


class Fetcher:
    """Images by URL, under `UrlRules` that all must allow it and every hop.

    Resolver and socket factory are the only ways out. `now` gives seconds. Use it as an
    async context manager, or close it.
    """

    def __init__(
        self,
        resolve: Resolve,
        observe: FetchObserver,
        limits: FetchLimits | None = None,
        *,
        open_socket: OpenSocket = open_socket,
        tls: SSLContext | None = None,
        egress_proxy: URL | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits = limits or FetchLimits()
        self._observe = observe
        self._now = now
        self._network = Network(
            resolve, open_socket, limits.connect, tls=tls, egress_proxy=egress_proxy
        )
        self._keys, self._hosts = Places(limits.per_key), Places(limits.per_host)
        self._worker = asyncio.Semaphore(limits.per_worker)
        self._verdicts = _Shelf(
            Visit.peek,
            lambda _: _VERDICT_BYTES,
            Cache[ImageInfo](limits.kept_verdicts, limits.kept_verdict_bytes, now),
            Flights[ImageInfo](),
        )
        self._images = _Shelf(
            Visit.fetch,
            lambda image: len(image.data),
            Cache[Fetched](limits.kept_images, limits.kept_image_bytes, now),
            Flights[Fetched](),
        )

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End every fetch; those who wait for one get ImageRefused."""
        await self._verdicts.flights.stop()
        await self._images.flights.stop()

    async def peek(
        self, url: str, rules: tuple[UrlRules, ...], max_bytes: int, key: str
    ) -> ImageInfo:
        """An image's format and size from its first bytes, on behalf of a key.

        Internal hosts are not for this: the provider will fetch the URL itself. Raises
        ImageRefused: `unreachable`, with its `cause`, for whatever goes wrong on the way.
        """
        outer = tuple(each.outer for each in rules)
        return await self._get(self._verdicts, url, outer, max_bytes, key)

    async def fetch(
        self, url: str, rules: tuple[UrlRules, ...], max_bytes: int, key: str
    ) -> Fetched:
        """A whole image of at most `max_bytes`, on behalf of a key. Raises as `peek` does."""
        return await self._get(self._images, url, rules, max_bytes, key)

    async def _get(
        self, shelf: _Shelf[V], url: str, rules: tuple[UrlRules, ...], max_bytes: int, key: str
    ) -> V:
        # What is kept was checked: it is under its URL as that came out of it.
        if (kept := self._kept(shelf, (url, rules, max_bytes))) is not None:
            return kept
        (target,) = {check_url(url, each) for each in rules}
        name = (str(target), rules, max_bytes)
        try:
            async with asyncio.timeout(self._limits.wait) as waiting:
                # Before it joins others: nobody waits in the queue of another's key.
                async with self._keys.at(key):
                    waiting.reschedule(None)
                    if (kept := self._kept(shelf, name)) is not None:
                        return kept
                    self._observe.cached("shared" if name in shelf.flights else "miss")
                    return await shelf.flights.join(name, lambda: self._run(shelf, target, name))
        except TimeoutError:
            raise unreachable("busy") from None
        except InterruptedError:
            raise unreachable("stopped") from None
        except ImageRefused as error:
            # Each waiter's own: it will be told which of its images this is.
            own = ImageRefused(error.reason, error.message, code=error.code)
            own.cause = error.cause
            raise own from None

    def _kept(self, shelf: _Shelf[V], name: _Name) -> V | None:
        kept = shelf.cache.get(name)
        if kept is not None:
            self._observe.cached("hit")
        return kept

    async def _run(self, shelf: _Shelf[V], target: URL, name: _Name) -> V:
        """One fetch, in a task of its own."""
        url, rules, max_bytes = name
        limits = self._limits
        turn = Turn(self._hosts, self._worker, limits.wait, limits.total)
        visit = Visit(self._network, turn.hold, rules, max_bytes)
        begun, outcome = self._now(), "stopped"
        try:
            async with turn.deadline:
                found = await shelf.visit(visit, target)
            shelf.cache.put(name, found, shelf.size(found) + len(url), visit.lifetime)
            outcome = "ok"
            return found
        except TimeoutError:
            cause: Cause = "timeout" if turn.begun else "busy"
            outcome = cause
            raise unreachable(cause) from None
        except ImageRefused as error:
            outcome = error.cause or error.reason
            raise
        finally:
            self._observe.fetched(outcome, self._now() - begun, visit.size)
