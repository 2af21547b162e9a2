"""What is promised and not there yet is refused."""

from __future__ import annotations

import pytest

from proxy.config.notyet import NOT_YET

from .samples import SMALL, found


@pytest.mark.parametrize("where", NOT_YET)
def test_not_yet_is_refused_by_name(where: str) -> None:
    """What the contract promises but the code cannot do is refused, and what can be is named."""
    refused = {
        "providers.*.kind": "anthropic",
    }[where]
    known = {"providers.*": "providers.openai"}
    for pattern, name in known.items():
        where = where.replace(pattern, name)
    names = where.replace("*", "default").split(".")
    text = "{}"
    for name in reversed(names[1:]):
        text = f"{{{name}: {refused if text == '{}' else text}}}"
    base = {
        "store": SMALL.replace("url: embedded", f"url: embedded, {text[1:-1]}"),
        "providers": SMALL.replace("api_key: sk-test", f"{names[-1]}: {refused}"),
    }.get(names[0], f"{SMALL}{names[0]}: {text}")
    told = found(base)
    assert set(told) == {".".join(names)}
    assert told[".".join(names)].startswith(f"{refused!r} is not available yet; use '")
