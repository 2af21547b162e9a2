"""Errors in the shapes that servers have, as OpenAI's envelope. Pure.

{"error": {"message", "type", "param", "code"}}     OpenAI, Azure, Groq, vLLM, Ollama
{"error": {"message", "code": 402, "metadata"}}     OpenRouter
[{"error": {"message", "code": 400, "status"}}]     Gemini
{"message", "type", "code", "object": "error"}      Mistral, older vLLM
{"message": {"detail": [{"loc", "msg"}]}}           Mistral, of a field that it does not know
{"detail": [{"loc", "msg"}]} or {"detail": ""}      FastAPI
{"error": ""}                                       Ollama, llama.cpp
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from proxy.domain.errors import INVALID_REQUEST, SERVER_ERROR

_KEYS: Final = ("message", "type", "param", "code")

#: In a status' place, of an error that a stream tells.
IN_STREAM: Final = 0

#: Type and code where the upstream's answer says neither.
TYPES: Final[Mapping[int, tuple[str, str | None]]] = {
    IN_STREAM: (SERVER_ERROR, None),
    413: (INVALID_REQUEST, "request_too_large"),
    429: ("requests", "rate_limit_exceeded"),
}

#: How servers without a code for it say that a prompt is too long: vLLM, OpenRouter and Mistral;
#: vLLM, of images; Gemini; llama.cpp.
_TOO_LONG = re.compile(
    r"maximum context length|maximum model length|exceeds the maximum number of tokens"
    r"|exceeds the available context size",
    re.IGNORECASE,
)
_LONG_STATUSES: Final = frozenset((400, 413, 422))

#: Which fields are wrong is told of so many.
_MOST_DETAILS: Final = 5

#: Starlette's words for a path that nobody serves, which FastAPI and vLLM pass on.
_NO_SUCH_PATH: Final = "Not Found"

#: What is told of an error without words.
_UNSAID: Final = {
    IN_STREAM: "The upstream broke off its answer with an error. What came is not complete.",
    404: "The upstream answered 404, and not as an OpenAI-compatible API does: the provider's "
    "base_url may be wrong, or lack its /v1. Tell your platform team.",
}


def envelope(status: int, body: bytes) -> bytes:
    """The body as it came where it is an OpenAI error with all four keys, else one made of it,
    with what else the error holds.
    """
    answer = error_object(body)
    error = answer.get("error", answer)
    if not isinstance(error, dict):
        error = {"message": error}
    message, param = _told(error)
    if not message:
        message, param = _UNSAID.get(status, f"The upstream answered {status}."), None
    code = error.get("code")
    long = status in _LONG_STATUSES and _TOO_LONG.search(message) and not _is_word(code)
    whole = error is not answer and error.keys() >= set(_KEYS) and error["message"] == message
    alone = body.lstrip()[:1] == b"{"
    if whole and alone and not long and (code is None or isinstance(code, str)):
        return body
    type, usual = TYPES.get(status, (INVALID_REQUEST, None))
    made = {"message": message, "type": type, "param": param, "code": usual}
    made |= {name: error[name] for name in _KEYS[1:] if isinstance(error.get(name), str)}
    if long:
        made |= {"code": "context_length_exceeded", "param": made["param"] or "messages"}
    if error is not answer:
        made |= {name: value for name, value in error.items() if name not in made}
    return msgspec.json.encode({"error": made})


def error_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is, or the first of the list that it is; else an empty one."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    if isinstance(answer, list):
        answer = answer[0] if answer else None
    return answer if isinstance(answer, dict) else {}


def _told(error: Mapping[str, Any]) -> tuple[str, str | None]:
    """The message of an error, and the field that its details name."""
    message = error.get("message", error.get("detail"))
    if isinstance(message, str):
        return ("" if message == _NO_SUCH_PATH else message), None
    if isinstance(message, dict):
        message = message.get("detail")
    found = list(_details(message)) if isinstance(message, list) else []
    told = "; ".join(f"{path}: {said}" if path else said for path, said in found)
    return told, found[0][0] or None if found else None


def _details(found: list[Any]) -> Iterator[tuple[str, str]]:
    """Where each is, as `messages[0].user.name`, and what.

    Source: https://docs.pydantic.dev/latest/errors/errors/
    """
    for each in found[:_MOST_DETAILS]:
        if isinstance(each, dict) and isinstance(each.get("msg"), str):
            where = each.get("loc")
            steps = where if isinstance(where, list) else []
            path = "".join(f"[{step}]" if type(step) is int else f".{step}" for step in steps)
            yield path.removeprefix(".body").removeprefix("."), each["msg"]


def _is_word(code: object) -> bool:
    """Whether an error's code is one; some servers have numbers there."""
    return isinstance(code, str) and not code.isdigit()
