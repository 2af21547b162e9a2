"""A configuration that is served, and what all its workers share: made once, before the fork."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy import __version__
from proxy.config import Config
from proxy.listeners import Listeners
from proxy.rules import build_models
from proxy.store.client import Store
from proxy.store.opening import StoreAccess, opened_store, try_data
from proxy.store.shapes import when
from proxy.store.survey import server_warnings

#: How many of the second figure's microseconds a control group may compute, if not "max"
#: (https://docs.kernel.org/admin-guide/cgroup-v2.html, "CPU Interface Files").
_CPU_MAX: Final = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """With so many workers as `size`. `warnings` are of the store; `shared` is left when no
    worker needs it any more.
    """

    config: Config
    size: int
    access: StoreAccess
    listeners: Listeners
    warnings: Sequence[str]
    shared: ExitStack

    @classmethod
    def prepare(
        cls, config: Config, open_store: Callable[[str], Store], before: Sequence[Generation]
    ) -> Generation:
        """Find out whatever is wrong; where a listener of `before` stays, so do its sockets.

        Raises what `open_store` does; StoreUnavailable, SchemaError, EmbeddedStoreError,
        NotConfigured; BadCertificate; OSError where a port is taken.
        """
        with ExitStack() as stack:
            try_data(config.store.data)
            access = stack.enter_context(opened_store(config))
            warnings = asyncio.run(_look(config, open_store(access.url)))
            build_models(config)  # loads their vocabularies
            listeners = Listeners.open(config, **_kept(config, before))
            stack.callback(listeners.close)
            gc.collect()
            gc.freeze()  # a worker's collections would write to all of it, and so copy it
            wanted = config.server.workers
            size = _processors() if isinstance(wanted, str) else wanted
            return cls(config, size, access, listeners, warnings, stack.pop_all())

    @property
    def told(self) -> dict[str, str | None]:
        """What the log says of it."""
        here = self.listeners
        ends = {"public": here.public_tls, "admin": here.admin_tls}
        return {
            "public": here.public_url,
            "admin": here.admin_url,
            "store": self.config.store.address,
            "config": self.config.fingerprint,
            "version": __version__,
            **{f"{name}_certificate_until": when(int(c.until)) for name, c in ends.items() if c},
        }


def _kept(config: Config, before: Sequence[Generation]) -> dict[str, Sequence[socket.socket]]:
    """The sockets of the listeners that stay where they are."""
    kept = {}
    for each in before:
        was, here = each.config, each.listeners
        if (was.server.host, was.server.port) == (config.server.host, config.server.port):
            kept["public"] = here.public
        if (was.admin.host, was.admin.port) == (config.admin.host, config.admin.port):
            kept["admin"] = here.admin
    return kept


async def _look(config: Config, store: Store) -> list[str]:
    """What is unsafe about the store, if it can be used."""
    try:
        await store.check_schema()
        return await server_warnings(store, config.store.wait_replicas)
    finally:
        await store.close()


def _processors() -> int:
    """Those that this process may use, and no more than its control group may keep busy."""
    some = getattr(os, "sched_getaffinity", None)  # not on macOS
    count = len(some(0)) if some else os.cpu_count() or 1
    try:
        most, period = _CPU_MAX.read_text().split()
        return max(1, min(count, -(-int(most) // int(period))))
    except (OSError, ValueError):  # no such file, or "max"
        return count
