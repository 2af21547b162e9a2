"""The types of single values: how text becomes a number, a secret, a host or a URL.

A validator raises ValueError with a message for the person who wrote the value. A secret's
message never repeats it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr

from proxy.images.hosts import compile_patterns
from proxy.providers.azure_urls import better_place, check_version

from .units import parse_count, parse_duration, parse_months, parse_pause, parse_share, parse_size
from .yamlfile import Plain

T = TypeVar("T")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CLUSTER_SCHEMES: Final = ("redis+cluster://", "rediss+cluster://")
STORE_SCHEMES: Final = ("redis://", "rediss://", "unix://", *CLUSTER_SCHEMES)
#: What a store's URL may say behind its "?"; anything else could undo the store's own settings.
STORE_OPTIONS: Final = (
    "db",
    "password",
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
    "username",
)
EMBEDDED: Final = "embedded"
SHORTEST_PEPPER: Final = 16

_INTEGER: Final = re.compile(r"[+-]?(?:0|[1-9][0-9_]{0,17})", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,12}(?:\.[0-9]{1,12})?", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})", re.ASCII)
_HOST_PORT: Final = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?", re.ASCII
)
_TRUTH: Final = {"true": True, "false": False}


def _text(read: Callable[[str], object]) -> BeforeValidator:
    """Read any text; what is not text is left to the type."""
    return BeforeValidator(lambda value: read(value) if isinstance(value, str) else value)


def _plain(read: Callable[[str], object]) -> BeforeValidator:
    """Read text that was not quoted; a quoted number stays text, and so an error."""
    return BeforeValidator(lambda value: read(value) if isinstance(value, Plain) else value)


def _integer(text: str) -> int | str:
    return int(text) if _INTEGER.fullmatch(text) else text


def _decimal(text: str) -> Decimal | str:
    return Decimal(text) if _NUMBER.fullmatch(text) else text


def _number(text: str) -> float | str:
    return float(text) if _NUMBER.fullmatch(text) else text


def _workers(value: Any) -> int | str:
    number = _integer(value) if isinstance(value, Plain) else value
    if number == "auto" or (type(number) is int and number >= 1):
        return "auto" if isinstance(number, str) else number
    raise ValueError("must be 'auto' or a whole number of at least 1")


def _check_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            "a name is letters, digits and . _ - / : @ + and begins with a letter or digit"
        )
    return name


def is_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_host(host: str) -> str:
    if not is_address(host) and _HOST.fullmatch(host) is None:
        raise ValueError(
            f"{host!r} is not a host; write a name or an address alone, without a port"
        )
    return host


def _check_host_pattern(pattern: str) -> str:
    if "/" in pattern and "://" not in pattern:
        return str(_network(pattern))
    compile_patterns((pattern,))
    return pattern


def _check_inner_host(pattern: str) -> str:
    if pattern == "*":
        raise ValueError("'*' would open every inner address; name hosts or networks")
    return _check_host_pattern(pattern)


def _network(value: Any) -> Network:
    if isinstance(value, Network):
        return value
    try:
        return ipaddress.ip_network(str(value))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is not a network; write it as 10.0.0.0/8") from None
    raise ValueError(f"{value!r} has bits set beyond its prefix; did you mean '{meant}'?")


def _split(url: str) -> SplitResult | None:
    """The parts of a URL, None if it has none that can be trusted."""
    if not (url.isascii() and url.isprintable()) or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises ValueError where it is not a port)
    except ValueError:
        return None
    return parts


def _check_base_url(url: str) -> str:
    parts = _split(url)
    good = parts is not None and parts.scheme in ("http", "https") and parts.hostname
    if good and "api-version=" in url and "@" not in url:
        raise ValueError(f"must have no query; for kind: azure, write {better_place(url)}")
    if not good or "?" in url or "#" in url or "@" in url:
        raise ValueError(
            "must be an absolute http(s) URL without user, query or fragment, "
            "like https://api.openai.com/v1"
        )
    return url.rstrip("/")


def _check_api_version(version: str) -> str:
    if version:
        check_version(version)
    return version


def _check_prefix(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} must begin with http:// or https://")
    return url


def secret_place(secret: SecretStr) -> tuple[str, str, str]:
    """Scheme with `://`, hosts and path of a URL that may hold a password: what may be shown."""
    scheme, mark, rest = secret.get_secret_value().partition("://")
    authority, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return scheme + mark, authority.rpartition("@")[2], slash + path


def shown_place(secret: SecretStr) -> str:
    """A URL that may hold a password, without it, fit to be shown."""
    return "".join(secret_place(secret))


def _check_store_url(secret: SecretStr) -> SecretStr:
    if secret.get_secret_value() == EMBEDDED:
        return secret
    scheme, hosts, path = secret_place(secret)
    if scheme not in STORE_SCHEMES:
        raise ValueError(f"must begin with {', '.join(STORE_SCHEMES)}, or be 'embedded'")
    if scheme == "unix://":
        if hosts or not path:
            raise ValueError("must name an absolute path: unix:///run/valkey.sock")
    elif scheme in CLUSTER_SCHEMES:
        if not all(map(_is_host_port, hosts.split(","))):
            raise ValueError("must name hosts with a comma between them: redis+cluster://a:1,b:2")
        if path.strip("/") not in ("", "0"):
            raise ValueError("must not name a database: a cluster has one, 0")
    elif not _is_host_port(hosts):
        raise ValueError("must name a host, and percent-encode what is special in a password")
    _check_store_options(secret.get_secret_value().partition("?")[2])
    return secret


def _check_store_options(query: str) -> None:
    # Not by name: behind a "?" that was not percent-encoded stands the rest of a password.
    if not parse_qs(query, keep_blank_values=True).keys() <= set(STORE_OPTIONS):
        raise ValueError(f"has an option that is not known; there are {', '.join(STORE_OPTIONS)}")


def _check_egress_proxy(secret: SecretStr) -> SecretStr:
    url = secret.get_secret_value()
    scheme, host, path = secret_place(secret)
    parts = _split(url)
    good = scheme == "http://" and _is_host_port(host) and path in ("", "/")
    # A proxy's port has no default; what follows "?" or "#" is the rest of a password.
    if not good or parts is None or not parts.port or "?" in url or "#" in url:
        raise ValueError(
            "must be http://host:port, or http://user:password@host:port with what is special "
            "in user and password percent-encoded"
        )
    return secret


def _file(text: str) -> Path:
    if not text or "\0" in text or "\n" in text:
        raise ValueError("must be the path of a file")
    return Path(text)


def _is_host_port(text: str) -> bool:
    match = _HOST_PORT.fullmatch(text)
    return match is not None and 1 <= int(match[1] or 1) <= 65535


def _check_secret(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    if not value:
        raise ValueError("is empty")
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError("holds a space, a line end or another character that no header can carry")
    return secret


def _check_token(secret: SecretStr) -> SecretStr:
    return _check_secret(secret) if secret.get_secret_value() else secret


def _split_peppers(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def _check_peppers(peppers: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if any(len(pepper.get_secret_value()) < SHORTEST_PEPPER for pepper in peppers):
        raise ValueError(
            f"each pepper needs at least {SHORTEST_PEPPER} characters; a comma separates them"
        )
    return peppers


def _check_not_empty(items: T) -> T:
    if not items:
        raise ValueError("must not be empty")
    return items


Bool = Annotated[bool, _plain(lambda text: _TRUTH.get(text.lower(), text))]
Int = Annotated[int, _plain(_integer)]
Natural = Annotated[Int, Field(ge=0)]
Positive = Annotated[Int, Field(ge=1)]
Retries = Annotated[Int, Field(ge=0, le=5)]
AnyPort = Annotated[Int, Field(ge=0, le=65535)]  # 0: one that is free
Port = Annotated[Int, Field(ge=1, le=65535)]
Workers = Annotated[int | Literal["auto"], PlainValidator(_workers)]
Weight = Annotated[float, _plain(_number), Field(gt=0)]
Usd = Annotated[Decimal, _plain(_decimal), Field(ge=0)]
Bytes = Annotated[int, _text(parse_size), Field(ge=1)]
Count = Annotated[int, _text(parse_count), Field(ge=1)]
CountFromZero = Annotated[int, _text(parse_count), Field(ge=0)]
Seconds = Annotated[float, _text(parse_duration), Field(gt=0, le=366 * 86400)]
SecondsOrNone = Annotated[float, _text(parse_pause), Field(ge=0, le=366 * 86400)]
Months = Annotated[int, _text(parse_months), Field(ge=1, le=1200)]
Share = Annotated[Decimal, _text(parse_share), Field(ge=0, le=1)]
Name = Annotated[str, AfterValidator(_check_name)]
Host = Annotated[str, AfterValidator(_check_host)]
HostPattern = Annotated[str, AfterValidator(_check_host_pattern)]
InnerHost = Annotated[str, AfterValidator(_check_inner_host)]
ProxyNetwork = Annotated[Network, PlainValidator(_network)]
Directory = Annotated[Path, _text(Path)]
File = Annotated[Path, _text(_file)]
BaseUrl = Annotated[str, AfterValidator(_check_base_url)]
ApiVersion = Annotated[str, AfterValidator(_check_api_version)]
UrlPrefix = Annotated[str, AfterValidator(_check_prefix)]
StoreUrl = Annotated[SecretStr, AfterValidator(_check_store_url)]
EgressProxy = Annotated[SecretStr, AfterValidator(_check_egress_proxy)]
Secret = Annotated[SecretStr, AfterValidator(_check_secret)]
Token = Annotated[SecretStr, AfterValidator(_check_token)]
Peppers = Annotated[tuple[SecretStr, ...], _text(_split_peppers), AfterValidator(_check_peppers)]
#: Not a least length: that would also speak where every item is wrong.
NOT_EMPTY = AfterValidator(_check_not_empty)
