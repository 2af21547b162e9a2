"""The store: one Redis or Valkey, or a cluster of them, and the ledger's scripts."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Any, Final, TypeVar

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from proxy.domain.errors import StoreUnavailable
from proxy.store.cluster import SCHEMES, Cluster
from proxy.store.commands import Argument as Argument
from proxy.store.commands import Command, Work, asking, copied, pack, pack_script, with_source
from proxy.store.commands import script_source as script_source
from proxy.store.layout import SCHEMA, VERSION
from proxy.store.lines import Errand, Told
from proxy.store.node import Alone, Node
from proxy.store.reach import GATEWAY as GATEWAY  # its users find them here
from proxy.store.reach import PATIENT as PATIENT
from proxy.store.reach import Patience, connect, unavailable
from proxy.store.reach import translated as translated

_CANCEL_AGAIN: Final = 0.1  # seconds
_REDIRECTIONS: Final = 6
_TRY_AGAIN: Final = 0.02  # seconds

#: Scripts that may not be sent again when an answer was lost: it would be another one.
_ONCE: Final = frozenset({"replace", "settle", "post"})
#: Said instead of an answer: nothing was done, and something must be done about it first.
_NOT_HERE: Final = (NoScriptError, MovedError, AskError, TryAgainError)
#: Scripts that wait for replicas, and the part of a command's time that this may take (the server
#: looks at its clock ten times a second). Sent again they write again, so WAIT is true of that too.
_WAITING: Final = frozenset({"reserve"})
_WAITING_SHARE: Final = 0.5

#: What to do about a store of an older version.
_OLD: Final = (
    "export its teams and keys with the release that wrote it, and import them into an empty one"
)

T = TypeVar("T")


class SchemaError(RuntimeError):
    """The store is not one that this release can use: the message says why."""


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks that use the store, and wait until they are over.

    Once is not enough: the client may turn a cancellation into an error of its own.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN)
    await asyncio.gather(*tasks, return_exceptions=True)


def refused(error: StoreUnavailable) -> bool:
    """Whether a server is there, and answered that it would not."""
    return type(error.__cause__) is ResponseError  # those below it pass: a slot that moves, …


#: What is told of every call of a script: the seconds until it was answered or failed.
ScriptObserver = Callable[[str], Callable[[float], None]]


def _unobserved(script: str) -> Callable[[float], None]:
    return lambda seconds: None


class Store:
    """Connections. Every method raises StoreUnavailable; while the store is `away`, at once."""

    def __init__(
        self,
        servers: Alone | Cluster,
        observe: ScriptObserver = _unobserved,
        *,
        wait_replicas: int = 0,
        wait_ms: int = 0,
    ) -> None:
        self.servers = servers
        self.resent, self._known = servers.resent, servers.known
        self._observer = cache(observe)
        self._wait_replicas = wait_replicas
        self._wait_ms = wait_ms

    @classmethod
    def open(
        cls,
        url: str,
        observe: ScriptObserver = _unobserved,
        *,
        patience: Patience = GATEWAY,
        wait_replicas: int = 0,
    ) -> Store:
        """A store at `redis://`, `rediss://`, `unix://`, or with `+cluster` before the colon.

        Connects when it is first used. A reservation is made only where so many replicas have
        it in time. Raises ValueError for a URL that cannot be used.
        """
        many = url.partition("://")[0] in SCHEMES
        servers = Cluster(url, patience) if many else Alone(Node("store", connect(url), patience))
        wait_ms = int(patience.command * _WAITING_SHARE * 1000)
        return cls(servers, observe, wait_replicas=wait_replicas, wait_ms=wait_ms)

    @property
    def redis(self) -> Any:
        """The client of a store that is no cluster."""
        return self.servers.nodes[0].client

    @property
    def away(self) -> bool:
        """Whether no server answers: it is being looked for, and everything fails at once."""
        return self.servers.away is not None

    def there(self, key: str) -> bool:
        """Whether the server that has a key is not known to be away."""
        node = self._known(key)
        return node is None or node.away is None

    async def close(self) -> None:
        await self.servers.close()

    async def ping(self) -> None:
        """Whether the store can be used; of a cluster, whether it says so itself."""
        if isinstance(self.servers, Alone):
            await self.ask(None, "PING")
        elif b"cluster_state:ok" not in await self.ask(None, "CLUSTER", "INFO"):
            raise unavailable(ClusterDownError("the cluster is down"))

    async def check_schema(self) -> None:
        """Mark a new store, and raise SchemaError for one of another version."""
        await self.ask(SCHEMA, "SET", SCHEMA, VERSION, "NX")
        found = int(await self.ask(SCHEMA, "GET", SCHEMA) or VERSION)
        if found != VERSION:
            way = "use the release that wrote it, or a newer one" if found > VERSION else _OLD
            raise SchemaError(
                f"the store has schema version {found}, and this release knows {VERSION}: {way}"
            )

    async def ask(self, key: str | None, *words: Argument) -> Any:
        """One command, sent to where its key is, None: to any server; it may be sent twice."""
        return await self.use(key, Command(pack(*words), str(words[0])))

    async def use(self, key: str | None, work: Work[T], *, twice: bool = True) -> T:
        """What `work` makes of the client of the server that has a key.

        `twice`: it may be done again where its answer was lost. Raises what is no fault of
        Redis' as it is.
        """
        try:
            return await self._use(key, work, twice)
        except RedisError as error:
            raise unavailable(error) from error

    async def run(self, script: str, keys: tuple[str, ...], *arguments: Argument) -> Any:
        """One script, loaded when the store does not have it."""
        return await self.run_packed(script, keys[0], pack_script(script, keys, arguments))

    async def run_packed(self, script: str, key: str, packed: bytes) -> Any:
        """The same, of an EVALSHA that is packed; `key` is any of its keys."""
        begun, node = time.perf_counter(), self._known(key)
        try:
            if node is None or (self._wait_replicas and script in _WAITING):
                return await self._run(script, key, packed)
            reply = await node.ask(packed, script not in _ONCE)
            if not isinstance(reply, Exception):
                return reply
            if isinstance(reply, _NOT_HERE):
                return await self._run(script, key, packed)
            raise reply
        except RedisError as error:
            raise unavailable(error) from error
        finally:
            self._observer(script)(time.perf_counter() - begun)

    def begin(
        self, script: str, key: str, packed: bytes, then: Told[T], of: T, *, soon: bool
    ) -> bool:
        """Send a script, at once or with what comes next, and wait for nothing: `then` is told `of`
        and the reply, or as a value the error, which `run` might do something about. False where
        nothing was sent, and nothing is told: nobody knows which server has the key.
        """
        node = self._known(key)
        if node is None:
            return False
        observe = self._observer(script)
        node.send(Errand(packed, script not in _ONCE, soon, observe=observe, then=then, of=of))
        return True

    async def run_many(
        self, script: str, calls: Sequence[tuple[tuple[str, ...], Sequence[Argument]]]
    ) -> list[Any]:
        """One script several times over, as `ask_many` has it."""
        packed = [(keys[0], pack_script(script, keys, more)) for keys, more in calls]
        return await self.run_many_packed(script, packed)

    async def run_many_packed(self, script: str, calls: Sequence[tuple[str, bytes]]) -> list[Any]:
        """The same, of EVALSHAs that are packed, each with any of its keys."""
        begun = time.perf_counter()
        results = await self._many(calls, twice=script not in _ONCE)
        self._observer(script)(time.perf_counter() - begun)
        return await _again(results, lambda index: self.run_packed(script, *calls[index]))

    async def ask_many(self, calls: Sequence[tuple[str, Sequence[Argument]]]) -> list[Any]:
        """Commands with their keys, in one round trip to each server; they may be sent twice.

        The calls share no fate: in the place of one that failed stands its StoreUnavailable,
        which is raised only where no server could be reached.
        """
        results = await self._many([(key, pack(*words)) for key, words in calls], twice=True)
        return await _again(results, lambda index: self.ask(calls[index][0], *calls[index][1]))

    async def _many(self, calls: Sequence[tuple[str, bytes]], *, twice: bool) -> list[Any]:
        """The replies; in the place of one that failed its error, also of Redis' own."""
        results: list[Any] = []
        for key, packed in calls:
            try:
                results.append((await self.servers.find(key)).ask(packed, twice))
            except (RedisError, StoreUnavailable) as error:
                results.append(error)
        return [result if isinstance(result, Exception) else await result for result in results]

    def pubsub(self) -> Any:
        """A channel of redis-py's on any server that is there; its errors are Redis' own."""
        there = [node for node in self.servers.nodes if node.away is None]
        if not there:
            raise unavailable(None)
        return random.choice(there).client.pubsub()  # noqa: S311

    async def each(self, *words: str) -> dict[str, Any]:
        """What every server says to a command, by its address; an error of its own as it is."""
        await self.servers.find(None)
        nodes = self.servers.nodes
        asked = (node.use(lambda client: client.execute_command(*words)) for node in nodes)
        replies = await asyncio.gather(*asked, return_exceptions=True)
        return {node.name: reply for node, reply in zip(nodes, replies, strict=True)}

    async def _run(self, script: str, key: str, packed: bytes) -> Any:
        """The same with all that may be in the way."""
        try:
            return await self._use(key, self._work(script, packed), script not in _ONCE)
        except NoScriptError:
            packed = with_source(packed, script)
            return await self._use(key, self._work(script, packed), script not in _ONCE)

    def _work(self, script: str, packed: bytes) -> Work[Any]:
        if self._wait_replicas and script in _WAITING:
            return copied(packed, self._wait_replicas, self._wait_ms)
        return Command(packed)

    async def _use(self, key: str | None, work: Work[T], twice: bool) -> T:
        node, how = await self.servers.find(key), work
        for _ in range(_REDIRECTIONS):
            try:
                return await node.use(how, twice=twice)
            except MovedError as error:
                node, how = self.servers.redirected(error, node, moved=True), work
            except AskError as error:
                node, how = self.servers.redirected(error, node, moved=False), asking(work)
            except StoreUnavailable:
                if key is not None or node.away is None or self.away:
                    raise
                node = await self.servers.find(None)  # any other will do
            except TryAgainError:  # a script's keys are on their way to another node, one by one
                await asyncio.sleep(_TRY_AGAIN)
                node, how = await self.servers.find(key), work
        return await node.use(how, twice=twice)


async def _again(results: list[Any], call: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """Call once more, alone, what a server that is there did not do: another may have the key.

    Raises StoreUnavailable where no server could be reached.
    """
    if results and all(isinstance(result, StoreUnavailable) for result in results):
        raise results[0]
    for index, result in enumerate(results):
        if isinstance(result, RedisError):
            try:
                results[index] = await call(index)
            except StoreUnavailable as error:
                results[index] = error
    return results
