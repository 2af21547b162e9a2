"""An OpenAI request's fields as the Messages API's. Pure.

What changes nothing that the client can see is left out; what would change the answer and cannot be
had is refused, by its name; what is in no table goes up as it came, as to any provider, and is
refused there by its name where it is not known. `temperature` above 1, on OpenAI's scale, is 1: as
free as the model gets, and what the vendor's own compatible endpoint makes of it.
Source: https://platform.claude.com/docs/en/api/messages,
https://platform.claude.com/docs/en/api/openai-sdk
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from proxy.domain import parameters as rule
from proxy.domain.chat import ChatRequest
from proxy.domain.cuts import Pieces
from proxy.domain.routing import Target
from proxy.domain.steps import Steps
from proxy.providers.anthropic.messages import messages
from proxy.providers.anthropic.tools import OF_TOOLS, choice, tools

_Fields = dict[str, Any]
_encode = msgspec.json.encode
_decode = msgspec.json.decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode

_NULL: Final = Raw(b"null")

#: Said elsewhere, or of no effect on the answer: of a `seed` OpenAI promises no more than an
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

#: Where there is no word for it, the least that there is.
_EFFORTS: Final = {"minimal": "low"}


def encode(
    request: ChatRequest, translated: Pieces | None, target: Target, output_param: str
) -> Pieces:
    """The request's body: what `translate` made of it, for this target."""
    own = {"model": target.model, "max_tokens": request.cap, "stream": request.stream}
    return [_encode(own)[:-1], *(translated or ()), b"}"]


def translate(request: ChatRequest) -> Steps[Pieces]:
    """The members of the body that no target changes, each after a comma.

    Raises BadRequest for a field that cannot be translated.
    """
    if request.n > 1:
        raise rule.invalid("n", "must be 1: this model's provider gives one answer at a time")
    came = {
        name: raw for name, raw in request.fields.items() if name not in _LEFT_OUT and raw != _NULL
    }
    fields: _Fields = {}
    for name, raw in came.items():
        if name in _REFUSED:
            _check(name, _decode(raw))
        elif name in _TRANSLATED:
            _merge(fields, _TRANSLATED[name](raw))
        elif name not in OF_TOOLS:
            fields[name] = raw
    defined = yield from tools(came.get("tools"))
    if chosen := choice(came, any_tools=bool(defined)):
        fields["tool_choice"] = chosen
    said = yield from messages(request)
    written = b"," + _encode(fields)[1:-1] if fields else b""
    return [written + (b',"tools":[%b],' % defined if defined else b","), *said]


def _merge(fields: _Fields, made: _Fields) -> None:
    """What the client says in the API's own words stands."""
    for name, value in made.items():
        known = fields.setdefault(name, value)
        if known is not value and not isinstance(known, Raw):
            known |= value


def _check(name: str, value: Any) -> None:
    harmless, why = _REFUSED[name]
    if value not in harmless:
        raise rule.invalid(name, why)


def _temperature(raw: Raw) -> _Fields:
    return {"temperature": raw if _decode(raw) <= 1 else Raw(b"1")}


def _stop(raw: Raw) -> _Fields:
    stop = _decode(raw)
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise rule.wrong_type("stop", "a string or a list of strings", stop)
    if not all(each.strip() for each in stops):
        raise rule.invalid("stop", "must hold more than white space with this model")
    return {"stop_sequences": stops} if stops else {}


def _user(name: str) -> Callable[[Raw], _Fields]:
    def user(raw: Raw) -> _Fields:
        value = _decode(raw)
        if not isinstance(value, str):
            raise rule.wrong_type(name, "a string", value)
        return {"metadata": {"user_id": value}}

    return user


def _effort(raw: Raw) -> _Fields:
    """How much is thought and said. What has a model think that does not by itself is `thinking`,
    which goes up as it came.

    Source: https://platform.claude.com/docs/en/build-with-claude/effort
    """
    effort = _decode(raw)
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    return {"output_config": {"effort": _EFFORTS.get(effort, effort)}}


def _format(raw: Raw) -> _Fields:
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


_TRANSLATED: Final[Mapping[str, Callable[[Raw], _Fields]]] = {
    "temperature": _temperature,
    "stop": _stop,
    "user": _user("user"),
    "safety_identifier": _user("safety_identifier"),
    "reasoning_effort": _effort,
    "response_format": _format,
}
