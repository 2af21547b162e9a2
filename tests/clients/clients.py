"""The matrix's rows: what each client is, how it is installed, and what it does in its own way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DRIVERS: Final = Path(__file__).parent / "drivers"
LOCKS: Final = Path(__file__).parent / "locks"


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """`lock` is what is installed, below LOCKS: a file of pip's, or a folder of npm's; "" is for a
    command that the machine has. `errors` are the names of what it raises, by cell; `attempts` how
    often it asks where that is not as OpenAI's clients do; `without` are cells that it has no
    feature for. `notes` say why, by cell.
    """

    name: str
    package: str
    lock: str
    driver: str
    argument: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def node(self) -> bool:
        return self.driver.endswith(".mjs")


def kinds(key: str, model: str, field: str, rate: str, cut: str) -> dict[str, str]:
    """The names of a client's errors."""
    return {
        "401 key": key,
        "404 model": model,
        "400 field": field,
        "429 budget": rate,
        "cut": cut,
    }


_OPENAI: Final = kinds(
    "AuthenticationError", "NotFoundError", "BadRequestError", "RateLimitError", "APIError"
)

CLIENTS: Final = (
    Client("openai-python", "openai", "openai.txt", "with_openai.py", errors=_OPENAI),
    Client("openai-node", "openai", "openai-node", "with_openai.mjs", errors=_OPENAI),
    Client(
        "langchain-openai",
        "langchain-openai",
        "langchain-openai.txt",
        "with_langchain.py",
        errors=_OPENAI,
    ),
    Client(
        "pydantic-ai",
        "pydantic-ai-slim",
        "pydantic-ai.txt",
        "with_pydantic_ai.py",
        errors=kinds(*["ModelHTTPError"] * 4, cut="APIError"),
    ),
    Client(
        "llama-index",
        "llama-index-llms-openai-like",
        "llama-index.txt",
        "with_llama_index.py",
        errors=_OPENAI,
    ),
    Client(
        "instructor",
        "instructor",
        "instructor.txt",
        "with_instructor.py",
        errors=kinds(*["InstructorRetryException"] * 4, cut="APIError"),
        without=frozenset({"stream usage"}),
        notes={"stream usage": "its partial objects have no usage"},
    ),
    Client(
        "ai-sdk",
        "ai",
        "ai-sdk",
        "with_ai_sdk.mjs",
        "openai",
        errors=kinds(*["AI_APICallError"] * 3, "AI_RetryError", "AI_APICallError"),
    ),
    Client(
        "ai-sdk-compatible",
        "ai",
        "ai-sdk",
        "with_ai_sdk.mjs",
        "compatible",
        errors=kinds(*["AI_APICallError"] * 3, "AI_RetryError", "AI_APICallError"),
    ),
    Client(
        "llm",
        "llm",
        "llm.txt",
        "with_llm.py",
        errors=kinds(*["CommandFailed"] * 5),
    ),
    Client(
        "curl",
        "curl",
        "",
        "with_curl.py",
        errors=kinds(*["exit 22"] * 4, "exit 18"),
        attempts={"429 budget": 3},
        notes={"429 budget": "curl --retry goes by the status, so it asks three times"},
    ),
)
