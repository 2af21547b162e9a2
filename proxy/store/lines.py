"""Connections to one server that are kept in hand, for what is one command after the other.

redis-py's pool asks more of every command that passes it than the command itself costs; its
connections are the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from proxy.store.commands import Words, talk


async def converse(client: Any, *words: str) -> Any:
    """One command on a connection of its own, which is closed at once."""
    connection = client.connection_pool.make_connection()
    try:
        await connection.connect()
        await connection.send_command(*words)
        return await connection.read_response()
    finally:
        await connection.disconnect(nowait=True)


class Lines:
    """As many as are used at once."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._all: list[Any] = []
        self._idle: list[Any] = []
        self._closed = False

    async def exchange(self, commands: Sequence[Words]) -> list[Any]:
        """The replies to commands in one round trip; an error stands in its command's place."""
        line = self._idle.pop() if self._idle else self._new()
        try:
            if line.is_connected and await line.can_read():  # the server has closed it
                await line.disconnect(nowait=True)
            return await talk(self._client, line, commands)
        finally:
            self._idle.append(line)
            if self._closed:  # meanwhile: it may have been connected since
                await line.disconnect(nowait=True)

    async def drop_idle(self) -> None:
        """Connect anew for what comes next."""
        dropped, self._idle = self._idle, []  # nobody uses one that is being closed
        try:
            await _disconnect(dropped)
        finally:
            self._idle += dropped

    async def close(self) -> None:
        self._closed = True
        await _disconnect(self._all)

    def _new(self) -> Any:
        line = self._client.connection_pool.make_connection()
        self._all.append(line)
        return line


async def _disconnect(lines: list[Any]) -> None:
    await asyncio.gather(*(line.disconnect() for line in lines))
