"""A little of everything that a gateway sees, so that no series of it is missing."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final

import aiohttp

from tests.gateway import HELLO
from tests.images.origin import reply
from tests.images.samples import SAMPLES
from tests.scripted import (
    Close,
    Head,
    Recorded,
    Reset,
    Send,
    Sleep,
    Step,
    chat_json,
    chat_stream,
    error_json,
    sse,
)

USAGE: Final = {
    "prompt_tokens": 120,
    "completion_tokens": 30,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40},
}
SEEN: Final = {"prompt_tokens": 900, "completion_tokens": 7, "total_tokens": 907}


def main(request: Recorded) -> Iterable[Step]:
    """The first provider; what the user says is what it does."""
    asked = request.json()
    said = asked["messages"][0]["content"]
    word = said if isinstance(said, str) else "look"
    if word == "hang up":
        return [Close()]
    if word in ("fail", "fail twice"):
        return error_json(500, "boom")
    if word == "refuse":
        return error_json(400, "no")
    if word == "break":
        return [Head(), Send(sse({"choices": [{"index": 0, "delta": {"content": "Hi"}}]})), Reset()]
    usage = None if word == "no usage" else SEEN if word == "look" else USAGE
    if not asked.get("stream"):
        return chat_json("Hi", usage)
    return _paced(chat_stream(["one ", "two ", "three"], usage))


def _paced(steps: Iterable[Step]) -> Iterable[Step]:
    """With gaps between the pieces: else several may be read as one."""
    for step in steps:
        yield step
        if isinstance(step, Send):
            yield Sleep(0.005)


def backup(request: Recorded) -> Iterable[Step]:
    """The provider that is asked when the first one fails."""
    if request.json()["messages"][0]["content"] == "fail twice":
        return error_json(503, "boom")
    return chat_stream(["Hi"], USAGE)


def origin(request: Recorded) -> Iterable[Step]:
    """Where images are fetched from."""
    return reply(SAMPLES["png"])


def image(url: str) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": url}},
    ]


DATA: Final = "data:image/png;base64," + base64.b64encode(SAMPLES["png"]).decode()
NO_IMAGE: Final = "data:image/png;base64," + base64.b64encode(b"no image at all").decode()


def script(link: str) -> list[tuple[str, Mapping[str, Any], int]]:
    """Requests: the key by its name, what differs from HELLO, and the status that it gets. `link`
    leads to an image that was not asked for yet.
    """

    def says(text: object, **more: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": text}], **more}

    return [
        ("ci", says("Hello"), 200),
        ("ci", says("Hello", stream=False), 200),
        ("app", says("Hello", model="gpt-4o-mini"), 200),
        ("app", says("no usage"), 200),
        ("ci", says("hang up"), 200),
        ("ci", says("fail"), 200),
        ("app", says("fail twice"), 502),
        ("ci", says("refuse"), 400),
        ("app", says("break"), 200),
        ("ci", says(image(DATA)), 200),
        ("ci", says(image(link)), 200),
        ("ci", says(image(link)), 200),
        ("app", says(image(NO_IMAGE)), 400),
        ("app", says("Hello", temperature=7), 400),
        ("app", says("Hello", model="unheard-of"), 404),
        ("nobody", says("Hello"), 401),
        ("other-team", says("Hello", max_tokens=10), 200),
        ("poor", says("Hello", max_tokens=4000), 429),
    ]


async def drive(url: str, keys: Mapping[str, str], link: str) -> int:
    """Send each request once, one after the other; how many there were."""
    requests = script(link)
    async with aiohttp.ClientSession() as session:
        for name, changes, status in requests:
            headers = {"Authorization": f"Bearer {keys.get(name, 'sk-unknown')}"}
            body = {**HELLO, **changes}
            # A connection each, so that both workers have a part.
            async with session.post(
                f"{url}/v1/chat/completions", json=body, headers={**headers, "Connection": "close"}
            ) as answer:
                try:
                    told = await answer.read()
                except aiohttp.ClientPayloadError:  # a stream that breaks
                    told = b""
                assert answer.status == status, (name, changes, answer.status, told)
    return len(requests)
