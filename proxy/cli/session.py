"""What commands work with: the configuration, and the store while they run."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import socket
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Final

from proxy.cli.faults import Failure, WrongUsage
from proxy.config import Config, load_config
from proxy.domain.errors import StoreUnavailable
from proxy.manage.desk import Desk
from proxy.rules import build_plans
from proxy.store.audit import clean
from proxy.store.client import PATIENT, Store
from proxy.store.directory import Directory
from proxy.store.opening import opened_store

#: The least that works; each value's meaning is in the example beside the release.
SMALLEST: Final = """\
store: {url: embedded}
providers:
  openai: {base_url: https://api.openai.com/v1, api_key: "${OPENAI_API_KEY}"}
models:
  gpt-4o: {targets: [{provider: openai}], price: {input: 2.50, output: 10.00}}
"""


@dataclass(frozen=True, slots=True)
class Session:
    """An open store, and the configuration that led to it."""

    store: Store
    directory: Directory
    config: Config

    @property
    def desk(self) -> Desk:
        return Desk(self.store, self.directory, self.config, build_plans(self.config))


def read_config(args: Namespace) -> Config:
    """The file that the command names. Raises ConfigError, and WrongUsage where it is missing."""
    file = config_file(args)
    if not file.exists():
        raise WrongUsage(
            f"there is no config at {file}: name yours with -c FILE or VISIONGATE_CONFIG. "
            f"To make one, write these lines to it:\n\n{SMALLEST}\n"
            "To look around first, `visiongate demo` needs none."
        )
    return load_config(file, os.environ)


def config_file(args: Namespace) -> Path:
    """`-c`, else the environment's, else the usual place."""
    named = getattr(args, "config", None) or os.environ.get("VISIONGATE_CONFIG")
    return Path(named or "config/visiongate.yaml")


@contextmanager
def explained(config: Config) -> Iterator[None]:
    """Tell operators, who may know, where the store is and what it said."""
    try:
        yield
    except StoreUnavailable as error:
        cause = error.__cause__ or error
        said = str(cause).partition("\n")[0] or type(cause).__name__
        raise Failure(
            f"the store at {config.store.address} cannot be used: {said.rstrip('.')}. "
            "Is it running, and is store.url right?"
        ) from error


@asynccontextmanager
async def session(config: Config) -> AsyncIterator[Session]:
    """The config's store, found or started, and left at the end.

    Raises Failure where it cannot be reached, SchemaError, EmbeddedStoreError, NotConfigured.
    """
    with explained(config), opened_store(config) as access:
        store = open_store(access.url)
        try:
            await store.check_schema()
            yield Session(store, Directory(store, access.peppers, actor()), config)
        finally:
            await store.close()


def actor() -> str:
    """Who the audit says it was: `$VISIONGATE_ACTOR`, else the user and the host."""
    named = clean(os.environ.get("VISIONGATE_ACTOR", ""))
    if named:
        return named
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user often has no name
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return clean(f"{user}@{socket.gethostname()}")


def open_store(url: str) -> Store:
    """Raises Failure for a URL of a kind that no store can be reached by."""
    try:
        return Store.open(url, patience=PATIENT)
    except ValueError as error:
        raise Failure(f"store.url cannot be used: {error}") from None


@contextmanager
def waiting_for_input() -> Iterator[None]:
    """Ctrl-C is obeyed while a command waits for a person: asyncio only notes it for later."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def in_session(
    command: Callable[[Namespace, Session], Awaitable[None]],
) -> Callable[[Namespace], None]:
    """A command that works on the store, as `main` calls it."""

    @wraps(command)
    def run(args: Namespace) -> None:
        config = read_config(args)

        async def work() -> None:
            async with session(config) as opened:
                await command(args, opened)

        asyncio.run(work())

    return run
