"""Readers of single fields, whether they came in a document or in a body.

Each raises ValueError with a message that goes on from "limits: ".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.manage.values import LONGEST

Reader = Callable[[Any], Any]


def text(read: Callable[[str], Any] = str, most: int = LONGEST) -> Reader:
    """Text that is not empty, of at most so many characters."""

    def read_text(value: Any) -> Any:
        if not isinstance(value, str) or not value:
            raise ValueError("must be text")
        if len(value) > most:
            raise ValueError(f"must be at most {most} characters")
        return read(value)

    return read_text


def or_null(read: Reader) -> Reader:
    return lambda value: None if value is None else read(value)


def one_of(*words: str) -> Reader:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be {' or '.join(words)}")
        return str(value)

    return read
