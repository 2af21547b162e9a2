from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from serving import Seen, serve
from serving import area as area_of


@tool
def area(width: int, height: int) -> int:
    """The area of a rectangle."""
    return area_of(width, height)


def model(ask: Any) -> ChatOpenAI:
    more = {"temperature": ask.temperature} if hasattr(ask, "temperature") else {}
    usage = {"stream_usage": True} if ask.usage else {}
    return ChatOpenAI(base_url=ask.url, api_key=ask.key, model=ask.model, **more, **usage)


def take(message: Any, seen: Seen) -> None:
    seen.piece(message.text)
    usage = message.usage_metadata
    if usage:
        seen.counted(usage["input_tokens"], usage["output_tokens"])


def whole(ask: Any, seen: Seen) -> None:
    take(model(ask).invoke(ask.text), seen)


def image(ask: Any, seen: Seen) -> None:
    picture = {"type": "image_url", "image_url": {"url": ask.picture}}
    message = HumanMessage(content=[{"type": "text", "text": ask.text}, picture])
    take(model(ask).invoke([message]), seen)


def stream(ask: Any, seen: Seen) -> None:
    for chunk in model(ask).stream(ask.text):
        take(chunk, seen)


def tools(ask: Any, seen: Seen) -> None:
    asked, bound = HumanMessage(ask.text), model(ask).bind_tools([area])
    called = bound.invoke([asked])
    (call,) = called.tool_calls
    result = ToolMessage(str(area.invoke(call["args"])), tool_call_id=call["id"])
    for chunk in bound.stream([asked, called, result]):
        take(chunk, seen)


serve(whole=whole, image=image, stream=stream, tools=tools)
