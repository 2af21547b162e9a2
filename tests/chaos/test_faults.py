"""The fault matrix at full size, and answers that are cut at each of their bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import openai
import pytest
import uvloop

from tests.chaos.stand import show
from tests.scripted import Recorded, Step
from tests.web.fault_check import cleared_up, matrix
from tests.web.fault_stand import GOOD, FaultStand, Seen, open_faults
from tests.web.fault_wire import FRAMINGS, Bytes, Part, on_the_wire
from tests.web.faults import ANSWERED, CELLS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

RUNS = 20
AT_ONCE = 16
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
each_transport = pytest.mark.parametrize("transport", ["direct", "aiohttp"])


def run(loop: str, test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(test)


@pytest.mark.parametrize(
    ("kind", "loop"),
    [("openai", "asyncio"), ("openai", "uvloop"), ("anthropic", "uvloop"), ("azure", "uvloop")],
)
@each_transport
def test_every_fault_at_every_stage(store_url: str, transport: str, kind: str, loop: str) -> None:
    """What the SDK sees is what the table says, RUNS times each."""
    cells = CELLS if kind == "openai" else ANSWERED

    async def test() -> None:
        began = time.monotonic()
        async with open_faults(store_url, cells, kind=kind, transport=transport) as stand:
            wrong = await matrix(stand, store_url, runs=RUNS)
        show(
            f"the fault matrix: {kind}, {transport}, {loop}",
            cells=len(cells),
            faults=RUNS * len(cells),
            wrong=len(wrong),
            seconds=time.monotonic() - began,
        )
        assert not wrong, "\n".join(wrong)

    run(loop, test())


@pytest.mark.parametrize(("kind", "framings"), [("openai", FRAMINGS), ("anthropic", FRAMINGS[:1])])
@each_transport
def test_cut_at_every_byte(
    store_url: str, transport: str, kind: str, framings: tuple[str, ...]
) -> None:
    """Whichever byte is the last, and however the body is framed: an answer of which a byte is
    missing up to its end mark raises, one that has it is exact."""

    async def test() -> None:
        async with open_faults(store_url, (), kind=kind, transport=transport) as stand:
            await stand.ask(GOOD)  # once as it should be
            for framing in framings:
                whole = on_the_wire(stand.wire, framing)
                wrong = await cut_everywhere(stand, whole, framing)
                show(f"cut: {kind}, {transport}, {framing}", bytes=len(whole.data), wrong=wrong)
                assert not wrong
            await cleared_up(stand)

    run("uvloop", test())


async def cut_everywhere(stand: FaultStand, whole: Bytes, framing: str) -> list[tuple[int, Seen]]:
    """The places at which a cut was not seen as it should be."""
    (upstream,) = stand.upstreams
    places, wrong = iter(range(1, len(whole.data))), list[tuple[int, Seen]]()
    upstream.script(lambda request: cut(whole, request))

    async def worker() -> None:
        for place in places:
            seen = await stand.ask(GOOD, place)
            if not as_cut(stand, whole, framing, place, seen):
                wrong.append((place, seen))

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return wrong


def cut(whole: Bytes, request: Recorded) -> list[Step]:
    return whole.cut(int(request.body.partition(f"{GOOD}#".encode())[2].partition(b'"')[0]))


def as_cut(stand: FaultStand, whole: Bytes, framing: str, place: int, seen: Seen) -> bool:
    """Whether that is what a client should see of it: the words whose events have come."""
    # Where the body ends well, it ends the line of the mark, too.
    blank = 2 * (framing == "close")
    events = sum(end <= place for end in whole.ends[:-1]) + (whole.ends[-1] - blank <= place)
    if events == len(whole.ends):
        return seen == Seen("".join(stand.wire.says), "stop", None, 200)
    begun = stand.wire.parts[Part.ROLE].count(b"\n\n")
    if seen.text != "".join(stand.wire.says[: max(0, events - begun)]):
        return False
    broken = (seen.raises, seen.status) == (openai.APIError, 200)
    return broken or (not events and seen.status == 502)
