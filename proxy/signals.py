"""The signals that the master waits for: nothing runs in a handler, they come as bytes."""

from __future__ import annotations

import signal
import socket
from types import FrameType
from typing import Final, NoReturn

STOPS: Final = (signal.SIGINT, signal.SIGTERM)
HEARD: Final = (*STOPS, signal.SIGHUP, signal.SIGCHLD)


class Signals:
    """Heard from here on. A stop ends the process at once until they are `waited_for`."""

    def __init__(self) -> None:
        self._here, self._told = socket.socketpair()
        for end in (self._here, self._told):
            end.setblocking(False)
        signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        self._before = {
            number: signal.signal(number, _leave if number in STOPS else _noted) for number in HEARD
        }

    def waited_for(self) -> None:
        for number in STOPS:
            signal.signal(number, _noted)

    def fileno(self) -> int:
        return self._here.fileno()

    def taken(self) -> list[int]:
        """What has come since the last time: each stop, then SIGHUP, once however often it came."""
        came = self._here.recv(4096)
        once = [signal.SIGHUP] if signal.SIGHUP in came else []
        return [number for number in came if number in STOPS] + once

    def undo(self) -> None:
        """Have all as it was before."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.close()

    def close(self) -> None:
        for end in (self._here, self._told):
            end.close()


def _noted(number: int, frame: FrameType | None) -> None:
    pass


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
