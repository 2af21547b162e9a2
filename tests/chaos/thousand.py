"""A thousand streams open at a time on one core, for minutes: each exact, and nothing grows."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from bench import kernel
from bench.asking import SCENARIOS
from bench.gateways import visiongate
from bench.measures import job, loading, open_bench
from tests.chaos.soak import EVERY, GROWTH, GROWTH_BYTES, Vitals
from tests.chaos.stand import percentile, show, tell

STREAMS = 1_000
LONG = SCENARIOS["long"]
SECONDS = LONG.chunks * LONG.pace / 1000  # one stream, at its provider's pace


def thousand(folder: Path, *, minutes: float) -> None:
    """Every stream is compared byte by byte, its usage event left out, which nobody asked for."""
    rounds = max(1, round(60 * minutes / SECONDS))
    vitals = Vitals()
    kernel.allow_open_files()
    with contextlib.ExitStack() as stack:
        bench = stack.enter_context(open_bench(*kernel.cores(), scale=1.0))
        gateway = stack.enter_context(visiongate(bench.place(folder)))
        asked = job(gateway, LONG.name, STREAMS, rounds * STREAMS)
        asked.patience = 2 * SECONDS * rounds
        load = stack.enter_context(loading(bench, asked))
        _, worker = kernel.tree(gateway.pid)  # a master, and what serves
        began, spent = time.monotonic(), kernel.cpu([worker])
        told = began
        load.go()
        with ThreadPoolExecutor(1) as waiting:
            result = waiting.submit(load.result)
            while not result.done():
                vitals.look(worker)
                if time.monotonic() - told > 30:
                    told = time.monotonic()
                    tell(f"  {told - began:4.0f} s; {vitals.memory[-1] / 2**20:.1f} MiB")
                with contextlib.suppress(TimeoutError):
                    result.result(EVERY)
        seconds = time.monotonic() - began
        share = (kernel.cpu([worker]) - spent) / 1e9 / seconds
    after, end = vitals.parts()
    firsts = result.result().firsts
    show(
        "a thousand streams",
        streams=result.result().streams,
        wrong=result.result().wrong,
        seconds=seconds,
        of_one_core=f"{share:.0%}",
        first_byte_p50_ms=percentile(firsts, 0.5) * 1000,
        first_byte_p99_ms=percentile(firsts, 0.99) * 1000,
        memory_after_warm_up_MiB=median(after) / 2**20,
        memory_at_the_end_MiB=median(end) / 2**20,
        most_files=max(vitals.files),
        threads=max(vitals.threads),
    )
    assert len(firsts) == rounds * STREAMS
    assert median(end) <= median(after) * GROWTH + GROWTH_BYTES
    half = len(vitals.files) // 2
    assert max(vitals.files[half:]) <= max(vitals.files[:half]) + 10
    assert max(vitals.threads[half:]) <= max(vitals.threads[:half]) + 2
