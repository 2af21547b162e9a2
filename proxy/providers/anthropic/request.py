"""An OpenAI request's fields as the Messages API's: one table. Pure.

What changes nothing but what the client cannot see is left out; what would change the answer and
cannot be had is refused, by its name; what is in no table goes up as it came, as to any provider,
and is refused there by its name where it is not known. `temperature` above 1, OpenAI's scale, is 1:
as free as the model gets, and what the vendor's own compatible endpoint does.
Source: https://platform.claude.com/docs/en/api/messages,
https://platform.claude.com/docs/en/api/openai-sdk
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from proxy.domain import parameters as rule
from proxy.domain.chat import ChatRequest
from proxy.domain.cuts import Pieces
from proxy.domain.routing import Target
from proxy.domain.vocabulary import CLIENT_TOOLS

_Fields = dict[str, Any]
_encode = msgspec.json.encode
_decode = msgspec.json.decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_objects = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode

_NULL: Final = msgspec.Raw(b"null")

#: Said elsewhere, or of no effect on the answer: OpenAI promises no more of a `seed` than an
#: effort, tags and keys are its own, and thoughts are not shown.
_LEFT_OUT: Final = frozenset(
    (
        *("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"),
        *("n", "detail", "seed", "store", "metadata", "service_tier", "modalities", "verbosity"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "prediction"),
        *("background", "include_reasoning", "reasoning_format"),
    )
)

#: What cannot be had: of which values that is no loss, and what is said of the others.
_REFUSED: Final[Mapping[str, tuple[tuple[Any, ...], str]]] = {
    "logprobs": ((False,), "must be false: this model's provider tells none"),
    "top_logprobs": ((0,), "must be 0: this model's provider tells none"),
    "logit_bias": (({},), "must be empty: this model's provider has no such thing"),
    "frequency_penalty": ((0,), "must be 0: this model's provider has none"),
    "presence_penalty": ((0,), "must be 0: this model's provider has none"),
    "functions": (([],), "must be sent as 'tools'"),
    "function_call": (("none", "auto"), "must be sent as 'tool_choice'"),
    # The names that the Messages API has for what OpenAI's has another for.
    "system": ((), "must be a message with the role 'system'"),
    "stop_sequences": ((), "must be sent as 'stop'"),
    "output_config": ((), "must be sent as 'response_format' and 'reasoning_effort'"),
}

#: Without a word for it, the least that there is.
_EFFORTS: Final = {"minimal": "low"}


def encode(
    request: ChatRequest, messages: Pieces | None, target: Target, output_param: str
) -> Pieces:
    """The request's body, with the messages as messages.py makes them.

    Raises BadRequest for a field that cannot be translated.
    """
    if request.n > 1:
        raise rule.invalid("n", "must be 1: this model's provider gives one answer at a time")
    out: _Fields = {"model": target.model, "max_tokens": request.cap}
    if request.stream:
        out["stream"] = True
    fields = {
        name: raw for name, raw in request.fields.items() if name not in _LEFT_OUT and raw != _NULL
    }
    for name, raw in fields.items():
        if name in _REFUSED:
            _check(name, _decode(raw))
        elif name in _TRANSLATED:
            for key, value in _TRANSLATED[name](raw).items():
                out[key] = {**out[key], **value} if key in out else value
        elif name not in _OF_TOOLS:
            out[name] = raw
    out |= _tool_fields(fields)
    return [_encode(out)[:-1] + b",", *(messages or ()), b"}"]


def _check(name: str, value: Any) -> None:
    harmless, why = _REFUSED[name]
    if value not in harmless:
        raise rule.invalid(name, why)


def _temperature(raw: msgspec.Raw) -> _Fields:
    return {"temperature": raw if _decode(raw) <= 1 else 1}


def _stop(raw: msgspec.Raw) -> _Fields:
    stop = _decode(raw)
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise rule.wrong_type("stop", "a string or a list of strings", stop)
    if not all(each.strip() for each in stops):
        raise rule.invalid("stop", "must hold more than white space with this model")
    return {"stop_sequences": stops} if stops else {}


def _user(name: str) -> Callable[[msgspec.Raw], _Fields]:
    def user(raw: msgspec.Raw) -> _Fields:
        value = _decode(raw)
        if not isinstance(value, str):
            raise rule.wrong_type(name, "a string", value)
        return {"metadata": {"user_id": value}}

    return user


def _effort(raw: msgspec.Raw) -> _Fields:
    """How much is thought and said; `thinking`, which switches thinking on, is the client's to send
    where a model does not think by itself.

    Source: https://platform.claude.com/docs/en/build-with-claude/effort
    """
    effort = _decode(raw)
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    return {"output_config": {"effort": _EFFORTS.get(effort, effort)}}


def _format(raw: msgspec.Raw) -> _Fields:
    """Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs"""
    given = _decode(raw)
    kind = given.get("type") if isinstance(given, dict) else None
    if kind == "text":
        return {}
    if kind != "json_schema":
        raise rule.invalid("response_format", "must be of the type 'json_schema' with this model")
    try:
        schema = _object(_object(raw)["json_schema"])["schema"]
    except (msgspec.DecodeError, KeyError):
        raise rule.missing("response_format.json_schema.schema") from None
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


_TRANSLATED: Final[Mapping[str, Callable[[msgspec.Raw], _Fields]]] = {
    "temperature": _temperature,
    "stop": _stop,
    "user": _user("user"),
    "safety_identifier": _user("safety_identifier"),
    "reasoning_effort": _effort,
    "response_format": _format,
}

_OF_TOOLS: Final = frozenset(("tools", "tool_choice", "parallel_tool_calls"))
_CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}
_NO_PARAMETERS: Final = {"type": "object", "properties": {}}


def _tool_fields(fields: Mapping[str, msgspec.Raw]) -> _Fields:
    tools = _tools(fields["tools"]) if "tools" in fields else []
    choice = _choice(_decode(fields["tool_choice"])) if "tool_choice" in fields else {}
    if not tools and choice.get("type") in (None, "auto", "none"):
        return {}  # a choice of nothing would be refused
    one = "parallel_tool_calls" in fields and _decode(fields["parallel_tool_calls"]) is False
    if one and choice.get("type") != "none":
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    out: _Fields = {"tools": tools} if tools else {}
    return {**out, "tool_choice": choice} if choice else out


def _choice(choice: Any) -> _Fields:
    if isinstance(choice, str) and choice in _CHOICES:
        return {"type": _CHOICES[choice]}
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or choice.get("type") != "function":
        raise rule.invalid("tool_choice", f"must be one of {', '.join(_CHOICES)}, or a function")
    return {"type": "tool", "name": name}


def _tools(raw: msgspec.Raw) -> list[_Fields]:
    """The definitions; a tool of another type is one that a plan allows the provider to run."""
    try:
        given = _objects(raw)
    except msgspec.DecodeError:
        raise rule.wrong_type("tools", "a list of tools", _decode(raw)) from None
    return [_tool(tool, f"tools[{index}]") for index, tool in enumerate(given)]


def _tool(tool: Mapping[str, msgspec.Raw], path: str) -> _Fields:
    kind = _decode(tool.get("type", _NULL))
    if kind not in CLIENT_TOOLS:
        return dict(tool)
    if kind != "function":
        raise rule.invalid(f"{path}.type", "must be 'function' with this model")
    try:
        function = _object(tool["function"])
    except (msgspec.DecodeError, KeyError):
        raise rule.missing(f"{path}.function", "an object with a name") from None
    made: _Fields = {
        name: function[name]
        for name in ("name", "description", "strict")
        if function.get(name, _NULL) != _NULL
    }
    schema = function.get("parameters", _NULL)
    made["input_schema"] = schema if _decode(schema) else _NO_PARAMETERS
    for value in (function, tool):
        if value.get("cache_control", _NULL) != _NULL:
            made["cache_control"] = value["cache_control"]
    return made
