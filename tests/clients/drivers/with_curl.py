"""curl as a shell script has it: --no-buffer, --fail-with-body, --retry."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from serving import TOOL, Seen, area, serve


class CurlFailed(Exception):
    """What it is by is the exit code: 22 for an HTTP error, 18 for a body that broke off."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.kinds = [f"exit {code}"]


def curl(ask: Any, **changes: Any) -> Any:
    """What it prints, in the pieces that come. Raises CurlFailed with its exit code at the end."""
    body = {"model": ask.model, "messages": [{"role": "user", "content": ask.text}], **changes}
    if hasattr(ask, "temperature"):
        body["temperature"] = ask.temperature
    command = (
        *("curl", "--silent", "--show-error", "--no-buffer", "--fail-with-body", "--retry", "2"),
        *("--header", f"Authorization: Bearer {ask.key}", "--json", "@-"),
        f"{ask.url}/chat/completions",
    )
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(json.dumps(body).encode())
        process.stdin.close()
        came = b""
        while piece := os.read(process.stdout.fileno(), 65536):
            came += piece
            yield piece
        errors = process.stderr.read()
    if process.returncode:
        raise CurlFailed(process.returncode, (came + errors).decode())


def message(ask: Any, seen: Seen, **changes: Any) -> Any:
    # After a retry both answers have been printed.
    text = b"".join(curl(ask, **changes)).decode()
    answer = json.loads(text[text.rindex('{"id":"chatcmpl') :])
    seen.counted(answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"])
    seen.piece(answer["choices"][0]["message"]["content"])
    return answer["choices"][0]["message"]


def whole(ask: Any, seen: Seen) -> None:
    message(ask, seen)


def image(ask: Any, seen: Seen) -> None:
    picture = {"type": "image_url", "image_url": {"url": ask.picture}}
    parts = [{"type": "text", "text": ask.text}, picture]
    message(ask, seen, messages=[{"role": "user", "content": parts}])


def tools(ask: Any, seen: Seen) -> None:
    asked = {"role": "user", "content": ask.text}
    called = message(ask, seen, tools=[TOOL])
    (call,) = called["tool_calls"]
    result = str(area(**json.loads(call["function"]["arguments"])))
    told = {"role": "tool", "tool_call_id": call["id"], "content": result}
    message(ask, seen, messages=[asked, called, told], tools=[TOOL])


def stream(ask: Any, seen: Seen) -> None:
    options = {"stream_options": {"include_usage": True}} if ask.usage else {}
    rest = b""
    for piece in curl(ask, stream=True, **options):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b'data: {"id"'):
                event(json.loads(line[6:]), seen)


def event(chunk: Any, seen: Seen) -> None:
    for choice in chunk["choices"]:
        seen.piece(choice["delta"].get("content"))
    if chunk.get("usage"):
        seen.counted(chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"])


serve(whole=whole, image=image, stream=stream, tools=tools)
