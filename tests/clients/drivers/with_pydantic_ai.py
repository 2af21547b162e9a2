from __future__ import annotations

import asyncio
import base64
from typing import Any

from pydantic_ai import Agent, BinaryContent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from serving import Seen, area, serve


def agent(ask: Any, *tools: Any) -> Agent[None, str]:
    more = {"temperature": ask.temperature} if hasattr(ask, "temperature") else {}
    provider = OpenAIProvider(base_url=ask.url, api_key=ask.key)
    model = OpenAIChatModel(ask.model, provider=provider)
    return Agent(model, tools=tools, model_settings=more)


def take(result: Any, seen: Seen) -> None:
    usage = result.usage() if callable(result.usage) else result.usage
    seen.counted(usage.input_tokens, usage.output_tokens)


def run(ask: Any, seen: Seen, prompt: Any, *tools: Any) -> None:
    result = asyncio.run(agent(ask, *tools).run(prompt))
    seen.piece(result.output)
    take(result, seen)


def whole(ask: Any, seen: Seen) -> None:
    run(ask, seen, ask.text)


def image(ask: Any, seen: Seen) -> None:
    kind, _, data = ask.picture.removeprefix("data:").partition(";base64,")
    run(ask, seen, [ask.text, BinaryContent(base64.b64decode(data), media_type=kind)])


def tools(ask: Any, seen: Seen) -> None:
    run(ask, seen, ask.text, area)


def stream(ask: Any, seen: Seen) -> None:
    async def listen() -> None:
        async with agent(ask).run_stream(ask.text) as result:
            async for piece in result.stream_text(delta=True, debounce_by=None):
                seen.piece(piece)
            take(result, seen)

    asyncio.run(listen())


serve(whole=whole, image=image, stream=stream, tools=tools)
