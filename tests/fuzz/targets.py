"""What is fuzzed: how inputs are made, and what must be true of each."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from hypothesis import strategies as st
from PIL import Image
from yarl import URL

from proxy.domain.errors import ImageRefused
from proxy.domain.steps import finish
from proxy.images.addresses import is_public
from proxy.images.datauri import parse_data_uri
from proxy.images.errors import REASONS
from proxy.images.rewrite import RewriteRule, rewrite
from proxy.images.sniff import ImageInfo, NeedMore, SniffError, format_of, sniff, walk
from proxy.images.urls import UrlRules, check_redirect, check_url
from tests.images.mutants import mutants
from tests.images.samples import (
    SAMPLES,
    data_uri,
    judge_data,
    load_cases,
    look,
    make_policy,
)
from tests.providers.anthropic.spoilt import SPOILT, check_translation


class Target(NamedTuple):
    """A strategy of inputs, and a check that raises where it finds something."""

    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]


RULES: Final = UrlRules(frozenset({"http", "https"}), frozenset({80, 443}), deny=("*.bad.example",))
CDN: Final = RewriteRule.parse("https://assets.corp.example/", "https://cdn.example.com/")
BELOW: Final = RewriteRule.parse("https://img.example/pub", "https://cdn.example.com/p")
UPGRADE: Final = RewriteRule.parse("http://", "https://")
POLICY: Final = make_policy(max_bytes=4096)
LIMIT: Final = 1000

_URLS: Final = [
    *(c["url"] for c in load_cases("image_urls.yaml")["cases"] if isinstance(c["url"], str)),
    *("https://assets.corp.example/a.png?x=1#y", "https://img.example/pub/a/../b", "http://a.bad"),
]
_TEXTS: Final = [url.encode("utf-8", "surrogatepass")[:300] for url in _URLS if url[:5] != "data:"]
_PIECES: Final = st.lists(
    st.sampled_from(
        [
            *(
                "http://",
                "https:",
                "//",
                "/",
                "\\",
                "@",
                ":",
                ":443",
                ":080",
                "[",
                "]",
                "::1",
                "%2e",
            ),
            *(
                "127.0.0.1",
                "0x7f.1",
                "2130706433",
                "①",
                "。",
                "．",
                "localhost",
                "pub.example",
                "...",
            ),
            *("[::ffff:10.0.0.1]", "assets.corp.example", "img.example/pub", "?", "#", "\t", "%00"),
            *(
                "xn--",
                "ß",
                "\u200d",
                "\u202e",
                "ＡＢ",
                "ａ",
                "%",
                "%25",
                "..",
                "/../",
                ";",
                "-",
                "_",
            ),
        ]
    ),
    max_size=9,
).map("".join)
#: Parts that go together, and now and then one that does not.
_WRITTEN: Final = st.tuples(
    st.sampled_from(["https", "http", "HTTPS", "ftp"]).map("{}://".format),
    st.sampled_from(["", "", "", "user@", ":@", "a:b@", "%40"]),
    st.sampled_from(["pub.example", "8.8.8.8", "[2606:4700::1]", "bücher.example", "PUB.example."]),
    st.sampled_from(["", "", ":443", ":80", ":0443", ":", ":0"]),
    st.sampled_from(["", "/a/b.png", "?x=//127.0.0.1/", "#y", "\\@127.0.0.1/", "/é{}"]),
).map("".join)
URLS: Final = st.one_of(
    _WRITTEN,
    mutants(_TEXTS).map(lambda text: text.decode("utf-8", "replace")),
    st.builds(str.__add__, st.sampled_from(["https://img.example/pub", "http://a.b"]), _PIECES),
    _PIECES,
    _PIECES.map("https://".__add__),
    st.text(max_size=60).map("https://".__add__),
)
_URIS: Final = [
    data_uri(data[:1200], f"image/{format_of(data)}").encode() for data in SAMPLES.values()
]


def refused(work: Callable[[], Any]) -> Any:
    """What the work gives, or None where it is refused; any other error is a finding."""
    try:
        return work()
    except ImageRefused as error:
        if error.reason not in REASONS:
            raise
        return None


def one_form(host: str) -> str:
    """A name, or an address as it is usually written."""
    with suppress(ValueError):
        return str(ip_address(host))
    return host


def fuzz_url(url: str) -> None:
    """A URL that passes is its own normal form, and its host is one that may be dialled."""
    passed = refused(lambda: check_url(url, RULES))
    if passed is None:
        return
    assert str(check_url(str(passed), RULES)) == str(passed)
    host = passed.raw_host
    assert host
    assert host.isascii()
    assert passed.scheme in RULES.schemes
    assert passed.port in RULES.ports
    assert passed.user is passed.password is None
    if url.isascii():  # another reader of URLs finds the same host
        other = urlsplit(url)
        assert other.username is None
        assert one_form(other.hostname or "") == one_form(host)
    with suppress(ValueError):
        assert is_public(str(ip_address(host)))


def fuzz_redirect(pair: tuple[str, str]) -> None:
    """Where a redirect leads passes by itself, and is never less safe than where it came from."""
    base = refused(lambda: check_url(pair[0], RULES)) or URL("https://pub.example/a/b?c")
    target = refused(lambda: check_redirect(base, pair[1], RULES))
    if target is not None:
        assert str(check_url(str(target), RULES)) == str(target)
        assert target.scheme == "https" or base.scheme == "http"


def fuzz_rewrite(url: str) -> None:
    """A rule for a host leads to its target alone, one for a scheme keeps the host."""
    for rule in (CDN, BELOW):
        changed = rewrite(url, (rule,))
        passed = refused(lambda to=changed: check_url(to, RULES))
        if changed != url and passed is not None:
            folder = URL(rule.target).path.rstrip("/")
            assert passed.host == "cdn.example.com"
            assert f"{URL(str(passed)).path}/".startswith(f"{folder}/")
    upgraded = rewrite(url, (UPGRADE,))
    assert rewrite(upgraded, (UPGRADE,)) == upgraded
    hosts = [refused(lambda to=to: check_url(to, RULES).raw_host) for to in (url, upgraded)]
    assert hosts[0] == hosts[1]


def fuzz_data_uri(raw: bytes) -> None:
    """What is read of a data: URI is what it holds, and what is judged is an image."""
    uri = raw.decode("utf-8", "replace")
    head, comma, text = uri.partition(",")
    found = refused(lambda: finish(parse_data_uri(head + comma, text.encode(), LIMIT)))
    if found is not None:
        assert 0 < len(found.data) <= LIMIT
        assert base64.b64encode(found.data[:]).decode() == text
        assert found.media_type in head.lower()
    info = refused(lambda: judge_data(uri, POLICY))
    if info is not None:
        assert info.format in POLICY.formats
        assert max(info.width, info.height) <= POLICY.max_side


def fuzz_head(data: bytes) -> None:
    """A beginning tells what the whole tells, or asks for more than it is."""
    whole = look(sniff, data)
    for length in {*range(0, len(data), 1 + len(data) // 16), len(data)}:
        seen = look(sniff, data[:length])
        if isinstance(seen, NeedMore):
            assert seen.needed > length
        elif isinstance(seen, SniffError):
            assert isinstance(whole, SniffError)
        else:
            assert isinstance(whole, ImageInfo)
            assert (seen.width, seen.height) == (whole.width, whole.height)


def fuzz_walk(data: bytes) -> None:
    """What passes as whole passes as a beginning too, and no decoder makes it larger."""
    info = look(walk, data)
    if isinstance(info, SniffError):
        return
    seen = sniff(data)
    assert info.format == seen.format == format_of(data)
    assert info.width >= seen.width > 0
    assert info.height >= seen.height > 0
    size = decoded(data)
    if size is not None:
        assert size[0] <= info.width
        assert size[1] <= info.height


def decoded(data: bytes) -> tuple[int, int] | None:
    """The sides that Pillow gives an image, or None where it reads none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "GIF", "WEBP"]) as picture:
                if picture.width * picture.height < 1_000_000:
                    picture.load()
                return picture.size
        except Exception:  # its faults are not ours
            return None


IMAGES: Final = mutants(list(SAMPLES.values()))

TARGETS: Final = {
    "url": Target(URLS, fuzz_url),
    "redirect": Target(st.tuples(URLS, URLS), fuzz_redirect),
    "rewrite": Target(URLS, fuzz_rewrite),
    "data-uri": Target(mutants(_URIS), fuzz_data_uri),
    "head": Target(IMAGES, fuzz_head),
    "walk": Target(IMAGES, fuzz_walk),
    "anthropic": Target(SPOILT, check_translation),
}
