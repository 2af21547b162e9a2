"""What the master forks: a worker as the master knows it, and when the next one comes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from proxy import logs
from proxy.generation import Generation

#: Seconds before the next worker, twice as long each time.
_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0

#: What a worker tells its master: that it lives, and that it stops.
LIVES: Final = b"."
LEAVES: Final = b"-"


@dataclass(eq=False, slots=True)
class Worker:
    """`slot` is its place in the metrics; `asked`: it was told to stop, by whomever."""

    pid: int
    slot: int
    generation: Generation
    link: socket.socket
    born: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    ready: bool = False
    asked: bool = False

    @property
    def serves(self) -> bool:
        return self.ready and not self.asked

    def hear(self) -> None:
        """Take what it has told."""
        with contextlib.suppress(OSError):  # nothing more, or it is gone
            if told := self.link.recv(4096, socket.MSG_DONTWAIT):
                self.heard, self.ready = time.monotonic(), True
                self.asked |= LEAVES in told


def fork(heard: Iterable[int]) -> int:
    """As os.fork; in the child the signals that the parent waits for do what they do by default, a
    terminal's nothing. Raises OSError where the machine has no room for another process.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)  # else it might tell us of its own
    try:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for number in heard:
                signal.signal(number, signal.SIG_DFL)
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)


def child(do: Callable[[], None], failed: str, why: Callable[[Exception], str]) -> NoReturn:
    """Do it and end, without leaving what the parent has entered; `failed` is told where it did."""
    code = 1
    try:
        do()
        code = 0
    except Exception as error:
        logs.get().error(failed, pid=os.getpid(), error=why(error))
    finally:
        os._exit(code)


def pause_after(failures: int) -> float:
    """Seconds before the next worker, after so many in a row that died soon."""
    return min(_PAUSE * 2.0 ** (failures - 2), _LONGEST_PAUSE) if failures > 1 else 0.0
