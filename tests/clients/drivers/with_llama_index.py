from __future__ import annotations

from typing import Any

from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from serving import Seen, area, serve


def model(ask: Any, **more: Any) -> OpenAILike:
    if hasattr(ask, "temperature"):
        more["temperature"] = ask.temperature
    if ask.usage:
        more["additional_kwargs"] = {"stream_options": {"include_usage": True}}
    return OpenAILike(
        api_base=ask.url, api_key=ask.key, model=ask.model, is_chat_model=True, **more
    )


def counted(answer: Any, seen: Seen) -> None:
    usage = getattr(answer.raw, "usage", None)
    if usage:
        seen.counted(usage.prompt_tokens, usage.completion_tokens)


def whole(ask: Any, seen: Seen) -> None:
    chat(ask, seen, ChatMessage(role="user", content=ask.text))


def chat(ask: Any, seen: Seen, *messages: ChatMessage) -> None:
    answer = model(ask).chat(list(messages))
    seen.piece(answer.message.content)
    counted(answer, seen)


def image(ask: Any, seen: Seen) -> None:
    blocks = [TextBlock(text=ask.text), ImageBlock(url=ask.picture)]
    chat(ask, seen, ChatMessage(role="user", blocks=blocks))


def stream(ask: Any, seen: Seen) -> None:
    for answer in model(ask).stream_chat([ChatMessage(role="user", content=ask.text)]):
        seen.piece(answer.delta)
        counted(answer, seen)


def tools(ask: Any, seen: Seen) -> None:
    llm = model(ask, is_function_calling_model=True)
    asked, tool = ChatMessage(role="user", content=ask.text), FunctionTool.from_defaults(area)
    called = llm.chat_with_tools([tool], chat_history=[asked])
    (call,) = llm.get_tool_calls_from_response(called)
    result = ChatMessage(
        role="tool",
        content=str(tool(**call.tool_kwargs)),
        additional_kwargs={"tool_call_id": call.tool_id},
    )
    chat(ask, seen, asked, called.message, result)


serve(whole=whole, image=image, stream=stream, tools=tools)
