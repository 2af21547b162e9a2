"""What is wrong with a configuration, and where, in words for the person who wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Where a value is: keys of mappings and indexes of lists, from the top.
Part = str | int
Path = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One error. `line` counts from 1; it is None where there is no line, such as a missing file.

    Renders as `config/visiongate.yaml:12: providers.openai.base_ur: unknown key`.
    """

    file: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (where, self.path, self.message) if part)


class ConfigError(Exception):
    """A configuration that cannot be used; `problems` holds every error, by line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        super().__init__("\n".join(map(str, self.problems)))


def show_path(path: Path) -> str:
    """`models.gpt-4o.targets[0].provider`."""
    shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return shown.removeprefix(".")


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, else all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def one_of(choices: Sequence[str]) -> str:
    """`'a', 'b' or 'c'`."""
    *most, last = map(repr, choices)
    return f"{', '.join(most)} or {last}" if most else last
