"""The bench's plumbing, in small; no figure is judged."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from bench import chart, kernel, measures, report, where
from bench.asking import Job, Part, png
from bench.gateways import bare
from bench.load import connect, measured, rightness
from bench.measures import Spoilt, n1, open_bench
from bench.run import main
from bench.sampler import LOOP
from bench.upstream import body
from proxy.images.sniff import walk
from tests.gateway import until


@contextlib.contextmanager
def measuring() -> Iterator[None]:
    """Linux measures in here, as `test_where_it_measures` holds; elsewhere it is told why not."""
    if why := kernel.missing():
        with pytest.raises(SystemExit) as refused:
            yield
        assert refused.value.code == why
    else:
        yield


def test_where_it_measures() -> None:
    """Nothing that the bench needs is missing on Linux, and elsewhere something is."""
    assert (kernel.missing() is None) == (sys.platform == "linux")


def test_it_says_why_it_cannot_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the scheduler's count is missing, a run ends with why, and nothing is written."""
    monkeypatch.setattr(kernel, "_COUNT", tmp_path / "schedstat")
    with pytest.raises(SystemExit) as ended:
        main(["--json", str(tmp_path / "bench.json")])
    why = f"the bench reads /proc/PID/schedstat, which {sys.platform} has not: it needs Linux"
    assert ended.value.code == why  # a text is told on standard error, and the status is 1
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


@measuring()
def test_bench_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run compares a bare pass-through with visiongate, and leaves nothing running."""
    monkeypatch.setattr(measures, "SETTLING", 0.0)
    before = kernel.tree(os.getpid())  # with the servers of other tests
    file = tmp_path / "new" / "bench.json"
    words = ["--reps", "1", "--scale", "0.01", "--only", "n1,lat,mb"]
    assert main([*words, "--gateways", "bare,visiongate", "--json", str(file)]) == 0
    results = json.loads(file.read_text())["results"]
    for series in ("n1", "mb"):
        assert {name: len(values) for name, values in results[series].items()} == {
            "bare": 1,
            "visiongate": 1,
        }
        assert all(values[0] > 0 for values in results[series].values())
    assert set(results["lat.p99"]) == {"bare", "visiongate"}
    assert results["n1.store"]["visiongate"][0] > 0
    assert "ratio to" in capsys.readouterr().out
    ElementTree.fromstring(file.with_suffix(".svg").read_text())
    assert kernel.tree(os.getpid()) == before


@measuring()
def test_wrong_stream_is_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway whose answers are not what they should be, to the byte, gets no figure."""
    monkeypatch.setattr(measures, "SETTLING", 0.0)
    with contextlib.ExitStack() as stack:
        bench = stack.enter_context(open_bench(*kernel.cores(), scale=0.001))
        gateway = stack.enter_context(bare(bench.place(tmp_path)))
        assert n1(bench, gateway)[""] > 0
        with pytest.raises(Spoilt, match="32 wrong streams"):
            n1(bench, replace(gateway, usage=False))


async def test_a_connection_that_was_closed() -> None:
    """A gateway that closes a warm connection is told of; nobody waits for what it never begins."""

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    async with server:
        [client] = await connect(server.sockets[0].getsockname()[1], 1)
        await until(client.transport.is_closing)
        run = Part("/", "m", 1, chunks=1)
        result = await measured(Job(0, 1, run, run, usage=True, exact=True), [client])
    assert result.error == "a connection that was kept is closed"


def test_words_are_checked() -> None:
    """Where chunks are written anew, all words have to be there, in order, and the end."""
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    right = rightness(Part("/", "m", 1, chunks=3), usage=True, exact=False)
    good = head + body(3).replace(b'":"', b'": "')
    assert right(good)
    assert not right(good.replace(b"word1", b"word"))
    swapped = good.replace(b"word0", b"\0").replace(b"word1", b"word0").replace(b"\0", b"word1")
    assert not right(swapped)
    assert not right(good.replace(b"[DONE]", b""))


def test_image_is_one() -> None:
    """The image in a body of a megabyte is a PNG."""
    image = png(4)
    found = walk(image)
    assert (found.width, found.height) == (4, 4)
    Image.open(io.BytesIO(image)).load()


def test_verdicts() -> None:
    """A ratio of medians is held against what it must be and what it aims at."""
    target = report.Target("n1", "bare", must=0.9, aim=0.6)
    results = {"n1": {"bare": [100.0, 110.0, 90.0], "visiongate": [60.0, 59.0, 300.0]}}
    assert report.ratio(results, target) == 0.6
    assert report.against(results, target) == [0.6, 59 / 110, 300 / 90]
    told = [report.verdict(value, target)[0] for value in (0.6, 0.9, 0.91)]
    assert told == ["aim met", "met", "not met"]


def test_chart_cuts_what_is_far_off() -> None:
    """A bar that is many times as long as the others ends within the picture, and is cut."""
    results = {"n1": {"bare": [100.0], "visiongate": [50.0, 60.0], "litellm": [11_000.0]}}
    drawn = chart.draw(results, ["bare", "visiongate", "litellm"], "here & now")
    ElementTree.fromstring(drawn)
    assert drawn.count('class="cut"') == 1
    assert "11,000" in drawn
    assert "here &amp; now" in drawn


def test_rooms() -> None:
    """Each file at work is in one room, and one that is none of ours in the last."""
    proxy = "/somewhere/proxy"
    seen = {LOOP: 5, f"{proxy}/web/relay.py": 3, f"{proxy}/web/chat.py": 2, "/elsewhere/x.py": 1}
    found = where.rooms(seen)
    assert sorted(found.values()) == [1, 2, 3, 5]
    assert found[where.REST] == 1
    for one, other in (("meter", "told"), ("estimate", "ratelimits"), ("estimate", "windows")):
        together = where.rooms({f"{proxy}/domain/{name}.py": 1 for name in (one, other)})
        assert list(together.values()) == [2], other


def test_what_is_never_written(tmp_path: Path) -> None:
    """A worker that writes nothing is not waited for without an end."""
    with pytest.raises(Spoilt, match="has not written what it saw"):
        where.written(tmp_path / "seen.json", 0.0)
    (tmp_path / "seen.json").write_text("{}")
    assert where.written(tmp_path / "seen.json", 0.0) == "{}"


@measuring()
def test_where_it_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker under load is seen in rooms of its own code, and the CPU of a stream is told."""
    monkeypatch.setattr(where, "SETTLING", 0.0)
    micros, found = where.sample(tmp_path, "n1", 0.02)
    assert micros > 0
    (outside, *ours), *_ = zip(*where.ROOMS, strict=True)
    assert found.keys() <= {outside, *ours, where.REST}
    assert sum(found[title] for title in ours) > 0
