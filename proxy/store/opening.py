"""Where the config's store is: elsewhere, or embedded and started when it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.config import Config
from proxy.store.embedded import EmbeddedValkey, make_pepper


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """Where the store is, and what its keys are signed with."""

    url: str
    peppers: tuple[str, ...]


class NotConfigured(Exception):
    """Something without which the store cannot be used; the message says what to set."""


@contextmanager
def opened_store(config: Config) -> Iterator[StoreAccess]:
    """The config's store; an embedded one is found or started, and left on leaving.

    Raises EmbeddedStoreError or NotConfigured.
    """
    peppers = tuple(pepper.get_secret_value() for pepper in config.keys.pepper)
    if not config.store.embedded:
        if not peppers:
            raise NotConfigured("keys.pepper is not set: set VISIONGATE_KEY_PEPPER")
        yield StoreAccess(config.store.url.get_secret_value(), peppers)
        return
    with EmbeddedValkey(config.store.data) as valkey:
        yield StoreAccess(valkey.url, peppers or (make_pepper(config.store.data),))
