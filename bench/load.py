"""A load generator: keep-alive connections from bare protocols, every stream checked.

    python -m bench.load JOB

JOB is a `bench.asking.Job` as JSON. It prints "ready" once its connections are warm, waits for
a line, and then prints "begun" once every connection had a first byte, and a
`bench.asking.Result` as JSON. It ends when its input does.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import uvloop

from bench.asking import Job, Part, Result, request
from bench.upstream import body, words

Right = Callable[[bytes], bool]


class Client(asyncio.Protocol):
    """One connection; it sends a run's request until the run has had enough."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._got = bytearray()
        self._sent_at = 0.0
        self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._run is not None:
            self._run.fail(f"the connection was closed after {bytes(self._got)[-300:]!r}")

    def ask(self, run: Run) -> None:
        self._run = run if run.take() else None
        if self._run is not None and self.transport.is_closing():
            run.fail("a connection that was kept is closed")
        elif self._run is not None:
            self._got.clear()
            self._first = 0.0
            self._sent_at = time.perf_counter()
            self.transport.write(run.request)

    def data_received(self, data: bytes) -> None:
        run = self._run
        if run is None:
            return
        self._got += data
        if not self._first and (b"data:" in data or b'"choices"' in data):
            self._first = time.perf_counter() - self._sent_at
            run.began(self._first)
        if self._got.endswith(run.ends):
            run.check(bytes(self._got))
            self.ask(run)
        elif not self._got.startswith(b"HTTP/1.1 200"):
            run.fail(f"refused: {bytes(self._got)[:600]!r}")


class Run:
    """Streams of one kind, over all connections. `begins` is called at so many first bytes."""

    def __init__(self, part: Part, right: Right, begins: int = 0) -> None:
        self.request = request(part)
        self.ends = (b"\r\n0\r\n\r\n",) if part.stream else (b"}", b"0\r\n\r\n")
        self.firsts: list[float] = []
        self.wrong = 0
        self.error = ""
        self.begun = asyncio.Event()
        self.finished = asyncio.Event()
        self._right = right
        self._left = self._missing = part.streams
        self._begins = begins

    def take(self) -> bool:
        self._left -= 1
        return self._left >= 0

    def began(self, first: float) -> None:
        self.firsts.append(first)
        if len(self.firsts) == self._begins:
            self.begun.set()

    def check(self, answer: bytes) -> None:
        self.wrong += not self._right(answer)
        self._missing -= 1
        if not self._missing:
            self.begun.set()
            self.finished.set()

    def fail(self, error: str) -> None:
        self.error = self.error or error
        self.begun.set()
        self.finished.set()


def rightness(part: Part, *, usage: bool, exact: bool) -> Right:
    """Whether an answer is as it should be: to the byte, or in its words and its end."""
    expected = body(part.chunks, usage=usage)
    texts = [b'"content":"%b"' % word for word in words(part.chunks)]

    def same(answer: bytes) -> bool:
        head, _, rest = answer.partition(b"\r\n\r\n")
        return head.startswith(b"HTTP/1.1 200") and unchunked(head, rest) == expected

    def alike(answer: bytes) -> bool:
        head, _, rest = answer.partition(b"\r\n\r\n")
        content = unchunked(head, rest).replace(b'": "', b'":"')
        found = [content.find(text) for text in texts]
        return -1 not in found and found == sorted(found) and b"data: [DONE]" in content

    return same if exact else alike


def unchunked(head: bytes, data: bytes) -> bytes:
    """A body without its chunked coding. Raises ValueError where that is broken."""
    if b"chunked" not in head.lower():
        return data
    parts: list[bytes] = []
    at = 0
    while True:
        line = data.index(b"\r\n", at)
        size = int(data[at:line], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(data[line + 2 : line + 2 + size])
        at = line + 4 + size


async def connect(port: int, count: int) -> list[Client]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Client, "127.0.0.1", port))[1] for _ in range(count)]


async def together(run: Run, clients: Sequence[Client], patience: float) -> None:
    for client in clients:
        client.ask(run)
    try:
        async with asyncio.timeout(patience):
            await run.finished.wait()
    except TimeoutError:
        run.fail(f"not over after {patience:g} s")


async def alternate(job: Job, clients: Sequence[Client]) -> tuple[Run, list[float]]:
    """One stream at a time, direct and through in turn; the latter's run, the former's firsts."""
    assert job.direct is not None
    port, part = job.direct
    straight = (await connect(port, 1))[0]
    once = [msgspec.structs.replace(each, streams=1) for each in (part, job.run)]
    rights = [
        rightness(part, usage=True, exact=True),
        rightness(job.run, usage=job.usage, exact=job.exact),
    ]
    runs: list[list[Run]] = [[], []]
    for _ in range(job.run.streams):
        for side, client in enumerate((straight, clients[0])):
            runs[side].append(Run(once[side], rights[side]))
            await together(runs[side][-1], [client], job.patience)
    straight.transport.close()
    total = Run(job.run, rights[1])
    total.firsts = [first for run in runs[1] for first in run.firsts]
    total.wrong = sum(run.wrong for side in runs for run in side)
    total.error = next((run.error for side in runs for run in side if run.error), "")
    return total, [first for run in runs[0] for first in run.firsts]


async def measured(job: Job, clients: Sequence[Client]) -> Result:
    began, cpu = time.perf_counter(), time.process_time()
    direct: list[float] = []
    begun = 0.0
    if job.direct:
        run, direct = await alternate(job, clients)
    else:
        right = rightness(job.run, usage=job.usage, exact=job.exact)
        run = Run(job.run, right, begins=len(clients))
        task = asyncio.create_task(together(run, clients, job.patience))
        await run.begun.wait()
        begun = time.perf_counter() - began
        print("begun", flush=True)
        await task
    return Result(
        streams=job.run.streams,
        wrong=run.wrong,
        seconds=time.perf_counter() - began,
        cpu=time.process_time() - cpu,
        firsts=run.firsts,
        direct=direct,
        begun=begun,
        error=run.error,
    )


async def main(job: Job) -> None:
    clients = await connect(job.port, job.connections)
    warm = Run(job.warm, rightness(job.warm, usage=job.usage, exact=job.exact))
    await together(warm, clients, job.patience)
    if warm.error or warm.wrong:
        sys.exit(f"while warming up: {warm.error or f'{warm.wrong} wrong streams'}")
    print("ready", flush=True)
    sys.stdin.readline()
    result = await measured(job, clients)
    print(msgspec.json.encode(result).decode(), flush=True)
    sys.stdin.read()
    for client in clients:
        client.transport.close()


if __name__ == "__main__":
    uvloop.run(main(msgspec.json.decode(sys.argv[1], type=Job)))
