"""Teams and keys that came as JSON, read as YAML is."""

from __future__ import annotations

import json
from collections import Counter

import msgspec

from proxy.config import Problem
from proxy.config.problems import Path, show_path


class JsonDocument:
    """A document that came as JSON: as `Document` has it, but without lines."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.data: dict[str, object] | None = None
        try:
            value = _as_read(msgspec.json.decode(text))
            json.loads(text, object_pairs_hook=_distinct)
            if isinstance(value, dict):
                self.data = value
            else:
                self.problems.append(self.problem((), "must be an object"))
        except (ValueError, RecursionError) as error:
            self.problems.append(self.problem((), f"is not JSON: {error}"))

    def problem(self, path: Path, message: str) -> Problem:
        return Problem(self.file, None, show_path(path), message)


def _distinct(pairs: list[tuple[str, object]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise ValueError(f"{twice!r} appears twice in one object")


def _as_read(value: object) -> object:
    """Decoded JSON as YAML is read: sequences are tuples, scalars are text."""
    match value:
        case dict():
            return {name: _as_read(item) for name, item in value.items()}
        case list():
            return tuple(map(_as_read, value))
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
    return value
