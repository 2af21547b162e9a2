"""What of Anthropic's answers is read: their shapes, and their count of tokens. Pure.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming,
https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from proxy.domain.usage import MOST_TOKENS

_NONE: Final = Raw(b"null")


class OutputDetails(Struct):
    thinking_tokens: int | None = None


class Usage(Struct):
    """Tokens; each figure of a stream stands for all of it so far."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


class Block(Struct):
    type: str = ""
    text: str = ""
    id: str = ""
    name: str = ""
    input: Raw = Raw(b"{}")


class StopDetails(Struct):
    explanation: str | None = None


class Delta(Struct):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_details: StopDetails | None = None


class Message(Struct):
    id: str = ""
    model: str = ""
    type: str = ""
    content: list[Block] | None = None
    stop_reason: str | None = None
    stop_details: StopDetails | None = None
    usage: Raw = _NONE


class Event(Struct):
    type: str = ""
    index: int = 0
    message: Message | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    usage: Raw = _NONE


class _Type(Struct):
    type: str = ""


_read_usage = msgspec.json.Decoder(Usage | None).decode
read_event = msgspec.json.Decoder(Event).decode
read_type = msgspec.json.Decoder(_Type).decode
read_message = msgspec.json.Decoder(Message).decode
FAULTS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Count:
    """The usage that has been told so far."""

    __slots__ = ("cache_read", "cache_write", "input", "output", "thinking")

    def __init__(self) -> None:
        self.input = self.output = self.cache_write = self.cache_read = self.thinking = 0

    def begin(self, usage: Raw) -> None:
        """What is told of output before there is any is not all of it."""
        self.add(usage)
        self.output = self.thinking = 0

    def add(self, usage: Raw) -> None:
        """What is told later stands for all so far; some servers tell a part of it once only. What
        cannot be read is not believed: an answer is one without it.
        """
        try:
            told = _read_usage(usage)
        except FAULTS:
            return
        if told is None:
            return
        self.input = _larger(self.input, told.input_tokens)
        self.output = _larger(self.output, told.output_tokens)
        self.cache_write = _larger(self.cache_write, told.cache_creation_input_tokens)
        self.cache_read = _larger(self.cache_read, told.cache_read_input_tokens)
        if told.output_tokens_details:
            self.thinking = _larger(self.thinking, told.output_tokens_details.thinking_tokens)

    def shown(self) -> dict[str, Any]:
        """OpenAI's: what was read from a cache and written to one are parts of the prompt."""
        prompt = self.input + self.cache_write + self.cache_read
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.output,
            "total_tokens": prompt + self.output,
            "prompt_tokens_details": {
                "cached_tokens": self.cache_read,
                "cache_write_tokens": self.cache_write,
            },
            "completion_tokens_details": {"reasoning_tokens": self.thinking},
        }


def _larger(known: int, told: int | None) -> int:
    return known if told is None or told > MOST_TOKENS else max(known, told)
