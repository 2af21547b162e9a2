"""The embedded Valkey, with real processes that come and go."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from proxy.store import embedded
from proxy.store.embedded import EmbeddedStoreError, EmbeddedValkey
from tests.store.processes import (
    FORKED,
    IN_AND_OUT,
    ORPHANING,
    Process,
    client,
    data,
    get,
    put,
    servers,
)

__all__ = ["data"]


def test_server_is_started_and_stopped(data: Path) -> None:
    """A lone user finds a server that answers, and none is left when it goes."""
    with EmbeddedValkey(data) as store:
        assert servers(data) == [store.pid]
        with client(store.url) as valkey:
            assert valkey.ping()
    assert servers(data) == []


def test_server_settings(data: Path) -> None:
    """The server appends to its AOF every second, evicts nothing and has no TCP port."""
    wanted = {
        "port": "0",
        "dir": str(data),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
        "maxmemory-policy": "noeviction",
        "locale-collate": "C",
    }
    with EmbeddedValkey(data) as store, client(store.url) as valkey:
        assert valkey.config_get(*wanted) == wanted


def test_four_at_once_get_one_server(data: Path) -> None:
    """Users that come at the same time share one server."""
    with Process(data) as a, Process(data) as b, Process(data) as c, Process(data) as d:
        users = [a, b, c, d]
        pids = {user.store()[0] for user in users}
        assert servers(data) == list(pids)
        for user in users:
            user.leave()


def test_last_one_out_stops_it(data: Path) -> None:
    """The server outlives the user that started it, and ends with its last user."""
    with Process(data) as first, Process(data) as second:
        pid, _ = first.store()
        assert second.store()[0] == pid
        first.leave()
        assert servers(data) == [pid]
        second.leave()
    assert servers(data) == []


def test_come_and_go_race(data: Path) -> None:
    """However visits overlap, none meets a dead server and none is forgotten."""
    with (
        Process(data, IN_AND_OUT) as a,
        Process(data, IN_AND_OUT) as b,
        Process(data, IN_AND_OUT) as c,
    ):
        for user in (a, b, c):
            assert user.process.stdin
            user.process.stdin.write("go\n")
            user.process.stdin.flush()
        for user in (a, b, c):
            user.leave()
    assert servers(data) == []
    with EmbeddedValkey(data) as store:
        assert get(store.url, "visits") == "30"


def test_newcomer_waits_for_the_last_one_out(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From before the server is told to stop until it has, nobody comes in."""
    ask, came = embedded._ask, []

    def newcomer_then_ask(path: str, command: bytes) -> bytes:
        if command == b"SHUTDOWN":
            with (
                pytest.raises(EmbeddedStoreError, match="being stopped by another"),
                EmbeddedValkey(data),
            ):
                pass
            came.append(path)
        return ask(path, command)

    monkeypatch.setattr(embedded, "_LEAVING", 0.0)
    monkeypatch.setattr(embedded, "_ask", newcomer_then_ask)
    with EmbeddedValkey(data):
        pass
    assert came


def test_loading_is_waited_for(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that loads a long AOF is waited for, longer than a silent one would be."""
    ask, clock = embedded._ask, itertools.count(step=embedded._SILENCE * 0.6)
    loading = [b"-LOADING Valkey is loading the dataset in memory\r\n"] * 5

    def slow_ask(path: str, command: bytes) -> bytes:
        return loading.pop() if loading else ask(path, command)

    with EmbeddedValkey(data) as first:
        with monkeypatch.context() as patch:
            patch.setattr(embedded, "_ask", slow_ask)
            patch.setattr(embedded, "time", SimpleNamespace(monotonic=clock.__next__, sleep=id))
            second = EmbeddedValkey(data).__enter__()
        second.__exit__(None, None, None)
        assert second.pid == first.pid
    assert loading == []


def test_two_uses_in_one_process(data: Path) -> None:
    """Uses inside one process count one by one."""
    with EmbeddedValkey(data) as outer:
        with EmbeddedValkey(data) as inner:
            assert inner.pid == outer.pid
        assert servers(data) == [outer.pid]


def test_data_survive_a_restart(data: Path) -> None:
    """What was written is there for the next user, on another server."""
    with EmbeddedValkey(data) as store:
        put(store.url, "team", "vision")
        first = store.pid
    with EmbeddedValkey(data) as store:
        assert store.pid != first
        assert get(store.url, "team") == "vision"


def test_interrupted_user_stops_it(data: Path) -> None:
    """A user that is interrupted inside its block still goes out in order."""
    with pytest.raises(KeyboardInterrupt), EmbeddedValkey(data):
        raise KeyboardInterrupt
    assert servers(data) == []


def test_forked_child_is_no_user(data: Path) -> None:
    """A forked child that leaves the block neither stops the server nor frees its parent's lock."""
    with Process(data, FORKED) as user:
        pid, _ = user.store()
        with EmbeddedValkey(data) as store:
            assert store.pid == pid
        assert servers(data) == [pid]
        user.leave()
    assert servers(data) == []


def test_forked_child_holds_up_nobody(data: Path) -> None:
    """A forked child that lives on keeps neither the server nor a newcomer waiting."""
    with Process(data, ORPHANING) as user:
        user.store()
        assert servers(data) == []
        with EmbeddedValkey(data) as store:
            assert servers(data) == [store.pid]
        user.leave()


def test_nothing_is_for_others(data: Path) -> None:
    """Whatever the umask, the directory is 0700 and nothing in it is open to others."""
    before = os.umask(0)
    try:
        with EmbeddedValkey(data):
            modes = {path: path.stat().st_mode & 0o777 for path in (data, *data.rglob("*"))}
    finally:
        os.umask(before)
    assert modes[data] == 0o700
    assert data / "valkey.sock" in modes
    assert [path for path, mode in modes.items() if mode & 0o077] == []


def test_long_log_is_put_aside(data: Path) -> None:
    """A log of more than a mebibyte makes room for a new one."""
    data.mkdir(0o700)
    (data / "valkey.log").write_bytes(b"x" * (1 << 20) + b"\n")
    with EmbeddedValkey(data):
        pass
    assert (data / "valkey.log.1").stat().st_size > 1 << 20
    assert "ready" in (data / "valkey.log").read_text().lower()
