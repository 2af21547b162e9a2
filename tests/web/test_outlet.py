"""The outlet: what is written to the client's socket, and when."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.test_utils import make_mocked_request

from proxy.web.outlet import Outlet


class Socket:
    """A client's transport, by what is written to it."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.write = self.writes.append
        self.closing = False
        self.close = self.abort = lambda: None

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0


def asked(socket: Socket, version: Any = HttpVersion11, *, closing: bool = False) -> web.Request:
    http = make_mocked_request("POST", "/", version=version, closing=closing)
    http.protocol.transport = socket  # type: ignore[assignment]
    http.protocol._paused = False
    http.writer.output_size = 0
    return http


def test_a_short_stream_is_one_write() -> None:
    """The head waits for the first bytes, and goes out with them and the end."""
    socket = Socket()
    http = asked(socket)
    outlet = Outlet(http, {"x-a": "b", "x-request-id": "req_1"}, 1)
    assert (socket.writes, http.writer.output_size) == ([], 0)
    outlet.end(b"data: a\n\n")
    (wire,) = socket.writes
    head, _, body = wire.partition(b"\r\n\r\n")
    assert body == b"9\r\ndata: a\n\n\r\n0\r\n\r\n"
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nx-a: b\r\nx-request-id: req_1" in head
    assert http.writer.output_size == len(wire)
    assert outlet.response.keep_alive


def test_the_head_goes_out_with_the_first_piece() -> None:
    """The first piece is one write with the head, and each piece from then on one of its own."""
    socket = Socket()
    http = asked(socket)
    outlet = Outlet(http, {}, 1)
    assert outlet.write(b"a")
    assert http.writer.output_size == len(socket.writes[0])
    assert socket.writes[0].endswith(b"\r\n\r\n1\r\na\r\n")
    outlet.write(b"b")
    outlet.end()
    assert socket.writes[1:] == [b"1\r\nb\r\n", b"0\r\n\r\n"]


@pytest.mark.parametrize(
    ("version", "closing", "said"),
    [
        (HttpVersion11, False, b"Transfer-Encoding: chunked"),
        (HttpVersion11, True, b"Connection: close"),
        (HttpVersion10, True, b"HTTP/1.0 200 OK"),
    ],
)
def test_what_the_head_says_of_its_connection(version: Any, closing: bool, said: bytes) -> None:
    """A body in chunks leaves the connection as the client wants it; a plain one ends with it."""
    socket = Socket()
    outlet = Outlet(asked(socket, version, closing=closing), {}, 1)
    outlet.write(b"")
    lines = socket.writes[0].split(b"\r\n")
    assert said in lines
    assert (b"Transfer-Encoding: chunked" in lines) == (version == HttpVersion11)
    assert outlet.response.keep_alive != closing


async def test_a_stream_broken_off_closes_no_other_connection() -> None:
    """Of two streams, only that which is broken off ends its connection."""
    broken, whole = (Outlet(asked(Socket()), {}, 1) for _ in range(2))
    broken.break_off(b"data: x\n\n")
    assert (broken.response.keep_alive, whole.response.keep_alive) == (False, True)
    assert Outlet(asked(Socket()), {}, 1).response.keep_alive


def test_a_piece_of_nothing_is_not_the_last_chunk() -> None:
    """An empty piece takes the head along, and writes no chunk, for that would end the body."""
    socket = Socket()
    outlet = Outlet(asked(socket), {}, 1)
    assert outlet.write(b"")
    assert outlet.write(b"")
    (head,) = socket.writes
    assert head.endswith(b"\r\n\r\n")
    assert head.count(b"\r\n\r\n") == 1


def test_no_header_is_made_of_anothers_value() -> None:
    """A value with a line end is not sent."""
    with pytest.raises(ValueError, match="header"):
        Outlet(asked(Socket()), {"x-a": "b\r\nx-c: d"}, 1)


@pytest.mark.parametrize("reads_on", [True, False])
def test_a_client_that_has_gone(reads_on: bool) -> None:
    """Where nobody reads on, a client that has gone is told at once; else only by the end."""
    socket = Socket()
    socket.closing = not reads_on
    http = asked(socket)
    if not reads_on:
        with pytest.raises(ConnectionError):
            Outlet(http, {}, 1)
        return
    outlet = Outlet(http, {}, 1, reads_on=True)
    socket.closing = True
    assert outlet.write(b"a")
    with pytest.raises(ConnectionError):
        outlet.end()
    assert not socket.writes
