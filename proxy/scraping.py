"""The series of several workers as one, by prometheus_client's multiprocess mode.

The values of each worker are in files of its slot, a small number. Who takes a dead worker's
place gets its slot, and counts on from there, so that files do not pile up.
Source: https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from proxy.metrics import Metrics

#: Below the folder with the files: who connects to it gets the text.
SOCKET: Final = "scrape"

_shared: Path | None = None  # where this process' values are, if it is one of several


def join(folder: Path, slot: int) -> None:
    """Keep the values of this process' series, from the next on, in files of that slot."""
    global _shared
    _shared = folder
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


def leave(folder: Path, slot: int) -> None:
    """Forget the gauges of a worker that is gone; what it counted stays."""
    mark_process_dead(slot, str(folder))  # type: ignore[no-untyped-call]


def gathered(folder: Path) -> bytes:
    """The text of all workers' series."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return generate_latest(registry)


async def exposition(metrics: Metrics) -> bytes:
    """The text of all workers' series, made in another process; of one that is alone, its own."""
    metrics.tell()
    if _shared is None:
        return metrics.render()
    reader, writer = await asyncio.open_unix_connection(_shared / SOCKET)
    try:
        return await reader.read()
    finally:
        writer.close()
