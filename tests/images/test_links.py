"""The short way for usual links, held against the long one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.domain.errors import ImageRefused
from proxy.images.urls import _USUAL, MAX_URL, LinkCheck, UrlRules, check_url
from tests.images.test_urls import HOSTS, RULES

#: What links are made of: usual parts, and what makes them odd ones.
HOST_PARTS = st.sampled_from(
    [
        *("a", "cdn", "example", "com", "corp", "lan", "local", "x1", "1x", "1", "0x7f", "0xg"),
        *("xn--bcher-kva", "_a", "-", "A", "é", "①", "localhost", "127.0.0.1", "8.8.8.8", "[::1]"),
        *(
            "a" * 63,
            "b" * 64,
            "bad.cdn.example",
            "exact.example",
            ".",
            ".",
            ".",
            "@",
            ":443",
            "%61",
        ),
    ]
)
PATH_PARTS = st.sampled_from(
    [
        *(
            "/",
            "/",
            "a.png",
            "?",
            "&x=%2F",
            "#",
            "=",
            "..",
            "//",
            "./",
            ":",
            "@",
            "%",
            "%zz",
            "%C3%A9",
        ),
        *("+", "~", "'", "(", "[", "]", "!", "*", ",", ";", "$", "é", " ", "\t", "\\", '"', "{"),
        *("<", "|", "^", "`", "\x7f", "\u200d", "A" * 4000),
    ]
)
LINKS = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["https://", "https://", "https://", "http://", "HTTPS://", "data:", ""]),
    st.lists(HOST_PARTS, max_size=6).map("".join),
    st.sampled_from([".example", ".com", ".com/", ".1/", "/", ""]),
    st.lists(PATH_PARTS, max_size=6).map("".join),
    st.text(max_size=2),
)


def outcome(check: Callable[[], object]) -> tuple[str, str]:
    """What comes of a link: the link as it goes on, or why it does not."""
    try:
        return str(check()), ""
    except ImageRefused as refused:
        return refused.reason, refused.message


@pytest.mark.parametrize("rules", [RULES, HOSTS, UrlRules(frozenset({"http"}), frozenset({443}))])
@given(LINKS)
@settings(max_examples=1000)
def test_a_usual_link_is_judged_alike(rules: UrlRules, url: str) -> None:
    """The short way for usual links passes and changes nothing that the long one does not."""
    assert outcome(lambda: LinkCheck(rules).check(url)) == outcome(lambda: check_url(url, rules))


@given(st.from_regex(_USUAL, fullmatch=True))
def test_a_usual_link_is_itself(url: str) -> None:
    """Whatever looks usual is passed on as it was written, or refused as by the long way."""
    assert outcome(lambda: LinkCheck(RULES).check(url)) == outcome(lambda: check_url(url, RULES))


@pytest.mark.parametrize("size", [MAX_URL, MAX_URL + 1])
def test_a_usual_link_has_a_length(size: int) -> None:
    """A usual link may be as long as any other, and no longer."""
    url = "https://pub.example/".ljust(size, "a")
    assert outcome(lambda: LinkCheck(RULES).check(url)) == outcome(lambda: check_url(url, RULES))
    assert (size > MAX_URL) == (outcome(lambda: LinkCheck(RULES).check(url))[0] == "too_long")
