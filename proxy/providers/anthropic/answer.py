"""Anthropic's answers as OpenAI's, sans I/O.

Left out: pings, thoughts, and whatever the provider's own tools did.
Source: https://platform.claude.com/docs/en/build-with-claude/streaming,
https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from proxy.domain.errors import UpstreamFailed
from proxy.domain.sse import END, EventSplitter, data_of, event
from proxy.providers.anthropic.refusal import error_body, failure_of
from proxy.providers.anthropic.wire import (
    FAULTS,
    Count,
    Event,
    Message,
    read_event,
    read_message,
    read_type,
)

_encode = msgspec.json.encode

#: Any other reason is not known to be an end: then the answer is not told to be complete.
#: Source: https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
_REASONS: Final[Mapping[str | None, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_UNFINISHED: Final = "length"

#: The blocks that the client gets all of.
_SHOWN: Final = frozenset(("text", "tool_use"))


class _Call:
    """A tool's call under way: its number among the calls, and whether arguments have come."""

    __slots__ = ("began", "input", "number")

    def __init__(self, number: int, input: Raw) -> None:
        self.number = number
        self.input = input
        self.began = False


class Answer:
    """The translator of one call, made at `created` (Unix time); `usage_wanted`: the client's
    chunks say that a usage will come.
    """

    __slots__ = (
        "_calls",
        "_created",
        "_ended",
        "_finished",
        "_head",
        "_hidden",
        "_splitter",
        "_tail",
        "_usage",
        "_usage_wanted",
        "_written",
    )

    def __init__(self, created: int, *, usage_wanted: bool = False) -> None:
        self._created = created
        self._usage_wanted = usage_wanted
        self._splitter = EventSplitter()
        self._usage = Count()
        self._calls: dict[int, _Call] = {}
        self._written = 0  # calls
        self._head = self._tail = b""  # of a chunk, once the message has begun
        self._finished = self._ended = self._hidden = False

    def feed(self, data: bytes) -> bytes:
        """As Translator has it."""
        events = self._splitter.feed(data)
        if self._splitter.held.endswith((b"\r\r", b"\n\r")):
            events.append(self._splitter.rest())  # a CR ends it, whether or not half of a CRLF
        return b"".join(map(self._translated, events))

    def whole(self, body: bytes) -> bytes:
        """As Translator has it."""
        try:
            message = read_message(body)
            said = _message(message)
        except (*FAULTS, UpstreamFailed):
            return error_body(body)
        if message.content is None or message.type == "error":
            return error_body(body)
        self._usage.add(message.usage)
        choice = {
            "index": 0,
            "message": said,
            "logprobs": None,
            "finish_reason": _REASONS.get(message.stop_reason, _UNFINISHED),
        }
        answer = {
            "id": message.id,
            "object": "chat.completion",
            "created": self._created,
            "model": message.model,
            "choices": [choice],
            "usage": self._usage.shown(),
        }
        return _encode(answer)

    def so_far(self) -> tuple[dict[str, Any] | None, bool]:
        """As Translator has it: the vendor tells the prompt's tokens first, the output's last."""
        if not self._head:
            return None, False
        prompt = self._usage.shown()
        return {**prompt, "completion_tokens": 0, "total_tokens": 0}, self._hidden

    def _translated(self, came: bytes) -> bytes:
        data = _data_of(came)
        if not data or self._ended:
            return b""
        try:
            read = read_event(data)
        except FAULTS:
            if _is_known(data):
                raise _not_understood() from None
            return b""
        if read.type == "error":
            return self._failed(data)
        translate = _EVENTS.get(read.type)
        if translate is None:
            return b""
        if not self._head and read.type != "message_start":
            raise _not_understood()
        return translate(self, read)

    def _failed(self, data: bytes) -> bytes:
        if not self._head:
            raise failure_of(data)  # nothing of an answer has come: it is none
        self._ended = True
        return event(error_body(data))  # the meter stops it: `failure_told` says what it means

    def _start(self, read: Event) -> bytes:
        message = read.message
        if message is None or self._head:
            raise _not_understood()
        self._usage.begin(message.usage)
        base = {"id": message.id, "object": "chat.completion.chunk", "created": self._created}
        opened = _encode({**base, "model": message.model})[:-1]
        self._head = b"data: " + opened + b',"choices":['
        self._tail = (b'],"usage":null}' if self._usage_wanted else b"]}") + b"\n\n"
        return self._chunk(b'{"role":"assistant","content":""}')

    def _block_start(self, read: Event) -> bytes:
        block = read.content_block
        if block is None:
            raise _not_understood()
        if block.type == "text":
            return self._text(block.text)
        if block.type not in _SHOWN:
            self._hidden = True
            return b""
        call = self._calls[read.index] = _Call(self._written, block.input)
        self._written += 1
        function = {"name": block.name, "arguments": ""}
        return self._called(call, id=block.id, type="function", function=function)

    def _block_delta(self, read: Event) -> bytes:
        delta = read.delta
        if delta is None:
            raise _not_understood()
        if delta.type == "text_delta":
            return self._text(delta.text)
        call = self._calls.get(read.index)
        if delta.type != "input_json_delta" or call is None or not delta.partial_json:
            return b""
        call.began = True
        return self._called(call, function={"arguments": delta.partial_json})

    def _block_stop(self, read: Event) -> bytes:
        call = self._calls.pop(read.index, None)
        if call is None or call.began:
            return b""
        # Without arguments nothing comes, which is no JSON to who reads them.
        return self._called(call, function={"arguments": _text_of(call.input)})

    def _message_delta(self, read: Event) -> bytes:
        self._usage.add(read.usage)
        delta = read.delta
        if delta is None or delta.stop_reason is None or self._finished:
            return b""
        refusal = b""
        if delta.stop_reason == "refusal" and delta.stop_details and delta.stop_details.explanation:
            refusal = self._chunk(_encode({"refusal": delta.stop_details.explanation}))
        return refusal + self._finish(delta.stop_reason)

    def _stop(self, read: Event) -> bytes:
        last = b"" if self._finished else self._finish(None)
        self._ended = True
        usage = _encode(self._usage.shown())
        return b'%b%b],"usage":%b}\n\n%b' % (last, self._head, usage, END)

    def _finish(self, reason: str | None) -> bytes:
        self._finished = True
        return self._chunk(b"{}", _encode(_REASONS.get(reason, _UNFINISHED)))

    def _text(self, text: str) -> bytes:
        return self._chunk(b'{"content":%b}' % _encode(text)) if text else b""

    def _called(self, call: _Call, **members: Any) -> bytes:
        return self._chunk(_encode({"tool_calls": [{"index": call.number, **members}]}))

    def _chunk(self, delta: bytes, reason: bytes = b"null") -> bytes:
        choice = b'{"index":0,"delta":%b,"finish_reason":%b}' % (delta, reason)
        return self._head + choice + self._tail


_EVENTS: Final[Mapping[str, Callable[[Answer, Event], bytes]]] = {
    "message_start": Answer._start,
    "content_block_start": Answer._block_start,
    "content_block_delta": Answer._block_delta,
    "content_block_stop": Answer._block_stop,
    "message_delta": Answer._message_delta,
    "message_stop": Answer._stop,
}


def _message(message: Message) -> dict[str, Any]:
    blocks = message.content or ()
    text = "".join(block.text for block in blocks if block.type == "text")
    refused = message.stop_reason == "refusal" and message.stop_details
    made: dict[str, Any] = {
        "role": "assistant",
        "content": text or None,
        "refusal": refused.explanation if refused else None,
    }
    calls = [
        {
            "id": block.id,
            "type": "function",
            "function": {"name": block.name, "arguments": _text_of(block.input)},
        }
        for block in blocks
        if block.type == "tool_use"
    ]
    return {**made, "tool_calls": calls} if calls else made


def _text_of(raw: Raw) -> str:
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError:  # no reader has looked into it
        raise _not_understood() from None


def _not_understood() -> UpstreamFailed:
    return UpstreamFailed("The upstream's answer cannot be understood. Try again.")


def _data_of(came: bytes) -> bytes | None:
    """The event's data, at once where it is written as the vendor writes it."""
    start = came.find(b"\n") + 1
    usual = came[:7] == b"event: " and came[start : start + 6] == b"data: "
    if usual and came.find(b"\n", start) + 2 == len(came) and came.find(b"\r") < 0:
        return came[start + 6 : -2]
    return data_of(came)


def _is_known(data: bytes) -> bool:
    """Whether an event that could not be read is one that has to be; new ones may come."""
    try:
        type = read_type(data).type
    except FAULTS:
        return True
    return type in _EVENTS or type == "error"
