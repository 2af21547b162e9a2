from __future__ import annotations

import json
from typing import Any

import openai
from serving import TOOL, Seen, area, serve


def client(ask: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=ask.url, api_key=ask.key)


def fields(ask: Any) -> dict[str, Any]:
    more = {"temperature": ask.temperature} if hasattr(ask, "temperature") else {}
    return {"model": ask.model, "messages": [{"role": "user", "content": ask.text}], **more}


def whole(ask: Any, seen: Seen, **changes: Any) -> None:
    with client(ask) as sdk:
        answer = sdk.chat.completions.create(**{**fields(ask), **changes})
    seen.piece(answer.choices[0].message.content)
    seen.counted(answer.usage.prompt_tokens, answer.usage.completion_tokens)


def image(ask: Any, seen: Seen) -> None:
    picture = {"type": "image_url", "image_url": {"url": ask.picture}}
    parts = [{"type": "text", "text": ask.text}, picture]
    whole(ask, seen, messages=[{"role": "user", "content": parts}])


def stream(ask: Any, seen: Seen) -> None:
    options = {"stream_options": {"include_usage": True}} if ask.usage else {}
    with client(ask) as sdk:
        for chunk in sdk.chat.completions.create(**fields(ask), stream=True, **options):
            if chunk.usage:
                seen.counted(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
            else:
                seen.piece(chunk.choices[0].delta.content)


def tools(ask: Any, seen: Seen) -> None:
    """The call is streamed, the answer to its result is not."""
    messages = fields(ask)["messages"]
    with client(ask) as sdk, sdk.chat.completions.stream(**fields(ask), tools=[TOOL]) as events:
        message = events.get_final_completion().choices[0].message
    (call,) = message.tool_calls
    result = area(**json.loads(call.function.arguments))
    told = {"role": "tool", "tool_call_id": call.id, "content": str(result)}
    messages = [*messages, message.model_dump(exclude_none=True), told]
    whole(ask, seen, messages=messages, tools=[TOOL])


serve(whole=whole, image=image, stream=stream, tools=tools)
