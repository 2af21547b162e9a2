"""What is sent to a server: scripts, and commands that belong together on one connection."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final, TypeVar

from hiredis import pack_command
from redis.exceptions import RedisError, ResponseError

from proxy.domain.errors import StoreUnavailable

_INCLUDE: Final = re.compile(r"(?m)^ *-- include: ([a-z]+)\n")

T = TypeVar("T")
Argument = str | bytes | int
#: What is done with a client.
Work = Callable[[Any], Awaitable[T]]

_pack: Any = pack_command  # it is annotated as if it took one word only


def pack(*words: Argument) -> bytes:
    """A command as it is sent: https://valkey.io/topics/protocol/"""
    return _pack(words)  # type: ignore[no-any-return]


def pack_part(*words: Argument) -> bytes:
    """Words of a command, of which `pack_head` is the beginning."""
    packed: bytes = _pack(words)
    return packed[packed.index(b"\n") + 1 :]


@cache
def script_source(name: str) -> str:
    """A script, with the parts that it includes."""
    text = (resources.files("proxy.store") / "lua" / f"{name}.lua").read_text()
    return _INCLUDE.sub(lambda match: script_source(match[1]), text)


@cache
def script_sha(name: str) -> str:
    return hashlib.sha1(script_source(name).encode(), usedforsecurity=False).hexdigest()


@lru_cache(maxsize=8192)
def pack_head(script: str, keys: tuple[str, ...], count: int) -> bytes:
    """An EVALSHA up to its first argument, which is '' (the time: the server's); so many follow."""
    words = pack_part("EVALSHA", script_sha(script), len(keys), *keys, "")
    return b"*%d\r\n%b" % (4 + len(keys) + count, words)


def pack_script(script: str, keys: tuple[str, ...], arguments: Sequence[Argument]) -> bytes:
    """EVALSHA."""
    return pack("EVALSHA", script_sha(script), len(keys), *keys, *arguments)


def with_source(packed: bytes, script: str) -> bytes:
    """The same script for a server that does not have it: EVAL, which keeps it."""
    sha, source = pack_part("EVALSHA", script_sha(script)), pack_part("EVAL", script_source(script))
    return packed.replace(sha, source, 1)


async def exchange(client: Any, commands: Sequence[bytes]) -> list[Any]:
    """Packed commands in one round trip on a connection of the client's pool, or its only one;
    an error stands in its command's place.
    """
    pool, own = client.connection_pool, client.connection
    connection = own or await pool.get_connection()
    try:
        await connection.send_packed_command(b"".join(commands))
        return [await _reply(connection) for _ in commands]
    except BaseException:
        # Replies may be unread: who uses the connection next may not take them for its own.
        await connection.disconnect(nowait=True)
        raise
    finally:
        if own is None:
            await pool.release(connection)


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


@dataclass(frozen=True, slots=True)
class Command:
    """A work that is one command, packed, and needs no connection of its own. `name` is whose
    reply it is, to redis-py, where that makes something of it.
    """

    packed: bytes
    name: str = ""

    async def __call__(self, client: Any) -> Any:
        (reply,) = await exchange(client, (self.packed,))
        if isinstance(reply, RedisError):
            raise reply
        return self.read(client, reply)

    def read(self, client: Any, reply: Any) -> Any:
        """The reply as redis-py has it."""
        callback = client.response_callbacks.get(self.name) if self.name else None
        return callback(reply) if callback else reply


def copied(packed: bytes, replicas: int, milliseconds: int) -> Work[Any]:
    """A command that so many replicas must have in time; StoreUnavailable if they do not.

    WAIT speaks of what its own connection wrote: https://valkey.io/commands/wait/
    """

    async def work(client: Any) -> Any:
        answers = await exchange(client, (packed, pack("WAIT", replicas, milliseconds)))
        for answer in answers:
            if isinstance(answer, RedisError):
                raise answer
        reply, copies = answers
        if copies < replicas:
            raise StoreUnavailable(
                f"Only {copies} of {replicas} replicas of the gateway's store took the "
                "reservation in time. Try again.",
                headers={"retry-after": "1"},
            )
        return reply

    return work


def asking(work: Work[T]) -> Work[T]:
    """The same on a connection that says ASKING first, as a slot that is on its way wants it."""

    async def asked(client: Any) -> T:
        async with client.client() as single:
            await single.execute_command("ASKING")
            return await work(single)

    return asked
