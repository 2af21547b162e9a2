"""What Linux counts: processor time, private memory, and what else kept the cores busy."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

OPEN_FILES = 16_384
TICKS = os.sysconf("SC_CLK_TCK")
_COUNT = Path("/proc/self/schedstat")
_IDLE = (3, 4)  # of /proc/stat's columns: idle, iowait (proc(5))


def missing() -> str | None:
    """Why nothing can be measured here, if nothing can."""
    if not _COUNT.exists():
        return f"the bench reads /proc/PID/schedstat, which {sys.platform} has not: it needs Linux"
    return None


def cores() -> tuple[int, int]:
    """The gateway's core and the load's; the same where there is only one.

    Raises SystemExit where nothing can be measured.
    """
    if why := missing():
        raise SystemExit(why)
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[1 % len(allowed)]


def allow_open_files() -> None:
    """Let this process, and what it starts, open thousands of files where the system does."""
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(usual, min(OPEN_FILES, most)), most))


def tree(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for task in _listed(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += tree(int(child))
    return found


def cpu(pids: Collection[int]) -> int:
    """Nanoseconds on a processor so far, of these processes and all that they started.

    The first field of schedstat, of each thread that lives
    (https://docs.kernel.org/scheduler/sched-stats.html).
    """
    spent = 0
    for pid in {each for root in pids for each in tree(root)}:
        for task in _listed(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/task/{task}/schedstat").read_text()
                spent += int(text.split()[0])
    return spent


def private(pid: int) -> list[float]:
    """KiB of memory that nobody else has, of a process and of each that it started."""
    return [_private(each) for each in tree(pid)]


def _private(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("Private_"))


def busy(of: Collection[int]) -> float:
    """Seconds for which these cores were not idle, so far; steps of 10 ms."""
    spent = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *columns = line.split()
        if name in {f"cpu{core}" for core in of}:
            ticks = [int(column) for column in columns[:8]]
            spent += sum(ticks) - sum(ticks[at] for at in _IDLE)
    return spent / TICKS


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """What is started in here, by this thread, runs on that core."""
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


@contextlib.contextmanager
def running(
    words: Sequence[str],
    core: int,
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    talks: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """A process on one core, that is gone at the end with all that it started.

    What it says is in `log`; one that `talks` has pipes for its input and output.
    """
    with log.open("ab") as output, pinned(core):
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else output,
            stderr=output,
            text=True,
            env={**os.environ, **(env or {})},
            start_new_session=True,  # a group of its own, to be ended as one
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
