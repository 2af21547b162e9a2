"""Long work in steps, between which whoever runs it may do something else. Pure."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, TypeVar

T = TypeVar("T")

#: Work that makes a T. It yields between steps that take well under a millisecond each; what is
#: short has one.
Steps = Generator[None, None, T]

#: Bytes or characters of a step that looks at each of them; three and four divide it.
STEP: Final = 48 << 10


def finish(steps: Steps[T]) -> T:
    """All of it at once."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            made: T = done.value
            return made
