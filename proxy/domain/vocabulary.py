"""The words of a request that change its price, its retention or its reach: one table each.

Sources: https://platform.openai.com/docs/api-reference/chat/create, and the documentation of
the servers that speak as it does, each with names of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

_Test = Callable[[Any], bool]


def _only(*harmless: object) -> _Test:
    return lambda value: any(type(value) is type(h) and value == h for h in harmless)


def _never(value: object) -> bool:
    return False


#: Why a top-level parameter is refused, and which are. The plan's `allow_parameters` lets
#: each of them pass by its name.
_WHY: Final[Mapping[str, tuple[str, ...]]] = {
    "it changes the price": ("service_tier", "speed", "priority", "inference_geo"),
    "an hour in the cache costs more than the default five minutes": ("cache_control",),
    "it keeps the request at the provider": (
        *("store", "cache", "background", "conversation", "conversation_id", "thread_id"),
    ),
    "it keeps the prompt for longer": (
        *("prompt_cache_retention", "prompt_cache_options", "prompt_cache_breakpoint"),
    ),
    "it continues a prompt that is not in the request": (
        *("previous_response_id", "session_params", "cached_content", "prompt", "input"),
        *("assistant_id", "agent_id"),
    ),
    "it lets the provider call out, at a price of its own": (
        *("web_search_options", "web_search", "enable_web_search", "web_search_enabled"),
        *("search_parameters", "search_options", "enable_search", "google_search", "url_context"),
        *("data_sources", "mcp_servers", "plugins", "connectors", "container"),
        *("code_execution", "code_interpreter", "enable_code_interpreter", "enhancements"),
    ),
    "audio has a price of its own": ("audio",),
    "only text has a known price here": ("modalities",),
    "rejected predictions are billed beyond max_tokens": ("prediction",),
    "thinking is billed beyond max_tokens": ("thinking_budget", "thinking_config"),
    "it undoes the cap on the output": (
        *("n_predict", "num_predict", "max_new_tokens", "auto_max_new_tokens"),
        *("max_output_tokens", "max_tokens_to_sample", "max_length", "max_gen_len"),
        *("generation_config", "options"),
    ),
    "it multiplies the output beyond n": (
        *("n_cmpl", "best_of", "use_beam_search", "num_beams", "beam_width"),
        *("candidate_count", "num_return_sequences", "num_completions"),
        *("num_retries", "max_retries"),
    ),
    "the answer would come by another way": ("deferred", "mock_response"),
    "it holds parameters that are not looked at": ("extra_body", "google", "user_config"),
    "it changes what the upstream is sent": ("headers", "extra_headers", "extra_query"),
    "it changes who answers": (
        *("api_base", "base_url", "api_version", "provider", "custom_llm_provider"),
        *("vertex_project", "vertex_location", "aws_region_name", "deployment_id"),
    ),
    "it changes who pays": (
        *("api_key", "organization", "vertex_credentials", "azure_ad_token"),
        *("aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
    ),
    "it changes which model answers": (
        *("models", "model_list", "route", "fallbacks", "preset"),
        *("context_window_fallbacks", "content_policy_fallbacks"),
    ),
    "it tells others of the request": ("callbacks", "success_callback", "failure_callback"),
    "it changes the prompt at the provider": ("transforms",),
    "it runs a template on the upstream": ("chat_template",),
    "it runs code on the upstream": ("custom_logit_processor", "logits_processors"),
    "it makes the upstream load a file": ("lora", "lora_path", "lora_request"),
    "it reaches into another request": ("id_slot", "slot_id"),
    "it makes the upstream connect to another host": ("kv_transfer_params", "bootstrap_host"),
    "it changes what an image costs": (
        *("mm_processor_kwargs", "media_io_kwargs", "media_resolution"),
        *("vl_high_resolution_images", "max_pixels", "min_pixels", "total_pixels"),
        *("max_dynamic_patch", "min_dynamic_patch"),
    ),
}

_EPHEMERAL: Final = {"type": "ephemeral"}
_MODES: Final[tuple[dict[str, str], ...]] = ({}, {"mode": "implicit"}, {"mode": "explicit"})

#: Values that mean no more than leaving the parameter out.
_HARMLESS: Final[Mapping[str, _Test]] = {
    "service_tier": _only("auto", "default", "on_demand"),  # Groq's name for its default
    "speed": _only("standard"),
    "priority": _only(0),
    "cache_control": _only(_EPHEMERAL, {**_EPHEMERAL, "ttl": "5m"}),
    "prompt_cache_retention": _only("in_memory", "in-memory"),
    # Half an hour is what there is by default.
    "prompt_cache_options": _only(*_MODES, *({**mode, "ttl": "30m"} for mode in _MODES)),
    "prompt_cache_breakpoint": _only({"mode": "explicit"}),
    "modalities": _only(["text"]),
    **dict.fromkeys(("n_cmpl", "best_of", "num_beams", "candidate_count"), _only(1)),
    **dict.fromkeys(("num_return_sequences", "num_completions"), _only(1)),
    **dict.fromkeys(("num_retries", "max_retries"), _only(0)),
    **dict.fromkeys(("store", "background", "deferred", "use_beam_search"), _only(False)),
    **dict.fromkeys(("enable_search", "enable_web_search", "web_search"), _only(False)),
    **dict.fromkeys(("enable_code_interpreter", "auto_max_new_tokens"), _only(False)),
    "vl_high_resolution_images": _only(False),
    **dict.fromkeys(("transforms", "plugins"), _only([])),
}

#: Parameters that change price, retention or reach beyond the request: what of their values
#: is harmless all the same, and why the rest is refused.
REFUSED: Final[Mapping[str, tuple[_Test, str]]] = {
    name: (_HARMLESS.get(name, _never), why) for why, names in _WHY.items() for name in names
}

_OFF: Final = frozenset(("", "none", "minimal", "off", "no", "false", "disabled"))


def _on(value: Any) -> bool:
    """Whether a switch for thinking is on: `true`, a word, a budget, or an object of these."""
    if isinstance(value, str):
        return value.casefold() not in _OFF
    if isinstance(value, dict):
        switches = [value[name] for name in ("type", "enabled") if name in value]
        return all(map(_on, switches)) and any(map(_on, value.values()))
    return bool(value)


def _given(value: Any) -> bool:
    return value is not None


def _of_template(value: Any) -> bool:
    named = value.items() if isinstance(value, dict) else ()
    return any(_on(v) for k, v in named if "think" in k.casefold() or "reason" in k.casefold())


#: Parameters by which a request has a model think before it answers, in tokens that a stream
#: need not show.
THINKING: Final[Mapping[str, _Test]] = {
    **dict.fromkeys(("thinking", "think", "enable_thinking", "thinking_mode"), _on),
    **dict.fromkeys(("thinking_budget", "thinking_config", "thinking_token_budget"), _on),
    **dict.fromkeys(("reasoning", "reasoning_effort", "reasoning_budget"), _on),
    # Who says how thoughts are to be shown has a model that has them, and may have them hidden.
    # Source: https://console.groq.com/docs/reasoning
    **dict.fromkeys(("include_reasoning", "reasoning_format"), _given),
    **dict.fromkeys(("separate_reasoning", "stream_reasoning"), _given),
    "chat_template_kwargs": _of_template,
}

#: How a part or a tool says where the provider is to begin a cache.
CACHE_KEYS: Final = ("cache_control", "prompt_cache_breakpoint")

#: Content parts that need no permission, and their keys: others carry media or files of unknown
#: price. Thoughts and references are in the answers of Mistral and others, who want them back.
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("type", "text", *CACHE_KEYS),
    "image_url": ("type", "image_url", *CACHE_KEYS),
    "refusal": ("type", "refusal", *CACHE_KEYS),
    "thinking": ("type", "thinking", "signature", "closed"),
    "reference": ("type", "reference_ids"),
}

#: What a thought is made of, where it is no mere text.
THOUGHTS: Final = ("text", "reference")

#: Tools that the client itself runs; any other type has the provider call out.
CLIENT_TOOLS: Final = ("function", "custom")

IMAGE_KEYS: Final = ("url", "detail")

#: Keys by which some server takes media or files from a message, or from beside the messages.
CARRIERS: Final = frozenset(
    (
        *("image_url", "image", "images", "image_embeds", "input_image"),
        *("video_url", "video", "videos", "input_video"),
        *("audio_url", "audio", "audios", "audio_embeds", "input_audio"),
        *("prompt_embeds", "multi_modal_data", "media", "inline_data", "source"),
        *("document_url", "file", "files", "file_data", "file_id", "file_ids", "file_url"),
        *("input_file", "attachments"),
    )
)

_CHECKED: Final = (
    CARRIERS
    | REFUSED.keys()
    | THINKING.keys()
    | frozenset(("model", "messages", "stream", "stream_options", "include_usage", "n", "tools"))
    | frozenset(("max_tokens", "max_completion_tokens", "temperature", "detail"))
    | frozenset(("role", "content", "type", "text", "refusal", "url"))
)

#: With these, names that nearly every request is made of, and that are no spelling of another.
FAMILIAR: Final = _CHECKED | frozenset(
    (
        *("top_p", "stop", "seed", "user", "frequency_penalty", "presence_penalty", "metadata"),
        *("response_format", "tool_choice", "parallel_tool_calls", "logprobs", "top_logprobs"),
        *("name", "tool_calls", "tool_call_id", "id", "index", "function", "arguments"),
        *("description", "parameters", "strict"),
    )
)

_MARKS = re.compile(r"[\W_]+")


def _folded(name: str) -> str:
    return _MARKS.sub("", name.casefold())


_PROPER: Final = {_folded(name): name for name in _CHECKED}


def proper(name: str) -> str | None:
    """The checked name that `name` is another spelling of, None where it is none.

    Some servers match names in any case (Go's encoding/json does), others in camel case.
    """
    if name in _CHECKED:
        return None
    return _PROPER.get(_folded(name))
