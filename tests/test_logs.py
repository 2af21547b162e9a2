"""The log's lines: what a reader of them relies on."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from select import PIPE_BUF
from typing import Any

import pytest

from proxy import logs
from proxy.logs import Log


@pytest.fixture
def configured() -> Iterator[io.BytesIO]:
    """The log and the libraries' lines, into one stream; afterwards as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logs.get().out
    out = io.BytesIO()
    logs.configure(out)
    yield out
    root.handlers[:], root.level, logs.get().out = before


def test_a_lines_order() -> None:
    """The fields come in the order in which they were given, then the event, level and time."""
    out = io.BytesIO()
    Log(out).warning("journal", team="vision", replayed=3)
    line = json.loads(out.getvalue())
    assert list(line) == ["team", "replayed", "event", "level", "timestamp"]
    assert list(line.values())[:4] == ["vision", 3, "journal", "warning"]


def test_the_time_is_in_utc() -> None:
    """A line's time is ISO 8601 in UTC, written with a Z."""
    out = io.BytesIO()
    Log(out).info("serving")
    time = json.loads(out.getvalue())["timestamp"]
    assert time.endswith("Z")
    assert datetime.fromisoformat(time).utcoffset() == timedelta(0)


def test_a_value_that_is_no_json() -> None:
    """A value that JSON does not have is written as its text."""
    out = io.BytesIO()
    Log(out).error("odd", where=ValueError("a text"))
    assert json.loads(out.getvalue())["where"] == "a text"


def test_one_place(configured: io.BytesIO) -> None:
    """Our lines and a library's go to the stream that was configured, each a line of its own."""
    logs.get().info("serving")
    logging.getLogger("some.library").warning("a %s", "word")
    events = [json.loads(line)["event"] for line in configured.getvalue().splitlines()]
    assert events == ["serving", "library"]


def test_a_librarys_exception(configured: io.BytesIO) -> None:
    """Of an exception that a library logs only the type is told: its text may quote data."""
    try:
        raise ValueError("a secret")
    except ValueError:
        logging.getLogger("some.library").exception("it failed")
    assert b"a secret" not in configured.getvalue()
    assert json.loads(configured.getvalue())["error"] == "ValueError"


class FullDisk(io.RawIOBase):
    """It takes as many bytes as there is `room` for."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.text = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = bytes(data)[: self.room]
        self.text += taken
        self.room -= len(taken)
        return len(taken)


class Disk(io.RawIOBase):
    """One that takes what comes, and knows each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: Any, /) -> int:
        self.writes.append(bytes(data))
        return len(data)


def told(write: bytes) -> list[int]:
    return [json.loads(line)["number"] for line in write.splitlines()]


def test_a_full_disk() -> None:
    """A line that cannot be written breaks nothing; those that the buffer had no room for are
    counted, and told of once there is room.
    """
    disk = FullDisk()
    out = io.BufferedWriter(disk, 1024)
    log = Log(out)
    for number in range(20):
        log.info("settled", number=number)
    disk.room = 1 << 20
    log.info("serving")
    lines = [json.loads(line) for line in disk.text.splitlines()]
    *kept, last, told = [line["event"] for line in lines]
    assert (last, told) == ("serving", "log_lines_lost")
    assert lines[-1]["lines"] == 20 - len(kept) > 0


async def test_lines_of_one_turn() -> None:
    """Lines that can wait are one write, in their order, at the end of the loop's turn, or with
    one that cannot wait.
    """
    disk = Disk()
    log = Log(disk)  # type: ignore[arg-type]
    for number in range(3):
        log.write_soon({"number": number})
    assert disk.writes == []
    await asyncio.sleep(0)
    log.write_soon({"number": 3})
    log.write({"number": 4})
    await asyncio.sleep(0)
    assert [told(write) for write in disk.writes] == [[0, 1, 2], [3, 4]]


async def test_lines_of_several_processes() -> None:
    """No write is of more than a pipe takes in one piece: what others write never comes between."""
    disk = Disk()
    log = Log(disk)  # type: ignore[arg-type]
    for number in range(1000):
        log.write_soon({"number": number})
    await asyncio.sleep(0)
    assert [number for write in disk.writes for number in told(write)] == [*range(1000)]
    assert max(map(len, disk.writes)) <= PIPE_BUF < len(b"".join(disk.writes))


def test_room_for_a_part_of_a_line() -> None:
    """A line of which the disk took a part, where there is no buffer, ends before the next."""
    disk = FullDisk(room=20)
    log = Log(disk)  # type: ignore[arg-type]
    for number in range(3):
        log.info("settled", number=number)
    disk.room = 1 << 20
    log.info("serving")
    lines = [json.loads(line) for line in disk.text.splitlines()]
    assert [line["event"] for line in lines] == ["settled", "serving", "log_lines_lost"]
    assert lines[-1]["lines"] == 2
