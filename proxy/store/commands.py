"""What is sent to a server: scripts, and commands that belong together on one connection."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar

from hiredis import pack_command
from redis.exceptions import RedisError, ResponseError

from proxy.domain.errors import StoreUnavailable

T = TypeVar("T")
Argument = str | bytes | int
Words = Sequence[Argument]
#: What is done with a client.
Work = Callable[[Any], Awaitable[T]]

_packed: Any = pack_command  # it is annotated as if it took one word only


@cache
def script_source(name: str) -> str:
    """A script with the shared part put behind its first line."""
    folder = resources.files("proxy.store") / "lua"
    shebang, _, body = (folder / f"{name}.lua").read_text().partition("\n")
    return f"{shebang}\n{(folder / 'common.lua').read_text()}\n{body}"


@cache
def script_sha(name: str) -> str:
    return hashlib.sha1(script_source(name).encode(), usedforsecurity=False).hexdigest()


def script_words(
    command: str, script: str, keys: Sequence[str], arguments: Sequence[Argument]
) -> Words:
    """EVAL or EVALSHA."""
    return (command, script, len(keys), *keys, *arguments)


async def talk(client: Any, connection: Any, commands: Sequence[Words]) -> list[Any]:
    """Commands in one round trip on a connection, which is connected if it is not; an error
    stands in its command's place.

    redis-py's own pipeline does the same at twice the price.
    """
    try:
        await connection.send_packed_command(b"".join(_packed(tuple(words)) for words in commands))
        return [await _reply(client, connection, words[0]) for words in commands]
    except BaseException:
        # Replies may be unread: who uses the connection next may not take them for its own.
        await connection.disconnect(nowait=True)
        raise


async def _reply(client: Any, connection: Any, name: Argument) -> Any:
    try:
        return await client.parse_response(connection, name)
    except ResponseError as error:
        return error


async def exchange(client: Any, commands: Sequence[Words]) -> list[Any]:
    """The same on a connection of the client's pool, or on its only one."""
    pool, own = client.connection_pool, client.connection
    connection = own or await pool.get_connection()
    try:
        return await talk(client, connection, commands)
    finally:
        if own is None:
            await pool.release(connection)


@dataclass(frozen=True, slots=True)
class Command:
    """A work that is one command, and may share its round trip with others."""

    words: Words

    async def __call__(self, client: Any) -> Any:
        (reply,) = await exchange(client, (self.words,))
        if isinstance(reply, RedisError):
            raise reply
        return reply


def copied(words: Words, replicas: int, milliseconds: int) -> Work[Any]:
    """A command that so many replicas must have in time; StoreUnavailable if they do not.

    WAIT speaks of what its own connection wrote: https://valkey.io/commands/wait/
    """

    async def work(client: Any) -> Any:
        answers = await exchange(client, (words, ("WAIT", replicas, milliseconds)))
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
