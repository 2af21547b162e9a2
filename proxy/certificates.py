"""The certificates that listeners speak TLS with: opened, and tried before a client comes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: From the two ends' first words to their last, in TLS 1.2 and 1.3, there are fewer turns.
_TURNS: Final = 8


class BadCertificate(Exception):
    """`field` is `cert` or `key`; the message names the file, and what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a listener needs of it. `until`: seconds since the epoch."""

    context: ssl.SSLContext
    until: float


def open_certificate(cert: Path, key: Path) -> Certificate:
    """A certificate with its chain, and its key, in PEM. TLS 1.2 or later, HTTP/1.1 by ALPN.

    Raises BadCertificate for what no client would accept: files that are missing or hold something
    else, a key of another certificate, one that is encrypted, a certificate that has expired.
    """
    _look("cert", cert, b"-----BEGIN CERTIFICATE-----", "a certificate")
    _look("key", key, b" PRIVATE KEY-----", "a private key")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])

    def ask() -> str:
        raise BadCertificate("key", f"{key} is encrypted, and nobody is there to type its password")

    try:
        context.load_cert_chain(cert, key, ask)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadCertificate("key", f"{key} is not the key of {cert}") from None
        raise BadCertificate("cert", f"{cert} and {key} cannot be used: {_words(error)}") from None
    return Certificate(context, _until(context, cert))


def _look(field: str, file: Path, mark: bytes, what: str) -> None:
    try:
        if mark not in file.read_bytes():
            raise BadCertificate(field, f"{file} does not hold {what} in PEM")
    except OSError as error:
        raise BadCertificate(field, f"{file} cannot be read: {error.strerror}") from None


def _until(context: ssl.SSLContext, cert: Path) -> float:
    """When it ends, by shaking hands with a client that trusts it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # its issuer is not ours to know
    client.load_verify_locations(cert)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours, theirs = context.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up)
    try:
        for turn in range(_TURNS):
            try:
                (ours if turn % 2 else theirs).do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLError as error:
        raise BadCertificate("cert", f"{cert}: {_words(error)}") from None
    shown = theirs.getpeercert() or {}
    return ssl.cert_time_to_seconds(str(shown["notAfter"]))


def _words(error: ssl.SSLError) -> str:
    told: str = getattr(error, "verify_message", "")
    return told or (error.reason or "cannot be read").replace("_", " ").lower()
