"""OpenAI's tools and their choice as the Messages API's. Pure.

Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from proxy.domain import parameters as rule
from proxy.domain.steps import STEP, Steps
from proxy.domain.vocabulary import CLIENT_TOOLS

_encode = msgspec.json.encode
_decode = msgspec.json.decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode
_objects = msgspec.json.Decoder(list[dict[str, Raw]]).decode

#: The fields that are made into others together.
OF_TOOLS: Final = frozenset(("tools", "tool_choice", "parallel_tool_calls"))

_NULL: Final = Raw(b"null")
_CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}
_NO_PARAMETERS: Final = {"type": "object", "properties": {}}


def tools(raw: Raw | None) -> Steps[bytes]:
    """The definitions, with commas between. Raises BadRequest naming the tool."""
    if raw is None:
        return b""
    if len(memoryview(raw)) > STEP:
        yield
    try:
        given = _objects(raw)
    except msgspec.DecodeError:
        raise rule.wrong_type("tools", "a list of tools", _decode(raw)) from None
    made, size = [], 0
    for index, tool in enumerate(given):
        made.append(_encode(_tool(tool, f"tools[{index}]")))
        size += 256 + len(made[-1])
        if size > STEP:
            yield
            size = 0
    return b",".join(made)


def _tool(tool: Mapping[str, Raw], path: str) -> Mapping[str, Any]:
    """One definition; of another type are those that a plan allows the provider to run."""
    kind = _decode(tool.get("type", _NULL))
    if kind not in CLIENT_TOOLS:
        return tool
    if kind != "function":
        raise rule.invalid(f"{path}.type", "must be 'function' with this model")
    try:
        function = _object(tool["function"])
    except (msgspec.DecodeError, KeyError):
        raise rule.missing(f"{path}.function", "an object with a name") from None
    made: dict[str, Any] = {
        name: function[name]
        for name in ("name", "description", "strict")
        if function.get(name, _NULL) != _NULL
    }
    made["input_schema"] = _schema(function.get("parameters", _NULL), path)
    for value in (function, tool):
        if value.get("cache_control", _NULL) != _NULL:
            made["cache_control"] = value["cache_control"]
    return made


def _schema(parameters: Raw, path: str) -> Raw | dict[str, Any]:
    if parameters == _NULL:
        return _NO_PARAMETERS
    try:
        return parameters if _object(parameters) else _NO_PARAMETERS
    except msgspec.DecodeError:
        path = f"{path}.function.parameters"
        raise rule.wrong_type(path, "an object", _decode(parameters)) from None


def choice(fields: Mapping[str, Raw], *, any_tools: bool) -> dict[str, Any]:
    """What `tool_choice` and `parallel_tool_calls` come to; {} where they say nothing.

    Raises BadRequest.
    """
    chosen = _chosen(_decode(fields["tool_choice"])) if "tool_choice" in fields else {}
    if not any_tools and chosen.get("type") in (None, "auto", "none"):
        return {}  # a choice among none would be refused
    one = "parallel_tool_calls" in fields and _decode(fields["parallel_tool_calls"]) is False
    if one and chosen.get("type") != "none":
        return {"type": "auto", **chosen, "disable_parallel_tool_use": True}
    return chosen


def _chosen(choice: Any) -> dict[str, Any]:
    if isinstance(choice, str) and choice in _CHOICES:
        return {"type": _CHOICES[choice]}
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or choice.get("type") != "function":
        raise rule.invalid("tool_choice", f"must be one of {', '.join(_CHOICES)}, or a function")
    return {"type": "tool", "name": name}
