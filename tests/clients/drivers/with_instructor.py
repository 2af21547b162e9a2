from __future__ import annotations

from typing import Any

import instructor
import openai
from pydantic import BaseModel
from serving import Seen, area, serve


class Said(BaseModel):
    text: str


class Rectangle(BaseModel):
    width: int
    height: int


def client(ask: Any) -> Any:
    return instructor.from_openai(openai.OpenAI(base_url=ask.url, api_key=ask.key))


def fields(ask: Any) -> dict[str, Any]:
    more = {"temperature": ask.temperature} if hasattr(ask, "temperature") else {}
    messages = [{"role": "user", "content": ask.text}]
    return {"model": ask.model, "messages": messages, "max_retries": 1, **more}


def whole(ask: Any, seen: Seen, shape: type[BaseModel] = Said, **changes: Any) -> None:
    asked = {**fields(ask), **changes}
    found, answer = client(ask).create_with_completion(response_model=shape, **asked)
    seen.piece(found.text if isinstance(found, Said) else str(area(found.width, found.height)))
    seen.counted(answer.usage.prompt_tokens, answer.usage.completion_tokens)


def image(ask: Any, seen: Seen) -> None:
    parts = [ask.text, instructor.Image.from_base64(ask.picture)]
    whole(ask, seen, messages=[{"role": "user", "content": parts}])


def tools(ask: Any, seen: Seen) -> None:
    whole(ask, seen, Rectangle)


def stream(ask: Any, seen: Seen) -> None:
    for found in client(ask).create_partial(response_model=Said, **fields(ask)):
        if found.text and found.text != seen.text:
            seen.piece(found.text.removeprefix(seen.text))


serve(whole=whole, image=image, stream=stream, tools=tools)
