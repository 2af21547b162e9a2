"""The log: one JSON object a line, on standard output.

What is logged is chosen field by field at the call: never a body, an image, a URL of one,
a header or a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from datetime import UTC, datetime
from select import PIPE_BUF
from typing import BinaryIO

import msgspec

_encode = msgspec.json.Encoder(enc_hook=str).encode


class Log:
    """Values in, a line out: the fields in their order, then the event, its level and its time.

    `out`: where to; None is the standard output of the moment.
    """

    def __init__(self, out: BinaryIO | None = None) -> None:
        self.out = out
        self._lost = 0
        self._rest = b""
        self._held: list[bytes] = []
        self._size = 0  # of those

    def info(self, event: str, **fields: object) -> None:
        self._tell("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._tell("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._tell("error", event, fields)

    def unexpected(self, error: BaseException, **fields: object) -> None:
        """A fault of our own: its type and its place are enough to find it, and its text may quote
        data.
        """
        self.error("unexpected", **fields, error=type(error).__name__, at=_place_of(error))

    def _tell(self, level: str, event: str, fields: dict[str, object]) -> None:
        fields["event"] = event
        fields["level"] = level
        fields["timestamp"] = datetime.now(UTC)
        self.write(fields)

    def write_soon(self, line: object) -> None:
        """One of many lines that have all their fields: those of one turn of the running loop are
        written together, as many as a pipe takes in one piece where others write to it, too.
        """
        self._hold(line)
        if len(self._held) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def write(self, line: object) -> None:
        """A line that has all its fields."""
        self._hold(line)
        self._flush()

    def _hold(self, line: object) -> None:
        text = _encode(line) + b"\n"
        if self._size + len(text) > PIPE_BUF:
            self._flush()
        self._held.append(text)
        self._size += len(text)

    def _flush(self) -> None:
        """Where the disk is full or the reader gone, what a line tells of goes on all the same; how
        many were lost is told with the next that is written.
        """
        held, self._held, self._size = self._held, [], 0
        if not held:
            return
        out = self.out or sys.stdout.buffer
        text = b"".join((self._rest, *held))
        try:
            taken = out.write(text)
        except OSError:
            taken = 0
        if not taken:
            self._lost += len(held)
            return
        self._rest = text[taken:]  # of a disk that had room for a part, without a buffer
        with contextlib.suppress(OSError):  # it stays in the buffer, for the next flush
            out.flush()
            if self._lost:
                lost, self._lost = self._lost, 0
                self.warning("log_lines_lost", lines=lost)


_LOG = Log()


def configure(out: BinaryIO | None = None) -> None:
    """Send our lines, and those of the libraries that matter, to one place."""
    _LOG.out = out
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)


def get() -> Log:
    """The log that `configure` has set up."""
    return _LOG


def _place_of(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f"{trace.tb_frame.f_globals.get('__name__', '')}:{trace.tb_lineno}"


class _Libraries(logging.Handler):
    """A library's line as JSON; an exception by its type alone, for its text may quote data."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        line = {"event": "library", "logger": record.name, "level": record.levelname.lower()}
        where = f"{record.module}:{record.lineno}"
        try:
            _LOG.write({**line, "where": where, "error": error, "message": str(record.msg)})
        except Exception:
            self.handleError(record)
