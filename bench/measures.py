"""What is measured of a gateway, one measure a function."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from bench import kernel
from bench.asking import SCENARIOS, Job, Result, percentile
from bench.gateways import CERTIFICATE, KEY, ROOT, Gateway, Place, by_path

SETTLING = 0.3  # seconds in which what follows a stream's end is done: it belongs to its cost
MARGIN = 2.0  # seconds of its pause that a held stream must have left when the memory is read

Open = Callable[..., contextlib.AbstractContextManager[Gateway]]
Figures = dict[str, float]


class Spoilt(Exception):
    """There is no figure: an answer was changed, lost or refused, or the machine is too slow."""


@dataclass(frozen=True)
class Bench:
    """The mock upstream's ports, plain and TLS, the cores, and how much of everything."""

    folder: Path
    upstream: int
    upstream_tls: int
    core: int
    load_core: int
    scale: float = 1.0

    def place(self, folder: Path, *, secure: bool = False, workers: int = 1) -> Place:
        port = self.upstream_tls if secure else self.upstream
        return Place(folder, port, secure, self.core, self.load_core, workers)

    def count(self, full: int) -> int:
        return max(2, int(full * self.scale))


@contextlib.contextmanager
def open_bench(core: int, load_core: int, scale: float) -> Iterator[Bench]:
    """The mock upstream, on the load's core."""
    words = [sys.executable, "-m", "bench.upstream", str(CERTIFICATE), str(KEY)]
    with tempfile.TemporaryDirectory(prefix="vg-") as name:
        folder = Path(name)
        with kernel.running(
            words, load_core, folder / "upstream.log", talks=True, env={"PYTHONPATH": str(ROOT)}
        ) as mock:
            assert mock.stdout is not None
            ports = mock.stdout.readline().split()
            if len(ports) != 2:
                raise RuntimeError((folder / "upstream.log").read_text())
            yield Bench(folder, int(ports[0]), int(ports[1]), core, load_core, scale)


@dataclass(frozen=True)
class Load:
    """A load generator that waits to be told to go."""

    process: subprocess.Popen[str]

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def begun(self) -> None:
        """Wait until each of its connections has a first byte."""
        self.line()

    def result(self) -> Result:
        """Wait for its result. Raises Spoilt."""
        text = self.line()
        while text == "begun":
            text = self.line()
        if not text:
            raise Spoilt("the load generator died")
        result = msgspec.json.decode(text, type=Result)
        if result.error or result.wrong:
            raise Spoilt(result.error or f"{result.wrong} of {result.streams} are not right")
        return result


@contextlib.contextmanager
def loading(bench: Bench, job: Job) -> Iterator[Load]:
    """A load generator whose connections are warm. Raises Spoilt."""
    words = [sys.executable, "-m", "bench.load", msgspec.json.encode(job).decode()]
    log = bench.folder / "load.log"
    log.write_bytes(b"")
    with kernel.running(
        words, bench.load_core, log, talks=True, env={"PYTHONPATH": str(ROOT)}
    ) as process:
        load = Load(process)
        if load.line() != "ready":
            raise Spoilt(log.read_text()[-2000:])
        yield load


def job(
    gateway: Gateway, scenario: str, connections: int, streams: int, warm: str = "n1", **part: Any
) -> Job:
    """`streams` of a scenario over warm connections."""
    ask = {name: gateway.ask(SCENARIOS[name]) for name in (scenario, warm)}
    run = msgspec.structs.replace(ask[scenario], streams=streams, **part)
    before = msgspec.structs.replace(ask[warm], streams=max(connections, 2))
    return Job(gateway.port, connections, before, run, gateway.usage, gateway.exact)


def cpu_per_stream(bench: Bench, gateway: Gateway, job: Job) -> Figures:
    """Microseconds of CPU of a gateway, and of its store, for each stream; and the share of both
    cores that was used by none of ours.
    """
    with loading(bench, job) as load:
        pids = [gateway.pid] + ([gateway.store] if gateway.store else [])
        ours = [os.getpid()]  # and all that it started
        time.sleep(SETTLING)
        began, spent, all_spent = time.perf_counter(), _each(pids), kernel.cpu(ours)
        cores = {bench.core, bench.load_core}
        busy = kernel.busy(cores)
        load.go()
        result = load.result()
        time.sleep(SETTLING)
        seconds = time.perf_counter() - began
        costs = [
            (now - then) / 1000 / result.streams
            for now, then in zip(_each(pids), spent, strict=True)
        ]
        others = kernel.busy(cores) - busy - (kernel.cpu(ours) - all_spent) / 1e9
    figures = {"": costs[0], "others": max(0.0, others / seconds / len(cores))}
    return figures | ({"store": costs[1]} if gateway.store else {})


def _each(pids: list[int]) -> list[int]:
    return [kernel.cpu([pid]) for pid in pids]


def n1(bench: Bench, gateway: Gateway) -> Figures:
    return cpu_per_stream(bench, gateway, job(gateway, "n1", 32, bench.count(8_000)))


def busy(bench: Bench, gateway: Gateway) -> Figures:
    connections = bench.count(200)
    return cpu_per_stream(
        bench, gateway, job(gateway, "busy", connections, 2 * connections, "warm")
    )


def mb(bench: Bench, gateway: Gateway) -> Figures:
    return cpu_per_stream(bench, gateway, job(gateway, "n1", 4, bench.count(400), image="data"))


def lat(bench: Bench, gateway: Gateway) -> Figures:
    """Microseconds to the first token beyond the median of what it takes without a gateway."""
    asked = job(gateway, "n1", 1, bench.count(3_000))
    asked.direct = bench.upstream, by_path(SCENARIOS["n1"])
    with loading(bench, asked) as load:
        load.go()
        result = load.result()
    direct = statistics.median(result.direct)
    through = {"": 0.50, "p99": 0.99}
    return {k: (percentile(result.firsts, share) - direct) * 1e6 for k, share in through.items()}


def hold(bench: Bench, gateway: Gateway) -> Figures:
    """KiB of private memory for each stream that is open, with its connections, and waits for
    its next word.
    """
    streams = bench.count(1_000)
    pause = SCENARIOS["hold"].pace / 1000
    _ask(bench, job(gateway, "n1", 32, 64))
    before = sum(kernel.private(gateway.pid))
    asked = job(gateway, "hold", streams, streams)
    asked.warm.streams = 2
    with loading(bench, asked) as load:
        load.go()
        load.begun()
        time.sleep(SETTLING)
        held = sum(kernel.private(gateway.pid)) - before
        result = load.result()
    if result.begun + SETTLING + MARGIN > pause:
        raise Spoilt(f"{streams} streams took {result.begun:.1f} s to open: too slow to hold")
    return {"": held / streams}


def _ask(bench: Bench, job: Job) -> None:
    with loading(bench, job) as load:
        load.go()
        load.result()
    time.sleep(SETTLING)


def mem(bench: Bench, gateway: Gateway) -> Figures:
    """MiB of private memory of the largest process, such as a worker of two, after requests of
    each kind.
    """
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("n1", {"image": ""}),
        ("n1", {}),
        ("older", {}),
        ("n1", {"image": "data"}),
        ("whole", {"stream": False}),
    )
    for scenario, part in kinds:
        _ask(bench, job(gateway, scenario, 1, 5, **part))
    return {"": max(kernel.private(gateway.pid)) / 1024}


@dataclass(frozen=True)
class Measure:
    """`fresh`: each repetition gets a gateway of its own, with so many `workers`; `secure`: one
    whose upstream has TLS; `peers`: which share of the streams those get that are orders of
    magnitude dearer.
    """

    unit: str
    title: str
    take: Callable[[Bench, Gateway], Figures]
    fresh: bool = False
    workers: int = 1
    secure: bool = False
    peers: float = 0.0


MEASURES = {
    "n1": Measure("µs", "CPU per stream of 1 chunk", n1, peers=0.1),
    "busy": Measure("µs", "CPU per stream of 100 chunks, 200 at a time", busy, peers=1.0),
    "lat": Measure("µs", "added time to the first token, median", lat, peers=0.1),
    "mb": Measure("µs", "CPU per stream with an image of 1 MB", mb),
    "hold": Measure("KiB", "memory per open stream", hold, fresh=True),
    "mem": Measure(
        "MiB", "memory of a worker of two after requests of each kind", mem, fresh=True, workers=2
    ),
    "tls": Measure("µs", "as busy, the upstream over TLS", busy, secure=True),
}


def smaller(bench: Bench, share: float) -> Bench:
    """The same with a share of everything."""
    return replace(bench, scale=bench.scale * share)
