"""The generated texts of an answer, found in its JSON or its events."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from proxy.domain.sse import DONE, EventSplitter, data_of

#: Other names for the text of `reasoning`, which OpenRouter and vLLM send beside it.
_AGAIN: Final = frozenset(("role", "reasoning_content", "reasoning_details"))
_ROLE: Final = frozenset(("role",))

#: Where a text belongs: the choice's index, and the field of its message.
_Place = tuple[int, str]
_Pieces = defaultdict[_Place, list[str]]


class _Choice(msgspec.Struct):
    delta: dict[str, str | None]
    index: int = 0
    message: None = None
    text: None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []


#: Most streams are made of these alone; all at once they are read at a quarter of the cost.
_plain = msgspec.json.Decoder(list[_Chunk]).decode


class Texts:
    """Finds the generated texts of an answer: content, refusals, reasoning, arguments.

    Servers have them under one name or another, and some under two: the first that has one
    is kept to.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ("delta", "message", "text")

    def of_answer(self, answer: Mapping[str, Any]) -> list[str]:
        """Those of an answer that came as a whole."""
        return [_joined([text]) for _, text in self._of(answer)]

    def of_events(self, events: bytes) -> list[str]:
        """Those of a part of a stream: for each place the text that came there."""
        pieces: _Pieces = defaultdict(list)
        if not self._add_plain(events, pieces):
            splitter = EventSplitter()
            for event in (*splitter.feed(events), splitter.rest()):
                data = data_of(event)
                if not data or data == DONE:
                    continue
                for place, text in self._of(decoded(data) or {}):
                    pieces[place].append(text)
        return [_joined(texts) for texts in pieces.values()]

    def _add_plain(self, events: bytes, pieces: _Pieces) -> bool:
        """Read events as one JSON array; whether they are all of the usual shape."""
        count = events.count(b"\n\n")
        lines = events.count(b"\n") + events.count(b"\r")
        if lines != 2 * count or not events.startswith(b"data: ") or "delta" not in self._names:
            return False
        try:
            chunks = _plain(b"[%b]" % events[6:].replace(b"\n\ndata: ", b",").rstrip(b"\n"))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if len(chunks) != count:
            return False
        for chunk in chunks:
            for choice in chunk.choices:
                unread = _unread(choice.delta)
                for key, text in choice.delta.items():
                    if text and key not in unread:
                        pieces[choice.index, key].append(text)
        if pieces:
            self._names = ("delta",)
        return True

    def _of(self, answer: Mapping[str, Any]) -> Iterator[tuple[_Place, str]]:
        choices = answer.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                yield from self._of_choice(choice)

    def _of_choice(self, choice: Mapping[str, Any]) -> Iterator[tuple[_Place, str]]:
        index = choice.get("index")
        for name in self._names:
            part = choice.get(name)
            texts = part if isinstance(part, dict) else {name: part}
            unread = _unread(texts)
            for key, value in texts.items():
                for text in filter(None, _strings(value) if key not in unread else ()):
                    self._names = (name,)
                    yield (index if isinstance(index, int) else 0, key), text
            if self._names == (name,):
                return


def _unread(message: Mapping[str, Any]) -> frozenset[str]:
    """The fields of a message that hold no text of their own."""
    return _AGAIN if message.get("reasoning") else _ROLE


def decoded(data: bytes) -> Mapping[str, Any] | None:
    """A JSON object, or None for all else."""
    value: Any = None
    try:
        value = msgspec.json.decode(data)
    except RecursionError:
        pass
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Half a surrogate pair, NaN: no JSON, but other clients read it.
        with suppress(ValueError, RecursionError):
            value = json.loads(data.decode(errors="replace"), strict=False)
    return value if isinstance(value, dict) else None


def _joined(texts: list[str]) -> str:
    """The text of some pieces, between which a surrogate pair may have been cut."""
    text = "".join(texts)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _strings(value: Any) -> Iterator[str]:
    """The strings in a value, in order, but for ids and types."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting += [v for k, v in reversed(item.items()) if k not in ("id", "type")]
        elif isinstance(item, list):
            waiting += reversed(item)
