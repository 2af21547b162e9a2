"""The log: one JSON object a line, on standard output.

What is logged is chosen field by field at the call: never a body, an image, a URL of one,
a header or a key.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import msgspec
import structlog

Log = structlog.typing.FilteringBoundLogger


def configure(stream: TextIO | None = None) -> None:
    """Send our lines, and those of the libraries that matter, to one place."""
    out = stream or sys.stdout
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(out),  # a line is one write: processes share it
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(_LibraryFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def get() -> Log:
    log: Log = structlog.get_logger()
    return log


class _LibraryFormatter(logging.Formatter):
    """A library's line as JSON; an exception by its type alone, for its text may quote data."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        line = {"event": "library", "logger": record.name, "level": record.levelname.lower()}
        where = f"{record.module}:{record.lineno}"
        return _encode({**line, "where": where, "error": error, "message": str(record.msg)})


def _encode(value: Any, **_: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()
