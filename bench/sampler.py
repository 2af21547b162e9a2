"""`visiongate` that looks where it is for each few milliseconds of its workers' CPU.

    python -m bench.sampler FILE -c CONFIG serve

SIGUSR1 starts a worker's count, SIGUSR2 ends it and writes it to FILE as JSON: by source file,
how often it was at work there. A file of the standard library counts for whoever called it, and
a C function for its caller. `LOOP` is what was spent outside of Python: it is seen where Python
is next entered from the loop.
"""

from __future__ import annotations

import dis
import json
import os
import signal
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from types import FrameType

LOOP = "the loop"
EVERY = 0.001  # seconds of CPU, or the system's tick
_RESUME = dis.opmap["RESUME"]
_LIBRARY = sysconfig.get_paths()["stdlib"]

_seen: Counter[str] = Counter()


def look(_: int, frame: FrameType | None) -> None:
    if frame is None:
        return
    just_entered = frame.f_lasti < 0 or frame.f_code.co_code[frame.f_lasti] == _RESUME
    if just_entered and (frame.f_back is None or _runs(frame.f_back)):
        _seen[LOOP] += 1
        return
    while frame.f_back is not None and _of_library(frame.f_code.co_filename):
        frame = frame.f_back
    _seen[frame.f_code.co_filename] += 1


def _runs(frame: FrameType) -> bool:
    """Whether it is the frame from which the loop runs, of a library below our own `run`."""
    return frame.f_code.co_name in ("run", "run_until_complete", "run_forever")


def _of_library(path: str) -> bool:
    return path.startswith("<") or (path.startswith(_LIBRARY) and "site-packages" not in path)


def listen(file: Path) -> None:
    """In a worker: wait for the signals."""

    def begin(*_: object) -> None:
        _seen.clear()
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)

    def end(*_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(_seen))
        part.rename(file)

    signal.signal(signal.SIGPROF, look)
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)


if __name__ == "__main__":
    from proxy.cli import main

    where = Path(sys.argv.pop(1))
    os.register_at_fork(after_in_child=lambda: listen(where))
    sys.exit(main())
