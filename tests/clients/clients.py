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
    often it asks where that is not as OpenAI's clients do; `shows`: what came of a stream before it
    broke off; `without` are cells that it has no feature for. `notes` say why, by cell.
    """

    name: str
    package: str
    lock: str
    driver: str
    argument: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    shows: bool = True
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
        "400 image": field,
        "429 budget": rate,
        "cut": cut,
    }


_OPENAI: Final = kinds(
    "AuthenticationError", "NotFoundError", "BadRequestError", "RateLimitError", "APIError"
)

_AI_SDK: Final = {
    "429 budget": "goes by the status, not by x-should-retry, so it asks three times",
}

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
        errors=kinds(*["ModelHTTPError"] * 5),
    ),
    Client(
        "llama-index",
        "llama-index-llms-openai-like",
        "llama-index.txt",
        "with_llama_index.py",
        errors=_OPENAI,
        attempts={"429 budget": 3},
        without=frozenset({"400 field"}),
        notes={
            "400 field": "refuses such a temperature before it asks",
            "429 budget": "asks again after any RateLimitError, on its own account",
        },
    ),
    Client(
        "instructor",
        "instructor",
        "instructor.txt",
        "with_instructor.py",
        errors=kinds(*["InstructorRetryException"] * 5),
        shows=False,
        without=frozenset({"stream usage"}),
        notes={
            "stream usage": "its partial objects have no usage",
            "cut": "raises, and has shown nothing: it reads a stream to its end before it yields",
        },
    ),
    Client(
        "ai-sdk",
        "ai",
        "ai-sdk",
        "with_ai_sdk.mjs",
        "openai",
        errors=kinds(*["APICallError"] * 3, "RetryError", "APICallError"),
        attempts={"429 budget": 3},
        notes=_AI_SDK,
    ),
    Client(
        "ai-sdk-compatible",
        "ai",
        "ai-sdk",
        "with_ai_sdk.mjs",
        "compatible",
        errors=kinds(*["APICallError"] * 3, "RetryError", "APICallError"),
        attempts={"429 budget": 3},
        notes=_AI_SDK,
    ),
    Client(
        "llm",
        "llm",
        "llm.txt",
        "with_llm.py",
        errors=kinds(*["CommandFailed"] * 5),
        without=frozenset({"400 field"}),
        notes={"400 field": "refuses such a temperature before it asks"},
    ),
    Client(
        "curl",
        "curl",
        "",
        "with_curl.py",
        errors=kinds(*["exit 22"] * 4, "exit 18"),
        attempts={"429 budget": 3},
        notes={"429 budget": "goes by the status, not by x-should-retry, so it asks three times"},
    ),
)
