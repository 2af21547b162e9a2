"""Image URLs, beyond the published cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from proxy.domain.errors import ImageRefused
from proxy.images.addresses import is_public
from proxy.images.errors import REASONS
from proxy.images.hosts import matches_host
from proxy.images.urls import UrlRules, check_redirect, check_url, is_inner

RULES = UrlRules(frozenset({"http", "https"}), frozenset({80, 443}))


def reason(url: str, rules: UrlRules = RULES) -> str:
    with pytest.raises(ImageRefused) as refused:
        check_url(url, rules)
    return refused.value.reason


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "not_a_url"),
        ("a.png", "not_a_url"),
        ("https:pub.example/a.png", "not_a_url"),
        ("https:/pub.example/a.png", "not_a_url"),
        ("javascript:alert(1)", "scheme"),
        ("data:image/png;base64,AAAA", "scheme"),
        ("https://pub.example/" + "a" * 8173, "too_long"),
        (" https://pub.example/", "not_a_url"),
        ("https://pub.example/a b", "characters"),
        ("https://pub.example/\x7f", "characters"),
        ("https://pub.example/\u00a0", "characters"),
        ("https://pub.example/\u2066", "characters"),
        ("https://pub\u00ad.example/", "characters"),
        ("https://pub\ud800.example/", "characters"),
        ("https://user@pub.example/", "userinfo"),
        ("https://:@pub.example/", "userinfo"),
        ("https://pub.example＠10.0.0.1/", "host"),
        ("https://pub.example:/", "port"),
        ("https://pub.example:0443/", "port"),
        ("https://pub.example:４４３/", "port"),
        ("https://pub.example:-1/", "port"),
        ("https://pub.example:65979/", "port"),
        ("https://pub.example:443:443/", "port"),
        ("https://", "host"),
        ("https://?a", "host"),
        ("https://.pub.example/", "host"),
        ("https://pub..example/", "host"),
        ("https://pub.example../", "host"),
        ("https://pub.example／a", "host"),
        ("https://pub.example：443/", "host"),
        ("https://pub;.example/", "host"),
        ("https://" + "a." * 126 + "example/", "host"),
        ("https://[v1.pub]/", "ip_notation"),
        ("https://[8.8.8.8]/", "host"),
        ("https://[::1]x/", "host"),
        ("https://[::1/", "host"),
        ("https://[fe80::1%25eth0]/", "host"),
        ("https://0/", "ip_notation"),
        ("https://1.2.3.4.5/", "ip_notation"),
        ("https://8.8.8.8./", "ip_notation"),
        ("https://8.8.8.08/", "ip_notation"),
        ("https://pub.0x7f/", "ip_notation"),
        ("https://①②⑦.1/", "ip_notation"),
        ("https://①②⑦.⓪.⓪.①/", "not_public"),
        ("https://169。254。169。254/", "not_public"),
        ("https://[::FFFF:10.0.0.1]/", "not_public"),
        ("https://intranet/", "local_name"),
        ("https://LocalHost./", "local_name"),
        ("https://printer.LOCAL./", "local_name"),
        ("https://metadata.google。internal/", "local_name"),
        ("https://ｄb.ｌan/", "local_name"),
        ("https://1.0.0.127.in-addr.arpa/", "local_name"),
        ("https://api.default.svc.cluster.local/", "local_name"),
    ],
)
def test_refused(url: str, expected: str) -> None:
    """A URL that is not plainly public is refused for its own reason."""
    assert reason(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://pub.example/a.png",
        "https://pub.example./a.png",
        "https://pub.example/a.png?x=1#top",
        "https://my_bucket.s3.example.com/k/a%20b.png?sig=a%2Fb%2B%3D&t=%7E",
        "https://pub.example/a/../b.png",
        "https://localhost.example/",
        "https://internal.example/",
        "https://127.0.0.1.example/",
        "https://0x7f.example/",
        "https://pub.example/?u=http://127.0.0.1/&v=a@b",
        "https://[2606:4700::1111]/a.png",
        "https://8.8.8.8/a.png",
    ],
)
def test_passed_on_as_written(url: str) -> None:
    """An ordinary URL passes, and comes out as it went in, so that its signature holds."""
    assert str(check_url(url, RULES)) == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTPS://PUB.example:443/A%2Fb", "https://pub.example/A%2Fb"),
        ("https://bücher.example/a%2Fb?c=%2F", "https://xn--bcher-kva.example/a%2Fb?c=%2F"),
        ("https://pub.example/é", "https://pub.example/%C3%A9"),
        ("https://pub.example/{a}", "https://pub.example/%7Ba%7D"),
        ("http://pub.example:443/", "http://pub.example:443/"),
    ],
)
def test_normal_form(url: str, expected: str) -> None:
    """Scheme, host and port come out in one form, and what needs quoting is quoted."""
    assert str(check_url(url, RULES)) == expected


def test_length_limit_is_inclusive() -> None:
    """8192 characters are allowed."""
    check_url("https://pub.example/" + "a" * 8172, RULES)


def test_default_port_is_checked() -> None:
    """A scheme's own port must be allowed like any other."""
    assert reason("http://pub.example/", UrlRules(frozenset({"http"}), frozenset({443}))) == "port"


@pytest.mark.parametrize(
    ("urls", "told"),
    [
        (("http://a.example/?x", "gopher://b.example/"), "allowed: data, https$"),
        (("https://a.example:22/", "https://a.example:x/", "https://b.example:0/"), ": 80, 443$"),
        (("https://10.0.0.1/", "https://[::1]/"), "is not a public address"),
        (("https://localhost/", "https://db.internal/"), "is a local name"),
        (("https://%61/", "https://", "https://a..example/", "https://[x/"), "is not a host name"),
        (("https://pub.example/" + "a" * 8173, "https://pub.example/" + "b" * 9000), "most 8192 "),
    ],
)
def test_messages(urls: tuple[str, ...], told: str) -> None:
    """A message tells the rule and nothing of the URL: it is one and the same for a reason."""
    rules = UrlRules(frozenset({"https", "data"}), frozenset({80, 443}))
    messages = set()
    for url in urls:
        with pytest.raises(ImageRefused, match=told) as refused:
            check_url(url, rules)
        messages.add((refused.value.reason, refused.value.message))
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("url", "inner"),
    [
        ("http://vllm:8000/v1", True),
        ("http://vllm.internal.:8000/v1", True),
        ("http://localhost./v1", True),
        ("http://10.0.0.7/v1", True),
        ("http://127.1/v1", True),
        ("http://0x7f.1/v1", True),
        ("http://[fd00::1]/v1", True),
        ("https://api.example.com./v1", False),
        ("https://8.8.8.8/v1", False),
        ("https://[2606:4700::1111]/v1", False),
    ],
)
def test_is_inner(url: str, inner: bool) -> None:
    """A URL is inner where its text says so, or says something that parsers read differently."""
    assert is_inner(url) is inner


HOSTS = UrlRules(
    frozenset({"https"}),
    frozenset({443}),
    allow=("*.cdn.example", "exact.example", "8.8.8.0/24", "bücher.example"),
    deny=("bad.cdn.example", "8.8.8.8/32"),
    internal=("assets.corp", "10.1.0.0/16", "*.files.lan"),
)


@pytest.mark.parametrize(
    "host",
    [
        *("a.cdn.example", "a.b.CDN.example", "exact.example", "exact.example.", "8.8.8.9"),
        *("bücher.example", "assets.corp", "10.1.2.3", "a.files.lan", "[::ffff:8.8.8.9]"),
    ],
)
def test_host_allowed(host: str) -> None:
    """Exact names, names under a suffix, networks and internal hosts are let through."""
    check_url(f"https://{host}/", HOSTS)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("cdn.example", "host_policy"),
        ("evilcdn.example", "host_policy"),
        ("sub.exact.example", "host_policy"),
        ("bad.cdn.example", "host_policy"),
        ("8.8.8.8", "host_policy"),
        ("[::ffff:8.8.8.8]", "host_policy"),
        ("[64:ff9b::808:808]", "host_policy"),
        ("8.8.9.1", "host_policy"),
        ("10.2.0.1", "not_public"),
        ("files.lan", "local_name"),
        ("x.assets.corp", "local_name"),
    ],
)
def test_host_refused(host: str, expected: str) -> None:
    """Deny wins over allow, and an internal host is only the one that is named."""
    assert reason(f"https://{host}/", HOSTS) == expected


@pytest.mark.parametrize(
    "pattern", ["", "*x.example", "a.*.example", "10.0.0.1/8", "1.2.3.4/33", "a b", "*.", "a/b"]
)
def test_bad_pattern(pattern: str) -> None:
    """A host pattern that cannot be read is an error when the rules are made."""
    with pytest.raises(ValueError, match="is not a"):
        UrlRules(frozenset({"https"}), frozenset({443}), deny=(pattern,))


BASE = URL("https://pub.example/r/a")


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("b.png", "https://pub.example/r/b.png"),
        ("/b.png?x=1", "https://pub.example/b.png?x=1"),
        ("//cdn.example/b", "https://cdn.example/b"),
        ("https://cdn.example/b?s=%2F", "https://cdn.example/b?s=%2F"),
    ],
)
def test_redirect(location: str, expected: str) -> None:
    """A redirect leads where a browser would go."""
    assert str(check_redirect(BASE, location, RULES)) == expected


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("", "redirect"),
        ("http://pub.example/", "redirect"),
        ("//127.0.0.1/", "not_public"),
        ("/a\r\nb", "characters"),
        ("\t//127.0.0.1/", "characters"),
        ("data:image/png;base64,AAAA", "scheme"),
        ("//[::1/", "redirect"),
        ("//[::1]@", "redirect"),
    ],
)
def test_redirect_refused(location: str, expected: str) -> None:
    """A redirect is judged like a URL, and may not leave https."""
    with pytest.raises(ImageRefused) as refused:
        check_redirect(BASE, location, RULES)
    assert refused.value.reason == expected


def judge(url: str) -> URL | ImageRefused:
    """What becomes of a URL; any other error fails the test."""
    try:
        return check_url(url, RULES)
    except ImageRefused as refused:
        return refused


@given(
    st.sampled_from(["http://", "https://", "HTTPS://", "http:", "//", ""]),
    st.lists(
        st.sampled_from(
            [
                *(
                    "127.0.0.1",
                    "localhost",
                    "pub.example",
                    "0x7f",
                    "1",
                    ".",
                    "@",
                    ":",
                    "80",
                    "[",
                    "]",
                ),
                *("::1", "%31", "\\", "/", "?", "#", "①", "。", "ⓛ", "\t", "10", "‮", "::ffff:"),
            ]
        ),
        max_size=8,
    ).map("".join),
)
def test_whatever_passes_is_public(scheme: str, text: str) -> None:
    """Whatever is put together, a URL that passes has a public address or a full name."""
    url = judge(scheme + text)
    if isinstance(url, ImageRefused):
        assert url.reason in REASONS
        return
    host = url.raw_host or ""
    assert url.raw_user is None
    assert url.port in RULES.ports
    if ":" in host or matches_host(host, ("0.0.0.0/0",)):
        assert is_public(host)
    else:
        assert "." in host.removesuffix(".")
        assert not host.endswith(("localhost", "localhost."))
        assert not host.removesuffix(".").rpartition(".")[2].isdigit()
    assert check_url(str(url), RULES) == url


@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    """No text makes it raise anything but a refusal."""
    for url in (text, f"https://{text}", f"https://pub.example/{text}"):
        judged = judge(url)
        assert isinstance(judged, URL) or judged.reason in REASONS
