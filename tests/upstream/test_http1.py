"""Reading an answer: what is taken, what is refused, wherever the bytes are cut."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.framing import BadAnswer, Chunked, Framing, Sized, UntilClose
from proxy.upstream.http1 import can_begin, header_lines, parse_head

CUTS = st.lists(st.integers(0, 10_000), max_size=20)
CHUNKS = st.lists(st.binary(min_size=1, max_size=300), max_size=6)


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join((status, *lines)).encode("latin-1")


def chunked(chunks: list[bytes], extension: bytes = b"", trailer: bytes = b"") -> bytes:
    body = b"".join(b"%X%b\r\n%b\r\n" % (len(c), extension, c) for c in chunks)
    return body + b"0\r\n" + trailer + b"\r\n"


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """The pieces of `data`, cut at some places."""
    places = sorted({place % (len(data) + 1) for place in at})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    return [piece for piece in pieces if piece]


def read(framing: Framing, pieces: list[bytes]) -> bytes:
    return b"".join([framing.feed(piece) for piece in pieces])


@given(CHUNKS, CUTS, st.sampled_from([b"", b";a=b", b" ;x"]), st.sampled_from([b"", b"X: 1\r\n"]))
def test_chunks_wherever_they_are_cut(
    chunks: list[bytes], cuts: list[int], extension: bytes, trailer: bytes
) -> None:
    """A chunked body is the same however it comes, and ends where it ends."""
    framing = Chunked()
    assert read(framing, cut(chunked(chunks, extension, trailer), cuts)) == b"".join(chunks)
    assert (framing.done, framing.ends(), framing.excess) == (True, True, False)


@given(
    st.lists(st.integers(1, 5000), min_size=1, max_size=3),
    st.sampled_from([b"%x", b"%X", b"0%x"]),
    st.sampled_from([b"", b";a=b", b" "]),
)
def test_chunks_that_can_be_sent_as_they_are(
    sizes: list[int], style: bytes, extension: bytes
) -> None:
    """What is whole chunks and nothing else is told, and what is not is no more so after it."""
    wire = b"".join(style % n + extension + b"\r\n" + bytes(n) + b"\r\n" for n in sizes)
    framing = Chunked()
    for _ in range(2):
        assert framing.feed(wire) == bytes(sum(sizes))
        assert framing.whole == (not extension)
    for begun in (b"1\r\n", b"a\r", b"\n", b"0\r\n", b"\r\n"):
        framing.feed(begun)
        assert not framing.whole
    assert framing.done


@given(st.integers(0, 5000), st.integers(-3, 3), st.sampled_from([b"\r\n", b"xx", b""]))
def test_a_chunk_of_another_size_than_it_says(size: int, more: int, end: bytes) -> None:
    """One read or many of one byte: what is no whole chunk is read, or refused, just the same."""
    wire = b"%x\r\n%b%b" % (size, b"\r\n" * ((size + more) // 2), end)
    framing, other = Chunked(), Chunked()
    once, each = _fate(framing, [wire]), _fate(other, cut(wire, list(range(len(wire)))))
    assert once == each
    assert (framing.done, framing.excess) == (other.done, other.excess)
    assert not framing.whole or once == (wire[wire.index(b"\n") + 1 : -2], False)


def _fate(framing: Framing, pieces: list[bytes]) -> tuple[bytes, bool]:
    """What is read, and whether it ends in a refusal."""
    body = b""
    try:
        for piece in pieces:
            body += framing.feed(piece)
    except BadAnswer as error:
        return body + error.before, True
    return body, False


@given(CHUNKS, st.integers(1, 2000))
def test_a_chunked_body_that_is_cut_short(chunks: list[bytes], missing: int) -> None:
    """Without its very last byte no chunked body has ended."""
    framing, whole = Chunked(), chunked(chunks)
    part = whole[: -(missing % len(whole) or 1)]
    body = framing.feed(part) if part else b""
    assert b"".join(chunks).startswith(body)
    assert not framing.ends()


@given(CHUNKS, CUTS, st.binary(min_size=1, max_size=9))
def test_what_follows_a_body(chunks: list[bytes], cuts: list[int], more: bytes) -> None:
    """What comes after the end is no part of the body, and is told of."""
    framing = Chunked()
    pieces = [*cut(chunked(chunks), cuts), more]
    assert read(framing, pieces[:-1]) == b"".join(chunks)
    assert framing.feed(more) == b""
    assert framing.excess


@given(st.binary(max_size=400), st.binary(max_size=9), CUTS)
def test_a_body_of_a_length(body: bytes, more: bytes, cuts: list[int]) -> None:
    """A body with a length ends with it."""
    framing = Sized(len(body))
    assert read(framing, cut(body + more, cuts)) == body
    assert (framing.done, framing.excess) == (True, bool(more))


def test_data_that_looks_like_the_end() -> None:
    """A last chunk within a chunk's data ends nothing, be that chunk whole or not."""
    framing = Chunked()
    assert framing.feed(b"5\r\nab0\r\n\r\n") == b"ab0\r\n"
    assert (framing.whole, framing.done) == (True, False)
    assert framing.feed(b"1\r\nc\r\na\r\nab0\r\n\r\n") == b"cab0\r\n\r\n"
    assert (framing.whole, framing.done) == (False, False)
    assert framing.feed(b"xyz\r\n0\r\n\r\n") == b"xyz"
    assert framing.done


@pytest.mark.parametrize("body", [b"2\r\nhi\r\n0\r\n\r\n", b"2;a\r\nhi\r\n0\r\n\r\n"])
def test_what_comes_after_the_end(body: bytes) -> None:
    """After a body's end nothing is of the body, be it a chunk in itself."""
    framing = Chunked()
    assert framing.feed(body) == b"hi"
    for late in (b"j", b"5\r\nAFTER\r\n", b"0\r\n\r\n"):
        assert framing.feed(late) == b""
        assert (framing.done, framing.excess, framing.whole) == (True, True, False)


@pytest.mark.parametrize(
    "bytes_",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5_0\r\n",
        b" 5\r\nhello\r\n",
        b"5\nhello\n",
        b"\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\n",
        b"5\r\nhello\r\r",
        b"1" * 16 + b"\r\n",
        b"5;" + b"x" * 5000,
        b"5;\x00\r\nhello\r\n",
        b"0\r\nno header\r\n\r\n",
        b"0\r\n" + b"x: " + b"y" * 5000,
        b"0\r\n" + b"x: 1\r\n" * 5000,
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_malformed_chunks(bytes_: bytes, size: int) -> None:
    """A chunk that another reader might understand otherwise is refused, however it comes."""
    framing = Chunked()
    with pytest.raises(BadAnswer):
        read(framing, [bytes_[at : at + size] for at in range(0, len(bytes_), size)])


@given(st.binary(max_size=300), CUTS)
def test_any_bytes_as_chunks(data: bytes, cuts: list[int]) -> None:
    """Rubbish raises nothing but its own error."""
    with suppress(BadAnswer):
        read(Chunked(), cut(data, cuts))


@given(st.binary(max_size=300))
def test_any_bytes_as_a_head(data: bytes) -> None:
    """Rubbish raises nothing but its own error."""
    with suppress(BadAnswer):
        parse_head(data)


@given(st.lists(st.integers(1, 60), min_size=1))
def test_a_head_that_is_not_whole(sizes: list[int]) -> None:
    """A good head may begin, wherever it is cut; one with bare line feeds may not."""
    data = head("content-type: a", "x: " + "y" * 60)
    for seen, end in pairwise([0, *accumulate(sizes)]):
        assert can_begin(data[:end], max(seen - 3, 0))
    assert not can_begin(data.replace(b"\r", b""), 0)


def test_a_header_of_spaces() -> None:
    """A hostile header is read in a time that is in proportion to its length."""
    begun = time.process_time()
    for value in ("a" + " " * 60_000 + "b", " " * 60_000 + "\x00"):
        with suppress(BadAnswer):
            parse_head(head(f"x: {value}", f"content-length: 1{value}"))
    assert time.process_time() - begun < 0.5


def test_what_comes_before_a_malformed_chunk() -> None:
    """The body's bytes before a fault of the framing are told with it."""
    with pytest.raises(BadAnswer) as caught:
        Chunked().feed(b"3\r\none\r\n3\r\ntwo\r\nzz\r\n")
    assert caught.value.before == b"onetwo"


def test_headers() -> None:
    """Names are folded, values trimmed, and what repeats is joined."""
    got = parse_head(head("Retry-After: \t5 ", "X-A:1:2", "x-a: 3", "content-length: 0"))
    assert got.headers == {"retry-after": "5", "x-a": "1:2, 3", "content-length": "0"}
    assert got.status == 200


@pytest.mark.parametrize(
    ("lines", "status", "kind"),
    [
        (["Transfer-Encoding: Chunked"], "HTTP/1.1 200", Chunked),
        (["Content-Length: 5"], "HTTP/1.1 404 No", Sized),
        (["Content-Length: 5, 5"], "HTTP/1.1 200 ", Sized),
        (["Content-Length: 5", "content-length: 5"], "HTTP/1.0 200 OK", Sized),
        ([], "HTTP/1.1 200 OK", UntilClose),
        (["Content-Length: 5"], "HTTP/1.1 204 OK", Sized),
        (["Transfer-Encoding: chunked"], "HTTP/1.1 304 OK", Sized),
        ([], "HTTP/1.1 103 Early Hints", Sized),
    ],
)
def test_how_long_a_body_is(lines: list[str], status: str, kind: type[Framing]) -> None:
    """RFC 9112, 6.3: a status without a body, a coding, a length, else until the close."""
    assert type(parse_head(head(*lines, status=status)).framing) is kind


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Transfer-Encoding: chunked", "Content-Length: 5"], "HTTP/1.1 200 OK"),
        (["Transfer-Encoding: gzip, chunked"], "HTTP/1.1 200 OK"),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], "HTTP/1.1 200 OK"),
        (["Transfer-Encoding: identity"], "HTTP/1.1 200 OK"),
        (["Transfer-Encoding: chunked"], "HTTP/1.0 200 OK"),
        (["Content-Length: 5, 6"], "HTTP/1.1 200 OK"),
        (["Content-Length: 5", "Content-Length: 6"], "HTTP/1.1 200 OK"),
        (["Content-Length: -5"], "HTTP/1.1 200 OK"),
        (["Content-Length: +5"], "HTTP/1.1 200 OK"),
        (["Content-Length: 0x5"], "HTTP/1.1 200 OK"),
        (["Content-Length: 5_0"], "HTTP/1.1 200 OK"),
        (["Content-Length: ٥"], "HTTP/1.1 200 OK"),
        (["Content-Length:"], "HTTP/1.1 200 OK"),
        (["Content-Length: " + "9" * 5000], "HTTP/1.1 200 OK"),
        ([" folded: 1"], "HTTP/1.1 200 OK"),
        (["A : 1"], "HTTP/1.1 200 OK"),
        (["A: 1\nB: 2"], "HTTP/1.1 200 OK"),
        (["A: 1\rB: 2"], "HTTP/1.1 200 OK"),
        (["A: \x00"], "HTTP/1.1 200 OK"),
        (["no colon"], "HTTP/1.1 200 OK"),
        ([""], "HTTP/1.1 200 OK"),
        ([], "HTTP/2 200 OK"),
        ([], "HTTP/1.1 2000 OK"),
        ([], "HTTP/1.1  200 OK"),
        ([], "HTTP/1.1 099 OK"),
        ([], "http/1.1 200 OK"),
        ([], ""),
    ],
)
def test_heads_that_are_refused(lines: list[str], status: str) -> None:
    """A head that two readers could take differently is refused."""
    with pytest.raises(BadAnswer):
        parse_head("\r\n".join((status, *lines)).encode("utf-8"))


@pytest.mark.parametrize(
    ("lines", "status", "reusable"),
    [
        (["Content-Length: 0"], "HTTP/1.1 200 OK", True),
        (["Content-Length: 0", "Connection: Keep-Alive"], "HTTP/1.1 200 OK", True),
        (["Content-Length: 0", "Connection: x, Close"], "HTTP/1.1 200 OK", False),
        (["Content-Length: 0"], "HTTP/1.0 200 OK", False),
        ([], "HTTP/1.1 200 OK", False),
    ],
)
def test_whether_a_connection_is_kept(lines: list[str], status: str, reusable: bool) -> None:
    """RFC 9112, 9.3: unless the server says otherwise, or the body ends with it."""
    assert parse_head(head(*lines, status=status)).reusable is reusable


@pytest.mark.parametrize(
    ("hint", "seconds"), [("timeout=5", 5), ("max=9, timeout=20", 20), ("timeout=x", None)]
)
def test_how_long_a_connection_is_kept(hint: str, seconds: float | None) -> None:
    """A server's hint at its own deadline is read."""
    assert parse_head(head(f"Keep-Alive: {hint}")).keep == seconds


def test_headers_as_they_are_sent() -> None:
    """Each header has a line of its own, with its end."""
    assert header_lines({"b": "c d", "e": ""}) == b"b: c d\r\ne: \r\n"
    assert header_lines({"a": "b\tc"}) == b"a: b\tc\r\n"
    assert header_lines({}) == b""


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "\x00", "é", "\x7f"])
def test_headers_that_cannot_be_sent(value: str) -> None:
    """No value begins another header."""
    with pytest.raises(ValueError, match="header"):
        header_lines({"a": "b", "b": value})
