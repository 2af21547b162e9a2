"""The ways to a store: TLS, users and passwords, unix sockets."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.domain.errors import StoreUnavailable
from proxy.store.client import Store
from proxy.store.layout import team_keys
from tests.store.fronts import Front
from tests.store.scripts import connect

RIGHTS = ("on", "~vg:*", "&vg:*", "+@all", "-@dangerous", "+info")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that only itself vouches for; its key is beside it."""
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=store"
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run(["openssl", *words.split(), *names, *files], check=True, capture_output=True)
    return path


@pytest.fixture
async def tls_port(store_url: str, certificate: Path) -> AsyncIterator[int]:
    """The wheel's server knows no TLS: a front speaks it."""
    front = Front(store_url.removeprefix("unix://"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    yield await front.start_tls(context)
    await front.close()


@pytest.fixture
def user(store_url: str) -> Any:
    """A user who may do what a gateway does, with the password `p@ss/1`."""
    with connect(store_url) as client:
        client.execute_command("ACL", "SETUSER", "gate", *RIGHTS, ">p@ss/1")
        yield "gate:p%40ss%2F1"
        client.execute_command("ACL", "DELUSER", "gate")


async def reached(url: str) -> None:
    store = Store.open(url)
    try:
        await store.check_schema()
        assert await store.run("sweep", team_keys("vision"), "", 1) == 0
        assert not store.away
    finally:
        await store.close()


async def test_private_ca(tls_port: int, certificate: Path) -> None:
    """A store whose certificate a private CA vouches for is reached with that CA's file."""
    await reached(f"rediss://127.0.0.1:{tls_port}?ssl_ca_certs={certificate}")


@pytest.mark.parametrize("option", ["", "?ssl_cert_reqs=required"])
async def test_unknown_ca(tls_port: int, option: str) -> None:
    """A store whose certificate nobody vouches for is not used."""
    with pytest.raises(StoreUnavailable) as caught:
        await reached(f"rediss://127.0.0.1:{tls_port}{option}")
    assert "certificate" in str(caught.value.__cause__)


async def test_user(tls_port: int, certificate: Path, user: str) -> None:
    """A user with a password and few rights is enough, with TLS as well."""
    await reached(f"rediss://{user}@127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate}")


async def test_user_on_a_unix_socket(store_url: str, user: str) -> None:
    """A unix socket takes user and password, too."""
    await reached(store_url.replace("unix://", f"unix://{user}@"))


async def test_unknown_option(store_url: str) -> None:
    """An option that has no meaning is told before anything is connected."""
    with pytest.raises(ValueError, match="an option that is not known"):
        Store.open(store_url + "?ssl_ca_certs=ca.pem")
