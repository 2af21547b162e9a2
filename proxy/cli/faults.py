"""Every fault that is expected of a command, as an exit code and words; others are bugs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from proxy.certificates import BadCertificate
from proxy.config import ConfigError
from proxy.domain.errors import GatewayError
from proxy.manage.checks import Unfit
from proxy.store.client import SchemaError
from proxy.store.datadir import EmbeddedStoreError
from proxy.store.directory import DirectoryError
from proxy.store.opening import NotConfigured

FAILED: Final = 1
WRONG: Final = 2


class Failure(Exception):
    """A command cannot do what was asked; the message says why and what to do."""


class WrongUsage(Exception):
    """What was asked does not make sense; the message says what would."""


def explain(error: Exception) -> tuple[int, str] | None:
    """The exit code and what to write on standard error; None for a bug."""
    for kind, code, words in _FAULTS:
        if isinstance(error, kind):
            return code, words(error)
    return None


def _plain(error: Exception) -> str:
    return f"visiongate: {error}"


def _system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"visiongate: {where}{error.strerror or error}"


_FAULTS: Final[tuple[tuple[type[Exception], int, Callable[[Any], str]], ...]] = (
    (WrongUsage, WRONG, _plain),
    (Unfit, WRONG, _plain),
    (ConfigError, WRONG, str),  # one problem a line, each beginning with its file and line
    (NotConfigured, WRONG, _plain),
    (BadCertificate, WRONG, lambda error: f"visiongate: {error.field}: {error}"),
    (Failure, FAILED, _plain),
    (DirectoryError, FAILED, _plain),
    (EmbeddedStoreError, FAILED, _plain),
    (SchemaError, FAILED, _plain),
    (GatewayError, FAILED, _plain),
    (OSError, FAILED, _system),
)
