"""An OpenAI conversation as Anthropic's: a system prompt, and turns made of content blocks. Pure.

Source: https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from proxy.domain import parameters as rule
from proxy.domain.chat import ChatRequest, ImagePart
from proxy.domain.cuts import Pieces, filled
from proxy.domain.steps import STEP, Steps

_Block = dict[str, Any]
_encode = msgspec.json.encode
_decode = msgspec.json.decode
_ARGUMENTS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

#: What no JSON has stands for what is long until all else is written.
_HOLE: Final = b"\0"

#: Whose turn a message belongs to; what is the system's stands before all turns.
_TURNS: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "tool": "user",
    "assistant": "assistant",
}

#: Thoughts and references of other providers' models mean nothing to this one's.
_LEFT_OUT: Final = frozenset(("thinking", "reference"))

_NO_ID = re.compile(r"[^a-zA-Z0-9_-]")


def messages(request: ChatRequest) -> Steps[Pieces]:
    """`"system":[…],"messages":[…]`, or the latter alone; what is long is a piece of its own, and
    images' data are not copied.

    Messages of one role become one turn, since the results of all calls must come in the turn
    after them; what is empty is left out, for it would be refused. Raises BadRequest naming the
    field as the client wrote it.
    """
    system: list[bytes] = []
    turns: list[tuple[str, list[bytes]]] = []
    prompted, said = Pieces(), Pieces()  # what is long, of the system and of all turns
    images = iter(request.images)
    size = 0
    for number, message in enumerate(_dicts(request)):
        turn = _TURNS.get(message["role"])
        if turn is None:
            raise rule.invalid(f"messages[{number}].role", "must not be 'function': use 'tool'")
        long = prompted if turn == "system" else said
        blocks = yield from _blocks(message, f"messages[{number}]", images, long)
        encoded = list(map(_encode, blocks))
        size += 256 + sum(map(len, encoded))
        if size > STEP:
            yield
            size = 0
        if turn == "system":
            system += encoded
        elif turns and turns[-1][0] == turn:
            turns[-1][1].extend(encoded)
        elif encoded:
            turns.append((turn, encoded))
    if not turns:
        raise rule.invalid("messages", "must hold a message of the user's that is not empty")
    written = _written(system, turns)
    return filled(written, _HOLE, prompted + said) if prompted or said else [written]


def _dicts(request: ChatRequest) -> Sequence[dict[str, Any]]:
    if request.texts is None:
        return request.messages
    decoded: list[dict[str, Any]] = _decode(request.fields["messages"])  # a short one
    return decoded


def _written(system: list[bytes], turns: list[tuple[str, list[bytes]]]) -> bytes:
    written = [b'"system":[%b],' % b",".join(system)] if system else []
    written.append(b'"messages":[')
    for role, blocks in turns:
        written += (b'{"role":"%b","content":[' % role.encode(), b",".join(blocks), b"]},")
    written[-1] = b"]}]"
    return b"".join(written)


def _blocks(
    message: Mapping[str, Any], path: str, images: Iterator[ImagePart], long: Pieces
) -> Steps[list[_Block]]:
    """What a message says; its own cache mark is that of its last block."""
    role = message["role"]
    blocks = yield from _content(message.get("content"), path, role, images, long)
    if role == "tool":
        blocks = [_result(message, path, blocks)]
    if role == "assistant":
        if refusal := message.get("refusal"):
            text = yield from _text(refusal, f"{path}.refusal", long)
            blocks.append({"type": "text", "text": text})
        blocks += yield from _calls(message, path, long)
    if blocks:
        blocks[-1] = {**_cache(message), **blocks[-1]}
    return blocks


def _content(
    content: Any, path: str, role: str, images: Iterator[ImagePart], long: Pieces
) -> Steps[list[_Block]]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    blocks: list[_Block] = []
    for index, part in enumerate(content or ()):
        if index % 64 == 63:
            yield
        kind, where = part["type"], f"{path}.content[{index}]"
        if kind == "image_url":
            image = next(images)
            if role not in ("user", "tool"):
                raise rule.invalid(f"{where}.type", f"must be 'text' in a message of the {role}'s")
            blocks.append({"type": "image", "source": _source(image, long), **_cache(part)})
        elif kind in ("text", "refusal"):
            if part[kind]:
                text = yield from _text(part[kind], where, long)
                blocks.append({"type": "text", "text": text, **_cache(part)})
        elif kind not in _LEFT_OUT:
            raise rule.invalid(f"{where}.type", "must be 'text' or 'image_url' with this model")
    return blocks


def _text(text: Any, path: str, long: Pieces) -> Steps[str | msgspec.Raw]:
    """A text; of a long one the holes for its parts, which are written here, in steps."""
    if not isinstance(text, str):
        raise rule.wrong_type(path, "a string", text)
    if len(text) <= STEP:
        return text
    starts = range(0, len(text), STEP)
    for start in starts:
        yield
        long.append(_encode(text[start : start + STEP])[1:-1])
    return msgspec.Raw(b'"%b"' % (_HOLE * len(starts)))


def _source(image: ImagePart, long: Pieces) -> _Block:
    """Where an image is, or what it is: then its data go where the hole is."""
    if image.data is None:
        return {"type": "url", "url": image.url}
    long.append(image.data)
    named = image.url[5:].partition(";")[0].lower()
    media_type = f"image/{image.format}" if image.format else named
    return {"type": "base64", "media_type": media_type, "data": msgspec.Raw(b'"%b"' % _HOLE)}


def _cache(value: Mapping[str, Any]) -> _Block:
    mark = value.get("cache_control")
    return {} if mark is None else {"cache_control": mark}


def _result(message: Mapping[str, Any], path: str, blocks: list[_Block]) -> _Block:
    result = {"type": "tool_result", "tool_use_id": _id(message, path, "tool_call_id")}
    return {**result, "content": blocks} if blocks else result


def _calls(message: Mapping[str, Any], path: str, long: Pieces) -> Steps[list[_Block]]:
    if message.get("function_call") is not None:
        raise rule.invalid(f"{path}.function_call", "must be in 'tool_calls'")
    calls = message.get("tool_calls")
    if not isinstance(calls, list | None):
        raise rule.wrong_type(f"{path}.tool_calls", "a list of calls", calls)
    blocks = []
    for index, call in enumerate(calls or ()):
        if index % 64 == 63:
            yield
        blocks.append((yield from _call(call, f"{path}.tool_calls[{index}]", long)))
    return blocks


def _call(call: Any, path: str, long: Pieces) -> Steps[_Block]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise rule.wrong_type(path, "an object with an id and a function", call)
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise rule.invalid(f"{path}.function.name", "must be the name of a function")
    arguments = yield from _arguments(function.get("arguments"), f"{path}.function.arguments", long)
    id = _id(call, path, "id")
    return {"type": "tool_use", "id": id, "name": name, "input": arguments, **_cache(call)}


def _arguments(arguments: Any, path: str, long: Pieces) -> Steps[msgspec.Raw]:
    """The client's own bytes, which must be an object; what is empty is an empty one."""
    if not isinstance(arguments, str):
        raise rule.wrong_type(path, "a string that holds a JSON object", arguments)
    written = arguments.encode() if arguments.strip() else b"{}"
    if len(written) > STEP:
        yield
    try:
        _ARGUMENTS(written)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise rule.invalid(path, "must hold a JSON object") from None
    if len(written) <= STEP:
        return msgspec.Raw(written)
    long.append(written)
    return msgspec.Raw(_HOLE)


def _id(value: Mapping[str, Any], path: str, name: str) -> str:
    """A call's id in the characters that are allowed: other providers' have others, too."""
    id = value.get(name)
    if not isinstance(id, str) or not id:
        raise rule.missing(f"{path}.{name}", "the id of the call")
    return _NO_ID.sub("_", id)
