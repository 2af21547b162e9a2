"""Whether the store still has what it acknowledged.

Each script that writes for a team numbers its writing. A number that is not above one that the
store has already told means that it went backwards: it was restored from an old copy, or a
replica took over that had not received everything.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

#: Told of a team, and of how many writings at the least are gone.
Backwards = Callable[[str, int], None]


class Marks:
    """The last writing of each team that this worker knows of; kept in `file`, so that a store
    which goes backwards while nobody looks is found out as well.
    """

    def __init__(self, file: Path | None = None, backwards: Backwards | None = None) -> None:
        self._file = file
        self._backwards = backwards
        self._last: dict[str, int] = {}
        self._kept: dict[str, int] = {}
        if file is not None:
            with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
                self._kept = msgspec.json.decode(file.read_bytes(), type=dict[str, int])
                self._last = dict(self._kept)

    @property
    def teams(self) -> list[str]:
        """Those that are known to have been written."""
        return list(self._last)

    def before(self, team: str) -> int:
        """To be asked before a call, and handed to `told` with its answer."""
        return self._last.get(team, 0)

    def told(self, team: str, before: int, writing: int) -> None:
        """Note the number of a writing; answers may come in any order."""
        last = self._last.get(team, 0)
        if writing > before:
            if writing > last:
                self._last[team] = writing
        elif last >= before:  # not found out by another call meanwhile
            self._last[team] = writing
            if self._backwards is not None:
                self._backwards(team, before + 1 - writing)

    def keep(self) -> None:
        """Write them down, if there is anything new. Raises OSError."""
        if self._file is None or self._last == self._kept:
            return
        now = dict(self._last)
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._file.with_suffix(f".{secrets.token_hex(8)}")  # containers share their pids
        try:
            new.write_bytes(msgspec.json.encode(now))
            new.replace(self._file)
        finally:
            new.unlink(missing_ok=True)
        self._kept = now
