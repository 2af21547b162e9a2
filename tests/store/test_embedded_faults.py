"""The embedded Valkey when a server or a user is killed, hangs or cannot start."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest

from proxy.store import embedded
from proxy.store.embedded import EmbeddedStoreError, EmbeddedValkey, make_pepper
from tests.store.processes import INTERRUPTED, Process, data, get, kill_server, put, servers

__all__ = ["data"]


def test_killed_server_is_started_again(data: Path) -> None:
    """After a kill -9 of the server the next user has a live one with the data, at the same URL."""
    with EmbeddedValkey(data) as before:
        put(before.url, "team", "vision")
        kill_server(data, before.pid)
        assert (data / "valkey.sock").exists()
        with EmbeddedValkey(data) as after:
            assert after.pid != before.pid
            assert get(after.url, "team") == "vision"
        assert get(before.url, "team") == "vision"


def test_killed_server_nobody_replaced(data: Path) -> None:
    """The last user of a server that died leaves without an error."""
    with EmbeddedValkey(data) as store:
        kill_server(data, store.pid)
    assert servers(data) == []


def test_truncated_tail_is_loaded(data: Path) -> None:
    """An AOF that ends in the middle of a command loses that command alone."""
    with EmbeddedValkey(data) as store:
        put(store.url, "team", "vision")
    (log,) = (data / "appendonlydir").glob("*.incr.aof")
    with log.open("ab") as tail:
        tail.write(b"*3\r\n$3\r\nSET\r\n$4\r\nte")
    with EmbeddedValkey(data) as store:
        assert get(store.url, "team") == "vision"


def test_killed_user_is_not_counted(data: Path) -> None:
    """A user that was killed leaves the server running, for the next one out to stop."""
    with Process(data) as user:
        pid, _ = user.store()
        user.kill()
    assert servers(data) == [pid]
    with EmbeddedValkey(data) as store:
        assert store.pid == pid
    assert servers(data) == []


def test_ctrl_c_spares_the_server(data: Path) -> None:
    """SIGINT to the user's process group leaves it a live server until it goes."""
    with Process(data, INTERRUPTED) as user:
        pid, _ = user.store()
        assert os.getsid(pid) != os.getsid(user.process.pid)
        os.killpg(user.process.pid, signal.SIGINT)
        assert user.leave() == "True\n"
    assert servers(data) == []


def test_failed_start_tells_the_log(data: Path) -> None:
    """A server that cannot start is told with the end of its log, and holds up nobody after it."""
    manifest = data / "appendonlydir" / "appendonly.aof.manifest"
    with EmbeddedValkey(data):
        kept = manifest.read_text()
    manifest.write_text("nonsense\n")
    with (
        pytest.raises(EmbeddedStoreError, match=r"did not start(?s:.)*manifest file"),
        EmbeddedValkey(data),
    ):
        pass
    manifest.write_text(kept)
    with EmbeddedValkey(data) as store:
        assert servers(data) == [store.pid]


def test_silent_server_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs is neither replaced nor waited for without end."""
    with EmbeddedValkey(data) as store:
        os.kill(store.pid, signal.SIGSTOP)
        monkeypatch.setattr(embedded, "_ANSWER", 0.01)
        monkeypatch.setattr(embedded, "_SILENCE", 0.05)
        with pytest.raises(EmbeddedStoreError, match="does not answer"), EmbeddedValkey(data):
            pass
        assert servers(data) == [store.pid]
        monkeypatch.undo()
        os.kill(store.pid, signal.SIGCONT)


@pytest.mark.parametrize("failing", [True, False])
def test_failed_stop_is_told(data: Path, monkeypatch: pytest.MonkeyPatch, failing: bool) -> None:
    """A server that does not stop is an error of its own, or a note on the block's."""
    monkeypatch.setattr(embedded, "_ANSWER", 0.01)
    monkeypatch.setattr(embedded, "_STOP", 0.05)

    def use() -> None:
        with EmbeddedValkey(data) as store:
            os.kill(store.pid, signal.SIGSTOP)
            if failing:
                raise LookupError("the block's own")

    with pytest.raises(LookupError if failing else EmbeddedStoreError) as told:
        use()
    notes = [str(told.value), *getattr(told.value, "__notes__", [])]
    assert "did not stop: no answer" in notes[-1]
    (pid,) = servers(data)
    kill_server(data, pid)


def test_leaving_user_is_not_waited_for_without_end(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user that hangs while it stops the server is told by those who wait for it."""
    make_pepper(data)
    monkeypatch.setattr(embedded, "_LEAVING", 0.01)
    with (data / "users.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (
            pytest.raises(EmbeddedStoreError, match="being stopped by another user"),
            EmbeddedValkey(data),
        ):
            pass
