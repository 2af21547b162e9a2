"""The short way for usual links, held against the long one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.domain.errors import ImageRefused
from proxy.images.urls import _USUAL, MAX_URL, LinkCheck, UrlRules, check_url
from tests.images.test_urls import HOSTS, RULES

#: Usual hosts, and those that only look it.
HOSTNAMES = st.sampled_from(
    [
        *("pub.example", "a.cdn.example", "bad.cdn.example", "x_1.exact.example", "exact.example"),
        *("xn--bcher-kva.example", "-.example", "a" * 63 + ".example", "b" * 64 + ".example"),
        *("assets.corp", "x.files.lan", "db.internal", "printer.local", "intranet", "localhost"),
        *("127.0.0.1", "8.8.8.8", "10.1.2.3", "a.1", "a.1x", "a.0x7f", "a.0xg", "[::1]", "a..b"),
        *(
            "Pub.example",
            "bücher.example",
            "①.example",
            "pub.example.",
            ".example",
            "a." * 126 + "b",
        ),
        *("user@pub.example", "pub.example:443", "pub.example:", "pub.ex%61mple", "pub example"),
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
        *(
            "+",
            "~",
            "'",
            "(",
            "[",
            "]",
            "!",
            "*",
            ",",
            ";",
            "$",
            "é",
            " ",
            "\t",
            "\\",
            '"',
            "{",
            "}",
        ),
        *("<", ">", "|", "^", "`", "\x7f", "\u200d", "A" * 4000),
    ]
)
LINKS = st.one_of(
    st.lists(PATH_PARTS, max_size=4).map("".join).map("https://exact.example/".__add__),
    st.builds(
        "{}{}{}".format,
        st.sampled_from([*["https://"] * 6, "http://", "HTTPS://", "https:", "data:", ""]),
        HOSTNAMES,
        st.sampled_from(["/", "/a.png?b=c", "/", "", "?", "#"]),
    ),
)
RULES_OF_ALL_KINDS = [
    RULES,
    HOSTS,
    UrlRules(frozenset({"http"}), frozenset({443})),
    UrlRules(frozenset({"https", "data"}), frozenset({8443})),
]


def outcome(check: Callable[[], object]) -> tuple[str, str]:
    """What comes of a link: the link as it goes on, or why it does not."""
    try:
        return str(check()), ""
    except ImageRefused as refused:
        return refused.reason, refused.message


@pytest.mark.parametrize("rules", RULES_OF_ALL_KINDS)
@given(LINKS)
@settings(max_examples=400)
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
