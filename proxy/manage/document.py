"""Teams and keys as YAML or JSON: what export writes and import reads."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import yaml

from proxy.config import Problem
from proxy.config.problems import Path, nearest
from proxy.config.yamlfile import Document
from proxy.domain.identity import Grant, KeyRecord, Secret, TeamRecord
from proxy.domain.windows import stamp_of
from proxy.manage import values
from proxy.manage.jsonfile import JsonDocument
from proxy.manage.readers import Reader, one_of, or_null, text
from proxy.store.changes import MOST_SECRETS, DirectoryError, check_name
from proxy.store.shapes import plain

VERSION: Final = "1"

_HEAD: Final = """\
# Teams and keys of a visiongate store, made by `visiongate export`; `visiongate import` reads it.
# Keys are hashes. They work where one of the peppers with these marks is configured.
"""
_ID: Final = re.compile(r"key_[0-9A-Za-z]{1,64}", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_HINT: Final = re.compile(r"[0-9A-Za-z]{1,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """A team or a key of a file: where it is, and what is written of it."""

    path: Path
    given: dict[str, Any]
    keys: tuple[Entry, ...] = ()


def make_document(
    teams: Sequence[TeamRecord], keys: Mapping[str, Sequence[KeyRecord]], marks: Sequence[str]
) -> dict[str, Any]:
    """Plain data, to be written as JSON or YAML; `keys` by team."""
    listed = [{**plain(team), "keys": [plain(key) for key in keys[team.name]]} for team in teams]
    return {"version": int(VERSION), "peppers": list(marks), "teams": listed}


def as_yaml(data: Mapping[str, Any]) -> str:
    """The text of a document, which says what it is."""
    text = yaml.safe_dump(
        data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=2**20
    )
    return _HEAD + text.replace("$", "$$")  # what is read is interpolated, as in the config


def read_document(
    document: Document | JsonDocument,
) -> tuple[list[Entry], list[str], list[Problem]]:
    """The teams of a document, its peppers' marks, and what is wrong with it."""
    if document.data is None or document.problems:
        return [], [], document.problems
    reading = _Reading(document)
    top = reading.block(document.data, (), _FILE)
    teams = tuple(
        reading.team(team, ("teams", index)) for index, team in enumerate(top.get("teams", ()))
    )
    return [team for team in teams if team], list(top.get("peppers", ())), reading.found


class _Reading:
    """One walk over a document, which notes every problem and goes on."""

    def __init__(self, document: Document | JsonDocument) -> None:
        self._document = document
        self.found: list[Problem] = []

    def tell(self, path: Path, message: str) -> None:
        self.found.append(self._document.problem(path, message))

    def block(self, data: Any, path: Path, fields: Mapping[str, Reader]) -> dict[str, Any]:
        """What could be read of a mapping."""
        given: dict[str, Any] = {}
        if not isinstance(data, dict):
            self.tell(path, "must be a mapping")
            return given
        for name, value in data.items():
            try:
                if name not in fields:
                    raise ValueError(f"unknown key{nearest(name, fields)}")
                given[name] = fields[name](value)
            except (ValueError, DirectoryError) as error:
                self.tell((*path, name), str(error))
        return given

    def team(self, data: Any, path: Path) -> Entry | None:
        given = self._entry(data, path, _TEAM, ("name",))
        listed = given.pop("keys", ())
        keys = [self.key(key, (*path, "keys", index)) for index, key in enumerate(listed)]
        return Entry(path, given, tuple(key for key in keys if key)) if "name" in given else None

    def key(self, data: Any, path: Path) -> Entry | None:
        given = self._entry(data, path, _KEY, ("id", "name"))
        return Entry(path, given) if given.keys() >= {"id", "name"} else None

    def _entry(
        self, data: Any, path: Path, fields: Mapping[str, Reader], required: Sequence[str]
    ) -> dict[str, Any]:
        given = self.block(data, path, fields)
        for name in required:
            if isinstance(data, dict) and name not in data:
                self.tell((*path, name), "required")
        return given


def _matching(pattern: re.Pattern[str], what: str) -> Reader:
    def read(value: Any) -> str:
        if not pattern.fullmatch(_text(value)):
            raise ValueError(f"is not {what}")
        return str(value)

    return read


def _named(what: str) -> Reader:
    def read(value: Any) -> str:
        check_name(_text(value), what)
        return str(value)

    return read


def _list(read: Reader, most: float = math.inf) -> Reader:
    def read_list(value: Any) -> tuple[Any, ...]:
        if value is not None and not isinstance(value, tuple):
            raise ValueError("must be a list")
        if value and len(value) > most:
            raise ValueError(f"must be at most {most}")
        return tuple(read(item) for item in value or ())

    return read_list


def _struct(build: Callable[..., Any], fields: Mapping[str, Reader], *optional: str) -> Reader:
    def read(value: Any) -> Any:
        names = set(value) if isinstance(value, dict) else set()
        if not fields.keys() - set(optional) <= names <= fields.keys():
            raise ValueError(f"each must be a mapping of {', '.join(fields)}")
        return build(**{name: fields[name](item) for name, item in value.items()})

    return read


def _seconds(value: Any) -> int:
    try:
        time = datetime.fromisoformat(_text(value))
        seconds = int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
        if 0 <= seconds <= values.LAST:
            return seconds
    except ValueError:
        pass
    raise ValueError("is not a time; write it as 2027-01-31T00:00:00Z")


def _labels(value: Any) -> dict[str, str]:
    if value is not None and not isinstance(value, dict):
        raise ValueError("must be a mapping")
    if value and len(value) > values.MOST_LABELS:
        raise ValueError(f"must be at most {values.MOST_LABELS}")
    return dict(values.check_label(name, _label_text(item)) for name, item in (value or {}).items())


def _label_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("each must be text")
    return str(value)


def _whole(value: Any) -> int:
    if not re.fullmatch(r"-?[0-9]{1,15}", _text(value), re.ASCII):
        raise ValueError("must be a whole number")
    return int(value)


def _grant(value: Any) -> Grant:
    """One that can have been given: of a window that there was, or is."""
    grant: Grant = _any_grant(value)
    window = grant.limit.window
    if window == "minute" or grant.limit.unit == "concurrent":
        raise ValueError(f"'{grant.limit}' has no window that something could be added to")
    first, now = stamp_of(window, 0), stamp_of(window, int(time.time() * 1000))
    if not first <= grant.stamp <= now:
        raise ValueError(
            f"the stamp of '{grant.limit}' must be from {first} to {now}, which is now"
        )
    return grant


def _as_is(value: Any) -> Any:
    return value


_text: Final = text()
_limit: Final = text(values.limit)
_any_grant: Final = _struct(
    Grant, {"limit": _limit, "stamp": _whole, "until": or_null(_seconds)}, "until"
)
_FILE: Final[Mapping[str, Reader]] = {
    "version": one_of(VERSION),
    "peppers": _list(_text),
    "teams": _list(_as_is),
}
_RECORD: Final[Mapping[str, Reader]] = {
    "limits": _list(_limit),
    "created_at": _seconds,
}
_TEAM: Final[Mapping[str, Reader]] = {
    **_RECORD,
    "name": _named("team"),
    "plan": _text,
    "status": one_of("active", "paused"),
    "grants": _list(_grant),
    "labels": _labels,
    "keys": _list(_as_is),
}
_SECRET: Final[Mapping[str, Reader]] = {
    "digest": _matching(_DIGEST, "64 digits of hex"),
    "hint": _matching(_HINT, "the end of a key"),
    "expires_at": or_null(_seconds),
}
_KEY: Final[Mapping[str, Reader]] = {
    **_RECORD,
    "id": _matching(_ID, "a key's id"),
    "name": _named("key"),
    "plan": or_null(_text),
    "status": one_of("active", "paused", "revoked"),
    "expires_at": or_null(_seconds),
    "secrets": _list(_struct(Secret, _SECRET, "expires_at"), MOST_SECRETS),
}
