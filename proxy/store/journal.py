"""Settlements that the store could not take, on disk, so that they outlive their worker.

One file a worker, locked while it lives. A worker that starts adopts the files that nobody
holds. Replaying is safe: the ledger charges a reservation at most once, and knows it for
`REPLAYABLE` seconds; older entries are told of, not replayed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from proxy.domain.errors import StoreUnavailable
from proxy.store.client import Store
from proxy.store.layout import team_keys

#: For as long the ledger can tell a settled reservation from a new one.
REPLAYABLE: Final = 7 * 86_400

_SUFFIX: Final = ".journal"
_BATCH: Final = 64


class Entry(msgspec.Struct, frozen=True):
    """One settlement, as the script takes it; `at` is when it was written, in seconds."""

    team: str
    arguments: tuple[str | int, ...]
    at: float


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


class Journal:
    """This worker's file, made when it is first needed. Raises OSError where it cannot be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        self._file: int | None = None
        self.entries = 0

    def write(self, entries: Iterable[Entry]) -> None:
        """Keep entries; they are on the disk when this returns."""
        lines = [_encode(entry) + b"\n" for entry in entries]
        if self._file is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        view = memoryview(b"".join(lines))
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)
        self.entries += len(lines)

    def clear(self) -> None:
        """Forget everything: the store has it."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
        self.entries = 0

    def close(self) -> None:
        """Let go of the file; one without entries is removed."""
        if self._file is None:
            return
        if not self.entries:
            self._path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = None


class Orphan:
    """The file of a worker that is gone, held until it is done with."""

    def __init__(self, path: Path, file: int) -> None:
        self._path = path
        self._file = file

    def entries(self) -> list[Entry]:
        """What it holds; a last line that was cut short is left out."""
        found = []
        for line in self._path.read_bytes().splitlines():
            try:
                found.append(_decode(line))
            except msgspec.DecodeError:
                break
        return found

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        os.close(self._file)


def adopt(folder: Path) -> list[Orphan]:
    """The files in a folder that no living worker holds, each now held by the caller."""
    orphans = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        if path.exists():
            orphans.append(Orphan(path, file))
        else:
            os.close(file)
    return orphans


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of the journals of workers that are gone, in entries."""

    settled: int = 0
    too_old: int = 0


async def replay(store: Store, folder: Path, now: float) -> Replayed:
    """Make the settlements that dead workers left; `now` in seconds.

    Raises StoreUnavailable, with every file still there; OSError.
    """
    settled = too_old = 0
    for orphan in adopt(folder):
        try:
            entries = orphan.entries()
            fresh = [entry for entry in entries if now - entry.at < REPLAYABLE]
            calls = [(team_keys(entry.team), entry.arguments) for entry in fresh]
            for first in range(0, len(calls), _BATCH):
                for result in await store.run_many("settle", calls[first : first + _BATCH]):
                    if isinstance(result, StoreUnavailable):
                        raise result
        except BaseException:
            orphan.release()
            raise
        orphan.remove()
        settled += len(fresh)
        too_old += len(entries) - len(fresh)
    return Replayed(settled, too_old)
