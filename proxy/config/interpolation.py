"""References in text: `${NAME}`, `${NAME:-default}`, `${file:/path}`, and `$$` for a dollar.

As in a shell, `:-` also stands in for a name that is set to nothing. References do not nest.
Source: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html (2.6.2)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_REFERENCE: Final = re.compile(r"\$\$|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FORMS: Final = "write ${NAME}, ${NAME:-default} or ${file:/path}, or $$ for a dollar"

#: A shorter value is no secret worth the name, and hiding it would garble messages.
_SHORTEST_SECRET: Final = 6


@dataclass(frozen=True, slots=True)
class Filling:
    """What a reference was filled with."""

    reference: str
    value: str = field(repr=False)

    def hide(self, message: str) -> str:
        """The message with the reference instead of the value."""
        if len(self.value) < _SHORTEST_SECRET or self.value in self.reference:
            return message
        for shape in (self.value, repr(self.value)[1:-1]):
            message = message.replace(shape, self.reference)
        return message


def interpolate(text: str, env: Mapping[str, str] | None) -> tuple[str, list[Filling], list[str]]:
    """The text with its references filled in, what filled them, and what could not be.

    `env` is None for a text from elsewhere: a reference in it is an error, also to a file.
    """
    fillings: list[Filling] = []
    errors: list[str] = []

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        try:
            value = _resolve(match["inside"], bool(match["end"]), env)
        except LookupError as error:
            errors.append(str(error.args[0]))
            return ""
        fillings.append(Filling(match[0], value))
        return value

    return _REFERENCE.sub(fill, text), fillings, errors


def _resolve(inside: str, closed: bool, env: Mapping[str, str] | None) -> str:
    if env is None:
        raise LookupError("references are not filled in here; write $$ for a dollar")
    if not closed:
        raise LookupError(f"a reference is not closed with }}; {_FORMS}")
    if inside.startswith("file:"):
        return _read(Path(inside.removeprefix("file:")))
    name, has_default, default = inside.partition(":-")
    if _NAME.fullmatch(name) is None:
        raise LookupError(f"not a reference; {_FORMS}")
    if "${" in default:
        raise LookupError("references do not nest")
    value = env.get(name, "")
    if has_default:
        return value or default.replace("$$", "$")
    if name not in env:
        raise LookupError(
            f"environment variable {name} is not set; set it or write ${{{name}:-default}}"
        )
    return value


def _read(path: Path) -> str:
    if not path.is_absolute():
        raise LookupError("a file's path must be absolute: ${file:/run/secrets/name}")
    try:
        if path.exists() and not path.is_file():
            raise LookupError(f"{path} is not a regular file")
        return path.read_text("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise LookupError(f"{path} is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise LookupError(f"{path} cannot be read: {reason}") from None
