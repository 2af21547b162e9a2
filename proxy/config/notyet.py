"""What the contract promises and the code cannot do yet.

A value that is not in its row is refused by name; a row is deleted when its feature lands, and
the contract's default comes back by itself.
"""

from __future__ import annotations

from typing import Final, TypeVar

T = TypeVar("T")

#: Where (`*` is any key or index), and what can be used there; the first is the default for now.
NOT_YET: Final[dict[str, tuple[str, ...]]] = {
    "server.workers": ("auto", "1"),
    "providers.*.kind": ("openai",),
    "providers.*.transport": ("aiohttp",),
    "models.*.targets.*.concurrent": ("0",),
}


def default_now(where: str, default: T) -> T:
    """The contract's default if it can be used, else what stands in for it."""
    usable = NOT_YET.get(where, ())
    return default if not usable or default in usable else usable[0]  # type: ignore[return-value]
