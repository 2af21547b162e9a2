"""Whether the fault matrix is as its table says, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import Any

from proxy.store.usage import read_rows
from proxy.upstream.direct import DirectTransport
from proxy.upstream.over_aiohttp import AiohttpTransport
from tests.chaos.books import Books
from tests.gateway import Gateway, until
from tests.web.books import busy
from tests.web.fault_stand import GOOD, TEAM, FaultStand, Seen
from tests.web.fault_steps import BROKEN, EXACT, STALLED, Cell
from tests.web.fault_wire import Wire


def expected(cell: Cell, wire: Wire) -> Seen:
    """What a client is to have of it."""
    words = {"mid-stream": wire.says[:2], "after [DONE]": wire.says}.get(cell.stage, ())
    finish = "stop" if cell.verdict is EXACT else None
    return Seen("".join(words), finish, cell.verdict.raises, cell.verdict.status)


async def run(stand: FaultStand, runs: int, at_once: int) -> list[str]:
    """Each cell so many times, or once for each of its scripts, and after each a good request:
    which of them a client saw otherwise than it should.
    """
    good = Seen("".join(stand.wire.says), "stop", None, 200)
    room, wrong = asyncio.Semaphore(at_once), list[str]()

    async def one(cell: Cell, number: int) -> None:
        async with room:
            seen = await stand.ask(cell.name, number)
            if seen != expected(cell, stand.wire):
                wrong.append(f"{cell.name}, run {number}: {seen}")
            seen = await stand.ask(GOOD)
            if seen != good:
                wrong.append(f"what came after {cell.name}, run {number}: {seen}")

    # Neighbours are of different cells, and may have each other's connections.
    most = max(times(cell, runs) for cell in stand.cells)
    turns = [(c, n) for n in range(most) for c in stand.cells if n < times(c, runs)]
    await asyncio.gather(*(one(*turn) for turn in turns))
    return sorted(wrong)


def times(cell: Cell, runs: int) -> int:
    return max(runs, len(cell.scripts))


async def cleared_up(stand: FaultStand) -> None:
    """No task, call, reservation or connection is left but those that wait for the next request."""
    gate = stand.gate
    await stand.client.close()
    await gate.idle()
    await until(lambda: not left(stand))
    assert not gate.door.calls
    assert {s.in_flight for r in gate.door.health.rosters.values() for s in r.standings} == {0}
    samples = await gate.metrics()
    for name in ("streams_active", "tokens_reserved", "journal_entries"):
        assert samples[f"visiongate_{name}"] == 0, name


def left(stand: FaultStand) -> list[object]:
    new = asyncio.all_tasks() - stand.before
    tasks = [t for t in new if "ScriptedUpstream" not in repr(t.get_coro())]
    open_there = sum(len(upstream._tasks) for upstream in stand.upstreams)
    return [*tasks, *range(busy(stand.gate)), *range(abs(open_there - kept(stand.gate)))]


def kept(gate: Gateway) -> int:
    """Connections to upstreams that wait for the next request."""
    direct, other = gate.door.upstreams["direct"], gate.door.upstreams["aiohttp"]
    assert isinstance(direct, DirectTransport)
    assert isinstance(other, AiohttpTransport)
    connector = other._session.connector
    assert connector is not None
    idle = [c for each in direct._pool._idle.values() for c in each if not c.closing]
    # aiohttp keeps one that has ended until it looks at it again.
    alive = [c for each in connector._conns.values() for c, _ in each if c.is_connected()]
    return len(idle) + len(alive)


async def settled_once(stand: FaultStand, runs: int, store_url: str) -> None:
    """The ledger's rows, the log and the metrics tell the same charges, which are the verdicts'."""
    rows = {row.provider: row.figures[:3] for row in await read_rows(stand.gate.door.store, TEAM)}
    logged, ended = by_provider(stand.gate)
    samples = await stand.gate.metrics()
    for cell in stand.cells:
        name, count = cell.name, times(cell, runs)
        assert ended[name] == {cell.verdict.ended: count}, name
        assert rows[name] == tuple(logged[name]) == counted(samples, name), name
        requests, input, output = rows[name]
        assert requests == count, name
        assert (input > 0) == cell.verdict.charged, name
        check_charge(cell, stand.wire, count, input, output)
        attempts = f'upstream_attempts_total{{outcome="{cell.verdict.ended}",provider="{name}"}}'
        assert samples[f"visiongate_{attempts}"] == count, name
    good = sum(times(cell, runs) for cell in stand.cells)
    assert ended[GOOD] == {"complete": good}
    assert rows[GOOD] == tuple(logged[GOOD]) == counted(samples, GOOD)
    streams = Counter(complete=good)
    for cell in stand.cells:
        if cell.verdict.status == 200:
            streams[cell.verdict.ended] += times(cell, runs)
    told = "visiongate_streams_ended_total"
    assert {n: v for n, v in samples.items() if n.startswith(told) and v} == {
        f'{told}{{reason="{reason}"}}': count for reason, count in streams.items()
    }
    books = Books(lambda _: store_url)
    books.agree(TEAM)
    assert books.live(TEAM) == []


def check_charge(cell: Cell, wire: Wire, count: int, input: int, output: int) -> None:
    """What came is charged, and by the provider's own figures where they came."""
    if cell.verdict is EXACT:
        assert (input, output) == (wire.usage[0] * count, wire.usage[1] * count), cell.name
    elif cell.verdict not in (BROKEN, STALLED):
        assert output == 0, cell.name
    elif wire.provider["kind"] == "anthropic":  # its prompt comes first, its output may be hidden
        assert input == wire.usage[0] * count, cell.name
    else:
        assert output == (2 * count if cell.stage == "mid-stream" else 0), cell.name


def by_provider(gate: Gateway) -> tuple[dict[str, list[int]], dict[str, Counter[str]]]:
    """From the log: requests, tokens in and out, and how they ended."""
    figures: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    ended: dict[str, Counter[str]] = defaultdict(Counter)
    for line in gate.log_lines():
        if line.get("path") == "/v1/chat/completions":
            charge = (1, line["input_tokens"], line["output_tokens"])
            for index, figure in enumerate(charge):
                figures[line["provider"]][index] += figure
            ended[line["provider"]][line["ended"]] += 1
    return figures, ended


def counted(samples: dict[str, Any], model: str) -> tuple[int, ...]:
    """From the metrics: requests, tokens in and out."""

    def total(name: str, label: str) -> int:
        begins = f"visiongate_{name}_total{{"
        found = (v for n, v in samples.items() if n.startswith(begins) and label in n)
        return int(sum(found))

    whose = f'model="{model}"'
    return (
        total("requests", whose),
        total("tokens", f'kind="input",{whose}'),
        total("tokens", f'kind="output",{whose}'),
    )


async def matrix(
    stand: FaultStand, store_url: str, *, runs: int = 1, at_once: int = 32
) -> list[str]:
    """All of it; what clients saw that they should not have is told, since it may be many."""
    wrong = await run(stand, runs, at_once)
    if not wrong:
        await cleared_up(stand)
        await settled_once(stand, runs, store_url)
    return wrong
