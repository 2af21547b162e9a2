"""The files of prometheus_client's series, with room for what is written to them.

They are mapped, and sparse as prometheus_client makes them: a full disk is told there by SIGBUS.
"""

from __future__ import annotations

import os
import time
from typing import Final

from prometheus_client.mmap_dict import _INITIAL_MMAP_SIZE, MmapedDict

#: Bytes of an entry beside its key, at the most.
_ENTRY: Final = 32

_AGAIN: Final = 0.5  # seconds until room is asked for once more

_refused = False


class Mapped(MmapedDict):
    """A file that has its blocks before they are mapped. A series for which there is no room is
    not shown until there is; its value, which its owner has, is whole then. Raises OSError where
    not even a first block is to be had.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if not read_mode:
            with open(filename, "ab") as file:
                try:
                    _allocate(file.fileno(), max(_INITIAL_MMAP_SIZE, file.tell()))
                except OSError as error:
                    error.filename = filename
                    raise
        self._not_before = 0.0
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def read_value(self, key: str) -> tuple[float, float]:
        if key in self._positions or self._make_room(key):
            value, at = super().read_value(key)  # type: ignore[no-untyped-call]
            return value, at
        return 0.0, 0.0

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        if key in self._positions or self._make_room(key):
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]

    def _make_room(self, key: str) -> bool:
        """Whether the file has the blocks for one more series."""
        global _refused
        needed, capacity = self._used + len(key.encode()) + _ENTRY, self._capacity
        if needed <= capacity:
            return True
        while needed > capacity:
            capacity *= 2
        now = time.monotonic()
        if now >= self._not_before:
            try:
                _allocate(self._f.fileno(), capacity)
            except OSError:
                self._not_before = now + _AGAIN
            else:
                return True
        _refused = True
        return False


def refused() -> bool:
    """Whether a series had no room since this was asked last."""
    global _refused
    was, _refused = _refused, False
    return was


def _allocate(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(file, 0, size)
