"""Providers of chat completions as they are: each with its own address, key header and refusals.

Their answers are those of tests/providers/fixtures, in the shapes of the vendor's documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.scripted.steps import End, Head, Recorded, Script, Send, Step

FIXTURES = Path(__file__).parent.parent / "providers" / "fixtures"

#: The key that each takes.
KEY = "sk-vendor"

Check = Callable[[Any], tuple[int, bytes] | None]


def fixture(vendor: str, name: str) -> bytes:
    """A recorded answer: `text.sse`, `error.json`."""
    return (FIXTURES / vendor / name).read_bytes()


@dataclass(frozen=True)
class Vendor:
    """`path` is a base URL's, `target` the whole one that a request has; `key` the header and how
    it begins; `refuses` what is wrong with a body; `provider` what a config says beside the URL.
    `source`: the documentation that its fixtures are from.
    """

    name: str
    source: str
    path: str = "/v1"
    target: str = ""
    key: tuple[str, str] = ("authorization", "Bearer ")
    provider: Mapping[str, str] = field(default_factory=dict)
    refuses: Check = lambda body: None
    unauthorized: int = 401

    def answers(self, name: str, status: int = 200) -> Script:
        """A script that answers with a fixture whoever asks as the vendor wants to be asked."""
        return lambda asked: self._reply(asked, name, status)

    def _reply(self, asked: Recorded, name: str, status: int) -> list[Step]:
        if asked.method != "POST" or asked.path != (self.target or f"{self.path}/chat/completions"):
            return _answer(404, b"404 page not found", "text/plain")
        if asked.header(self.key[0]) != self.key[1] + KEY:
            return _answer(self.unauthorized, fixture(self.name, "unauthorized.json"))
        body = asked.json()
        refused = self.refuses(body)
        if refused is not None:
            return _answer(*refused)
        kind = "text/event-stream" if name.endswith(".sse") else "application/json"
        if status == 200:
            assert body.get("stream", False) is name.endswith(".sse"), name
        return _answer(status, fixture(self.name, name), kind)


def _answer(status: int, body: bytes, kind: str = "application/json") -> list[Step]:
    """An event to a Send where they are events."""
    parts = body.split(b"\n\n") if kind == "text/event-stream" else [body]
    ends = [b"\n\n"] * (len(parts) - 1) + [b""]
    sends = [Send(part + end) for part, end in zip(parts, ends, strict=True) if part + end]
    return [Head(status, (("Content-Type", kind), ("x-vendor-cookie", "no"))), *sends, End()]


def _links(body: Any) -> Iterator[str]:
    for message in body["messages"]:
        parts = message["content"] if isinstance(message.get("content"), list) else []
        for part in parts:
            if part["type"] == "image_url" and not part["image_url"]["url"].startswith("data:"):
                yield part["image_url"]["url"]


def _data_alone(vendor: str, body: Any) -> tuple[int, bytes] | None:
    return (400, fixture(vendor, "error.json")) if any(_links(body)) else None


#: Of what clients of OpenAI send, what Mistral's schema has not.
_UNKNOWN = ("stream_options", "max_completion_tokens", "seed", "user", "logprobs", "logit_bias")


def _mistral(body: Any) -> tuple[int, bytes] | None:
    for name in _UNKNOWN:
        if name in body:
            return 422, fixture("mistral", "unknown_field.json").replace(b"FIELD", name.encode())
    return None


def _azure(body: Any) -> tuple[int, bytes] | None:
    return None if body["model"] == "our-4o" else (404, fixture("azure", "no_deployment.json"))


VENDORS: Mapping[str, Vendor] = {
    "openai": Vendor("openai", "https://platform.openai.com/docs/api-reference/chat-streaming"),
    "azure": Vendor(
        "azure",
        "https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle and "
        "https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter-annotations",
        path="",
        target="/openai/v1/chat/completions",
        key=("api-key", ""),
        provider={"kind": "azure"},
        refuses=_azure,
    ),
    "azure dated": Vendor(
        "azure",
        "https://learn.microsoft.com/azure/ai-foundry/openai/reference",
        path="",
        target="/openai/deployments/our-4o/chat/completions?api-version=2024-10-21",
        key=("api-key", ""),
        provider={"kind": "azure", "api_version": "2024-10-21"},
        refuses=_azure,
    ),
    "gemini": Vendor(
        "gemini",
        "https://ai.google.dev/gemini-api/docs/openai and "
        "https://ai.google.dev/gemini-api/docs/troubleshooting",
        path="/v1beta/openai",
        provider={"quirks": "gemini"},
        refuses=partial(_data_alone, "gemini"),
        unauthorized=400,
    ),
    "mistral": Vendor(
        "mistral",
        "https://docs.mistral.ai/api/endpoint/chat",
        provider={"quirks": "mistral"},
        refuses=_mistral,
    ),
    "groq": Vendor(
        "groq",
        "https://console.groq.com/docs/api-reference#chat-create and "
        "https://console.groq.com/docs/errors",
        path="/openai/v1",
    ),
    "openrouter": Vendor(
        "openrouter",
        "https://openrouter.ai/docs/api-reference/streaming and "
        "https://openrouter.ai/docs/api-reference/errors",
        path="/api/v1",
    ),
    "vllm": Vendor("vllm", "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html"),
    "ollama": Vendor(
        "ollama",
        "https://docs.ollama.com/api/openai-compatibility",
        provider={"quirks": "ollama"},
        refuses=partial(_data_alone, "ollama"),
    ),
}


def settings(vendor: Vendor, port: int) -> dict[str, Any]:
    """A provider of that vendor, as a config has it."""
    base_url = f"http://127.0.0.1:{port}{vendor.path}"
    return {"base_url": base_url, "api_key": KEY, **vendor.provider}
