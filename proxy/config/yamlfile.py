"""YAML as plain data that remembers its lines, with `${}` references filled in.

A scalar written without quotes, or filled from a reference, is `Plain`: text that the field
it is meant for may read as a number or a truth value. So `model: 4.10` stays text where text
is wanted, and `port: "${PORT}"` is a number where a number is wanted. A null is None.
Sequences are tuples; keys are always text.
Source: https://yaml.org/spec/1.1/ (PyYAML's dialect, less its implicit types)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from .interpolation import Filling, interpolate
from .problems import Part, Path, Problem, show_path


class Plain(str):
    """Text that may also be read as a number or a truth value."""

    __slots__ = ()


_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_MERGE: Final = "tag:yaml.org,2002:merge"
_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ["map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value"]
)

#: What PyYAML says (a pattern), and what helps. Quoted text may be a secret: it is not repeated.
_SYNTAX: Final = (
    (r"found character '\\t'", "a tab cannot indent YAML; use spaces"),
    (r"that cannot start any token", "a value cannot begin with this character; quote it"),
    (r"undefined alias", "nothing above is named by this *alias; quote the value if it is text"),
    (r"tag handle", "a value that begins with ! is a tag; quote it if it is text"),
    (r"another document", "one document only: remove the '---'"),
    (r"but got '\{'", 'quote a reference inside { } and [ ]: "${NAME}"'),
    (r"mapping values are not allowed", "unexpected ':'; check the indentation, or quote the text"),
    (r"end of stream", "the quote that opens here is never closed"),
    (r"but got '<stream end>'", "the { or [ that opens here is never closed"),
    (r"could not find expected ':'", "not a 'key: value'"),
)


class Document:
    """One file: `data` (None if it has none), where its parts were written, and its problems."""

    def __init__(self, file: str, env: Mapping[str, str] | None) -> None:
        self.file = file
        self.data: dict[str, object] | None = None
        self.problems: list[Problem] = []
        self._env = env
        self._root: Node | None = None
        self._open: set[int] = set()
        self._done: dict[int, object] = {}
        self._unreadable: set[int] = set()
        self._fillings: list[Filling] = []

    def problem(self, path: Path, message: str, line: int | None = None) -> Problem:
        """A problem at `path`; what references were filled with is written as the reference."""
        for filling in self._fillings:
            message = filling.hide(message)
        return Problem(self.file, line or self._find(path)[1], show_path(path), message)

    def unreadable(self, path: Path) -> bool:
        """Whether the value at `path` already has a problem of its own."""
        node, _ = self._find(path)
        return id(node) in self._unreadable

    def read(self, text: str) -> None:
        """Fill in `data` and `problems`."""
        try:
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)
            value = self._value(self._root, ()) if self._root else None
            if isinstance(value, dict):
                self.data = value
            elif value is not None:
                self._report((), "must be a mapping of blocks such as 'store:' and 'models:'")
            elif not self.problems:
                self._report((), "is empty; it needs at least store, providers and models")
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self._report((), f"character #x{error.character:04x} is not allowed in YAML", line)
        except yaml.MarkedYAMLError as error:
            problem = error.problem or ""
            begins = error.context_mark if "stream" in problem else None
            mark = begins or error.problem_mark
            self._report((), _explain(problem), mark.line + 1 if mark else None)
        except RecursionError:
            self._report((), "is nested too deeply")

    def _report(self, path: Path, message: str, line: int | None = None) -> None:
        self.problems.append(self.problem(path, message, line))

    def _refuse(self, node: Node, path: Path, message: str) -> None:
        self._unreadable.add(id(node))
        self._report(path, message, node.start_mark.line + 1)

    def _find(self, path: Path) -> tuple[Node | None, int | None]:
        """The node at `path` (None if absent) and the line of it, or of the nearest block."""
        node, line = self._root, 1 if self._root else None
        for part in path:
            found = _child(node, part)
            if found is None:
                return None, line
            node, line = found
        return node, line

    def _value(self, node: Node, path: Path) -> object:
        if id(node) in self._done:
            return self._done[id(node)]
        value: object = None
        if id(node) in self._open:
            self._refuse(node, path, "an alias stands inside what it names")
            return None
        self._open.add(id(node))
        if node.tag not in _TAGS:
            self._refuse(node, path, "tags (!...) are not supported; quote the value if it is text")
        elif isinstance(node, ScalarNode):
            value = self._scalar(node, path)
        elif isinstance(node, SequenceNode):
            value = tuple(self._value(item, (*path, i)) for i, item in enumerate(node.value))
        elif isinstance(node, MappingNode):
            value = self._mapping(node, path)
        self._done[id(node)] = value
        return value

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, object]:
        self._check_keys(node, path)
        SafeConstructor().flatten_mapping(node)  # '<<: *anchor'; what is written here comes last
        return {
            key.value: self._value(value, (*path, key.value))
            for key, value in node.value
            if isinstance(key, ScalarNode)
        }

    def _check_keys(self, node: MappingNode, path: Path) -> None:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                self._report(path, "a key must be text", line)
            elif not _encodable(key.value):
                self._report(path, "a key holds half a character (a lone surrogate)", line)
            elif key.value in seen and key.tag != _MERGE:
                message = f"written twice, first on line {seen[key.value]}"
                self._report((*path, key.value), message, line)
            else:
                seen[key.value] = line

    def _scalar(self, node: ScalarNode, path: Path) -> str | None:
        plain = node.style is None
        if plain and node.value in _NULLS:
            return None
        text, fillings, errors = interpolate(node.value, self._env)
        self._fillings += fillings
        if not _encodable(text):
            errors.append("holds half a character (a lone surrogate)")
        for message in errors:
            self._refuse(node, path, message)
        if errors:
            return None
        return Plain(text) if plain or fillings else text


def read_yaml(text: str, file: str, env: Mapping[str, str] | None) -> Document:
    """Read one document. Never raises: what is wrong is in `problems`.

    `env` fills references in; None: there may be none.
    """
    document = Document(file, env)
    document.read(text)
    return document


def _child(node: Node | None, part: Part) -> tuple[Node, int] | None:
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item, item.start_mark.line + 1
    if isinstance(node, MappingNode):
        for key, value in reversed(node.value):
            if isinstance(key, ScalarNode) and key.value == part:
                return value, key.start_mark.line + 1
    return None


def _explain(problem: str) -> str:
    for pattern, message in _SYNTAX:
        if re.search(pattern, problem):
            return message
    return "not valid YAML: " + re.sub(r"(['\"])(?!<).{3,}\1", "this", problem)


def _encodable(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)
