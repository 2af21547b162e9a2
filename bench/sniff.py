"""What a look at an image's first bytes costs: microseconds of CPU, the median of many.

python -m bench.sniff
"""

from __future__ import annotations

import contextlib
import statistics
import time
from random import Random

from proxy.images.sniff import NeedMore, sniff
from tests.images.samples import SAMPLES, png_chunk, write_png

ROUNDS, LOOKS = 50, 200
WINDOW = 32 << 10  # what is asked of a host first

NOISE = Random(1).randbytes(1 << 20)
HEADS = {
    **SAMPLES,
    "png-profile": write_png(640, 480, before=png_chunk(b"iCCP", bytes(20_000))),
    "gif-large": SAMPLES["gif"][: SAMPLES["gif"].index(b"\x2c") + 11]
    + b"".join(b"\xff" + NOISE[at : at + 255] for at in range(0, 40_000, 255)),
    "webp-large": SAMPLES["webp-extended"] + NOISE,
}


def look(data: bytes) -> None:
    with contextlib.suppress(NeedMore):
        sniff(data)


def median(data: bytes) -> float:
    """Microseconds of CPU time of one look."""
    costs = []
    for _ in range(ROUNDS):
        began = time.process_time_ns()
        for _ in range(LOOKS):
            look(data)
        costs.append((time.process_time_ns() - began) / LOOKS / 1000)
    return statistics.median(costs)


def main() -> None:
    worst = 0.0
    for name, data in HEADS.items():
        cost = median(data[:WINDOW] if name != "jpeg-profile" else data)
        worst = max(worst, cost)
        print(f"{name:18} {len(data):8} bytes {cost:6.1f} µs")
    print(f"{'dearest':18} {'':14} {worst:6.1f} µs")


if __name__ == "__main__":
    main()
