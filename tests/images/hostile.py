"""URLs that lead inside if anything on the way reads them otherwise than the gateway does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from tests.images.origin import PUBLIC

#: Loopback, this host, clouds' metadata and DNS, private networks, carrier's NAT.
INNER: Final = (
    *("127.0.0.1", "0.0.0.0", "169.254.169.254", "168.63.129.16"),
    *("10.0.0.1", "172.31.255.254", "192.168.1.1", "100.100.100.200"),
)

_FULL_WIDTH: Final = str.maketrans("0123456789.", "０１２３４５６７８９．")
_CIRCLED: Final = str.maketrans("0123456789", "⓪①②③④⑤⑥⑦⑧⑨")
_BOLD: Final = str.maketrans("0123456789", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗")


def _each(ip: IPv4Address, spell: Callable[[int], str], dot: str = ".") -> str:
    return dot.join(map(spell, ip.packed))


def _in_ipv6(prefix: str, ip: IPv4Address, shift: int = 0) -> str:
    return f"[{IPv6Address(int(IPv6Address(prefix)) | int(ip) << shift)}]"


#: How an IPv4 address can be written so that some parser finds it.
_SPELLINGS: Final[tuple[Callable[[IPv4Address], str], ...]] = (
    str,
    lambda ip: f"{ip}.",
    lambda ip: str(int(ip)),
    lambda ip: str(int(ip) + (1 << 32)),
    lambda ip: hex(int(ip)),
    lambda ip: f"0X{int(ip):X}",
    lambda ip: f"0{int(ip):o}",
    lambda ip: _each(ip, hex),
    lambda ip: _each(ip, "0{:o}".format),
    lambda ip: _each(ip, "{:03d}".format),
    lambda ip: _each(ip, "0x{:08x}".format),
    lambda ip: f"{ip.packed[0]}.{int(ip) & 0xFFFFFF}",
    lambda ip: f"{ip.packed[0]}.{ip.packed[1]}.{int(ip) & 0xFFFF}",
    lambda ip: f"0x{ip.packed[0]:x}.{int(ip) & 0xFFFFFF:#o}".replace("0o", "0"),
    lambda ip: str(ip).translate(_FULL_WIDTH),
    lambda ip: str(ip).translate(_CIRCLED),
    lambda ip: str(ip).translate(_BOLD),
    lambda ip: _each(ip, str, "。"),
    lambda ip: _each(ip, str, "｡"),
    lambda ip: _each(ip, str, "%2e"),
    lambda ip: "".join(f"%{ord(char):02x}" for char in str(ip)),
    lambda ip: "".join(f"%25{ord(char):02x}" for char in str(ip)),
    lambda ip: _in_ipv6("::ffff:0:0", ip),
    lambda ip: f"[::FFFF:{ip}]",
    lambda ip: f"[0:0:0:0:0:ffff:{ip}]",
    lambda ip: _in_ipv6("::", ip),
    lambda ip: _in_ipv6("::ffff:0:0:0", ip),
    lambda ip: _in_ipv6("64:ff9b::", ip),
    lambda ip: _in_ipv6("64:ff9b:1::", ip),
    lambda ip: _in_ipv6("2002::", ip, 80),
    lambda ip: _in_ipv6("2001::", IPv4Address(int(ip) ^ 0xFFFFFFFF)),
    lambda ip: _in_ipv6("2606:4700::5efe:0:0", ip),
    lambda ip: _in_ipv6("2606:4700::200:5efe:0:0", ip),
    lambda ip: f"[::ffff:{ip}%251]",
    lambda ip: f"[::ffff:{ip}%eth0]",
    lambda ip: f"[{ip}]",
    lambda ip: f"{ip}%00.{PUBLIC}",
    lambda ip: f"{ip}%23@pub.example",
)

#: Where two readers disagree about which part is the host; I is inner.
_DISAGREEMENTS: Final = (
    *("http://pub.example@I/", "http://pub.example:80@I/", "http://@I/", "http://:@I/"),
    *("http://I@pub.example/", "http://I:80@pub.example/", "http://pub.example%40I/"),
    *("http://pub.example\\@I/", "http://I\\@pub.example/", "http:\\\\I/", "http:/\\I/"),
    *("http:///I/", "http:////I/", "http:I/", "http:/I/", "http:// I/", "//I/", "///I/"),
    *("http://I#@pub.example/", "http://I?@pub.example/", "http://I/@pub.example"),
    *("http://I;@pub.example/", "http://I;.pub.example/", "http://pub.example;I/"),
    *("http://I,pub.example/", "http://pub.example&@I/", "http://pub.example,I/"),
    *("http://pub.example@@I/", "http://a@b@I/", "http://pub.example:@I/"),
    *("http://I:80:443/", "http://I:/", "http://I:080/", "http://I: 80/", "http://I:-80/"),
    *("http://I:６６/", "http://I:0x50/", "http://I:80%20/", "http://I:65616/", "http://I:+80/"),
    *("http://\tI/", "http://I\t/", "ht\ttp://I/", "http://I\n/", "\nhttp://I/", "http://I\r\n/"),
    *("http://I\0.pub.example/", "http://I\x0b/", "http://I\x7f/", "http://I /", " http://I/"),
    *(
        "http://I\u00ad/",
        "http://I\u200b/",
        "http://I\u2060/",
        "http://\ufeffI/",
        "http://I\u202e/",
    ),
    *("http://I／pub.example/", "http://I＃.pub.example/", "http://pub.example＠I/"),
    *("http://I？.pub.example/", "http://I：80/", "http://I℀.pub.example/", "http://I％00/"),
    *("http://[I/", "http://I]/", "http://[[::1]]/", "http://[::1]I/", "http://I[::1]/"),
    *("http://[::1%2525]/", "http://[v1.I]/", "http://[v6.::1]/", "http://[]/", "http://[::]/"),
    *("HTTP://I/", "hTtPs://I/", "https://I/", "httP://LOCALHOST/", "https://LocalHost./"),
    *(
        "ftp://I/",
        "gopher://I:6379/_info",
        "file://I/etc/passwd",
        "file:/etc/passwd",
        "dict://I:1/",
    ),
    *(
        "unix:///run/x.sock",
        "http+unix://%2frun%2fx.sock/",
        "ws://I/",
        "jar:http://I!/",
        "url:http://I",
    ),
    *("netdoc:///etc/passwd", "view-source:http://I/", "feed:http://I/", "blob:http://I/"),
    *(
        "http://localhost/",
        "http://localhost%2e/",
        "http://localhost。/",
        "http://LOCALHOST.localdomain/",
    ),
    *(
        "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
        "http://localho\u017ft/",
        "http://lo\u034fcalhost/",
        "http://loca\ufe0flhost/",
    ),
    *(
        "http://a.localhost/",
        "http://metadata/",
        "http://metadata.google.internal./",
        "http://db.corp/",
    ),
    *("http://host.docker.internal/", "http://x.svc.cluster.local/", "http://ip6-loopback/"),
    *("http://1.0.0.127.in-addr.arpa/", "http://router.lan/", "http://vault.service.consul/"),
    *(
        "http://./",
        "http://../",
        "http://.I/",
        "http://..I/",
        "http://I../",
        "http://-/",
        "http://_/",
    ),
    *(
        "http://[fe80::1]/",
        "http://[fe80::1%25lo]/",
        "http://[fd00:ec2::254]/",
        "http://[ff02::1]/",
    ),
    *("http://[2001:db8::1]/", "http://[3fff::1]/", "http://[5f00::1]/", "http://[100::1]/"),
    *("http://[2001:20::1]/", "http://[fec0::1]/", "http://[2001:2::1]/", "http://[::2]/"),
    *("http://224.0.0.1/", "http://255.255.255.255/", "http://192.0.0.192/", "http://198.18.0.1/"),
)

#: What a host that may be asked says of where to go; I is inner.
LOCATIONS: Final = (
    *("http://I/", "HTTP://I/", "hTTp:I", "//I/", "///I/", "////I/", "/\\I/", "\\\\I\\", "/\t/I/"),
    *("http:/I/", "http:I", "http:\\\\I/", "http://pub.example@I/", "//pub.example@I/", "//I:80/"),
    *(
        "//I\\@pub.example/",
        "http://I#@pub.example/",
        "//0x7f.1/",
        "//2130706433/",
        "//017700000001/",
    ),
    *("//１２７.０.０.１/", "//127。0。0。1/", "//[::1]/", "//[::ffff:I]/", "//[64:ff9b::7f00:1]/"),
    *("//[2002:7f00:1::]/", "//[::1%25lo]/", "//localhost/", "//localhost./", "//ⓛocalhost/"),
    *(
        "//metadata.google.internal/",
        "http://inner.example/",
        "//mixed.example/",
        "//scoped.example/",
    ),
    *("http://pub.example:6379/", "http://pub.example:22/", "//pub.example:0/", "https://I/"),
    *("data:image/png;base64,AAAA", "file:///etc/passwd", "file:/etc/passwd", "ftp://pub.example/"),
    *(
        "gopher://I:6379/_info",
        "javascript:1",
        "about:blank",
        "unix:/run/x.sock",
        "ws://pub.example/",
    ),
    *(
        "",
        "?",
        "#",
        ".",
        "http://",
        "http:///",
        "//",
        "://",
        ":",
        "http://[",
        "http://]/",
        "//%00/",
    ),
    *("/ a", "/\x0b", "/\x7f", "//I%2f@pub.example/", "//%31%32%37.0.0.1/", "//pub.example%00.I/"),
    *("http://pub.example/r\xa0", "//exa\xadmple.com/", "x" * 9000, "//" + "a" * 64 + ".example/"),
)


def hostile() -> Iterator[str]:
    """Each of them once."""
    for text in INNER:
        for spell in _SPELLINGS:
            yield f"http://{spell(IPv4Address(text))}/a.png"
    for template in _DISAGREEMENTS:
        yield template.replace("I", INNER[0])


def locations() -> Iterator[str]:
    for template in LOCATIONS:
        yield template.replace("I", INNER[0])
