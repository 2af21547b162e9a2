"""The way of every charge into the store: sent at once, retried, and outliving its worker.

Leaving a reservation only puts its lease here, from where its charge is sent; nobody waits. What
the store does not take is written to the journal, and tried again in batches; a charge is made
at most once, so it may be sent more often.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

from proxy.domain.errors import StoreUnavailable
from proxy.store.client import Store, end_tasks, refused
from proxy.store.journal import Entry, Journal, outrun
from proxy.store.layout import team_keys
from proxy.store.lease import Lease, settlement, to_settle
from proxy.store.marks import Marks

_BATCH: Final = 64
_RETRY_FIRST: Final = 0.05  # seconds
_RETRY_LAST: Final = 0.5

#: For so long (seconds) the store may refuse a charge, while it takes others, before it is left
#: to the journal.
_HOPELESS: Final = 600.0


class Alarm(Protocol):
    """Told of what an operator must know."""

    def __call__(self, event: str, **fields: object) -> None: ...


def silent(event: str, **fields: object) -> None:
    """Nobody is told."""


class Settlements:
    """Those of one worker."""

    def __init__(
        self, store: Store, marks: Marks, journal: Journal | None = None, alarm: Alarm = silent
    ) -> None:
        self._store = store
        self._marks = marks
        self._journal = journal
        self._alarm = alarm
        self._flying: set[Lease] = set()  # sent, each as it came
        self._fallen: list[Lease] = []  # of those, the ones that just failed
        self._queue: deque[Lease] = deque()  # to be sent in batches
        self._sending: list[Lease] = []
        self._later: deque[Lease] = deque()  # those that failed
        self._some = asyncio.Event()
        self._none = asyncio.Event()  # told to those that wait for it
        self._taken = 0  # by the store, so far
        self._parked = 0
        self._noted: Collection[Lease] = ()  # those whose charge so far the journal has
        self._full = False
        # One thread: what is done to the journal is done in order, even if nobody waits for it.
        self._disk = ThreadPoolExecutor(1, "journal")
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Those that the store has not taken yet."""
        at_once = len(self._flying) + len(self._fallen)
        return at_once + len(self._queue) + len(self._sending) + len(self._later)

    def put(self, lease: Lease, *, soon: bool = True) -> None:
        """A lease that is over, with its charge set. Not `soon`: with what is sent next."""
        script, key, packed = to_settle(lease)
        lease.mark = self._marks.before(lease.team)
        self._flying.add(lease)
        if not self._store.begin(script, key, packed, self._told, lease, soon=soon):
            self._queue_up(lease)

    def _told(self, lease: Lease, reply: Any) -> None:
        """The store has answered, or failed."""
        if type(reply) is list:
            self._flying.discard(lease)
            self._answered(lease, lease.mark, reply)
            if not (
                self._flying or self.waiting
            ):  # most often the first one tells, and it is cheap
                self._none.set()
                if self._journal is not None and self._journal.entries:
                    self._some.set()
        elif isinstance(reply, StoreUnavailable):
            lease.sent = True
            self._failed(lease, reply)
            self._flying.discard(lease)
            self._fallen.append(lease)
            self._some.set()
        else:
            self._queue_up(lease)  # it wants the script, or another server: a batch sees to that

    def _queue_up(self, lease: Lease) -> None:
        self._flying.discard(lease)
        self._queue.append(lease)
        self._some.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._forever(), name="ledger-settle")

    async def made(self) -> None:
        """Wait until the store has taken every settlement so far."""
        if self.waiting:
            self._none.clear()
            await self._none.wait()

    async def stop(self, deadline: float) -> None:
        """Wait for every settlement, at most `deadline` seconds; the journal keeps the rest."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.made(), deadline)
        if self._task is not None:
            await end_tasks(self._task)
        left = [*self._flying, *self._fallen, *self._sending, *self._queue, *self._later]
        await self._keep(left)
        await self._clear()
        if unwritten := sum(lease.made and not lease.kept for lease in left):
            self._alarm("charges_lost", unwritten=unwritten)
        if self._journal is not None:
            await self._on_disk(self._journal.close)
            self._journal = None
        self._disk.shutdown(wait=False)

    async def note(self, leases: Collection[Lease]) -> None:
        """Write down the charges so far of all the leases that the store cannot be told of, and
        that of others it knows more by now.
        """
        told = [lease for lease in self._noted if lease.charge is None and lease not in leases]
        self._noted = leases
        entries = [*map(_entry, leases), *(outrun(_entry(lease)) for lease in told)]
        if entries:
            await self._write(lambda journal: journal.write(entries))
        await self._clear()

    async def _clear(self) -> None:
        """Forget what is in the journal, if the store has it all."""
        journal, wanted = self._journal, self.waiting or self._parked or self._noted
        if journal is not None and journal.entries and not wanted:
            await self._on_disk(journal.clear)

    async def _forever(self) -> None:
        loop = asyncio.get_running_loop()
        wait, due = _RETRY_FIRST, 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due if self._later else None):
                    await self._some.wait()
            if self._fallen:
                due = min(due, loop.time() + _RETRY_FIRST)
                fallen, self._fallen = self._fallen, []
                await self._put_by(fallen)
            retried = loop.time() >= due
            if retried:
                self._retry()
            sent, failed = await self._send()
            if retried and sent > failed == 0:
                wait, due = _RETRY_FIRST, 0.0
            elif retried:
                wait = _RETRY_FIRST if sent > failed else min(wait * 2, _RETRY_LAST)
                due = loop.time() + wait

    def _retry(self) -> None:
        """Queue some of what failed again, but for what is on a server that is still away."""
        there: dict[str, bool] = {}
        for _ in range(len(self._later)):
            lease = self._later.popleft()
            if lease.team not in there:
                there[lease.team] = self._store.there(team_keys(lease.team)[0])
            (self._queue if there[lease.team] else self._later).append(lease)
            if len(self._queue) >= _BATCH:
                break

    async def _send(self) -> tuple[int, int]:
        """Settle the first of the queue: how many were sent, and how many of them failed."""
        self._sending = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
        sent, failed = len(self._sending), await self._settle(self._sending)
        self._sending = []
        if failed:
            await self._put_by(failed)
        if not self._queue and not self._fallen:
            self._some.clear()
        if not self.waiting:
            self._none.set()
            await self._clear()
        return sent, len(failed)

    async def _put_by(self, failed: list[Lease]) -> None:
        """Try again later, if at all. The others may have to wait for as long, and this worker may
        be killed meanwhile.
        """
        self._later.extend(failed)
        await self._keep([*failed, *self._queue, *self._fallen, *self._flying])
        for lease in failed:
            if self._park(lease):
                self._later.remove(lease)

    async def _settle(self, batch: list[Lease]) -> list[Lease]:
        """Send settlements; those that the store did not take."""
        scripts: defaultdict[str, list[tuple[Lease, tuple[str, bytes]]]] = defaultdict(list)
        for lease in batch:
            script, key, packed = to_settle(lease)
            scripts[script].append((lease, (key, packed)))
        failed = []
        for script, some in scripts.items():
            before = [self._marks.before(lease.team) for lease, _ in some]
            try:
                results = await self._store.run_many_packed(script, [call for _, call in some])
            except StoreUnavailable as error:
                results = [error] * len(some)
            for (lease, _), mark, result in zip(some, before, results, strict=True):
                if isinstance(result, StoreUnavailable):
                    failed.append(lease)
                    self._failed(lease, result)
                else:
                    self._answered(lease, mark, result)
                lease.sent = True
        return failed

    def _answered(self, lease: Lease, before: int, answer: list[Any]) -> None:
        self._taken += 1
        if answer[0] != b"absent":
            self._marks.told(lease.team, before, answer[1])
        elif lease.made and not lease.sent:
            # It was acknowledged, and this is the first that the store hears of its end.
            tokens = lease.charge.amounts.of("tokens") if lease.charge else 0
            self._alarm("reservation_lost", team=lease.team, model=lease.model, tokens=tokens)

    def _failed(self, lease: Lease, error: StoreUnavailable) -> None:
        if not refused(error):
            lease.refused_at = None
        elif lease.refused_at is None:
            lease.refused_at, lease.taken_before = time.monotonic(), self._taken

    def _park(self, lease: Lease) -> bool:
        """Whether to leave a charge to the journal: the store takes others, and never this one."""
        if lease.refused_at is None or time.monotonic() - lease.refused_at < _HOPELESS:
            return False
        if self._taken == lease.taken_before or (lease.made and not lease.kept):
            return False
        if lease.kept:
            self._parked += 1
            self._alarm("settlement_refused", team=lease.team, model=lease.model)
        return True

    async def _keep(self, leases: Iterable[Lease]) -> None:
        """Write settlements to the journal, should this worker not live to make them.

        One that takes a reservation back is not worth it: its lease runs out.
        """
        new = [(lease, _entry(lease)) for lease in leases if lease.made and not lease.kept]

        def write(journal: Journal) -> None:
            # Who waited for it may have been cancelled, and have asked for it once more.
            left = [(lease, entry) for lease, entry in new if not lease.kept]
            if left:
                journal.write([entry for _, entry in left])
            for lease, _ in left:
                lease.kept = True

        if new:
            await self._write(write)

    async def _write(self, work: Callable[[Journal], None]) -> None:
        journal = self._journal
        if journal is None:
            return
        try:
            await self._on_disk(lambda: work(journal))
            self._full = False
        except OSError as error:  # a disk that is full: they wait in memory
            if not self._full:
                self._alarm("journal_failed", error=error.strerror or type(error).__name__)
            self._full = True

    async def _on_disk(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._disk, work)


def _entry(lease: Lease) -> Entry:
    script, arguments = settlement(lease)
    return Entry(lease.team, arguments, time.time(), script)
