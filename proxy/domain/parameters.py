"""The request's parameters: which are checked, which are refused, which just pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, get_args

from proxy.domain.errors import BadRequest
from proxy.domain.jsonbody import MOST_NAMES
from proxy.domain.vocabulary import (
    CACHE_KEYS,
    CARRIERS,
    CLIENT_TOOLS,
    FAMILIAR,
    PARTS,
    REFUSED,
    THINKING,
    proper,
)

Detail = Literal["low", "high", "auto"]
PartDetail = Literal["low", "high", "auto", "original"]
Role = Literal["system", "developer", "user", "assistant", "tool", "function"]

DETAILS: Final = get_args(Detail)
PART_DETAILS: Final = get_args(PartDetail)
ROLES: Final = get_args(Role)
LARGEST_CAP: Final = 2**31 - 1
LARGEST_N: Final = 128
LONGEST_WORD: Final = 32
LONGEST_NAME: Final = 64

#: No honest request comes near, and each costs a check.
MOST_TOOLS: Final = 10_000

#: With several refused parameters, the same one is named each time.
_RANKS: Final = {name: rank for rank, name in enumerate(REFUSED)}
_REFUSABLE: Final = CARRIERS | REFUSED.keys()
_THINKING: Final = frozenset(THINKING)


def check_spelling(
    names: Collection[str], path: str = "", allowed: frozenset[str] = frozenset()
) -> None:
    """Raise BadRequest for another spelling of a checked name, which could undo the check;
    `path` ends before the name.
    """
    if FAMILIAR.issuperset(names):
        return
    _check_size(names, path.rstrip("."))
    for name in names:
        meant = proper(name)
        if meant is not None and name not in allowed:
            raise _unknown(path + name[:LONGEST_NAME], f"Did you mean '{meant}'?")


def _check_size(names: Collection[str], path: str) -> None:
    if len(names) > MOST_NAMES:
        raise invalid(path, f"must hold at most {MOST_NAMES} fields")


def check_keys(
    value: Mapping[str, Any], known: tuple[str, ...], path: str, allowed: frozenset[str]
) -> None:
    """Raise BadRequest for a key that an object of a closed vocabulary does not have."""
    _check_size(value, path)
    for key in value:
        if value[key] is None or key in known or (key in allowed and key not in PARTS):
            continue
        raise _unknown(
            f"{path}.{key[:LONGEST_NAME]}",
            f"Leave it out: here are only {_quoted(known)}, and what the plan's "
            "allow_parameters names.",
        )
    check_cache(value, path, allowed)


def check_cache(value: Mapping[str, Any], path: str, allowed: frozenset[str]) -> None:
    """Raise BadRequest where what an object says of the cache costs more than the default."""
    for key in CACHE_KEYS:
        _refuse(key, value.get(key), f"{path}.", allowed)


def stray_carrier(value: Mapping[str, Any], kind: str, allowed: frozenset[str]) -> str | None:
    """A key that carries media though the object's `kind` does not."""
    return next(
        (
            key
            for key in value
            if key in CARRIERS
            and key != kind
            and (key not in allowed or key in PARTS)
            and value[key] not in (None, [])
        ),
        None,
    )


def refuse_parameters(fields: Mapping[str, Any], allowed: frozenset[str]) -> None:
    """Raise BadRequest for the first parameter that the plan does not allow."""
    if not _REFUSABLE.isdisjoint(fields):
        for name in sorted(fields.keys() & REFUSED.keys(), key=_RANKS.__getitem__):
            _refuse(name, fields[name], "", allowed)
        if (stray := stray_carrier(fields, "messages", allowed)) is not None:
            raise invalid(stray, "belongs in a content part of its own type")
    effort = fields.get("reasoning_effort")
    if effort is not None and (not isinstance(effort, str) or len(effort) > LONGEST_WORD):
        raise wrong_type("reasoning_effort", "a word such as 'low' or 'high'", effort)
    if "tools" in fields and "tools" not in allowed:
        _check_tools(fields["tools"], allowed)


def _refuse(name: str, value: Any, path: str, allowed: frozenset[str]) -> None:
    harmless, why = REFUSED[name]
    if value is None or name in allowed or harmless(value):
        return
    raise BadRequest(
        f"The parameter '{path}{name}' is not allowed with this key: {why}. Leave it out, or ask "
        "the platform team to add it to the plan's allow_parameters.",
        param=f"{path}{name}",
    )


def thinks(fields: Mapping[str, Any]) -> bool:
    """Whether the request has its model think, be it one that is known to or not."""
    return not _THINKING.isdisjoint(fields) and any(
        THINKING[name](fields[name]) for name in fields.keys() & _THINKING
    )


def _check_tools(tools: Any, allowed: frozenset[str]) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise wrong_type("tools", "a list of tools", tools)
    if len(tools) > MOST_TOOLS:
        raise invalid("tools", f"must hold at most {MOST_TOOLS} tools")
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise wrong_type(path, "an object", tool)
        kind = tool.get("type")
        if kind not in CLIENT_TOOLS:
            raise BadRequest(
                f"{path}.type must be one of {_quoted(CLIENT_TOOLS)}: tools that the "
                "provider runs have a price of their own.",
                param=f"{path}.type",
            )
        check_keys(tool, ("type", kind, *CACHE_KEYS), path, allowed)
        if isinstance(tool.get(kind), dict):
            # The client's own definition, of which the model reads what its server knows.
            check_spelling(tool[kind], f"{path}.{kind}.", allowed)
            check_cache(tool[kind], f"{path}.{kind}", allowed)


def boolean(fields: Mapping[str, Any], name: str, default: bool = False) -> bool:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise wrong_type(name, "true or false", value)
    return value


def positive(fields: Mapping[str, Any], name: str, largest: int = LARGEST_CAP) -> int | None:
    """A positive integer, or None where the field is absent or null."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, "a positive integer", value)
    if not 1 <= value <= largest:
        raise invalid(name, f"must be an integer from 1 to {largest}")
    return value


def temperature(fields: Mapping[str, Any]) -> None:
    value = fields.get("temperature")
    if value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong_type("temperature", "a number from 0 to 2", value)
    if not 0 <= value <= 2:
        raise invalid("temperature", "must be a number from 0 to 2")


def choice(value: Any, path: str, known: tuple[str, ...]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(path, f"one of {_quoted(known)}", value)
    if value not in known:
        raise invalid(path, f"must be one of {_quoted(known)}")
    return value


def wrong_type(path: str, wanted: str, value: object) -> BadRequest:
    return BadRequest(
        f"Invalid type for '{path}': expected {wanted}, but got {_kind(value)} instead.",
        param=path,
        code="invalid_type",
    )


def invalid(path: str, what: str) -> BadRequest:
    return BadRequest(f"Invalid value for '{path}': it {what}.", param=path, code="invalid_value")


def _unknown(path: str, what: str) -> BadRequest:
    return BadRequest(f"Unknown parameter: '{path}'. {what}", param=path, code="unknown_parameter")


def missing(path: str, what: str = "") -> BadRequest:
    tail = f": {what}" if what else ""
    return BadRequest(
        f"Missing required parameter: '{path}'{tail}.",
        param=path,
        code="missing_required_parameter",
    )


_KINDS: Final[Mapping[type, str]] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    type(None): "null",
}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "something else")


def _quoted(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)
