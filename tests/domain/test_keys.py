"""The form of a key, its checksum, and what is kept of it."""

from __future__ import annotations

import hashlib
import hmac
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.keys import (
    ALPHABET,
    RANDOM_LENGTH,
    digest,
    digests,
    find_keys,
    is_well_formed,
    make_key,
)

RANDOM = st.text(ALPHABET, min_size=RANDOM_LENGTH, max_size=RANDOM_LENGTH)
KEY = make_key("0123456789ABCDEFGHIJKLMNOPQRST")


@given(RANDOM)
def test_a_key_carries_its_crc(random: str) -> None:
    """A key is vg_, 30 characters, and the CRC32 of both as six digits of base62."""
    key = make_key(random)
    assert len(key) == 39
    assert key.startswith("vg_" + random)
    number = 0
    for character in key[33:]:
        number = number * 62 + ALPHABET.index(character)
    assert number == zlib.crc32(key[:33].encode())
    assert is_well_formed(key)


@given(RANDOM, st.integers(0, 38), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_noticed(random: str, place: int, other: str) -> None:
    """A key misspelt in one place is not well formed."""
    key = make_key(random)
    wrong = key[:place] + other + key[place + 1 :]
    assert is_well_formed(wrong) == (wrong == key)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "vg_",
        KEY[:-1],
        KEY + "0",
        KEY + "\n",
        " " + KEY,
        KEY.upper(),
        KEY.replace("vg_", "sk-"),
        KEY[:-1] + "é",
        KEY[:-1] + "\udc80",
        KEY[:-1] + "٣",
        make_key("a" * 29),
        make_key("a" * 31),
        make_key("é" * 30),
    ],
)
def test_what_is_no_key(wrong: str) -> None:
    """Anything of another length, prefix or alphabet is refused without an error."""
    assert not is_well_formed(wrong)


def test_the_checksum_is_padded() -> None:
    """A small checksum has zeros before it, so that every key is as long."""
    texts = (f"{number:030d}" for number in range(2000))
    padded = next(key for key in map(make_key, texts) if key[33] == "0")
    assert is_well_formed(padded)
    assert len(padded) == 39


def test_keys_are_found_in_a_text() -> None:
    """Every key within a text is found, and what only looks like one is not."""
    other = make_key("z" * 30)
    text = f"a={KEY};b='{other}' {KEY[:-1]}! vg_{'0' * 36} x{KEY}tail vg_vg_ {KEY}"
    assert find_keys(text) == [KEY, other, KEY, KEY]
    assert find_keys("") == []


def test_what_is_kept_at_rest() -> None:
    """A key is kept as its HMAC-SHA256 with the pepper, the signing pepper's first."""
    expected = hmac.new(b"pepper", KEY.encode(), hashlib.sha256).hexdigest()
    assert digest("pepper", KEY) == expected
    assert digests(["new", "pepper"], KEY) == [digest("new", KEY), expected]
    assert digest("new", KEY) != expected
