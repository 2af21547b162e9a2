"""Where the microseconds of a stream go in visiongate.

    python -m bench.where [--scenario n1]

The worker looks where it is for each few milliseconds of its CPU (bench/sampler.py); what was
seen is put into rooms, and scaled to the CPU of a stream. What the system does for a call counts
for its caller.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import kernel
from bench.gateways import visiongate
from bench.measures import SETTLING, Spoilt, job, loading, open_bench
from bench.sampler import LOOP

#: What is done, and by which files; the first that fits.
ROOMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("the loop: uvloop, and the system's calls", (LOOP,)),
    ("HTTP of the client: aiohttp's server", ("aiohttp/", "yarl/", "web/server.py",
                                                "web/connection.py", "web/strict.py")),
    ("log line and metrics", ("proxy/logs.py", "proxy/metrics.py", "proxy/tallies.py",
                              "web/record.py", "web/trace.py")),
    ("the answer to the client", ("web/relay.py", "web/stream.py", "web/pulse.py",
                                  "web/outlet.py")),
    ("the request's way: id, body, pipeline", ("proxy/web/", "proxy/app.py")),
    ("connection to the upstream", ("proxy/upstream/",)),
    ("meter: events, usage", ("domain/meter.py", "domain/sse.py", "domain/texts.py",
                              "domain/told.py")),
    ("estimate, price, limits told", ("domain/estimate.py", "domain/tokenizer.py",
                                      "domain/usage.py", "domain/quota.py",
                                      "domain/ratelimits.py", "domain/windows.py", "toktok/")),
    ("images: policy", ("proxy/images/",)),
    ("the body: parse, check, write anew", ("proxy/domain/", "proxy/providers/", "proxy/turns.py")),
    ("key, reservation, settlement", ("proxy/store/", "proxy/access.py")),
)  # fmt: skip
REST = "all else"
WRITING = 10.0  # seconds in which a worker writes what it has seen

SCENARIOS = {"n1": (32, 20_000), "busy": (200, 1_000)}


def rooms(seen: Mapping[str, int]) -> Counter[str]:
    """How often it was seen in each room."""
    found: Counter[str] = Counter()
    for path, count in seen.items():
        titles = (title for title, parts in ROOMS if any(part in path for part in parts))
        found[next(titles, REST)] += count
    return found


def sample(folder: Path, scenario: str, share: float = 1.0) -> tuple[float, Counter[str]]:
    """Microseconds of CPU a stream, and how often it was seen in each room, over a `share` of the
    streams.
    """
    connections, streams = (max(2, int(full * share)) for full in SCENARIOS[scenario])
    file = folder / "seen.json"
    with (
        open_bench(*kernel.cores(), scale=1.0) as bench,
        visiongate(bench.place(folder), ("bench.sampler", str(file))) as gateway,
        loading(bench, job(gateway, scenario, connections, streams, "warm")) as load,
    ):
        _, worker = kernel.tree(gateway.pid)
        spent = kernel.cpu([worker])
        os.kill(worker, signal.SIGUSR1)
        load.go()
        load.result()
        time.sleep(SETTLING)
        os.kill(worker, signal.SIGUSR2)
        spent = kernel.cpu([worker]) - spent
        seen = written(file, WRITING)
    return spent / 1000 / streams, rooms(json.loads(seen))


def written(file: Path, seconds: float) -> str:
    """What is in a file as soon as there is one. Raises Spoilt where there is none in time."""
    end = time.monotonic() + seconds
    while not file.exists():
        if time.monotonic() >= end:
            raise Spoilt(f"the worker has not written what it saw within {seconds:g} s")
        time.sleep(0.05)  # between two looks
    return file.read_text()


def main() -> int:
    parser = ArgumentParser("python -m bench.where", description=__doc__)
    parser.add_argument("--scenario", choices=SCENARIOS, default="n1", help="(%(default)s)")
    args = parser.parse_args()
    kernel.allow_open_files()
    with tempfile.TemporaryDirectory(prefix="vg-") as folder:
        micros, found = sample(Path(folder), args.scenario)
    total = found.total()
    table = Table(title=f"{args.scenario}: {micros:.0f} µs of CPU a stream, {total} looks")
    for heading in ("where", "µs", "share"):
        table.add_column(heading, justify="left" if heading == "where" else "right")
    for title in (*(title for title, _ in ROOMS), REST):
        share = found[title] / total
        table.add_row(title, f"{micros * share:.0f}", f"{share:.0%}")
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
