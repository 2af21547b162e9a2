"""One of a model's two targets killed under load, and started again."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.chaos.books import Books, Row, as_charged
from tests.chaos.provider import Order
from tests.chaos.stand import Key, Stand, run_provider, run_stand, show, until
from tests.chaos.traffic import Sent, ask

FAILURES, PAUSE = 5, 0.5
#: Requests of one worker that may be on their way to a target when it dies.
ON_THEIR_WAY = 10
WORDS, PACE = 10, 0.01
#: Seconds until every worker has seen FAILURES of its own, at the least rate there is.
OPENS = 2.0
TEAM = "lost-target"
AVAILABLE = 'visiongate_target_available{model="gpt-4o",provider="openai"}'
ATTEMPTS = 'visiongate_upstream_attempts_total{outcome="%s",provider="openai"}'


def changes(second: str) -> dict[str, Any]:
    """Two targets that share the load; short pauses."""
    breaker = {"failures": FAILURES, "pause": f"{int(PAUSE * 1000)}ms"}
    targets = [{"provider": "openai"}, {"provider": "second"}]
    return {
        "providers": {
            "openai": {"breaker": breaker},
            "second": {"base_url": second, "breaker": breaker},
        },
        "models": {"gpt-4o": {"targets": targets, "retries": 2}},
    }


async def lost_target(
    store_url: str, folder: Path, *, seconds: float, rate: int, workers: int = 2
) -> None:
    """A third of the time with both, without the first, and with both again."""
    with (
        run_provider() as second,
        run_stand(folder, store_url, workers, **changes(second.url)) as stand,
    ):
        keys = await stand.keys(TEAM, 20)
        before = await _load(stand, keys, "before", seconds, rate)
        await until(lambda: _is_available(stand, 1), 5)
        begun = asyncio.Event()
        during = asyncio.create_task(_load(stand, keys, "during", seconds, rate, begun))
        await begun.wait()
        records = await stand.provider.records()
        stand.provider.stop()
        gone = time.monotonic()
        await until(lambda: _is_available(stand, 0), OPENS)
        opened = time.monotonic() - gone
        at_opening = await _failed(stand)
        lost = await during
        assert await _is_available(stand, 0)
        failed = await _failed(stand)
        with run_provider(stand.provider.port) as again:
            # A probe is a request, so there must be some.
            there = time.monotonic()
            back = asyncio.create_task(_load(stand, keys, "after", seconds, rate))
            await until(lambda: _is_available(stand, 1), longest_pause(opened + seconds))
            closed = time.monotonic() - there
            after = await back
            served = {**records, **await again.records(), **await second.records()}
            await stand.free(TEAM)
            sent = [*before, *lost, *after]
            show(
                f"one of two targets lost, on {workers} workers",
                breaker_open_after_s=opened,
                breaker_closed_again_after_s=closed,
                failed_until_it_opened=at_opening,
            )
            assert max(at_opening) <= FAILURES + ON_THEIR_WAY
            _judge(sent, failed, workers)
            _judge_books(stand.books, sent, served)
            assert any(r.tag.startswith("after") for r in (await again.records()).values())


def longest_pause(lost: float) -> float:
    """Seconds after which a probe must have gone out: pauses double while a target is lost."""
    pause = PAUSE
    while pause < lost:
        pause *= 2
    return pause + OPENS


async def _load(
    stand: Stand,
    keys: list[Key],
    phase: str,
    seconds: float,
    rate: int,
    begun: asyncio.Event | None = None,
) -> list[Sent]:
    """So many streams a second; `begun` once a third of them have."""
    urls, secrets = itertools.cycle(stand.urls()), itertools.cycle(keys)
    under_way = []
    count = int(seconds * rate)
    for number in range(count):
        key, order = next(secrets), Order(f"{phase}:{number}", WORDS, PACE)
        under_way.append(asyncio.create_task(ask(next(urls), key.secret, order, key=key.id)))
        if begun is not None and number == count // 3:
            begun.set()
        await asyncio.sleep(1 / rate)  # the pace of the load
    return list(await asyncio.gather(*under_way))


async def _is_available(stand: Stand, value: float) -> bool:
    """Whether all workers say so of the first target."""
    return {found[AVAILABLE] for found in await stand.metrics()} == {value}


async def _failed(stand: Stand) -> list[float]:
    """Attempts at the first target that another one followed, by worker."""
    outcomes = ("upstream_failed", "maybe_billed")
    return [sum(found.get(ATTEMPTS % o, 0) for o in outcomes) for found in await stand.metrics()]


def _judge(sent: list[Sent], failed: list[float], workers: int) -> None:
    ended = Counter(f"{each.status} {each.ended}" for each in sent)
    show(
        f"{len(sent)} streams on {workers} workers, one of two targets lost",
        ended=dict(ended),
        attempts_at_it_that_failed=failed,
        first_byte_or_end_after_max_s=max(each.seconds for each in sent),
    )
    assert {each.status for each in sent} == {200}, "somebody saw an error before a first byte"
    assert set(ended) <= {"200 complete", "200 broken"}
    broken = [each for each in sent if each.ended == "broken"]
    assert all(b'"server_error"' in each.last for each in broken)
    assert all(each.order.tag.startswith("during:") for each in broken)
    assert len(broken) <= 2 * ON_THEIR_WAY * workers
    # What was on its way, what opened the breaker, and a probe each pause, twice as long each time.
    assert max(failed) <= FAILURES + 3 * ON_THEIR_WAY


def _judge_books(books: Books, sent: list[Sent], served: dict[str, Any]) -> None:
    """Each stream is one request; what completed is charged as it was served, where it was."""
    books.agree(TEAM)
    rows = books.contents(TEAM).rows
    by_provider: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for name, row in rows.items():
        for index in range(3):
            by_provider[name.rpartition("|")[2]][index] += row[index]
    total = Row(*map(sum, zip(*by_provider.values(), strict=True)))
    assert total.requests == len(sent)
    whole = as_charged(served[each.order.tag] for each in sent if each.ended == "complete")
    broken = [each for each in sent if each.ended == "broken"]
    assert whole.output <= total.output <= whole.output + WORDS * len(broken)
    show("  the books", rows={name: tuple(row) for name, row in by_provider.items()})
    assert set(by_provider) == {"openai", "second"}
    assert not books.live(TEAM)
