"""Redis Cluster and Valkey Cluster: which node has a key, learnt from the nodes themselves.

Source: https://valkey.io/topics/cluster-spec/ (slots, hash tags, MOVED and ASK).

redis-py's cluster client does not do here: after any error of any node it asks for the whole
topology and the server's list of commands, it sleeps in between, and it sends WAIT on another
connection than the script that it is to wait for. So a node is redis-py's plain client under our
own deadlines, and one that is away concerns nobody but its own slots.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError

from proxy.store.lines import converse
from proxy.store.node import Node
from proxy.store.reach import Away, Patience, Resent, connect, unavailable

SCHEMES: Final = {"redis+cluster": "redis", "rediss+cluster": "rediss"}

_PORT: Final = 6379
_UNKNOWN: Final = ("", "?")  # hosts that mean: the one that was asked

Address = tuple[str, int]
#: First slot, last slot, and whose they are.
Ranges = tuple[tuple[int, int, Address], ...]


class Cluster:
    """The primaries of a cluster at `redis+cluster://` or `rediss+cluster://`.

    The URL names one node or more, separated by commas; the rest is found. User, password and
    options hold for all of them. Raises ValueError for a URL that cannot be used.
    """

    def __init__(self, url: str, patience: Patience) -> None:
        scheme, _, rest = url.partition("://")
        authority, slash, path = rest.partition("/")
        credentials, at, hosts = authority.rpartition("@")
        self._before, self._after = f"{SCHEMES[scheme]}://{credentials}{at}", slash + path
        self._seeds = [_address(host) for host in hosts.split(",")]
        self._patience = patience
        self.resent = Resent()
        self._nodes: dict[Address, Node] = {}
        self._slots: list[Node | None] = []
        self._cause: BaseException | None = None  # why nothing could be learnt
        self._learning: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        connect(self._url(self._seeds[0]))  # for its ValueError

    @property
    def nodes(self) -> list[Node]:
        """The primaries; none before the first `find`."""
        return list(self._nodes.values())

    @property
    def away(self) -> Away | None:
        """Set where no node answers."""
        found = [node.away for node in self.nodes]
        gone = [away for away in found if away is not None]
        return min(gone, key=lambda away: away.since) if gone and len(gone) == len(found) else None

    def known(self, key: str) -> Node | None:
        """The node of a key, as far as is known."""
        return self._slots[_slot(key)] if self._slots else None

    async def find(self, key: str | None) -> Node:
        """The node of a key, or for None any that answers.

        Raises StoreUnavailable where no node is known, ClusterDownError where none has the key.
        """
        if not self._slots:
            await asyncio.wait({self.learn()})
            if not self._slots:
                raise unavailable(self._cause)
        if key is None:
            there = [node for node in self.nodes if node.away is None]
            return random.choice(there or self.nodes)  # noqa: S311
        node = self.known(key)
        if node is None:
            self.learn()
            raise ClusterDownError("no node has the key's slot")
        return node

    def redirected(self, error: AskError, by: Node, *, moved: bool) -> Node:
        """The node that another one names; a slot that has `moved` is its from now on."""
        node = self._node((_host(error.host, urlsplit(f"//{by.name}").hostname), error.port))
        if moved:
            self._slots[error.slot_id] = node
            self.learn()
        return node

    def learn(self) -> asyncio.Task[None]:
        """Ask who has which slot, unless that is being asked already."""
        if self._learning is None or self._learning.done():
            self._learning = asyncio.create_task(self._learn(), name="cluster-learn")
        return self._learning

    async def close(self) -> None:
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait({self._learning})
        await asyncio.gather(*(node.close() for node in self.nodes), *self._retiring)

    async def _learn(self) -> None:
        """Ask everybody, since names and addresses may have changed; the most common answer
        counts, since one that was cut off may still think that it is what it was.
        """
        asked = {*self._nodes, *self._seeds}
        answers = await asyncio.gather(*map(self._ask, asked), return_exceptions=True)
        maps = [answer for answer in answers if isinstance(answer, tuple) and answer]
        if maps:
            self._take(Counter(maps).most_common(1)[0][0])
        else:
            failures = (error for error in answers if isinstance(error, BaseException))
            self._cause = next(failures, ClusterDownError("the nodes know of no slots"))

    async def _ask(self, address: Address) -> Ranges:
        client = connect(self._url(address))
        async with asyncio.timeout(self._patience.command):
            reply = await converse(client, "CLUSTER", "SLOTS")
        return _ranges(reply, address[0])

    def _take(self, ranges: Ranges) -> None:
        slots: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, address in ranges:
            slots[first : last + 1] = [self._node(address)] * (last + 1 - first)
        self._slots = slots
        for address in self._nodes.keys() - {address for _, _, address in ranges}:
            retiring = asyncio.create_task(self._nodes.pop(address).close())
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)

    def _node(self, address: Address) -> Node:
        if address not in self._nodes:
            client = connect(self._url(address))
            node = Node(_name(address), client, self._patience, self.learn, self.resent)
            self._nodes[address] = node
        return self._nodes[address]

    def _url(self, address: Address) -> str:
        return f"{self._before}{_name(address)}{self._after}"


@lru_cache(maxsize=4096)  # it is reckoned in Python, byte by byte
def _slot(key: str) -> int:
    return key_slot(key.encode())


def _address(text: str) -> Address:
    parts = urlsplit(f"//{text}")
    return parts.hostname or "", parts.port or _PORT


def _name(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host(given: str | None, asked: str | None) -> str:
    return (asked if given in _UNKNOWN else given) or ""


def _ranges(reply: list[Any], asked: str) -> Ranges:
    """What CLUSTER SLOTS says of primaries, in the order of the slots.

    Source: https://valkey.io/commands/cluster-slots/
    """
    return tuple(
        sorted(
            (first, last, (_host((host or b"").decode(), asked), port))
            for first, last, (host, port, *_), *_ in reply
        )
    )
