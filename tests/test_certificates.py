"""Certificates of the listeners: which are taken, and what is said of the others."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from proxy.certificates import BadCertificate, open_certificate

TESTS = Path(__file__).parent
GOOD = (TESTS / "upstream/tls/cert.pem", TESTS / "upstream/tls/key.pem")
SECOND = (TESTS / "tls/second.pem", TESTS / "tls/second.key")
EXPIRED = (TESTS / "images/tls/expired.pem",) * 2
CURVE = (TESTS / "tls/curve.pem",) * 2  # secp256k1

REFUSED = {
    "another's key": (GOOD[0], SECOND[1], "key", "second.key is not the key of "),
    "an expired certificate": (*EXPIRED, "cert", "expired.pem: certificate has expired"),
    "a curve that TLS does not have": (*CURVE, "cert", "curve.pem: no shared cipher"),
    "one of a client": (TESTS / "tls/client.pem", SECOND[1], "cert", "certificate purpose"),
    "an encrypted key": (SECOND[0], TESTS / "tls/encrypted.key", "key", "is encrypted"),
    "a key for a certificate": (GOOD[1], GOOD[1], "cert", "does not hold a certificate in PEM"),
    "a certificate for a key": (GOOD[0], GOOD[0], "key", "does not hold a private key in PEM"),
    "no certificate": (TESTS / "none", GOOD[1], "cert", "none cannot be read: No such file"),
    "no key": (GOOD[0], TESTS / "none", "key", "none cannot be read: No such file"),
    "a folder": (TESTS, GOOD[1], "cert", "cannot be read: Is a directory"),
}


@pytest.mark.parametrize(("cert", "key", "field", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(cert: Path, key: Path, field: str, words: str) -> None:
    """What no client would accept is refused, with the file and the reason."""
    with pytest.raises(BadCertificate) as caught:
        open_certificate(cert, key)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_cut_short(tmp_path: Path) -> None:
    """A file that breaks off in the middle is refused."""
    cut = tmp_path / "cert.pem"
    cut.write_bytes(GOOD[0].read_bytes()[:200])
    with pytest.raises(BadCertificate, match="cannot be used"):
        open_certificate(cut, GOOD[1])


def test_a_chain(tmp_path: Path) -> None:
    """What follows the certificate in its file is its chain; the end told is its own."""
    chain = tmp_path / "chain.pem"
    chain.write_bytes(SECOND[0].read_bytes() + GOOD[0].read_bytes())
    assert open_certificate(chain, SECOND[1]).until == open_certificate(*SECOND).until


def test_the_end_is_the_certificates() -> None:
    """`until` is the notAfter of the file."""
    ends = ssl.cert_time_to_seconds("Oct 29 23:44:42 2126 GMT")
    assert open_certificate(*GOOD).until == ends
