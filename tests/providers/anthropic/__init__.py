"""Anthropic's Messages API. `recorded` holds answers in the shapes that it sends, made after
https://platform.claude.com/docs/en/build-with-claude/streaming,
https://platform.claude.com/docs/en/build-with-claude/extended-thinking,
https://platform.claude.com/docs/en/build-with-claude/prompt-caching,
https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons and
https://platform.claude.com/docs/en/api/messages; the words and figures are ours.
"""

from __future__ import annotations

from pathlib import Path

RECORDED = Path(__file__).with_name("recorded")


def recorded(name: str) -> bytes:
    """An answer: `.sse` is a stream, `.json` is whole."""
    return (RECORDED / name).read_bytes()
