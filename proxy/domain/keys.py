"""The form of a key: `vg_`, 30 random characters, 6 of checksum.

The checksum is the CRC32 of all before it in base62, padded on the left: a misspelt or
made-up key is refused without asking anyone, and scanners can tell a leaked one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "vg_"
ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_LENGTH: Final = 30
_CHECK_LENGTH: Final = 6
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{RANDOM_LENGTH + _CHECK_LENGTH}}}", re.ASCII)


def make_key(random_part: str) -> str:
    """A key from 30 random characters of the alphabet."""
    body = PREFIX + random_part
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Whether the form and the checksum are right; says nothing of whether the key exists."""
    return (
        _FORM.fullmatch(key) is not None and _checksum(key[:-_CHECK_LENGTH]) == key[-_CHECK_LENGTH:]
    )


def find_keys(text: str) -> list[str]:
    """Every well-formed key within a text, as `key find` looks for leaks."""
    return [key for key in _FORM.findall(text) if is_well_formed(key)]


def digest(pepper: str, key: str) -> str:
    """What is kept of a key at rest: HMAC-SHA256 with the pepper, in hex."""
    return hmac.digest(pepper.encode(), key.encode(), hashlib.sha256).hex()


def digests(peppers: Sequence[str], key: str) -> list[str]:
    """One digest per pepper, the signing one's first."""
    return [digest(pepper, key) for pepper in peppers]


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    characters = []
    for _ in range(_CHECK_LENGTH):
        number, rest = divmod(number, len(ALPHABET))
        characters.append(ALPHABET[rest])
    return "".join(reversed(characters))
