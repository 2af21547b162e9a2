"""Long work on the event loop."""

from __future__ import annotations

import asyncio
from itertools import groupby

import pytest

from proxy import turns
from proxy.domain.steps import Steps
from proxy.turns import in_turns

MOST = 2


@pytest.fixture(autouse=True)
def one_step_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which a turn has MOST steps."""

    def clock(now: list[float] = [0.0]) -> float:  # noqa: B006
        now[0] += turns._HOLD / MOST
        return now[0]

    monkeypatch.setattr(turns.time, "perf_counter", clock)


def work(name: str, count: int, done: list[str]) -> Steps[str]:
    for number in range(count):
        if number:
            yield
        done.append(name)
    return name


async def test_work_takes_turns() -> None:
    """Of two long works each does a part in turn, and the loop serves others in between."""
    done: list[str] = []

    async def others() -> None:
        while done.count("a") < 12:
            done.append("-")
            await asyncio.sleep(0)

    a, b, _ = await asyncio.gather(
        in_turns(work("a", 12, done)), in_turns(work("b", 12, done)), others()
    )
    assert (a, b) == ("a", "b")
    text = "".join(done)
    assert text.count("-") >= 5
    runs = [len(list(run)) for _, run in groupby(text.replace("-", ""))]
    assert max(runs) <= 2 * MOST
    assert max(len(run) for run in text.split("-")) <= 2 * MOST


async def test_short_work_does_not_wait() -> None:
    """Work of one step is done at once, however much is under way."""
    done: list[str] = []
    long = asyncio.create_task(in_turns(work("a", 50, done)))
    await asyncio.sleep(0)
    assert await in_turns(work("b", 1, done)) == "b"
    assert 0 < done.index("b") < 5
    assert await long == "a"


async def test_what_fails_or_is_left_ends() -> None:
    """What work raises comes out; work that nobody waits for any more is not gone on with."""
    ended: list[str] = []

    def failing() -> Steps[None]:
        yield
        raise LookupError

    def endless() -> Steps[None]:
        try:
            while True:
                yield
        finally:
            ended.append("endless")

    with pytest.raises(LookupError):
        await in_turns(failing())
    task = asyncio.create_task(in_turns(endless()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["endless"]
    assert await in_turns(work("a", 3, [])) == "a"
