"""The process that the workers are forked from. It keeps them running, and serves nobody.

    SIGTERM, SIGINT   no new requests; streams under way have `drain` to end. A second one ends
                      them with an error event, a third kills the workers
    SIGHUP            the configuration is read again. What is wrong with it is logged, and
                      nothing changes; else new workers serve it, and once all of them do, the
                      old ones stop as by SIGTERM

To a worker, SIGTERM and SIGQUIT are the first and the second; a terminal's signals, which
reach it as well, are the master's affair. What it tells the master is that it lives, or that it
stops: then another takes its place at once, while its streams go on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from proxy import logs, scraping
from proxy.forked import Worker, child, fork, pause_after
from proxy.generation import Generation
from proxy.memory import keep_apart
from proxy.metrics import MASTER_ALARMS, alarms
from proxy.serve import run, work
from proxy.signals import HEARD, STOPS, Signals

#: What the workers get at the first stop, the second and the third.
_PRESSING: Final = (signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL)

# Seconds.
_SILENCE: Final = 60.0  # of a worker that tells each second that it lives: it hangs
_SOON: Final = 10.0  # a worker that does not live for so long may never live long
_LOOK: Final = 1.0
_AWAY: Final = 5 * _LOOK  # so late to look: we stood still, or read a configuration
_AGAIN: Final = 2.0  # where the machine had no room for another process

#: The configuration as it is now, made ready; handed what listens, if anything does.
Prepare = Callable[[Sequence[Generation]], Generation]


class Master:
    """`prepare` raises what is wrong with a configuration, and `why` has words for it."""

    def __init__(self, prepare: Prepare, why: Callable[[Exception], str]) -> None:
        self._prepare = prepare
        self._why = why
        self._log = logs.get()
        self._workers: dict[int, Worker] = {}
        self._open: list[Generation] = []
        self._serving: Generation | None = None
        self._coming: Generation | None = None
        self._stops = 0
        self._failures = 0  # of workers that died soon, one after the other
        self._not_before = 0.0
        self._looked = time.monotonic()
        self._short_until = 0.0  # of processes or files
        self._code = 0

    def run(self) -> int:
        """Serve until a signal comes and what is under way has ended; the exit code.

        Raises what `prepare` does.
        """
        keep_apart()
        self._signals = Signals()
        try:
            first = self._prepare(())
        except BaseException:
            self._signals.undo()
            raise
        with first.shared, scraping.folder() as folder:
            self._signals.waited_for()
            self._listen(folder)
            self._take_in(first)
            while self._workers or not self._stops:
                self._fill()
                self._wait()
                self._reap()
                self._turn_over()
        self._log.info("stopped")
        return self._code

    def _listen(self, folder: Path) -> None:
        self._folder = folder
        scraping.join(folder, "master")
        self._alarms = alarms(CollectorRegistry())
        for event in MASTER_ALARMS:
            self._alarms.labels(event)
        self._scrapes = socket.socket(socket.AF_UNIX)
        self._scrapes.bind(str(self._folder / scraping.SOCKET))
        self._scrapes.listen()

    def _alarm(self, event: str, **fields: object) -> None:
        self._alarms.labels(event).inc()
        self._log.error(event, **fields)

    def _short(self, error: OSError) -> None:
        """The machine has no room for another process, or file: what lives goes on."""
        self._alarm("fork_failed", error=error.strerror)
        self._short_until = time.monotonic() + _AGAIN

    # Signals, and what workers tell

    def _wait(self) -> None:
        """Until something happens, or it is time to look."""
        links = {worker.link: worker for worker in self._workers.values()}
        now = time.monotonic()
        pause = self._not_before - now
        scrapes = () if now < self._short_until else (self._scrapes,)
        ready, _, _ = select.select(
            (self._signals, *scrapes, *links), (), (), pause if 0 < pause < _LOOK else _LOOK
        )
        for file in ready:
            if file is self._signals:
                for number in self._signals.taken():
                    self._signalled(number)
            elif file is self._scrapes:
                self._scraped()
            else:
                links[file].hear()

    def _signalled(self, number: int) -> None:
        if number in STOPS:
            self._stop()
        elif not self._stops:
            self._reload()

    def _stop(self) -> None:
        if not self._stops:
            self._log.info("stopping")
            for generation in self._open:
                generation.listeners.close()
            for worker in self._workers.values():
                with contextlib.suppress(OSError):
                    worker.link.shutdown(socket.SHUT_WR)  # that all stop: see serve.all_stop
        pressing = _PRESSING[min(self._stops, len(_PRESSING) - 1)]
        self._stops += 1
        self._tell(self._workers.values(), pressing)

    def _reload(self) -> None:
        try:
            coming = self._prepare([*filter(None, (self._coming, self._serving))])
        except Exception as error:
            self._alarm("reload_refused", error=self._why(error))
            return
        if self._coming is not None:
            self._drop(self._coming)
        self._take_in(coming)

    def _scraped(self) -> None:
        """Have a process of its own render the metrics: it takes long where there are many."""
        try:
            asking, _ = self._scrapes.accept()
            with asking:
                if fork(HEARD) == 0:
                    child(lambda: scraping.answer(asking, self._folder), "scrape_failed", self._why)
        except OSError as error:
            self._short(error)

    # Workers

    def _fill(self) -> None:
        """Start the workers that are missing."""
        now = time.monotonic()
        if self._stops or now < self._short_until:
            return
        pausing = now < self._not_before
        try:
            for generation in (self._coming, None if pausing else self._serving):
                if generation is not None:
                    there = sum(not worker.asked for worker in self._of(generation))
                    for _ in range(generation.size - there):
                        self._start(generation)
        except OSError as error:
            self._short(error)

    def _start(self, generation: Generation) -> None:
        """Raises OSError."""
        taken = {worker.slot for worker in self._workers.values()}
        slot = next(number for number in count() if number not in taken)
        ours, its = socket.socketpair()

        def serve() -> None:
            ours.close()
            self._forget(generation)
            scraping.join(self._folder, slot)
            run(work(generation, its))

        with its:
            try:
                pid = fork(HEARD)
            except OSError:
                ours.close()
                raise
            if pid == 0:
                child(serve, "worker_failed", self._why)
        self._workers[pid] = Worker(pid, slot, generation, ours)

    def _forget(self, generation: Generation) -> None:
        """Close what a worker has no use for: it would keep it open when the master closes it."""
        self._scrapes.close()
        self._signals.close()
        for worker in self._workers.values():
            worker.link.close()
        for other in self._open:
            if other is not generation:
                other.listeners.close()

    def _reap(self) -> None:
        """See who has died, and who hangs."""
        now = time.monotonic()
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if worker := self._workers.pop(pid, None):
                self._died(worker, os.waitstatus_to_exitcode(status), now)
        away = now - self._looked > _AWAY
        self._looked = now
        for worker in self._workers.values():
            if away:  # nobody listened to it, and perhaps it stood still as well
                worker.heard = now
            elif now - worker.heard > _SILENCE:
                self._alarm("worker_hangs", pid=worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
                worker.heard = now  # its death is seen in a moment: one alarm is enough

    def _died(self, worker: Worker, code: int, now: float) -> None:
        worker.hear()
        worker.link.close()
        scraping.leave(self._folder, worker.slot)
        if worker.asked and (code == 0 or -code in _PRESSING[: max(1, self._stops)]):
            return
        self._alarm("worker_died", pid=worker.pid, exit_code=code, draining=worker.asked)
        if worker.asked:
            return
        if worker.generation is self._coming:
            self._refuse(self._coming)
            return
        self._failures = self._failures + 1 if now - worker.born < _SOON else 0
        self._not_before = now + pause_after(self._failures)

    def _of(self, generation: Generation) -> list[Worker]:
        return [each for each in self._workers.values() if each.generation is generation]

    def _tell(self, workers: Iterable[Worker], number: int) -> None:
        for worker in workers:
            worker.asked = True
            os.kill(worker.pid, number)

    # Generations

    def _take_in(self, generation: Generation) -> None:
        self._open.append(generation)
        self._coming = generation

    def _drop(self, generation: Generation) -> None:
        """Have its workers finish what they are at."""
        generation.listeners.close()
        self._tell(self._of(generation), signal.SIGTERM)

    def _refuse(self, coming: Generation) -> None:
        """It looked well, but its workers die."""
        self._coming = None
        self._drop(coming)
        if self._serving is not None:
            self._alarm("reload_refused", error="its workers do not start")
        else:
            self._code = 1
            self._stop()

    def _turn_over(self) -> None:
        """Serve what is coming once all its workers do, and leave what no worker needs."""
        coming, before = self._coming, self._serving
        if coming is not None:
            ready = [worker.pid for worker in self._of(coming) if worker.serves]
            if len(ready) == coming.size:
                self._serving, self._coming, self._failures = coming, None, 0
                self._log.info("reloaded" if before else "serving", **coming.told, workers=ready)
                for warning in coming.warnings:
                    self._log.warning("unsafe_store", warning=warning)
                if before is not None:
                    self._drop(before)
        kept = [] if self._stops else [self._serving, self._coming]
        for generation in tuple(self._open):
            if generation not in kept and not self._of(generation):
                self._open.remove(generation)
                generation.shared.close()
