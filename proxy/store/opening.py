"""Where the config's store is: elsewhere, or embedded and started when it is needed."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.config import Config
from proxy.store.embedded import EmbeddedValkey, make_pepper


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """Where the store is, and what its keys are signed with."""

    url: str
    peppers: tuple[str, ...]


#: What a gateway can begin with: there may be room when it is needed.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


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


def try_data(data: Path) -> None:
    """Make the directory if it is missing, and a file in it. Raises NotConfigured."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=data).close()
    except OSError as error:
        if error.errno not in _FULL:
            raise NotConfigured(f"store.data: {_unwritable(data)}: {error.strerror}") from error


def look_at_data(data: Path) -> str:
    """What is wrong with the directory, or with where it would be made; nothing is made."""
    above = data.resolve()
    while not os.path.exists(above):  # nor may it be looked at
        above = above.parent
    fit = above.is_dir() and os.access(above, os.W_OK | os.X_OK)
    return "" if fit else _unwritable(data)


def _unwritable(data: Path) -> str:
    return (
        f"uid {os.geteuid()} cannot write to {data}, where charges are kept that the store "
        "cannot take"
    )
