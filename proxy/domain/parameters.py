"""The request's parameters: which are checked, which are refused, which just pass.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from proxy.domain.errors import BadRequest

DETAILS: Final = ("low", "high", "auto")
PART_DETAILS: Final = (*DETAILS, "original")
ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
LARGEST_CAP: Final = 2**31 - 1
LARGEST_N: Final = 128
LONGEST_WORD: Final = 32


def _only(*harmless: object) -> Callable[[object], bool]:
    return lambda value: any(type(value) is type(h) and value == h for h in harmless)


def _never(value: object) -> bool:
    return False


def _text_only(value: object) -> bool:
    return value == ["text"]


#: Parameters that change price, retention or reach beyond the request. Each is refused
#: unless its value is harmless or the plan's `allow_parameters` names it.
REFUSED: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "service_tier": (_only("auto", "default"), "it changes the price"),
    "store": (_only(False), "it keeps the request at the provider"),
    "prompt_cache_retention": (_only("in_memory", "in-memory"), "it keeps the prompt for longer"),
    "web_search_options": (_never, "it lets the provider call out, at a price of its own"),
    "search_parameters": (_never, "it lets the provider call out, at a price of its own"),
    "enable_search": (_only(False), "it lets the provider call out, at a price of its own"),
    "data_sources": (_never, "it lets the provider call out, at a price of its own"),
    "mcp_servers": (_never, "it lets the provider call out, at a price of its own"),
    "plugins": (_never, "it lets the provider call out, at a price of its own"),
    "audio": (_never, "audio has a price of its own"),
    "modalities": (_text_only, "only text has a known price here"),
    "prediction": (_never, "rejected predictions are billed beyond max_tokens"),
    "n_predict": (_never, "it undoes the cap on the output"),
    "max_new_tokens": (_never, "it undoes the cap on the output"),
    "auto_max_new_tokens": (_only(False), "it undoes the cap on the output"),
    "thinking_budget": (_never, "thinking is billed beyond max_tokens"),
    "n_cmpl": (_only(1), "it multiplies the output beyond n"),
    "best_of": (_only(1), "it multiplies the output beyond n"),
    "use_beam_search": (_only(False), "it multiplies the output beyond n"),
    "deferred": (_only(False), "the answer would come by another way"),
    "session_params": (_never, "it continues a prompt that is not in the request"),
    "cached_content": (_never, "it continues a prompt that is not in the request"),
    "extra_body": (_never, "it holds parameters that are not looked at"),
    "extra_headers": (_never, "it changes what the upstream is sent"),
    "api_base": (_never, "it changes who answers"),
    "base_url": (_never, "it changes who answers"),
    "api_key": (_never, "it changes who pays"),
    "num_retries": (_only(0), "it multiplies the output beyond n"),
    "models": (_never, "it changes which model answers"),
    "route": (_never, "it changes which model answers"),
    "fallbacks": (_never, "it changes which model answers"),
    "preset": (_never, "it changes which model answers"),
    "provider": (_never, "it changes who answers"),
    "transforms": (_never, "it changes the prompt at the provider"),
    "chat_template": (_never, "it runs a template on the upstream"),
    "custom_logit_processor": (_never, "it runs code on the upstream"),
    "logits_processors": (_never, "it runs code on the upstream"),
    "lora_path": (_never, "it makes the upstream load a file"),
    "kv_transfer_params": (_never, "it makes the upstream connect to another host"),
    "bootstrap_host": (_never, "it makes the upstream connect to another host"),
    "mm_processor_kwargs": (_never, "it changes what an image costs"),
    "vl_high_resolution_images": (_only(False), "it changes what an image costs"),
}

#: Tools that the client itself runs; any other type has the provider call out.
CLIENT_TOOLS: Final = ("function", "custom")

#: Content parts that need no permission. Others carry media or files of unknown price.
PARTS: Final = ("text", "image_url", "refusal")

#: Keys by which some server takes media from a part whatever its type says.
CARRIERS: Final = frozenset(
    (
        "image_url",
        "image",
        "images",
        "image_embeds",
        "input_image",
        "video_url",
        "video",
        "input_video",
        "audio_url",
        "audio",
        "audio_embeds",
        "input_audio",
        "prompt_embeds",
        "multi_modal_data",
        "document_url",
        "file",
    )
)

#: Keys of an image part, or of its image_url, by which some server resizes the image.
RESIZERS: Final = (
    "max_pixels",
    "min_pixels",
    "total_pixels",
    "resized_height",
    "resized_width",
    "max_dynamic_patch",
    "min_dynamic_patch",
)

#: Names that are checked here, wherever they stand. Some servers match them in any case (Go's
#: encoding/json does), so another spelling could undo the check.
_CHECKED: Final = (
    CARRIERS
    | REFUSED.keys()
    | frozenset(("model", "messages", "stream", "stream_options", "include_usage", "n", "tools"))
    | frozenset(("max_tokens", "max_completion_tokens", "temperature", "detail"))
    | frozenset(("role", "content", "type", "text", "refusal", "url"))
)


def check_spelling(names: Iterable[str], path: str = "") -> None:
    """Raise BadRequest for a checked name in another case; `path` ends before the name."""
    for name in names:
        folded = name.casefold()
        if folded != name and folded in _CHECKED:
            raise BadRequest(
                f"Unknown parameter: '{path}{name}'. Did you mean '{folded}'?",
                param=f"{path}{name}",
                code="unknown_parameter",
            )


def stray_carrier(value: Mapping[str, Any], kind: str, allowed: frozenset[str]) -> str | None:
    """A key that carries media though the object's `kind` does not."""
    return next(
        (
            key
            for key in value
            if key in CARRIERS
            and key != kind
            and (key not in allowed or key in PARTS)
            and value[key] is not None
        ),
        None,
    )


def refuse_resizers(part: Mapping[str, Any], path: str) -> None:
    """Raise BadRequest for a key that makes an image cost what its size does not tell."""
    for key in RESIZERS:
        if part.get(key) is not None:
            raise invalid(f"{path}.{key}", "changes what the image costs; send it in its size")


def refuse_parameters(fields: Mapping[str, Any], allowed: frozenset[str]) -> None:
    """Raise BadRequest for the first parameter that the plan does not allow."""
    for name, (harmless, why) in REFUSED.items():
        value = fields.get(name)
        if value is None or name in allowed or harmless(value):
            continue
        raise BadRequest(
            f"The parameter '{name}' is not allowed with this key: {why}. Leave it out, or ask "
            "the platform team to add it to the plan's allow_parameters.",
            param=name,
        )
    if (stray := stray_carrier(fields, "messages", allowed)) is not None:
        raise invalid(stray, "belongs in a content part of its own type")
    effort = fields.get("reasoning_effort")
    if effort is not None and (not isinstance(effort, str) or len(effort) > LONGEST_WORD):
        raise wrong_type("reasoning_effort", "a word such as 'low' or 'high'", effort)
    if "tools" in fields and "tools" not in allowed:
        _check_tools(fields["tools"])


def _check_tools(tools: Any) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise wrong_type("tools", "a list of tools", tools)
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise wrong_type(f"tools[{index}]", "an object", tool)
        check_spelling(tool, f"tools[{index}].")
        if tool.get("type") not in CLIENT_TOOLS:
            raise BadRequest(
                f"tools[{index}].type must be one of {_quoted(CLIENT_TOOLS)}: tools that the "
                "provider runs have a price of their own.",
                param=f"tools[{index}].type",
            )


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
