"""The fields of questions: each reads a value, and says in JSON Schema what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.config.problems import nearest
from proxy.domain.errors import BadRequest
from proxy.manage import values
from proxy.manage.readers import Reader, one_of, or_null, text

MAX_BODY: Final = 8 * 2**20

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """`read` raises ValueError with a message that goes on from "'limits': "."""

    read: Reader
    schema: Schema
    required: bool = False


Fields = Mapping[str, Field]


class _At(ValueError):
    """What is wrong with one of several."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


def read_fields(given: Any, fields: Fields, what: str) -> dict[str, Any]:
    """The fields of a body or a query. Raises BadRequest that names the first wrong one."""
    if not isinstance(given, Mapping):
        raise BadRequest(f"The {what} must be an object of {', '.join(fields)}.")
    for name in given:
        if name not in fields:
            known = nearest(str(name), fields) or "; it takes none"
            raise BadRequest(f"unknown {what} field '{str(name)[:64]}'{known}", param=name[:64])
    for name, one in fields.items():
        if one.required and name not in given:
            raise BadRequest(f"'{name}' is required.", param=name)
    return {name: _read(name, fields[name], value) for name, value in given.items()}


def sentence(error: Exception) -> str:
    """What an exception says, with a stop."""
    text = str(error)
    return text if text.endswith("?") else f"{text}."


def _read(name: str, one: Field, value: Any) -> Any:
    try:
        return one.read(value)
    except ValueError as error:
        place = name + (error.place if isinstance(error, _At) else "")
        raise BadRequest(f"'{place}': {sentence(error)}", param=place) from None


def list_of(read: Reader) -> Reader:
    def read_list(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError("must be a list")
        found = []
        for index, item in enumerate(value):
            try:
                found.append(read(item))
            except ValueError as error:
                raise _At(f"[{index}]", str(error)) from None
        return found

    return read_list


def labels(value: Any) -> dict[str, str | None]:
    """Labels by name; null takes one away."""
    if not isinstance(value, Mapping):
        raise ValueError("must be an object of names and texts")
    for name, item in value.items():
        if item is not None and not isinstance(item, str):
            raise _At(f".{name[:64]}", "must be text")
        try:
            values.check_label(name, item or "")
        except ValueError as error:
            raise _At(f".{name[:64]}", str(error)) from None
    return dict(value)


def _string(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, "maxLength": values.LONGEST, **more}


def _flag(description: str) -> Field:
    words = ("true", "false")
    read = one_of(*words)
    schema = {"type": "string", "enum": list(words), "description": description}
    return Field(lambda value: read(value) == "true", schema)


_WHEN: Final = "a time (2027-01-31T08:00:00Z), a day (its first moment, UTC) or a span (90d)"
_STATUS: Final = ("active", "paused")

NAME: Final = Field(
    text(), _string("up to 64 letters, digits and . _ -", maxLength=64), required=True
)
NEW_NAME: Final = Field(text(), NAME.schema)
TEAM: Final = Field(text(), _string("a team's name"))
OF_TEAM: Final = Field(text(), TEAM.schema, required=True)
PLAN: Final = Field(text(), _string("a plan of the configuration"))
KEY_PLAN: Final = Field(
    or_null(text()),
    {"type": ["string", "null"], "description": "a plan that narrows the team's; null: none"},
)
LIMITS: Final = Field(
    list_of(text(values.limit)),
    {
        "type": "array",
        "items": _string("such as '50 usd/month' or '100k tokens/day on gpt-4o'"),
        "description": "its own limits, all of them: they stand in the place of those before",
    },
)
LABELS: Final = Field(
    labels,
    {
        "type": "object",
        "additionalProperties": {"type": ["string", "null"]},
        "description": "labels to set, by name; null takes one away, others stay",
    },
)
STATUS: Final = Field(one_of(*_STATUS), _string("paused: requests are refused", enum=list(_STATUS)))
AMOUNT: Final = Field(
    text(values.limit),
    _string("such as '20 usd' or '500k tokens/day'; it adds to the limit of its unit"),
    required=True,
)
UNTIL: Final = Field(
    or_null(text(values.until)),
    {"type": ["string", "null"], "description": f"{_WHEN}; null: the end of the limit's window"},
)
PROVIDER: Final = Field(text(), _string("a provider of the configuration"), required=True)
OFF_UNTIL: Final = Field(
    or_null(text(values.until)),
    {"type": ["string", "null"], "description": f"{_WHEN}; null: until it is enabled"},
)
REASON: Final = Field(text(values.reason), _string("one line", maxLength=values.LONGEST_REASON))
EXPIRES: Final = Field(
    or_null(text(values.expiry)),
    {"type": ["string", "null"], "description": f"{_WHEN}; null: never"},
)
OVERLAP: Final = Field(
    text(values.overlap), _string("how long the old secret goes on, such as 24h (default) or 0")
)
LEAK: Final = Field(
    text(most=MAX_BODY),
    _string("a key, or any text that may hold keys", maxLength=MAX_BODY),
    required=True,
)
EFFECTIVE: Final = _flag("with every limit that binds it")
DRY_RUN: Final = _flag("tell what would change only")
SINCE: Final = Field(text(values.since), _string("a time, a day or a span (7d ago)"))
MOST: Final = Field(text(values.number), _string("at most as many lines (default 1000)"))
FIRST_DAY: Final = Field(text(values.day), _string("the first day, or a span (7d ago)"))
LAST_DAY: Final = Field(text(values.day), _string("the last day, or a span (7d ago)"))
MONTH: Final = Field(text(values.month), _string("such as 2026-11"))
BY: Final = Field(
    text(values.groups), _string(f"of {','.join(values.GROUPS)} (default team,model)")
)
KEY: Final = Field(text(), _string("a key's id or name"))
MODEL: Final = Field(text(), _string("a model's name"))
FORMAT: Final = Field(one_of("yaml", "json"), _string("yaml (default)", enum=["yaml", "json"]))
