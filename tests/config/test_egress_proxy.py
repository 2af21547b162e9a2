"""The proxy that images are fetched by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import ConfigError
from proxy.rules import egress_proxy

from .samples import SMALL, found, read


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://proxy.corp.example:3128", "proxy.corp.example", 3128),
        ("http://proxy:3128/", "proxy", 3128),
        ("http://me:w%40rd@10.0.0.9:80", "10.0.0.9", 80),
        ("http://me@[fd00::9]:3128", "fd00::9", 3128),
    ],
)
def test_proxy(url: str, host: str, port: int) -> None:
    """It is an HTTP proxy's host and port, with user and password if it asks for them."""
    proxy = egress_proxy(read(SMALL + f"images: {{egress_proxy: '{url}'}}").images)
    assert proxy is not None
    assert (proxy.host, proxy.explicit_port) == (host, port)
    assert (proxy.user, proxy.password) in {(None, None), ("me", None), ("me", "w@rd")}


def test_none() -> None:
    """There is none unless it is written."""
    assert egress_proxy(read(SMALL).images) is None


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "proxy:3128",
            "http://proxy",
            "http://proxy:",
            "http://proxy:0",
            "http://proxy:70000",
        ),
        *("https://proxy:3128", "socks5://proxy:3128", "http://:3128", "http://proxy:3128/path"),
        *("http://u:pa/ss@proxy:3128", "http://u:pa?ss@proxy:3128", "http://u:1#ss@proxy:3128"),
        *(
            "http://u:p ss@proxy:3128",
            "http://[::1:3128",
            "http://[1.2.3.4]:3128",
            "http://[::g]:1",
        ),
    ],
)
def test_wrong(url: str) -> None:
    """What is no such URL is an error that says how to write one."""
    told = found(SMALL + f"images: {{egress_proxy: '{url}'}}")
    assert told.keys() == {"images.egress_proxy"}
    assert "http://host:port" in told["images.egress_proxy"]


def test_of_no_plan() -> None:
    """A plan cannot set it, not even to what it is, and is still held to the rest of the block."""
    block = "images: {egress_proxy: 'http://proxy:3128', max_count: 3}\n"
    told = found(
        SMALL + block + "plans: {p: {images: {egress_proxy: 'http://proxy:3128', max_count: 4}}}"
    )
    assert told == {
        "plans.p.images.egress_proxy": "no plan can set it; write it in the images block",
        "plans.p.images.max_count": "is above images.max_count; a plan may only tighten it",
    }


def test_fingerprint() -> None:
    """Another proxy is another config, another password is not."""
    urls = ("http://a:1", "http://b:1", "http://u:one@a:1", "http://u:two@a:1")
    prints = [read(SMALL + f"images: {{egress_proxy: '{url}'}}").fingerprint for url in urls]
    assert prints[0] != prints[1]
    assert prints[2] == prints[3]


@given(st.text("http:/@[]a1.%?#\\ ", max_size=16).map("http://".__add__))
def test_whatever_passes_can_be_used(url: str) -> None:
    """A URL that the config takes is one that the fetcher can read."""
    try:
        images = read(SMALL + "images: {egress_proxy: '" + url + "'}").images
    except ConfigError:
        return
    proxy = egress_proxy(images)
    assert proxy is not None
    assert proxy.host
    assert proxy.explicit_port
