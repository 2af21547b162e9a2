"""Rewriting image URLs by prefix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.images.rewrite import RewriteRule, rewrite

ASSETS = RewriteRule.parse("https://assets.corp.example/", "https://cdn.example.com/")
FOLDER = RewriteRule.parse("https://img.corp.example/pub", "https://cdn.example.com/p")
BUCKET = RewriteRule.parse("gs://bucket/", "https://storage.example.com/bucket/")
UPGRADE = RewriteRule.parse("http://", "https://")
RULES = (ASSETS, FOLDER, BUCKET, UPGRADE)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://assets.corp.example/a?x=%2F#f", "https://cdn.example.com/a?x=%2F#f"),
        ("HTTPS://Assets.CORP.example:443/A", "https://cdn.example.com/A"),
        ("https://assets.corp.example", "https://cdn.example.com/"),
        ("https://assets.corp.example?x", "https://cdn.example.com/?x"),
        ("https://img.corp.example/pub", "https://cdn.example.com/p"),
        ("https://img.corp.example/pub/a", "https://cdn.example.com/p/a"),
        ("https://img.corp.example/pub?a", "https://cdn.example.com/p?a"),
        ("gs://bucket/a.png", "https://storage.example.com/bucket/a.png"),
        ("http://pub.example/a", "https://pub.example/a"),
        ("http://pub.example:80/a", "https://pub.example/a"),
        ("http://pub.example:8080/a", "https://pub.example:8080/a"),
        ("http://pub.example:0/a", "https://pub.example:0/a"),
        ("http://[2606:4700::1]:80/a", "https://[2606:4700::1]/a"),
        ("http://assets.corp.example/a", "https://assets.corp.example/a"),
    ],
)
def test_rewritten(url: str, expected: str) -> None:
    """The first rule whose scheme, host, port and path begin the URL replaces them."""
    assert rewrite(url, RULES) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://assets.corp.example.evil/",
        "https://assets.corp.example@evil/",
        "https://evil/https://assets.corp.example/",
        "https://assets.corp.example:8443/a",
        "https://img.corp.example/public",
        "https://img.corp.example/pub/../secret",
        "https://img.corp.example/pub/%2e%2E/secret",
        "https://img.corp.example/pub/..%2Fsecret",
        "https://img.corp.example/pub/x%2f..%5csecret",
        "https://img.corp.example/pub/..;x/secret",
        "https://img.corp.example/",
        "gs://bucket2/a.png",
        "http://user@pub.example/",
        "http://pub.example\\@evil/",
        "http://pub.\texample/",
        "http://pub.example:/a",
        "http://pub.example:080/a",
        "http://",
        "http://[::1",
        "data:image/png;base64,AAAA",
        "",
    ],
)
def test_left_alone(url: str) -> None:
    """A URL that only looks like a prefix, or is malformed, is left as it was."""
    assert rewrite(url, RULES) == url


def test_first_match_wins() -> None:
    """Rules are tried in order, and one that has matched ends the search."""
    one = RewriteRule.parse("https://a.example/", "https://one.example/")
    two = RewriteRule.parse("https://a.example/", "https://two.example/")
    back = RewriteRule.parse("https://one.example/", "https://a.example/")
    assert rewrite("https://a.example/x", (one, two, back)) == "https://one.example/x"


@given(st.text("a./:@?#\\%2e\t", max_size=12))
def test_never_another_host(text: str) -> None:
    """Whatever follows, what a host rule gives begins with its target."""
    url = f"https://assets.corp.example{text}"
    changed = rewrite(url, (ASSETS,))
    assert changed == url or changed.startswith("https://cdn.example.com/")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("assets.corp.example", "https://cdn.example.com/"),
        ("https://a.example/", "cdn.example.com"),
        ("https://a.example/", "ftp://b.example/"),
        ("http://", "https://b.example/"),
        ("https://a.example/", "https://"),
        ("https://a.example/", "https://b.example/x"),
        ("https://a.example/?x", "https://b.example/"),
        ("https://u@a.example/", "https://b.example/"),
        ("https://a b/", "https://b.example/"),
        ("", ""),
    ],
)
def test_bad_rule(source: str, target: str) -> None:
    """A rule that is not two prefixes of a kind is an error when it is made."""
    with pytest.raises(ValueError, match=r"is not a URL prefix|cannot rewrite"):
        RewriteRule.parse(source, target)
