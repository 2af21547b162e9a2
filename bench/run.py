"""What visiongate costs, beside a bare pass-through, nginx and others: `make bench`.

    python -m bench.run [--reps 5] [--only n1,busy] [--gateways bare,visiongate] [--peers]

Each gateway has one core to itself; the load generator, the mock upstream and the stores have
another. Repetitions are interleaved in random order. Every stream is checked; a wrong one ends
the run with status 1. It needs Linux, and a machine that does nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import signal
import statistics
import sys
import sysconfig
import tempfile
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import chart, kernel, report
from bench.gateways import GATEWAYS, ROOT, Absent, Gateway, Place
from bench.measures import MEASURES, Bench, Measure, Spoilt, open_bench, smaller
from bench.peers import PEERS, install

RESULTS = ROOT / "bench/results"
QUIET = 0.05  # of both cores; more by others spoils the figures

#: Whether this Python was built as distributions build it; one from pyenv is slower.
OPTIMIZED = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")

Opener = Callable[[Place], contextlib.AbstractContextManager[Gateway]]


class Stand:
    """The gateways, each opened when it is first asked for, and closed at the end."""

    def __init__(self, bench: Bench, stack: contextlib.ExitStack) -> None:
        self._bench = bench
        self._stack = stack
        self._open: dict[tuple[str, bool], Gateway] = {}
        self.versions: dict[str, str] = {}

    def open(self, name: str, stack: contextlib.ExitStack, measure: Measure) -> Gateway:
        """Raises Absent."""
        opener: Opener = {**GATEWAYS, **PEERS}[name]
        folder = Path(tempfile.mkdtemp(dir=self._bench.folder))
        place = self._bench.place(folder, secure=measure.secure, workers=measure.workers)
        gateway = stack.enter_context(opener(place))
        self.versions[name] = gateway.version
        return gateway

    def take(self, name: str, measure: Measure) -> dict[str, float]:
        """One repetition of a measure. Raises Spoilt."""
        bench = smaller(self._bench, measure.peers) if name in PEERS else self._bench
        if measure.fresh:
            with contextlib.ExitStack() as stack:
                return measure.take(bench, self.open(name, stack, measure))
        kept = (name, measure.secure)
        if kept not in self._open:
            self._open[kept] = self.open(name, self._stack, measure)
        return measure.take(bench, self._open[kept])


def measure_all(stand: Stand, args: Namespace, rng: random.Random, results: report.Results) -> bool:
    """All of it, in random order, told line by line on standard error; whether all went well."""
    pairs = [
        (name, each)
        for each in args.only
        for name in args.gateways
        if name not in PEERS or MEASURES[each].peers
    ]
    gone: set[str] = set()
    for rep in range(args.reps):
        rng.shuffle(pairs)
        for name, each in pairs:
            if name in gone:
                continue
            try:
                taken = stand.take(name, MEASURES[each])
            except Absent as error:
                tell(f"\n*** {name} IS LEFT OUT: {error} ***\n")
                gone.add(name)
                continue
            except (Spoilt, KeyboardInterrupt) as error:
                tell(f"\nSTOPPED: {each} of {name}: {error or 'interrupted'}")
                return False
            for part, value in taken.items():
                series = f"{each}.{part}" if part else each
                results.setdefault(series, {}).setdefault(name, []).append(value)
            shown = f"{report.plain(taken[''])} {MEASURES[each].unit}"
            others = f"  (others {taken['others']:.0%})" if taken.get("others", 0) > QUIET else ""
            tell(f"{rep + 1}/{args.reps}  {each:5} {name:11} {shown:>14}{others}")
    return True


def warn_of_others(results: report.Results) -> None:
    """How quiet the machine was."""
    shares = [
        share
        for series, found in results.items()
        if series.endswith(".others")
        for values in found.values()
        for share in values
    ]
    if shares and max(shares) > QUIET:
        tell(
            f"\nWARNING: other programs used {statistics.median(shares):.0%} of both cores at the "
            f"median and {max(shares):.0%} at worst: the figures are not to be trusted."
        )


def save(results: report.Results, versions: dict[str, str], args: Namespace, seed: int) -> Path:
    """The JSON, and the chart beside it; where."""
    when = time.strftime("%Y-%m-%d")
    about: dict[str, Any] = {
        "when": when,
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version() + ("" if OPTIMIZED else ", not optimized"),
        "versions": versions,
        "repetitions": args.reps,
        "scale": args.scale,
        "seed": seed,
        "units": {name: measure.unit for name, measure in MEASURES.items()},
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({**about, "results": results}, indent=1) + "\n")
    drawn: Path = args.json.with_suffix(".svg")
    foot = f"{when}, {about['machine']}; medians of {args.reps}, with their spread; less is better"
    drawn.write_text(chart.draw(results, list(versions), foot))
    return drawn


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def arguments(words: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(
        "python -m bench.run", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    known = [*GATEWAYS, *PEERS]
    parser.add_argument("--reps", type=int, default=5, help="repetitions (5)")
    parser.add_argument("--only", default=",".join(MEASURES), help="measures (%(default)s)")
    parser.add_argument("--gateways", help=f"which of {','.join(known)} (the first three)")
    parser.add_argument(
        "--peers", action="store_true", help=f"also {' and '.join(PEERS)}; installs them in a cache"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the streams (1)")
    parser.add_argument("--seed", type=int, help="of the random order")
    parser.add_argument("--json", type=Path, default=RESULTS / "latest.json", help="(%(default)s)")
    args = parser.parse_args(words)
    args.only = args.only.split(",")
    peers = list(PEERS) if args.peers else []
    args.gateways = args.gateways.split(",") if args.gateways else [*GATEWAYS, *peers]
    for given, allowed in ((args.only, list(MEASURES)), (args.gateways, known)):
        for word in given:
            if word not in allowed:
                parser.error(f"{word!r} is none of {', '.join(allowed)}")
    return args


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    args = arguments(words)
    cores = kernel.cores()
    kernel.allow_open_files()
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    if args.peers:
        install()
    tell(f"seed {seed}; gateways on core {cores[0]}, everything else on core {cores[1]}")
    if not OPTIMIZED:
        tell("this Python was built without --enable-optimizations: a packaged one is faster")
    results: report.Results = {}
    with contextlib.ExitStack() as stack:
        stand = Stand(stack.enter_context(open_bench(*cores, args.scale)), stack)
        good = measure_all(stand, args, random.Random(seed), results)
    versions = {name: stand.versions[name] for name in args.gateways if name in stand.versions}
    console = Console(width=None if sys.stdout.isatty() else 120)
    report.show(console, results, list(versions))
    warn_of_others(results)
    if not good:
        return 1
    tell(f"\nwritten: {save(results, versions, args, seed)} and .json")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    sys.exit(main())
