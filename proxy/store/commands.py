"""What is sent to a server: scripts, and commands that belong together on one connection."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, TypeVar

from redis.exceptions import RedisError

from proxy.domain.errors import StoreUnavailable
from proxy.store.node import Work

Argument = str | bytes | int
T = TypeVar("T")


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
) -> Sequence[Argument]:
    """EVAL or EVALSHA."""
    return (command, script, len(keys), *keys, *arguments)


def pipelined(commands: Sequence[Sequence[Argument]]) -> Work[list[Any]]:
    """Several commands in one round trip; an error stands in its command's place."""

    async def work(client: Any) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for words in commands:
            pipeline.execute_command(*words)
        return list(await pipeline.execute(raise_on_error=False))

    return work


def copied(words: Sequence[Argument], replicas: int, milliseconds: int) -> Work[Any]:
    """A command that so many replicas must have in time; StoreUnavailable if they do not.

    WAIT speaks of what its own connection wrote: https://valkey.io/commands/wait/
    """

    async def work(client: Any) -> Any:
        answers = await pipelined([words, ("WAIT", replicas, milliseconds)])(client)
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
