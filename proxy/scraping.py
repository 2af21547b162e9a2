"""The series of several workers as one, by prometheus_client's multiprocess mode.

The values of each worker are in files of its slot, a small number. Who takes a dead worker's
place gets its slot, and counts on from there, so that files do not pile up.
Source: https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import shutil
import socket
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client import Metric, generate_latest, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.utils import floatToGoString

from proxy.mapped import Mapped
from proxy.metrics import Metrics, Named, first

#: Below the folder with the files: who connects to it gets the text.
SOCKET: Final = "scrape"

#: There, too: the ids of the keys that have a name, and what is locked while anybody lives.
_NAMED, _LOCK = "named", "lock"
_PREFIX: Final = "visiongate-metrics-"  # of the folder

#: Behind the text, where all of it has come.
_END: Final = b"# EOF\n"

_PATIENCE: Final = 10.0  # seconds, with who asks

_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

_shared: Path | None = None  # where this process' values are, if it is one of several


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for the files, gone at the end; one that was left by a master that was killed goes
    now.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if left.lstat().st_uid == os.getuid():
                _remove(left)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as made:
        folder = Path(made)
        with (folder / "new").open("wb") as lock:  # until the last worker ends: they have it, too
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "new").rename(folder / _LOCK)
            yield folder


def _remove(folder: Path) -> None:
    """Raises OSError where somebody lives there."""
    with (folder / _LOCK).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)


def join(folder: Path, slot: int | str) -> None:
    """Keep the values of this process' series, from the next on, in files of that slot."""
    global _shared
    _shared = folder
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.MmapedDict = Mapped  # type: ignore[attr-defined]
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


def named(most: int) -> Named:
    """Which keys have a name in the metrics: the first so many that any worker met."""
    return first(most) if _shared is None else _Named(_shared / _NAMED, most)


class _Named:
    """By a file of ids that all workers append to, under its lock. Once it has so many, it is not
    read again.
    """

    def __init__(self, file: Path, most: int) -> None:
        self._file = file
        self._most = most
        self._ids: set[str] = set()
        self._read = 0

    def __call__(self, id: str) -> bool:
        if id not in self._ids and len(self._ids) < self._most:
            try:
                self._look(id)
            except OSError:  # a disk that is full is no reason to name nobody
                self._ids.add(id)
        return id in self._ids

    def _look(self, id: str) -> None:
        """Read what others have added, and add this one if there is room."""
        with self._file.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(self._read)
            room = self._most - len(self._ids)
            self._ids.update(file.read().split()[:room])
            if id not in self._ids and len(self._ids) < self._most:
                file.write(f"{id}\n")
                self._ids.add(id)
            self._read = file.tell()


def leave(folder: Path, slot: int) -> None:
    """Forget the gauges of a worker that is gone; what it counted stays."""
    mark_process_dead(slot, str(folder))  # type: ignore[no-untyped-call]


def answer(asking: socket.socket, folder: Path) -> None:
    """Send the text of all workers' series; in a process of its own."""
    gc.disable()
    text = gathered(folder) + _END
    asking.settimeout(_PATIENCE)
    with contextlib.suppress(OSError):  # who asked has gone
        asking.sendall(text)


def gathered(folder: Path) -> bytes:
    """The text of all workers' series."""
    counters: list[str] = []
    others: list[str] = []
    for file in folder.glob("*.db"):
        with contextlib.suppress(FileNotFoundError):  # its worker has just gone
            if file.stat().st_size:  # else there was no room for it
                (counters if file.name.startswith("counter_") else others).append(str(file))
    rest = _Merged(MultiProcessCollector.merge(others))  # type: ignore[no-untyped-call]
    return generate_latest(rest) + _added_up(counters)


class _Merged:
    """What prometheus_client writes as text."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _added_up(files: Iterable[str]) -> bytes:
    """The text of counters, of which there may be several for each key: in a quarter of the time
    that it takes prometheus_client. What names a series in a file is JSON, always the same.
    Source: https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    sums: defaultdict[str, float] = defaultdict(float)
    for file in files:
        for series, value, _, _ in MmapedDict.read_all_values_from_file(file):  # type: ignore[no-untyped-call]
            sums[series] += value
    lines: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for series, value in sums.items():
        _, name, labels, text = msgspec.json.decode(series)
        told = ",".join([f'{label}="{_escaped(of)}"' for label, of in labels.items()])
        shown = floatToGoString(value)  # type: ignore[no-untyped-call]
        lines[name, text].append(f"{name}{{{told}}} {shown}" if told else f"{name} {shown}")
    blocks = [
        [f"# HELP {name} {text}", f"# TYPE {name} counter", *some]
        for (name, text), some in lines.items()
    ]
    return "".join([f"{line}\n" for block in blocks for line in block]).encode()


def _escaped(value: str) -> str:
    if '"' in value or "\\" in value or "\n" in value:
        return value.translate(_ESCAPES)
    return value


class ScrapeFailed(Exception):
    """The text could not be made, or not all of it came."""


async def exposition(metrics: Metrics) -> bytes:
    """The text of all workers' series, made in another process; of one that is alone, its own.
    Raises ScrapeFailed.
    """
    if _shared is None:
        return metrics.render()
    try:
        metrics.tell()
        reader, writer = await asyncio.open_unix_connection(_shared / SOCKET)
        try:
            text = await reader.read()
        finally:
            writer.close()
    except OSError as error:
        raise ScrapeFailed from error
    if not text.endswith(_END):
        raise ScrapeFailed
    return text.removesuffix(_END)
