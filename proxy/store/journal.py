"""Settlements that the store could not take, on disk, so that they outlive their worker.

One file a worker, locked while it lives. A worker that starts adopts the files that nobody
holds. Replaying is safe: the ledger charges a reservation at most once, and knows it for
`REPLAYABLE` seconds; older entries are told of, not replayed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy.domain.errors import StoreUnavailable
from proxy.store.client import Store
from proxy.store.figures import script_words
from proxy.store.layout import team_keys

#: For as long the ledger can tell a settled reservation from a new one.
REPLAYABLE: Final = 7 * 86_400

_SUFFIX: Final = ".journal"
_BAD: Final = ".bad"
_BATCH: Final = 64


class Entry(msgspec.Struct, frozen=True):
    """One settlement, as its script takes it; `at` is when it was written, in seconds.

    The second of the arguments is the request's id: of several entries with one, the last holds.
    """

    team: str
    arguments: tuple[str | int, ...]
    at: float
    script: str = "settle"


def outrun(entry: Entry) -> Entry:
    """What takes the place of an entry that the store knows more than."""
    return msgspec.structs.replace(entry, script="")


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


class Journal:
    """This worker's file, made when it is first needed. Raises OSError where it cannot be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        self._file: int | None = None
        self._size = 0
        self.entries = 0

    def write(self, entries: Iterable[Entry]) -> None:
        """Keep entries; they are on the disk when this returns."""
        lines = [_encode(entry) + b"\n" for entry in entries]
        if self._file is None:
            self._file = self._open()
        view = memoryview(b"".join(lines))
        size = len(view)
        try:
            while view:
                view = view[os.write(self._file, view) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)  # half a line would spoil the next one
            raise
        self._size += size
        self.entries += len(lines)

    def _open(self) -> int:
        """A new file, locked; made anew where somebody adopted it before it was."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        while True:
            file = os.open(self._path, flags, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), self._path.stat()):
                    return file
            os.close(file)

    def clear(self) -> None:
        """Forget everything: the store has it."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
        self._size = self.entries = 0

    def close(self) -> None:
        """Let go of the file; one without entries is removed."""
        if self._file is None:
            return
        if not self.entries:
            self._path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = None


class Orphan:
    """The file of a worker that is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> tuple[list[Entry], int]:
        """What is to be charged, of each request the last; and how many lines cannot be read, as
        one that was being written when the machine stopped.
        """
        found: dict[tuple[str, str | int], Entry] = {}
        unreadable = 0
        for line in self._path.read_bytes().splitlines():
            try:
                entry = _decode(line)
                found[entry.team, entry.arguments[1]] = entry
            except (msgspec.DecodeError, UnicodeDecodeError, IndexError):
                unreadable += 1
        return [entry for entry in found.values() if entry.script], unreadable

    def done(self, unreadable: int) -> None:
        """Remove it; one with lines that cannot be read is put aside, for people to look at."""
        if unreadable:
            self._path.replace(self._path.with_suffix(_BAD))
        else:
            self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def adopt(path: Path) -> Iterator[Orphan | None]:
    """Hold a file, if no living worker does. Raises OSError."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Orphan(path) if path.exists() else None
            return
        yield None
    finally:
        os.close(file)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of the journals of workers that are gone, in entries.

    `settled` were charged now, `refused` by the store, which will be asked again; `too_old` and
    `unreadable` are lost. `closed` are files that could not be opened.
    """

    settled: int = 0
    refused: int = 0
    too_old: int = 0
    unreadable: int = 0
    closed: int = 0

    def __add__(self, other: Replayed) -> Replayed:
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Replayed(*(mine + its for mine, its in pairs))


async def replay(store: Store, folder: Path, now: float) -> Replayed:
    """Make the settlements that dead workers left; `now` in seconds.

    Raises StoreUnavailable, with what is not done still there.
    """
    total = Replayed()
    for path in _journals(folder):
        try:
            with adopt(path) as orphan:
                if orphan is not None:
                    total += await _replay_one(store, orphan, now)
        except OSError:
            total += Replayed(closed=1)
    return total


def _journals(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{_SUFFIX}"))


async def _replay_one(store: Store, orphan: Orphan, now: float) -> Replayed:
    entries, unreadable = orphan.entries()
    fresh = [entry for entry in entries if now - entry.at < REPLAYABLE]
    answers: list[Any] = []
    for script in sorted({entry.script for entry in fresh}):
        calls = [
            (team_keys(e.team), script_words(script, e.arguments))
            for e in fresh
            if e.script == script
        ]
        for first in range(0, len(calls), _BATCH):
            answers += await store.run_many(script, calls[first : first + _BATCH])
    refused = sum(isinstance(answer, StoreUnavailable) for answer in answers)
    if not refused:
        orphan.done(unreadable)
    settled = sum(not isinstance(a, StoreUnavailable) and a[0] != b"absent" for a in answers)
    return Replayed(settled, refused, len(entries) - len(fresh), unreadable)
